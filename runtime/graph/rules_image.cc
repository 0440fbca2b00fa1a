// Traits and shape rules of the ops of images. An image is a value [height, width, channels]; ops that work
// by rows (linear, norm, attention, pointwise) take it as height * width rows. Sizes that change do so by
// exact factors, so that no run-time size can disagree with another: a model's symbols `height` and `width`
// count its coarsest grid, and every image of it is [height * m, width * n, channels]. Operand roles are
// listed above each rule.
#include <algorithm>

#include "runtime/graph/rule.h"

namespace linnet::graph {
namespace {

constexpr int64_t kMostKernel = 63;
constexpr int64_t kMostFactor = 64;

// dim * factor / divisor, which must be exact whatever the symbol's value is.
bool scaled(const fb::Dim& dim, int64_t factor, int64_t divisor, fb::Dim& result) {
  if (is_fixed(dim)) {
    result = fixed_dim(dim.add() * factor / divisor);
    return dim.add() * factor % divisor == 0;
  }
  if (factor == divisor) {
    result = dim;
    return true;
  }
  const int64_t mul = dim.mul() * factor;
  result = fb::Dim(dim.symbol(), static_cast<int32_t>(mul / divisor), 1, 0);
  return dim.div() == 1 && dim.add() == 0 && mul % divisor == 0 && mul / divisor <= (1 << 20);
}

struct Axes {
  size_t height, width, channels;
};
Axes axes(bool planar) { return planar ? Axes{1, 2, 0} : Axes{0, 1, 2}; }

int64_t image_channels(Rule& rule, const fb::ValueT* value, bool planar) {
  if (!rule.ok() || !value) return 0;
  const bool image = value->shape.size() == 3 && is_fixed(value->shape[axes(planar).channels]);
  rule.require(image, planar ? "an image must be [channels, height, width]"
                             : "an image must be [height, width, channels]");
  return image ? value->shape[axes(planar).channels].add() : 0;
}

// y's height and width are x's times factor / divisor.
void check_size(Rule& rule, const fb::ValueT* x, bool planar_x, const fb::ValueT* y, bool planar_y,
                int64_t factor, int64_t divisor) {
  if (!rule.ok()) return;
  const Axes from = axes(planar_x), to = axes(planar_y);
  fb::Dim height, width;
  rule.require(scaled(x->shape[from.height], factor, divisor, height) &&
                   scaled(x->shape[from.width], factor, divisor, width),
               "sizes change by exact factors only: height and width must be multiples of what divides them");
  if (rule.ok())
    rule.require(same_dim(y->shape[to.height], height) && same_dim(y->shape[to.width], width),
                 strf("'{}' has not the height and width that follow from '{}'", y->name, x->name));
}

}  // namespace

constexpr OpTraits traits_linear_attention = {.states = kStateless, .weight = only_vectors, .rows = nullptr};

// f = activation. o_t = (sum_s f(q_t).f(k_s) v_s) / (sum_s f(q_t).f(k_s) + epsilon), every t sees every s
// (Katharopoulos et al. 2020; SANA, DC-AE and LiT with f = relu).
// inputs: q [rows, heads * head_dim], k [rows', heads * head_dim], v [rows', heads * value_dim]; interleaved:
// 1 to 4
//         inputs [rows, heads_i * (2 head_dim + value_dim)], each head [q | k | v], heads counted through all
//         inputs
// outputs: o [rows, heads * value_dim]
Result<void> check_linear_attention(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::LinearAttentionT>();
  rule.inputs(args.interleaved ? 1 : 3, args.interleaved ? 4 : 3).weights(0, 0).states(0, 0).outputs(1, 1);
  rule.require(args.heads > 0 && args.head_dim > 0 && args.value_dim > 0 && args.heads <= 65536 &&
                   args.head_dim <= 4096 && args.value_dim <= 4096,
               "head sizes must be 1 to 4096");
  rule.require(args.activation <= fb::Activation::MAX, "unknown activation");
  rule.require(args.epsilon >= 0, "epsilon must not be negative");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.heads, K = args.head_dim, V = args.value_dim;
  const auto* q = rule.input(0);
  if (args.interleaved) {
    int64_t found = 0;
    for (size_t i = 0; i < view.input_count() && rule.ok(); ++i) {
      const auto* x = rule.input(i);
      const int64_t channels = rule.channels(x);
      rule.require(channels > 0 && channels % (2 * K + V) == 0, "inputs must be whole heads of q, k and v");
      rule.shaped_like(x, q, channels);
      found += channels / (2 * K + V);
    }
    rule.require(found == heads, "the inputs' heads must be as many as the op's");
  } else {
    const auto* k = rule.input(1);
    rule.require(rule.channels(q) == heads * K, "q must be [rows, heads * head_dim]");
    rule.require(rule.channels(k) == heads * K, "k must be [rows, heads * head_dim]");
    rule.shaped_like(rule.input(2), k, heads * V);
  }
  if (rule.ok()) rule.shaped_like(rule.output(0), q, heads * V);
  return rule.result();
}

static WeightRead convolution_weight(const fb::NodeT&, size_t i) {
  return {i == 0 ? WeightUse::kKernel : WeightUse::kVector};
}
static Rows convolution_input_rows(const fb::NodeT& node, Rows out, int64_t height) {
  const auto& args = args_of<fb::Convolution2dT>(node);
  const int64_t begin = out.begin * args.stride - args.pad_top;
  const int64_t end = (out.end - 1) * args.stride - args.pad_top + args.kernel_height;
  const int64_t up = args.upsample;
  const int64_t first = std::clamp<int64_t>(begin, 0, height * up) / up;
  const int64_t last = (std::clamp<int64_t>(end, 0, height * up) + up - 1) / up;
  return {std::min(first, last), last};
}
static constexpr RowTraits convolution_rows = {
    .images = 0b11, .able = always, .unit = one_row, .input_rows = convolution_input_rows};
constexpr OpTraits traits_convolution_2d = {
    .states = kStateless, .weight = convolution_weight, .rows = &convolution_rows};

// y[i, j, o] = act(b[o] + sum over (ky, kx, c) of W[o, ky, kx, c] x[i stride - pad_top + ky, j stride -
// pad_left + kx, c]), zeros outside x; with `upsample`, x is read as if every pixel were upsample x upsample
// pixels. gated: y = first half * act(second half). A residual is added last. inputs: x [height, width, C],
// residual? like y weights: W, b? [O]. W is
//   groups = 1:          a matrix in panels [O, kernel_height * kernel_width * C], inputs in order (ky, kx,
//   c) groups = C = O:      f32 [kernel_height, kernel_width, C] (depthwise) otherwise:           panels
//   [groups, O / groups, kernel_height * kernel_width * C / groups]
// outputs: y [height * upsample / stride, width * upsample / stride, O or O / 2]
Result<void> check_convolution_2d(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::Convolution2dT>();
  rule.inputs(1, 2).weights(1, 2).states(0, 0).outputs(1, 1);
  const int64_t kh = args.kernel_height, kw = args.kernel_width, stride = args.stride;
  rule.require(kh > 0 && kw > 0 && kh <= kMostKernel && kw <= kMostKernel,
               "a kernel must have 1 to 63 pixels a side");
  rule.require(stride > 0 && stride <= kh && stride <= kw, "the stride must be 1 to the kernel's size");
  rule.require(args.upsample > 0 && args.upsample <= kMostFactor, "upsample must be 1 to 64");
  rule.require(
      args.pad_top >= 0 && args.pad_top <= kh - stride && args.pad_left >= 0 && args.pad_left <= kw - stride,
      "the padding must be 0 to the kernel's size less the stride");
  rule.require(args.activation <= fb::Activation::MAX, "unknown activation");
  const auto* x = rule.input(0);
  const auto* y = rule.output(0);
  const int64_t channels = image_channels(rule, x, false);
  const int64_t outputs = image_channels(rule, y, false) * (args.gated ? 2 : 1);
  rule.require(args.groups > 0 && channels % args.groups == 0 && outputs % args.groups == 0,
               "groups must divide the channels of input and output");
  if (!rule.ok()) return rule.result();
  const int64_t groups = args.groups, inputs = kh * kw * (channels / groups);
  if (groups > 1 && groups == channels && groups == outputs) {
    rule.tensor(0, {kh, kw, channels});
  } else if (groups == 1) {
    rule.matrix(0, outputs, inputs);
  } else {
    const auto* w = view.weight(0);
    rule.require(w && w->layout == fb::Layout::Panel &&
                     w->shape == std::vector<int64_t>{groups, outputs / groups, inputs},
                 strf("weight 0 must be panels {}",
                      shape_text(std::vector<int64_t>{groups, outputs / groups, inputs})));
  }
  rule.optional_tensor(1, {outputs});
  check_size(rule, x, false, y, false, args.upsample, stride);
  if (const auto* residual = rule.optional_input(1)) rule.same_shape(residual, y);
  return rule.result();
}

static bool resample_by_rows(const fb::NodeT& node) {
  const auto& args = args_of<fb::ResampleT>(node);
  return !args.planar_input && !args.planar_output;
}
static int64_t resample_unit(const fb::NodeT& node) {
  const auto& args = args_of<fb::ResampleT>(node);
  return args.kind != fb::ResampleKind::Unshuffle ? args.factor : 1;
}
static Rows resample_input_rows(const fb::NodeT& node, Rows out, int64_t) {
  const auto& args = args_of<fb::ResampleT>(node);
  const int64_t f = args.factor;
  if (args.kind == fb::ResampleKind::Unshuffle) return {out.begin * f, out.end * f};
  return {out.begin / f, (out.end + f - 1) / f};
}
static constexpr RowTraits resample_rows = {
    .images = 0b11, .able = resample_by_rows, .unit = resample_unit, .input_rows = resample_input_rows};
constexpr OpTraits traits_resample = {.states = kStateless, .weight = only_vectors, .rows = &resample_rows};

// f = factor.
//   Nearest    y[i, j, c] = x[i / f, j / f, c]
//   Shuffle    y[i, j, c] = x[i / f, j / f, n / repeat], n = (c f + i mod f) f + j mod f   (pixel_shuffle of
//   the
//              channels each repeated; repeat = C_y f^2 / C_x; f = 1 repeats channels)
//   Unshuffle  y[i, j, c] = mean of u[c m .. c m + m - 1], u[(k f + a) f + b] = x[i f + a, j f + b, k], m =
//   C_x f^2 / C_y
//              (pixel_unshuffle, averaged in groups; f = 1 averages channels)
// channels_last (repeat and m then 1): n = ((i mod f) f + j mod f) C_y + c, and u[(a f + b) C_x + k].
// Patches of an image are an Unshuffle; factor 1 with planar_input or planar_output turns the layout alone.
// inputs: x [height, width, C_x] or planar, residual? like y; outputs: y [.., .., C_y] or planar.
Result<void> check_resample(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::ResampleT>();
  using Kind = fb::ResampleKind;
  rule.inputs(1, 2).weights(0, 0).states(0, 0).outputs(1, 1);
  rule.require(args.kind <= Kind::MAX, "unknown kind of resampling");
  rule.require(args.factor > 0 && args.factor <= kMostFactor, "the factor must be 1 to 64");
  const auto* x = rule.input(0);
  const auto* y = rule.output(0);
  const int64_t from = image_channels(rule, x, args.planar_input);
  const int64_t to = image_channels(rule, y, args.planar_output);
  if (!rule.ok()) return rule.result();
  const int64_t f = args.factor, more = args.kind == Kind::Shuffle ? to * f * f : from * f * f;
  const int64_t fewer = args.kind == Kind::Shuffle ? from : to;
  if (args.kind == Kind::Nearest)
    rule.require(from == to, "nearest resampling keeps the channels");
  else
    rule.require(more % fewer == 0 && (more == fewer || !args.channels_last), "channels do not divide");
  const bool down = args.kind == Kind::Unshuffle;
  check_size(rule, x, args.planar_input, y, args.planar_output, down ? 1 : f, down ? f : 1);
  if (const auto* residual = rule.optional_input(1)) rule.same_shape(residual, y);
  return rule.result();
}

constexpr OpTraits traits_timestep_embedding = {
    .states = kStateless, .weight = only_vectors, .rows = nullptr};

// y[r] = (sin(a_0) .. sin(a_half-1), cos(a_0) ..), cosines first if cos_first, and a 0 where D is odd;
// a_i = scale t[r] max_period^(-i / (half - shift)), half = D / 2 (Ho et al. 2020; diffusers
// get_timestep_embedding). inputs: t [rows]; outputs: y [rows, D]
Result<void> check_timestep_embedding(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::TimestepEmbeddingT>();
  rule.inputs(1, 1).weights(0, 0).states(0, 0).outputs(1, 1);
  const auto* t = rule.input(0);
  const auto* y = rule.output(0);
  const int64_t d = rule.channels(y);
  rule.require(args.max_period > 1, "the longest period must exceed 1");
  rule.require(d >= 4 && args.shift < static_cast<float>(d / 2), "the shift must be below half the channels");
  if (rule.ok())
    rule.require(t->shape.size() == 1 && y->shape.size() == 2 && same_dim(t->shape[0], y->shape[0]),
                 "t must be [rows] and the output [rows, channels]");
  return rule.result();
}

constexpr OpTraits traits_position_embedding_2d = {
    .states = kStateless, .weight = only_vectors, .rows = nullptr};

// y[i, j] = x[i, j] + (sin(u w), cos(u w), sin(v w), cos(v w)), each D / 4 channels, w_n = max_period^(-n /
// (D / 4)), u = j / (width / base_size) / interpolation_scale from the column, v likewise from the row
// (diffusers get_2d_sincos_pos_embed; DiT and PixArt). inputs: x [height, width, D]; outputs: y [height,
// width, D]
Result<void> check_position_embedding_2d(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::PositionEmbedding2dT>();
  rule.inputs(1, 1).weights(0, 0).states(0, 0).outputs(1, 1);
  rule.require(args.base_size > 0 && args.interpolation_scale > 0 && args.max_period > 1,
               "base size and scale must be positive, the longest period above 1");
  const auto* x = rule.input(0);
  const int64_t d = image_channels(rule, x, false);
  rule.require(d % 4 == 0, "channels must be a multiple of 4");
  if (rule.ok()) rule.same_shape(rule.output(0), x);
  return rule.result();
}

}  // namespace linnet::graph
