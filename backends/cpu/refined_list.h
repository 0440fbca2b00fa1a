// The end of a quantised row: which of its groups have a second term, and those terms. Included by the
// per-instruction-set files, so everything in it has internal linkage.
#pragma once

#include "backends/cpu/matmul.h"

namespace linnet::cpu {
namespace {

class RefinedList {
 public:
  // `end` is behind the row's groups.
  RefinedList(ActivationGroup* end, size_t capacity)
      : list_(reinterpret_cast<int32_t*>(end)),
        second_(reinterpret_cast<ActivationGroup*>(reinterpret_cast<std::byte*>(end) +
                                                   refined_list_bytes(capacity))) {}

  int32_t count() const { return list_[0]; }
  int32_t index(int32_t i) const { return list_[1 + i]; }
  ActivationGroup& second(int32_t i) const { return second_[i]; }

  // In double, where the products are exact, so that every target chooses the same groups. A NaN chooses
  // none: the row's outputs are NaN by the first terms already.
  void choose(const ActivationGroup* group, size_t groups) {
    double total = 0;
    for (size_t g = 0; g < groups; ++g)
      total += static_cast<double>(group[g].d) * static_cast<double>(group[g].d);
    int32_t count = 0;
    for (size_t g = 0; g < groups; ++g) {
      const double own = static_cast<double>(group[g].d) * static_cast<double>(group[g].d);
      if (8 * own > total && static_cast<double>(groups) * own > 3 * total)
        list_[++count] = static_cast<int32_t>(g);
    }
    list_[0] = count;
  }

 private:
  int32_t* list_;
  ActivationGroup* second_;
};

}  // namespace
}  // namespace linnet::cpu
