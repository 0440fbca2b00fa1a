#include "runtime/image/pipeline.h"

#include <algorithm>

#include "format/names.h"
#include "format/panel.h"
#include "runtime/core/strings.h"
#include "runtime/graph/op_traits.h"
#include "runtime/image/scheduler.h"

namespace linnet::image {

Result<Denoiser> find_denoiser(const fb::ModelT& m) {
  const int method = graph::find_method(m, names::kDenoise);
  if (method < 0 || !m.image || !m.image->scheduler)
    return fail(ErrorCode::kUnsupported,
                "the file has no image pipeline: convert a whole diffusers folder (with model_index.json)");
  const fb::ImagePipelineT& p = *m.image;
  if (p.latent_size < 1 || p.latent_size > 65536 || p.pixels_per_latent < 1 || p.pixels_per_latent > 4096 ||
      p.size_multiple < p.pixels_per_latent || p.size_multiple % p.pixels_per_latent != 0 ||
      p.text_tokens < 0 || p.text_tokens > 65536 || p.steps < 1 || p.guidance_channels < 0 ||
      !(p.latent_scale > 0))
    return fail(ErrorCode::kInvalidFile, "the file's image pipeline has values that make no sense");
  Denoiser d;
  d.method = static_cast<size_t>(method);
  d.patch = p.size_multiple / p.pixels_per_latent;
  const fb::MethodT& source = *m.methods[d.method];
  int latents = -1, timestep = -1;
  for (const int input : source.inputs) {
    const std::string& name = source.values[static_cast<size_t>(input)]->name;
    if (name == names::kLatents)
      latents = input;
    else if (name == names::kTimestep)
      timestep = input;
    else if (name == names::kEncoderHiddenStates)
      d.text = input;
    else if (name == names::kEncoderAttentionMask)
      d.mask = input;
    else if (name == names::kClassLabels)
      d.label = input;
    else if (name == names::kGuidance)
      d.guidance = input;
    else
      return fail(ErrorCode::kUnsupported, strf("the denoiser takes '{}', which Linnet does not give", name));
  }
  if (latents < 0 || timestep < 0 || source.outputs.empty())
    return fail(ErrorCode::kUnsupported, "the denoiser must take latents and timestep");
  d.latents = static_cast<size_t>(latents);
  d.timestep = static_cast<size_t>(timestep);
  d.output = static_cast<size_t>(source.outputs[0]);
  const auto& in = source.values[d.latents]->shape;
  const auto& out = source.values[d.output]->shape;
  const bool images = in.size() == 3 && out.size() == 3 && graph::is_fixed(in[0]) && graph::is_fixed(out[0]);
  d.channels = images ? in[0].add() : 0;
  d.outputs = images ? out[0].add() : 0;
  if (!images || (d.outputs != d.channels && d.outputs != 2 * d.channels))
    return fail(ErrorCode::kUnsupported,
                "the denoiser must go from [channels, height, width] to that or twice it");
  if ((d.guidance >= 0) != (p.guidance_input > 0))
    return fail(ErrorCode::kInvalidFile, "the file's guidance and its denoiser's inputs disagree");
  return d;
}

Result<Decoder> find_decoder(const fb::ModelT& m, const Denoiser& denoiser) {
  Decoder d;
  d.method = graph::find_method(m, names::kDecodeImage);
  if (d.method >= 0) {
    const fb::MethodT& decode = *m.methods[static_cast<size_t>(d.method)];
    if (decode.inputs.size() != 1 || decode.outputs.size() != 1)
      return fail(ErrorCode::kUnsupported, "decode_image must go from latents to an image");
    d.input = static_cast<size_t>(decode.inputs[0]);
    d.output = static_cast<size_t>(decode.outputs[0]);
  } else if (m.image->pixels_per_latent != 1 || (denoiser.channels != 1 && denoiser.channels != 3)) {
    return fail(ErrorCode::kUnsupported, "the file has no decode_image: convert the folder with its vae");
  }
  return d;
}

Result<fb::SchedulerT> choose_sampler(const fb::SchedulerT& published, const std::string& name,
                                      bool variance) {
  fb::SchedulerT chosen(published);
  if (name.empty()) return chosen;
  const bool flow = published.prediction == fb::Prediction::Flow;
  if (published.kind == fb::SchedulerKind::Scm)
    return fail(ErrorCode::kUnsupported, "this model is sampled with SCM only: leave the sampler out");
  if (name == "dpm++") {
    if (published.kind != fb::SchedulerKind::DpmSolver) {
      chosen.kind = fb::SchedulerKind::DpmSolver;
      chosen.spacing = fb::TimestepSpacing::Linspace;
      chosen.stochastic = false;
      chosen.sigmas = flow ? fb::SigmaSchedule::Flow : fb::SigmaSchedule::FromTimesteps;
    }
    return chosen;
  }
  if (name == "euler" && flow) {
    chosen.kind = fb::SchedulerKind::FlowEuler;
    chosen.sigmas = fb::SigmaSchedule::FromTimesteps;
    chosen.stochastic = false;
    return chosen;
  }
  if (!flow && (name == "ddpm" || name == "ddim")) {
    chosen.kind = name == "ddpm" ? fb::SchedulerKind::Ddpm : fb::SchedulerKind::Ddim;
    if (chosen.kind != published.kind && published.kind == fb::SchedulerKind::DpmSolver)
      chosen.spacing = fb::TimestepSpacing::Leading;
    if (name == "ddpm" && published.kind != fb::SchedulerKind::Ddpm)
      chosen.variance = variance ? fb::VarianceKind::LearnedRange : fb::VarianceKind::FixedSmall;
    return chosen;
  }
  return fail(ErrorCode::kUnsupported, strf("this model cannot be sampled with '{}': it offers {}", name,
                                            flow ? "dpm++ and euler" : "ddpm, ddim and dpm++"));
}

size_t most_clean_vectors(const fb::SchedulerT& published) {
  if (published.kind == fb::SchedulerKind::Scm) return 1;
  return static_cast<size_t>(
      std::clamp(published.solver_order, 1, static_cast<int>(SamplerVectors::kMostClean)));
}

size_t weights_of(const fb::ModelT& m, size_t method, int64_t ids) {
  enum class Use : uint8_t { kNone, kLookedUp, kWhole };
  std::vector<Use> used(m.weights.size(), Use::kNone);
  for (const auto& node : m.methods[method]->nodes) {
    for (size_t i = 0; i < node->weights.size(); ++i) {
      if (node->weights[i] < 0) continue;
      const bool table = graph::weight_read(*node, i).use == graph::WeightUse::kTable;
      Use& use = used[static_cast<size_t>(node->weights[i])];
      use = table && use != Use::kWhole ? Use::kLookedUp : Use::kWhole;
    }
  }
  size_t bytes = 0;
  for (size_t i = 0; i < used.size(); ++i) {
    const fb::WeightT& weight = *m.weights[i];
    if (used[i] == Use::kWhole) bytes += weight.bytes;
    if (used[i] == Use::kLookedUp && weight.shape.size() == 2 && weight.shape[0] > 0) {
      const auto panel = weight.bytes / static_cast<size_t>(format::panel_count(weight.shape[0]));
      bytes += std::min<size_t>(weight.bytes, panel * static_cast<size_t>(ids));
    }
  }
  return bytes;
}

}  // namespace linnet::image
