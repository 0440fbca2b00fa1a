#include "converter/image/blocks.h"

#include <cmath>

#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// A kernel [O, C, h, w] as rows of (ky, kx, c): the order in which pixels lie in memory.
class KernelRows final : public RowSource {
 public:
  KernelRows(Rows source, int64_t outputs, int64_t inputs, int64_t area)
      : source_(std::move(source)), inputs_(inputs), area_(area) {
    rows = outputs;
    columns = inputs * area;
    name = source_->name;
    lines_ = source_->rows / outputs;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    std::vector<float> kernel(static_cast<size_t>(columns));
    for (int64_t o = 0; o < count; ++o) {
      LINNET_TRY(source_->read((begin + o) * lines_, lines_, kernel.data()));
      for (int64_t c = 0; c < inputs_; ++c)
        for (int64_t i = 0; i < area_; ++i)
          out[o * columns + i * inputs_ + c] = kernel[static_cast<size_t>(c * area_ + i)];
    }
    return {};
  }
  std::optional<DType> stored() const override {
    // Groups of 32 do not survive the turn.
    const auto type = source_->stored();
    return type && is_quantized(*type) ? std::optional<DType>(DType::kF16) : type;
  }

 private:
  Rows source_;
  int64_t inputs_, area_, lines_ = 1;
};

}  // namespace

Value convolution(Importer& in, const std::string& prefix, Value x, const Convolution& c) {
  GraphBuilder& g = in.graph;
  const int64_t channels = g.channels(x), inputs = channels / c.groups, area = c.kernel * c.kernel;
  const std::string name = prefix + ".weight";
  const Rows rows = in.rows(name, {c.outputs, inputs, c.kernel, c.kernel});
  Weight weight;
  if (c.groups == channels && c.groups == c.outputs && c.groups > 1) {
    // Depthwise: [kernel, kernel, channels] in f32.
    std::vector<float> turned(static_cast<size_t>(channels * area));
    if (auto values = read_all(*rows)) {
      for (int64_t o = 0; o < channels; ++o)
        for (int64_t i = 0; i < area; ++i)
          turned[static_cast<size_t>(i * channels + o)] = (*values)[static_cast<size_t>(o * area + i)];
    } else {
      in.fail(values.error().message);
    }
    weight = in.constant(name, {c.kernel, c.kernel, channels}, std::move(turned));
  } else {
    auto turned = std::make_shared<KernelRows>(rows, c.outputs, inputs, area);
    weight = c.groups == 1 ? g.matrix(name, c.role, std::move(turned))
                           : g.expert_matrices(name, c.role, std::move(turned), c.groups);
  }
  const Weight bias = c.bias ? in.vector(prefix + ".bias", c.outputs) : kAbsent;
  fb::Convolution2dT a;
  a.kernel_height = a.kernel_width = static_cast<int>(c.kernel);
  a.pad_top = a.pad_left = static_cast<int>(c.kernel / 2);
  a.groups = static_cast<int>(c.groups);
  a.upsample = static_cast<int>(c.upsample);
  a.activation = c.activation;
  a.gated = c.gated;
  std::vector<fb::Dim> shape = g.like(x, c.gated ? c.outputs / 2 : c.outputs);
  for (size_t i : {size_t{0}, size_t{1}})
    shape[i] = fb::Dim(shape[i].symbol(), static_cast<int>(shape[i].mul() * c.upsample), shape[i].div(), 0);
  std::vector<Value> operands = {x};
  if (c.residual) operands.push_back(c.residual);
  return g.node(prefix, GraphBuilder::args(std::move(a)), std::move(operands), {weight, bias}, {},
                {shape})[0];
}

Value resample(Importer& in, const std::string& name, Value x, const fb::ResampleT& args, Value residual) {
  GraphBuilder& g = in.graph;
  std::vector<fb::Dim> shape = g.shape(x);
  if (args.planar_input) shape = {shape[1], shape[2], shape[0]};
  const int factor = args.factor;
  int64_t channels = shape[2].add();
  for (size_t i : {size_t{0}, size_t{1}}) {
    const fb::Dim d = shape[i];
    const int mul = args.kind == fb::ResampleKind::Unshuffle ? d.mul() / factor : d.mul() * factor;
    shape[i] = fb::Dim(d.symbol(), mul, d.div(), 0);
  }
  if (args.kind == fb::ResampleKind::Unshuffle) channels *= factor * factor;
  if (args.kind == fb::ResampleKind::Shuffle) channels /= factor * factor;
  if (residual) channels = g.channels(residual);
  shape[2] = GraphBuilder::fixed(channels);
  if (args.planar_output) shape = {shape[2], shape[0], shape[1]};
  std::vector<Value> operands = {x};
  if (residual) operands.push_back(residual);
  return g.node(name, GraphBuilder::args(fb::ResampleT(args)), std::move(operands), {}, {}, {shape})[0];
}

Value latents_input(GraphBuilder& g, int64_t channels, int64_t patch) {
  const int p = static_cast<int>(patch);
  return g.input(names::kLatents, DType::kF32,
                 {GraphBuilder::fixed(channels), g.dim(names::kHeight, p), g.dim(names::kWidth, p)});
}

TextDenoiserInputs begin_text_denoiser(GraphBuilder& g, int64_t channels, int64_t patch, int64_t captions) {
  g.begin_method(names::kDenoise);
  TextDenoiserInputs in;
  in.latents = latents_input(g, channels, patch);
  in.captioned = g.input(names::kEncoderHiddenStates, DType::kF32,
                         {g.dim(names::kTextTokens), GraphBuilder::fixed(captions)});
  in.mask = g.input(names::kEncoderAttentionMask, DType::kF32, {g.dim(names::kTextTokens)});
  in.timestep = g.input(names::kTimestep, DType::kF32, {GraphBuilder::fixed(1)});
  return in;
}

