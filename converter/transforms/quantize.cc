#include "converter/transforms/quantize.h"

#include <algorithm>

#include "format/panel.h"
#include "runtime/core/dtype_names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

Result<QuantizePolicy> QuantizePolicy::create(const std::string& quantize,
                                              std::vector<std::pair<std::string, DType>> keep) {
  QuantizePolicy policy;
  if (!quantize.empty() && quantize != "keep") {
    policy.asked_ = dtype_from_name(quantize);
    if (!policy.asked_ || !can_be_used_as(*policy.asked_, kWeights))
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is no precision of weights: use {}", quantize, one_of(kWeightTypes)));
  }
  policy.keep_ = std::move(keep);
  return policy;
}

void QuantizePolicy::look_at(std::span<const WeightPlan> weights) {
  low_rank_in_q8_ = std::any_of(weights.begin(), weights.end(), [](const WeightPlan& w) {
    const auto stored = w.rows->stored();
    return w.role == WeightRole::kMatrix && w.layout == fb::Layout::Panel && stored && is_quantized(*stored);
  });
}

DType QuantizePolicy::choose(const WeightPlan& weight) const {
  for (auto it = keep_.rbegin(); it != keep_.rend(); ++it)
    if (matches(it->first, weight.name)) return it->second;
  if (const auto found = assigned_.find(weight.name); found != assigned_.end()) return found->second;
  if (!asked_) {
    const DType stored = weight.rows->stored().value_or(DType::kF32);
    const bool wide = !is_quantized(stored) && weight.rows->columns % kGroupSize == 0;
    return low_rank_in_q8_ && wide && weight.role == WeightRole::kLowRank ? DType::kQ8 : stored;
  }
  if (is_quantized(*asked_) && weight.role == WeightRole::kCondition) return DType::kF16;
  const bool coarse = is_coarse(*asked_);
  if (is_quantized(*asked_) && !coarse && weight.role == WeightRole::kFirst) return DType::kF16;
  if (coarse && weight.role != WeightRole::kMatrix && weight.role != WeightRole::kFirst) {
    // A table that came in few bits gains nothing from more.
    const auto stored = weight.rows->lossless();
    const bool small = weight.role == WeightRole::kSmall || weight.role == WeightRole::kLowRank;
    return stored && !small ? *stored : DType::kQ8;
  }
  // Codes of four bits that are rounded to other codes of four bits lose a quarter of the perplexity of a
  // small model (docs/performance.md, "Perplexity"); as they are they lose nothing and take half a bit more.
  if (const auto stored = weight.rows->lossless();
      stored && coarse && code_bits(*stored) <= code_bits(*asked_))
    return *stored;
  // A matrix narrower than a group would be mostly padding.
  if (is_quantized(*asked_) && weight.rows->columns < kGroupSize) return DType::kF16;
  return *asked_;
}

bool QuantizePolicy::excepts(const WeightPlan& weight) const {
  return std::any_of(keep_.begin(), keep_.end(),
                     [&](const auto& exception) { return matches(exception.first, weight.name); });
}

uint64_t weight_bytes(const WeightPlan& weight, DType dtype) {
  return format::matrix_bytes(dtype, weight.rows->rows, weight.rows->columns);
}

bool matches(const std::string& pattern, const std::string& name) {
  size_t p = 0, n = 0, star = std::string::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace linnet::convert
