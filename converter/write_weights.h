// The weights of a file under construction, quantised and written one after another.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "converter/calibration/rounding.h"
#include "converter/convert.h"
#include "converter/transforms/quantize.h"
#include "format/writer.h"

namespace linnet::convert {

// Errors of all below: those of the rows; kCancelled.
struct Written {
  std::map<std::string, int> by_dtype;
  int lossless = 0, requantized = 0, calibrated = 0;
  int64_t parameters = 0;
  std::vector<ConvertReport::Tensor> tensors;
  uint64_t bytes = 0;  // of all tensors as stored; experts' padding to whole panels not counted
};

// The same without writing: every tensor's type, bytes and the error of its rounding.
Result<std::vector<ConvertReport::Tensor>> measure_weights(const ConvertOptions& options,
                                                           const QuantizePolicy& policy,
                                                           const Rounding& rounding,
                                                           std::span<const WeightPlan> weights);

Result<Written> write_weights(const ConvertOptions& options, const QuantizePolicy& policy,
                              const Rounding& rounding, format::ModelWriter& writer,
                              std::span<const WeightPlan> weights);
// Lines for a person: how many tensors of which type.
std::vector<std::string> describe(const Written& written);

// At most a dozen of the items, one a line.
std::string listed(std::vector<std::string> items);

}  // namespace linnet::convert
