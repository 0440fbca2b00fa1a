// Which type each matrix gets where a file must have a size: the bits go where a measurement says that they
// are worth most.
#pragma once

#include <map>
#include <string>

#include "converter/calibration/calibration.h"
#include "converter/calibration/rounding.h"
#include "converter/transforms/quantize.h"

namespace linnet::convert {

struct MixedOptions {
  uint64_t budget = 0;  // most bytes of all weights
  Rounding rounding;
  int threads = 2;
  std::function<bool(uint64_t done, uint64_t total)> progress;  // false stops (kCancelled)
};

struct MixedChoice {
  std::map<std::string, DType> types;  // of the weights that had a choice
  uint64_t bytes = 0;                  // of all weights
  double expected_kl = 0;              // nats a token, as far as the errors of single tensors add up
};

// Each tensor is rounded to few bits alone, and the model run over some of the text: how far its answers move
// (KL divergence from the unrounded), per error of the tensor, is the tensor's sensitivity. The types are
// those that leave the least sum of sensitivity x error within the budget (by a multiplier of Lagrange, then
// filled up). `policy` decides for tensors that are given no choice: small ones, vectors, exceptions that the
// user named. Errors: kInvalidArgument for a budget below the least possible, which is said; those of the
// rows; kCancelled.
Result<MixedChoice> choose_types(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                 const QuantizePolicy& policy, const host::HostBackend& backend,
                                 std::span<const int32_t> ids, int32_t bos, const MixedOptions& options);

}  // namespace linnet::convert
