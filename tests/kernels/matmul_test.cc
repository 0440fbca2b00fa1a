// Every weight type on every instruction set of this machine, against double precision on the weights and
// activations as stored, with bounds from the number of roundings; and the properties callers rely on: a
// row's result is the same bits whatever rows and panels are computed with it.
#include "backends/cpu/matmul.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/targets.h"
#include "format/panel.h"
#include "tests/compare.h"

namespace linnet::cpu {
namespace {

constexpr float kUntouched = -12345.0f;

struct Matrix {
  DType dtype;
  int64_t n, k;
  std::vector<std::byte> storage;
  std::byte* panels = nullptr;  // 64-byte aligned
  std::vector<float> values;    // [n, k] as the panels hold them
};

std::vector<float> random_values(size_t count, float scale, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

Matrix make_matrix(DType dtype, int64_t n, int64_t k, uint32_t seed) {
  Matrix m{dtype, n, k, std::vector<std::byte>(format::matrix_bytes(dtype, n, k) + 64), nullptr, {}};
  m.panels = m.storage.data() + (64 - reinterpret_cast<uintptr_t>(m.storage.data()) % 64) % 64;
  const std::vector<float> source = random_values(static_cast<size_t>(n * k), 0.05f, seed);
  m.values.resize(source.size());
  for (int64_t row = 0; row < n; row += 16) {
    std::byte* panel = m.panels + static_cast<size_t>(row / 16) * format::panel_bytes(dtype, k);
    const int64_t rows = std::min<int64_t>(16, n - row);
    format::pack_panel(dtype, source.data() + row * k, rows, k, panel);
    for (int64_t r = 0; r < rows; ++r)
      format::unpack_panel_row(dtype, panel, r, k, m.values.data() + (row + r) * k);
  }
  return m;
}

struct Input {
  std::vector<float> x;
  std::vector<std::byte> quantized;
  Refine refine = Refine::kNone;
  MatmulArgs args(const Matrix& m, int64_t rows, std::vector<float>& y) const {
    MatmulArgs args;
    args.weights = m.panels;
    args.n = m.n;
    args.k = m.k;
    args.rows = rows;
    args.x = is_quantized(m.dtype) ? static_cast<const void*>(quantized.data()) : x.data();
    args.x_stride =
        is_quantized(m.dtype) ? quantized_row_bytes(m.k, refine) : static_cast<size_t>(m.k) * sizeof(float);
    args.refine = refine;
    args.y = y.data();
    args.y_stride = m.n + 3;
    return args;
  }
};

Input make_input(const MatmulKernels& kernels, int64_t rows, int64_t k, uint32_t seed) {
  Input in;
  in.x = random_values(static_cast<size_t>(rows * k), 1.0f, seed);
  in.quantized.resize(quantized_rows_bytes(rows, k));
  kernels.quantize_rows(in.x.data(), rows, k, k, Refine::kNone, in.quantized.data());
  return in;
}

// Rows with a few inputs far above the others, as behind a norm: here and there, and not in every row.
Input make_uneven_input(const MatmulKernels& kernels, int64_t rows, int64_t k, Refine refine, uint32_t seed) {
  Input in;
  in.refine = refine;
  in.x = random_values(static_cast<size_t>(rows * k), 1.0f, seed);
  for (int64_t t = 0; t < rows; ++t) {
    if (t % 3 != 0) in.x[static_cast<size_t>(t * k + (7 + t) % k)] *= 60;
    if (t % 4 == 1) in.x[static_cast<size_t>(t * k + k - 1)] = -70;
  }
  in.quantized.resize(quantized_rows_bytes(rows, k, refine));
  kernels.quantize_rows(in.x.data(), rows, k, k, refine, in.quantized.data());
  return in;
}

std::vector<float> multiply(const MatmulKernels& kernels, const Matrix& m, const Input& in, int64_t rows) {
  std::vector<float> y(static_cast<size_t>(rows * (m.n + 3)), kUntouched);
  kernels.matmul[static_cast<size_t>(m.dtype)](in.args(m, rows, y), 0, format::panel_count(m.n));
  return y;
}

std::vector<float> multiply_alone(const MatmulKernels& kernels, const Matrix& m, const Input& in,
                                  int64_t row) {
  std::vector<float> y(static_cast<size_t>(m.n), kUntouched);
  MatmulArgs args = in.args(m, 1, y);
  args.x = static_cast<const std::byte*>(args.x) + static_cast<size_t>(row) * args.x_stride;
  kernels.matmul[static_cast<size_t>(m.dtype)](args, 0, format::panel_count(m.n));
  return y;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The activations the kernels multiply with: x itself, x rounded to bf16, or d * q.
std::vector<double> effective_x(const MatmulKernels& kernels, const Matrix& m, const Input& in,
                                int64_t rows) {
  std::vector<double> x(static_cast<size_t>(rows * m.k));
  const auto groups = static_cast<size_t>((m.k + 31) / 32);
  for (size_t t = 0; t < static_cast<size_t>(rows); ++t)
    for (size_t i = 0; i < static_cast<size_t>(m.k); ++i) {
      const size_t at = t * static_cast<size_t>(m.k) + i;
      if (!is_quantized(m.dtype)) {
        const bool rounds = m.dtype == DType::kBF16 && kernels.rounds_to_bf16;
        x[at] = rounds ? bf16_to_f32(f32_to_bf16(in.x[at])) : in.x[at];
        continue;
      }
      ActivationGroup group;
      std::memcpy(&group, in.quantized.data() + (t * groups + i / 32) * sizeof group, sizeof group);
      x[at] = static_cast<double>(group.d) * group.q[i % 32];
    }
  return x;
}

void check_against_double(const MatmulKernels& kernels, DType dtype, int64_t n, int64_t k, int64_t rows) {
  CAPTURE(target_name(kernels.target));
  CAPTURE(dtype_name(dtype));
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(rows);
  const Matrix m = make_matrix(dtype, n, k, 1);
  const Input in = make_input(kernels, rows, k, 2);
  const std::vector<float> y = multiply(kernels, m, in, rows);
  const std::vector<double> x = effective_x(kernels, m, in, rows);
  // Roundings an output meets: one or two for each term of its sum, and the scale products.
  const double terms =
      is_quantized(dtype) ? 2.0 * static_cast<double>((k + 31) / 32) : static_cast<double>(k);
  const double unit = 0.5 * static_cast<double>(std::numeric_limits<float>::epsilon());
  bool within = true, within_input_rounding = true, untouched = true;
  double share = 0;
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t r = 0; r < n; ++r) {
      double exact = 0, magnitude = 0, wanted = 0, moved = 0;
      for (int64_t i = 0; i < k; ++i) {
        const auto at = static_cast<size_t>(t * k + i);
        const double w = m.values[static_cast<size_t>(r * k + i)];
        exact += w * x[at];
        wanted += w * in.x[at];
        magnitude += std::abs(w * x[at]);
        moved += std::abs(w * (x[at] - in.x[at]));
      }
      // The two parts of types with a minimum, d * q and m, are larger than their sum; q4a's q is at most 15
      // and |m| about 8 d.
      if (has_minimum(dtype)) magnitude *= 4;
      const double got = y[static_cast<size_t>(t * (n + 3) + r)];
      within &= std::abs(got - exact) <= (terms + 4) * unit * magnitude + 1e-30;
      share = std::max(share, std::abs(got - exact) / ((terms + 4) * unit * magnitude + 1e-30));
      within_input_rounding &= std::abs(got - wanted) <= moved + (terms + 4) * unit * magnitude + 1e-30;
    }
    for (int64_t r = n; r < n + 3; ++r) untouched &= y[static_cast<size_t>(t * (n + 3) + r)] == kUntouched;
  }
  testing::note_reached(std::string(target_name(kernels.target)) + ", " + std::string(dtype_name(dtype)),
                        share, 1);
  CHECK(within);
  CHECK(within_input_rounding);
  CHECK(untouched);
}

}  // namespace

TEST_CASE("products agree with double precision on every target") {
  for (const CpuTarget target : supported_targets())
    for (const DType dtype : kWeightTypes) {
      for (const int64_t rows : {1, 2, 3, 7, 16, 33})
        for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 32}, {5, 64}, {49, 100}, {96, 33}})
          check_against_double(matmul_kernels(target), dtype, n, k, rows);
      check_against_double(matmul_kernels(target), dtype, 1, 1, 1);
      check_against_double(matmul_kernels(target), dtype, 33, 1537, 5);
      check_against_double(matmul_kernels(target), dtype, 40, 300, 101);
      check_against_double(matmul_kernels(target), dtype, 37, 2081, 35);
    }
}

