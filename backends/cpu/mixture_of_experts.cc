#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/mixture_of_experts.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/panel_split.h"
#include "backends/cpu/vector_math_inl.h"
#include "backends/host/mixer.h"

// Tokens go in blocks. Within one, rows are gathered expert by expert so that an expert's weights are read
// once for all its tokens; all experts' panels, and the shared expert's, are then shared out in one launch
// for gate and up and one for down.

#ifndef LINNET_CPU_MIXTURE_OF_EXPERTS_ROUTE  // once for all targets
#define LINNET_CPU_MIXTURE_OF_EXPERTS_ROUTE
#include <cmath>

namespace linnet::cpu {
namespace {

constexpr int64_t kBlockTokens = 64;

// One expert's rows in a block.
struct ExpertJob {
  const std::byte *gate, *up, *down;  // its matrices' panels
  int64_t first, rows, inner;         // rows in the order of jobs; channels inside
  int64_t hidden_at;                  // of its first row, in floats
};

// Where everything lies in scratch, in bytes.
struct ExpertLayout {
  int64_t block, assignments, experts, top_k, d, inner, shared_inner;
  DType router, gate, down, shared_gate, shared_down;
  size_t x, x_gathered, logits, chosen, weights, place, jobs, gathered, hidden, hidden_quantized, outputs,
      second, second_floats, bytes;
  bool quantized_x, quantized_hidden;
};

size_t take(size_t& at, size_t bytes) {
  const size_t begin = at;
  at += align_up(bytes);
  return begin;
}

ExpertLayout expert_layout(const KernelContext& c, int64_t tokens) {
  const auto& args = c.args<fb::MixtureOfExpertsT>();
  ExpertLayout l{};
  const bool shared = c.weights.size() > 5 && c.weights[5].rank > 0;
  l.block = tokens < kBlockTokens ? tokens : kBlockTokens;
  l.experts = args.experts;
  l.top_k = args.top_k;
  l.assignments = l.block * args.top_k;
  l.d = c.in[0].channels();
  l.inner = c.weights[2].dims[1];
  l.router = c.weights[0].dtype;
  l.gate = c.weights[2].dtype;
  l.down = c.weights[4].dtype;
  if (shared) {
    l.shared_inner = c.weights[5].dims[0];
    l.shared_gate = c.weights[5].dtype;
    l.shared_down = c.weights[7].dtype;
  }
  for (const size_t i : {0u, 2u, 3u, 5u, 6u})
    if (i < c.weights.size() && c.weights[i].rank > 0) l.quantized_x |= is_quantized(c.weights[i].dtype);
  for (const size_t i : {4u, 7u})
    if (i < c.weights.size() && c.weights[i].rank > 0) l.quantized_hidden |= is_quantized(c.weights[i].dtype);
  const auto floats = [](int64_t n) { return static_cast<size_t>(n) * sizeof(float); };
  const int64_t rows = l.assignments + (shared ? l.block : 0);
  size_t at = 0;
  l.x = take(at, l.quantized_x ? quantized_rows_bytes(l.block, l.d) : 0);
  l.logits = take(at, floats(l.block * l.experts));
  l.chosen = take(at, static_cast<size_t>(l.assignments) * sizeof(int32_t));
  l.weights = take(at, floats(l.assignments));
  l.place = take(at, static_cast<size_t>(l.assignments) * sizeof(int32_t));
  l.jobs = take(at, static_cast<size_t>((l.assignments < l.experts ? l.assignments : l.experts) + 1) *
                            sizeof(ExpertJob) +
                        static_cast<size_t>(l.experts) * sizeof(int32_t));
  l.gathered = take(at, floats(l.assignments * l.d));
  l.x_gathered = take(at, l.quantized_x ? quantized_rows_bytes(l.assignments, l.d) : 0);
  l.hidden = take(at, floats(l.assignments * l.inner + l.block * l.shared_inner));
  l.hidden_quantized =
      take(at, l.quantized_hidden ? align_up(quantized_rows_bytes(l.assignments, l.inner)) +
                                        quantized_rows_bytes(l.block, l.shared_inner ? l.shared_inner : 1)
                                  : 0);
  l.outputs = take(at, floats(rows * l.d));
  l.second_floats = 16384;  // the most of rows * columns that tile_panels() gives for a block
  l.second = take(at, l.second_floats * sizeof(float) * static_cast<size_t>(c.threads));
  l.bytes = at;
  return l;
}

// The best top_k experts of one token and their shares.
void choose_experts(const fb::MixtureOfExpertsT& args, float* score, const float* bias, int32_t* chosen,
                    float* share) {
  const int64_t n = args.experts;
  if (args.scores == fb::RouterScores::Sigmoid) {
    for (int64_t e = 0; e < n; ++e) score[e] = 1.0f / (1.0f + std::exp(-score[e]));
  } else {
    float most = score[0], sum = 0;
    for (int64_t e = 1; e < n; ++e) most = score[e] > most ? score[e] : most;
    for (int64_t e = 0; e < n; ++e) sum += score[e] = std::exp(score[e] - most);
    for (int64_t e = 0; e < n; ++e) score[e] /= sum;
  }
  float sum = args.renormalize_epsilon;
  for (int64_t i = 0; i < args.top_k; ++i) {
    int64_t best = -1;
    float best_rank = 0;
    for (int64_t e = 0; e < n; ++e) {
      bool taken = false;
      for (int64_t j = 0; j < i; ++j) taken |= chosen[j] == e;
      const float rank = score[e] + (bias ? bias[e] : 0.0f);
      if (!taken && (best < 0 || rank > best_rank)) {
        best = e;
        best_rank = rank;
      }
    }
    chosen[i] = static_cast<int32_t>(best);
    share[i] = score[best];
    sum += score[best];
  }
  for (int64_t i = 0; i < args.top_k; ++i) share[i] *= args.scale / (args.renormalize ? sum : 1.0f);
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// f(thread, job, panel, panel end) over the panels of all jobs, cut by the work they are.
template <typename Panels, typename F>
void for_jobs(const KernelContext& c, const ExpertJob* jobs, int64_t count, const Panels& panels,
              size_t panel_bytes, const F& f) {
  // A panel's time: its bytes, once, or its multiplications if there are many rows.
  const auto cost = [&](size_t j) {
    return static_cast<int64_t>(panel_bytes) * (jobs[j].rows < 4 ? 4 : jobs[j].rows) / 4;
  };
  const auto panels_of = [&](size_t j) { return panels(jobs[j]); };
  const auto jobs_count = static_cast<size_t>(count);
  int64_t total = 0;
  for (size_t j = 0; j < jobs_count; ++j) total += cost(j) * panels_of(j);
  c.pool->parallel_for_pieces(total, 32768, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
    panels_between(
        jobs_count, begin, end, 1, panels_of, cost, [&](size_t j) { return tile_panels(jobs[j].rows); },
        [&](size_t j, int64_t p, int64_t last) HWY_ATTR { f(thread, jobs[j], p, last); });
  });
}

Tensor matrix_view(const std::byte* data, DType dtype, int64_t n, int64_t k) {
  Tensor matrix;
  matrix.data = const_cast<std::byte*>(data);
  matrix.dtype = dtype;
  matrix.rank = 2;
  matrix.dims[0] = n;
  matrix.dims[1] = k;
  return matrix;
}

// A block of tokens, and where in scratch everything about it lies.
struct ExpertBlock {
  const KernelContext& c;
  const ExpertLayout& l;
  const fb::MixtureOfExpertsT& args;
  int64_t begin, n;  // tokens
  const float* x;    // of the first of them
  float *logits, *share, *gathered, *hidden, *outputs;
  int32_t *chosen, *place;
  std::byte* x_gathered;
  ExpertJob* jobs;
  int64_t job_count = 0;  // without the shared expert's, which comes after them
  MatmulInput input;

