// The static memory plan: where every value, scratch buffer and state lives, decided before anything runs.
//
// Three regions: weights (mapped from the file, not planned), state (one block per session, so that reset,
// snapshot, restore, fork and save are one copy) and work (values and scratch, placed by lifetime). The plan
// is a deterministic function of the model, the bounds and the backend's scratch needs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/graph/op_traits.h"
#include "runtime/plan/rows.h"
#include "runtime/plan/tensor.h"

namespace linnet::plan {

inline constexpr size_t kAlignment = 64;
// Kernels may read, never use, up to this many bytes past a buffer (vector tails).
inline constexpr size_t kOverread = 64;
// Front of the state block: the position (int64), the rest zero.
inline constexpr size_t kStateHeaderBytes = 64;

// How causal softmax layers keep keys and values.
struct AttentionBounds {
  bool full = true;       // false: window + sinks, memory independent of the conversation's length
  int64_t window = 1024;  // keys a query sees beside the sinks, itself included
  int64_t sinks = 4;      // first tokens, kept forever at the front of the cache (StreamingLLM)
};

struct Bounds {
  std::vector<int64_t> symbols;  // upper bound of each symbol of the model
  AttentionBounds attention;
  DType cache_dtype = DType::kF32;  // precision of keys and values: f32, f16 or q8
  // Precision of the matrices of recurrent layers, f32 or f16: where can_be_half() says so, others stay f32.
  DType state_dtype = DType::kF32;
  size_t band_bytes = SIZE_MAX;  // images larger than this between row-wise nodes run in bands (rows.h)
};

// The ring of a node at the bounds; nothing where it keeps no keys and values.
std::optional<Ring> ring_of(const fb::NodeT& node, const fb::ModelT& model, const Bounds& bounds);

struct Buffer {
  size_t bytes = 0;
  size_t offset = 0;
  int first = 0;  // node index before which it must exist
  int last = 0;   // node index after which it is dead
};
// By state: whether all kernels that use it can keep it in f16.
std::vector<bool> can_be_half(const fb::ModelT& model);

// Places buffers by the greedy rule "largest first into the first gap that fits" and returns the arena size.
// Offsets are multiples of kAlignment.
size_t place_buffers(std::vector<Buffer>& buffers);
// True if two buffers that live at the same time share bytes: make_plan asks it of every plan it makes.
bool any_overlap(const std::vector<Buffer>& buffers);

struct StatePlan {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  size_t offset = 0;  // in the state block
  size_t bytes = 0;
  std::optional<Ring> ring;  // of a state that holds a ring's rows: keys or values of a causal layer
};

struct MethodPlan {
  std::vector<Buffer> values;   // by value index; offsets in the work arena
  std::vector<Buffer> scratch;  // by node index; bytes may be 0
  RowPlan rows;                 // nodes that run in bands of rows
  size_t work_bytes = 0;
};

struct Plan {
  std::vector<MethodPlan> methods;
  std::vector<StatePlan> states;
  size_t work_bytes = 0;   // the largest method's: methods run one after another
  size_t state_bytes = 0;  // including the header
};

// Bytes a node of `method` needs for itself while it runs, at the bounds.
using ScratchBytes = std::function<size_t(size_t method, size_t node, const Plan& partial)>;

// Errors: an unbound or non-positive symbol, a size beyond 2^48, a cache precision the head size forbids,
// keys or values that two layers see through different windows.
Result<Plan> make_plan(const fb::ModelT& model, const Bounds& bounds, const ScratchBytes& scratch);

}  // namespace linnet::plan
