#include "converter/write_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

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
      written.bytes += w.layout == fb::Layout::RowMajor
                           ? elements * sizeof(float)
                           : format::matrix_bytes(dtype, w.rows->rows, w.rows->columns);
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
          if (!rounder.importance().empty()) ++written.calibrated;
          LINNET_TRY(writer.pack_and_write_groups(
              w.name, dtype, w.shape,
              [&](int64_t first, int64_t rows, format::BlockGroup* groups) -> Result<void> {
                LINNET_TRY(step(first));
                return rounder.groups(first, rows, groups);
              }));
          done += elements;
          LINNET_TRY(step(0));
          continue;
        }
        LINNET_TRY(writer.pack_and_write_matrix(
            w.name, dtype, w.shape,
            [&](int64_t first, int64_t rows, float* values) -> Result<void> {
              LINNET_TRY(step(first));
              return w.rows->read(first, rows, values);
            },
            on_a_grid ? format::ScaleSearch::kFitted : format::ScaleSearch::kNone));
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
  std::vector<float> values, rounded;
  std::vector<std::byte> panel;
  std::vector<format::BlockGroup> groups;
  for (const WeightPlan& w : weights) {
    const int64_t rows = w.rows->rows, columns = w.rows->columns;
    const bool plain = w.layout == fb::Layout::RowMajor;
    ConvertReport::Tensor m{w.name, plain ? DType::kF32 : policy.choose(w), 0, 0};
    m.bytes = plain ? static_cast<uint64_t>(rows * columns) * sizeof(float)
                    : format::matrix_bytes(m.dtype, rows, columns);
    const bool whole = plain || m.dtype == DType::kF32 || w.rows->lossless() == m.dtype;
    double error = 0, square = 0;
    const bool in_groups = is_quantized(m.dtype) && columns % kGroupSize == 0;
    std::optional<MatrixRounder> rounder;
    if (!whole && in_groups) {
      LINNET_ASSIGN(MatrixRounder made, MatrixRounder::create(rounding, w.name, m.dtype, w.rows));
      rounder.emplace(std::move(made));
      groups.resize(static_cast<size_t>(format::kPanelRows * columns / kGroupSize));
    }
    const std::span<const float> importance = rounder ? rounder->importance() : std::span<const float>();
    for (int64_t first = 0; first < rows && !whole; first += format::kPanelRows) {
      const int64_t count = std::min(format::kPanelRows, rows - first);
      values.resize(static_cast<size_t>(count * columns));
      rounded.resize(static_cast<size_t>(columns));
      panel.resize(format::panel_bytes(m.dtype, columns));
      LINNET_TRY(w.rows->read(first, count, values.data()));
      if (rounder) {
        LINNET_TRY(rounder->groups(first, count, groups.data()));
        format::pack_panel_from_groups(m.dtype, groups.data(), count, columns, panel.data());
      } else {
        format::pack_panel(m.dtype, values.data(), count, columns, panel.data(),
                           w.rows->lossless() ? format::ScaleSearch::kFitted : format::ScaleSearch::kNone);
      }
      for (int64_t r = 0; r < count; ++r) {
        format::unpack_panel_row(m.dtype, panel.data(), r, columns, rounded.data());
        for (int64_t c = 0; c < columns; ++c) {
          const auto x = static_cast<double>(values[static_cast<size_t>(r * columns + c)]),
                     e = x - static_cast<double>(rounded[static_cast<size_t>(c)]),
                     weight =
                         importance.empty() ? 1.0 : static_cast<double>(importance[static_cast<size_t>(c)]);
          square += weight * x * x;
          error += weight * e * e;
        }
      }
      const auto now = done + static_cast<uint64_t>((first + count) * columns);
      if (options.progress && !options.progress("measuring", now, total))
        return fail(ErrorCode::kCancelled, "stopped");
    }
    m.error = square > 0 ? error / square : 0;
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
