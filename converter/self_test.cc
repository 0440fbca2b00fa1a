#include "converter/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/host/host_backend.h"
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

class Runner {
 public:
  Runner(const fb::ModelT& model, std::span<const WeightPlan> weights, const host::HostBackend& backend,
         int64_t tokens, int threads)
      : model_(model), weights_(weights), backend_(backend), pool_(threads), tokens_(tokens) {}

  Result<std::vector<float>> run(std::span<const int32_t> ids) {
    bounds_.symbols.assign(model_.symbols.size(), tokens_);
    LINNET_ASSIGN(
        plan_, plan::make_plan(model_, bounds_, [](size_t, size_t, const plan::Plan&) { return size_t{0}; }));
    state_.resize(plan_.states.size());
    for (size_t i = 0; i < state_.size(); ++i) {
      state_[i] = std::make_unique<AlignedBytes>(plan_.states[i].bytes + plan::kOverread);
      if (model_.states[i]->initial != 0)
        std::fill_n(reinterpret_cast<float*>(state_[i]->data()), plan_.states[i].bytes / sizeof(float),
                    model_.states[i]->initial);
    }
    const int forward = graph::find_method(model_, "forward");
    if (forward < 0) return fail(ErrorCode::kUnsupported, "the model has no method 'forward'");
    method_ = model_.methods[static_cast<size_t>(forward)].get();
    values_.resize(method_->values.size());
    std::memcpy(value(method_->inputs[0]).data, ids.data(), ids.size_bytes());
    for (const auto& node : method_->nodes) LINNET_TRY(run_node(*node, ids));
    const host::Tensor logits = value(method_->outputs[0]);
    return std::vector<float>(logits.as(), logits.as() + logits.elements());
  }

 private:
  host::Tensor value(int index) {
    if (index < 0) return {};
    const fb::ValueT& v = *method_->values[static_cast<size_t>(index)];
    host::Tensor tensor;
    tensor.dtype = static_cast<DType>(v.dtype);
    tensor.rank = static_cast<int>(v.shape.size());
    for (size_t i = 0; i < v.shape.size(); ++i)
      tensor.dims[i] = graph::dim_value(v.shape[i], bounds_.symbols);
    auto& storage = values_[static_cast<size_t>(index)];
    if (!storage)
      storage = std::make_unique<AlignedBytes>(
          static_cast<size_t>(tensor.elements()) * element_bytes(tensor.dtype) + plan::kOverread);
    tensor.data = storage->data();
    return tensor;
  }

