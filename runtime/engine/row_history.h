// Keys and values that have left the window of softmax layers, kept for a while so that a conversation can go
// back. A cache row is written once, for one position, and never changes: to stand at an earlier position
// again, only the rows that were overwritten since then have to come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/plan/plan.h"

namespace linnet {

// Works on the live state block of a backend that the host can address. Allocates only in create().
class RowHistory {
 public:
  // The history that `budget` bytes can keep, or null: where not every state is a ring of keys or values,
  // where nothing ever leaves one, or where the budget holds no rows.
  static std::unique_ptr<RowHistory> create(const plan::Plan& plan, size_t budget);
  // What create() would allocate.
  static size_t bytes_required(const plan::Plan& plan, size_t budget);
  size_t bytes() const { return memory_bytes_; }

  // After a run that moved the state from position `from` to `to`.
  void follow(std::span<const std::byte> state, int64_t from, int64_t to);
  // After the state became another one, at `position`.
  void restart(std::span<const std::byte> state, int64_t position);

  // The lowest position that rewind() can go to.
  int64_t floor() const;
  // Brings the rows back that a state at `to`, in [floor(), position], needs.
  void rewind(std::span<std::byte> state, int64_t to);

 private:
  struct Cache {
    size_t offset = 0, row_bytes = 0;  // in the state block
    plan::Ring ring;
    size_t history = 0;  // offset in memory_
    size_t slot(int64_t position) const;
    // The first position whose row a ring that stands at `position` still has, sinks aside.
    int64_t oldest(int64_t position) const;
  };
  static std::vector<Cache> caches_of(const plan::Plan& plan);
  static int64_t rows_for(std::span<const Cache> caches, size_t budget);
  std::byte* kept(const Cache& cache, int64_t position) const;
  void keep(std::span<const std::byte> state, int64_t from, int64_t to);

  std::vector<Cache> caches_;
  int64_t rows_ = 0;  // that each cache's history holds: positions [begin_, end_), at p % rows_
  int64_t begin_ = 0, end_ = 0;
  size_t memory_bytes_ = 0;
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace linnet
