// Follows transformers' modeling_mamba2.py (Dao and Gu 2024).
#include "converter/architectures/mamba2.h"

#include <cmath>

#include "converter/architectures/language_model.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

void finish_mamba2(Importer& in, Mamba2& m) {
  if (in.has_key("time_step_limit")) {
    const Json& limit = in.config()["time_step_limit"];
    const bool pair = limit.is_array() && limit.size() == 2;
    const auto least = pair ? number_of(limit[0]) : std::nullopt,
               most = pair ? number_of(limit[1], true) : std::nullopt;
    if (!least || !most || *least < 0) {
      in.fail(strf("config.json: 'time_step_limit' is {}, expected two numbers", json_text(limit)));
    } else {
      m.step_minimum = static_cast<float>(*least);
      m.step_maximum = *most < 1e30 ? static_cast<float>(*most) : 0.0f;  // infinity
    }
  }
  if (m.heads <= 0 || m.groups <= 0 || m.heads % m.groups != 0 || m.head_dim <= 0 || m.state <= 0 ||
      m.inner != m.heads * m.head_dim)
    in.fail(strf(
        "config.json: {} heads of {} channels in {} groups with a state of {} do not fit {} inner channels",
        m.heads, m.head_dim, m.groups, m.state, m.inner));
}

Value mamba2_mixer(Importer& in, const std::string& p, Value h, const Mamba2& m, Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t shared = m.groups * m.state, total = 2 * m.inner + 2 * shared + m.heads,
                convolved = m.inner + 2 * shared;
  const Rows rows = in.rows(p + ".in_proj.weight", {total, m.hidden});
  const Rows bias = m.bias ? in.rows(p + ".in_proj.bias", {total, 1}) : nullptr;
  // z, x, B, C and dt, whose rows follow one another.
  const char* names[] = {"z", "x", "B", "C", "dt"};
  const int64_t sizes[] = {m.inner, m.inner, shared, shared, m.heads};
  std::vector<Projection> projections;
  int64_t first = 0;
  for (int i = 0; i < 5; ++i) {
    const std::string name = strf("{}.in_proj.{}", p, names[i]);
    Projection projection{
        g.matrix(name, i == 4 ? WeightRole::kSmall : WeightRole::kMatrix, slice_rows(rows, first, sizes[i]))};
    if (bias) projection.bias = g.vector(name + ".bias", slice_rows(bias, first, sizes[i]));
    projections.push_back(projection);
    first += sizes[i];
  }
  auto parts = g.linear(p + ".in", h, projections);
  for (size_t i = 0; i < 5; ++i)
    if (m.multipliers[i] != 1)
      parts[i] = g.pointwise(strf("{}.scaled_{}", p, names[i]), fb::PointwiseKind::Scale, parts[i], kAbsent,
                             fb::Activation::None, static_cast<float>(m.multipliers[i]), 0);
  if (m.convolution_bias != in.has(p + ".conv1d.bias"))
    in.fail(strf("'{}.conv1d.bias' is {} in {}, but the config says otherwise", p,
                 m.convolution_bias ? "missing" : "there", in.origin()));
  const auto xbc = short_convolution(in, p + ".conv",
                                     {{parts[1], p + ".conv1d", 0, convolved},
                                      {parts[2], p + ".conv1d", m.inner, convolved},
                                      {parts[3], p + ".conv1d", m.inner + shared, convolved}},
                                     m.kernel, m.activation);
  // As linear attention: the values x scaled by their step, keys B, queries C, log decay -exp(A_log) * step.
  fb::GatedLinearAttentionT args;
  args.query_heads = args.key_heads = static_cast<int>(m.groups);
  args.value_heads = static_cast<int>(m.heads);
  args.key_dim = static_cast<int>(m.state);
  args.value_dim = static_cast<int>(m.head_dim);
  args.step_scales_write = true;
  args.decay = decay(fb::DecayKind::Softplus);
  args.decay->step_minimum = m.step_minimum;
  args.decay->step_maximum = m.step_maximum;
  const Weight rate = mapped_vector(in, p + ".A_log", m.heads, [](double a) { return -std::exp(a); });
  const DecayWeights weights{rate, in.vector(p + ".dt_bias", m.heads)};
  Value y = gated_linear_attention(in, p + ".mixer", std::move(args), xbc[2], xbc[1], xbc[0], parts[4],
                                   weights, in.vector(p + ".D", m.heads));
  if (m.norm) {
    fb::NormT norm;
    norm.kind = fb::NormKind::Rms;
    norm.epsilon = m.epsilon;
    norm.group = static_cast<int>(m.inner / m.groups);
    norm.gate_activation = fb::Activation::Silu;
    norm.gate_first = !m.norm_before_gate;
    y = g.norm(p + ".norm", y, norm, in.vector(p + ".norm.weight", m.inner), kAbsent, parts[0]);
  } else {
    y = g.pointwise(p + ".gated", fb::PointwiseKind::ActivateMultiply, parts[0], y, fb::Activation::Silu);
  }
  return g.linear(p + ".out", y, in.projection(p + ".out_proj", m.hidden, m.inner, m.output_bias),
                  fb::Activation::None, residual);
}

void import_mamba2(Importer& in) {
  GraphBuilder& g = in.graph;
  Mamba2 m;
  m.hidden = in.integer("hidden_size");
  m.heads = in.integer("num_heads", 128);
  m.head_dim = in.integer("head_dim", 64);
  m.inner = static_cast<int64_t>(in.number("expand", 2) * static_cast<double>(m.hidden));
  m.groups = in.integer("n_groups", 8);
  m.state = in.integer("state_size", 128);
  m.kernel = in.integer("conv_kernel", 4);
  m.epsilon = static_cast<float>(in.number("layer_norm_epsilon", 1e-5));
  m.bias = m.output_bias = in.flag("use_bias", false);
  m.convolution_bias = in.flag("use_conv_bias", true);
  m.activation = in.activation("hidden_act", "silu");
  in.expect("rms_norm", true);
  in.expect("norm_before_gate", false);
  finish_mamba2(in, m);
  const int64_t layers = in.layer_count(), vocabulary = in.integer("vocab_size");
  const bool tied = in.tied("backbone.embeddings.weight");
  if (!in.errors().empty()) return;
  const Frame frame = begin_language_model(in, "backbone.embeddings.weight", vocabulary, m.hidden, 1, tied);
  Value x = frame.x;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i);
    const Value h = g.rms_norm(layer + ".norm", x, in.vector(layer + ".norm.weight", m.hidden), m.epsilon);
    x = mamba2_mixer(in, layer + ".mixer", h, m, x);
  }
  x = g.rms_norm("norm_f", x, in.vector("backbone.norm_f.weight", m.hidden), m.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, m.hidden, tied);
}

}  // namespace linnet::convert
