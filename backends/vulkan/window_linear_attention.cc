#include "backends/vulkan/mixer.h"
#include "backends/vulkan/rotary.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

struct Sizes {
  int64_t tokens, heads, kv_heads, state_heads, head_dim, value_dim, columns, features;

  explicit Sizes(const NodeShapes& shapes) {
    const auto& args = shapes.args<fb::WindowLinearAttentionT>();
    tokens = shapes.in[0].dims[0];
    heads = args.heads;
    kv_heads = args.kv_heads;
    state_heads = args.state_heads;
    head_dim = args.head_dim;
    value_dim = args.value_dim;
    columns = shapes.weights[0].dims[2];
    features = columns * (args.paired_features ? 2 : 1);
  }
  int64_t key_channels() const { return kv_heads * head_dim; }
  int64_t value_channels() const { return kv_heads * value_dim; }
};

// Where the parts of the scratch lie, for the tokens of the bounds.
struct Layout {
  size_t queries, keys, leaving_keys, leaving_raw, leaving_values, key_features, factors, query_features,
      above, below, sum, end = 0;

  explicit Layout(const NodeShapes& shapes) {
    const Sizes s(shapes);
    const auto place = [&](int64_t floats) {
      const size_t at = end;
      end += (static_cast<size_t>(floats) * sizeof(float) + 255) / 256 * 256;  // any device's alignment
      return at;
    };
    const int64_t k = s.tokens * s.kv_heads * s.head_dim;
    queries = place(s.tokens * s.heads * s.head_dim);
    keys = place(k);
    leaving_keys = place(k);
    leaving_raw = place(k);
    leaving_values = place(s.tokens * s.kv_heads * s.value_dim);
    key_features = place(s.tokens * s.state_heads * s.features);
    factors = place(s.tokens * s.state_heads * s.features);
    query_features = place(s.tokens * s.heads * s.features);
    above = place(s.tokens * s.heads * s.value_dim);
    below = place(s.tokens * s.heads * 2);
    sum = place(s.state_heads * s.features);
  }
};

size_t scratch(const NodeShapes& shapes) { return Layout(shapes).end; }

void features(Lowering& l, const Sizes& s, size_t map, int64_t heads, int64_t input_heads, const Binding& x,
              const Binding& y) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  Dispatch d;
  d.shader = "window_linear_attention_features";
  d.constants = {kThreads, u32(s.head_dim), u32(s.columns), args.paired_features ? 1u : 0u};
  d.bindings = {x, l.vector(map), y};
  d.push = {u32(heads), u32(input_heads), bits(args.feature_floor)};
  d.groups = static_cast<uint64_t>(s.tokens * heads);
  l.add(std::move(d));
}

// A part of the scratch, from one of Layout's places to the next.
Binding part(Lowering& l, size_t from, size_t to, bool writes) { return l.scratch(from, to - from, writes); }

// Queries and keys after the rotation, if there is one.
struct Rotated {
  Binding q, k;
};
Rotated rotate(Lowering& l, const Sizes& s, const Layout& at) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  const Rotated given{l.in(0), l.in(1)};
  if (!args.rope) return given;
  add_rotation(l, *args.rope, s.tokens, s.heads * s.head_dim, {}, given.q,
               part(l, at.queries, at.keys, true));
  add_rotation(l, *args.rope, s.tokens, s.key_channels(), {}, given.k,
               part(l, at.keys, at.leaving_keys, true));
  return {part(l, at.queries, at.keys, false), part(l, at.keys, at.leaving_keys, false)};
}

// The keys and values that leave the window, and what of them enters the state: features and decay factors.
void leave_window(Lowering& l, const Sizes& s, const Layout& at, const Binding& k) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  const fb::DecayT& decay = or_default(args.decay);
  Dispatch leave;
  leave.shader = "window_linear_attention_leave";
  leave.constants = {kThreads};
  leave.bindings = {l.params(),
                    k,
                    l.in(2),
                    l.state(0, false),
                    l.state(1, false),
                    part(l, at.leaving_keys, at.leaving_raw, true),
                    part(l, at.leaving_values, at.key_features, true)};
  leave.push = {u32(s.tokens), u32(s.key_channels()), u32(s.value_channels()), u32(args.window),
                u32(args.sinks)};
  leave.groups = ceil_div(s.tokens * (s.key_channels() + s.value_channels()), kThreads);
  l.add(std::move(leave));
  const Binding leaving = part(l, at.leaving_keys, at.leaving_raw, false);
  Binding raw = leaving;
  if (args.rope) {
    add_rotation(l, *args.rope, s.tokens, s.key_channels(), {RopeAngle::Kind::kLeaving, 0, args.window},
                 leaving, part(l, at.leaving_raw, at.leaving_values, true));
    raw = part(l, at.leaving_raw, at.leaving_values, false);
  }
  features(l, s, 1, s.state_heads, s.kv_heads, args.rotated_features ? leaving : raw,
           part(l, at.key_features, at.factors, true));
  Dispatch factors;
  factors.shader = "window_linear_attention_decay";
  const uint32_t decay_flags = 1u | (l.shapes.has_weight(2) ? 2u : 0u) | (l.shapes.has_weight(3) ? 4u : 0u);
  factors.constants = {kThreads, code(decay.kind), decay_flags};
  factors.bindings = {raw, l.vector(2), l.vector(3), part(l, at.factors, at.query_features, true)};
  const int64_t count = s.tokens * s.state_heads * s.features;
  factors.push = {u32(count),
                  u32(s.state_heads),
                  u32(s.kv_heads),
                  u32(s.features),
                  u32(s.key_channels()),
                  u32(s.features),
                  bits(decay.divisor),
                  bits(decay.minimum),
                  bits(decay.step_minimum),
                  bits(decay.step_maximum),
                  bits(decay.slope)};
  factors.groups = ceil_div(count, kThreads);
  l.add(std::move(factors));
}

