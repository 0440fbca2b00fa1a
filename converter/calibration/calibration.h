// What the inputs of a model's matrices are on a text: what the error of each weight costs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "converter/calibration/streamed_model.h"

namespace linnet::convert {

// The rows that a matrix [N, K] was multiplied with.
struct InputStatistics {
  int64_t columns = 0;
  std::vector<float> energy;      // [K]: mean of x^2
  std::vector<float> covariance;  // [K, K]: mean of x x^T, symmetric; empty where it was not asked for
};

struct CalibrationOptions {
  int64_t length = 512;     // tokens of a sequence; each begins anew
  int64_t most = 16384;     // tokens in all
  bool covariances = true;  // false: energies alone, which need no memory to speak of
  int threads = 2;
  std::function<bool(uint64_t done, uint64_t total)> progress;  // false stops (kCancelled)
};

class Calibration {
 public:
  // Runs method "forward" over `ids`, the tokens of a text. `bos`: what every sequence begins with; -1:
  // nothing. Errors: kInvalidArgument for a text of fewer than two sequences; kOutOfMemory, with the bytes,
  // where the covariances would take more than `memory` bytes; those of the rows; kCancelled.
  static Result<Calibration> measure(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                     const host::HostBackend& backend, std::span<const int32_t> ids,
                                     int32_t bos, const CalibrationOptions& options);

  // Of the weight of this name; null for tables, vectors and matrices whose inputs an op makes inside.
  const InputStatistics* find(const std::string& weight) const;
  int64_t tokens() const { return tokens_; }

 private:
  std::map<std::string, std::shared_ptr<const InputStatistics>> by_weight_;
  int64_t tokens_ = 0;
};

// `ids` cut into sequences of `length` tokens; what is left over is not used.
std::vector<StreamedSequence> cut_sequences(std::span<const int32_t> ids, int32_t bos, int64_t length,
                                            int64_t most);

}  // namespace linnet::convert
