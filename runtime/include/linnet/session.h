// One conversation with a language model, token by token, in memory fixed when the session is created.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "linnet/model.h"
#include "linnet/ranked.h"
#include "linnet/result.h"

namespace linnet {

class Backend;
class Engine;

enum class CachePrecision { kF32, kF16, kQ8 };

struct SessionOptions {
  // Tokens processed in one run of a prefill; bounds the work memory. 1 to 65,536.
  int64_t chunk = 256;
  // Softmax layers. false: a sliding window plus attention sinks (StreamingLLM): memory is bounded and the
  // conversation never ends. true: every token is kept, exact, up to `context` tokens.
  bool full_attention = false;
  int64_t window = 1024;
  int64_t sinks = 4;
  int64_t context = 4096;
  CachePrecision cache = CachePrecision::kF16;
  // Matrices of recurrent layers: kF32 or kF16. Half the memory and its traffic, for errors that a slow decay
  // keeps for long (docs/performance.md has what they cost). CPU and reference backends.
  CachePrecision recurrent = CachePrecision::kF32;
  int threads = 1;
  // Most memory for keys and values that left the window, so that rewind() can go back to where they were in
  // it. Taken at creation; used only where all states are such caches.
  size_t history_bytes = 0;
  // Most memory that the session may plan, state, work and history together; 0: three quarters of the
  // machine's memory (or of what its container may use). create() refuses more with kOutOfMemory and the
  // numbers.
  size_t memory_limit = 0;
  // Memory of the caller (64-byte aligned, outliving the session) of the sizes memory_required() says; empty:
  // the session allocates.
  std::span<std::byte> work, state;
};

struct SessionMemory {
  size_t weights_bytes = 0;  // mapped, read-only, shared
  size_t state_bytes = 0;    // fixed size of the conversation's state
  size_t work_bytes = 0;     // activations and scratch
  size_t backend_bytes = 0;  // taken by the backend outside the plan
  size_t history_bytes = 0;  // of SessionOptions::history_bytes
};

// Not thread safe; sessions are independent of each other and may run on different threads. Nothing is
// allocated after create() by prefill, decode, reset, snapshot and restore.
//
// After an error in the middle of a run the session is poisoned: every run fails with kPoisoned until
// reset(), restore() or load(). A refused argument (token out of range, context full) does not poison.
class Session {
 public:
  static Result<SessionMemory> memory_required(const Model& model, const Backend& backend,
                                               const SessionOptions& options);
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model, const Backend& backend,
                                                 const SessionOptions& options);
  ~Session();

  // Called between chunks with tokens done and tokens in all; return false to stop (kCancelled; the session
  // stands after the chunk that was done and is not poisoned).
  using Progress = std::function<bool(int64_t done, int64_t total)>;

  // Feeds tokens and returns the logits after the last one, [vocabulary] f32, valid until the next call.
  // Errors: empty input, id out of range, more tokens than the context has left (full attention), kNumeric.
  Result<std::span<const float>> prefill(std::span<const int32_t> tokens, const Progress& progress = {});
  Result<std::span<const float>> decode(int32_t token) { return prefill({&token, 1}); }
  // Feeds a token as decode() does and returns only the `count` largest of its logits (1 to kMostRanked;
  // fewer if the vocabulary is smaller), the largest first and of equal ones the lower id. A GPU finds them
  // and keeps the others. Valid until the next call.
  Result<std::span<const Ranked>> decode_largest(int32_t token, size_t count);
  // All logits after the last token fed, for who finds those of decode_largest() too few. Copies, and the
  // first time allocates, where the session runs on a GPU. Valid until the next call; not after reset(),
  // restore(), load() or rewind().
  Result<std::span<const float>> logits();

  int64_t position() const;  // tokens fed since reset
  // Tokens that can still be fed; -1 without limit.
  int64_t remaining() const;
  bool poisoned() const;
  Result<void> reset();

  // The state is one block of state_bytes(); snapshots are plain bytes that fit any session of the same model
  // and options, on any backend.
  size_t state_bytes() const;
  Result<void> snapshot(std::span<std::byte> block) const;
  Result<void> restore(std::span<const std::byte> block);
  // A new session at the same point; allocates its own memory.
  Result<std::unique_ptr<Session>> fork() const;
  // Forgets the tokens after `position` without a snapshot. Possible down to rewind_floor(), kUnsupported
  // below: where every state is a cache of keys and values, to 0 with full attention and as far as
  // `history_bytes` reach with a window. Elsewhere the floor is position().
  Result<void> rewind(int64_t position);
  int64_t rewind_floor() const;
  bool can_rewind() const;  // that there is such a way back, whatever the floor is now

  // Writes the state and `attachment` (a caller's bytes, such as the history) to a file, which comes into
  // being whole or not at all. A pipe or a character device is written to. Errors: kInvalidArgument for a
  // path that cannot be written, and without `replace` for a file that is there; kNotFound (its folder), kIo.
  Result<void> save(const std::string& path, std::span<const std::byte> attachment = {},
                    bool replace = true) const;
  // Returns the attachment. Refuses a file of another model, other options, another version, or a damaged
  // one; the session is then unchanged.
  Result<std::vector<std::byte>> load(const std::string& path);

  const Model& model() const { return *model_; }
  SessionMemory memory() const;
  const Engine& engine() const { return *engine_; }

 private:
  Session();
  // What the public functions of like names do, without their guard against exceptions.
  static Result<std::unique_ptr<Session>> make(std::shared_ptr<const Model> model, const Backend& backend,
                                               const SessionOptions& options);
  Result<std::span<const float>> feed(std::span<const int32_t> tokens, const Progress& progress);
  Result<std::span<const Ranked>> feed_for_largest(int32_t token, size_t count);
  Result<std::span<const float>> read_logits();
  Result<void> check_tokens(std::span<const int32_t> tokens) const;
  // Writes the ids of the next run and its symbols.
  Result<void> write_tokens(std::span<const int32_t> tokens, bool with_logits);
  std::shared_ptr<const Model> model_;
  const Backend* backend_ = nullptr;
  SessionOptions options_;
  std::unique_ptr<Engine> engine_;
  std::vector<int64_t> symbols_;
  size_t method_ = 0, ids_ = 0, logits_ = 0;
  int tokens_symbol_ = -1, logit_tokens_symbol_ = -1;
  std::array<Ranked, kMostRanked> largest_{};
  std::vector<float> row_;  // of logits(), where the host cannot address them
};

}  // namespace linnet
