#include "converter/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

#include "backends/host/host_backend.h"
#include "format/names.h"
#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kBlockRows = 4096;  // of a table or head packed at once: a multiple of the panel

struct AlignedBytes {
  explicit AlignedBytes(size_t n) : storage(n + 2 * plan::kAlignment) {}
  std::byte* data() {
    const auto address = reinterpret_cast<uintptr_t>(storage.data());
    return storage.data() + (plan::kAlignment - address % plan::kAlignment) % plan::kAlignment;
  }
  std::vector<std::byte> storage;
};

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

class Runner {
 public:
  Runner(const fb::ModelT& model, std::span<const WeightPlan> weights, const host::HostBackend& backend,
         std::span<const int32_t> ids, int threads)
      : model_(in_f32(model, weights)), weights_(weights), backend_(backend), pool_(threads), ids_(ids) {}

  Result<std::vector<float>> run() {
    bounds_.symbols.assign(model_.symbols.size(), static_cast<int64_t>(ids_.size()));
    LINNET_ASSIGN(
        plan_, plan::make_plan(model_, bounds_, [](size_t, size_t, const plan::Plan&) { return size_t{0}; }));
    for (size_t i = 0; i < plan_.states.size(); ++i) {
      states_.push_back(std::make_unique<AlignedBytes>(plan_.states[i].bytes + plan::kOverread));
      if (model_.states[i]->initial != 0)
        std::fill_n(reinterpret_cast<float*>(states_[i]->data()), plan_.states[i].bytes / sizeof(float),
                    model_.states[i]->initial);
    }
    const int forward = graph::find_method(model_, names::kForward);
    if (forward < 0) return fail(ErrorCode::kUnsupported, "the model has no method 'forward'");
    method_index_ = static_cast<size_t>(forward);
    method_ = model_.methods[method_index_].get();
    for (const auto& value : method_->values) {
      const plan::TensorShape shape = plan::shape_of(*value, bounds_.symbols);
      values_.push_back(std::make_unique<AlignedBytes>(
          static_cast<size_t>(shape.elements()) * element_bytes(shape.dtype) + plan::kOverread));
    }
    std::memcpy(values_[static_cast<size_t>(method_->inputs[0])]->data(), ids_.data(), ids_.size_bytes());
    for (size_t n = 0; n < method_->nodes.size(); ++n) LINNET_TRY(run_node(n));
    const auto output = static_cast<size_t>(method_->outputs[0]);
    const auto* logits = reinterpret_cast<const float*>(values_[output]->data());
    return std::vector<float>(logits,
                              logits + plan::shape_of(*method_->values[output], bounds_.symbols).elements());
  }

 private:
  // A node's operands in memory.
  struct Operands {
    const fb::NodeT& node;
    plan::Ring ring;
    std::vector<host::Tensor> in, weights, states, out;
  };

  Result<void> run_node(size_t n) {
    const fb::NodeT& node = *method_->nodes[n];
    const plan::NodeShapes shapes =
        plan::node_shapes(model_, bounds_, plan_, method_index_, n, bounds_.symbols);
    Operands at{node,
                shapes.ring,
                host::tensors(shapes.in),
                host::tensors(shapes.weights),
                host::tensors(shapes.states),
                host::tensors(shapes.out)};
    const auto place = [](const std::vector<int>& indices, std::vector<std::unique_ptr<AlignedBytes>>& from,
                          std::vector<host::Tensor>& to) {
      for (size_t i = 0; i < indices.size(); ++i)
        if (indices[i] >= 0) to[i].data = from[static_cast<size_t>(indices[i])]->data();
    };
    place(node.inputs, values_, at.in);
    place(node.outputs, values_, at.out);
    place(node.states, states_, at.states);
    if (graph::gives_logits(node) && node.weights.size() == 1) return run_head(at);
    std::vector<int32_t> order(ids_.size());  // of the rows that are picked
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::vector<std::unique_ptr<AlignedBytes>> storage;
    for (size_t i = 0; i < node.weights.size(); ++i) {
      if (node.weights[i] < 0) continue;
      const RowSource& rows = *weights_[static_cast<size_t>(node.weights[i])].rows;
      const graph::WeightRead read = graph::weight_read(node, i);
      if (read.use == graph::WeightUse::kTable) {  // of the few rows that are asked for
        const PickedRows picked(rows, ids_);
        at.weights[i].dims[0] = picked.rows;
        at.in[static_cast<size_t>(read.ids)].data = reinterpret_cast<std::byte*>(order.data());
        LINNET_TRY(load(picked, at.weights[i], storage));
      } else {
        LINNET_TRY(load(rows, at.weights[i], storage));
      }
    }
    call(at);
    return {};
  }

  // A head gives its scores in blocks of rows.
  Result<void> run_head(Operands& at) {
    const RowSource& head = *weights_[static_cast<size_t>(at.node.weights[0])].rows;
    const host::Tensor whole = at.out[0];
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
    return {};
  }

  // Reads all of a weight into memory that `storage` holds.
  Result<void> load(const RowSource& rows, host::Tensor& weight,
                    std::vector<std::unique_ptr<AlignedBytes>>& storage) {
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

  void call(const Operands& at) {
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

  const fb::ModelT model_;
  std::span<const WeightPlan> weights_;
  const host::HostBackend& backend_;
  host::ThreadPool pool_;
  std::span<const int32_t> ids_;
  plan::Bounds bounds_;
  plan::Plan plan_;
  size_t method_index_ = 0;
  const fb::MethodT* method_ = nullptr;
  std::vector<std::unique_ptr<AlignedBytes>> values_, states_;
};

}  // namespace

Result<std::vector<float>> streamed_logits(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                           const host::HostBackend& backend, std::span<const int32_t> ids,
                                           int threads) {
  return Runner(model, weights, backend, ids, threads).run();
}

Comparison compare_logits(std::span<const float> expected, std::span<const float> found, int64_t rows) {
  Comparison result;
  const auto n = static_cast<int64_t>(expected.size()) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    const float *a = expected.data() + r * n, *b = found.data() + r * n;
    const auto log_total = [n](const float* x) {
      const auto most = static_cast<double>(*std::max_element(x, x + n));
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - most);
      return most + std::log(sum);
    };
    const double total_a = log_total(a), total_b = log_total(b);
    for (int64_t i = 0; i < n; ++i) {
      const double log_a = static_cast<double>(a[i]) - total_a, log_b = static_cast<double>(b[i]) - total_b;
      result.mean_kl += std::exp(log_a) * (log_a - log_b);
      result.largest_error =
          std::max(result.largest_error, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    }
    if (std::max_element(a, a + n) - a == std::max_element(b, b + n) - b) result.agreement += 1;
  }
  result.mean_kl /= static_cast<double>(rows);
  result.agreement /= static_cast<double>(rows);
  return result;
}

}  // namespace linnet::convert