  Result<void> run_node(const fb::NodeT& node, std::span<const int32_t> ids) {
    const graph::OpKind kind = graph::op_kind(node.args.type);
    std::vector<host::Tensor> in, out, weights, states;
    for (const int i : node.inputs) in.push_back(value(i));
    for (const int i : node.outputs) out.push_back(value(i));
    for (const int i : node.states) {
      const plan::StatePlan& s = plan_.states[static_cast<size_t>(i)];
      host::Tensor tensor;
      tensor.dtype = s.dtype;
      tensor.rank = static_cast<int>(s.shape.size());
      std::copy(s.shape.begin(), s.shape.end(), tensor.dims);
      tensor.data = state_[static_cast<size_t>(i)]->data();
      states.push_back(tensor);
    }
    if (kind == graph::OpKind::kEmbedding) {  // a table of the few rows that are asked for
      const WeightPlan& table = weights_[static_cast<size_t>(node.weights[0])];
      class Picked final : public RowSource {
       public:
        Picked(const RowSource& source, std::span<const int32_t> ids) : source_(source), ids_(ids) {
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
      } picked(*table.rows, ids);
      std::vector<int32_t> order(ids.size());
      for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
      in[0].data = reinterpret_cast<std::byte*>(order.data());
      return run_with_matrix(node, kind, picked, 0, picked.rows, in, states, out);
    }
    if (kind == graph::OpKind::kLogits) {
      const RowSource& head = *weights_[static_cast<size_t>(node.weights[0])].rows;
      AlignedBytes block(static_cast<size_t>(tokens_ * kBlockRows) * sizeof(float) + plan::kOverread);
      for (int64_t begin = 0; begin < head.rows; begin += kBlockRows) {
        const int64_t count = std::min(kBlockRows, head.rows - begin);
        host::Tensor part = out[0];
        part.data = block.data();
        part.dims[1] = count;
        std::vector<host::Tensor> parts = {part};
        LINNET_TRY(run_with_matrix(node, kind, head, begin, count, in, states, parts));
        for (int64_t t = 0; t < tokens_; ++t)
          std::copy_n(part.as() + t * count, count, out[0].as() + t * head.rows + begin);
      }
      return {};
    }
    std::vector<std::unique_ptr<AlignedBytes>> storage;
    for (const int i : node.weights) {
      host::Tensor tensor;
      if (i >= 0) {
        const WeightPlan& w = weights_[static_cast<size_t>(i)];
        tensor.layout = w.layout;
        tensor.rank = static_cast<int>(w.shape.size());
        std::copy(w.shape.begin(), w.shape.end(), tensor.dims);
        if (w.layout == fb::Layout::Panel) {
          const int64_t matrices = w.shape.size() == 3 ? w.shape[0] : 1;
          const int64_t n = w.rows->rows / matrices;
          const size_t bytes = format::matrix_bytes(DType::kF32, n, w.rows->columns);
          storage.push_back(
              std::make_unique<AlignedBytes>(bytes * static_cast<size_t>(matrices) + plan::kOverread));
          for (int64_t m = 0; m < matrices; ++m)
            LINNET_TRY(pack_rows(*w.rows, m * n, n, storage.back()->data() + bytes * static_cast<size_t>(m)));
        } else {
          const int64_t elements = w.rows->rows * w.rows->columns;
          storage.push_back(std::make_unique<AlignedBytes>(static_cast<size_t>(elements) * sizeof(float) +
                                                           plan::kOverread));
          LINNET_TRY(w.rows->read(0, w.rows->rows, reinterpret_cast<float*>(storage.back()->data())));
        }
        tensor.data = storage.back()->data();
      }
      weights.push_back(tensor);
    }
    call(node, kind, in, weights, states, out);
    return {};
  }

  Result<void> run_with_matrix(const fb::NodeT& node, graph::OpKind kind, const RowSource& rows,
                               int64_t begin, int64_t count, std::vector<host::Tensor>& in,
                               std::vector<host::Tensor>& states, std::vector<host::Tensor>& out) {
    AlignedBytes panels(format::matrix_bytes(DType::kF32, count, rows.columns) + plan::kOverread);
    LINNET_TRY(pack_rows(rows, begin, count, panels.data()));
    host::Tensor matrix;
    matrix.layout = fb::Layout::Panel;
    matrix.rank = 2;
    matrix.dims[0] = count;
    matrix.dims[1] = rows.columns;
    matrix.data = panels.data();
    std::vector<host::Tensor> weights = {matrix};
    call(node, kind, in, weights, states, out);
    return {};
  }

  void call(const fb::NodeT& node, graph::OpKind kind, std::vector<host::Tensor>& in,
            std::vector<host::Tensor>& weights, std::vector<host::Tensor>& states,
            std::vector<host::Tensor>& out) {
    host::KernelContext c{};
    c.node = &node;
    c.in = in;
    c.weights = weights;
    c.states = states;
    c.out = out;
    c.threads = pool_.threads();
    c.backend = backend_.constants();
    if (const auto* attention = node.args.AsSoftmaxAttention())
      c.ring = plan::attention_ring(*attention, model_, bounds_);
    const host::Kernel& kernel = backend_.kernel(kind);
    AlignedBytes scratch((kernel.scratch ? kernel.scratch(c) : 0) + plan::kOverread);
    c.scratch = scratch.data();
    c.pool = &pool_;
    kernel.run(c);
  }

  const fb::ModelT& model_;
  std::span<const WeightPlan> weights_;
  const host::HostBackend& backend_;
  host::ThreadPool pool_;
  int64_t tokens_;
  plan::Bounds bounds_;
  plan::Plan plan_;
  const fb::MethodT* method_ = nullptr;
  std::vector<std::unique_ptr<AlignedBytes>> values_, state_;
};

}  // namespace

Result<std::vector<float>> streamed_logits(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                           const host::HostBackend& backend, std::span<const int32_t> ids,
                                           int threads) {
  return Runner(model, weights, backend, static_cast<int64_t>(ids.size()), threads).run(ids);
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
