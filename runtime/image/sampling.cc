#include "runtime/image/sampling.h"

#include <algorithm>

#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::image {
namespace {

// Vectors of the plan; the predicted clean samples follow.
enum : size_t { kSample, kNoise, kPrediction, kClean };

VectorSlice vector(size_t index, size_t first = 0) { return {-1, index, first}; }
VectorSlice value(size_t method, size_t index) { return {static_cast<int>(method), index, 0}; }

// Between two runs: the answer kept or guided, what it means, the clean sample, the next one, the next input.
constexpr size_t kMostOps = 5;

}  // namespace

struct Sampling::Trajectory {
  const Guided& guided;
  const Scheduler& scheduler;
  Noise noise;
  size_t count = 0, outputs = 0;  // elements of a sample and of the denoiser's output
  std::vector<int64_t>& symbols;
};

VectorPlan Sampling::vectors(const fb::ModelT& model, const Denoiser& denoiser, const Decoder& decoder,
                             size_t area) {
  const size_t count = area * static_cast<size_t>(denoiser.channels);
  VectorPlan plan;
  plan.elements = {count, count, area * static_cast<size_t>(denoiser.outputs)};
  plan.elements.resize(kClean + most_clean_vectors(*model.image->scheduler), count);
  plan.values = {value(denoiser.method, denoiser.latents), value(denoiser.method, denoiser.output)};
  if (decoder.method >= 0) plan.values.push_back(value(static_cast<size_t>(decoder.method), decoder.input));
  return plan;
}

size_t Sampling::host_floats(const Denoiser& denoiser, size_t area) {
  return 3 * area * static_cast<size_t>(denoiser.channels);
}

Sampling::Sampling(Engine& engine, const Denoiser& denoiser, const Decoder& decoder, size_t area)
    : engine_(engine),
      denoiser_(denoiser),
      decoder_(decoder),
      text_symbol_(graph::find_symbol(engine.model(), names::kTextTokens)),
      input_(value(denoiser.method, denoiser.latents)),
      output_(value(denoiser.method, denoiser.output)) {
  vectors_.sample = vector(kSample);
  vectors_.noise = vector(kNoise);
  vectors_.prediction = vector(kPrediction);
  for (size_t i = 0; i < vectors_.clean.size(); ++i) vectors_.clean[i] = vector(kClean + i);
  for (auto* buffer : {&drawn_, &shown_, &preview_})
    buffer->assign(area * static_cast<size_t>(denoiser.channels), 0.0f);
  if (denoiser.mask >= 0) mask_.assign(static_cast<size_t>(pipeline().text_tokens), 1.0f);
  ops_.reserve(kMostOps);
}

Result<void> Sampling::call(Trajectory& t, const Conditioning* text, int label, float timestep,
                            float guidance) {
  const Denoiser& d = denoiser_;
  const auto write = [&](int input, auto values) {
    return engine_.write_value(d.method, static_cast<size_t>(input), std::as_bytes(values));
  };
  LINNET_TRY(write(static_cast<int>(d.timestep), std::span(&timestep, 1)));
  if (text) {
    t.symbols[static_cast<size_t>(text_symbol_)] = text->tokens;
    LINNET_TRY(write(d.text, std::span(text->rows)));
    if (d.mask >= 0) LINNET_TRY(write(d.mask, std::span(mask_).first(static_cast<size_t>(text->tokens))));
  }
  if (d.label >= 0) LINNET_TRY(write(d.label, std::span(&label, 1)));
  if (d.guidance >= 0) LINNET_TRY(write(d.guidance, std::span(&guidance, 1)));
  return engine_.run(d.method, t.symbols, 0);
}

// Does the operations if all that the denoiser answered is finite.
Result<void> Sampling::apply(const Trajectory& t) {
  LINNET_ASSIGN(const bool finite, engine_.apply(ops_, {output_, t.outputs}));
  if (!finite) return std::unexpected(engine_.diagnose_non_finite(denoiser_.method, t.symbols, 0));
  return {};
}

