#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "format/file.h"
#include "format/panel.h"
#include "linnet/image.h"
#include "runtime/core/strings.h"
#include "runtime/engine/engine.h"
#include "runtime/image/noise.h"
#include "runtime/image/prompt.h"
#include "runtime/image/scheduler.h"

namespace linnet {
namespace {

using image::Conditioning;
using image::PromptEncoder;
using image::Scheduler;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The published sampler under another name.
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

struct Denoiser {
  size_t method = 0, latents = 0, timestep = 0, output = 0;
  int text = -1, mask = -1, label = -1, guidance = -1;
  int64_t channels = 0, outputs = 0, patch = 1;
};

Result<Denoiser> find_denoiser(const fb::ModelT& m) {
  const int method = graph::find_method(m, "denoise");
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
    if (name == "latents")
      latents = input;
    else if (name == "timestep")
      timestep = input;
    else if (name == "encoder_hidden_states")
      d.text = input;
    else if (name == "encoder_attention_mask")
      d.mask = input;
    else if (name == "class_labels")
      d.label = input;
    else if (name == "guidance")
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

// Bytes of the weights that a method reads. Of a table that only looks up ids, the panels that so many ids
// can touch at most: the others stay on disk.
size_t weights_of(const fb::ModelT& m, size_t method, int64_t ids) {
  enum class Use : uint8_t { kNone, kLookedUp, kWhole };
  std::vector<Use> used(m.weights.size(), Use::kNone);
  for (const auto& node : m.methods[method]->nodes) {
    const bool table = graph::op_kind(node->args.type) == graph::OpKind::kEmbedding;
    for (const int weight : node->weights)
      if (weight >= 0) {
        Use& use = used[static_cast<size_t>(weight)];
        use = table && use != Use::kWhole ? Use::kLookedUp : Use::kWhole;
      }
  }
  size_t bytes = 0;
  for (size_t i = 0; i < used.size(); ++i) {
    const fb::WeightT& weight = *m.weights[i];
    if (used[i] == Use::kWhole) bytes += weight.bytes;
    if (used[i] == Use::kLookedUp && weight.shape.size() == 2 && weight.shape[0] > 0) {
      const auto panel =
          weight.bytes / static_cast<size_t>((weight.shape[0] + format::kPanelRows - 1) / format::kPanelRows);
      bytes += std::min<size_t>(weight.bytes, panel * static_cast<size_t>(ids));
    }
  }
  return bytes;
}

}  // namespace

struct ImageSession::Impl {
  std::shared_ptr<const Model> model;
  const Backend* backend = nullptr;
  ImageOptions options;
  std::unique_ptr<Engine> engine;
  Denoiser denoiser;
  int decode = -1;  // method
  size_t decode_input = 0, decode_output = 0;
  std::unique_ptr<PromptEncoder> prompts;
  std::vector<int64_t> symbols;
  int height_symbol = -1, width_symbol = -1, text_symbol = -1;
  // Of one picture at the bounds.
  std::vector<float> latents, input, prediction, other, noise, mask;

  const fb::ModelT& file() const { return model->file().model(); }
  const fb::ImagePipelineT& pipeline() const { return *file().image; }

  static Result<EngineOptions> engine_options(const Model& model, const ImageOptions& options) {
    const fb::ModelT& m = model.file().model();
    LINNET_ASSIGN(const Denoiser denoiser, find_denoiser(m));
    const fb::ImagePipelineT& p = *m.image;
    const int64_t side = int64_t{p.latent_size} * p.pixels_per_latent;
    EngineOptions engine;
    engine.threads = options.threads;
    engine.cache_dtype = options.cache == CachePrecision::kF32   ? DType::kF32
                         : options.cache == CachePrecision::kF16 ? DType::kF16
                                                                 : DType::kQ8;
    engine.attention.full = true;
    for (const auto& [name, value] :
         {std::pair{"height", options.height}, std::pair{"width", options.width}}) {
      const int64_t pixels = value == 0 ? side : value;
      if (pixels < p.size_multiple || pixels % p.size_multiple != 0 || pixels > 16384)
        return fail(ErrorCode::kInvalidArgument, strf("the {} is {}, expected a multiple of {} up to 16384",
                                                      name, pixels, p.size_multiple));
      engine.symbols.emplace_back(name, pixels / p.size_multiple);
    }
    if (denoiser.text >= 0) {
      if (!model.tokenizer() || p.text_tokens < 1)
        return fail(ErrorCode::kUnsupported,
                    "the file has no tokenizer: convert the whole pipeline's folder");
      if (options.chunk < 1 || options.chunk > 65536)
        return fail(ErrorCode::kInvalidArgument,
                    strf("a chunk of {} tokens, expected 1 to 65536", options.chunk));
      LINNET_ASSIGN(const int64_t most, PromptEncoder::most_tokens(model));
      engine.symbols.emplace_back("text_tokens", p.text_tokens);
      engine.symbols.emplace_back("tokens", std::min(options.chunk, most));
      engine.symbols.emplace_back("context", most);
    }
    return engine;
  }