TEST_CASE("a row's bits depend neither on its neighbours nor on the split into panels") {
  // Some kernels take many rows through a stretch of the inputs at a time: 2,081 are more than one.
  for (const auto& [most, k] : {std::pair<int64_t, int64_t>{33, 419}, {35, 2081}})
    for (const CpuTarget target : supported_targets())
      for (const DType dtype : kWeightTypes) {
        // Stretches are of groups, whatever is in one: long rows for each kind of scales, not for each width
        // of codes.
        if (k > 1000 && super_halves(dtype) > 0 && dtype != DType::kQ4K && dtype != DType::kQ6K) continue;
        if (k > 1000 && (dtype == DType::kQ5 || dtype == DType::kQ5A || dtype == DType::kIQ4NL)) continue;
        CAPTURE(target_name(target));
        CAPTURE(dtype_name(dtype));
        CAPTURE(k);
        const MatmulKernels& kernels = matmul_kernels(target);
        const auto function = kernels.matmul[static_cast<size_t>(dtype)];
        constexpr int64_t kN = 105;
        const int64_t step = k < 1000 ? 1 : 3;
        const Matrix m = make_matrix(dtype, kN, k, 3);
        const Input in = make_input(kernels, most, k, 4);
        const std::vector<float> whole = multiply(kernels, m, in, most);
        bool rows_equal = true, splits_equal = true;
        for (int64_t t = 0; t < most; ++t) {
          const std::vector<float> alone = multiply_alone(kernels, m, in, t);
          for (size_t r = 0; r < kN; ++r)
            rows_equal &= same_bits(alone[r], whole[static_cast<size_t>(t * (kN + 3)) + r]);
        }
        for (const int64_t rows :
             {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{6}, int64_t{8}, int64_t{13}, most - 1, most})
          for (int64_t split = 1; split < format::panel_count(kN); split += step) {
            std::vector<float> parts(static_cast<size_t>(rows * (kN + 3)), kUntouched);
            const MatmulArgs args = in.args(m, rows, parts);
            function(args, split, format::panel_count(kN));
            function(args, 0, split);
            splits_equal &= std::memcmp(parts.data(), whole.data(), parts.size() * sizeof(float)) == 0;
          }
        CHECK(rows_equal);
        CHECK(splits_equal);
      }
}

