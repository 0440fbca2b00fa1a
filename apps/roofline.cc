#include "apps/roofline.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "backends/cpu/matmul.h"
#include "format/verify.h"
#include "runtime/graph/op_traits.h"

namespace linnet::app {
namespace {

constexpr int kPeakPasses = 4;
constexpr int64_t kIterations = 200000;

}  // namespace

double ArithmeticProbe::measure(double (*probe)(int64_t iterations)) {
  if (!probe) return 0;
  double best = 0;
  std::vector<double> done(static_cast<size_t>(pool_.threads()));
  for (int pass = 0; pass < kPeakPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool_.parallel_for_thread(pool_.threads(), 1, [&](int thread, int64_t begin, int64_t end) {
      double& operations = done[static_cast<size_t>(thread)];
      operations = 0;
      for (int64_t i = begin; i < end; ++i) operations += probe(kIterations);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double operations = 0;
    for (const double d : done) operations += d;
    best = std::max(best, operations / seconds.count());
  }
  return best;
}

Peaks ArithmeticProbe::measure() {
  const cpu::Probes& probes = cpu::matmul_kernels(target_).probes;
  return {measure(probes.int8), measure(probes.f32)};
}

MatrixWork matrix_work(const fb::ModelT& model, size_t method) {
  MatrixWork work;
  for (const auto& node : model.methods[method]->nodes) {
    for (size_t i = 0; i < node->weights.size(); ++i) {
      if (node->weights[i] < 0) continue;
      const graph::WeightRead read = graph::weight_read(*node, i);
      if (read.use != graph::WeightUse::kMatrix && read.use != graph::WeightUse::kExperts) continue;
      const fb::WeightT& weight = *model.weights[static_cast<size_t>(node->weights[i])];
      double elements = 1;
      for (const int64_t d : weight.shape) elements *= static_cast<double>(d);
      (is_quantized(format::to_dtype(weight.dtype)) ? work.int8 : work.f32) += 2 * elements * read.share;
    }
  }
  return work;
}

}  // namespace linnet::app
