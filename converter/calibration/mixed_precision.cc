#include "converter/calibration/mixed_precision.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "converter/self_test.h"
#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// From few bits to many; each is the best of its size in this family.
constexpr DType kCandidates[] = {DType::kQ2K, DType::kQ3K, DType::kIQ4XS, DType::kQ4K,
                                 DType::kQ5K, DType::kQ6K, DType::kQ8};
constexpr DType kProbe = DType::kQ3K;  // what a tensor is rounded to when its sensitivity is measured
constexpr int64_t kLength = 256, kSequences = 2;
constexpr int64_t kSampledRows = 128;  // of a matrix, for its errors

struct Candidate {
  DType dtype;
  uint64_t bytes;
  double error;  // squared and weighted, as a share of the square
};

struct Tensor {
  size_t weight;
  size_t node;  // that reads it first
  double probe_error = 0, sensitivity = 0;
  std::vector<Candidate> candidates;  // by bytes
};

// What stands for a matrix that is rounded to a type.
Rows rounded_rows(Rows rows, DType dtype, std::vector<float> importance) {
  const auto columns = static_cast<size_t>(rows->columns);
  return map_rows(std::move(rows), [dtype, columns, importance = std::move(importance)](int64_t, float* row) {
    std::vector<format::BlockGroup> groups(columns / static_cast<size_t>(kGroupSize));
    format::quantize_row(dtype, {row, columns}, format::ScaleSearch::kNone, groups.data(), importance);
    for (size_t g = 0; g < groups.size(); ++g)
      format::values_of(dtype, groups[g], row + g * static_cast<size_t>(kGroupSize));
  });
}

std::vector<float> importance_of(const Calibration* calibration, const std::string& name) {
  const InputStatistics* inputs = calibration ? calibration->find(name) : nullptr;
  return inputs ? floored_importance(inputs->energy) : std::vector<float>();
}

// Rows spread over a matrix, and what rounding them to a type leaves.
Result<double> sampled_error(const RowSource& rows, DType dtype, std::span<const float> importance,
                             host::ThreadPool& pool) {
  const int64_t columns = rows.columns, count = std::min(kSampledRows, rows.rows);
  std::vector<float> values(static_cast<size_t>(count * columns));
  for (int64_t r = 0; r < count; ++r)
    LINNET_TRY(rows.read(r * rows.rows / count, 1, values.data() + r * columns));
  std::vector<double> errors(static_cast<size_t>(count)), squares(static_cast<size_t>(count));
  pool.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    std::vector<format::BlockGroup> groups(static_cast<size_t>(columns / kGroupSize));
    std::array<float, static_cast<size_t>(kGroupSize)> back;
    for (int64_t r = begin; r < end; ++r) {
      const std::span<const float> row(values.data() + r * columns, static_cast<size_t>(columns));
      format::quantize_row(dtype, row, format::ScaleSearch::kNone, groups.data(), importance);
      double error = 0, square = 0;
      for (size_t c = 0; c < row.size(); ++c) {
        const size_t at = c % back.size();
        if (at == 0) format::values_of(dtype, groups[c / back.size()], back.data());
        const double x = static_cast<double>(row[c]), e = x - static_cast<double>(back[at]);
        const double counts = importance.empty() ? 1.0 : static_cast<double>(importance[c]);
        error += counts * e * e;
        square += counts * x * x;
      }
      errors[static_cast<size_t>(r)] = error;
      squares[static_cast<size_t>(r)] = square;
    }
  });
  double error = 0, square = 0;
  for (size_t r = 0; r < errors.size(); ++r) error += errors[r], square += squares[r];
  return square > 0 ? error / square : 0.0;
}

