#include <algorithm>
#include <iterator>
#include <map>
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
  std::vector<size_t> born, dead;
  for (size_t i = 0; i < buffers.size(); ++i)
    if (buffers[i].bytes > 0 && buffers[i].first <= buffers[i].last) born.push_back(i);
  dead = born;
  std::sort(born.begin(), born.end(),
            [&](size_t a, size_t b) { return buffers[a].first < buffers[b].first; });
  std::sort(dead.begin(), dead.end(), [&](size_t a, size_t b) { return buffers[a].last < buffers[b].last; });
  // What lives at one node, by offset: as long as nothing overlaps, only neighbours can.
  std::map<size_t, size_t> live;
  size_t buried = 0;
  for (const size_t index : born) {
    const Buffer& buffer = buffers[index];
    for (; buffers[dead[buried]].last < buffer.first; ++buried) live.erase(buffers[dead[buried]].offset);
    const auto after = live.lower_bound(buffer.offset);
    const size_t end = buffer.offset + buffer.bytes;
    if (after != live.end() && after->first < end) return true;
    if (after != live.begin() && std::prev(after)->second > buffer.offset) return true;
    live.emplace_hint(after, buffer.offset, end);
  }
  return false;
}

}  // namespace linnet::plan
