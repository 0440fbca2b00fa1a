// Mixture-of-experts layers of all families.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct Experts {
  int64_t experts = 1, top_k = 1, hidden = 0;
  fb::RouterScores scores = fb::RouterScores::Softmax;
  bool renormalize = true;
  double renormalize_epsilon = 0, scale = 1;
  fb::Activation activation = fb::Activation::Silu;
  Weight router = kAbsent, selection_bias = kAbsent;
  Rows gate, up, down;  // all experts' rows, one expert after another
  // The shared expert's matrices and the vector whose product with x is its sigmoid gate; -1: none.
  Weight shared_gate = kAbsent, shared_up = kAbsent, shared_down = kAbsent, shared_factor = kAbsent;
};

// Checks that there are experts to choose from; call before building.
void check_experts(Importer& in, int64_t experts, int64_t top_k);
// prefix.N.suffix.weight [n, k] of every expert.
Rows expert_rows(Importer& in, const std::string& prefix, const std::string& suffix, int64_t experts,
                 int64_t n, int64_t k);
// One tensor [experts, n, k], or one matrix for each expert: whichever the checkpoint has.
Rows stacked_rows(Importer& in, const std::string& name, int64_t experts, int64_t n, int64_t k);
// gate, up and down of `experts` in whichever of their published forms the checkpoint has them:
// prefix.N.{gate,up,down}_proj.weight, prefix.N.{w1,w3,w2}.weight, prefix.gate_up_proj [experts, 2n, k] with
// prefix.down_proj, or prefix.{gate,up,down}_proj.weight stacked.
void read_expert_matrices(Importer& in, const std::string& prefix, int64_t n, Experts& experts);
Value mixture_of_experts(Importer& in, const std::string& name, const Experts& experts, Value x,
                         Value residual);

}  // namespace linnet::convert
