// Convolutions of the image models, one line for each shape and weight type: milliseconds and operations per
// second, and XNNPACK's f32 convolution in the same run where it is installed.
//
//   linnet_convolution_bench [threads] [rounds]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "backends/cpu/kernels.h"
#include "format/panel.h"

#ifdef LINNET_BENCH_XNNPACK
#include <pthreadpool.h>
#include <xnnpack.h>
#endif

namespace linnet::cpu {
namespace {

struct Case {
  const char* what;
  int64_t height, width, channels, outputs, kernel, upsample;
  bool depthwise, gated;
};
constexpr Case kCases[] = {
    {"DC-AE 128 ch, 64 rows of 1024", 64, 1024, 128, 128, 3, 1, false, false},
    {"DC-AE 256 ch, 64 rows of 512", 64, 512, 256, 256, 3, 1, false, false},
    {"DC-AE 512 ch at 64 x 256", 64, 256, 512, 512, 3, 1, false, false},
    {"DC-AE up 1024 ch 16x16 -> 32x32", 16, 16, 1024, 1024, 3, 2, false, false},
    {"DC-AE last, 128 -> 3, 64 rows of 1024", 64, 1024, 128, 3, 3, 1, false, false},
    {"SANA depthwise 3x3 gated, 32 x 32 x 5760", 32, 32, 5760, 5760, 3, 1, true, true},
    {"SANA depthwise 3x3, 32 x 32 x 5760", 32, 32, 5760, 5760, 3, 1, true, false},
    {"DC-AE depthwise 5x5, 64 x 64 x 1536", 64, 64, 1536, 1536, 5, 1, true, false},
};

std::vector<float> random_floats(int64_t n) {
  static std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<size_t>(n) + 16);
  for (float& v : values) v = uniform(random);
  return values;
}

template <typename F>
double best_seconds(int rounds, const F& f) {
  double best = 1e30;
  for (int i = 0; i <= rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (i > 0) best = std::min(best, took.count());
  }
  return best;
}

void report(const char* what, const char* type, double seconds, double operations) {
  std::printf("%-42s %-8s %9.2f ms %8.1f Gop/s\n", what, type, 1e3 * seconds, operations / seconds / 1e9);
}

void run(const Case& c, int threads, int rounds) {
  const int64_t height = c.height * c.upsample, width = c.width * c.upsample;
  const int64_t inputs = c.kernel * c.kernel * (c.depthwise ? 1 : c.channels);
  const double operations =
      2.0 * static_cast<double>(height * width * c.outputs) * static_cast<double>(inputs);
  const std::vector<float> x = random_floats(c.height * c.width * c.channels);
  const std::vector<float> w = random_floats(c.outputs * inputs), bias = random_floats(c.outputs);
  std::vector<float> y(static_cast<size_t>(height * width * c.outputs) + 16);
  fb::NodeT node;
  fb::Convolution2dT args;
  args.kernel_height = args.kernel_width = static_cast<int>(c.kernel);
  args.pad_top = args.pad_left = static_cast<int>(c.kernel / 2);
  args.upsample = static_cast<int>(c.upsample);
  args.groups = c.depthwise ? static_cast<int>(c.channels) : 1;
  args.gated = c.gated;
  if (c.gated) args.activation = fb::Activation::Silu;
  node.args.Set(std::move(args));
  host::ThreadPool pool(threads);
  const CpuTarget target = detect_best_target();
  const CpuConstants constants{target, &matmul_kernels(target)};
  const auto tensor = [](const void* data, std::vector<int64_t> dims) {
    Tensor t;
    t.data = static_cast<std::byte*>(const_cast<void*>(data));
    t.rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), t.dims);
    return t;
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ8}) {
    if (c.depthwise && dtype != DType::kF32) continue;
    std::vector<std::byte> panels;
    Tensor weight = tensor(w.data(), {c.kernel, c.kernel, c.channels});
    if (!c.depthwise) {
      const size_t bytes = format::panel_bytes(dtype, inputs);
      panels.resize(bytes * static_cast<size_t>(format::panel_count(c.outputs)) + 64);
      for (int64_t r = 0; r < c.outputs; r += 16)
        format::pack_panel(dtype, w.data() + r * inputs, std::min<int64_t>(16, c.outputs - r), inputs,
                           panels.data() + bytes * static_cast<size_t>(r / 16));
      weight = tensor(panels.data(), {c.outputs, inputs});
      weight.layout = fb::Layout::Panel;
      weight.dtype = dtype;
    }
    const std::vector<Tensor> in = {tensor(x.data(), {c.height, c.width, c.channels})};
    const std::vector<Tensor> weights = {weight, tensor(bias.data(), {c.outputs})};
    const std::vector<Tensor> out = {tensor(y.data(), {height, width, c.gated ? c.outputs / 2 : c.outputs})};
    KernelContext context{};
    context.node = &node;
    context.in = in;
    context.weights = weights;
    context.out = out;
    context.threads = threads;
    context.backend = &constants;
    const Kernel kernel = kernel_convolution_2d(target);
    std::vector<std::byte> scratch(kernel.scratch(context) + 64);
    context.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    context.pool = &pool;
    report(c.what, std::string(dtype_name(dtype)).c_str(), best_seconds(rounds, [&] { kernel.run(context); }),
           operations);
  }
#ifdef LINNET_BENCH_XNNPACK
  if (c.upsample != 1) return;
  xnn_initialize(nullptr);
  // Ours sleeps by now: its threads spin for less than a millisecond after a loop.
  const std::unique_ptr<pthreadpool, decltype(&pthreadpool_destroy)> theirs(
      threads > 1 ? pthreadpool_create(static_cast<size_t>(threads)) : nullptr, &pthreadpool_destroy);
  xnn_operator_t op = nullptr;
  const auto pad = static_cast<uint32_t>(c.kernel / 2), kernel = static_cast<uint32_t>(c.kernel);
  const auto channels = static_cast<size_t>(c.channels), outputs = static_cast<size_t>(c.outputs);
  if (xnn_create_convolution2d_nhwc_f32(
          pad, pad, pad, pad, kernel, kernel, 1, 1, 1, 1, c.depthwise ? static_cast<uint32_t>(channels) : 1,
          c.depthwise ? 1 : channels, c.depthwise ? 1 : outputs, channels, outputs, w.data(), bias.data(),
          -INFINITY, INFINITY, 0, &op) != xnn_status_success)
    return;
  if (xnn_setup_convolution2d_nhwc_f32(op, 1, static_cast<size_t>(c.height), static_cast<size_t>(c.width),
                                       x.data(), y.data(), theirs.get()) == xnn_status_success)
    report(c.what, "XNNPACK", best_seconds(rounds, [&] { xnn_run_operator(op, theirs.get()); }), operations);
  xnn_delete_operator(op);
#endif
}

}  // namespace
}  // namespace linnet::cpu

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2, rounds = argc > 2 ? std::atoi(argv[2]) : 3;
  for (const auto& c : linnet::cpu::kCases) linnet::cpu::run(c, threads, rounds);
}
