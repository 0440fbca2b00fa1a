#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "format/container.h"
#include "format/names.h"
#include "linnet/image.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/image/sampling.h"
#include "runtime/session/precision.h"

namespace linnet {

using image::Decoder;
using image::Denoiser;
using image::Guided;
using image::PromptEncoder;
using image::Sampling;
using image::Scheduler;
using image::seconds_since;

namespace {
constexpr int kMostClasses = 1 << 16;
}

struct ImageSession::Impl {
  std::shared_ptr<const Model> model;
  const Backend* backend = nullptr;
  ImageOptions options;
  std::unique_ptr<Engine> engine;
  Denoiser denoiser;
  Decoder decoder;
  std::unique_ptr<PromptEncoder> prompts;
  std::optional<Sampling> sampling;
  std::vector<int64_t> symbols;
  int height_symbol = -1, width_symbol = -1;
  std::vector<std::string> names;  // of the classes

  static Result<std::unique_ptr<Impl>> make(std::shared_ptr<const Model> model, const Backend& backend,
                                            const ImageOptions& options);
  static Result<ImageMemory> memory_required(const Model& model, const Backend& backend,
                                             const ImageOptions& options);
  const fb::ModelT& file() const { return model->file().model(); }
  const fb::ImagePipelineT& pipeline() const { return *file().image; }

  static Result<EngineOptions> engine_options(const Model& model, const ImageOptions& options) {
    const fb::ModelT& m = model.file().model();
    LINNET_ASSIGN(const Denoiser denoiser, image::find_denoiser(m));
    LINNET_ASSIGN(const Decoder decoder, image::find_decoder(m, denoiser));
    const fb::ImagePipelineT& p = *m.image;
    const int64_t side = int64_t{p.latent_size} * p.pixels_per_latent;
    EngineOptions engine;
    engine.threads = options.threads;
    engine.memory_limit = options.memory_limit;
    engine.cache_dtype = dtype_of(options.cache);
    engine.attention.full = true;
    for (const auto& [name, value] :
         {std::pair{names::kHeight, options.height}, std::pair{names::kWidth, options.width}}) {
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
      engine.symbols.emplace_back(names::kTextTokens, p.text_tokens);
      engine.symbols.emplace_back(names::kTokens, std::min(options.chunk, most));
      engine.symbols.emplace_back(names::kContext, most);
    }
    engine.vectors = Sampling::vectors(m, denoiser, decoder, most_area(p, options));
    return engine;
  }

  // The most latents in a channel, and pixels.
  static size_t most_area(const fb::ImagePipelineT& p, const ImageOptions& options) {
    const auto per_latent = static_cast<size_t>(p.pixels_per_latent);
    return most_pixels(p, options) / (per_latent * per_latent);
  }
  static size_t most_pixels(const fb::ImagePipelineT& p, const ImageOptions& options) {
    const int64_t side = int64_t{p.latent_size} * p.pixels_per_latent;
    return static_cast<size_t>((options.height ? options.height : side) *
                               (options.width ? options.width : side));
  }

  Result<std::pair<int64_t, int64_t>> size_of(const ImageRequest& request) const {
    const fb::ImagePipelineT& p = pipeline();
    std::pair<int64_t, int64_t> size;
    const std::pair<const char*, int64_t> asked[] = {{names::kHeight, request.height},
                                                     {names::kWidth, request.width}};
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
        if (weight >= 0) model->file().drop_weight(static_cast<size_t>(weight));
  }

  // The picture of the last sample, of `count` elements.
  Result<void> decode_into(ImageResult& result, size_t count, bool with_latents) {
    if (with_latents) {
      result.latents.resize(count);
      LINNET_TRY(sampling->read_sample(result.latents));
    }
    if (decoder.method < 0) {
      result.channels = static_cast<int>(denoiser.channels);
      result.planes.resize(count);
      return sampling->read_sample(result.planes);
    }
    const auto method = static_cast<size_t>(decoder.method);
    result.channels = 3;
    result.planes.resize(static_cast<size_t>(3 * result.height * result.width));
    LINNET_TRY(sampling->give_to_decoder());
    LINNET_TRY(engine->run(method, symbols, 0));
    LINNET_TRY(engine->read_value(method, decoder.output, std::as_writable_bytes(std::span(result.planes))));
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
    drop_weights(static_cast<size_t>(graph::find_method(file(), names::kEncodeText)));
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
                  image::choose_sampler(*p.scheduler, request.sampler, denoiser.outputs > denoiser.channels));
    LINNET_ASSIGN(const Scheduler scheduler,
                  Scheduler::create(sampler, request.steps == 0 ? p.steps : request.steps));
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
    LINNET_TRY(sampling->run(g, scheduler, request, area, symbols, on_step));
    drop_weights(denoiser.method);
    result.denoise_seconds = seconds_since(start);

    start = std::chrono::steady_clock::now();
    LINNET_TRY(decode_into(result, count, request.with_latents));
    if (decoder.method >= 0) drop_weights(static_cast<size_t>(decoder.method));
    for (float& v : result.planes) v = std::clamp(v, -1.0f, 1.0f);
    result.decode_seconds = seconds_since(start);
    return result;
  }
};

ImageSession::ImageSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ImageSession::~ImageSession() = default;

Result<ImageMemory> ImageSession::memory_required(const Model& model, const Backend& backend,
                                                  const ImageOptions& options) {
  return guarded([&] { return Impl::memory_required(model, backend, options); });
}

