// An engine runs the methods of one model file in memory planned beforehand, and owns the state block.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/engine/backend.h"
#include "runtime/engine/row_history.h"

namespace linnet {

struct EngineOptions {
  // Upper bounds by symbol name; a symbol of the model that is not listed is bound to 1.
  std::vector<std::pair<std::string, int64_t>> symbols;
  plan::AttentionBounds attention;
  DType cache_dtype = DType::kF32;
  DType state_dtype = DType::kF32;  // of recurrent layers: f32 or f16 (plan::Bounds)
  // Nodes of images with more than this between them run in bands of rows (plan/rows.h). The result is the
  // same.
  size_t band_bytes = size_t{64} << 20;
  int threads = 1;
  // Memory of the caller, 64-byte aligned and living as long as the engine; empty: the engine allocates.
  // Sizes as memory_required() says.
  std::span<std::byte> work, state;
  // Most memory for keys and values that left their window, so that rewind() reaches them (RowHistory).
  size_t history_bytes = 0;
  // Most memory that create() may plan, all of MemoryRequired but the weights; 0: default_memory_limit().
  size_t memory_limit = 0;
  VectorPlan vectors;  // what apply() works on
};

struct MemoryRequired {
  size_t weights_bytes =
      0;  // mapped from the file, shared between sessions, dropped by the OS under pressure
  size_t state_bytes = 0;
  size_t work_bytes = 0;
  size_t backend_bytes = 0;  // outside the plan: thread pool, device copies
  size_t history_bytes = 0;
  size_t vectors_bytes = 0;  // where the model runs
};

// Not thread safe: one call at a time. Several engines may share one ModelFile and one Backend.
// After create() nothing allocates, except where a function says so.
class Engine {
 public:
  // Checks the graph against the op catalogue and the backend, plans, allocates, prepares kernels.
  // Errors name the op that the backend lacks, the node whose shapes disagree, or the bound that is too
  // large.
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const format::ModelFile> file,
                                                const Backend& backend, const EngineOptions& options);
  static Result<MemoryRequired> memory_required(const format::ModelFile& file, const Backend& backend,
                                                const EngineOptions& options);

  const fb::ModelT& model() const { return file_->model(); }
  const format::ModelFile& file() const { return *file_; }
  const plan::Plan& plan() const { return plan_; }
  const plan::Bounds& bounds() const { return bounds_; }
  const Backend& backend() const { return backend_; }
  MemoryRequired memory() const;

  // Runs a method; `symbols` in the model's order, each at most its bound. On success position() grows by
  // `advance`. On failure the engine is poisoned: every run fails with kPoisoned until reset or restore.
  Result<void> run(size_t method, std::span<const int64_t> symbols, int64_t advance);
  // The same, for the largest elements of an output: Executable::run_for_largest().
  Result<bool> run_for_largest(size_t method, std::span<const int64_t> symbols, int64_t advance, size_t value,
                               size_t elements, std::span<Ranked> best);
  // Poisons the engine and returns the error that names the node where a non-finite value first appeared in a
  // repetition of the last run. May allocate.
  Error diagnose_non_finite(size_t method, std::span<const int64_t> symbols, int64_t position);
  // Refuses ids that an embedding's table does not have, before anything is written.
  Result<void> write_value(size_t method, size_t value, std::span<const std::byte> bytes);
  Result<void> read_value(size_t method, size_t value, std::span<std::byte> bytes);
  std::span<const std::byte> host_value(size_t method, size_t value) {
    return executable_->host_value(method, value);
  }

  // Of EngineOptions::vectors. More elements than a vector has, and slices beyond what was planned, are
  // refused.
  Result<void> write_vector(size_t vector, std::span<const float> values);
  Result<void> read_vector(size_t vector, std::span<float> values);
  // Does the operations in order. False, and nothing done, if a watched element is not finite. An error
  // poisons the engine.
  Result<bool> apply(std::span<const VectorOp> ops, const Watched& watched = {});

  int64_t position() const { return position_; }  // tokens the state has seen
  // True if rewind() can go back at all.
  bool can_rewind() const { return keeps_every_row_ || history_ != nullptr; }
  // The lowest position that rewind() can go to; position() if it can go nowhere.
  int64_t rewind_floor() const;
  // Forgets the tokens after `position`. Only where all states are keys and values by position.
  Result<void> rewind(int64_t position);
  bool poisoned() const { return poisoned_; }
  void poison() { poisoned_ = true; }

  // States to their initial values, position 0, poison lifted.
  Result<void> reset();
  // The state is one block of state_bytes(); it fits any engine of the same model and bounds, on any backend.
  size_t state_bytes() const { return plan_.state_bytes; }
  Result<void> snapshot(std::span<std::byte> block);
  Result<void> restore(std::span<const std::byte> block);  // lifts poison
  // The most tokens that a state of this session can have seen.
  int64_t most_position() const;
  // Tells apart state blocks of other models, bounds or precisions.
  uint64_t state_key() const { return state_key_; }

  // The first dimensions of logits and of what they are computed from.
  struct LogitRows {
    fb::Dim wanted, there;
  };

 private:
  Engine(std::shared_ptr<const format::ModelFile> file, const Backend& backend)
      : file_(std::move(file)), backend_(backend) {}
  Result<void> check_usable() const;  // not poisoned
  Result<void> check_run(size_t method, std::span<const int64_t> symbols) const;
  Result<void> check_slice(const VectorSlice& slice, size_t elements) const;
  Result<void> check_vector_op(const VectorOp& op) const;
  // The end of a run: moves the position on, or poisons.
  void finish_run(bool ran, int64_t advance);
  struct Free {
    size_t alignment;
    void operator()(std::byte* p) const;
  };

  std::shared_ptr<const format::ModelFile> file_;
  const Backend& backend_;
  plan::Bounds bounds_;
  plan::Plan plan_;
  VectorPlan vectors_;
  int threads_ = 1;
  std::unique_ptr<std::byte[], Free> owned_work_, owned_state_;
  std::span<std::byte> work_, state_;
  std::unique_ptr<Executable> executable_;
  std::unique_ptr<RowHistory> history_;
  bool keeps_every_row_ = false;  // all states are caches that no position leaves
  // By method and value: rows of the smallest table that the value's ids choose from; 0: it holds no ids.
  std::vector<std::vector<int64_t>> id_limits_;
  int logit_tokens_ = -1;                           // the symbol
  std::vector<std::vector<LogitRows>> logit_rows_;  // by method
  int64_t position_ = 0;
  uint64_t state_key_ = 0;
  bool poisoned_ = false;
};

}  // namespace linnet
