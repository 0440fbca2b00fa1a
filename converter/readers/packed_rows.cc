#include "converter/readers/packed_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

using format::BlockGroup;

class Fp4Rows final : public RowSource {
 public:
  Fp4Rows(const Checkpoint& checkpoint, const std::string& own_name, const Fp4Matrix& matrix)
      : checkpoint_(checkpoint), m_(matrix) {
    rows = m_.rows;
    columns = m_.columns;
    name = own_name;
  }
  std::optional<DType> lossless() const override {
    return columns % kGroupSize == 0 ? std::optional(type()) : std::nullopt;
  }
  std::optional<DType> stored() const override { return type(); }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    std::vector<BlockGroup> groups(static_cast<size_t>((columns + kGroupSize - 1) / kGroupSize));
    std::array<float, kGroupSize> values;
    for (int64_t r = begin; r < begin + count; ++r) {
      LINNET_TRY(read_row(r, groups.data()));
      for (int64_t c = 0; c < columns; c += kGroupSize) {
        format::values_of(type(), groups[static_cast<size_t>(c / kGroupSize)], values.data());
        out = std::copy_n(values.begin(), std::min(kGroupSize, columns - c), out);
      }
    }
    return {};
  }
  Result<void> read_groups(int64_t begin, int64_t count, BlockGroup* out) const override {
    for (int64_t r = begin; r < begin + count; ++r, out += columns / kGroupSize) LINNET_TRY(read_row(r, out));
    return {};
  }

 private:
  DType type() const { return m_.group == 16 ? DType::kNVFP4 : DType::kMXFP4; }

  Result<void> read_row(int64_t row, BlockGroup* out) const {
    LINNET_ASSIGN(const auto codes, checkpoint_.read_bytes(*m_.codes, static_cast<size_t>(columns / 2)));
    LINNET_ASSIGN(const auto scales,
                  checkpoint_.read_bytes(*m_.scales, static_cast<size_t>(m_.scale_stride)));
    const auto* q = reinterpret_cast<const uint8_t*>(codes.data()) + row * (columns / 2);
    const auto* s = reinterpret_cast<const uint8_t*>(scales.data()) + row * m_.scale_stride;
    const int64_t halves = kGroupSize / m_.group;
    for (int64_t first = 0; first < columns; first += kGroupSize, ++out) {
      *out = format::zero_group(type());
      out->row_scale = m_.row_scale;
      const int64_t count = std::min(kGroupSize, columns - first);
      for (int64_t i = 0; i < count; ++i)
        out->codes[static_cast<size_t>(i)] = q[(first + i) / 2] >> (i % 2 * 4) & 15;
      for (int64_t h = 0; h < halves && first + h * m_.group < columns; ++h)
        out->factor[static_cast<size_t>(h)] = s[first / m_.group + h];
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const Fp4Matrix m_;
};

class TurnedRows final : public RowSource {
 public:
  TurnedRows(Rows source, std::vector<float> hadamard, int64_t size, float global)
      : source_(std::move(source)), hadamard_(std::move(hadamard)), size_(size) {
    rows = source_->rows;
    columns = source_->columns;
    name = source_->name;
    factor_ = 1 / (std::sqrt(static_cast<double>(size)) * static_cast<double>(global));
  }
  // Turned back they lie on no grid.
  std::optional<DType> stored() const override { return DType::kQ8; }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    LINNET_TRY(source_->read(begin, count, out));
    std::vector<double> turned(static_cast<size_t>(size_));
    for (int64_t at = 0; at < count * columns; at += size_) {
      for (int64_t i = 0; i < size_; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < size_; ++j)
          sum += static_cast<double>(hadamard_[static_cast<size_t>(i * size_ + j)]) *
                 static_cast<double>(out[at + j]);
        turned[static_cast<size_t>(i)] = sum * factor_;
      }
      for (int64_t i = 0; i < size_; ++i) out[at + i] = static_cast<float>(turned[static_cast<size_t>(i)]);
    }
    return {};
  }

 private:
  Rows source_;
  std::vector<float> hadamard_;
  int64_t size_;
  double factor_ = 1;
};

