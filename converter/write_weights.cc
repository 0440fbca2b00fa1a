#include "converter/write_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// What packing rows leaves, read back: of types that stand alone, and of rows that end within a group.
class PanelError {
 public:
  void add(DType dtype, const float* values, int64_t rows, int64_t columns, bool on_a_grid) {
    if (dtype == DType::kF32) return;
    panel_.resize(format::panel_bytes(dtype, columns));
    back_.resize(static_cast<size_t>(columns));
    format::pack_panel(dtype, values, rows, columns, panel_.data(),
                       on_a_grid ? format::ScaleSearch::kFitted : format::ScaleSearch::kNone);
    for (int64_t r = 0; r < rows; ++r) {
      format::unpack_panel_row(dtype, panel_.data(), r, columns, back_.data());
      for (int64_t c = 0; c < columns; ++c) {
        const auto x = static_cast<double>(values[r * columns + c]),
                   e = x - static_cast<double>(back_[static_cast<size_t>(c)]);
        error_ += e * e;
        square_ += x * x;
      }
    }
  }
  double share() const { return square_ > 0 ? error_ / square_ : 0; }

 private:
  std::vector<std::byte> panel_;
  std::vector<float> back_;
  double error_ = 0, square_ = 0;
};

}  // namespace

Result<Written> write_weights(const ConvertOptions& options, const QuantizePolicy& policy,
                              const Rounding& rounding, format::ModelWriter& writer,
                              std::span<const WeightPlan> weights) {
  Written written;
  uint64_t total = 0, done = 0;
  for (const WeightPlan& w : weights) total += static_cast<uint64_t>(w.rows->rows * w.rows->columns);
  for (const WeightPlan& w : weights) {
    const auto elements = static_cast<uint64_t>(w.rows->rows * w.rows->columns);
    written.parameters += static_cast<int64_t>(elements);
    const auto count_bytes = [&](DType dtype) {
      const uint64_t bytes =
          w.layout == fb::Layout::RowMajor ? elements * sizeof(float) : weight_bytes(w, dtype);
      written.bytes += bytes;
      written.tensors.push_back({w.name, dtype, bytes, 0});
    };
    const auto step = [&](int64_t rows) -> Result<void> {
      const uint64_t now = done + static_cast<uint64_t>(rows * w.rows->columns);
      if (options.progress && !options.progress("writing", now, total))
        return fail(ErrorCode::kCancelled, "the conversion was stopped; no file was written");
      return {};
    };
    if (w.layout == fb::Layout::RowMajor) {
      LINNET_ASSIGN(const std::vector<float> values, read_all(*w.rows));
      LINNET_TRY(writer.begin_weight(w.name, DType::kF32, fb::Layout::RowMajor, w.shape));
      LINNET_TRY(writer.write(std::as_bytes(std::span(values))));
      LINNET_TRY(writer.end_weight());
      written.by_dtype["f32"]++;
      count_bytes(DType::kF32);
    } else {
      const DType dtype = policy.choose(w);
      written.by_dtype[std::string(dtype_name(dtype))]++;
      count_bytes(dtype);
      if (is_quantized(dtype) && w.rows->lossless() == dtype && w.rows->columns % kGroupSize == 0) {
        ++written.lossless;
        LINNET_TRY(writer.pack_and_write_groups(
            w.name, dtype, w.shape,
            [&](int64_t first, int64_t rows, format::BlockGroup* groups) -> Result<void> {
              LINNET_TRY(step(first));
              return w.rows->read_groups(first, rows, groups);
            }));
      } else {
        const bool on_a_grid = w.rows->lossless().has_value();
        if (is_quantized(dtype) && on_a_grid) ++written.requantized;
        if (is_quantized(dtype) && w.rows->columns % kGroupSize == 0) {
          LINNET_ASSIGN(MatrixRounder rounder, MatrixRounder::create(rounding, w.name, dtype, w.rows));
          if (rounder.calibrated()) ++written.calibrated;
          LINNET_TRY(writer.pack_and_write_groups(
              w.name, dtype, w.shape,
              [&](int64_t first, int64_t rows, format::BlockGroup* groups) -> Result<void> {
                LINNET_TRY(step(first));
                return rounder.groups(first, rows, groups);
              }));
          written.tensors.back().error = rounder.error();
          done += elements;
          LINNET_TRY(step(0));
          continue;
        }
        PanelError error;
        LINNET_TRY(writer.pack_and_write_matrix(
            w.name, dtype, w.shape,
            [&](int64_t first, int64_t rows, float* values) -> Result<void> {
              LINNET_TRY(step(first));
              LINNET_TRY(w.rows->read(first, rows, values));
              if (w.rows->stored() != dtype) error.add(dtype, values, rows, w.rows->columns, on_a_grid);
              return {};
            },
            on_a_grid ? format::ScaleSearch::kFitted : format::ScaleSearch::kNone));
        written.tensors.back().error = error.share();
      }
    }
    done += elements;
    LINNET_TRY(step(0));
  }
  return written;
}

