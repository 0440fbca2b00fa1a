#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/host/mixer.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {
namespace {

// y = W x for matrix `index` of a stack (or the only one).
std::vector<float> multiply(const Tensor& matrix, int64_t index, const float* x) {
  const int64_t k = matrix.dims[matrix.rank - 1], n = matrix.dims[matrix.rank - 2];
  Tensor one = matrix;
  one.data += format::matrix_bytes(matrix.dtype, n, k) * static_cast<size_t>(index);
  std::vector<float> y(static_cast<size_t>(n)), w(static_cast<size_t>(k));
  for (int64_t j = 0; j < n; ++j) {
    weight_row(one, j, w.data());
    y[static_cast<size_t>(j)] = static_cast<float>(dot(x, w.data(), k));
  }
  return y;
}

std::vector<float> expert(fb::Activation activation, const Tensor& gate, const Tensor& up, const Tensor& down,
                          int64_t index, const float* x) {
  std::vector<float> h = multiply(gate, index, x);
  const std::vector<float> u = multiply(up, index, x);
  for (size_t i = 0; i < h.size(); ++i) h[i] = host::activate(activation, h[i]) * u[i];
  return multiply(down, index, h.data());
}

struct Choice {
  size_t expert;
  double weight;
};

// The bias of the selection decides who is chosen, not with what weight (DeepSeek-V3).
std::vector<Choice> choose(const fb::MixtureOfExpertsT& args, const std::vector<float>& logits,
                           const float* bias) {
  std::vector<double> score(logits.size());
  if (args.scores == fb::RouterScores::Sigmoid) {
    for (size_t e = 0; e < score.size(); ++e)
      score[e] = 1.0 / (1.0 + std::exp(-static_cast<double>(logits[e])));
  } else {
    const auto most = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0;
    for (size_t e = 0; e < score.size(); ++e)
      sum += score[e] = std::exp(static_cast<double>(logits[e]) - most);
    for (double& s : score) s /= sum;
  }
  std::vector<size_t> order(score.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto rank = [&](size_t e) { return score[e] + (bias ? static_cast<double>(bias[e]) : 0.0); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank(a) > rank(b); });
  std::vector<Choice> chosen;
  double sum = static_cast<double>(args.renormalize_epsilon);
  for (size_t i = 0; i < static_cast<size_t>(args.top_k); ++i) {
    chosen.push_back({order[i], score[order[i]]});
    sum += score[order[i]];
  }
  for (Choice& c : chosen) c.weight *= static_cast<double>(args.scale) / (args.renormalize ? sum : 1.0);
  return chosen;
}

}  // namespace

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::MixtureOfExpertsT>();
  const int64_t tokens = c.in[0].dims[0], d = c.in[0].channels();
  const Tensor &residual = host::operand(c.in, 1), &bias = host::operand(c.weights, 1),
               &shared_down = host::operand(c.weights, 7), &shared_gate = host::operand(c.weights, 8);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = c.in[0].as() + t * d;
    std::vector<double> y(static_cast<size_t>(d));
    for (const Choice& choice : choose(args, multiply(c.weights[0], 0, x), bias.as())) {
      const auto out = expert(args.activation, c.weights[2], c.weights[3], c.weights[4],
                              static_cast<int64_t>(choice.expert), x);
      for (size_t i = 0; i < y.size(); ++i) y[i] += choice.weight * static_cast<double>(out[i]);
    }
    if (shared_down) {
      const auto out = expert(args.activation, c.weights[5], c.weights[6], shared_down, 0, x);
      const double weight = shared_gate ? 1.0 / (1.0 + std::exp(-dot(shared_gate.as(), x, d))) : 1.0;
      for (size_t i = 0; i < y.size(); ++i) y[i] += weight * static_cast<double>(out[i]);
    }
    for (size_t i = 0; i < y.size(); ++i) {
      const auto at = t * d + static_cast<int64_t>(i);
      c.out[0].as()[at] = static_cast<float>(y[i]) + (residual ? residual.as()[at] : 0.0f);
    }
  }
}

Kernel kernel_mixture_of_experts() { return {run, nullptr}; }

}  // namespace linnet::reference
