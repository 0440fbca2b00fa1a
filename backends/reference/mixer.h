// The parts the recurrent mixers have in common, in double: decays, maps of heads, states.
#pragma once

#include <algorithm>
#include <cmath>

#include "backends/host/mixer.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {

// The decay of a state of `heads` heads of `channels` channels; kinds are defined in model.fbs.
class Decay {
 public:
  Decay(const fb::DecayT& args, const Tensor& x, const Tensor& rate, const Tensor& offset, int64_t heads,
        int64_t channels)
      : args_(args),
        x_(x),
        rate_(rate),
        offset_(offset),
        heads_(heads),
        channels_(channels),
        row_(x ? x.channels() : 0) {}

  // exp(g) at token t, head h, channel i, never above 1.
  double factor(int64_t t, int64_t h, int64_t i) const {
    if (args_.kind == fb::DecayKind::None) return 1.0;
    // Where no decay is read from x, x need not have a value for every channel.
    const double x = x_ && args_.kind != fb::DecayKind::Constant ? at(x_, t * row_, h, i) : 0.0;
    const double rate = rate_ ? static_cast<double>(rate_.as()[h]) : 1.0;
    const double offset = offset_ ? at(offset_, 0, h, i) : 0.0;
    double g = 0;
    switch (args_.kind) {
      case fb::DecayKind::None:
        return 1.0;
      case fb::DecayKind::Constant:
        g = rate;
        break;
      case fb::DecayKind::Log:
        g = x;
        break;
      case fb::DecayKind::LogSigmoid:
        g = log_sigmoid(x + offset) / static_cast<double>(args_.divisor);
        if (args_.minimum != 0 && g < static_cast<double>(args_.minimum))
          g = static_cast<double>(args_.minimum);
        break;
      case fb::DecayKind::Softplus:
        g = rate * step(t, h, i);
        break;
      case fb::DecayKind::Sigmoid:
        g = static_cast<double>(args_.slope) / (1.0 + std::exp(-rate * (x + offset)));
        break;
      case fb::DecayKind::LowerBounded: {
        const double f = offset + (1.0 - offset) / (1.0 + std::exp(-x));
        return f > 1.0 ? 1.0 : f;
      }
    }
    return g > 0 ? 1.0 : std::exp(g);
  }

  // The step of a Softplus decay.
  double step(int64_t t, int64_t h, int64_t i) const {
    const double x = at(x_, t * row_, h, i) + (offset_ ? at(offset_, 0, h, i) : 0.0);
    double step = x > 30 ? x : std::log1p(std::exp(x));
    if (step < static_cast<double>(args_.step_minimum)) step = static_cast<double>(args_.step_minimum);
    if (args_.step_maximum > 0 && step > static_cast<double>(args_.step_maximum))
      step = static_cast<double>(args_.step_maximum);
    return step;
  }

 private:
  static double log_sigmoid(double x) {
    return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
  }
  // One value a head, or one a channel.
  double at(const Tensor& tensor, int64_t row, int64_t h, int64_t i) const {
    const bool per_head = tensor.channels() == heads_;
    return static_cast<double>(tensor.as()[row + (per_head ? h : h * channels_ + i)]);
  }
  const fb::DecayT& args_;
  const Tensor x_, rate_, offset_;
  int64_t heads_, channels_, row_;
};

// One head's channels after activation and norm.
inline std::vector<double> mapped(const fb::HeadMapT& map, const float* x, int64_t n) {
  std::vector<double> y(static_cast<size_t>(n));
  for (size_t i = 0; i < y.size(); ++i) y[i] = static_cast<double>(host::activate(map.activation, x[i]));
  double sum = 0;
  switch (map.norm) {
    case fb::HeadNorm::None:
      return y;
    case fb::HeadNorm::L2:
      for (const double v : y) sum += v * v;
      sum = std::sqrt(sum + static_cast<double>(map.epsilon));
      break;
    case fb::HeadNorm::Softmax: {
      double most = y[0];
      for (const double v : y) most = v > most ? v : most;
      for (double& v : y) sum += v = std::exp(v - most);
      break;
    }
    case fb::HeadNorm::Sum:
      sum = static_cast<double>(map.epsilon);
      for (const double v : y) sum += v;
      break;
  }
  if (map.norm == fb::HeadNorm::L2 && sum == 0) return y;  // no epsilon and all zeros
  for (double& v : y) v /= sum;
  return y;
}

// A head's [rows, columns] of a state while its tokens pass, in double so that rounding does not pile up.
class HeadState {
 public:
  HeadState(const Tensor& state, int64_t head, int64_t rows, int64_t columns)
      : half_(state.dtype == DType::kF16),
        memory_(state.data + static_cast<size_t>(head * rows * columns) * element_bytes(state.dtype)),
        columns_(columns),
        values_(static_cast<size_t>(rows * columns)) {
    for (size_t i = 0; i < values_.size(); ++i)
      values_[i] = static_cast<double>(half_ ? f16_to_f32(halfs()[i]) : floats()[i]);
  }
  // After each token: a state kept in f16 is rounded to it.
  void end_token() {
    if (!half_) return;
    for (double& v : values_) v = static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(v))));
  }
  double& at(int64_t row, int64_t column) { return values_[static_cast<size_t>(row * columns_ + column)]; }
  void store() const {
    for (size_t i = 0; i < values_.size(); ++i) {
      const auto v = static_cast<float>(values_[i]);
      if (half_)
        halfs()[i] = f32_to_f16(v);
      else
        floats()[i] = v;
    }
  }

 private:
  float* floats() const { return reinterpret_cast<float*>(memory_); }
  uint16_t* halfs() const { return reinterpret_cast<uint16_t*>(memory_); }
  bool half_;
  std::byte* memory_;
  int64_t columns_;
  std::vector<double> values_;
};

// One token of a delta rule: S <- diag(decay) S; S <- S + k (beta (v - S^T k))^T; o = scale S^T q.
inline void delta_step(HeadState& state, const std::vector<double>& decay, const std::vector<double>& q,
                       const std::vector<double>& k, const std::vector<double>& v, double beta, double scale,
                       std::vector<double>& o) {
  for (size_t j = 0; j < v.size(); ++j) {
    const auto column = static_cast<int64_t>(j);
    double recalled = 0, y = 0;
    for (size_t i = 0; i < k.size(); ++i) {
      double& s = state.at(static_cast<int64_t>(i), column);
      s *= decay[i];
      recalled += k[i] * s;
    }
    const double u = host::limit_write(beta * (v[j] - recalled));
    for (size_t i = 0; i < k.size(); ++i) {
      double& s = state.at(static_cast<int64_t>(i), column);
      s += k[i] * u;
      y += q[i] * s;
    }
    o[j] = y * scale;
  }
}

}  // namespace linnet::reference