Result<void> Sampling::start(Trajectory& t, const ImageRequest& request) {
  const std::span<float> x = std::span(drawn_).first(t.count);
  if (request.latents.empty())
    t.noise.fill(x);
  else
    std::ranges::copy(request.latents, x.begin());
  for (float& v : x) v *= t.scheduler.initial_scale();
  LINNET_TRY(engine_.write_vector(kSample, x));
  ops_.clear();
  t.scheduler.input(0, vectors_, input_, ops_);
  LINNET_TRY(engine_.apply(ops_));
  return {};
}

Result<void> Sampling::step(Trajectory& t, int i) {
  const Guided& g = t.guided;
  const Scheduler& s = t.scheduler;
  const float told = s.told(i, pipeline().timestep_scale);
  LINNET_TRY(call(t, g.text, g.label, told, g.guidance * pipeline().guidance_input));
  ops_.clear();
  ops_.push_back(sum_of(vectors_.prediction, t.outputs, {{output_, 1}}));
  if (g.twice) {
    LINNET_TRY(apply(t));
    LINNET_TRY(call(t, g.without, pipeline().null_class, told, 0));
    const double strength = g.guidance;
    ops_.clear();
    ops_.push_back(
        sum_of(vectors_.prediction, g.channels, {{vectors_.prediction, strength}, {output_, 1 - strength}}));
  }
  s.answer(i, vectors_, ops_);
  if (s.takes_noise(i)) {
    const std::span<float> drawn = std::span(drawn_).first(t.count);
    t.noise.fill(drawn);
    LINNET_TRY(engine_.write_vector(kNoise, drawn));
  }
  s.step(i, vectors_, ops_);
  if (i + 1 < s.steps()) s.input(i + 1, vectors_, input_, ops_);
  return apply(t);
}

Result<void> Sampling::run(const Guided& guided, const Scheduler& scheduler, const ImageRequest& request,
                           size_t area, std::vector<int64_t>& symbols, const OnImageStep& on_step) {
  Trajectory t{guided,
               scheduler,
               Noise(request.seed),
               area * static_cast<size_t>(denoiser_.channels),
               area * static_cast<size_t>(denoiser_.outputs),
               symbols};
  vectors_.elements = t.count;
  vectors_.variance = vector(kPrediction, t.count);
  LINNET_TRY(start(t, request));
  for (int i = 0; i < scheduler.steps(); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (auto stepped = step(t, i); !stepped) {
      Error error = stepped.error();
      error.message = strf("step {} of {}: {}", i + 1, scheduler.steps(), error.message);
      return std::unexpected(std::move(error));
    }
    if (!on_step) continue;
    ImageStep done{i + 1, scheduler.steps(), seconds_since(begin), {}, {}};
    if (request.with_latents) {
      const std::span<float> shown = std::span(shown_).first(t.count),
                             preview = std::span(preview_).first(t.count);
      LINNET_TRY(engine_.read_vector(kSample, shown));
      LINNET_TRY(engine_.read_vector(scheduler.clean(i, vectors_).index, preview));
      done.latents = shown;
      done.preview = preview;
    }
    if (!on_step(done))
      return fail(ErrorCode::kCancelled, strf("stopped after step {} of {}", i + 1, scheduler.steps()));
  }
  if (scheduler.initial_scale() == 1) return {};
  ops_.clear();
  ops_.push_back(sum_of(vectors_.sample, t.count, {{vectors_.sample, 1.0 / scheduler.initial_scale()}}));
  LINNET_TRY(engine_.apply(ops_));
  return {};
}

Result<void> Sampling::read_sample(std::span<float> sample) { return engine_.read_vector(kSample, sample); }

Result<void> Sampling::give_to_decoder() {
  ops_.clear();
  ops_.push_back(sum_of(value(static_cast<size_t>(decoder_.method), decoder_.input), vectors_.elements,
                        {{vectors_.sample, 1.0 / pipeline().latent_scale}}));
  ops_.back().constant = pipeline().latent_shift;
  LINNET_TRY(engine_.apply(ops_));
  return {};
}

}  // namespace linnet::image
