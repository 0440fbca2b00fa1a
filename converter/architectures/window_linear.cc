// A Llama whose attention sees a window and the first tokens (sinks) exactly and what has left the window
// through a gated linear state, all under one normaliser: LoLCATs' form with GLA's gate. Made by `--linearize
// window` from a Llama checkpoint and an adapter; models/smollm2-linear has the mathematics and the trainer.
#include <cmath>

#include "converter/architectures/llama.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

void import_window_linear_llama(Importer& in) {
  LlamaShape s = read_llama(in);
  s.qkv_bias = s.output_bias = in.flag("attention_bias", false);
  s.mlp_bias = in.flag("mlp_bias", false);
  const int64_t window = in.integer("window"), sinks = in.integer("sinks", 4);
  if (window < 1 || sinks < 0)
    in.fail(strf("config.json: a window of {} and {} sinks are not possible", window, sinks));
  const double divisor = in.number("gate_divisor", 16), minimum = in.number("gate_minimum", -2);
  if (divisor <= 0 || minimum > 0)
    in.fail("config.json: 'gate_divisor' must be positive and 'gate_minimum' negative, or 0 for none");
  if (!in.errors().empty()) return;
  const int64_t d = s.head_dim;
  build_llama(in, s, [&](const LlamaLayer& l) {
    fb::WindowLinearAttentionT args;
    args.heads = static_cast<int>(s.heads);
    args.kv_heads = args.state_heads = static_cast<int>(s.kv_heads);
    args.head_dim = args.value_dim = static_cast<int>(d);
    args.window = static_cast<int>(window);
    args.sinks = static_cast<int>(sinks);
    args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
    args.rope = std::make_unique<fb::RotaryEmbeddingT>(s.rope);
    args.decay = decay(fb::DecayKind::LogSigmoid);
    args.decay->divisor = static_cast<float>(divisor);
    args.decay->minimum = static_cast<float>(minimum);
    const auto map = [&](const char* part, int64_t heads) {
      const std::string name = l.name + part;
      return in.graph.tensor(name, {heads, d, d}, in.rows(name, {heads, d, d}));
    };
    const auto vector = [&](const char* part, std::vector<int64_t> shape) {
      const std::string name = l.name + part;
      int64_t n = 1;
      for (const int64_t size : shape) n *= size;
      return in.graph.tensor(name, {n}, in.rows(name, std::move(shape)));
    };
    WindowLinearWeights w;
    w.query_map = map(".feature_q", s.heads);
    w.key_map = map(".feature_k", s.kv_heads);
    w.decay.offset = vector(".gate_bias", {s.kv_heads, d});
    w.log_bias = vector(".linear_bias", {s.heads});
    w.log_gain = vector(".linear_gain", {s.heads, d});
    return window_linear_attention(in, l.name + ".mixer", std::move(args), d, l.q, l.k, l.v, w);
  });
}

}  // namespace linnet::convert
