#include "converter/transforms/quantize.h"

#include "runtime/core/strings.h"

namespace linnet::convert {

Result<QuantizePolicy> QuantizePolicy::create(const std::string& quantize,
                                              std::vector<std::pair<std::string, DType>> keep) {
  QuantizePolicy policy;
  if (!quantize.empty() && quantize != "keep") {
    policy.asked_ = dtype_from_name(quantize);
    if (!policy.asked_ || policy.asked_ == DType::kI32)
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is no precision of weights: use q4, q4a, q8, f16, bf16 or f32", quantize));
  }
  policy.keep_ = std::move(keep);
  return policy;
}

DType QuantizePolicy::choose(const WeightPlan& weight) const {
  for (auto it = keep_.rbegin(); it != keep_.rend(); ++it)
    if (matches(it->first, weight.name)) return it->second;
  if (!asked_) return weight.rows->stored().value_or(DType::kF32);
  if (is_quantized(*asked_) && weight.role == WeightRole::kCondition) return DType::kF16;
  const bool four_bits = *asked_ == DType::kQ4 || *asked_ == DType::kQ4A;
  if (four_bits && weight.role != WeightRole::kMatrix) {
    // A table that came in four bits gains nothing from more.
    const auto stored = weight.rows->lossless();
    return stored && weight.role != WeightRole::kSmall ? *stored : DType::kQ8;
  }
  // A matrix narrower than a group would be mostly padding.
  if (is_quantized(*asked_) && weight.rows->columns < kGroupSize) return DType::kF16;
  return *asked_;
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
