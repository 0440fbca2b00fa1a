// Which precision each tensor of a file gets.
#pragma once

#include <map>
#include <span>
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
// without loss when its format is the one asked for, or when nothing was asked, and stays as it is where few
// bits are asked for and its codes have no more (`keep` forces another); but low-rank pairs that lie in 16 or
// 32 bits beside matrices in block formats (llama.cpp leaves RWKV-7's in f32) become q8: they are a fifth of
// what is read for a token, and their error is far below that of the matrices (docs/models.md). The few
// projections of an image model that carry time, caption and output stay at 16 bits, and where q8 is asked
// for the first layer of its text encoder does too: they cost the picture most (docs/models.md).
class QuantizePolicy {
 public:
  // `quantize`: a dtype name, or "" / "keep" for "as stored". `keep`: exceptions by pattern (with * and ?),
  // the last that matches wins. Error: an unknown name.
  static Result<QuantizePolicy> create(const std::string& quantize,
                                       std::vector<std::pair<std::string, DType>> keep);

  // What the file's matrices are stored in; before choose().
  void look_at(std::span<const WeightPlan> weights);

  // For weights in panels.
  DType choose(const WeightPlan& weight) const;
  // Whether the user named a type for it.
  bool excepts(const WeightPlan& weight) const;
  // Types that were chosen by measurement (calibration/mixed_precision.h), before what `quantize` says.
  void assign(std::map<std::string, DType> types) { assigned_ = std::move(types); }

 private:
  std::optional<DType> asked_;
  bool low_rank_in_q8_ = false;
  std::vector<std::pair<std::string, DType>> keep_;
  std::map<std::string, DType> assigned_;
};

// Bytes of a weight in panels; experts' padding to whole panels not counted.
uint64_t weight_bytes(const WeightPlan& weight, DType dtype);

// True if `name` matches `pattern`, in which * is any run of characters and ? is any one.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace linnet::convert