void attend_window(Lowering& l, const Sizes& s, const Layout& at, const Rotated& rotated) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  Dispatch exact;
  exact.shader = "window_linear_attention_window";
  const uint32_t flags = (l.shapes.has_weight(4) ? 1u : 0u) | (l.shapes.has_weight(5) ? 2u : 0u) |
                         (l.shapes.has_weight(6) ? 4u : 0u) | (l.shapes.has_weight(7) ? 8u : 0u);
  exact.constants = {kThreads, u32(s.head_dim), static_cast<uint32_t>(ceil_div(s.value_dim, kThreads)),
                     flags};
  exact.bindings = {l.params(),
                    rotated.q,
                    l.in(0),
                    rotated.k,
                    l.in(2),
                    l.state(0, false),
                    l.state(1, false),
                    l.vector(4),
                    l.vector(5),
                    l.vector(6),
                    l.vector(7),
                    part(l, at.above, at.below, true),
                    part(l, at.below, at.sum, true)};
  exact.push = {u32(s.heads),     u32(s.kv_heads), u32(s.value_dim),
                u32(args.window), u32(args.sinks), bits(args.scale)};
  exact.groups = static_cast<uint64_t>(s.tokens * s.heads);
  l.add(std::move(exact));
}

void attend_state(Lowering& l, const Sizes& s, const Layout& at, const StateTiles& tiles) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  Dispatch d;
  d.shader = "window_linear_attention";
  d.constants = tiles.constants(s.features);
  d.bindings = {l.params(),
                part(l, at.key_features, at.factors, false),
                part(l, at.factors, at.query_features, false),
                part(l, at.leaving_values, at.key_features, false),
                part(l, at.query_features, at.above, false),
                part(l, at.above, at.below, false),
                part(l, at.below, at.sum, false),
                l.state(2),
                l.state(3, false),
                part(l, at.sum, at.end, true),
                l.out(0)};
  d.push = {u32(s.tokens), u32(s.heads),     u32(s.kv_heads), u32(s.state_heads), u32(s.value_dim),
            tiles.tiles,   u32(args.window), u32(args.sinks), bits(args.epsilon)};
  d.groups = static_cast<uint64_t>(s.state_heads) * tiles.tiles;
  l.add(std::move(d));
}

// The run's keys and values to the window, and the state's new sums to their place.
void store(Lowering& l, const Sizes& s, const Layout& at, const Binding& k) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  const int64_t sums = s.state_heads * s.features;
  Dispatch d;
  d.shader = "window_linear_attention_store";
  d.constants = {kThreads};
  d.bindings = {l.params(), k, l.in(2), part(l, at.sum, at.end, false), l.state(0), l.state(1), l.state(3)};
  d.push = {u32(s.tokens),    u32(s.key_channels()), u32(s.value_channels()),
            u32(args.window), u32(args.sinks),       u32(sums)};
  d.groups = ceil_div(s.tokens * (s.key_channels() + s.value_channels()) + sums, kThreads);
  l.add(std::move(d));
}

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::WindowLinearAttentionT>();
  const Layout at(l.bounds());
  const Sizes s(l.shapes);
  if (s.tokens == 0) return {};
  const StateTiles tiles(l, s.features, s.value_dim);
  LINNET_TRY(check_shared(l, std::max(s.features, s.head_dim), tiles.threads + 2 * kThreads, 2));
  const Rotated rotated = rotate(l, s, at);
  leave_window(l, s, at, rotated.k);
  features(l, s, 0, s.heads, s.heads, args.rotated_features ? rotated.q : l.in(0),
           part(l, at.query_features, at.above, true));
  attend_window(l, s, at, rotated);
  attend_state(l, s, at, tiles);
  store(l, s, at, rotated.k);
  return {};
}

}  // namespace

Lower lower_window_linear_attention() { return {run, scratch}; }

}  // namespace linnet::vulkan