  static size_t buffer_floats(const Model& model, const ImageOptions& options, const Denoiser& d) {
    const fb::ImagePipelineT& p = *model.file().model().image;
    const int64_t side = int64_t{p.latent_size} * p.pixels_per_latent;
    const int64_t h = options.height ? options.height : side, w = options.width ? options.width : side;
    const int64_t area = h / p.pixels_per_latent * (w / p.pixels_per_latent);
    // latents, input, noise; prediction and other; the sampler's history; the picture and a copy of the
    // latents.
    const int64_t history = p.scheduler->kind == fb::SchedulerKind::DpmSolver ? p.scheduler->solver_order : 1;
    return static_cast<size_t>(area * (d.channels * (4 + history) + 2 * d.outputs) + 3 * h * w);
  }

  Result<std::pair<int64_t, int64_t>> size_of(const ImageRequest& request) const {
    const fb::ImagePipelineT& p = pipeline();
    std::pair<int64_t, int64_t> size;
    const std::pair<const char*, int64_t> asked[] = {{"height", request.height}, {"width", request.width}};
    const int symbols_of[] = {height_symbol, width_symbol};
    for (int i = 0; i < 2; ++i) {
      const int64_t bound = engine->bounds().symbols[static_cast<size_t>(symbols_of[i])] * p.size_multiple;
      const int64_t n = asked[i].second == 0 ? bound : asked[i].second;
      if (n < p.size_multiple || n % p.size_multiple != 0)
        return fail(ErrorCode::kInvalidArgument,
                    strf("the {} is {}, expected a multiple of {}", asked[i].first, n, p.size_multiple));
      if (n > bound)
        return fail(ErrorCode::kInvalidArgument,
                    strf("the {} is {}, the session was created for at most {}", asked[i].first, n, bound));
      (i == 0 ? size.first : size.second) = n;
    }
    return size;
  }

  // Gives the pages of a method's weights back to the system.
  void drop_weights(size_t method) const {
    for (const auto& node : file().methods[method]->nodes)
      for (const int weight : node->weights)
        if (weight >= 0) format::MappedFile::drop(model->file().weight_bytes(static_cast<size_t>(weight)));
  }

  Result<void> call(const Conditioning* text, int label, float timestep, float guidance,
                    std::span<const float> x, std::span<float> out) {
    const Denoiser& d = denoiser;
    LINNET_TRY(engine->write_value(d.method, d.latents, std::as_bytes(x)));
    LINNET_TRY(engine->write_value(d.method, d.timestep, std::as_bytes(std::span(&timestep, 1))));
    if (text) {
      symbols[static_cast<size_t>(text_symbol)] = text->tokens;
      LINNET_TRY(
          engine->write_value(d.method, static_cast<size_t>(d.text), std::as_bytes(std::span(text->rows))));
      if (d.mask >= 0)
        LINNET_TRY(engine->write_value(
            d.method, static_cast<size_t>(d.mask),
            std::as_bytes(std::span<const float>(mask).first(static_cast<size_t>(text->tokens)))));
    }
    if (d.label >= 0)
      LINNET_TRY(
          engine->write_value(d.method, static_cast<size_t>(d.label), std::as_bytes(std::span(&label, 1))));
    if (d.guidance >= 0)
      LINNET_TRY(engine->write_value(d.method, static_cast<size_t>(d.guidance),
                                     std::as_bytes(std::span(&guidance, 1))));
    LINNET_TRY(engine->run(d.method, symbols, 0));
    LINNET_TRY(engine->read_value(d.method, d.output, std::as_writable_bytes(out)));
    if (!std::ranges::all_of(out, [](float v) { return std::isfinite(v); }))
      return std::unexpected(engine->diagnose_non_finite(d.method, symbols, 0));
    return {};
  }

