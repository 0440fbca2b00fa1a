#include "converter/calibration/streamed_model.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "format/names.h"
#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kBlockRows = 4096;             // of a table or head packed at once: a multiple of the panel
constexpr size_t kCacheBytes = size_t{1} << 30;  // of packed weights kept for the next run

Result<void> pack_rows(const RowSource& source, int64_t begin, int64_t count, std::byte* panels) {
  const int64_t k = source.columns;
  std::vector<float> rows(static_cast<size_t>(format::kPanelRows * k));
  for (int64_t r = 0; r < count; r += format::kPanelRows) {
    const int64_t n = std::min(format::kPanelRows, count - r);
    LINNET_TRY(source.read(begin + r, n, rows.data()));
    format::pack_panel(DType::kF32, rows.data(), n, k, panels);
    panels += format::panel_bytes(DType::kF32, k);
  }
  return {};
}

// Rows of a table in the order in which ids ask for them.
class PickedRows final : public RowSource {
 public:
  PickedRows(const RowSource& source, std::span<const int32_t> ids) : source_(source), ids_(ids) {
    rows = static_cast<int64_t>(ids.size());
    columns = source.columns;
  }
  Result<void> read(int64_t begin, int64_t count, float* to) const override {
    for (int64_t i = 0; i < count; ++i)
      LINNET_TRY(source_.read(ids_[static_cast<size_t>(begin + i)], 1, to + i * columns));
    return {};
  }

 private:
  const RowSource& source_;
  std::span<const int32_t> ids_;
};

// What `model` computes, over weights in f32.
fb::ModelT in_f32(const fb::ModelT& model, std::span<const WeightPlan> weights) {
  fb::ModelT copy;
  const auto append = [](const auto& from, auto& to) {
    for (const auto& item : from) to.push_back(std::make_unique<std::remove_cvref_t<decltype(*item)>>(*item));
  };
  append(model.symbols, copy.symbols);
  append(model.states, copy.states);
  append(model.methods, copy.methods);
  for (const WeightPlan& weight : weights) {
    copy.weights.push_back(std::make_unique<fb::WeightT>());
    copy.weights.back()->name = weight.name;
    copy.weights.back()->layout = weight.layout;
    copy.weights.back()->shape = weight.shape;
  }
  return copy;
}

}  // namespace

// A node's operands in memory.
struct StreamedModel::Operands {
  const fb::NodeT& node;
  plan::Ring ring;
  std::vector<host::Tensor> in, weights, states, out;
};

StreamedModel::StreamedModel(const fb::ModelT& model, std::span<const WeightPlan> weights,
                             const host::HostBackend& backend, int threads)
    : model_(in_f32(model, weights)), weights_(weights), backend_(backend), pool_(threads) {}

Result<std::unique_ptr<StreamedModel>> StreamedModel::create(const fb::ModelT& model,
                                                             std::span<const WeightPlan> weights,
                                                             const host::HostBackend& backend, int64_t length,
                                                             int threads) {
  std::unique_ptr<StreamedModel> streamed(new StreamedModel(model, weights, backend, threads));
  LINNET_TRY(streamed->plan(length));
  return streamed;
}

Result<void> StreamedModel::plan(int64_t length) {
  bounds_.symbols.assign(model_.symbols.size(), length);
  LINNET_ASSIGN(
      plan_, plan::make_plan(model_, bounds_, [](size_t, size_t, const plan::Plan&) { return size_t{0}; }));
  const int forward = graph::find_method(model_, names::kForward);
  if (forward < 0) return fail(ErrorCode::kUnsupported, "the model has no method 'forward'");
  method_index_ = static_cast<size_t>(forward);
  method_ = model_.methods[method_index_].get();
  const size_t nodes = method_->nodes.size();
  last_use_.assign(method_->values.size(), 0);
  first_touch_.assign(model_.states.size(), nodes);
  last_touch_.assign(model_.states.size(), 0);
  const auto each = [](const std::vector<int>& indices, auto f) {
    for (const int i : indices)
      if (i >= 0) f(static_cast<size_t>(i));
  };
  for (size_t n = 0; n < nodes; ++n) {
    const fb::NodeT& node = *method_->nodes[n];
    each(node.inputs, [&](size_t v) { last_use_[v] = n; });
    each(node.outputs, [&](size_t v) { last_use_[v] = n; });
    each(node.states, [&](size_t s) {
      first_touch_[s] = std::min(first_touch_[s], n);
      last_touch_[s] = n;
    });
  }
  each(method_->outputs, [&](size_t v) { last_use_[v] = nodes; });
  return {};
}

