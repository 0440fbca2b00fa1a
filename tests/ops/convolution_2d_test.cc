#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"
#include "tests/ops/rounding_bound.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

struct Shape {
  int64_t height, width, channels, outputs, kernel, stride, upsample;
  int64_t pad() const { return kernel - stride; }
};

fb::Convolution2dT arguments(const Shape& s, Random& random) {
  fb::Convolution2dT args;
  args.kernel_height = args.kernel_width = static_cast<int>(s.kernel);
  args.stride = static_cast<int>(s.stride);
  args.upsample = static_cast<int>(s.upsample);
  args.pad_top = static_cast<int>(random.pick(0, s.pad()));
  args.pad_left = static_cast<int>(random.pick(0, s.pad()));
  return args;
}

// Rows [pixels, (ky, kx, c)] of the input under the kernel: what the product of a dense convolution sees.
std::vector<float> gathered(const Shape& s, const fb::Convolution2dT& args, std::span<const float> x) {
  const int64_t height = s.height * s.upsample, width = s.width * s.upsample;
  std::vector<float> rows;
  for (int64_t i = 0; i < height / s.stride; ++i)
    for (int64_t j = 0; j < width / s.stride; ++j)
      for (int64_t ky = 0; ky < s.kernel; ++ky)
        for (int64_t kx = 0; kx < s.kernel; ++kx)
          for (int64_t c = 0; c < s.channels; ++c) {
            const int64_t y = i * s.stride - args.pad_top + ky, z = j * s.stride - args.pad_left + kx;
            const bool inside = y >= 0 && z >= 0 && y < height && z < width;
            const int64_t at = ((y / s.upsample) * s.width + z / s.upsample) * s.channels + c;
            rows.push_back(inside ? x[static_cast<size_t>(at)] : 0.0f);
          }
  return rows;
}

}  // namespace

TEST_CASE("convolution_2d: dense, every element type, within the rounding of activations") {
  check_op(24, [](OpBuilder& op, Random& random) {
    Shape s{};
    s.kernel = random.choice({1, 2, 3, 5});
    s.stride = random.pick(1, std::min<int64_t>(2, s.kernel));
    s.upsample = s.stride == 1 ? random.choice({1, 1, 2, 3}) : 1;
    s.height = s.stride * random.pick(1, 7);
    s.width = s.stride * random.choice({1, 2, 5, 13});
    s.channels = random.choice({1, 3, 8, 32, 33, 64});
    s.outputs = random.choice({1, 3, 16, 20, 40});
    const DType dtype = random.choice({DType::kF32, DType::kF32, DType::kF16, DType::kQ8, DType::kQ4A});
    const auto args = arguments(s, random);
    op.args(args);
    op.input({s.height, s.width, s.channels});
    const int64_t inputs = s.kernel * s.kernel * s.channels;
    op.matrix(dtype, s.outputs, inputs);
    const auto bound = std::make_shared<std::vector<double>>(
        product_bound(dtype, gathered(s, args, op.input_values(0)), op.stored_matrix(0), inputs));
    op.tolerance([bound](size_t, size_t i) { return 1.01 * (*bound)[i] + 1e-6; });
    if (random.chance(0.5)) op.vector({s.outputs});
    op.output({s.height * s.upsample / s.stride, s.width * s.upsample / s.stride, s.outputs});
  });
}

TEST_CASE("convolution_2d: activation, gate and residual") {
  check_op(16, [](OpBuilder& op, Random& random) {
    const Shape s{random.pick(1, 6), random.pick(1, 12), random.choice({4, 32}), 24, 3, 1, 1};
    auto args = arguments(s, random);
    args.activation = random.choice({fb::Activation::Silu, fb::Activation::Relu, fb::Activation::None});
    args.gated = random.chance(0.5);
    op.args(args);
    op.tolerance(7e-6, 1e-6);  // reached: 7e-7
    const int64_t written = args.gated ? 12 : 24;
    op.input({s.height, s.width, s.channels});
    if (random.chance(0.5)) op.input({s.height, s.width, written});
    op.matrix(DType::kF32, 24, 9 * s.channels, normal(0.2f));
    if (random.chance(0.5)) op.vector({24});
    op.output({s.height, s.width, written});
  });
}

