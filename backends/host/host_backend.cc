#include "backends/host/host_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "backends/host/denormals.h"
#include "runtime/core/strings.h"

namespace linnet::host {
namespace {

// One node made ready: operands with their addresses, and which dimensions follow a symbol.
struct Step {
  struct Variable {
    Tensor* tensor;
    int axis;
    fb::Dim dim;
  };
  KernelFn run = nullptr;
  const fb::NodeT* node = nullptr;
  std::vector<Tensor> in, weights, states, out;
  std::vector<Variable> variables;
  KernelContext context{};
};

class HostExecutable final : public Executable {
 public:
  HostExecutable(const Compilation& c, const KernelTable& table, const void* constants, int threads,
                 bool flush_denormals)
      : pool_(threads), state_(c.state), vectors_(c.vectors), flush_denormals_(flush_denormals) {
    const fb::ModelT& model = c.file.model();
    methods_.resize(model.methods.size());
    for (size_t m = 0; m < methods_.size(); ++m) prepare(c, table, constants, m);
  }

  Result<void> run(size_t method, std::span<const int64_t> symbols, int64_t position) override {
    const FlushDenormals flush(flush_denormals_);
    walk(methods_[method], symbols, position, [](const Step&) { return true; });
    return {};
  }

  Result<int> first_non_finite(size_t method, std::span<const int64_t> symbols, int64_t position) override {
    const FlushDenormals flush(flush_denormals_);
    int found = -1;
    walk(methods_[method], symbols, position, [&](const Step& step) {
      if (found >= 0) return false;
      for (const Tensor& out : step.out) {
        if (out.dtype != DType::kF32) continue;
        const float* values = out.as();
        if (!std::all_of(values, values + out.elements(), [](float x) { return std::isfinite(x); }))
          found = static_cast<int>(&step - methods_[method].steps.data());
      }
      return found < 0;
    });
    return found;
  }

  Result<void> write_value(size_t method, size_t value, std::span<const std::byte> bytes) override {
    const std::span<std::byte> to = methods_[method].values[value];
    if (bytes.size() > to.size())
      return fail(ErrorCode::kInvalidArgument,
                  strf("{} bytes do not fit a value of {}", bytes.size(), to.size()));
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
    return {};
  }
  Result<void> read_value(size_t method, size_t value, std::span<std::byte> bytes) override {
    const std::span<std::byte> from = methods_[method].values[value];
    if (bytes.size() > from.size())
      return fail(ErrorCode::kInvalidArgument,
                  strf("a value of {} bytes was asked for {}", from.size(), bytes.size()));
    if (!bytes.empty()) std::memcpy(bytes.data(), from.data(), bytes.size());
    return {};
  }
  std::span<const std::byte> host_value(size_t method, size_t value) override {
    return methods_[method].values[value];
  }
  Result<void> write_vector(size_t vector, std::span<const float> values) override {
    std::ranges::copy(values, vectors_[vector].begin());
    return {};
  }
  Result<void> read_vector(size_t vector, std::span<float> values) override {
    std::ranges::copy(vectors_[vector].first(values.size()), values.begin());
    return {};
  }
  Result<bool> apply(std::span<const VectorOp> ops, const Watched& watched) override {
    return vectors_.apply(ops, watched, [this](const VectorSlice& slice) {
      return reinterpret_cast<float*>(methods_[static_cast<size_t>(slice.method)].values[slice.index].data());
    });
  }
  Result<void> write_state(std::span<const std::byte> block) override {
    std::memcpy(state_.data(), block.data(), std::min(block.size(), state_.size()));
    return {};
  }
  Result<void> read_state(std::span<std::byte> block) override {
    std::memcpy(block.data(), state_.data(), std::min(block.size(), state_.size()));
    return {};
  }
  std::span<std::byte> host_state() override { return state_; }

 private:
  struct Method {
    const fb::MethodT* source = nullptr;
    const plan::RowPlan* rows = nullptr;
    std::vector<Step> steps;
    std::vector<std::span<std::byte>> values;
    // For nodes that run in bands, by value.
    std::vector<int64_t> heights;
    std::vector<plan::RowCursor> cursors;
  };