class IntegerRows final : public RowSource {
 public:
  IntegerRows(const Checkpoint& checkpoint, const std::string& own_name, IntegerMatrix matrix)
      : checkpoint_(checkpoint), m_(std::move(matrix)) {
    rows = m_.rows;
    columns = m_.columns;
    name = own_name;
  }

  // Scales and zeros, and what they allow.
  Result<void> prepare() {
    const auto count = static_cast<size_t>(rows * m_.groups);
    std::vector<float> stored(count);
    LINNET_TRY(checkpoint_.read_f32(*m_.scales, 0, m_.scales->rows(), stored.data()));
    scales_.resize(count);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < m_.groups; ++g)
        scales_[place(r, g)] =
            stored[static_cast<size_t>(m_.scales_by_row ? r * m_.groups + g : g * rows + r)];
    zeros_.assign(count, m_.zero);
    if (m_.zeros) LINNET_TRY(read_zeros());
    bool halves = true, in_groups = columns % kGroupSize == 0, symmetric = true, plain_zero = true;
    for (const float scale : scales_) halves &= f16_to_f32(f32_to_f16(scale)) == scale;
    for (int64_t c = 0; c < columns; ++c)
      in_groups &= m_.group_of[static_cast<size_t>(c)] ==
                   m_.group_of[static_cast<size_t>(c / kGroupSize * kGroupSize)];
    for (const int zero : zeros_) symmetric &= zero == 1 << (m_.bits - 1), plain_zero &= zero >= 0;
    if (!halves || !in_groups) return {};
    if (m_.bits == 4 && symmetric) lossless_ = DType::kQ4;
    if (m_.bits == 8 && symmetric) lossless_ = DType::kQ8;
    // The minimum -scale * zero is rounded to f16: at most 1/270 of a step, where the codes are known to half
    // a one.
    if (m_.bits == 4 && !symmetric && plain_zero) lossless_ = DType::kQ4A;
    return {};
  }

  std::optional<DType> lossless() const override { return lossless_; }
  // Codes that no format holds as they are: a format with four times their levels.
  std::optional<DType> stored() const override {
    return lossless_ ? *lossless_ : m_.bits <= 4 ? DType::kQ6K : DType::kQ8;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return by_code(begin, count, [&](int64_t row, int64_t column, int code) {
      const size_t at = place(row, m_.group_of[static_cast<size_t>(column)]);
      out[(row - begin) * columns + column] = scales_[at] * static_cast<float>(code - zeros_[at]);
    });
  }
  Result<void> read_groups(int64_t begin, int64_t count, BlockGroup* out) const override {
    const int64_t blocks = columns / kGroupSize;
    for (int64_t r = begin; r < begin + count; ++r)
      for (int64_t b = 0; b < blocks; ++b) {
        BlockGroup& group = out[(r - begin) * blocks + b];
        const size_t at = place(r, m_.group_of[static_cast<size_t>(b * kGroupSize)]);
        group = BlockGroup();
        group.scale = f32_to_f16(scales_[at]);
        if (lossless_ == DType::kQ4A)
          group.minimum = f32_to_f16(-scales_[at] * static_cast<float>(zeros_[at]));
      }
    return by_code(begin, count, [&](int64_t row, int64_t column, int code) {
      const int stored = lossless_ == DType::kQ8 ? code - 128 : code;
      out[(row - begin) * blocks + column / kGroupSize].codes[static_cast<size_t>(column % kGroupSize)] =
          static_cast<uint8_t>(stored);
    });
  }

 private:
  static constexpr int kAwqOrder[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // in which nibble output 8 c + i lies

  size_t place(int64_t row, int64_t group) const { return static_cast<size_t>(row * m_.groups + group); }
  int64_t per_word() const { return 32 / m_.bits; }
  uint32_t mask() const { return (uint32_t{1} << m_.bits) - 1; }
  static uint32_t word_at(std::span<const std::byte> bytes, int64_t index) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + index * 4, 4);
    return word;
  }
  // Code `i` of the words of a line.
  int code_of(uint32_t word, int64_t i) const {
    const int64_t place =
        m_.packing == IntegerMatrix::Packing::kOutputsInTurn ? kAwqOrder[i % 8] : i % per_word();
    return static_cast<int>(word >> (place * m_.bits) & mask());
  }

  Result<void> read_zeros() {
    LINNET_ASSIGN(const auto bytes, checkpoint_.read_bytes(*m_.zeros, m_.zeros->bytes.size()));
    // Packed over outputs: [groups, words], or [words, groups] where scales are by row.
    const int64_t words = (rows + per_word() - 1) / per_word();
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < m_.groups; ++g) {
        const int64_t at = m_.scales_by_row ? r / per_word() * m_.groups + g : g * words + r / per_word();
        zeros_[place(r, g)] = code_of(word_at(bytes, at), r) + m_.zero_more;
      }
    return {};
  }

  template <typename F>
  Result<void> by_code(int64_t begin, int64_t count, const F& f) const {
    LINNET_ASSIGN(const auto bytes,
                  checkpoint_.read_bytes(*m_.codes, static_cast<size_t>(count * columns * m_.bits / 8)));
    using Packing = IntegerMatrix::Packing;
    const int64_t words = m_.packing == Packing::kInputsAlong ? (columns + per_word() - 1) / per_word()
                                                              : rows / per_word();  // of a line
    for (int64_t c = 0; c < columns; ++c)  // lines of words first: a row's words lie far apart
      for (int64_t r = begin; r < begin + count; ++r) {
        const int64_t at = m_.packing == Packing::kInputsDown    ? c / per_word() * rows + r
                           : m_.packing == Packing::kInputsAlong ? r * words + c / per_word()
                                                                 : c * words + r / per_word();
        f(r, c, code_of(word_at(bytes, at), m_.packing == Packing::kOutputsInTurn ? r : c));
      }
    return {};
  }

  const Checkpoint& checkpoint_;
  const IntegerMatrix m_;
  std::vector<float> scales_;  // [rows, groups]
  std::vector<int> zeros_;
  std::optional<DType> lossless_;
};

