#include "converter/calibration/calibration.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr size_t kTogether = 8;  // sequences that run at once: what a weight's reading is shared by

// X^T X with the backend's own products of matrices: channels are the rows of one side and of the other.
void add_products(StreamedModel& model, const host::Tensor& x, std::vector<float>& sum) {
  const int64_t rows = x.rows(), columns = x.dims[x.rank - 1];
  const auto n = static_cast<size_t>(columns);
  std::vector<float> turned(static_cast<size_t>(rows) * n);
  model.pool().parallel_for(columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = begin; c < end; ++c)
        turned[static_cast<size_t>(c * rows + r)] = x.as()[r * columns + c];
  });
  AlignedBytes panels(format::matrix_bytes(DType::kF32, columns, rows) + plan::kOverread);
  AlignedBytes values(turned.size() * sizeof(float) + plan::kOverread);
  std::memcpy(values.data(), turned.data(), turned.size() * sizeof(float));
  const size_t panel = format::panel_bytes(DType::kF32, rows);
  for (int64_t c = 0; c < columns; c += format::kPanelRows)
    format::pack_panel(DType::kF32, turned.data() + c * rows, std::min(format::kPanelRows, columns - c), rows,
                       panels.data() + static_cast<size_t>(c / format::kPanelRows) * panel);
  AlignedBytes products(n * n * sizeof(float) + plan::kOverread);
  const auto matrix = [](int64_t a, int64_t b, fb::Layout layout, std::byte* data) {
    host::Tensor t;
    t.dtype = DType::kF32;
    t.layout = layout;
    t.rank = 2;
    t.dims[0] = a;
    t.dims[1] = b;
    t.data = data;
    return t;
  };
  fb::NodeT node;
  node.args.Set(fb::LinearT{});
  node.inputs = {0};
  node.weights = {0, -1};
  node.outputs = {0};
  const host::Tensor in[] = {matrix(columns, rows, fb::Layout::RowMajor, values.data())};
  const host::Tensor weights[] = {matrix(columns, rows, fb::Layout::Panel, panels.data()), {}};
  const host::Tensor out[] = {matrix(columns, columns, fb::Layout::RowMajor, products.data())};
  host::KernelContext c{};
  c.node = &node;
  c.in = in;
  c.weights = weights;
  c.out = out;
  c.threads = model.pool().threads();
  c.backend = model.backend().constants();
  const host::Kernel& kernel = model.backend().kernel(graph::op_kind(node.args.type));
  AlignedBytes scratch((kernel.scratch ? kernel.scratch(c) : 0) + plan::kOverread);
  c.scratch = scratch.data();
  c.pool = &model.pool();
  kernel.run(c);
  const auto* product = reinterpret_cast<const float*>(products.data());
  for (size_t i = 0; i < n * n; ++i) sum[i] += product[i];
}

// Half of what the machine has.
uint64_t memory_for_covariances() {
  const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && bytes > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(bytes) / 2 : 0;
}

// Which statistics each matrix of the method shares: those that read the same value.
struct Sums {
  InputStatistics statistics;
  std::vector<double> energy;
  int64_t rows = 0;
};
struct Inputs {
  std::map<int, std::shared_ptr<Sums>> by_value;
  std::map<std::string, int> by_weight;
};

Inputs find_inputs(const fb::MethodT& method, std::span<const WeightPlan> weights) {
  Inputs inputs;
  std::set<std::string> tables;
  for (const auto& node : method.nodes)
    for (size_t i = 0; i < node->weights.size(); ++i) {
      if (node->weights[i] < 0) continue;
      const WeightPlan& weight = weights[static_cast<size_t>(node->weights[i])];
      const graph::WeightRead read = graph::weight_read(*node, i);
      using enum graph::WeightUse;
      if (read.use == kTable) tables.insert(weight.name);
      if ((read.use != kMatrix && read.use != kExperts && read.use != kHead) || read.input < 0 ||
          weight.layout != fb::Layout::Panel)
        continue;
      const int value = node->inputs[static_cast<size_t>(read.input)];
      inputs.by_weight[weight.name] = value;
      auto& sums = inputs.by_value[value];
      if (!sums) sums = std::make_shared<Sums>();
      sums->statistics.columns = weight.rows->columns;
    }
  // A table that is a head as well: its rows are also read as they are, by ids, where every column counts
  // alike.
  for (const std::string& table : tables) inputs.by_weight.erase(table);
  return inputs;
}

}  // namespace