const RowSource& StreamedModel::rows(size_t weight) const {
  const auto other = replaced_.find(weight);
  return other == replaced_.end() ? *weights_[weight].rows : *other->second;
}

void StreamedModel::replace(size_t weight, Rows rows) {
  if (rows)
    replaced_[weight] = std::move(rows);
  else
    replaced_.erase(weight);
}

size_t StreamedModel::restart(size_t node) const {
  size_t first = node;
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t s = 0; s < first_touch_.size(); ++s)
      if (first_touch_[s] < first && last_touch_[s] >= first) first = first_touch_[s], moved = true;
  }
  return first;
}

Result<void> StreamedModel::run(std::span<StreamedSequence> sequences, const Run& run) {
  for (StreamedSequence& s : sequences) {
    s.values.resize(method_->values.size());
    s.states.resize(model_.states.size());
    auto& ids = s.values[static_cast<size_t>(method_->inputs[0])];
    if (!ids) ids = std::make_unique<AlignedBytes>(s.ids.size() * sizeof(int32_t) + plan::kOverread);
    std::memcpy(ids->data(), s.ids.data(), s.ids.size() * sizeof(int32_t));
  }
  for (size_t n = run.first; n < method_->nodes.size(); ++n) {
    if (run.progress) LINNET_TRY(run.progress(n, method_->nodes.size()));
    LINNET_TRY(run_node(n, sequences, run));
    if (run.keep) continue;
    for (StreamedSequence& s : sequences) {
      for (size_t v = 0; v < last_use_.size(); ++v)
        if (last_use_[v] == n) s.values[v].reset();
      for (size_t i = 0; i < last_touch_.size(); ++i)
        if (last_touch_[i] == n) s.states[i].reset();
    }
  }
  return {};
}

Result<void> StreamedModel::run_node(size_t n, std::span<StreamedSequence> sequences, const Run& run) {
  const fb::NodeT& node = *method_->nodes[n];
  const plan::NodeShapes shapes =
      plan::node_shapes(model_, bounds_, plan_, method_index_, n, bounds_.symbols);
  Operands at{node,
              shapes.ring,
              host::tensors(shapes.in),
              host::tensors(shapes.weights),
              host::tensors(shapes.states),
              host::tensors(shapes.out)};
  const bool head = graph::gives_logits(node) && node.weights.size() == 1;
  Storage storage;
  const bool computed = !head || run.logits;
  for (size_t i = 0; i < node.weights.size() && !head; ++i)
    if (node.weights[i] >= 0 && graph::weight_read(node, i).use != graph::WeightUse::kTable)
      LINNET_TRY(load_cached(static_cast<size_t>(node.weights[i]), at.weights[i], storage));
  const auto place = [](const std::vector<int>& indices, std::vector<std::unique_ptr<AlignedBytes>>& from,
                        std::vector<host::Tensor>& to) {
    for (size_t i = 0; i < indices.size(); ++i)
      if (indices[i] >= 0) to[i].data = from[static_cast<size_t>(indices[i])]->data();
  };
  for (StreamedSequence& s : sequences) {
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] >= 0 && computed)
        if (auto& value = s.values[static_cast<size_t>(node.outputs[i])]; !value)
          value = std::make_unique<AlignedBytes>(
              static_cast<size_t>(at.out[i].elements()) * element_bytes(at.out[i].dtype) + plan::kOverread);
    for (const int state : node.states) {
      if (state < 0) continue;
      const auto i = static_cast<size_t>(state);
      if (first_touch_[i] != n) continue;
      const size_t bytes = plan_.states[i].bytes;
      s.states[i] = std::make_unique<AlignedBytes>(bytes + plan::kOverread);
      if (model_.states[i]->initial != 0)
        std::fill_n(reinterpret_cast<float*>(s.states[i]->data()), bytes / sizeof(float),
                    model_.states[i]->initial);
    }
    place(node.inputs, s.values, at.in);
    place(node.states, s.states, at.states);
    if (run.observe) LINNET_TRY(run.observe(node, at.in));
    if (!computed) continue;
    place(node.outputs, s.values, at.out);
    if (head) {
      LINNET_TRY(run_head(at));
      continue;
    }
    std::vector<int32_t> order(s.ids.size());  // of the rows that are picked
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    Storage tables;
    for (size_t i = 0; i < node.weights.size(); ++i) {
      if (node.weights[i] < 0) continue;
      const graph::WeightRead read = graph::weight_read(node, i);
      if (read.use != graph::WeightUse::kTable) continue;
      const PickedRows picked(rows(static_cast<size_t>(node.weights[i])),
                              s.ids);  // the few that are asked for
      at.weights[i].dims[0] = picked.rows;
      at.in[static_cast<size_t>(read.ids)].data = reinterpret_cast<std::byte*>(order.data());
      LINNET_TRY(load(picked, at.weights[i], tables));
    }
    call(at);
  }
  return {};
}