Result<std::vector<ConvertReport::Tensor>> measure_weights(const ConvertOptions& options,
                                                           const QuantizePolicy& policy,
                                                           const Rounding& rounding,
                                                           std::span<const WeightPlan> weights) {
  std::vector<ConvertReport::Tensor> all;
  uint64_t total = 0, done = 0;
  for (const WeightPlan& w : weights) total += static_cast<uint64_t>(w.rows->rows * w.rows->columns);
  std::vector<float> values;
  std::vector<format::BlockGroup> groups;
  for (const WeightPlan& w : weights) {
    const int64_t rows = w.rows->rows, columns = w.rows->columns;
    const bool plain = w.layout == fb::Layout::RowMajor;
    ConvertReport::Tensor m{w.name, plain ? DType::kF32 : policy.choose(w), 0, 0};
    m.bytes = plain ? static_cast<uint64_t>(rows * columns) * sizeof(float) : weight_bytes(w, m.dtype);
    const bool whole = plain || m.dtype == DType::kF32 || w.rows->lossless() == m.dtype;
    std::optional<MatrixRounder> rounder;
    if (!whole && is_quantized(m.dtype) && columns % kGroupSize == 0) {
      LINNET_ASSIGN(MatrixRounder made, MatrixRounder::create(rounding, w.name, m.dtype, w.rows));
      rounder.emplace(std::move(made));
      groups.resize(static_cast<size_t>(format::kPanelRows * columns / kGroupSize));
    }
    PanelError error;
    for (int64_t first = 0; first < rows && !whole; first += format::kPanelRows) {
      const int64_t count = std::min(format::kPanelRows, rows - first);
      if (rounder) {
        LINNET_TRY(rounder->groups(first, count, groups.data()));
      } else {
        values.resize(static_cast<size_t>(count * columns));
        LINNET_TRY(w.rows->read(first, count, values.data()));
        error.add(m.dtype, values.data(), count, columns, w.rows->lossless().has_value());
      }
      const auto now = done + static_cast<uint64_t>((first + count) * columns);
      if (options.progress && !options.progress("measuring", now, total))
        return fail(ErrorCode::kCancelled, "stopped");
    }
    m.error = rounder ? rounder->error() : error.share();
    done += static_cast<uint64_t>(rows * columns);
    all.push_back(std::move(m));
  }
  return all;
}

std::vector<std::string> describe(const Written& written) {
  std::vector<std::string> notes;
  std::string types;
  for (const auto& [dtype, count] : written.by_dtype)
    types += (types.empty() ? "" : ", ") + strf("{} {}", count, dtype);
  const double bits = 8.0 * static_cast<double>(written.bytes) / static_cast<double>(written.parameters);
  notes.push_back(strf("tensors: {}; {} bits a weight", types, std::round(100 * bits) / 100));
  if (written.calibrated)
    notes.push_back(strf("{} tensors rounded by what the calibration text asks of them", written.calibrated));
  if (written.lossless) notes.push_back(strf("{} tensors imported without loss", written.lossless));
  if (written.requantized)
    notes.push_back(strf("{} tensors requantised from another block format (some precision is lost)",
                         written.requantized));
  return notes;
}

std::string listed(std::vector<std::string> items) {
  constexpr size_t kMostListed = 12;
  std::string text;
  for (size_t i = 0; i < items.size() && i < kMostListed; ++i) text += "\n  " + items[i];
  if (items.size() > kMostListed) text += strf("\n  and {} more", items.size() - kMostListed);
  return text;
}

}  // namespace linnet::convert