TEST_CASE("convolution_2d: depthwise, with activation, gate, residual, stride and upsampling") {
  check_op(24, [](OpBuilder& op, Random& random) {
    Shape s{};
    s.kernel = random.choice({3, 5, 7, 2});
    s.stride = random.chance(0.2) ? 2 : 1;
    s.upsample = s.stride == 1 && random.chance(0.2) ? 2 : 1;
    s.height = s.stride * random.pick(1, 6);
    s.width = s.stride * random.choice({1, 3, 4, 9, 21});
    s.channels = random.choice({2, 16, 50, 256, 300, 514});
    auto args = arguments(s, random);
    args.groups = static_cast<int>(s.channels);
    args.activation = random.choice({fb::Activation::Silu, fb::Activation::Relu, fb::Activation::None});
    args.gated = random.chance(0.4);
    op.args(args);
    op.tolerance(2.5e-6, 2.5e-7);  // reached: 2.5e-7
    const int64_t height = s.height * s.upsample / s.stride, width = s.width * s.upsample / s.stride;
    const int64_t written = args.gated ? s.channels / 2 : s.channels;
    op.input({s.height, s.width, s.channels});
    if (random.chance(0.3)) op.input({height, width, written});
    op.vector({s.kernel, s.kernel, s.channels});
    if (random.chance(0.6)) op.vector({s.channels});
    op.output({height, width, written});
  });
}

TEST_CASE("convolution_2d: groups") {
  check_op(16, [](OpBuilder& op, Random& random) {
    const int64_t groups = random.choice({2, 3, 6}), in = random.choice({4, 32}),
                  out = random.choice({5, 16, 32});
    const Shape s{
        random.pick(1, 5), random.pick(1, 9), groups * in, groups * out, random.choice({1, 3}), 1, 1};
    auto args = arguments(s, random);
    args.groups = static_cast<int>(groups);
    args.gated = groups * out % 2 == 0 && random.chance(0.3);
    op.args(args);
    op.tolerance(2e-6, 2e-7);  // reached: 2e-7
    op.input({s.height, s.width, s.channels});
    op.matrices(random.choice({DType::kF32, DType::kF16}), groups, out, s.kernel * s.kernel * in,
                normal(0.2f));
    op.vector({s.outputs});
    op.output({s.height, s.width, args.gated ? s.outputs / 2 : s.outputs});
  });
}

TEST_CASE("convolution_2d: sizes that need several preparations of lines, below the bound") {
  check_op(2, [](OpBuilder& op, Random& random) {
    Shape s{9, 300, 64, 48, 3, 1, 2};
    auto args = arguments(s, random);
    args.pad_top = args.pad_left = 1;
    op.args(args);
    op.tolerance(1.2e-5, 1e-6);  // reached: 1.2e-6
    op.symbol("height", s.height, 20);
    op.symbol("width", s.width, 320);
    op.input({Extent("height"), Extent("width"), s.channels});
    op.matrix(DType::kF32, s.outputs, 9 * s.channels, normal(0.05f));
    op.output({Extent("height", 2), Extent("width", 2), s.outputs});
  });
}

