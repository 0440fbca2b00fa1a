// How an op becomes dispatches. <op>.cc defines lower_<op>(); shapes were checked at load, so that it only
// says which shader runs over which operands.
#pragma once

#include <array>
#include <bit>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backends/vulkan/weights.h"
#include "runtime/graph/ops.h"
#include "runtime/plan/shapes.h"

namespace linnet::vulkan {

using Shape = plan::TensorShape;
using plan::NodeShapes;

struct Binding {
  Region region;
  bool writes = false;
};
struct Dispatch {
  std::string_view shader;
  std::vector<uint32_t> constants;  // 0 is the threads of a group
  std::vector<Binding> bindings;
  std::vector<uint32_t> push;  // after the number of groups, which comes first
  uint64_t groups = 0;         // in a line; shaders count with group_index()
  uint64_t weight_bytes = 0;   // of the weights that it reads
};

// By what a token at position p turns.
struct RopeAngle {
  enum class Kind {
    kPosition,  // p
    kSinks,     // back to where it stands inside the cache (attention sinks)
    kLeaving,   // back by p - window: the token that leaves the window
  };
  Kind kind = Kind::kPosition;
  int64_t sinks = 0, window = 0;
  bool operator==(const RopeAngle&) const = default;
  int64_t of(int64_t p) const {
    if (kind == Kind::kSinks) return (p < sinks + window - 1 ? p : sinks + window - 1) - p;
    return kind == Kind::kLeaving ? window - p : p;
  }
};
// Numbers that the host computes before each run from the position: rotary angles and the like.
struct HostTable {
  std::string key;    // equal tables are one
  size_t floats = 0;  // the most that any node needs
  size_t offset = 0;  // in the parameters
};
struct TableUse {
  size_t table = 0, floats = 0;
  std::function<void(int64_t position, float* out)> fill;
};

// Where a node's operands are. Absent ones have no buffer.
struct Operands {
  const Device* device = nullptr;
  const fb::NodeT* node = nullptr;
  const Weights* weights = nullptr;
  std::vector<Region> in, out, states;
  Region scratch, params, nowhere;
  const NodeShapes* bounds = nullptr;  // the shapes at the bounds, for which scratch was planned
  bool halves = false;                 // products may be in f16: the method allows it
  std::vector<HostTable>* tables = nullptr;
  std::vector<TableUse>* uses = nullptr;  // what this recording needs
};

// What a lowering works with: the shapes of this run and its operands.
class Lowering {
 public:
  Lowering(NodeShapes node_shapes, const Operands& operands)
      : shapes(std::move(node_shapes)), at_(operands) {}

  const NodeShapes shapes;
  template <typename T>
  const T& args() const {
    return shapes.args<T>();
  }
  const Device& device() const { return *at_.device; }
  const NodeShapes& bounds() const { return *at_.bounds; }
  bool halves() const { return at_.halves; }

  // An absent operand gives a region that may be bound and is not read.
  Binding in(size_t i) const { return {present(i < at_.in.size() ? at_.in[i] : Region()), false}; }
  Binding out(size_t i) const { return {at_.out[i], true}; }
  bool has_out(size_t i) const { return i < at_.out.size(); }
  Binding state(size_t i, bool writes = true) const { return {present(at_.states[i]), writes}; }
  Binding vector(size_t i) const;  // a tensor in rows
  const std::vector<MatrixPart>& matrix(size_t i) const;
  Binding scratch(size_t offset, size_t bytes, bool writes) const;
  Binding params() const { return {at_.params, false}; }   // shaders/params.glsl
  Binding nowhere() const { return {at_.nowhere, true}; }  // for an absent output
  // A table of `floats` numbers; the first pass over a model, which runs at the bounds, finds them all.
  Binding table(std::string key, size_t floats, std::function<void(int64_t, float*)> fill);
  // cos and sin of the angles of `rows` tokens of the run, which the host computes in double.
  Binding rope(const fb::RotaryEmbeddingT& rope, int64_t rows, const RopeAngle& angle = {});

  void add(Dispatch dispatch) {
    if (dispatch.groups > 0) dispatches_.push_back(std::move(dispatch));
  }
  const std::vector<Dispatch>& dispatches() const { return dispatches_; }

 private:
  Region present(Region region) const { return region ? region : params().region; }
  const Operands& at_;
  std::vector<Dispatch> dispatches_;
};

struct Lower {
  Result<void> (*run)(Lowering&) = nullptr;
  size_t (*scratch)(const NodeShapes&) = nullptr;  // null: none needed
};

#define LINNET_OP(pascal, snake, equation) Lower lower_##snake();
#include "runtime/graph/ops.def"
#undef LINNET_OP
Lower lowering_of(graph::OpKind kind);

inline uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }
inline uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
template <typename E>
uint32_t code(E value) {
  return static_cast<uint32_t>(value);
}
// Threads for n items: a power of two, at most `most`.
inline uint32_t threads_for(int64_t n, uint32_t most) {
  uint32_t threads = 16;
  while (threads < most && threads < n) threads *= 2;
  return threads;
}
inline uint64_t ceil_div(int64_t a, int64_t b) { return static_cast<uint64_t>((a + b - 1) / b); }

}  // namespace linnet::vulkan
