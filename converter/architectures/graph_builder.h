// Builds the computation of a model file: symbols, values, states, weights and nodes of its methods.
// Importers describe a model with it; shapes of outputs follow from the ops. What it builds is checked
// against the op catalogue when the file is opened, so a mistake here is found by the self test at the
// latest.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "converter/architectures/row_source.h"
#include "format/model_generated.h"

namespace linnet::convert {

// What a tensor is for; decides its precision (converter/transforms/quantize.h).
enum class WeightRole {
  kMatrix,     // projections and MLPs: quantised as asked
  kEmbedding,  // the table
  kHead,       // the output projection
  kSmall,      // gates, routers: never below 8 bits
  kLowRank,    // pairs of narrow matrices: the same, and q8 beside matrices in block formats
  kCondition,  // what a whole picture hangs on: time, caption and output projections: never below 16 bits
  kFirst,      // the first layer of a picture's text encoder: 16 bits where q8 is asked for
  kVector,     // norms, biases, convolutions, decays: always f32
};

// A weight to be written: where its rows come from and what the file calls it.
struct WeightPlan {
  std::string name;
  WeightRole role;
  fb::Layout layout;
  std::vector<int64_t> shape;
  Rows rows;  // product of the leading dimensions x last dimension (vectors: one row)
};

struct Absent {};
inline constexpr Absent kAbsent;

// What the builder has made, by its place, or kAbsent. Values (of the current method), weights and states are
// types of their own, so that one does not compile in the place of another.
template <typename Of>
class Index {
 public:
  constexpr Index(Absent = {}) {}
  explicit constexpr Index(size_t place) : stored_(static_cast<int>(place)) {}

  explicit constexpr operator bool() const { return stored_ >= 0; }  // that it is there
  constexpr size_t place() const { return static_cast<size_t>(stored_); }
  constexpr int stored() const { return stored_; }  // as files have it: -1 where absent
  friend constexpr bool operator==(Index, Index) = default;

 private:
  int stored_ = -1;
};
using Value = Index<fb::ValueT>;
using Weight = Index<WeightPlan>;
using State = Index<fb::StateT>;

class GraphBuilder {
 public:
  GraphBuilder();
  fb::ModelT& model() { return *model_; }
  std::vector<WeightPlan>& weights() { return weights_; }

  // Symbol by name, created at first use.
  fb::Dim dim(std::string_view symbol, int mul = 1, int div = 1, int64_t add = 0);
  static fb::Dim fixed(int64_t n) { return fb::Dim(-1, 1, 1, n); }

  // Starts a method; the functions below add to the last one started.
  // `products`: what a device with faster arithmetic may make the method's products of.
  void begin_method(std::string name, fb::Products products = fb::Products::Half);
  Value input(std::string name, DType dtype, std::vector<fb::Dim> shape);
  void output(Value value);
  // The public name of a value (as inspect lists it).
  void rename(Value value, std::string name);

  // A name that is there already gives the same weight again: methods share weights.
  Weight matrix(std::string name, WeightRole role, Rows rows);  // [rows, columns], panels
  Weight expert_matrices(std::string name, WeightRole role, Rows rows,
                         int64_t experts);                                 // [E, rows/E, columns]
  Weight tensor(std::string name, std::vector<int64_t> shape, Rows rows);  // f32, row-major
  Weight vector(std::string name, Rows rows);                              // f32 [n]
  State state(std::string name, fb::StateRole role, std::vector<fb::Dim> shape, float initial = 0);

  // The general form: any op. `output_shapes` has one shape per output; returns the outputs.
  std::vector<Value> node(std::string name, fb::OpArgsUnion args, std::vector<Value> inputs,
                          std::vector<Weight> weights, std::vector<State> states,
                          std::vector<std::vector<fb::Dim>> output_shapes, DType dtype = DType::kF32);
  template <typename T>
  static fb::OpArgsUnion args(T value) {
    fb::OpArgsUnion u;
    u.Set(std::move(value));
    return u;
  }

  // Common ops.
  struct Projection {
    Weight weight;
    Weight bias = kAbsent;
  };
  Value embedding(const std::string& name, Value ids, Weight table, float scale = 1);
  std::vector<Value> linear(const std::string& name, Value x, const std::vector<Projection>& projections,
                            fb::Activation activation = fb::Activation::None);
  // One output; residual is added after the activation.
  Value linear(const std::string& name, Value x, Projection projection,
               fb::Activation activation = fb::Activation::None, Value residual = kAbsent);
  // activation(x gate^T) * (x up^T)
  Value gated_linear(const std::string& name, Value x, Projection gate, Projection up,
                     fb::Activation activation);
  Value norm(const std::string& name, Value x, const fb::NormT& args, Weight weight = kAbsent,
             Weight bias = kAbsent, Value gate = kAbsent);
  Value rms_norm(const std::string& name, Value x, Weight weight, float epsilon, float weight_offset = 0,
                 int group = 0);
  std::vector<Value> rotary(const std::string& name, const fb::RotaryEmbeddingT& rope,
                            const std::vector<Value>& xs);
  // Causal attention with its own key and value states.
  Value attention(const std::string& name, fb::SoftmaxAttentionT args, Value q, Value k, Value v,
                  Value gate = kAbsent);
  Value pointwise(const std::string& name, fb::PointwiseKind kind, Value a, Value b = kAbsent,
                  fb::Activation activation = fb::Activation::None, float alpha = 1, float beta = 1);
  Value add(const std::string& name, Value a, Value b) {
    return pointwise(name, fb::PointwiseKind::Add, a, b);
  }
  Value logits(const std::string& name, Value x, Weight head, float scale = 1, float softcap = 0);

  // Last dimension of a value, a weight's shape.
  int64_t channels(Value value) const;
  const std::vector<fb::Dim>& shape(Value value) const;
  const std::vector<int64_t>& weight_shape(Weight weight) const { return weights_[weight.place()].shape; }
  // The value's shape with another last dimension.
  std::vector<fb::Dim> like(Value value, int64_t channels) const;

 private:
  fb::MethodT& method() const { return *model_->methods.back(); }
  Value value(std::string name, DType dtype, std::vector<fb::Dim> shape);
  Weight add(WeightPlan plan);
  std::unique_ptr<fb::ModelT> model_;
  std::vector<WeightPlan> weights_;
  std::map<std::string, Weight> by_name_;
};

}  // namespace linnet::convert