Value patch_embedding(Importer& in, const std::string& prefix, Value latents, int64_t patch, int64_t width) {
  GraphBuilder& g = in.graph;
  fb::ResampleT a;
  a.kind = fb::ResampleKind::Unshuffle;
  a.factor = static_cast<int>(patch);
  a.planar_input = true;
  const Value patches = resample(in, "patches", latents, a);
  const int64_t channels = g.channels(patches);
  // The convolution's kernel flattened is the order of Unshuffle's channels.
  const Rows rows = in.rows(prefix + ".weight", {width, channels / (patch * patch), patch, patch});
  const Weight weight = g.matrix(prefix + ".weight", WeightRole::kCondition, joined_rows(rows, width));
  return g.linear(prefix, patches, Projection{weight, in.vector(prefix + ".bias", width)});
}

Value unpatch(Importer& in, Value x, int64_t patch, const std::string& name) {
  fb::ResampleT a;
  a.kind = fb::ResampleKind::Shuffle;
  a.factor = static_cast<int>(patch);
  a.channels_last = true;
  a.planar_output = true;
  return resample(in, name, x, a);
}

Value time_embedding(Importer& in, const std::string& first, const std::string& second,
                     const std::string& node, Value t, int64_t width, float frequency_shift) {
  GraphBuilder& g = in.graph;
  constexpr int64_t kSinusoids = 256;
  fb::TimestepEmbeddingT a;
  a.cos_first = true;
  a.shift = frequency_shift;
  std::vector<fb::Dim> shape = g.shape(t);
  shape.push_back(GraphBuilder::fixed(kSinusoids));
  const Value waves = g.node(node + ".sinusoids", GraphBuilder::args(std::move(a)), {t}, {}, {}, {shape})[0];
  const Value h =
      g.linear(node + ".hidden", waves, in.projection(first, width, kSinusoids, true, WeightRole::kCondition),
               fb::Activation::Silu);
  return g.linear(node, h, in.projection(second, width, width, true, WeightRole::kCondition));
}

Value activate(Importer& in, const std::string& name, Value x, fb::Activation activation) {
  return in.graph.pointwise(name, fb::PointwiseKind::Activate, x, kAbsent, activation);
}

Value add_table(Importer& in, const std::string& name, Value x, int64_t parts, int64_t channels) {
  GraphBuilder& g = in.graph;
  const Rows rows = in.rows(name, {parts, channels});
  const Weight table = g.vector(name, rows);
  fb::PointwiseT a;
  a.kind = fb::PointwiseKind::Add;
  return g.node(name + ".sum", GraphBuilder::args(std::move(a)), {x}, {table}, {},
                {g.like(x, parts * channels)})[0];
}

Value modulated_norm(Importer& in, const std::string& name, Value x, float epsilon, Value modulation,
                     int shift, int scale) {
  fb::NormT a;
  a.kind = fb::NormKind::Layer;
  a.epsilon = epsilon;
  a.shift_part = shift;
  a.scale_part = scale;
  return in.graph.node(name, GraphBuilder::args(std::move(a)), {x, kAbsent, modulation}, {}, {},
                       {in.graph.shape(x)})[0];
}

Value gated_linear(Importer& in, const std::string& name, Value x, Projection projection, Value residual,
                   Value modulation, int part) {
  fb::LinearT a;
  a.gate_part = part;
  const int64_t outputs = in.graph.weight_shape(projection.weight)[0];
  return in.graph.node(name, GraphBuilder::args(std::move(a)), {x, residual, modulation},
                       {projection.weight, projection.bias}, {}, {in.graph.like(x, outputs)})[0];
}

fb::SoftmaxAttentionT attention_of(int64_t heads, int64_t head_dim) {
  fb::SoftmaxAttentionT a;
  a.heads = a.kv_heads = static_cast<int>(heads);
  a.head_dim = a.value_dim = static_cast<int>(head_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  a.mask = fb::AttentionMask::Bidirectional;
  return a;
}

Value attend(Importer& in, const std::string& name, fb::SoftmaxAttentionT args, Value q, Value k, Value v,
             Value mask, Weight table) {
  const int64_t out = static_cast<int64_t>(args.heads) * args.value_dim;
  std::vector<Value> operands = {q, k, v};
  if (mask) operands.insert(operands.end(), {kAbsent, mask});
  std::vector<Weight> weights;
  if (table) weights.push_back(table);
  return in.graph.node(name, GraphBuilder::args(std::move(args)), std::move(operands), std::move(weights), {},
                       {in.graph.like(q, out)})[0];
}

Value linear_attend(Importer& in, const std::string& name, int64_t heads, int64_t head_dim, float epsilon,
                    Value q, Value k, Value v) {
  fb::LinearAttentionT a;
  a.heads = static_cast<int>(heads);
  a.head_dim = a.value_dim = static_cast<int>(head_dim);
  a.activation = fb::Activation::Relu;
  a.epsilon = epsilon;
  return in.graph.node(name, GraphBuilder::args(std::move(a)), {q, k, v}, {}, {},
                       {in.graph.like(q, heads * head_dim)})[0];
}

bool same_values(Importer& in, const std::string& a, const std::string& b, std::vector<int64_t> shape) {
  if (!in.has(a) || !in.has(b) || in.shape(a) != in.shape(b)) return false;
  const auto x = read_all(*in.rows(a, shape)), y = read_all(*in.rows(b, shape));
  return x && y && *x == *y;
}

}  // namespace linnet::convert