TEST_CASE("convolution_2d: by hand, zeros outside the image") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::Convolution2dT args;
    args.kernel_height = args.kernel_width = 3;
    args.pad_top = args.pad_left = 1;
    b.args(args);
    b.input({2, 3, 1}, exactly({1, 2, 3, 4, 5, 6}));
    b.matrix(DType::kF32, 1, 9, exactly({1, 10, 100, 1000, 10000, 100000, 1e6f, 2e6f, 4e6f}));
    b.vector({1}, exactly({0.5f}));
    b.output({2, 3, 1});
  });
  check_op_equals(*op,
                  {{10000 + 200000 + 8e6f + 20e6f + 0.5f, 1000 + 20000 + 300000 + 4e6f + 10e6f + 24e6f + 0.5f,
                    2000 + 30000 + 5e6f + 12e6f + 0.5f, 10 + 200 + 40000 + 500000 + 0.5f,
                    1 + 20 + 300 + 4000 + 50000 + 600000 + 0.5f, 2 + 30 + 5000 + 60000 + 0.5f}},
                  2);  // in millions; reached: 0
}

TEST_CASE("convolution_2d: golden") {
  // Conv2d(8, 6, 3, stride 2, padding 1), and SANA's depthwise stage: conv_depth of silu, a * silu(b).
  const GoldenFile golden("convolution_2d");
  const auto strided = make_op([&](OpBuilder& b, Random&) {
    fb::Convolution2dT args;
    args.kernel_height = args.kernel_width = 3;
    args.stride = 2;
    args.pad_top = args.pad_left = 1;
    b.args(args);
    b.input({6, 10, 8}, exactly(golden["x"]));
    b.matrix(DType::kF32, 6, 72, exactly(golden["weight"]));
    b.vector({6}, exactly(golden["bias"]));
    b.output({3, 5, 6});
  });
  check_op_equals(*strided, {golden["y"]},
                  1e-5);  // reached: 5.7e-6, of which the official sum in f32 is 3.8e-6
  const auto gated = make_op([&](OpBuilder& b, Random&) {
    fb::Convolution2dT args;
    args.kernel_height = args.kernel_width = 3;
    args.pad_top = args.pad_left = 1;
    args.groups = 8;
    args.gated = true;
    args.activation = fb::Activation::Silu;
    b.args(args);
    b.input({6, 10, 8}, exactly(golden["x"]));
    b.vector({3, 3, 8}, exactly(golden["depth_weight"]));
    b.vector({8}, exactly(golden["depth_bias"]));
    b.output({6, 10, 4});
  });
  check_op_equals(*gated, {golden["gated"]}, 1e-5);
}

TEST_CASE("convolution_2d: a NaN reaches the pixels under whose kernel it is and no other") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::Convolution2dT args;
    args.kernel_height = args.kernel_width = 3;
    args.pad_top = args.pad_left = 1;
    b.args(args);
    std::vector<float> x(1 * 4 * 32, 1.0f);
    x[5] = NAN;
    b.input({1, 4, 32}, exactly(x));
    b.matrix(DType::kQ8, 3, 9 * 32);
    b.output({1, 4, 3});
  });
  for (const Backend* backend : all_backends()) {
    const OpRun found = run_op(*op, *backend);
    for (size_t i = 0; i < 12; ++i) CHECK(std::isnan(found.outputs[0][i]) == (i < 6));
  }
}

TEST_CASE("convolution_2d: sizes that do not follow are refused") {
  const auto error = [](Extent height, int64_t stride) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      fb::Convolution2dT args;
      args.kernel_height = args.kernel_width = 3;
      args.stride = static_cast<int>(stride);
      b.args(args);
      b.symbol("height", 4);
      b.input({Extent("height", 2), 6, 3});
      b.matrix(DType::kF32, 4, 27);
      b.output({height, 6 / stride, 4});
    });
    return creation_error(*op, *all_backends().front());
  };
  CHECK(error(Extent("height", 2), 1).empty());
  CHECK(error(Extent("height"), 2).empty());
  CHECK(error(Extent("height"), 1).find("has not the height and width") != std::string::npos);
  CHECK(error(Extent("height"), 3).find("exact factors") != std::string::npos);
  CHECK(error(Extent("height"), 4).find("stride") != std::string::npos);
}