class TableRows final : public RowSource {
 public:
  TableRows(const Checkpoint& checkpoint, const std::string& own_name, TableMatrix matrix)
      : checkpoint_(checkpoint), m_(std::move(matrix)) {
    rows = m_.rows;
    columns = m_.columns;
    name = own_name;
  }
  // Its levels are no multiples of a step.
  std::optional<DType> stored() const override { return DType::kQ6K; }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    LINNET_ASSIGN(const auto bytes,
                  checkpoint_.read_bytes(*m_.codes, static_cast<size_t>(count * columns / 2)));
    for (int64_t i = begin * columns; i < (begin + count) * columns; ++i) {
      const auto byte = static_cast<unsigned>(bytes[static_cast<size_t>(i / 2)]);
      *out++ = m_.table[i % 2 == 0 ? byte >> 4 : byte & 15] * m_.scales[static_cast<size_t>(i / m_.block)];
    }
    return {};
  }

 private:
  const Checkpoint& checkpoint_;
  const TableMatrix m_;
};

}  // namespace

Rows fp4_rows(const Checkpoint& checkpoint, const std::string& name, const Fp4Matrix& matrix) {
  return std::make_shared<Fp4Rows>(checkpoint, name, matrix);
}
Rows turned_rows(Rows source, std::vector<float> hadamard, int64_t size, float global) {
  return std::make_shared<TurnedRows>(std::move(source), std::move(hadamard), size, global);
}
Result<Rows> integer_rows(const Checkpoint& checkpoint, const std::string& name, IntegerMatrix matrix) {
  const auto rows = std::make_shared<IntegerRows>(checkpoint, name, std::move(matrix));
  LINNET_TRY(rows->prepare());
  return rows;
}
Rows table_rows(const Checkpoint& checkpoint, const std::string& name, TableMatrix matrix) {
  return std::make_shared<TableRows>(checkpoint, name, std::move(matrix));
}

}  // namespace linnet::convert
