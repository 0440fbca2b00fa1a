// Bands of rows: images whose values are too large for memory (and caches) are not computed node by node but
// a few rows at a time through a run of nodes, each of which needs only rows near those that it writes. The
// values between the nodes are then buffers of some rows. The result is the same bit for bit, because every
// kernel computes a row from the same inputs in the same order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/graph/op_traits.h"

namespace linnet::plan {

using graph::Rows;

// Nodes [first, last) of a method that run in bands.
struct RowSegment {
  int first = 0, last = 0;
  int reference = 0;             // the value that sets the pace
  int64_t band = 1;              // rows of it that a step adds
  std::vector<uint8_t> written;  // by value: 1 if a node of the segment writes it
  // By node from `first` on: most rows of input 0 and of the outputs in one call, at the bounds.
  std::vector<int64_t> in_rows, out_rows;
};

// How far a value has come: its buffer holds rows [first, done).
struct RowCursor {
  int64_t first = 0, done = 0, need = 0;
};

// Whether a node computes rows of images [height, width, channels] from rows of such images.
bool row_wise(const fb::MethodT& method, const fb::NodeT& node);
// Whether input i is such an image (and not, say, a modulation).
bool row_input(const fb::NodeT& node, size_t i);
// Of nodes that are row_wise(). Output rows come in multiples of this (but for the last).
int64_t row_unit(const fb::NodeT& node);
// The rows of input i, of height `height`, that output rows `out` are computed from.
Rows input_rows(const fb::NodeT& node, size_t i, Rows out, int64_t height);

// The first row of `value` that any node of the segment still needs, all that it has written being `done`.
int64_t first_needed(const fb::MethodT& method, const RowSegment& segment, int value,
                     std::span<const int64_t> heights, std::span<const RowCursor> cursors);

// Runs a segment: visit(node, out) for each node and band, in an order in which inputs are ready; `out`
// begins at the outputs' cursor.done, which moves on after the visit. Heights and cursors by value; band_rows
// 0: a value that is held whole.
template <typename Visit>
void run_rows(const fb::MethodT& method, const RowSegment& segment, std::span<const int64_t> band_rows,
              std::span<const int64_t> heights, std::span<RowCursor> cursors, const Visit& visit) {
  const auto at = [](int index) { return static_cast<size_t>(index); };
  for (int n = segment.first; n < segment.last; ++n)
    for (const int v : method.nodes[at(n)]->outputs) cursors[at(v)] = {};
  const int64_t pace = heights[at(segment.reference)];
  for (int64_t target = segment.band;; target += segment.band) {
    for (int n = segment.first; n < segment.last; ++n)
      for (const int v : method.nodes[at(n)]->outputs) {
        RowCursor& cursor = cursors[at(v)];
        const int64_t due = (std::min(target, pace) * heights[at(v)] + pace - 1) / std::max<int64_t>(pace, 1);
        cursor.need = band_rows[at(v)] == 0 ? std::max(due, cursor.done) : cursor.done;
      }
    for (int n = segment.last; n-- > segment.first;) {
      const fb::NodeT& node = *method.nodes[at(n)];
      const int64_t unit = row_unit(node);
      int64_t need = 0;
      for (const int v : node.outputs) need = std::max(need, cursors[at(v)].need);
      need = std::min((need + unit - 1) / unit * unit, heights[at(node.outputs[0])]);
      for (const int v : node.outputs) cursors[at(v)].need = need;
      const Rows out{cursors[at(node.outputs[0])].done, need};
      for (size_t i = 0; i < node.inputs.size() && out.begin < out.end; ++i) {
        const int v = node.inputs[i];
        if (v < 0 || !segment.written[at(v)] || !row_input(node, i)) continue;
        RowCursor& cursor = cursors[at(v)];
        cursor.need = std::max(cursor.need, input_rows(node, i, out, heights[at(v)]).end);
      }
    }
    for (int n = segment.first; n < segment.last; ++n) {
      const fb::NodeT& node = *method.nodes[at(n)];
      const Rows out{cursors[at(node.outputs[0])].done, cursors[at(node.outputs[0])].need};
      if (out.begin >= out.end) continue;
      visit(n, out);
      for (const int v : node.outputs) cursors[at(v)].done = out.end;
    }
    if (target >= pace) return;
  }
}

// The segments of a method at the bounds, and by value the rows of its buffer (0: held whole). A run of nodes
// becomes a segment where the values between its nodes exceed `band_bytes`; a band of the largest then has a
// sixteenth of that.
struct RowPlan {
  std::vector<RowSegment> segments;
  std::vector<int64_t> band_rows;
};
RowPlan plan_rows(const fb::MethodT& method, std::span<const int64_t> symbols, size_t band_bytes);

}  // namespace linnet::plan
