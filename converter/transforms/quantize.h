// Which precision each tensor of a file gets.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "converter/architectures/graph_builder.h"
#include "linnet/result.h"

namespace linnet::convert {

// Matrices and experts take what was asked for. What is read whole for every token but decides little about
// the size stays finer, as users of other runtimes found necessary: gates, routers and low-rank pairs never
// go below 8 bits, nor do a separate embedding table and head when 4 bits are asked for. Vectors, norms,
// convolutions and decays are always f32. A tensor that is stored in a block format already is taken over
// without loss when its format is the one asked for, or when nothing was asked. The few projections of an
// image model that carry time, caption and output stay at 16 bits: they cost the picture most
// (docs/models.md).
class QuantizePolicy {
 public:
  // `quantize`: a dtype name, or "" / "keep" for "as stored". `keep`: exceptions by pattern (with * and ?),
  // the last that matches wins. Error: an unknown name.
  static Result<QuantizePolicy> create(const std::string& quantize,
                                       std::vector<std::pair<std::string, DType>> keep);

  // For weights in panels.
  DType choose(const WeightPlan& weight) const;

 private:
  std::optional<DType> asked_;
  std::vector<std::pair<std::string, DType>> keep_;
};

// True if `name` matches `pattern`, in which * is any run of characters and ? is any one.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace linnet::convert