// The weights that have a choice, with what each type would cost them.
Result<std::vector<Tensor>> find_tensors(const StreamedModel& model, const QuantizePolicy& policy,
                                         const MixedOptions& options, uint64_t& fixed_bytes) {
  const std::span<const WeightPlan> weights = model.weights();
  std::vector<size_t> first(weights.size(), model.method().nodes.size());
  for (size_t n = model.method().nodes.size(); n-- > 0;)
    for (const int w : model.method().nodes[n]->weights)
      if (w >= 0) first[static_cast<size_t>(w)] = n;
  std::vector<Tensor> tensors;
  fixed_bytes = 0;
  for (size_t w = 0; w < weights.size(); ++w) {
    const WeightPlan& weight = weights[w];
    const RowSource& rows = *weight.rows;
    const bool plain = weight.layout == fb::Layout::RowMajor;
    using enum WeightRole;
    const bool free = !plain && !policy.excepts(weight) && rows.columns % kGroupSize == 0 &&
                      (weight.role == kMatrix || weight.role == kEmbedding || weight.role == kHead);
    const bool read = first[w] < model.method().nodes.size();
    if (!free || !read) {
      fixed_bytes += plain ? static_cast<uint64_t>(rows.rows * rows.columns) * sizeof(float)
                           : weight_bytes(weight, policy.choose(weight));
      continue;
    }
    Tensor tensor{.weight = w, .node = first[w], .candidates = {}};
    const std::vector<float> importance = importance_of(options.rounding.calibration, weight.name);
    const std::optional<DType> stored = rows.lossless();
    if (stored) tensor.candidates.push_back({*stored, weight_bytes(weight, *stored), 0});
    for (const DType dtype : kCandidates) {
      const uint64_t bytes = weight_bytes(weight, dtype);
      if (stored && bytes >= tensor.candidates[0].bytes && dtype != kProbe)
        continue;  // more bytes for nothing
      LINNET_ASSIGN(const double error, sampled_error(rows, dtype, importance, *options.rounding.pool));
      if (dtype == kProbe) tensor.probe_error = error;
      if (!stored || bytes < tensor.candidates[0].bytes) tensor.candidates.push_back({dtype, bytes, error});
    }
    std::stable_sort(tensor.candidates.begin(), tensor.candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bytes < b.bytes; });
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

Result<void> measure_sensitivities(StreamedModel& model, std::vector<Tensor>& tensors,
                                   std::span<const int32_t> ids, int32_t bos, const MixedOptions& options) {
  // From the middle of the text, where it is past its beginnings.
  const auto wanted = static_cast<size_t>(kLength * kSequences);
  std::vector<StreamedSequence> sequences = cut_sequences(
      ids.subspan(ids.size() > 2 * wanted ? ids.size() / 2 : 0), bos, kLength, kLength * kSequences);
  StreamedModel::Run run{.keep = true, .observe = {}, .progress = {}};
  LINNET_TRY(model.run(sequences, run));
  std::vector<std::vector<float>> expected;
  for (const StreamedSequence& s : sequences) {
    const std::span<const float> logits = model.logits(s);
    expected.emplace_back(logits.begin(), logits.end());
  }
  // From the last to the first, so that what lies before a node is as it was without rounding.
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const Tensor& a, const Tensor& b) { return a.node > b.node; });
  uint64_t done = 0;
  for (Tensor& tensor : tensors) {
    if (options.progress && !options.progress(done++, tensors.size()))
      return fail(ErrorCode::kCancelled, "the measuring of sensitivities was stopped; no file was written");
    const WeightPlan& weight = model.weights()[tensor.weight];
    model.replace(tensor.weight, rounded_rows(weight.rows, kProbe,
                                              importance_of(options.rounding.calibration, weight.name)));
    run.first = model.restart(tensor.node);
    LINNET_TRY(model.run(sequences, run));
    model.replace(tensor.weight, nullptr);
    double kl = 0;
    for (size_t s = 0; s < sequences.size(); ++s)
      kl += compare_logits(expected[s], model.logits(sequences[s]), kLength).mean_kl;
    kl /= static_cast<double>(sequences.size());
    if (!std::isfinite(kl))
      return fail(ErrorCode::kNumeric,
                  strf("with '{}' rounded the model's answers are not finite", weight.name));
    tensor.sensitivity = tensor.probe_error > 0 ? std::max(kl, 0.0) / tensor.probe_error : 0;
  }
  return {};
}

// Of a tensor, the candidate that is best when a byte costs `price` nats.
const Candidate& best_at(const Tensor& tensor, double price) {
  const Candidate* best = nullptr;
  double least = 0;
  for (const Candidate& c : tensor.candidates) {
    const double cost = tensor.sensitivity * c.error + price * static_cast<double>(c.bytes);
    if (!best || cost < least) best = &c, least = cost;
  }
  return *best;
}

uint64_t bytes_at(std::span<const Tensor> tensors, double price) {
  uint64_t bytes = 0;
  for (const Tensor& t : tensors) bytes += best_at(t, price).bytes;
  return bytes;
}

}  // namespace

Result<MixedChoice> choose_types(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                 const QuantizePolicy& policy, const host::HostBackend& backend,
                                 std::span<const int32_t> ids, int32_t bos, const MixedOptions& options) {
  LINNET_ASSIGN(const auto streamed,
                StreamedModel::create(model, weights, backend, kLength, options.threads));
  uint64_t fixed = 0;
  LINNET_ASSIGN(std::vector<Tensor> tensors, find_tensors(*streamed, policy, options, fixed));
  uint64_t least = fixed;
  for (const Tensor& t : tensors) least += t.candidates.front().bytes;
  if (options.budget < least)
    return fail(ErrorCode::kInvalidArgument,
                strf("the weights take at least {} bytes ({} MB), and the budget is {} bytes", least,
                     (least + 999'999) / 1'000'000, options.budget));
  LINNET_TRY(measure_sensitivities(*streamed, tensors, ids, bos, options));
  const uint64_t room = options.budget - fixed;
  double low = 0, high = 1;  // prices of a byte: too cheap, dear enough
  while (bytes_at(tensors, high) > room && high < 1e30) high *= 16;
  if (bytes_at(tensors, 0) <= room) high = 0;
  for (int i = 0; i < 200 && high > 0; ++i) {
    const double middle = low > 0 ? std::sqrt(low * high) : high * 1e-6;
    (bytes_at(tensors, middle) > room ? low : high) = middle;
    if (low > 0 && high / low < 1 + 1e-9) break;
    if (high < 1e-300) break;
  }
  std::vector<const Candidate*> chosen;
  MixedChoice choice;
  choice.bytes = fixed;
  for (const Tensor& t : tensors) {
    chosen.push_back(&best_at(t, high));
    choice.bytes += chosen.back()->bytes;
  }
  // What is left over goes where a byte mends most.
  for (;;) {
    size_t best = tensors.size();
    const Candidate* to = nullptr;
    double most = 0;
    for (size_t i = 0; i < tensors.size(); ++i)
      for (const Candidate& c : tensors[i].candidates) {
        if (c.bytes <= chosen[i]->bytes || choice.bytes - chosen[i]->bytes + c.bytes > options.budget)
          continue;
        const double gain = tensors[i].sensitivity * (chosen[i]->error - c.error) /
                            static_cast<double>(c.bytes - chosen[i]->bytes);
        if (gain > most) most = gain, best = i, to = &c;
      }
    if (!to) break;
    choice.bytes += to->bytes - chosen[best]->bytes;
    chosen[best] = to;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    choice.types[weights[tensors[i].weight].name] = chosen[i]->dtype;
    choice.expected_kl += tensors[i].sensitivity * chosen[i]->error;
  }
  return choice;
}

}  // namespace linnet::convert