  ExpertBlock(const KernelContext& context, const ExpertLayout& layout, int64_t first, int64_t tokens)
      : c(context),
        l(layout),
        args(context.args<fb::MixtureOfExpertsT>()),
        begin(first),
        n(tokens),
        x(context.in[0].as() + first * layout.d),
        logits(at<float>(layout.logits)),
        share(at<float>(layout.weights)),
        gathered(at<float>(layout.gathered)),
        hidden(at<float>(layout.hidden)),
        outputs(at<float>(layout.outputs)),
        chosen(at<int32_t>(layout.chosen)),
        place(at<int32_t>(layout.place)),
        x_gathered(context.scratch + layout.x_gathered),
        jobs(at<ExpertJob>(layout.jobs)),
        input(prepare_input(context, x, tokens, layout.d, layout.quantized_x, context.scratch + layout.x)) {}

  template <typename T>
  T* at(size_t offset) const {
    return reinterpret_cast<T*>(c.scratch + offset);
  }
  int64_t assigned() const { return n * args.top_k; }
  bool shared() const { return l.shared_inner > 0; }
  bool is_shared(const ExpertJob& job) const { return shared() && &job == jobs + job_count; }
  int64_t all_jobs() const { return job_count + (shared() ? 1 : 0); }
};

// Each token's experts and their shares.
void route(const ExpertBlock& b) {
  const Tensor& router = b.c.weights[0];
  const int64_t experts = b.l.experts, k = b.args.top_k;
  for_panels(
      b.c, 1, b.input, [&](size_t) { return format::panel_count(experts); },
      [&](size_t) { return format::panel_bytes(router.dtype, b.l.d); },
      [&](int, size_t, int64_t panel, int64_t panel_end, int64_t row, int64_t row_end) {
        multiply_panels(constants(b.c), router, rows_of(b.input, row, row_end - row), panel, panel_end,
                        b.logits + row * experts + panel * 16, experts);
      });
  const float* bias = b.c.weights[1].as();
  b.c.pool->parallel_for(b.n, 8192 / experts + 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t)
      choose_experts(b.args, b.logits + t * experts, bias, b.chosen + t * k, b.share + t * k);
  });
}

