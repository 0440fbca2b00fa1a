#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>

#include "runtime/plan/plan.h"

namespace linnet::plan {
namespace {

// Beyond this many, which no model of a known family comes near, the time of the square would be felt.
constexpr size_t kMostBySize = 8192;

size_t padded(size_t bytes) { return (bytes + kOverread + kAlignment - 1) / kAlignment * kAlignment; }
bool lives_with(const Buffer& a, const Buffer& b) { return a.first <= b.last && b.first <= a.last; }

// Largest first into the first gap: time in the square of the number.
size_t place_by_size(std::vector<Buffer>& buffers) {
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

// Gaps of an arena that grows, by size and by place.
class Gaps {
 public:
  size_t take(size_t bytes) {
    const auto found = by_size_.lower_bound({bytes, 0});
    if (found == by_size_.end()) {
      const size_t at = arena_;
      arena_ += bytes;
      return at;
    }
    const auto [size, at] = found->first;
    remove(at, size);
    if (size > bytes) add(at + bytes, size - bytes);
    return at;
  }
  void give_back(size_t at, size_t bytes) {
    auto next = by_place_.lower_bound(at);
    if (next != by_place_.end() && next->first == at + bytes) {
      bytes += next->second;
      remove(at + bytes - next->second, next->second);
      next = by_place_.lower_bound(at);
    }
    if (next != by_place_.begin()) {
      const auto [before, size] = *std::prev(next);
      if (before + size == at) {
        remove(before, size);
        at = before;
        bytes += size;
      }
    }
    add(at, bytes);
  }
  size_t arena() const { return arena_; }

 private:
  void add(size_t at, size_t bytes) {
    by_place_[at] = bytes;
    by_size_[{bytes, at}] = true;
  }
  void remove(size_t at, size_t bytes) {
    by_place_.erase(at);
    by_size_.erase({bytes, at});
  }
  std::map<size_t, size_t> by_place_;
  std::map<std::pair<size_t, size_t>, bool> by_size_;
  size_t arena_ = 0;
};

// In the order of time, each into the smallest gap that holds it: n log n, and a little more memory.
size_t place_by_time(std::vector<Buffer>& buffers) {
  std::vector<size_t> begins, ends;
  for (size_t i = 0; i < buffers.size(); ++i)
    if (buffers[i].bytes > 0 && buffers[i].first <= buffers[i].last) begins.push_back(i);
  ends = begins;
  std::stable_sort(begins.begin(), begins.end(), [&](size_t a, size_t b) {
    return buffers[a].first != buffers[b].first ? buffers[a].first < buffers[b].first
                                                : buffers[a].bytes > buffers[b].bytes;
  });
  std::stable_sort(ends.begin(), ends.end(),
                   [&](size_t a, size_t b) { return buffers[a].last < buffers[b].last; });
  Gaps gaps;
  size_t ended = 0, never = 0;  // what is never alive shares its bytes with everything
  for (const Buffer& buffer : buffers)
    if (buffer.first > buffer.last && buffer.bytes > 0) never = std::max(never, padded(buffer.bytes));
  for (const size_t index : begins) {
    Buffer& buffer = buffers[index];
    // What ended before this one begins did begin before it, for nothing ends before it begins.
    for (; ended < ends.size() && buffers[ends[ended]].last < buffer.first; ++ended)
      gaps.give_back(buffers[ends[ended]].offset, padded(buffers[ends[ended]].bytes));
    buffer.offset = gaps.take(padded(buffer.bytes));
  }
  return std::max(gaps.arena(), never);
}

}  // namespace

size_t place_buffers(std::vector<Buffer>& buffers) {
  return buffers.size() <= kMostBySize ? place_by_size(buffers) : place_by_time(buffers);
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