TEST_CASE("rows in segments give the bits of the same rows in one piece") {
  // A convolution of 3 x 3: a row is three pixels of each of three lines, and the next row begins a pixel
  // later.
  constexpr int64_t kSegments = 3, kPixels = 3, kOutputs = 21, kRows = 37;
  for (const int64_t channels : {32, 256})
    for (const CpuTarget target : supported_targets())
      for (const DType dtype : kBlockTypes) {
        CAPTURE(target_name(target));
        CAPTURE(dtype_name(dtype));
        CAPTURE(channels);
        const MatmulKernels& kernels = matmul_kernels(target);
        const Matrix m = make_matrix(dtype, kOutputs, kSegments * kPixels * channels, 6);
        Input lines[kSegments];
        const void* starts[kSegments];
        for (int64_t s = 0; s < kSegments; ++s) {
          lines[s] = make_input(kernels, kRows + kPixels - 1, channels, 7 + static_cast<uint32_t>(s));
          starts[s] = lines[s].quantized.data();
        }
        const size_t pixel_bytes = quantized_row_bytes(channels), segment_bytes = kPixels * pixel_bytes;
        Input gathered;
        gathered.quantized.resize(kRows * kSegments * segment_bytes);
        for (size_t t = 0; t < kRows; ++t)
          for (size_t s = 0; s < kSegments; ++s)
            std::memcpy(gathered.quantized.data() + (t * kSegments + s) * segment_bytes,
                        lines[s].quantized.data() + t * pixel_bytes, segment_bytes);
        const std::vector<float> wanted = multiply(kernels, m, gathered, kRows);
        std::vector<float> y(wanted.size(), kUntouched);
        MatmulArgs args = gathered.args(m, kRows, y);
        args.k = kPixels * channels;
        args.x = nullptr;
        args.x_stride = pixel_bytes;
        args.segments = kSegments;
        args.x_segments = starts;
        kernels.matmul[static_cast<size_t>(dtype)](args, 0, format::panel_count(kOutputs));
        CHECK(std::memcmp(y.data(), wanted.data(), y.size() * sizeof(float)) == 0);
      }
}

