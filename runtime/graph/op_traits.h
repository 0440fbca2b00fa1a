// What an op is to those who do not compute it. The plan, the engine, the executors, the converter's self
// test and the command's reports ask here and know no op by name. The traits of an op stand above its rule in
// rules_*.cc; none has a default, so an op whose traits leave one out does not compile, and one without any
// does not link.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include "runtime/graph/ops.h"

namespace linnet::graph {

// A member that must be given.
template <typename T>
struct Given {
  template <std::convertible_to<T> U>
  constexpr Given(U given) : value(static_cast<T>(given)) {}
  constexpr operator T() const { return value; }
  T value;
};

// What a run changes in the states of a node: what has to be kept to take tokens back (a position that a
// person returns to, tokens that a draft proposed and the model then refused).
enum class StateChange : uint8_t {
  kNothing,    // the op has no states
  kRingRows,   // a token writes its row of a ring of keys and values, once: only overwritten rows are lost
  kRecurrent,  // every token changes a state that all tokens before share: only a copy brings it back
};

// What the ring of a node that caches keys and values must hold.
struct KeyValueCache {
  int64_t window;  // keys a query sees, itself included; 0: all
};

struct StateTraits {
  Given<StateChange> change;
  Given<uint32_t> half;  // bit i: kernels can keep state i in f16
  // Of ops that change ring rows, null for the others. Called for nodes that have states.
  Given<KeyValueCache (*)(const fb::NodeT&)> cache;
};
inline constexpr StateTraits kStateless = {.change = StateChange::kNothing, .half = 0, .cache = nullptr};
constexpr StateTraits recurrent(uint32_t half) {
  return {.change = StateChange::kRecurrent, .half = half, .cache = nullptr};
}

enum class WeightUse : uint8_t {
  kVector,   // read whole for each token: norms, biases, decays, small tables and maps
  kTable,    // rows of it are looked up by the ids of input `ids`
  kMatrix,   // multiplied with every row of the input
  kExperts,  // matrices one behind another, of which a row of the input meets `share`
  kKernel,   // a convolution's, which meets every pixel
  kHead,     // a matrix [vocabulary, K] that is multiplied with the last rows alone, as many as are asked for
};
struct WeightRead {
  WeightUse use;
  double share = 1;
  int ids = -1;
  int input =
      0;  // of matrices and experts: the input whose rows are multiplied; -1: what the op makes inside
};
// Where all weights are vectors, or there are none.
inline WeightRead only_vectors(const fb::NodeT&, size_t) { return {WeightUse::kVector}; }

struct Rows {
  int64_t begin = 0, end = 0;
};

// How an op computes rows of images [height, width, channels] from rows of such images (plan/rows.h).
struct RowTraits {
  Given<uint32_t> images;                     // bit i: input i is such an image; the others are read whole
  Given<bool (*)(const fb::NodeT&)> able;     // whether the node's arguments allow it
  Given<int64_t (*)(const fb::NodeT&)> unit;  // output rows come in multiples of this (but for the last)
  // The rows of input 0, of height `height`, that output rows `out` are computed from. Of the other images it
  // is the rows `out` themselves.
  Given<Rows (*)(const fb::NodeT&, Rows out, int64_t height)> input_rows;
};

struct OpTraits {
  StateTraits states;
  Given<WeightRead (*)(const fb::NodeT&, size_t weight)> weight;
  Given<const RowTraits*> rows;  // null: a node needs its inputs whole
};

const OpTraits& traits_of(const fb::NodeT& node);
// Nothing where the node keeps no keys and values.
std::optional<KeyValueCache> cache_of(const fb::NodeT& node);
// How the node reads its weight i, which is there.
inline WeightRead weight_read(const fb::NodeT& node, size_t i) { return traits_of(node).weight(node, i); }
// Whether the node scores the vocabulary: one of its weights is a head.
bool gives_logits(const fb::NodeT& node);

}  // namespace linnet::graph