// Rows in the order of experts; counts, then places.
void make_jobs(ExpertBlock& b) {
  const ExpertLayout& l = b.l;
  const auto& weights = b.c.weights;
  const int64_t most_jobs = l.assignments < l.experts ? l.assignments : l.experts;
  auto* counts = reinterpret_cast<int32_t*>(b.jobs + most_jobs + 1);
  for (int64_t e = 0; e < l.experts; ++e) counts[e] = 0;
  for (int64_t i = 0; i < b.assigned(); ++i) ++counts[b.chosen[i]];
  int64_t row = 0;
  const size_t up_bytes = format::matrix_bytes(l.gate, l.inner, l.d),
               down_bytes = format::matrix_bytes(l.down, l.d, l.inner);
  const size_t second_up_bytes = format::matrix_bytes(weights[3].dtype, l.inner, l.d);
  for (int64_t e = 0; e < l.experts; ++e) {
    const int64_t rows = counts[e];
    counts[e] = static_cast<int32_t>(row);  // from here on: the place of the next
    if (rows == 0) continue;
    const auto index = static_cast<size_t>(e);
    b.jobs[b.job_count++] = {weights[2].data + up_bytes * index,
                             weights[3].data + second_up_bytes * index,
                             weights[4].data + down_bytes * index,
                             row,
                             rows,
                             l.inner,
                             row * l.inner};
    row += rows;
  }
  for (int64_t i = 0; i < b.assigned(); ++i) b.place[i] = counts[b.chosen[i]]++;
  if (b.shared())  // its rows are the tokens
    b.jobs[b.job_count] = {weights[5].data, weights[6].data,       weights[7].data, b.assigned(), b.n,
                           l.shared_inner,  b.assigned() * l.inner};
}

// Each expert's rows of the input one after another.
void gather_rows(const ExpertBlock& b) {
  const int64_t d = b.l.d, k = b.args.top_k;
  const size_t quantized_row = quantized_row_bytes(d);
  const bool float_x = !is_quantized(b.l.gate) || !is_quantized(b.c.weights[3].dtype);
  b.c.pool->parallel_for(b.assigned(), 16384 / d + 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      if (float_x)
        __builtin_memcpy(b.gathered + b.place[i] * d, b.x + i / k * d,
                         static_cast<size_t>(d) * sizeof(float));
      if (b.l.quantized_x)
        __builtin_memcpy(b.x_gathered + quantized_row * static_cast<size_t>(b.place[i]),
                         b.input.quantized + quantized_row * static_cast<size_t>(i / k), quantized_row);
    }
  });
}

// hidden = act(gate x) * up x, of every job's rows.
void multiply_in(const ExpertBlock& b) {
  const ExpertLayout& l = b.l;
  const int64_t d = l.d;
  const size_t quantized_row = quantized_row_bytes(d);
  const DType second_type = b.c.weights[3].dtype;
  for_jobs(
      b.c, b.jobs, b.all_jobs(), [](const ExpertJob& job) { return format::panel_count(job.inner); },
      format::panel_bytes(l.gate, d) + format::panel_bytes(second_type, d),
      [&](int thread, const ExpertJob& job, int64_t panel, int64_t panel_end) HWY_ATTR {
        const bool own = b.is_shared(job);
        const MatmulInput rows{
            own ? b.x : b.gathered + job.first * d, job.rows, d,
            own ? b.input.quantized : b.x_gathered + quantized_row * static_cast<size_t>(job.first)};
        const DType gate_type = own ? l.shared_gate : l.gate,
                    up_type = own ? b.c.weights[6].dtype : second_type;
        const int64_t column = panel * 16, edge = panel_end * 16 < job.inner ? panel_end * 16 : job.inner;
        const int64_t columns = edge - column;
        float* y = b.hidden + job.hidden_at + column;
        float* second = b.at<float>(l.second) + static_cast<size_t>(thread) * l.second_floats;
        multiply_panels(constants(b.c), matrix_view(job.gate, gate_type, job.inner, d), rows, panel,
                        panel_end, y, job.inner);
        multiply_panels(constants(b.c), matrix_view(job.up, up_type, job.inner, d), rows, panel, panel_end,
                        second, columns);
        with_activation(b.args.activation, [&](auto act) HWY_ATTR {
          for (int64_t r = 0; r < job.rows; ++r) {
            for_lanes(columns, [&](auto lanes, int64_t i) HWY_ATTR {
              const auto up = lanes.load(second + r * columns + i);
              lanes.store(hn::Mul(act(lanes.load(y + r * job.inner + i)), up), y + r * job.inner + i);
            });
          }
        });
      });
}