Result<ImageMemory> ImageSession::Impl::memory_required(const Model& model, const Backend& backend,
                                                        const ImageOptions& options) {
  LINNET_ASSIGN(const EngineOptions engine, engine_options(model, options));
  LINNET_ASSIGN(const MemoryRequired m, Engine::memory_required(model.file(), backend, engine));
  const fb::ModelT& file = model.file().model();
  LINNET_ASSIGN(const Denoiser denoiser, image::find_denoiser(file));
  ImageMemory memory;
  memory.weights_bytes = m.weights_bytes;
  memory.state_bytes = m.state_bytes;
  memory.work_bytes = m.work_bytes;
  memory.backend_bytes = m.backend_bytes;
  // The sampler's vectors, the host's part of them, a copy of the latents and the picture.
  const size_t area = most_area(*file.image, options), pixels = most_pixels(*file.image, options);
  memory.buffers_bytes = m.vectors_bytes + (Sampling::host_floats(denoiser, area) +
                                            area * static_cast<size_t>(denoiser.channels) + 3 * pixels) *
                                               sizeof(float);
  int64_t ids = 2;  // a class and none
  if (denoiser.text >= 0) {
    LINNET_ASSIGN(ids, PromptEncoder::most_tokens(model));
  }
  for (size_t method = 0; method < file.methods.size(); ++method)
    memory.largest_stage_weights =
        std::max(memory.largest_stage_weights, image::weights_of(file, method, ids));
  return memory;
}

Result<std::unique_ptr<ImageSession>> ImageSession::create(std::shared_ptr<const Model> model,
                                                           const Backend& backend,
                                                           const ImageOptions& options) {
  return guarded([&]() -> Result<std::unique_ptr<ImageSession>> {
    LINNET_ASSIGN(std::unique_ptr<Impl> impl, Impl::make(std::move(model), backend, options));
    return std::unique_ptr<ImageSession>(new ImageSession(std::move(impl)));
  });
}

Result<std::unique_ptr<ImageSession::Impl>> ImageSession::Impl::make(std::shared_ptr<const Model> model,
                                                                     const Backend& backend,
                                                                     const ImageOptions& options) {
  auto impl = std::make_unique<Impl>();
  LINNET_ASSIGN(const EngineOptions engine, engine_options(*model, options));
  LINNET_ASSIGN(impl->denoiser, image::find_denoiser(model->file().model()));
  LINNET_ASSIGN(impl->decoder, image::find_decoder(model->file().model(), impl->denoiser));
  LINNET_ASSIGN(impl->engine, Engine::create(model->shared_file(), backend, engine));
  impl->model = std::move(model);
  impl->backend = &backend;
  impl->options = options;
  const fb::ModelT& m = impl->file();
  impl->symbols = impl->engine->bounds().symbols;
  impl->height_symbol = graph::find_symbol(m, names::kHeight);
  impl->width_symbol = graph::find_symbol(m, names::kWidth);
  if (impl->height_symbol < 0 || impl->width_symbol < 0)
    return fail(ErrorCode::kUnsupported, "the file's denoiser has no height and width");
  if (impl->denoiser.text >= 0) {
    LINNET_ASSIGN(PromptEncoder prompts, PromptEncoder::create(*impl->model, *impl->engine, options.chunk));
    const auto& shape =
        m.methods[impl->denoiser.method]->values[static_cast<size_t>(impl->denoiser.text)]->shape;
    if (shape.size() != 2 || shape[1].add() != prompts.width() ||
        graph::find_symbol(m, names::kTextTokens) < 0)
      return fail(ErrorCode::kInvalidFile, "the denoiser does not take what the text encoder gives");
    impl->prompts = std::make_unique<PromptEncoder>(std::move(prompts));
  }
  impl->sampling.emplace(*impl->engine, impl->denoiser, impl->decoder, most_area(impl->pipeline(), options));
  if (impl->pipeline().null_class < 0 && !impl->prompts)
    return fail(ErrorCode::kInvalidFile, "the file's pipeline takes neither text nor a class");
  if (impl->pipeline().null_class > kMostClasses)
    return fail(ErrorCode::kInvalidFile, strf("the file's pipeline has {} classes, more than {}",
                                              impl->pipeline().null_class, kMostClasses));
  impl->names = impl->pipeline().class_names;
  if (!impl->prompts && impl->names.empty())
    for (int i = 0; i < impl->pipeline().null_class; ++i) impl->names.push_back(std::to_string(i));
  return impl;
}

Result<ImageResult> ImageSession::generate(const ImageRequest& request, const OnImageStep& on_step) {
  auto result = guarded([&] { return impl_->generate(request, on_step); });
  if (impl_->engine->poisoned()) (void)guarded([&] { return impl_->engine->reset(); });
  return result;
}

ImageMemory ImageSession::memory() const {
  return memory_required(*impl_->model, *impl_->backend, impl_->options).value_or(ImageMemory{});
}
const Model& ImageSession::model() const { return *impl_->model; }
const std::vector<std::string>& ImageSession::class_names() const { return impl_->names; }
int64_t ImageSession::size_multiple() const { return impl_->pipeline().size_multiple; }
int64_t ImageSession::default_size() const {
  return int64_t{impl_->pipeline().latent_size} * impl_->pipeline().pixels_per_latent;
}
int ImageSession::default_steps() const { return impl_->pipeline().steps; }
float ImageSession::default_guidance() const { return impl_->pipeline().guidance; }

}  // namespace linnet