std::vector<StreamedSequence> cut_sequences(std::span<const int32_t> ids, int32_t bos, int64_t length,
                                            int64_t most) {
  std::vector<StreamedSequence> sequences;
  const int64_t own = bos >= 0 ? length - 1 : length;
  const auto total = static_cast<int64_t>(ids.size());
  for (int64_t at = 0; at + own <= total && static_cast<int64_t>(sequences.size()) * length < most;
       at += own) {
    StreamedSequence s;
    if (bos >= 0) s.ids.push_back(bos);
    s.ids.insert(s.ids.end(), ids.begin() + at, ids.begin() + at + own);
    sequences.push_back(std::move(s));
  }
  return sequences;
}

Result<Calibration> Calibration::measure(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                         const host::HostBackend& backend, std::span<const int32_t> ids,
                                         int32_t bos, const CalibrationOptions& options) {
  std::vector<StreamedSequence> all = cut_sequences(ids, bos, options.length, options.most);
  if (all.size() < 2)
    return fail(
        ErrorCode::kInvalidArgument,
        strf("the calibration text has {} tokens: it needs at least {} (some pages of what the model is "
             "used for)",
             ids.size(), 2 * options.length));
  LINNET_ASSIGN(const auto streamed,
                StreamedModel::create(model, weights, backend, options.length, options.threads));
  Inputs inputs = find_inputs(streamed->method(), weights);
  uint64_t bytes = 0;
  for (const auto& [value, sums] : inputs.by_value) {
    const auto n = static_cast<uint64_t>(sums->statistics.columns);
    bytes += n * n * sizeof(float);
  }
  if (options.covariances && bytes > memory_for_covariances())
    return fail(ErrorCode::kOutOfMemory,
                strf("the covariances of the inputs take {} MiB, more than half of this machine's memory: "
                     "--no-error-feedback does without them",
                     bytes >> 20));
  for (auto& [value, sums] : inputs.by_value) {
    const auto n = static_cast<size_t>(sums->statistics.columns);
    sums->energy.assign(n, 0.0);
    if (options.covariances) sums->statistics.covariance.assign(n * n, 0.0f);
  }
  const uint64_t nodes = streamed->method().nodes.size();
  const uint64_t batches = (all.size() + kTogether - 1) / kTogether;
  for (uint64_t batch = 0; batch < batches; ++batch) {
    const std::span now =
        std::span(all).subspan(batch * kTogether, std::min(kTogether, all.size() - batch * kTogether));
    StreamedModel::Run run;
    run.logits = false;
    std::map<int, std::set<const std::byte*>> done;
    run.observe = [&](const fb::NodeT& node, std::span<const host::Tensor> in) -> Result<void> {
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const auto found = inputs.by_value.find(node.inputs[i]);
        if (found == inputs.by_value.end() || !in[i].data) continue;
        // Several nodes may read the same value: each is counted once for a sequence.
        if (!done[node.inputs[i]].insert(in[i].data).second) continue;
        Sums& sums = *found->second;
        if (in[i].channels() != sums.statistics.columns)
          return fail(ErrorCode::kInternal, strf("node '{}' reads {} channels, and a matrix of it {}",
                                                 node.name, in[i].channels(), sums.statistics.columns));
        const auto n = static_cast<size_t>(sums.statistics.columns);
        const int64_t rows = in[i].rows();
        for (int64_t r = 0; r < rows; ++r) {
          const float* x = in[i].as() + r * sums.statistics.columns;
          for (size_t c = 0; c < n; ++c)
            sums.energy[c] += static_cast<double>(x[c]) * static_cast<double>(x[c]);
        }
        sums.rows += rows;
        if (options.covariances) add_products(*streamed, in[i], sums.statistics.covariance);
      }
      return {};
    };
    run.progress = [&](size_t node, size_t) -> Result<void> {
      if (options.progress && !options.progress(batch * nodes + node, batches * nodes))
        return fail(ErrorCode::kCancelled, "the calibration was stopped; no file was written");
      return {};
    };
    LINNET_TRY(streamed->run(now, run));
    for (StreamedSequence& s : now) s.values.clear(), s.states.clear();
  }
  Calibration result;
  result.tokens_ = static_cast<int64_t>(all.size()) * options.length;
  std::map<int, std::shared_ptr<const InputStatistics>> finished;
  for (auto& [value, sums] : inputs.by_value) {
    InputStatistics& statistics = sums->statistics;
    const double rows = static_cast<double>(std::max<int64_t>(sums->rows, 1));
    for (const double e : sums->energy) statistics.energy.push_back(static_cast<float>(e / rows));
    for (float& c : statistics.covariance) c = static_cast<float>(static_cast<double>(c) / rows);
    finished[value] = std::shared_ptr<const InputStatistics>(sums, &statistics);
  }
  for (const auto& [weight, value] : inputs.by_weight) result.by_weight_[weight] = finished[value];
  return result;
}

const InputStatistics* Calibration::find(const std::string& weight) const {
  const auto found = by_weight_.find(weight);
  return found == by_weight_.end() ? nullptr : found->second.get();
}

}  // namespace linnet::convert
