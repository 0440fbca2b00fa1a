#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/norm.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"
#include "backends/host/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

inline constexpr int64_t kNormGrain = 16384;  // elements worth a thread of their own

// One group of n channels.
struct NormGroup {
  const float* x;
  const float* gate;      // null: none
  const float* weight;    // null: none
  const float* bias;      // null: none
  const float* scale;     // null: none; 1 is added
  const float* shift;     // null: none
  const float* residual;  // null: none
  float* y;
  int64_t n;
};

// act(y * (1 + scale) + shift) + residual: what follows normalisation and gate.
template <typename Act, typename Lanes>
HWY_INLINE FloatVec finish(const NormGroup& g, const Act& act, const Lanes& lanes, int64_t i, FloatVec y) {
  if (g.scale) y = hn::Mul(y, hn::Add(lanes.load(g.scale + i), set(1.0f)));
  if (g.shift) y = hn::Add(y, lanes.load(g.shift + i));
  y = act(y);
  if (g.residual) y = hn::Add(y, lanes.load(g.residual + i));
  return y;
}
void finish_group(fb::Activation activation, const NormGroup& g) {
  if (activation == fb::Activation::None && !g.scale && !g.shift && !g.residual) return;
  with_activation(activation, [&](auto act) HWY_ATTR {
    for_lanes(g.n, [&](auto lanes, int64_t i)
                       HWY_ATTR { lanes.store(finish(g, act, lanes, i, lanes.load(g.y + i)), g.y + i); });
  });
}

// Sums whose squares leave the range of f32 are taken again in double, so that a large finite input does not
// come out as zeros.
void norm_group_wide(const fb::NormT& args, const NormGroup& g) {
  double sum = 0, squares = 0;
  const auto at = [&](int64_t i) {
    const float gated = g.gate && args.gate_first ? host::activate(args.gate_activation, g.gate[i]) : 1.0f;
    return static_cast<double>(g.x[i] * gated);
  };
  for (int64_t i = 0; i < g.n; ++i) sum += at(i);
  const auto n = static_cast<double>(g.n);
  const double mean = args.kind == fb::NormKind::Layer ? sum / n : 0.0;
  for (int64_t i = 0; i < g.n; ++i) squares += (at(i) - mean) * (at(i) - mean);
  const double spread = args.kind == fb::NormKind::L2 ? squares : squares / n;
  const double inverse = 1.0 / __builtin_sqrt(spread + static_cast<double>(args.epsilon));
  for (int64_t i = 0; i < g.n; ++i) {
    auto y = static_cast<float>((at(i) - mean) * inverse);
    if (g.weight) y *= g.weight[i] + args.weight_offset;
    if (g.bias) y += g.bias[i];
    if (g.gate && !args.gate_first) y *= host::activate(args.gate_activation, g.gate[i]);
    g.y[i] = y;
  }
  finish_group(args.activation, g);
}

