#include "converter/architectures/graph_builder.h"

#include <type_traits>

#include "format/names.h"
#include "runtime/graph/ops.h"

namespace linnet::convert {

// One cannot be made of another, nor of a bare number without saying so.
template <typename A, typename B>
constexpr bool kApart = !std::is_constructible_v<A, B> && !std::is_constructible_v<B, A>;
static_assert(kApart<Value, Weight> && kApart<Value, State> && kApart<Weight, State>);
static_assert(!std::is_convertible_v<int, Value> && !std::is_convertible_v<Value, int>);

GraphBuilder::GraphBuilder() : model_(std::make_unique<fb::ModelT>()) {}

fb::Dim GraphBuilder::dim(std::string_view symbol, int mul, int div, int64_t add) {
  int index = graph::find_symbol(*model_, symbol);
  if (index < 0) {
    index = static_cast<int>(model_->symbols.size());
    model_->symbols.push_back(std::make_unique<fb::SymbolT>());
    model_->symbols.back()->name = symbol;
  }
  return fb::Dim(index, mul, div, add);
}

void GraphBuilder::begin_method(std::string name, fb::Products products) {
  model_->methods.push_back(std::make_unique<fb::MethodT>());
  method().name = std::move(name);
  method().products = products;
}

Value GraphBuilder::value(std::string name, DType dtype, std::vector<fb::Dim> shape) {
  auto value = std::make_unique<fb::ValueT>();
  value->name = std::move(name);
  value->dtype = static_cast<fb::DType>(dtype);
  value->shape = std::move(shape);
  method().values.push_back(std::move(value));
  return Value(method().values.size() - 1);
}

Value GraphBuilder::input(std::string name, DType dtype, std::vector<fb::Dim> shape) {
  const Value v = value(std::move(name), dtype, std::move(shape));
  method().inputs.push_back(v.stored());
  return v;
}

void GraphBuilder::output(Value value) { method().outputs.push_back(value.stored()); }
void GraphBuilder::rename(Value value, std::string name) {
  method().values[value.place()]->name = std::move(name);
}

Weight GraphBuilder::add(WeightPlan plan) {
  const auto [entry, fresh] = by_name_.emplace(plan.name, Weight(weights_.size()));
  if (fresh) weights_.push_back(std::move(plan));
  return entry->second;
}

Weight GraphBuilder::matrix(std::string name, WeightRole role, Rows rows) {
  return add({std::move(name), role, fb::Layout::Panel, {rows->rows, rows->columns}, rows});
}

Weight GraphBuilder::expert_matrices(std::string name, WeightRole role, Rows rows, int64_t experts) {
  return add(
      {std::move(name), role, fb::Layout::Panel, {experts, rows->rows / experts, rows->columns}, rows});
}

Weight GraphBuilder::tensor(std::string name, std::vector<int64_t> shape, Rows rows) {
  return add({std::move(name), WeightRole::kVector, fb::Layout::RowMajor, std::move(shape), std::move(rows)});
}

Weight GraphBuilder::vector(std::string name, Rows rows) {
  const int64_t n = rows->rows * rows->columns;
  return tensor(std::move(name), {n}, std::move(rows));
}

State GraphBuilder::state(std::string name, fb::StateRole role, std::vector<fb::Dim> shape, float initial) {
  auto state = std::make_unique<fb::StateT>();
  state->name = std::move(name);
  state->dtype = fb::DType::F32;
  state->role = role;
  state->shape = std::move(shape);
  state->initial = initial;
  model_->states.push_back(std::move(state));
  return State(model_->states.size() - 1);
}

std::vector<Value> GraphBuilder::node(std::string name, fb::OpArgsUnion args, std::vector<Value> inputs,
                                      std::vector<Weight> weights, std::vector<State> states,
                                      std::vector<std::vector<fb::Dim>> output_shapes, DType dtype) {
  auto node = std::make_unique<fb::NodeT>();
  std::vector<Value> outputs;
  for (size_t i = 0; i < output_shapes.size(); ++i)
    outputs.push_back(value(output_shapes.size() == 1 ? name : name + "." + std::to_string(i), dtype,
                            std::move(output_shapes[i])));
  node->name = std::move(name);
  node->args = std::move(args);
  const auto store = [](const auto& indices, std::vector<int>& to) {
    for (const auto index : indices) to.push_back(index.stored());
  };
  store(inputs, node->inputs);
  store(weights, node->weights);
  store(states, node->states);
  store(outputs, node->outputs);
  method().nodes.push_back(std::move(node));
  return outputs;
}

const std::vector<fb::Dim>& GraphBuilder::shape(Value value) const {
  return method().values[value.place()]->shape;
}
int64_t GraphBuilder::channels(Value value) const { return shape(value).back().add(); }

std::vector<fb::Dim> GraphBuilder::like(Value value, int64_t channels) const {
  std::vector<fb::Dim> result = shape(value);
  result.back() = fixed(channels);
  return result;
}

Value GraphBuilder::embedding(const std::string& name, Value ids, Weight table, float scale) {
  fb::EmbeddingT a;
  a.scale = scale;
  std::vector<fb::Dim> out = shape(ids);
  out.push_back(fixed(weight_shape(table)[1]));
  return node(name, args(std::move(a)), {ids}, {table}, {}, {out})[0];
}

std::vector<Value> GraphBuilder::linear(const std::string& name, Value x,
                                        const std::vector<Projection>& projections,
                                        fb::Activation activation) {
  fb::LinearT a;
  a.activation = activation;
  std::vector<Weight> weights;
  std::vector<std::vector<fb::Dim>> outputs;
  for (const Projection& p : projections) {
    weights.push_back(p.weight);
    weights.push_back(p.bias);
    outputs.push_back(like(x, weight_shape(p.weight)[0]));
  }
  return node(name, args(std::move(a)), {x}, std::move(weights), {}, std::move(outputs));
}

Value GraphBuilder::linear(const std::string& name, Value x, Projection projection, fb::Activation activation,
                           Value residual) {
  fb::LinearT a;
  a.activation = activation;
  std::vector<Value> inputs = {x};
  if (residual) inputs.push_back(residual);
  return node(name, args(std::move(a)), std::move(inputs), {projection.weight, projection.bias}, {},
              {like(x, weight_shape(projection.weight)[0])})[0];
}

Value GraphBuilder::gated_linear(const std::string& name, Value x, Projection gate, Projection up,
                                 fb::Activation activation) {
  fb::LinearT a;
  a.activation = activation;
  a.gated = true;
  return node(name, args(std::move(a)), {x}, {gate.weight, gate.bias, up.weight, up.bias}, {},
              {like(x, weight_shape(gate.weight)[0])})[0];
}

Value GraphBuilder::norm(const std::string& name, Value x, const fb::NormT& a, Weight weight, Weight bias,
                         Value gate) {
  std::vector<Value> inputs = {x};
  if (gate) inputs.push_back(gate);
  std::vector<Weight> weights;
  if (weight || bias) weights.push_back(weight);
  if (bias) weights.push_back(bias);
  return node(name, args(fb::NormT(a)), std::move(inputs), std::move(weights), {}, {shape(x)})[0];
}

Value GraphBuilder::rms_norm(const std::string& name, Value x, Weight weight, float epsilon,
                             float weight_offset, int group) {
  fb::NormT a;
  a.kind = fb::NormKind::Rms;
  a.epsilon = epsilon;
  a.weight_offset = weight_offset;
  a.group = group;
  return norm(name, x, a, weight);
}

std::vector<Value> GraphBuilder::rotary(const std::string& name, const fb::RotaryEmbeddingT& rope,
                                        const std::vector<Value>& xs) {
  std::vector<std::vector<fb::Dim>> shapes;
  for (const Value x : xs) shapes.push_back(shape(x));
  return node(name, args(fb::RotaryEmbeddingT(rope)), xs, {}, {}, std::move(shapes));
}

Value GraphBuilder::attention(const std::string& name, fb::SoftmaxAttentionT a, Value q, Value k, Value v,
                              Value gate) {
  const State keys =
      state(name + ".keys", fb::StateRole::KeyCache, {dim(names::kContext), fixed(channels(k))});
  const State values =
      state(name + ".values", fb::StateRole::ValueCache, {dim(names::kContext), fixed(channels(v))});
  std::vector<Value> inputs = {q, k, v};
  if (gate) inputs.push_back(gate);
  const int64_t out = static_cast<int64_t>(a.heads) * a.value_dim;
  return node(name, args(std::move(a)), std::move(inputs), {}, {keys, values}, {like(q, out)})[0];
}

Value GraphBuilder::pointwise(const std::string& name, fb::PointwiseKind kind, Value a, Value b,
                              fb::Activation activation, float alpha, float beta) {
  fb::PointwiseT p;
  p.kind = kind;
  p.activation = activation;
  p.alpha = alpha;
  p.beta = beta;
  std::vector<Value> inputs = {a};
  if (b) inputs.push_back(b);
  return node(name, args(std::move(p)), std::move(inputs), {}, {}, {shape(a)})[0];
}

Value GraphBuilder::logits(const std::string& name, Value x, Weight head, float scale, float softcap) {
  fb::LogitsT a;
  a.scale = scale;
  a.softcap = softcap;
  return node(name, args(std::move(a)), {x}, {head}, {},
              {{dim(names::kLogitTokens), fixed(weight_shape(head)[0])}})[0];
}

}  // namespace linnet::convert