  struct Guided {
    const Conditioning *text = nullptr, *without = nullptr;
    int label = -1;
    float guidance = 1;
    size_t channels = 0;  // that guidance changes, times their area
    bool twice = false;
  };

  // The denoiser's answer for `x`, guided, into `prediction`.
  Result<void> predict(const Guided& g, float timestep, std::span<const float> x, std::span<float> out) {
    LINNET_TRY(call(g.text, g.label, timestep, g.guidance * pipeline().guidance_input, x, out));
    if (!g.twice) return {};
    const std::span<float> plain = std::span(other).first(out.size());
    LINNET_TRY(call(g.without, pipeline().null_class, timestep, 0, x, plain));
    for (size_t i = 0; i < g.channels; ++i) out[i] = plain[i] + g.guidance * (out[i] - plain[i]);
    return {};
  }

  Result<void> denoise(const Guided& g, Scheduler& scheduler, image::Noise& source, size_t count,
                       const OnImageStep& on_step) {
    const bool trig = pipeline().scheduler->kind == fb::SchedulerKind::Scm;
    const size_t outputs =
        count / static_cast<size_t>(denoiser.channels) * static_cast<size_t>(denoiser.outputs);
    const std::span<float> x = std::span(latents).first(count), in = std::span(input).first(count);
    const std::span<float> out = std::span(prediction).first(outputs), drawn = std::span(noise).first(count);
    for (int i = 0; i < scheduler.steps(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      const float t =
          trig ? scheduler.trig_input(i, x, in) : scheduler.timestep(i) * pipeline().timestep_scale;
      if (auto called = predict(g, t, trig ? in : x, out); !called) {
        Error error = called.error();
        error.message = strf("step {} of {}: {}", i + 1, scheduler.steps(), error.message);
        return std::unexpected(std::move(error));
      }
      if (trig) scheduler.trig_output(i, in, out.first(count));
      if (scheduler.takes_noise(i)) source.fill(drawn);
      scheduler.step(i, x, out.first(count), outputs > count ? out.subspan(count) : std::span<float>(),
                     drawn);
      const ImageStep done{i + 1, scheduler.steps(), seconds_since(start), x, scheduler.denoised()};
      if (on_step && !on_step(done))
        return fail(ErrorCode::kCancelled, strf("stopped after step {} of {}", i + 1, scheduler.steps()));
    }
    if (trig)
      for (float& v : x) v /= pipeline().scheduler->sigma_data;
    return {};
  }

  Result<void> decode_into(ImageResult& result, size_t count) {
    const std::span<float> x = std::span(latents).first(count), in = std::span(input).first(count);
    result.latents.assign(x.begin(), x.end());
    if (decode < 0) {
      result.channels = static_cast<int>(denoiser.channels);
      result.planes = result.latents;
      return {};
    }
    for (size_t i = 0; i < count; ++i) in[i] = x[i] / pipeline().latent_scale + pipeline().latent_shift;
    const auto method = static_cast<size_t>(decode);
    result.channels = 3;
    result.planes.resize(static_cast<size_t>(3 * result.height * result.width));
    LINNET_TRY(engine->write_value(method, decode_input, std::as_bytes(std::span<const float>(in))));
    LINNET_TRY(engine->run(method, symbols, 0));
    LINNET_TRY(engine->read_value(method, decode_output, std::as_writable_bytes(std::span(result.planes))));
    if (!std::ranges::all_of(result.planes, [](float v) { return std::isfinite(v); })) {
      Error error = engine->diagnose_non_finite(method, symbols, 0);
      error.message = "decoding: " + error.message;
      return std::unexpected(std::move(error));
    }
    return {};
  }

  Result<Guided> conditioning(const ImageRequest& request, ImageResult& result) {
    const fb::ImagePipelineT& p = pipeline();
    Guided g;
    g.guidance = request.guidance < 0 ? p.guidance : request.guidance;
    if (!std::isfinite(g.guidance)) return fail(ErrorCode::kInvalidArgument, "the guidance must be a number");
    g.twice = p.guidance_input <= 0 && g.guidance > 1;
    if (!prompts) {
      const int classes = p.null_class;
      if (request.class_label < 0 || request.class_label >= classes)
        return fail(ErrorCode::kInvalidArgument,
                    strf("the class is {}, the model has 0 to {}", request.class_label, classes - 1));
      g.label = request.class_label;
      return g;
    }
    // The one without an instruction first: the other's then stays in the encoder's state for the next
    // prompt.
    if (g.twice) {
      LINNET_ASSIGN(g.without, prompts->encode(request.negative, true));
    }
    LINNET_ASSIGN(g.text, prompts->encode(request.prompt, false));
    result.prompt_tokens = g.text->prompt_tokens;
    result.truncated = g.text->truncated;
    drop_weights(static_cast<size_t>(graph::find_method(file(), "encode_text")));
    return g;
  }

  Result<ImageResult> generate(const ImageRequest& request, const OnImageStep& on_step) {
    const fb::ImagePipelineT& p = pipeline();
    LINNET_ASSIGN(const auto size, size_of(request));
    ImageResult result;
    result.height = size.first;
    result.width = size.second;
    const int64_t rows = size.first / p.pixels_per_latent, columns = size.second / p.pixels_per_latent;
    const auto area = static_cast<size_t>(rows * columns),
               count = area * static_cast<size_t>(denoiser.channels);
    LINNET_ASSIGN(const fb::SchedulerT sampler,
                  choose_sampler(*p.scheduler, request.sampler, denoiser.outputs > denoiser.channels));
    LINNET_ASSIGN(Scheduler scheduler,
                  Scheduler::create(sampler, request.steps == 0 ? p.steps : request.steps, count));
    if (scheduler.takes_variance() && denoiser.outputs == denoiser.channels)
      return fail(ErrorCode::kUnsupported,
                  "the sampler takes a predicted variance, which this model does not give");
    if (!request.latents.empty() && request.latents.size() != count)
      return fail(ErrorCode::kInvalidArgument,
                  strf("{} latents were given, [{}, {}, {}] makes {}", request.latents.size(),
                       denoiser.channels, rows, columns, count));
    auto start = std::chrono::steady_clock::now();
    LINNET_ASSIGN(Guided g, conditioning(request, result));
    const int channels = request.guidance_channels < 0 ? p.guidance_channels : request.guidance_channels;
    g.channels = area * static_cast<size_t>(channels == 0 ? denoiser.channels
                                                          : std::min<int64_t>(channels, denoiser.channels));
    result.text_seconds = seconds_since(start);

    start = std::chrono::steady_clock::now();
    symbols[static_cast<size_t>(height_symbol)] = size.first / p.size_multiple;
    symbols[static_cast<size_t>(width_symbol)] = size.second / p.size_multiple;
    image::Noise source(request.seed);
    const std::span<float> x = std::span(latents).first(count);
    if (request.latents.empty())
      source.fill(x);
    else
      std::ranges::copy(request.latents, x.begin());
    for (float& v : x) v *= scheduler.initial_scale();
    LINNET_TRY(denoise(g, scheduler, source, count, on_step));
    drop_weights(denoiser.method);
    result.denoise_seconds = seconds_since(start);

    start = std::chrono::steady_clock::now();
    LINNET_TRY(decode_into(result, count));
    if (decode >= 0) drop_weights(static_cast<size_t>(decode));
    for (float& v : result.planes) v = std::clamp(v, -1.0f, 1.0f);
    result.decode_seconds = seconds_since(start);
    return result;
  }
};

ImageSession::ImageSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ImageSession::~ImageSession() = default;

Result<ImageMemory> ImageSession::memory_required(const Model& model, const Backend& backend,
                                                  const ImageOptions& options) {
  LINNET_ASSIGN(const EngineOptions engine, Impl::engine_options(model, options));
  LINNET_ASSIGN(const MemoryRequired m, Engine::memory_required(model.file(), backend, engine));
  const fb::ModelT& file = model.file().model();
  LINNET_ASSIGN(const Denoiser denoiser, find_denoiser(file));
  ImageMemory memory;
  memory.weights_bytes = m.weights_bytes;
  memory.state_bytes = m.state_bytes;
  memory.work_bytes = m.work_bytes;
  memory.backend_bytes = m.backend_bytes;
  memory.buffers_bytes = Impl::buffer_floats(model, options, denoiser) * sizeof(float);
  int64_t ids = 2;  // a class and none
  if (denoiser.text >= 0) {
    LINNET_ASSIGN(ids, PromptEncoder::most_tokens(model));
  }
  for (size_t method = 0; method < file.methods.size(); ++method)
    memory.largest_stage_weights = std::max(memory.largest_stage_weights, weights_of(file, method, ids));
  return memory;
}

Result<std::unique_ptr<ImageSession>> ImageSession::create(std::shared_ptr<const Model> model,
                                                           const Backend& backend,
                                                           const ImageOptions& options) {
  auto impl = std::make_unique<Impl>();
  LINNET_ASSIGN(const EngineOptions engine, Impl::engine_options(*model, options));
  LINNET_ASSIGN(impl->denoiser, find_denoiser(model->file().model()));
  LINNET_ASSIGN(impl->engine, Engine::create(model->shared_file(), backend, engine));
  impl->model = std::move(model);
  impl->backend = &backend;
  impl->options = options;
  const fb::ModelT& m = impl->file();
  impl->symbols = impl->engine->bounds().symbols;
  impl->height_symbol = graph::find_symbol(m, "height");
  impl->width_symbol = graph::find_symbol(m, "width");
  impl->text_symbol = graph::find_symbol(m, "text_tokens");
  if (impl->height_symbol < 0 || impl->width_symbol < 0)
    return fail(ErrorCode::kUnsupported, "the file's denoiser has no height and width");
  if (impl->denoiser.text >= 0) {
    LINNET_ASSIGN(PromptEncoder prompts, PromptEncoder::create(*impl->model, *impl->engine, options.chunk));
    const auto& shape =
        m.methods[impl->denoiser.method]->values[static_cast<size_t>(impl->denoiser.text)]->shape;
    if (shape.size() != 2 || shape[1].add() != prompts.width() || impl->text_symbol < 0)
      return fail(ErrorCode::kInvalidFile, "the denoiser does not take what the text encoder gives");
    impl->prompts = std::make_unique<PromptEncoder>(std::move(prompts));
    impl->mask.assign(static_cast<size_t>(impl->pipeline().text_tokens), 1.0f);
  }
  impl->decode = graph::find_method(m, "decode_image");
  if (impl->decode >= 0) {
    const fb::MethodT& decode = *m.methods[static_cast<size_t>(impl->decode)];
    if (decode.inputs.size() != 1 || decode.outputs.size() != 1)
      return fail(ErrorCode::kUnsupported, "decode_image must go from latents to an image");
    impl->decode_input = static_cast<size_t>(decode.inputs[0]);
    impl->decode_output = static_cast<size_t>(decode.outputs[0]);
  } else if (impl->pipeline().pixels_per_latent != 1 ||
             (impl->denoiser.channels != 1 && impl->denoiser.channels != 3)) {
    return fail(ErrorCode::kUnsupported, "the file has no decode_image: convert the folder with its vae");
  }
  const fb::ImagePipelineT& p = impl->pipeline();
  const auto& bound = impl->engine->bounds().symbols;
  const int64_t area = bound[static_cast<size_t>(impl->height_symbol)] *
                       bound[static_cast<size_t>(impl->width_symbol)] * impl->denoiser.patch *
                       impl->denoiser.patch;
  const auto count = static_cast<size_t>(area * impl->denoiser.channels);
  const auto outputs = static_cast<size_t>(area * impl->denoiser.outputs);
  for (auto* buffer : {&impl->latents, &impl->input, &impl->noise}) buffer->assign(count, 0.0f);
  for (auto* buffer : {&impl->prediction, &impl->other}) buffer->assign(outputs, 0.0f);
  if (p.null_class < 0 && !impl->prompts)
    return fail(ErrorCode::kInvalidFile, "the file's pipeline takes neither text nor a class");
  return std::unique_ptr<ImageSession>(new ImageSession(std::move(impl)));
}

Result<ImageResult> ImageSession::generate(const ImageRequest& request, const OnImageStep& on_step) {
  auto result = impl_->generate(request, on_step);
  if (impl_->engine->poisoned()) (void)impl_->engine->reset();
  return result;
}

ImageMemory ImageSession::memory() const {
  return memory_required(*impl_->model, *impl_->backend, impl_->options).value_or(ImageMemory{});
}
const Model& ImageSession::model() const { return *impl_->model; }
std::vector<std::string> ImageSession::class_names() const {
  std::vector<std::string> names = impl_->pipeline().class_names;
  if (!impl_->prompts && names.empty())
    for (int i = 0; i < impl_->pipeline().null_class; ++i) names.push_back(std::to_string(i));
  return names;
}
int64_t ImageSession::size_multiple() const { return impl_->pipeline().size_multiple; }
int64_t ImageSession::default_size() const {
  return int64_t{impl_->pipeline().latent_size} * impl_->pipeline().pixels_per_latent;
}
int ImageSession::default_steps() const { return impl_->pipeline().steps; }
float ImageSession::default_guidance() const { return impl_->pipeline().guidance; }

}  // namespace linnet
