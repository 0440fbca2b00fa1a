#include "runtime/plan/rows.h"

namespace linnet::plan {
namespace {

const fb::ValueT& value_at(const fb::MethodT& method, int index) {
  return *method.values[static_cast<size_t>(index)];
}
bool is_image(const fb::ValueT& value) {
  return value.shape.size() == 3 && value.dtype == fb::DType::F32 && graph::is_fixed(value.shape[2]);
}
// What the heights of a node's images are multiples of: a symbol, -1 where they are all numbers, -2 where
// they do not grow alike. Within a segment all heights must keep their ratios whatever the symbols are,
// because its buffers are measured once, at the bounds.
int height_symbol(const fb::MethodT& method, const fb::NodeT& node) {
  int common = -3;
  const auto join = [&](int value) {
    const fb::Dim& height = value_at(method, value).shape[0];
    const bool multiple = graph::is_fixed(height) || (height.div() == 1 && height.add() == 0);
    const int own = !multiple ? -2 : graph::is_fixed(height) ? -1 : height.symbol();
    common = common == -3 || common == own ? own : -2;
  };
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] >= 0 && row_input(node, i)) join(node.inputs[i]);
  for (const int v : node.outputs) join(v);
  return common;
}

// A run that would be walked in more steps than this (a node's band, and in each a look at the segment's
// nodes) is held whole: it would take longer to plan than the bands save. So would more segments.
constexpr double kMostSteps = 1 << 30;
constexpr size_t kMostSegments = 256;

// Who reads each value: nodes[first[v]] up to nodes[first[v + 1]], in order.
struct Readers {
  explicit Readers(const fb::MethodT& method) : first(method.values.size() + 1, 0) {
    for (const auto& node : method.nodes)
      for (const int v : node->inputs)
        if (v >= 0) ++first[static_cast<size_t>(v) + 1];
    for (size_t v = 1; v < first.size(); ++v) first[v] += first[v - 1];
    nodes.resize(first.back());
    std::vector<size_t> next(first.begin(), first.end() - 1);
    for (size_t n = 0; n < method.nodes.size(); ++n)
      for (const int v : method.nodes[n]->inputs)
        if (v >= 0) nodes[next[static_cast<size_t>(v)]++] = static_cast<int>(n);
  }
  std::span<const int> of(int value) const {
    const auto v = static_cast<size_t>(value);
    return std::span(nodes).subspan(first[v], first[v + 1] - first[v]);
  }
  std::vector<int> nodes;
  std::vector<size_t> first;
};

}  // namespace

bool row_input(const fb::NodeT& node, size_t i) {
  const graph::RowTraits* rows = graph::traits_of(node).rows;
  return rows && i < 32 && (rows->images >> i & 1);
}

bool row_wise(const fb::MethodT& method, const fb::NodeT& node) {
  const graph::RowTraits* rows = graph::traits_of(node).rows;
  if (!rows || !rows->able(node)) return false;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] >= 0 && row_input(node, i) && !is_image(value_at(method, node.inputs[i])))
      return false;
  for (const int v : node.outputs)
    if (v < 0 || !is_image(value_at(method, v))) return false;
  return !node.outputs.empty() && !node.inputs.empty() && node.inputs[0] >= 0 &&
         height_symbol(method, node) >= -1;
}

int64_t row_unit(const fb::NodeT& node) {
  const graph::RowTraits* rows = graph::traits_of(node).rows;
  return rows->unit(node);
}

Rows input_rows(const fb::NodeT& node, size_t i, Rows out, int64_t height) {
  if (i != 0) return out;  // residuals and gates
  const graph::RowTraits* rows = graph::traits_of(node).rows;
  return rows->input_rows(node, out, height);
}

int64_t first_needed(const fb::MethodT& method, const RowSegment& segment, int value,
                     std::span<const int64_t> heights, std::span<const RowCursor> cursors) {
  const auto at = [](int index) { return static_cast<size_t>(index); };
  int64_t first = cursors[at(value)].done;
  for (int n = segment.first; n < segment.last; ++n) {
    const fb::NodeT& node = *method.nodes[at(n)];
    const int64_t done = cursors[at(node.outputs[0])].done;
    if (done >= heights[at(node.outputs[0])]) continue;
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] == value && row_input(node, i))
        first = std::min(first, input_rows(node, i, {done, done + 1}, heights[at(value)]).begin);
  }
  return first;
}