void norm_group(const fb::NormT& args, const NormGroup& g) {
  const float* x = g.x;
  if (g.gate && args.gate_first) {
    with_activation(args.gate_activation, [&](auto act) HWY_ATTR {
      for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
        lanes.store(hn::Mul(lanes.load(g.x + i), act(lanes.load(g.gate + i))), g.y + i);
      });
    });
    x = g.y;
  }
  auto mean = hn::Zero(FloatTag());
  if (args.kind == fb::NormKind::Layer) {
    auto sum = hn::Zero(FloatTag());
    for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR { sum = hn::Add(sum, lanes.load(x + i)); });
    mean = set(sum_of_lanes(sum) / static_cast<float>(g.n));
  }
  auto sum = hn::Zero(FloatTag());
  for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto v = lanes.keep(hn::Sub(lanes.load(x + i), mean));
    sum = hn::MulAdd(v, v, sum);
  });
  const auto squares = static_cast<double>(sum_of_lanes(sum));
  const double spread = args.kind == fb::NormKind::L2 ? squares : squares / static_cast<double>(g.n);
  const auto epsilon = static_cast<double>(args.epsilon);
  if (!(squares < 1e38) || (squares < 1e-28 && epsilon < 1e-28)) return norm_group_wide(args, g);
  const auto inverse = set(static_cast<float>(1.0 / __builtin_sqrt(spread + epsilon)));
  const auto offset = set(args.weight_offset);
  const auto normalised = [&](auto lanes, int64_t i) HWY_ATTR {
    auto y = hn::Mul(hn::Sub(lanes.load(x + i), mean), inverse);
    if (g.weight) y = hn::Mul(y, hn::Add(lanes.load(g.weight + i), offset));
    if (g.bias) y = hn::Add(y, lanes.load(g.bias + i));
    return y;
  };
  if (g.gate && !args.gate_first) {
    with_activation(args.gate_activation, [&](auto act) HWY_ATTR {
      for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
        lanes.store(hn::Mul(normalised(lanes, i), act(lanes.load(g.gate + i))), g.y + i);
      });
    });
    finish_group(args.activation, g);
  } else {
    with_activation(args.activation, [&](auto act) HWY_ATTR {
      for_lanes(g.n, [&](auto lanes, int64_t i)
                         HWY_ATTR { lanes.store(finish(g, act, lanes, i, normalised(lanes, i)), g.y + i); });
    });
  }
}

// ---- group norm of an image: one mean and deviation over all rows ---------------------------------------

// Rows whose sums are taken together in f32; the blocks' sums are added in double, in order, so that the
// result depends on no number of threads.
inline constexpr int64_t kImageBlock = 256;

struct ImageScratch {
  double* partial;  // [blocks, groups]
  float* mean;      // [channels]
  float* factor;    // [channels]
  float* sums;      // [threads, channels]
};
int64_t image_partials(const KernelContext& c) {
  return (c.in[0].rows() + kImageBlock - 1) / kImageBlock * (c.in[0].channels() / c.args<fb::NormT>().group);
}
ImageScratch image_scratch(const KernelContext& c) {
  const int64_t d = c.in[0].channels();
  ImageScratch s{};
  s.partial = reinterpret_cast<double*>(c.scratch);
  s.mean = reinterpret_cast<float*>(s.partial + image_partials(c));
  s.factor = s.mean + d;
  s.sums = s.factor + d;
  return s;
}

// total(group) of f(x - mean) over the image, f the value or its square, into partial and from there to
// `done`.
template <bool Square, typename Done>
void image_totals(const KernelContext& c, const ImageScratch& s, const Done& done) {
  const int64_t d = c.in[0].channels(), rows = c.in[0].rows(), group = c.args<fb::NormT>().group;
  const int64_t groups = d / group, blocks = (rows + kImageBlock - 1) / kImageBlock;
  c.pool->parallel_for_pieces(
      blocks, kNormGrain / (kImageBlock * d) + 1, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
        float* sums = s.sums + thread * d;
        for (int64_t b = begin; b < end; ++b) {
          for (int64_t i = 0; i < d; ++i) sums[i] = 0;
          const int64_t last = (b + 1) * kImageBlock < rows ? (b + 1) * kImageBlock : rows;
          for (int64_t r = b * kImageBlock; r < last; ++r) {
            const float* x = c.in[0].as() + r * d;
            for_lanes(d, [&](auto lanes, int64_t i) HWY_ATTR {
              auto v = lanes.load(x + i);
              if (Square) v = hn::Sub(v, lanes.load(s.mean + i));
              lanes.store(Square ? hn::MulAdd(v, v, lanes.load(sums + i)) : hn::Add(lanes.load(sums + i), v),
                          sums + i);
            });
          }
          for (int64_t g = 0; g < groups; ++g) {
            double total = 0;
            for (int64_t i = g * group; i < (g + 1) * group; ++i) total += static_cast<double>(sums[i]);
            s.partial[b * groups + g] = total;
          }
        }
      });
  for (int64_t g = 0; g < groups; ++g) {
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += s.partial[b * groups + g];
    done(g, total / static_cast<double>(rows * group));
  }
}

