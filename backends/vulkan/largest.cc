#include "backends/vulkan/largest.h"

#include "linnet/ranked.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 128, kSlice = 1024;  // as in largest.comp
constexpr size_t kAlignment = 256;                 // the most that a device asks of an offset

// The lists that `elements` become in one step: their bytes, at the most that is ever asked for.
size_t step_bytes(size_t elements) {
  return align_up(ceil_div(static_cast<int64_t>(elements), kSlice) * kMostRanked * sizeof(Ranked),
                  kAlignment);
}

}  // namespace

size_t largest_bytes(size_t elements) {
  size_t bytes = 0;
  for (bool more = true; more;) {
    bytes += step_bytes(elements);
    more = elements > kSlice;
    elements = ceil_div(static_cast<int64_t>(elements), kSlice) * kMostRanked;
  }
  return bytes;
}

// Every group leaves the largest of its slice, until one group is left. A step's place does not depend on the
// count, so that the bindings are the same for every one.
FindLargest find_largest(const Region& row, const Buffer& work, size_t elements, size_t count) {
  static_assert(sizeof(Ranked) == 2 * sizeof(uint32_t));
  FindLargest out;
  Region from = row;
  size_t n = elements, most = elements, offset = 0;
  for (bool lists = false;; lists = true) {
    const uint64_t groups = ceil_div(static_cast<int64_t>(n), kSlice);
    const Region to = work.region(offset, step_bytes(most));
    Dispatch d;
    d.shader = "largest";
    d.constants = {kThreads};
    d.bindings = {{from, false}, {to, true}};
    d.push = {static_cast<uint32_t>(n), static_cast<uint32_t>(count), lists ? 1u : 0u};
    d.groups = groups;
    out.dispatches.push_back(std::move(d));
    if (groups == 1) {
      out.result = work.region(offset, count * sizeof(Ranked));
      return out;
    }
    offset += to.bytes;
    from = to;
    n = groups * count;
    most = ceil_div(static_cast<int64_t>(most), kSlice) * kMostRanked;
  }
}

}  // namespace linnet::vulkan