namespace {

// Walks the segment as a run does and notes the rows that buffers and calls need.
void measure(const fb::MethodT& method, RowSegment& segment, std::span<const int64_t> heights,
             std::vector<int64_t>& band_rows) {
  const auto at = [](int index) { return static_cast<size_t>(index); };
  std::vector<RowCursor> cursors(method.values.size());
  std::vector<int64_t> most(method.values.size(), 0);
  segment.in_rows.assign(at(segment.last - segment.first), 0);
  segment.out_rows.assign(at(segment.last - segment.first), 0);
  run_rows(method, segment, band_rows, heights, cursors, [&](int n, Rows out) {
    const fb::NodeT& node = *method.nodes[at(n)];
    const size_t local = at(n - segment.first);
    const Rows in = input_rows(node, 0, out, heights[at(node.inputs[0])]);
    segment.in_rows[local] = std::max(segment.in_rows[local], in.end - in.begin);
    segment.out_rows[local] = std::max(segment.out_rows[local], out.end - out.begin);
    for (const int v : node.outputs) {
      RowCursor& cursor = cursors[at(v)];
      cursor.first = first_needed(method, segment, v, heights, cursors);
      most[at(v)] = std::max(most[at(v)], out.end - cursor.first);
    }
  });
  for (size_t v = 0; v < most.size(); ++v)
    if (segment.written[v] && band_rows[v] != 0) band_rows[v] = most[v];
}

}  // namespace

RowPlan plan_rows(const fb::MethodT& method, std::span<const int64_t> symbols, size_t band_bytes) {
  const auto at = [](int index) { return static_cast<size_t>(index); };
  RowPlan plan;
  plan.band_rows.assign(method.values.size(), 0);
  const Readers readers(method);
  std::vector<uint8_t> is_output(method.values.size(), 0);
  for (const int v : method.outputs) is_output[at(v)] = 1;
  std::vector<int64_t> heights(method.values.size(), 0);
  for (size_t v = 0; v < heights.size(); ++v)
    if (!method.values[v]->shape.empty()) heights[v] = graph::dim_value(method.values[v]->shape[0], symbols);
  const auto row_bytes = [&](int v) {
    const auto& shape = value_at(method, v).shape;
    return static_cast<double>(graph::dim_value(shape[1], symbols)) *
           static_cast<double>(graph::dim_value(shape[2], symbols)) * sizeof(float);
  };
  const int count = static_cast<int>(method.nodes.size());
  for (int first = 0; first < count;) {
    if (!row_wise(method, *method.nodes[at(first)])) {
      ++first;
      continue;
    }
    int last = first + 1;
    const int symbol = height_symbol(method, *method.nodes[at(first)]);
    while (last < count && row_wise(method, *method.nodes[at(last)]) &&
           height_symbol(method, *method.nodes[at(last)]) == symbol)
      ++last;
    RowSegment segment;
    segment.first = first;
    segment.last = last;
    double between = 0, widest = 1;
    int64_t tallest = -1;
    for (int n = first; n < last; ++n) {
      for (const int v : method.nodes[at(n)]->outputs) {
        widest = std::max(widest, row_bytes(v));
        bool inside = false, outside = is_output[at(v)] != 0;
        for (const int m : readers.of(v)) (m >= first && m < last ? inside : outside) = true;
        if (inside && !outside) {
          plan.band_rows[at(v)] = 1;  // measured below
          between += row_bytes(v) * static_cast<double>(heights[at(v)]);
        } else if (heights[at(v)] > tallest) {
          tallest = heights[at(v)];
          segment.reference = v;
        }
      }
    }
    const double rows = std::clamp(static_cast<double>(band_bytes) / 16 / widest, 1.0, 1e9);
    segment.band = static_cast<int64_t>(rows);
    const double nodes = last - first, steps = static_cast<double>(tallest) / rows * nodes * nodes;
    const bool worth = between > static_cast<double>(band_bytes) && tallest > 0;
    if (worth && steps <= kMostSteps && plan.segments.size() < kMostSegments) {
      segment.written.assign(method.values.size(), 0);
      for (int n = first; n < last; ++n)
        for (const int v : method.nodes[at(n)]->outputs) segment.written[at(v)] = 1;
      measure(method, segment, heights, plan.band_rows);
      plan.segments.push_back(std::move(segment));
    } else {
      for (int n = first; n < last; ++n)
        for (const int v : method.nodes[at(n)]->outputs) plan.band_rows[at(v)] = 0;
    }
    first = last;
  }
  return plan;
}

}  // namespace linnet::plan
