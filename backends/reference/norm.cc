#include <cmath>

#include "backends/reference/kernels.h"

namespace linnet::reference {

// What follows normalisation and gate: modulation (adaptive norms of DiT), activation, residual.
static void finish(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  const int64_t d = c.in[0].channels();
  const float* modulation = c.in.size() > 2 ? c.in[2].as() : nullptr;
  const float* residual = c.in.size() > 3 ? c.in[3].as() : nullptr;
  for (int64_t i = 0; i < c.out[0].elements(); ++i) {
    float& y = c.out[0].as()[i];
    if (args.scale_part >= 0) y *= 1.0f + modulation[args.scale_part * d + i % d];
    if (args.shift_part >= 0) y += modulation[args.shift_part * d + i % d];
    y = host::activate(args.activation, y);
    if (residual) y += residual[i];
  }
}

// GroupNorm (Wu and He 2018): one mean and deviation for a group of channels over all rows.
static void image(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  const int64_t d = c.in[0].channels(), rows = c.in[0].rows(), group = args.group;
  const float* w = !c.weights.empty() ? c.weights[0].as() : nullptr;
  const float* b = c.weights.size() > 1 ? c.weights[1].as() : nullptr;
  for (int64_t g = 0; g < d; g += group) {
    const auto each = [&](const auto& f) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = g; i < g + group; ++i) f(r * d + i, i);
    };
    double sum = 0, squares = 0;
    each([&](int64_t at, int64_t) { sum += static_cast<double>(c.in[0].as()[at]); });
    const double n = static_cast<double>(rows * group), mean = sum / n;
    each([&](int64_t at, int64_t) {
      const double v = static_cast<double>(c.in[0].as()[at]) - mean;
      squares += v * v;
    });
    const double inverse = 1.0 / std::sqrt(squares / n + static_cast<double>(args.epsilon));
    each([&](int64_t at, int64_t i) {
      auto y = static_cast<float>((static_cast<double>(c.in[0].as()[at]) - mean) * inverse);
      if (w) y *= w[i] + args.weight_offset;
      if (b) y += b[i];
      c.out[0].as()[at] = y;
    });
  }
  finish(c);
}

// RMSNorm (Zhang and Sennrich 2019), LayerNorm, and fla's l2norm with epsilon inside the root.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  if (args.kind == fb::NormKind::Group) return image(c);
  const int64_t d = c.in[0].channels(), rows = c.in[0].rows();
  const int64_t group = args.group > 0 ? args.group : d;
  const Tensor none;
  const Tensor& w = !c.weights.empty() ? c.weights[0] : none;
  const Tensor& b = c.weights.size() > 1 ? c.weights[1] : none;
  const float* gate = c.in.size() > 1 ? c.in[1].as() : nullptr;
  std::vector<float> x(static_cast<size_t>(group));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < d; g += group) {
      const int64_t base = r * d + g;
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < group; ++i) {
        float v = c.in[0].as()[base + i];
        if (gate && args.gate_first) v *= host::activate(args.gate_activation, gate[base + i]);
        x[static_cast<size_t>(i)] = v;
        sum += static_cast<double>(v);
      }
      const double n = static_cast<double>(group);
      const double mean = args.kind == fb::NormKind::Layer ? sum / n : 0.0;
      for (const float v : x) squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
      const double spread = args.kind == fb::NormKind::L2 ? squares : squares / n;
      const double inverse = 1.0 / std::sqrt(spread + static_cast<double>(args.epsilon));
      for (int64_t i = 0; i < group; ++i) {
        auto y = static_cast<float>((static_cast<double>(x[static_cast<size_t>(i)]) - mean) * inverse);
        if (w) y *= w.as()[w.dims[0] == d ? g + i : i] + args.weight_offset;
        if (b) y += b.as()[b.dims[0] == d ? g + i : i];
        if (gate && !args.gate_first) y *= host::activate(args.gate_activation, gate[base + i]);
        c.out[0].as()[base + i] = y;
      }
    }
  }
  finish(c);
}

Kernel kernel_norm() { return {run, nullptr}; }

}  // namespace linnet::reference
