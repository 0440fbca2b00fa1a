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
  if (residual >= 0) inputs.push_back(residual);
  return g.node(name, GraphBuilder::args(std::move(args)), std::move(inputs),
                {e.router, e.selection_bias, stack("gate", e.gate), stack("up", e.up), stack("down", e.down),
                 e.shared_gate, e.shared_up, e.shared_down, e.shared_factor},
                {}, {g.shape(x)})[0];
}

}  // namespace linnet::convert
