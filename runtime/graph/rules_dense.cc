// Traits and shape rules of the ops every transformer shares. Values are written [rows..., channels]; "rows"
// may be any number of leading dimensions. Operand roles are listed above each rule.
#include "format/names.h"
#include "runtime/graph/rule.h"

namespace linnet::graph {

static WeightRead embedding_weight(const fb::NodeT&, size_t) { return {.use = WeightUse::kTable, .ids = 0}; }
constexpr OpTraits traits_embedding = {.states = kStateless, .weight = embedding_weight, .rows = nullptr};

// inputs: ids i32 [tokens]; weights: table [V, D]; outputs: y [tokens, D]
Result<void> check_embedding(const NodeView& view) {
  Rule rule(view);
  rule.inputs(1, 1).weights(1, 1).states(0, 0).outputs(1, 1);
  const auto* ids = rule.input(0, DType::kI32);
  const auto* table = rule.matrix(0, -1, -1);
  const auto* y = rule.output(0);
  if (rule.ok()) {
    rule.require(ids->shape.size() == 1 && y->shape.size() == 2 && same_dim(ids->shape[0], y->shape[0]),
                 "ids must be [tokens] and the output [tokens, channels]");
    rule.require(rule.channels(y) == table->shape[1], "the output's channels must be the table's");
  }
  return rule.result();
}

static WeightRead linear_weight(const fb::NodeT&, size_t i) {
  return {i % 2 == 0 ? WeightUse::kMatrix : WeightUse::kVector};
}
static constexpr RowTraits linear_rows = {
    .images = 0b011, .able = always, .unit = one_row, .input_rows = same_rows};
constexpr OpTraits traits_linear = {.states = kStateless, .weight = linear_weight, .rows = &linear_rows};

// inputs: x [rows, K], residual? [rows, N]; weights: W_0 [N_0, K], b_0? [N_0], W_1, b_1?, ...;
// outputs: y_i [rows, N_i], or one y [rows, N] when gated (exactly two matrices of equal N).
// A residual is allowed with a single output and is added after the activation. inputs 2: gate? [parts * N]
// (leading dimensions of 1): part `gate_part` multiplies the output, channel by channel, before the residual.
Result<void> check_linear(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::LinearT>();
  const size_t matrices = view.weight_count() / 2;
  rule.inputs(1, 3).weights(2, 16).states(0, 0);
  rule.require(view.weight_count() % 2 == 0, "weights come in pairs: a matrix and a bias (or none)");
  rule.require(!args.gated || matrices == 2, "a gated linear has exactly two matrices");
  const size_t outputs = args.gated ? 1 : matrices;
  rule.outputs(outputs, outputs);
  const auto* x = rule.input(0);
  const int64_t k = rule.channels(x);
  for (size_t i = 0; i < matrices && rule.ok(); ++i) {
    const auto* w = rule.matrix(2 * i, -1, k);
    if (w) rule.optional_tensor(2 * i + 1, {w->shape[0]});
    if (w && (!args.gated || i == 0)) rule.shaped_like(rule.output(i), x, w->shape[0]);
    if (w && i == 1 && args.gated)
      rule.require(w->shape[0] == view.weight(0)->shape[0],
                   "both matrices of a gated linear have the same rows");
  }
  if (const auto* residual = rule.optional_input(1)) {
    rule.require(outputs == 1, "a residual needs a single output");
    if (rule.ok()) rule.same_shape(residual, rule.output(0));
  }
  if (const auto* gate = rule.optional_input(2)) {
    rule.require(outputs == 1, "a gate needs a single output");
    if (rule.ok()) rule.parts(gate, rule.channels(rule.output(0)), args.gate_part);
  }
  return rule.result();
}

// No row of an image has the mean of the whole.
static bool norm_by_rows(const fb::NodeT& node) {
  return args_of<fb::NormT>(node).kind != fb::NormKind::Group;
}
static constexpr RowTraits norm_rows = {
    .images = 0b1011, .able = norm_by_rows, .unit = one_row, .input_rows = same_rows};
constexpr OpTraits traits_norm = {.states = kStateless, .weight = only_vectors, .rows = &norm_rows};

// inputs: x [rows, D], gate? [rows, D], modulation? [parts * D] (leading dimensions of 1), residual? [rows,
// D] weights: w? [D] or [group], b? [D] or [group] (kind Group: [D]) outputs: y [rows, D] = act(norm(x) w +
// b, gated, * (1 + modulation part scale) + part shift) + residual.
Result<void> check_norm(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::NormT>();
  const bool image = args.kind == fb::NormKind::Group;
  rule.inputs(1, 4).weights(0, 2).states(0, 0).outputs(1, 1);
  rule.require(args.kind <= fb::NormKind::MAX, "unknown kind of norm");
  rule.require(args.activation <= fb::Activation::MAX && args.gate_activation <= fb::Activation::MAX,
               "unknown activation");
  rule.require(!image || args.group > 0, "a group norm needs its group's channels");
  const auto* x = rule.input(0);
  const int64_t d = rule.channels(x);
  rule.require(args.group >= 0 && (args.group == 0 || (d > 0 && d % args.group == 0)),
               "the group must divide the channels");
  rule.require(args.epsilon >= 0, "epsilon must not be negative");
  for (size_t i = 0; i < view.weight_count() && rule.ok(); ++i) {
    const auto* w = view.weight(i);
    const bool per_group = w && !image && args.group > 0 && w->shape.size() == 1 && w->shape[0] == args.group;
    rule.optional_tensor(i, {per_group ? args.group : d});
  }
  if (const auto* gate = rule.optional_input(1)) {
    rule.require(!image, "a group norm has no gate");
    rule.same_shape(gate, x);
  }
  if (const auto* modulation = rule.optional_input(2)) {
    if (args.shift_part >= 0) rule.parts(modulation, d, args.shift_part);
    if (args.scale_part >= 0) rule.parts(modulation, d, args.scale_part);
  } else {
    rule.require(args.shift_part < 0 && args.scale_part < 0, "shift and scale need a modulation input");
  }
  if (const auto* residual = rule.optional_input(3)) rule.same_shape(residual, x);
  if (rule.ok()) rule.same_shape(rule.output(0), x);
  return rule.result();
}

static void check_rope_args(Rule& rule, const fb::RotaryEmbeddingT& rope, int64_t head_dim) {
  const auto turned = static_cast<int64_t>(2 * rope.inverse_frequencies.size());
  rule.require(rope.head_dim > 0 && rope.head_dim == head_dim,
               "the rotary head size must be the heads' size");
  rule.require(turned > 0 && turned <= head_dim, "inverse frequencies must cover at most the head");
}

constexpr OpTraits traits_rotary_embedding = {.states = kStateless, .weight = only_vectors, .rows = nullptr};

// inputs: x_i [tokens, heads_i * head_dim]; outputs: y_i, same shapes. Token t stands at position + t.
Result<void> check_rotary_embedding(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::RotaryEmbeddingT>();
  rule.inputs(1, 8).weights(0, 0).states(0, 0).outputs(view.input_count(), view.input_count());
  check_rope_args(rule, args, args.head_dim);
  for (size_t i = 0; i < view.input_count() && rule.ok(); ++i) {
    const auto* x = rule.input(i);
    const int64_t d = rule.channels(x);
    rule.require(d > 0 && d % args.head_dim == 0, "channels must be whole heads");
    if (rule.ok()) rule.same_shape(rule.output(i), x);
  }
  return rule.result();
}

static KeyValueCache attention_cache(const fb::NodeT& node) {
  return {args_of<fb::SoftmaxAttentionT>(node).window};
}
static constexpr StateTraits attention_states = {
    .change = StateChange::kRingRows, .half = 0, .cache = attention_cache};
constexpr OpTraits traits_softmax_attention = {
    .states = attention_states, .weight = only_vectors, .rows = nullptr};

// inputs: q [tokens, heads * head_dim], k [tokens, kv_heads * head_dim], v [tokens, kv_heads * value_dim],
//         gate? [tokens, heads * value_dim]. Bidirectional: k and v have rows of their own (cross attention),
//         and q may be an image [height, width, ...]; mask? [rows of k], bidirectional only: keys whose
//         number is 0 are not seen (if all are, the values' mean)
// weights: bias? [relative_buckets, heads] (bidirectional only): added to the score of query i and key j, by
//         T5's bucket of j - i
// states: keys [context, kv_heads * head_dim], values [context, kv_heads * value_dim] (causal only; a session
//         makes the first dimension its ring and chooses the precision)
// outputs: o [tokens, heads * value_dim]
Result<void> check_softmax_attention(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::SoftmaxAttentionT>();
  const bool causal = args.mask == fb::AttentionMask::Causal;
  rule.inputs(3, causal ? 4 : 5)
      .weights(0, causal ? 0 : 1)
      .states(causal ? 2 : 0, causal ? 2 : 0)
      .outputs(1, 1);
  rule.require(args.mask <= fb::AttentionMask::MAX, "unknown mask");
  rule.require(args.heads > 0 && args.kv_heads > 0 && args.heads % args.kv_heads == 0,
               "heads must be a multiple of kv_heads");
  rule.require(args.head_dim > 0 && args.value_dim > 0 && args.head_dim <= 4096 && args.value_dim <= 4096,
               "head sizes must be 1 to 4096");
  rule.require(args.window >= 0 && args.softcap >= 0, "window and softcap must not be negative");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.heads, kv_heads = args.kv_heads;
  const auto* q = rule.input(0);
  const auto* k = rule.input(1);
  const auto* v = rule.input(2);
  rule.require(rule.channels(q) == heads * args.head_dim, "q must be [tokens, heads * head_dim]");
  rule.shaped_like(k, causal ? q : k, kv_heads * args.head_dim);
  rule.shaped_like(v, k, kv_heads * args.value_dim);
  if (const auto* gate = rule.optional_input(3)) rule.shaped_like(gate, q, heads * args.value_dim);
  if (const auto* mask = rule.optional_input(4))
    rule.require(args.softcap == 0 && mask->shape.size() == 1 && k->shape.size() == 2 &&
                     same_dim(mask->shape[0], k->shape[0]),
                 "a mask must be [rows of k], and scores with one have no cap");
  if (rule.ok()) rule.shaped_like(rule.output(0), q, heads * args.value_dim);
  if (args.rope) check_rope_args(rule, *args.rope, args.head_dim);
  if (view.weight_count() > 0 && view.weight(0)) {
    rule.require(
        args.relative_buckets >= 4 && args.relative_buckets % 4 == 0 && args.relative_buckets <= 4096,
        "relative buckets must be a multiple of 4, at most 4096");
    rule.require(
        args.relative_max_distance > args.relative_buckets / 4 && args.relative_max_distance <= 1 << 20,
        "the largest relative distance must exceed the exact buckets");
    rule.tensor(0, {args.relative_buckets, heads});
  }
  if (causal && rule.ok()) {
    const auto* keys = rule.state(0, fb::StateRole::KeyCache);
    const auto* values = rule.state(1, fb::StateRole::ValueCache);
    if (keys && values)
      rule.require(keys->shape.size() == 2 && values->shape.size() == 2 && is_fixed(keys->shape[1]) &&
                       is_fixed(values->shape[1]) && keys->shape[1].add() == kv_heads * args.head_dim &&
                       values->shape[1].add() == kv_heads * args.value_dim,
                   "keys and values must be [context, kv_heads * size]");
  }
  return rule.result();
}

static constexpr RowTraits pointwise_rows = {
    .images = 0b11, .able = always, .unit = one_row, .input_rows = same_rows};
constexpr OpTraits traits_pointwise = {.states = kStateless, .weight = only_vectors, .rows = &pointwise_rows};

// Add, Multiply: y = a op b. Activate: act(a). ActivateMultiply: act(a) * b. Scale: alpha * a + beta.
// Softcap: alpha * tanh(a / alpha). ScaledAdd: alpha * a + beta * b.
// inputs: a, b? of one shape; weights: b? [C], in the place of b, for every row of C channels (a's channels
// may be fewer and are repeated: modulation tables); outputs: y.
Result<void> check_pointwise(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::PointwiseT>();
  using Kind = fb::PointwiseKind;
  const bool binary = args.kind == Kind::Add || args.kind == Kind::Multiply ||
                      args.kind == Kind::ActivateMultiply || args.kind == Kind::ScaledAdd;
  const bool table = binary && view.weight_count() > 0;
  rule.inputs(binary && !table ? 2 : 1, binary && !table ? 2 : 1);
  rule.weights(0, binary ? 1 : 0).states(0, 0).outputs(1, 1);
  rule.require(args.kind <= Kind::MAX && args.activation <= fb::Activation::MAX, "unknown function");
  rule.require(args.kind != Kind::Softcap || args.alpha > 0, "a softcap must be positive");
  const auto* a = rule.input(0);
  if (table) {
    const auto* y = rule.output(0);
    const int64_t channels = rule.channels(y), own = rule.channels(a);
    rule.tensor(0, {channels});
    rule.require(own > 0 && channels % own == 0, "the table's channels must be a multiple of the input's");
    rule.shaped_like(y, a, channels);
    return rule.result();
  }
  if (binary) rule.same_shape(rule.input(1), a);
  if (rule.ok()) rule.same_shape(rule.output(0), a);
  return rule.result();
}

static WeightRead logits_weight(const fb::NodeT&, size_t) { return {WeightUse::kHead}; }
constexpr OpTraits traits_logits = {.states = kStateless, .weight = logits_weight, .rows = nullptr};

// inputs: x [tokens, D]; weights: W [V, D]; outputs: y [logit_tokens, V], the last logit_tokens rows of x.
Result<void> check_logits(const NodeView& view) {
  Rule rule(view);
  rule.inputs(1, 1).weights(1, 1).states(0, 0).outputs(1, 1);
  const auto* x = rule.input(0);
  const auto* w = rule.matrix(0, -1, rule.channels(x));
  const auto* y = rule.output(0);
  if (rule.ok()) {
    // As many of the last rows as are asked for, which the engine holds to the rows there are, or all of
    // them.
    const fb::Dim& rows = y->shape.size() == 2 ? y->shape[0] : y->shape.front();
    const bool wanted = !is_fixed(rows) && rows.mul() == 1 && rows.div() == 1 && rows.add() == 0 &&
                        view.model->symbols[static_cast<size_t>(rows.symbol())]->name == names::kLogitTokens;
    rule.require(x->shape.size() == 2 && y->shape.size() == 2 && (wanted || same_dim(rows, x->shape[0])) &&
                     rule.channels(y) == w->shape[0],
                 "logits must be [logit_tokens, vocabulary]");
  }
  rule.require(view.args<fb::LogitsT>().softcap >= 0, "softcap must not be negative");
  return rule.result();
}

}  // namespace linnet::graph