TEST_CASE("second terms make a product more exact, and a row's bits do not depend on its neighbours") {
  constexpr int64_t kN = 41, kRows = 33;
  for (const DType dtype : kBlockTypes)
    for (const int64_t kK : {419, 2081}) {
      const Matrix m = make_matrix(dtype, kN, kK, 3);
      std::vector<float> first;  // of the first target with fused multiply-add
      for (const CpuTarget target : supported_targets()) {
        CAPTURE(target_name(target));
        CAPTURE(dtype_name(dtype));
        const MatmulKernels& kernels = matmul_kernels(target);
        double error[2] = {};  // by Refine: sum of squares
        for (const Refine refine : {Refine::kNone, Refine::kLargest}) {
          const Input in = make_uneven_input(kernels, kRows, kK, refine, 4);
          const std::vector<float> whole = multiply(kernels, m, in, kRows);
          bool rows_equal = true, untouched = true;
          for (int64_t t = 0; t < kRows; ++t) {
            const std::vector<float> alone = multiply_alone(kernels, m, in, t);
            const float* y = whole.data() + t * (kN + 3);
            for (int64_t r = 0; r < kN; ++r) {
              rows_equal &= same_bits(alone[static_cast<size_t>(r)], y[r]);
              double exact = 0;
              for (int64_t i = 0; i < kK; ++i)
                exact += static_cast<double>(m.values[static_cast<size_t>(r * kK + i)]) *
                         in.x[static_cast<size_t>(t * kK + i)];
              error[static_cast<size_t>(refine)] += (y[r] - exact) * (y[r] - exact);
            }
            for (int64_t r = kN; r < kN + 3; ++r) untouched &= y[r] == kUntouched;
          }
          CHECK(rows_equal);
          CHECK(untouched);
          if (target == CpuTarget::kPortable || refine == Refine::kNone) continue;
          if (first.empty()) first = whole;
          CHECK(std::memcmp(first.data(), whole.data(), first.size() * sizeof(float)) == 0);
        }
        testing::check_below(std::string(target_name(target)) + ", " + std::string(dtype_name(dtype)),
                             error[1] / error[0], 0.22);
      }
    }
}

