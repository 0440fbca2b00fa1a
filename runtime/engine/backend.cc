#include "runtime/engine/backend.h"

#include <algorithm>
#include <cmath>

namespace linnet {
namespace {

// `best` stays sorted; most elements are refused by one comparison.
bool find_largest(std::span<const float> row, std::span<Ranked> best) {
  size_t kept = 0;
  bool finite = true;
  for (size_t i = 0; i < row.size(); ++i) {
    finite &= std::isfinite(row[i]);
    const Ranked next{static_cast<int32_t>(i), row[i]};
    if (kept < best.size()) {
      ++kept;
    } else if (!(next.value > best.back().value)) {
      continue;
    }
    size_t at = kept - 1;
    for (; at > 0 && next.value > best[at - 1].value; --at) best[at] = best[at - 1];
    best[at] = next;
  }
  return finite;
}

}  // namespace

Result<bool> Executable::run_for_largest(size_t method, std::span<const int64_t> symbols, int64_t position,
                                         size_t value, size_t elements, std::span<Ranked> best) {
  LINNET_TRY(run(method, symbols, position));
  const std::span<const std::byte> bytes = host_value(method, value);
  return find_largest({reinterpret_cast<const float*>(bytes.data()), elements}, best);
}

}  // namespace linnet
