// MoM, mixture of memories (Du et al. 2025), in flash-linear-attention's format: memories that each are a
// Gated DeltaNet over the tokens routed to them. Follows fla/layers/mom.py and fla/models/mom.
#include <cmath>

#include "converter/architectures/fla.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Memories {
  int64_t memories = 1, top_k = 1, heads = 1, key_dim = 1, value_dim = 1, kernel = 4;
  bool shared = false, single = false;
  int64_t all() const { return memories + (shared ? 1 : 0); }
};

// One projection for all memories, the shared one last: `rows` rows for each, or one set with single_kv_proj.
Projection memory_projection(Importer& in, const std::string& p, const char* which, const Memories& m,
                             int64_t rows, int64_t hidden, WeightRole role) {
  const std::string shared = p + ".shared_" + which + ".weight";
  std::vector<Rows> parts;
  for (int64_t i = 0; !m.single && i < m.memories; ++i)
    parts.push_back(in.rows(p + "." + which + "_proj." + std::to_string(i) + ".weight", {rows, hidden}));
  if (m.single || m.shared) parts.push_back(in.rows(shared, {rows, hidden}));
  return {in.graph.matrix(p + "." + which + "_proj.weight", role, concat_rows(std::move(parts)))};
}

Weight taps(Importer& in, const std::string& name, int64_t channels, int64_t kernel) {
  auto turned = transpose(in.rows(name, {channels, kernel}));
  if (!turned) return in.fail(turned.error().message), kAbsent;
  return in.graph.tensor(name, {kernel, channels}, std::move(*turned));
}

}  // namespace

void import_mom(Importer& in) {
  const FlaModel model = read_fla(in);
  Memories m;
  m.memories = in.integer("num_memories", 4);
  m.top_k = in.integer("topk", 2);
  m.heads = in.integer("num_heads", 4);
  m.key_dim = in.integer("head_dim", 256);
  m.value_dim = expanded(in, "expand_v", 1, m.key_dim, 1);
  m.kernel = in.integer("conv_size", 4);
  m.shared = in.flag("shared_mem", true);
  m.single = in.flag("single_kv_proj", false);
  in.expect("mom_backend", "gated_deltanet");
  in.expect("use_short_conv", true);
  if (m.memories < 1 || m.memories > 4096 || m.top_k < 1 || m.top_k > m.memories)
    in.fail(strf("config.json: topk {} of {} memories; Linnet takes 1 to all of up to 4096", m.top_k,
                 m.memories));
  if (m.heads < 1 || m.key_dim < 1)
    in.fail(strf("config.json: {} heads of {} channels are not possible", m.heads, m.key_dim));
  if (m.kernel < 2 || m.kernel > 16)
    in.fail(strf("config.json: convolutions of {} taps; Linnet supports 2 to 16", m.kernel));
  const bool gated = in.flag("use_output_gate", true);
  build_fla(in, model, [&](const std::string& p, Value h, Value residual, int64_t) {
    GraphBuilder& g = in.graph;
    const int64_t keys = m.heads * m.key_dim, values = m.heads * m.value_dim, hidden = model.hidden;
    const auto inputs = g.linear(p + ".inputs", h,
                                 {in.projection(p + ".q_proj", keys, hidden),
                                  memory_projection(in, p, "k", m, keys, hidden, WeightRole::kMatrix),
                                  memory_projection(in, p, "v", m, values, hidden, WeightRole::kMatrix),
                                  memory_projection(in, p, "b", m, m.heads, hidden, WeightRole::kSmall),
                                  memory_projection(in, p, "a", m, m.heads, hidden, WeightRole::kSmall),
                                  in.projection(p + ".gate", m.memories, hidden, false, WeightRole::kSmall)});
    fb::MixtureOfMemoriesT args;
    args.memories = static_cast<int>(m.memories);
    args.top_k = static_cast<int>(m.top_k);
    args.shared = m.shared;
    args.heads = static_cast<int>(m.heads);
    args.key_dim = static_cast<int>(m.key_dim);
    args.value_dim = static_cast<int>(m.value_dim);
    args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(m.key_dim)));
    args.decay = decay(fb::DecayKind::Softplus);
    args.query_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
    args.key_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
    args.beta_activation = fb::Activation::Sigmoid;
    args.kernel = static_cast<int>(m.kernel);
    args.kernel_activation = fb::Activation::Silu;
    const Weight rate = mapped_vector(in, p + ".A_log", m.heads, [](double a) { return -std::exp(a); });
    const Weight offset = in.vector(p + ".dt_bias", m.heads);
    const auto fixed = [](int64_t n) { return GraphBuilder::fixed(n); };
    const auto history = [&](const char* which, int64_t channels) {
      return g.state(p + "." + which + "_history", fb::StateRole::History,
                     {fixed(m.all()), fixed(m.kernel - 1), fixed(channels)});
    };
    const Value o = g.node(p + ".mixer", GraphBuilder::args(std::move(args)), inputs,
                           {rate, offset, taps(in, p + ".q_conv1d.weight", keys, m.kernel),
                            taps(in, p + ".k_conv1d.weight", keys, m.kernel),
                            taps(in, p + ".v_conv1d.weight", values, m.kernel)},
                           {g.state(p + ".memories", fb::StateRole::Recurrent,
                                    {fixed(m.all() * m.heads), fixed(m.key_dim), fixed(m.value_dim)}),
                            history("q", keys), history("k", keys), history("v", values)},
                           {g.like(h, values)})[0];
    const Value gate = gated ? g.linear(p + ".g", h, in.projection(p + ".g_proj", values, hidden)) : kAbsent;
    return fla_output(in, p, o, gate, fb::Activation::Silu, m.value_dim, model, residual);
  });
}

}  // namespace linnet::convert