  // Runs the nodes in order; done(step) is called after each (each band of one) and says whether to go on.
  template <typename Done>
  void walk(Method& method, std::span<const int64_t> symbols, int64_t position, const Done& done) {
    auto segment = method.rows->segments.begin();
    for (size_t n = 0; n < method.steps.size();) {
      const bool bands = segment != method.rows->segments.end() && static_cast<size_t>(segment->first) == n;
      const size_t last = bands ? static_cast<size_t>(segment->last) : n + 1;
      for (size_t i = n; i < last; ++i) {
        Step& step = method.steps[i];
        for (const Step::Variable& v : step.variables)
          v.tensor->dims[v.axis] = graph::dim_value(v.dim, symbols);
        step.context.position = position;
      }
      bool go_on = true;
      if (bands) {
        for (size_t v = 0; v < method.heights.size(); ++v)
          if (const auto& shape = method.source->values[v]->shape; !shape.empty())
            method.heights[v] = graph::dim_value(shape[0], symbols);
        plan::run_rows(*method.source, *segment, method.rows->band_rows, method.heights, method.cursors,
                       [&](int node, plan::Rows out) {
                         if (!go_on) return;
                         Step& step = method.steps[static_cast<size_t>(node)];
                         set_band(method, *segment, step, out);
                         step.run(step.context);
                         go_on = done(step);
                       });
        ++segment;
      } else {
        method.steps[n].run(method.steps[n].context);
        go_on = done(method.steps[n]);
      }
      if (!go_on) return;
      n = last;
    }
  }

  // Points a node's images at the rows of one band. Where an output's buffer holds some rows only, those that
  // are still needed move to its front first.
  static void set_band(Method& method, const plan::RowSegment& segment, Step& step, plan::Rows out) {
    const auto point = [&](Tensor& tensor, int value, plan::Rows rows) {
      const size_t v = static_cast<size_t>(value), row = row_bytes(tensor);
      const int64_t first = segment.written[v] ? method.cursors[v].first : 0;
      tensor.data = method.values[v].data() + static_cast<size_t>(rows.begin - first) * row;
      tensor.dims[0] = rows.end - rows.begin;
    };
    for (size_t i = 0; i < step.out.size(); ++i) {
      const int value = step.node->outputs[i];
      const auto v = static_cast<size_t>(value);
      if (method.rows->band_rows[v] > 0) {
        plan::RowCursor& cursor = method.cursors[v];
        const int64_t keep =
            plan::first_needed(*method.source, segment, value, method.heights, method.cursors);
        const size_t row = row_bytes(step.out[i]);
        std::byte* data = method.values[v].data();
        if (keep < cursor.done && keep > cursor.first)
          std::memmove(data, data + static_cast<size_t>(keep - cursor.first) * row,
                       static_cast<size_t>(cursor.done - keep) * row);
        cursor.first = keep;
      }
      point(step.out[i], value, out);
    }
    for (size_t i = 0; i < step.in.size(); ++i) {
      const int value = step.node->inputs[i];
      if (value < 0 || !plan::row_input(*step.node, i)) continue;
      const int64_t height = method.heights[static_cast<size_t>(value)];
      const plan::Rows rows = plan::input_rows(*step.node, i, out, height);
      if (i == 0) step.context.window = {rows.begin, height, out.begin};
      point(step.in[i], value, rows);
    }
  }
  static size_t row_bytes(const Tensor& image) {
    return static_cast<size_t>(image.dims[1] * image.dims[2]) * sizeof(float);
  }