// A head gives its scores in blocks of rows.
Result<void> StreamedModel::run_head(Operands& at) {
  const RowSource& head = rows(static_cast<size_t>(at.node.weights[0]));
  const host::Tensor whole = at.out[0], weight = at.weights[0];
  const int64_t tokens = whole.rows();
  AlignedBytes block(static_cast<size_t>(tokens * kBlockRows) * sizeof(float) + plan::kOverread);
  for (int64_t begin = 0; begin < head.rows; begin += kBlockRows) {
    const int64_t count = std::min(kBlockRows, head.rows - begin);
    AlignedBytes panels(format::matrix_bytes(DType::kF32, count, head.columns) + plan::kOverread);
    LINNET_TRY(pack_rows(head, begin, count, panels.data()));
    at.weights[0].data = panels.data();
    at.weights[0].dims[0] = count;
    at.out[0].data = block.data();
    at.out[0].dims[1] = count;
    call(at);
    for (int64_t t = 0; t < tokens; ++t)
      std::copy_n(at.out[0].as() + t * count, count, whole.as() + t * head.rows + begin);
  }
  at.out[0] = whole;
  at.weights[0] = weight;
  return {};
}

// Reads all of a weight into memory that `storage` holds.
Result<void> StreamedModel::load(const RowSource& rows, host::Tensor& weight, Storage& storage) const {
  const auto hold = [&](size_t bytes) {
    storage.push_back(std::make_unique<AlignedBytes>(bytes + plan::kOverread));
    weight.data = storage.back()->data();
  };
  if (weight.layout == fb::Layout::Panel) {
    const int64_t matrices = weight.rank == 3 ? weight.dims[0] : 1, n = rows.rows / matrices;
    const size_t bytes = format::matrix_bytes(DType::kF32, n, rows.columns);
    hold(bytes * static_cast<size_t>(matrices));
    for (int64_t m = 0; m < matrices; ++m)
      LINNET_TRY(pack_rows(rows, m * n, n, weight.data + bytes * static_cast<size_t>(m)));
    return {};
  }
  hold(static_cast<size_t>(rows.rows * rows.columns) * sizeof(float));
  return rows.read(0, rows.rows, weight.as());
}

Result<void> StreamedModel::load_cached(size_t weight, host::Tensor& tensor, Storage& storage) {
  if (replaced_.contains(weight)) return load(rows(weight), tensor, storage);
  if (const auto found = cache_.find(weight); found != cache_.end()) {
    tensor.data = found->second->data();
    return {};
  }
  LINNET_TRY(load(rows(weight), tensor, storage));
  if (cached_ + storage.back()->size() > kCacheBytes) return {};
  cached_ += storage.back()->size();
  cache_[weight] = std::move(storage.back());
  storage.pop_back();
  return {};
}

void StreamedModel::call(const Operands& at) {
  host::KernelContext c{};
  c.node = &at.node;
  c.in = at.in;
  c.weights = at.weights;
  c.states = at.states;
  c.out = at.out;
  c.ring = at.ring;
  c.threads = pool_.threads();
  c.backend = backend_.constants();
  const host::Kernel& kernel = backend_.kernel(graph::op_kind(at.node.args.type));
  AlignedBytes scratch((kernel.scratch ? kernel.scratch(c) : 0) + plan::kOverread);
  c.scratch = scratch.data();
  c.pool = &pool_;
  kernel.run(c);
}

std::span<const float> StreamedModel::logits(const StreamedSequence& sequence) const {
  const auto output = static_cast<size_t>(method_->outputs[0]);
  const auto count = plan::shape_of(*method_->values[output], bounds_.symbols).elements();
  return {reinterpret_cast<const float*>(sequence.values[output]->data()), static_cast<size_t>(count)};
}

}  // namespace linnet::convert