void run_image_norm(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  const int64_t d = c.in[0].channels(), group = args.group;
  const ImageScratch s = image_scratch(c);
  image_totals<false>(c, s, [&](int64_t g, double mean) {
    for (int64_t i = g * group; i < (g + 1) * group; ++i) s.mean[i] = static_cast<float>(mean);
  });
  const float* weight = !c.weights.empty() ? c.weights[0].as() : nullptr;
  image_totals<true>(c, s, [&](int64_t g, double variance) {
    const double inverse = 1.0 / __builtin_sqrt(variance + static_cast<double>(args.epsilon));
    for (int64_t i = g * group; i < (g + 1) * group; ++i)
      s.factor[i] = static_cast<float>(inverse) * (weight ? weight[i] + args.weight_offset : 1.0f);
  });
  const float* modulation = c.in.size() > 2 ? c.in[2].as() : nullptr;
  NormGroup whole{};
  whole.bias = c.weights.size() > 1 ? c.weights[1].as() : nullptr;
  whole.scale = args.scale_part >= 0 ? modulation + args.scale_part * d : nullptr;
  whole.shift = args.shift_part >= 0 ? modulation + args.shift_part * d : nullptr;
  with_activation(args.activation, [&](auto act) HWY_ATTR {
    c.pool->parallel_for_pieces(
        c.in[0].rows(), kNormGrain / d + 1, [&](int, int64_t begin, int64_t end) HWY_ATTR {
          NormGroup g = whole;
          for (int64_t r = begin; r < end; ++r) {
            g.residual = c.in.size() > 3 && c.in[3] ? c.in[3].as() + r * d : nullptr;
            const float* x = c.in[0].as() + r * d;
            float* y = c.out[0].as() + r * d;
            for_lanes(d, [&](auto lanes, int64_t i) HWY_ATTR {
              auto v = hn::Mul(hn::Sub(lanes.load(x + i), lanes.load(s.mean + i)), lanes.load(s.factor + i));
              if (g.bias) v = hn::Add(v, lanes.load(g.bias + i));
              lanes.store(finish(g, act, lanes, i, v), y + i);
            });
          }
        });
  });
}

size_t norm_scratch(const KernelContext& c) {
  if (c.args<fb::NormT>().kind != fb::NormKind::Group) return 0;
  return static_cast<size_t>(image_partials(c)) * sizeof(double) +
         static_cast<size_t>((2 + c.threads) * c.in[0].channels()) * sizeof(float);
}

void run_norm(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  if (args.kind == fb::NormKind::Group) return run_image_norm(c);
  const int64_t d = c.in[0].channels();
  const int64_t group = args.group > 0 ? args.group : d;
  const int64_t per_row = d / group;
  // The parameters of group `index` of a row: one set for the row, or one for every group alike.
  const auto parameters = [&](size_t i, int64_t index) -> const float* {
    if (i >= c.weights.size() || !c.weights[i]) return nullptr;
    return c.weights[i].as() + (c.weights[i].dims[0] == d ? index * group : 0);
  };
  const float* gate = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const float* modulation = c.in.size() > 2 ? c.in[2].as() : nullptr;
  const float* residual = c.in.size() > 3 ? c.in[3].as() : nullptr;
  const float* scale = args.scale_part >= 0 ? modulation + args.scale_part * d : nullptr;
  const float* shift = args.shift_part >= 0 ? modulation + args.shift_part * d : nullptr;
  const int64_t grain = kNormGrain / group + 1;
  c.pool->parallel_for_pieces(c.in[0].rows() * per_row, grain, [&](int, int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * group, index = i % per_row;
      norm_group(args,
                 {c.in[0].as() + at, gate ? gate + at : nullptr, parameters(0, index), parameters(1, index),
                  scale ? scale + index * group : nullptr, shift ? shift + index * group : nullptr,
                  residual ? residual + at : nullptr, c.out[0].as() + at, group});
    }
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_norm(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_norm), LINNET_CHOOSE(target, norm_scratch)};
}
}  // namespace linnet::cpu
#endif
