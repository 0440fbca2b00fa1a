#include <algorithm>
#include <numeric>

#include "runtime/plan/plan.h"

namespace linnet::plan {
namespace {
size_t padded(size_t bytes) { return (bytes + kOverread + kAlignment - 1) / kAlignment * kAlignment; }
bool lives_with(const Buffer& a, const Buffer& b) { return a.first <= b.last && b.first <= a.last; }
}  // namespace

size_t place_buffers(std::vector<Buffer>& buffers) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<size_t> placed;  // sorted by offset
  size_t arena = 0;
  for (const size_t index : order) {
    Buffer& buffer = buffers[index];
    if (buffer.bytes == 0) continue;
    const size_t need = padded(buffer.bytes);
    size_t offset = 0;
    for (const size_t other : placed) {
      const Buffer& taken = buffers[other];
      if (!lives_with(buffer, taken)) continue;
      if (offset + need <= taken.offset) break;
      offset = std::max(offset, taken.offset + padded(taken.bytes));
    }
    buffer.offset = offset;
    arena = std::max(arena, offset + need);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset,
                                   [&](size_t value, size_t p) { return value < buffers[p].offset; }),
                  index);
  }
  return arena;
}

bool any_overlap(const std::vector<Buffer>& buffers) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    for (size_t j = i + 1; j < buffers.size(); ++j) {
      const Buffer &a = buffers[i], &b = buffers[j];
      if (a.bytes == 0 || b.bytes == 0 || !lives_with(a, b)) continue;
      if (a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes) return true;
    }
  }
  return false;
}

}  // namespace linnet::plan