TEST_CASE("targets with fused multiply-add give the same bits") {
  for (const DType dtype : kWeightTypes) {
    const Matrix m = make_matrix(dtype, 40, 203, 5);
    std::vector<float> first;
    for (const CpuTarget target : supported_targets()) {
      if (target == CpuTarget::kPortable) continue;
      if (dtype == DType::kBF16 && matmul_kernels(target).rounds_to_bf16) continue;
      CAPTURE(target_name(target));
      CAPTURE(dtype_name(dtype));
      const std::vector<float> y =
          multiply(matmul_kernels(target), m, make_input(matmul_kernels(target), 9, 203, 6), 9);
      if (first.empty()) first = y;
      CHECK(std::memcmp(y.data(), first.data(), y.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("extreme codes do not overflow the 16-bit sums") {
  // Weights at both ends of their codes against activations at +-127: the largest sums the formats allow.
  // Scales of one (and minima), so that every product is exact.
  for (const CpuTarget target : supported_targets())
    for (const DType dtype : kBlockTypes)
      for (const unsigned code : {0x00u, 0xFFu, 0x80u, 0x7Fu, 0x77u}) {
        CAPTURE(target_name(target));
        CAPTURE(dtype_name(dtype));
        CAPTURE(code);
        const DTypeInfo& info = info_of(dtype);
        Matrix m = make_matrix(dtype, 16, 32, 7);
        format::BlockGroup group;
        group.scale = group.minimum = f32_to_f16(1.0f);
        const uint8_t one = info.scale == FactorKind::kSuperSigned6 ? 33
                            : info.scale == FactorKind::kE8M0       ? 128
                            : info.scale == FactorKind::kE4M3       ? 0x40
                                                                    : 1;
        group.factor = {one, one};
        group.least = {1, 1};
        group.codes.fill(static_cast<uint8_t>(code & ((1u << info.bits) - 1)));
        const std::vector<format::BlockGroup> groups(16, group);
        format::pack_panel_from_groups(dtype, groups.data(), 16, 32, m.panels);
        for (int64_t r = 0; r < 16; ++r)
          format::unpack_panel_row(dtype, m.panels, r, 32, m.values.data() + r * 32);
        for (const float sign : {1.0f, -1.0f}) {
          Input in = make_input(matmul_kernels(target), 1, 32, 8);
          in.x.assign(32, sign * 127.0f);
          matmul_kernels(target).quantize_rows(in.x.data(), 1, 32, 32, Refine::kNone, in.quantized.data());
          const std::vector<float> y = multiply(matmul_kernels(target), m, in, 1);
          double exact = 0;
          for (size_t i = 0; i < 32; ++i) exact += static_cast<double>(m.values[i]) * in.x[i];
          for (size_t r = 0; r < 16; ++r) CHECK(static_cast<double>(y[r]) == exact);
        }
      }
}

TEST_CASE("a NaN or an infinity reaches its row and no other") {
  for (const CpuTarget target : supported_targets())
    for (const DType dtype : kWeightTypes)
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()})
        for (const size_t where : {0u, 31u, 32u, 66u}) {
          CAPTURE(target_name(target));
          CAPTURE(dtype_name(dtype));
          CAPTURE(where);
          const MatmulKernels& kernels = matmul_kernels(target);
          const Matrix m = make_matrix(dtype, 20, 67, 9);
          Input in = make_input(kernels, 3, 67, 10);
          in.x[67 + where] = bad;
          kernels.quantize_rows(in.x.data(), 3, 67, 67, Refine::kNone, in.quantized.data());
          const std::vector<float> y = multiply(kernels, m, in, 3);
          bool clean = true, poisoned = true;
          for (size_t r = 0; r < 20; ++r) {
            clean &= std::isfinite(y[r]) && std::isfinite(y[2 * 23 + r]);
            poisoned &= !std::isfinite(y[23 + r]);
          }
          CHECK(clean);
          CHECK(poisoned);
        }
}

TEST_CASE("damaged scales reach the outputs") {
  for (const CpuTarget target : supported_targets())
    for (const DType dtype : kBlockTypes) {
      CAPTURE(target_name(target));
      CAPTURE(dtype_name(dtype));
      const MatmulKernels& kernels = matmul_kernels(target);
      const Matrix m = make_matrix(dtype, 16, 64, 11);
      std::vector<format::BlockGroup> groups;
      for (int64_t r = 0; r < 16; ++r)
        for (int64_t b = 0; b < 2; ++b) groups.push_back(format::panel_group(dtype, m.panels, r, b));
      // Row 5: the second group, its super-block, or the row, whatever the scale belongs to.
      for (size_t g : {10u, 11u}) {
        if (g == 10 && super_halves(dtype) == 0 && !format::has_row_scales(dtype)) continue;
        groups[g].scale = 0x7E00;
        groups[g].row_scale = std::numeric_limits<float>::quiet_NaN();
        if (info_of(dtype).scale == FactorKind::kE8M0) groups[g].factor[0] = 255;
      }
      format::pack_panel_from_groups(dtype, groups.data(), 16, 64, m.panels);
      CHECK_FALSE(format::panel_is_finite(dtype, m.panels, 64));
      const std::vector<float> y = multiply(kernels, m, make_input(kernels, 2, 64, 12), 2);
      for (size_t r = 0; r < 16; ++r) CHECK(std::isfinite(y[r]) == (r != 5));
    }
}

}  // namespace linnet::cpu