// outputs = down hidden, of every job's rows.
void multiply_out(const ExpertBlock& b) {
  const ExpertLayout& l = b.l;
  const int64_t d = l.d, assigned = b.assigned();
  const MatmulInput inner =
      prepare_input(b.c, b.hidden, assigned, l.inner, is_quantized(l.down), b.c.scratch + l.hidden_quantized);
  MatmulInput shared_inner{};
  if (b.shared())
    shared_inner =
        prepare_input(b.c, b.hidden + assigned * l.inner, b.n, l.shared_inner, is_quantized(l.shared_down),
                      b.c.scratch + l.hidden_quantized +
                          align_up(quantized_rows_bytes(l.quantized_hidden ? assigned : 0, l.inner)));
  for_jobs(
      b.c, b.jobs, b.all_jobs(), [&](const ExpertJob&) { return format::panel_count(d); },
      format::panel_bytes(l.down, l.inner),
      [&](int, const ExpertJob& job, int64_t panel, int64_t panel_end) HWY_ATTR {
        const bool own = b.is_shared(job);
        MatmulInput rows = own ? shared_inner : inner;
        rows.rows = job.rows;
        if (!own) {
          rows.x += job.first * l.inner;
          if (rows.quantized) rows.quantized += quantized_row_bytes(l.inner) * static_cast<size_t>(job.first);
        }
        multiply_panels(constants(b.c), matrix_view(job.down, own ? l.shared_down : l.down, d, job.inner),
                        rows, panel, panel_end, b.outputs + job.first * d + panel * 16, d);
      });
}

// y = the shares of its experts' outputs, the shared expert's and the residual.
void combine_outputs(const ExpertBlock& b) {
  const int64_t d = b.l.d, k = b.args.top_k, assigned = b.assigned();
  const bool shared = b.shared();
  const float* residual = host::operand(b.c.in, 1).as();
  const float* shared_gate = host::operand(b.c.weights, 8).as();
  b.c.pool->parallel_for_pieces(
      b.n, 16384 / (d * (k + 1)) + 1, [&](int, int64_t first, int64_t last) HWY_ATTR {
        for (int64_t t = first; t < last; ++t) {
          auto own_share = set(1.0f);
          if (shared && shared_gate) {
            auto total = hn::Zero(FloatTag());
            for_lanes(d, [&](auto lanes, int64_t i) HWY_ATTR {
              total = hn::MulAdd(lanes.load(shared_gate + i), lanes.load(b.x + t * d + i), total);
            });
            own_share = sigmoid(set(sum_of_lanes(total)));
          }
          for_lanes(d, [&](auto lanes, int64_t i) HWY_ATTR {
            auto y = hn::Zero(FloatTag());
            for (int64_t j = 0; j < k; ++j)
              y = hn::MulAdd(set(b.share[t * k + j]), lanes.load(b.outputs + b.place[t * k + j] * d + i), y);
            if (shared) y = hn::MulAdd(own_share, lanes.load(b.outputs + (assigned + t) * d + i), y);
            if (residual) y = hn::Add(y, lanes.load(residual + (b.begin + t) * d + i));
            lanes.store(y, b.c.out[0].as() + (b.begin + t) * d + i);
          });
        }
      });
}

void run_block(const KernelContext& c, const ExpertLayout& l, int64_t begin, int64_t n) {
  ExpertBlock block(c, l, begin, n);
  route(block);
  make_jobs(block);
  gather_rows(block);
  multiply_in(block);
  multiply_out(block);
  combine_outputs(block);
}

void run_mixture_of_experts(const KernelContext& c) {
  const int64_t tokens = c.in[0].dims[0];
  if (tokens == 0) return;
  const ExpertLayout layout = expert_layout(c, tokens);
  for (int64_t t = 0; t < tokens; t += layout.block)
    run_block(c, layout, t, tokens - t < layout.block ? tokens - t : layout.block);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  return expert_layout(c, c.in[0].dims[0]).bytes;  // which grows with the tokens
}
Kernel kernel_mixture_of_experts(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_mixture_of_experts), scratch};
}
}  // namespace linnet::cpu
#endif