  void prepare(const Compilation& c, const KernelTable& table, const void* constants, size_t m) {
    const fb::ModelT& model = c.file.model();
    const fb::MethodT& source = *model.methods[m];
    const plan::MethodPlan& plan = c.plan.methods[m];
    Method& method = methods_[m];
    method.source = &source;
    method.rows = &plan.rows;
    method.heights.resize(source.values.size());
    method.cursors.resize(source.values.size());
    for (const plan::Buffer& buffer : plan.values)
      method.values.push_back(c.work.subspan(buffer.offset, buffer.bytes));
    method.steps.resize(source.nodes.size());
    for (size_t n = 0; n < source.nodes.size(); ++n) {
      const fb::NodeT& node = *source.nodes[n];
      const graph::OpKind kind = graph::op_kind(node.args.type);
      Step& step = method.steps[n];
      step.node = &node;
      step.run = table[static_cast<size_t>(kind)].run;
      const plan::NodeShapes shapes = plan::node_shapes(model, c.bounds, c.plan, m, n, c.bounds.symbols);
      step.in = tensors(shapes.in);
      step.out = tensors(shapes.out);
      step.weights = tensors(shapes.weights);
      step.states = tensors(shapes.states);
      const auto place_values = [&](const std::vector<int>& indices, std::vector<Tensor>& operands) {
        for (size_t i = 0; i < indices.size(); ++i) {
          if (indices[i] < 0) continue;
          const auto index = static_cast<size_t>(indices[i]);
          operands[i].data = method.values[index].data();
          const auto& shape = source.values[index]->shape;
          for (size_t axis = 0; axis < shape.size(); ++axis)
            if (!graph::is_fixed(shape[axis]))
              step.variables.push_back({&operands[i], static_cast<int>(axis), shape[axis]});
        }
      };
      place_values(node.inputs, step.in);
      place_values(node.outputs, step.out);
      // Kernels read weights only; one Tensor type for all operands keeps them simple.
      for (size_t i = 0; i < node.weights.size(); ++i)
        if (node.weights[i] >= 0)
          step.weights[i].data =
              const_cast<std::byte*>(c.file.weight_bytes(static_cast<size_t>(node.weights[i])).data());
      for (size_t i = 0; i < node.states.size(); ++i)
        step.states[i].data = c.state.data() + c.plan.states[static_cast<size_t>(node.states[i])].offset;
      step.context.node = &node;
      step.context.in = step.in;
      step.context.weights = step.weights;
      step.context.states = step.states;
      step.context.out = step.out;
      step.context.scratch = c.work.data() + plan.scratch[n].offset;
      step.context.pool = &pool_;
      step.context.threads = pool_.threads();
      step.context.backend = constants;
      step.context.ring = shapes.ring;
    }
  }

  ThreadPool pool_;
  std::span<std::byte> state_;
  HostVectors vectors_;
  bool flush_denormals_;
  std::vector<Method> methods_;
};

}  // namespace

std::vector<Tensor> tensors(std::span<const plan::TensorShape> shapes) {
  std::vector<Tensor> made;
  for (const plan::TensorShape& shape : shapes) made.push_back({shape, nullptr});
  return made;
}

size_t HostBackend::scratch_bytes(const fb::ModelT& model, const plan::Bounds& bounds, size_t method,
                                  size_t node, const plan::Plan& partial, int threads) const {
  const plan::NodeShapes shapes = plan::largest_shapes(model, bounds, partial, method, node);
  const Kernel& kernel = table_[static_cast<size_t>(graph::op_kind(shapes.node->args.type))];
  if (!kernel.scratch) return 0;
  const std::vector<Tensor> in = tensors(shapes.in), weights = tensors(shapes.weights),
                            states = tensors(shapes.states), out = tensors(shapes.out);
  KernelContext context{};
  context.node = shapes.node;
  context.in = in;
  context.weights = weights;
  context.states = states;
  context.out = out;
  context.ring = shapes.ring;
  context.backend = constants_;
  context.threads = parallel_ ? threads : 1;
  return kernel.scratch(context);
}

Result<std::unique_ptr<Executable>> HostBackend::compile(const Compilation& c) const {
  return std::make_unique<HostExecutable>(c, table_, constants_, parallel_ ? c.threads : 1, parallel_);
}

size_t HostBackend::overhead_bytes(const fb::ModelT&, const plan::Plan&, int threads) const {
  // A cache line per helper; thread stacks are touched for a few pages only.
  return parallel_ && threads > 1 ? static_cast<size_t>(threads) * (64u << 10) : 0;
}

}  // namespace linnet::host
