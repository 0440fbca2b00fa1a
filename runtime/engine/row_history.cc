#include "runtime/engine/row_history.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/ring_slot.h"

namespace linnet {

size_t RowHistory::Cache::slot(int64_t position) const {
  return offset + static_cast<size_t>(ring_slot(position, ring.sinks, ring.capacity)) * row_bytes;
}

int64_t RowHistory::Cache::oldest(int64_t position) const {
  return std::max(ring.sinks, position - (ring.capacity - ring.sinks));
}

std::vector<RowHistory::Cache> RowHistory::caches_of(const plan::Plan& plan) {
  std::vector<Cache> caches;
  for (const plan::StatePlan& state : plan.states) {
    if (!state.ring) return {};  // of another kind: it cannot be turned back row by row
    const size_t row_bytes = state.bytes / static_cast<size_t>(std::max<int64_t>(1, state.ring->capacity));
    if (row_bytes == 0) return {};
    caches.push_back({state.offset, row_bytes, *state.ring, 0});
  }
  // What keeps every position needs no history.
  std::erase_if(caches, [](const Cache& c) { return c.ring.window >= c.ring.capacity; });
  return caches;
}

int64_t RowHistory::rows_for(std::span<const Cache> caches, size_t budget) {
  size_t row = 0;
  int64_t longest = 0;
  for (const Cache& cache : caches) {
    row += cache.row_bytes;
    longest = std::max(longest, cache.ring.capacity);
  }
  const auto rows = static_cast<int64_t>(row == 0 ? 0 : budget / row);
  // Less than a ring would not even reach back to the last row that is still there.
  return rows > longest ? rows : 0;
}

size_t RowHistory::bytes_required(const plan::Plan& plan, size_t budget) {
  const std::vector<Cache> caches = caches_of(plan);
  size_t bytes = 0;
  for (const Cache& cache : caches) bytes += cache.row_bytes * static_cast<size_t>(rows_for(caches, budget));
  return bytes;
}

std::unique_ptr<RowHistory> RowHistory::create(const plan::Plan& plan, size_t budget) {
  std::unique_ptr<RowHistory> history(new RowHistory);
  history->caches_ = caches_of(plan);
  history->rows_ = rows_for(history->caches_, budget);
  if (history->rows_ == 0) return nullptr;
  for (Cache& cache : history->caches_) {
    cache.history = history->memory_bytes_;
    history->memory_bytes_ += cache.row_bytes * static_cast<size_t>(history->rows_);
  }
  history->memory_.reset(new std::byte[history->memory_bytes_]);
  // Resident from the start: memory does not grow with the conversation.
  std::memset(history->memory_.get(), 0, history->memory_bytes_);
  return history;
}

std::byte* RowHistory::kept(const Cache& cache, int64_t position) const {
  return memory_.get() + cache.history + static_cast<size_t>(position % rows_) * cache.row_bytes;
}

void RowHistory::keep(std::span<const std::byte> state, int64_t from, int64_t to) {
  for (const Cache& cache : caches_)
    for (int64_t p = std::max(from, cache.oldest(to)); p < to; ++p)
      std::memcpy(kept(cache, p), state.data() + cache.slot(p), cache.row_bytes);
  end_ = to;
  begin_ = std::max(begin_, end_ - rows_);
}

void RowHistory::follow(std::span<const std::byte> state, int64_t from, int64_t to) {
  if (from != end_) return restart(state, to);
  keep(state, from, to);
}

void RowHistory::restart(std::span<const std::byte> state, int64_t position) {
  // All rings must have the rows that the history claims to hold.
  begin_ = 0;
  for (const Cache& cache : caches_)
    if (cache.oldest(position) > cache.ring.sinks) begin_ = std::max(begin_, cache.oldest(position));
  keep(state, begin_, position);
}

int64_t RowHistory::floor() const {
  // Of rows before begin_ only the sinks are there, which no ring ever loses.
  int64_t lowest = 0;
  for (const Cache& cache : caches_) {
    const int64_t first = std::min(begin_, cache.oldest(end_));
    if (first > cache.ring.sinks) lowest = std::max(lowest, first + cache.ring.window - 1);
  }
  return std::min(lowest, end_);
}

void RowHistory::rewind(std::span<std::byte> state, int64_t to) {
  for (const Cache& cache : caches_) {
    const int64_t there = cache.oldest(end_);
    for (int64_t p = std::max(cache.oldest(to), begin_); p < std::min(to, there); ++p)
      std::memcpy(state.data() + cache.slot(p), kept(cache, p), cache.row_bytes);
  }
  end_ = to;
}

}  // namespace linnet
