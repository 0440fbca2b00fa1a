#include "converter/architectures/experts.h"

#include "runtime/core/strings.h"

namespace linnet::convert {

void check_experts(Importer& in, int64_t experts, int64_t top_k) {
  if (experts < 1 || experts > 65536 || top_k < 1 || top_k > experts)
    in.fail(strf("config.json: {} of {} experts for a token is not possible", top_k, experts));
}

Rows expert_rows(Importer& in, const std::string& prefix, const std::string& suffix, int64_t experts,
                 int64_t n, int64_t k) {
  std::vector<Rows> all;
  for (int64_t e = 0; e < experts; ++e)
    all.push_back(in.rows(strf("{}.{}.{}.weight", prefix, e, suffix), {n, k}));
  return concat_rows(std::move(all));
}

Rows stacked_rows(Importer& in, const std::string& name, int64_t experts, int64_t n, int64_t k) {
  return in.rows(name, {experts, n, k});
}

void read_expert_matrices(Importer& in, const std::string& prefix, int64_t n, Experts& e) {
  const int64_t count = e.experts, k = e.hidden;
  for (const char* suffix : {"", ".weight"}) {
    const std::string both = prefix + ".gate_up_proj" + suffix;
    if (!in.has(both)) continue;
    const Rows rows = stacked_rows(in, both, count, 2 * n, k);
    e.gate = grouped_rows(rows, count, 0, n);
    e.up = grouped_rows(rows, count, n, n);
    e.down = stacked_rows(in, prefix + ".down_proj" + suffix, count, k, n);
    return;
  }
  if (in.has(prefix + ".gate_proj.weight")) {
    e.gate = stacked_rows(in, prefix + ".gate_proj.weight", count, n, k);
    e.up = stacked_rows(in, prefix + ".up_proj.weight", count, n, k);
    e.down = stacked_rows(in, prefix + ".down_proj.weight", count, k, n);
    return;
  }
  const bool named = in.has(prefix + ".0.w1.weight");  // Mixtral's names
  e.gate = expert_rows(in, prefix, named ? "w1" : "gate_proj", count, n, k);
  e.up = expert_rows(in, prefix, named ? "w3" : "up_proj", count, n, k);
  e.down = expert_rows(in, prefix, named ? "w2" : "down_proj", count, k, n);
}

Value mixture_of_experts(Importer& in, const std::string& name, const Experts& e, Value x, Value residual) {
  GraphBuilder& g = in.graph;
  fb::MixtureOfExpertsT args;
  args.experts = static_cast<int>(e.experts);
  args.top_k = static_cast<int>(e.top_k);
  args.scores = e.scores;
  args.renormalize = e.renormalize;
  args.renormalize_epsilon = static_cast<float>(e.renormalize_epsilon);
  args.scale = static_cast<float>(e.scale);
  args.activation = e.activation;
  const auto stack = [&](const char* part, const Rows& rows) {
    return g.expert_matrices(name + ".experts." + part, WeightRole::kMatrix, rows, e.experts);
  };
  std::vector<Value> inputs = {x};
  if (residual) inputs.push_back(residual);
  return g.node(name, GraphBuilder::args(std::move(args)), std::move(inputs),
                {e.router, e.selection_bias, stack("gate", e.gate), stack("up", e.up), stack("down", e.down),
                 e.shared_gate, e.shared_up, e.shared_down, e.shared_factor},
                {}, {g.shape(x)})[0];
}

}  // namespace linnet::convert
