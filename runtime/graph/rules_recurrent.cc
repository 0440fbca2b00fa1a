// Traits and shape rules of the recurrent mixers and what they need around them. Operand roles are listed
// above each rule. A state S is [heads, K, V]: a token writes k v^T and reads S^T q, in this order. Heads of
// fewer kinds serve consecutive heads of the more numerous: head h reads key head h / (heads / key_heads).
#include <algorithm>
#include <cmath>

#include "runtime/graph/rule.h"

namespace linnet::graph {
namespace {

constexpr int64_t kMostHeads = 65536, kMostDim = 4096;

void check_heads(Rule& rule, std::initializer_list<int64_t> counts) {
  for (const int64_t n : counts) rule.require(n > 0 && n <= kMostHeads, "head counts must be 1 to 65536");
}
void check_dims(Rule& rule, std::initializer_list<int64_t> dims) {
  for (const int64_t n : dims) rule.require(n > 0 && n <= kMostDim, "head sizes must be 1 to 4096");
}

// A value [tokens, channels], tokens those of `like`.
const fb::ValueT* rows_of(Rule& rule, const fb::ValueT* value, const fb::ValueT* like, int64_t channels) {
  rule.shaped_like(value, like, channels);
  return value;
}
// The first input: [tokens, channels].
const fb::ValueT* first_input(Rule& rule, int64_t channels) {
  const fb::ValueT* x = rule.input(0);
  if (rule.ok() && (x->shape.size() != 2 || rule.channels(x) != channels))
    rule.fail(strf("'{}' must be [tokens, {}]", x->name, channels));
  return x;
}

void check_state(Rule& rule, size_t i, fb::StateRole role, std::vector<int64_t> shape) {
  const fb::StateT* state = rule.state(i, role);
  if (!state) return;
  bool same = state->shape.size() == shape.size();
  for (size_t d = 0; same && d < shape.size(); ++d)
    same = is_fixed(state->shape[d]) && state->shape[d].add() == shape[d];
  if (!same) rule.fail(strf("state {} '{}' must be {}", i, state->name, shape_text(shape)));
}

void check_map(Rule& rule, const std::unique_ptr<fb::HeadMapT>& map) {
  if (!map) return;
  rule.require(map->activation <= fb::Activation::MAX && map->norm <= fb::HeadNorm::MAX,
               "unknown map of heads");
  rule.require(map->epsilon >= 0, "epsilon must not be negative");
}

// The decay of a state of `heads` heads and `channels` channels: its input and the weights rate [heads] and
// offset, which has the input's channels. per_channel says whether an input may have a value for each
// channel.
void check_decay(Rule& rule, const NodeView& view, const std::unique_ptr<fb::DecayT>& decay,
                 const fb::ValueT* x, const fb::ValueT* like, size_t rate, int64_t heads, int64_t channels,
                 int64_t copies = 1) {
  using Kind = fb::DecayKind;
  const Kind kind = decay ? decay->kind : Kind::None;
  rule.require(kind <= Kind::MAX, "unknown kind of decay");
  const bool reads = kind != Kind::None && kind != Kind::Constant;
  rule.require(reads == (x != nullptr),
               reads ? "this kind of decay reads an input" : "this kind of decay has no input");
  if (!rule.ok()) return;
  int64_t width = heads;
  if (x) {
    width = rule.channels(x);
    if (copies > 1 && width == heads * copies) width = heads;  // one for each memory
    rule.require(
        width == heads || width == heads * channels,
        strf("the decay input needs {} (per head) or {} (per channel) channels", heads, heads * channels));
    rule.shaped_like(x, like, rule.channels(x));
  }
  const bool has_rate = rate < view.weight_count() && view.weight(rate);
  const bool has_offset = rate + 1 < view.weight_count() && view.weight(rate + 1);
  rule.require(has_rate || (kind != Kind::Constant && kind != Kind::Softplus),
               "this kind of decay needs a rate");
  rule.require(!has_rate || kind == Kind::Constant || kind == Kind::Softplus || kind == Kind::Sigmoid,
               "this kind of decay has no rate");
  rule.require(has_offset || kind != Kind::LowerBounded, "a lower bounded decay needs its bounds as offset");
  rule.require(!has_offset || (reads && kind != Kind::Log), "this kind of decay has no offset");
  rule.optional_tensor(rate, {heads});
  rule.optional_tensor(rate + 1, {width});
  if (decay) {
    rule.require(kind != Kind::LogSigmoid || decay->divisor > 0, "the divisor of a decay must be positive");
    rule.require(decay->step_minimum >= 0 && decay->step_maximum >= 0,
                 "limits of a step must not be negative");
  }
}

bool known(fb::Activation activation) { return activation <= fb::Activation::MAX; }

}  // namespace

// Of the states S: what the op sums up besides stays f32.
constexpr OpTraits traits_gated_linear_attention = {
    .states = recurrent(0b1), .weight = only_vectors, .rows = nullptr};

// S <- diag(exp g) S + k v^T; o = scale S^T q (/ (scale z.q + epsilon), z <- exp(g) z + k) (+ skip v)
// heads = max(key_heads, value_heads), outputs = max(query_heads, heads); each count divides the larger one.
// inputs: q [tokens, query_heads * K]; k? [tokens, key_heads * K], absent: 1 - exp(g) (HGRN2); v [tokens,
//   value_heads * V], absent with decay_values: 1 - exp(g) (GSA); decay? [tokens, heads] or [tokens, heads *
//   K]
//   ([tokens, heads * V] with decay_values)
// weights: rate? [heads], offset? like the decay's channels, skip? [outputs] (Mamba-2's D, of the value
// before
//   step_scales_write)
// states: S [heads, K, V]; z [heads, K] when normalized
// outputs: o [tokens, outputs * V]
Result<void> check_gated_linear_attention(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::GatedLinearAttentionT>();
  rule.inputs(3, 4).weights(0, 3).states(args.normalized ? 2 : 1, args.normalized ? 2 : 1).outputs(1, 1);
  check_heads(rule, {args.query_heads, args.key_heads, args.value_heads});
  check_dims(rule, {args.key_dim, args.value_dim});
  check_map(rule, args.query_map);
  check_map(rule, args.key_map);
  rule.require(known(args.value_activation), "unknown activation");
  if (!rule.ok()) return rule.result();
  const int64_t K = args.key_dim, V = args.value_dim;
  const int64_t heads = std::max(args.key_heads, args.value_heads),
                outputs = std::max<int64_t>(args.query_heads, heads);
  rule.require(heads % args.key_heads == 0 && heads % args.value_heads == 0 && outputs % heads == 0 &&
                   outputs % args.query_heads == 0,
               "head counts must divide each other");
  const auto* q = first_input(rule, int64_t{args.query_heads} * K);
  const auto* k = rule.optional_input(1);
  const auto* v = rule.optional_input(2);
  const auto* x = rule.optional_input(3);
  if (k) rows_of(rule, k, q, args.key_heads * K);
  if (v) rows_of(rule, v, q, args.value_heads * V);
  const fb::DecayKind kind = args.decay ? args.decay->kind : fb::DecayKind::None;
  const bool per_channel = x && rule.ok() && rule.channels(x) != heads;
  rule.require(k || (per_channel && !args.decay_values),
               "without keys the decay must have a value for each key channel");
  rule.require(v || (per_channel && args.decay_values),
               "without values the decay must have a value for each value channel");
  rule.require(!args.normalized || !args.decay_values, "a normaliser needs a decay over keys");
  rule.require(!args.step_scales_write || (kind == fb::DecayKind::Softplus && !per_channel),
               "only a Softplus decay per head has a step that scales the write");
  check_decay(rule, view, args.decay, x, q, 0, heads, args.decay_values ? V : K);
  rule.optional_tensor(2, {outputs});
  rule.require(v || view.weight_count() < 3 || !view.weight(2), "a skip needs values");
  if (rule.ok()) rows_of(rule, rule.output(0), q, outputs * V);
  check_state(rule, 0, fb::StateRole::Recurrent, {heads, K, V});
  if (args.normalized) check_state(rule, 1, fb::StateRole::Recurrent, {heads, K});
  return rule.result();
}

constexpr OpTraits traits_gated_delta_rule = {
    .states = recurrent(0b1), .weight = only_vectors, .rows = nullptr};

// S <- diag(exp g) S; S <- S + k (beta (v - S^T k))^T; o = scale S^T q
// inputs: q, k [tokens, key_heads * K], v [tokens, value_heads * V], beta? [tokens, value_heads] (absent: 1
// before its scale),
//   decay? [tokens, value_heads] or [tokens, value_heads * K]
// weights: rate? [value_heads], offset? like the decay's channels
// states: S [value_heads, K, V]; outputs: o [tokens, value_heads * V]
Result<void> check_gated_delta_rule(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::GatedDeltaRuleT>();
  rule.inputs(3, 5).weights(0, 2).states(1, 1).outputs(1, 1);
  check_heads(rule, {args.key_heads, args.value_heads});
  check_dims(rule, {args.key_dim, args.value_dim});
  check_map(rule, args.query_map);
  check_map(rule, args.key_map);
  rule.require(known(args.value_activation) && known(args.beta_activation), "unknown activation");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.value_heads, K = args.key_dim, V = args.value_dim;
  rule.require(heads % args.key_heads == 0, "value_heads must be a multiple of key_heads");
  const auto* q = first_input(rule, args.key_heads * K);
  rows_of(rule, rule.input(1), q, args.key_heads * K);
  rows_of(rule, rule.input(2), q, heads * V);
  if (const auto* beta = rule.optional_input(3)) rows_of(rule, beta, q, heads);
  check_decay(rule, view, args.decay, rule.optional_input(4), q, 0, heads, K);
  if (rule.ok()) rows_of(rule, rule.output(0), q, heads * V);
  check_state(rule, 0, fb::StateRole::Recurrent, {heads, K, V});
  return rule.result();
}

constexpr OpTraits traits_dplr_recurrence = {
    .states = recurrent(0b1), .weight = only_vectors, .rows = nullptr};

// a = act(a); c = L2norm(k * removal_scale), or the input removal as it is; k <- k (1 + (a - 1) rate_mix);
// v <- v + (first - v) sigmoid(mix)
// S <- diag(exp g) S - (c a) (S^T c)^T + k v^T, the removal reading S before its decay; o = scale S^T r;
// bonus = (sum r k bonus_scale) v
// inputs: r, decay, k [tokens, heads * K], v [tokens, heads * V], a [tokens, heads * K], removal? [tokens,
// heads * K],
//   first? and mix? [tokens, heads * V]
// weights: rate? [heads], offset? [heads * K], removal_scale? [heads * K], rate_mix? [heads * K],
// bonus_scale? [heads * K] states: S [heads, K, V] outputs: o [tokens, heads * V], bonus [tokens, heads * V]
// where bonus_scale is given
Result<void> check_dplr_recurrence(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::DplrRecurrenceT>();
  const bool bonus = view.weight_count() > 4 && view.weight(4);
  rule.inputs(5, 8).weights(0, 5).states(1, 1).outputs(bonus ? 2 : 1, bonus ? 2 : 1);
  check_heads(rule, {args.heads});
  check_dims(rule, {args.key_dim, args.value_dim});
  rule.require(known(args.rate_activation), "unknown activation");
  rule.require(args.removal_epsilon >= 0, "epsilon must not be negative");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.heads, K = args.key_dim, V = args.value_dim;
  const auto* r = first_input(rule, heads * K);
  const auto* x = rule.input(1);
  rows_of(rule, x, r, heads * K);
  rows_of(rule, rule.input(2), r, heads * K);
  rows_of(rule, rule.input(3), r, heads * V);
  rows_of(rule, rule.input(4), r, heads * K);
  const auto* removal = rule.optional_input(5);
  if (removal) rows_of(rule, removal, r, heads * K);
  const auto* first = rule.optional_input(6);
  const auto* mix = rule.optional_input(7);
  rule.require(!first == !mix, "first and mix come together");
  if (first) rows_of(rule, first, r, heads * V);
  if (mix) rows_of(rule, mix, r, heads * V);
  check_decay(rule, view, args.decay, x, r, 0, heads, K);
  const auto* scale = rule.optional_tensor(2, {heads * K});
  rule.require(!scale || !removal, "a removal that is given has no scale");
  rule.optional_tensor(3, {heads * K});
  rule.optional_tensor(4, {heads * K});
  for (size_t i = 0; i < (bonus ? 2u : 1u) && rule.ok(); ++i) rows_of(rule, rule.output(i), r, heads * V);
  check_state(rule, 0, fb::StateRole::Recurrent, {heads, K, V});
  return rule.result();
}

constexpr OpTraits traits_short_convolution = {
    .states = recurrent(0), .weight = only_vectors, .rows = nullptr};

// y_i[t] = act(bias_i + sum_j taps_i[j] x_i[t - kernel + 1 + j]), channel by channel: the last tap meets the
// token. inputs: x_i [tokens, D_i]; weights: taps_0 [kernel, D_0], bias_0? [D_0], taps_1, bias_1?, ...
// states: the last kernel - 1 inputs, oldest first [kernel - 1, D_i] (History); outputs: y_i [tokens, D_i]
Result<void> check_short_convolution(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::ShortConvolutionT>();
  const size_t n = view.input_count();
  rule.inputs(1, 8).weights(2 * n, 2 * n).states(n, n).outputs(n, n);
  rule.require(args.kernel >= 2 && args.kernel <= 16, "the kernel must be 2 to 16");
  rule.require(known(args.activation), "unknown activation");
  const auto* first = rule.input(0);
  rule.require(first && first->shape.size() == 2, "inputs must be [tokens, channels]");
  for (size_t i = 0; i < n && rule.ok(); ++i) {
    const auto* x = rule.input(i);
    const int64_t d = rule.channels(x);
    rule.require(d > 0, "inputs must have channels");
    rows_of(rule, x, first, d);
    rule.tensor(2 * i, {args.kernel, d});
    rule.optional_tensor(2 * i + 1, {d});
    if (rule.ok()) rule.same_shape(rule.output(i), x);
    check_state(rule, i, fb::StateRole::History, {args.kernel - 1, d});
  }
  return rule.result();
}

constexpr OpTraits traits_token_shift = {.states = recurrent(0), .weight = only_vectors, .rows = nullptr};

// y_i[t] = x[t] + (x[t - 1] - x[t]) * mu_i
// inputs: x [tokens, D]; weights: mu_i [D]; states: the last input [1, D] (History); outputs: y_i [tokens, D]
Result<void> check_token_shift(const NodeView& view) {
  Rule rule(view);
  const size_t n = view.weight_count();
  rule.inputs(1, 1).weights(1, 16).states(1, 1).outputs(n, n);
  const auto* x = rule.input(0);
  const int64_t d = rule.channels(x);
  rule.require(rule.ok() && x->shape.size() == 2 && d > 0, "the input must be [tokens, channels]");
  for (size_t i = 0; i < n && rule.ok(); ++i) {
    rule.tensor(i, {d});
    if (rule.ok()) rule.same_shape(rule.output(i), x);
  }
  check_state(rule, 0, fb::StateRole::History, {1, d});
  return rule.result();
}

constexpr OpTraits traits_mixture_of_memories = {
    .states = recurrent(0), .weight = only_vectors, .rows = nullptr};

// For each memory m among the top_k of softmax(router), with shares p_m that sum to 1, and for the shared
// memory, which has index `memories` and share 1: q, k, v <- act(convolution) over the tokens of that memory,
// one token of a gated delta rule on S[m]; o = sum of p_m o_m. Memories that were not chosen stay as they
// are. inputs: q [tokens, heads * K]; k [tokens, n * heads * K], v [tokens, n * heads * V], beta and decay
//   [tokens, n * heads], n = all memories, shared one last, or n = 1: one for all; router [tokens, memories]
// weights: rate? [heads], offset? [heads]; with a kernel: taps of q, k [kernel, heads * K] and v [kernel,
// heads * V] states: S [all * heads, K, V]; with a kernel: histories of q, k, v [all, kernel - 1, channels]
// (History) outputs: o [tokens, heads * V]
Result<void> check_mixture_of_memories(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::MixtureOfMemoriesT>();
  const bool convolves = args.kernel > 0;
  rule.inputs(6, 6).weights(convolves ? 5 : 0, 5).states(convolves ? 4 : 1, convolves ? 4 : 1).outputs(1, 1);
  check_heads(rule, {args.heads, args.memories});
  check_dims(rule, {args.key_dim, args.value_dim});
  check_map(rule, args.query_map);
  check_map(rule, args.key_map);
  rule.require(known(args.value_activation) && known(args.beta_activation) && known(args.kernel_activation),
               "unknown activation");
  rule.require(args.memories <= 4096 && args.top_k > 0 && args.top_k <= args.memories,
               "top_k must be 1 to the number of memories");
  rule.require(args.kernel == 0 || (args.kernel >= 2 && args.kernel <= 16),
               "the kernel must be 0 or 2 to 16");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.heads, K = args.key_dim, V = args.value_dim,
                all = args.memories + (args.shared ? 1 : 0);
  const auto* q = first_input(rule, heads * K);
  const auto one_or_all = [&](size_t i, int64_t own) {
    const auto* x = rule.input(i);
    const bool single = rule.ok() && rule.channels(x) == own;
    rows_of(rule, x, q, single ? own : own * all);
  };
  one_or_all(1, heads * K);
  one_or_all(2, heads * V);
  one_or_all(3, heads);
  const auto* decay = rule.input(4);
  one_or_all(4, heads);
  rows_of(rule, rule.input(5), q, args.memories);
  rule.require(
      args.decay && args.decay->kind != fb::DecayKind::None && args.decay->kind != fb::DecayKind::Constant,
      "memories have a decay that reads its input");
  check_decay(rule, view, args.decay, decay, q, 0, heads, 1, all);
  const int64_t widths[] = {heads * K, heads * K, heads * V};
  for (size_t i = 0; convolves && i < 3 && rule.ok(); ++i) {
    rule.tensor(2 + i, {args.kernel, widths[i]});
    check_state(rule, 1 + i, fb::StateRole::History, {all, args.kernel - 1, widths[i]});
  }
  if (rule.ok()) rows_of(rule, rule.output(0), q, heads * V);
  check_state(rule, 0, fb::StateRole::Recurrent, {all * heads, K, V});
  return rule.result();
}

constexpr OpTraits traits_window_linear_attention = {
    .states = recurrent(0), .weight = only_vectors, .rows = nullptr};

// Token i sees the keys j of V = {j <= i: j > i - window or j < sinks} exactly and the others through a state
// that token i - window enters when it leaves the window:
//   S <- diag(exp g) S + f_k v^T,  z <- exp(g) z + f_k       (sinks never enter)
//   o = (a sum_V e^(s_j - m) v_j + b S^T f_q) / (a sum_V e^(s_j - m) + b z.f_q + epsilon),  s_j = scale q.k_j
//   after rope f = max(softmax(x M), feature_floor) (paired: and softmax(-x M) after it), of q or k before
//   rope unless rotated_features; g from k before rope a = window_factor or 1; without log_bias m = max s and
//   b = linear_factor or 1, with it w = log_bias + log_gain.q (q before rope), at most max s + 60 so that the
//   window counts where the state is empty, m = max(s, w), b = linear_factor e^(w - m).
// inputs: q [tokens, heads * head_dim], k [tokens, kv_heads * head_dim], v [tokens, kv_heads * value_dim], no
// rope yet weights: map of q [heads, head_dim, F], map of k [state_heads, head_dim, F], rate? [state_heads],
// offset?
//   [state_heads * features], log_bias? [heads], log_gain? [heads * head_dim], window_factor? [heads],
//   linear_factor? [heads]; features = F, or 2 F when paired
// states: keys [sinks + window, kv_heads * head_dim] and values [sinks + window, kv_heads * value_dim]
// (History),
//   S [state_heads, features, value_dim], z [state_heads, features]
// outputs: o [tokens, heads * value_dim]
Result<void> check_window_linear_attention(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::WindowLinearAttentionT>();
  rule.inputs(3, 3).weights(2, 8).states(4, 4).outputs(1, 1);
  check_heads(rule, {args.heads, args.kv_heads, args.state_heads});
  check_dims(rule, {args.head_dim, args.value_dim});
  rule.require(args.window > 0 && args.window <= (1 << 24) && args.sinks >= 0 && args.sinks <= (1 << 20),
               "window and sinks must be positive and sane");
  rule.require(args.feature_floor >= 0 && args.epsilon >= 0, "floor and epsilon must not be negative");
  if (!rule.ok()) return rule.result();
  const int64_t heads = args.heads, kv = args.kv_heads, own = args.state_heads, d = args.head_dim,
                V = args.value_dim;
  rule.require(heads % own == 0 && own % kv == 0, "kv_heads must divide state_heads and state_heads heads");
  const auto* map = view.weight_count() > 0 ? view.weight(0) : nullptr;
  rule.require(map && map->shape.size() == 3 && map->shape[2] > 0 && map->shape[2] <= kMostDim,
               "the map of q must be [heads, head_dim, features]");
  if (!rule.ok()) return rule.result();
  const int64_t columns = map->shape[2], features = columns * (args.paired_features ? 2 : 1);
  rule.tensor(0, {heads, d, columns});
  rule.tensor(1, {own, d, columns});
  const auto* q = first_input(rule, heads * d);
  rows_of(rule, rule.input(1), q, kv * d);
  rows_of(rule, rule.input(2), q, kv * V);
  const fb::DecayKind kind = args.decay ? args.decay->kind : fb::DecayKind::None;
  const bool reads = kind != fb::DecayKind::None && kind != fb::DecayKind::Constant;
  rule.require(kind <= fb::DecayKind::MAX && kind != fb::DecayKind::LowerBounded,
               "this kind of decay is not for a window");
  rule.require(!reads || features == d, "a decay read from k needs as many features as k has channels");
  rule.require(kind != fb::DecayKind::LogSigmoid || args.decay->divisor > 0,
               "the divisor of a decay must be positive");
  if (kind == fb::DecayKind::Constant || kind == fb::DecayKind::Softplus)
    rule.tensor(2, {own});
  else
    rule.optional_tensor(2, {own});
  rule.optional_tensor(3, {own * features});
  const auto* log_bias = rule.optional_tensor(4, {heads});
  const auto* log_gain = rule.optional_tensor(5, {heads * d});
  rule.require(log_bias || !log_gain, "log_gain needs log_bias");
  rule.optional_tensor(6, {heads});
  rule.optional_tensor(7, {heads});
  if (args.rope) {
    const auto turned = static_cast<int64_t>(2 * args.rope->inverse_frequencies.size());
    rule.require(args.rope->head_dim == d && turned > 0 && turned <= d, "the rope must fit the heads");
    rule.require(args.rope->amplitude == 1, "the rope's amplitude must be 1");
  }
  if (rule.ok()) rows_of(rule, rule.output(0), q, heads * V);
  check_state(rule, 0, fb::StateRole::History, {int64_t{args.sinks} + args.window, kv * d});
  check_state(rule, 1, fb::StateRole::History, {int64_t{args.sinks} + args.window, kv * V});
  check_state(rule, 2, fb::StateRole::Recurrent, {own, features, V});
  check_state(rule, 3, fb::StateRole::Recurrent, {own, features});
  return rule.result();
}

static WeightRead experts_weight(const fb::NodeT& node, size_t i) {
  const auto& args = args_of<fb::MixtureOfExpertsT>(node);
  const double share = static_cast<double>(args.top_k) / std::max(1, args.experts);
  const int input = i == 4 || i == 7 ? -1 : 0;  // down projections read what lies between
  if (i >= 2 && i <= 4) return {.use = WeightUse::kExperts, .share = share, .input = input};
  return {.use = i == 0 || (i >= 5 && i <= 7) ? WeightUse::kMatrix : WeightUse::kVector, .input = input};
}
constexpr OpTraits traits_mixture_of_experts = {
    .states = kStateless, .weight = experts_weight, .rows = nullptr};

// y = scale * sum over the chosen experts of w_e down_e(act(gate_e x) * up_e x) + sigmoid(shared_gate.x) *
// shared(x)
//     + residual
// p = softmax or sigmoid of the router's logits; chosen: the top_k of p + selection_bias; w_e = p_e, divided
// by their sum + renormalize_epsilon if renormalize. inputs: x [tokens, D], residual? [tokens, D] weights:
// router [experts, D], selection_bias? [experts], gate and up [experts, I, D], down [experts, D, I],
//   shared gate? and up? [J, D], shared down? [D, J], shared_gate? [D] (absent: factor 1)
// outputs: y [tokens, D]
Result<void> check_mixture_of_experts(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::MixtureOfExpertsT>();
  rule.inputs(1, 2).weights(5, 9).states(0, 0).outputs(1, 1);
  rule.require(args.experts > 0 && args.experts <= kMostHeads && args.top_k > 0 && args.top_k <= args.experts,
               "top_k must be 1 to the number of experts");
  rule.require(args.scores <= fb::RouterScores::MAX && known(args.activation), "unknown function");
  rule.require(args.renormalize_epsilon >= 0, "epsilon must not be negative");
  if (!rule.ok()) return rule.result();
  const auto* x = rule.input(0);
  const int64_t d = rule.channels(x), experts = args.experts;
  rule.require(rule.ok() && x->shape.size() == 2 && d > 0, "x must be [tokens, channels]");
  rule.matrix(0, experts, d);
  rule.optional_tensor(1, {experts});
  const auto stack = [&](size_t i, int64_t n, int64_t k) -> int64_t {  // [experts, n, k] in panels; returns n
    if (!rule.ok()) return 0;
    const auto* w = view.weight(i);
    const bool fits = w && w->layout == fb::Layout::Panel && w->shape.size() == 3 && w->shape[0] == experts &&
                      (n < 0 || w->shape[1] == n) && w->shape[2] == k;
    rule.require(fits, strf("weight {} must be {} matrices [{}, {}] in panels", i, experts,
                            n < 0 ? "any" : std::to_string(n), k));
    return fits ? w->shape[1] : 0;
  };
  const int64_t inner = stack(2, -1, d);
  stack(3, inner, d);
  stack(4, d, inner);
  const auto* shared = rule.optional_matrix(5, -1, d);
  if (shared) {
    rule.matrix(6, shared->shape[0], d);
    rule.matrix(7, d, shared->shape[0]);
  }
  for (size_t i = 6; i < view.weight_count(); ++i)
    rule.require(shared || !view.weight(i), "parts of a shared expert without its gate matrix");
  rule.optional_tensor(8, {d});
  if (const auto* residual = rule.optional_input(1)) rule.same_shape(residual, x);
  if (rule.ok()) rule.same_shape(rule.output(0), x);
  return rule.result();
}

constexpr OpTraits traits_concat_heads = {.states = kStateless, .weight = only_vectors, .rows = nullptr};

// y[t] = for each head, sizes[i] channels of each input in turn: its head's, or the same for all heads where
// the input has only sizes[i] channels. inputs: x_i [tokens, heads * sizes[i]] or [tokens, sizes[i]];
// outputs: y [tokens, heads * sum of sizes]
Result<void> check_concat_heads(const NodeView& view) {
  Rule rule(view);
  const auto& args = view.args<fb::ConcatHeadsT>();
  rule.inputs(1, 8).weights(0, 0).states(0, 0).outputs(1, 1);
  check_heads(rule, {args.heads});
  rule.require(args.sizes.size() == view.input_count(), "one size for each input");
  if (!rule.ok()) return rule.result();
  const auto* first = rule.input(0);
  rule.require(first && first->shape.size() == 2, "inputs must be [tokens, channels]");
  int64_t width = 0;
  for (size_t i = 0; i < view.input_count() && rule.ok(); ++i) {
    const int64_t size = args.sizes[i];
    check_dims(rule, {size});
    const auto* x = rule.input(i);
    const int64_t channels = rule.channels(x);
    rule.require(channels == size || channels == args.heads * size,
                 "inputs must have one head's or all heads' channels");
    rows_of(rule, x, first, channels);
    width += args.heads * size;
  }
  if (rule.ok()) rows_of(rule, rule.output(0), first, width);
  return rule.result();
}

}  // namespace linnet::graph
