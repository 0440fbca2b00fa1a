#include "converter/image/convert_image.h"

#include <filesystem>

#include "converter/checkpoint_tensors.h"
#include "converter/image/components.h"
#include "converter/image/scheduler_import.h"
#include "converter/readers/json.h"
#include "converter/readers/reading.h"
#include "converter/readers/safetensors.h"
#include "converter/readers/stored_scales.h"
#include "converter/readers/weights_folder.h"
#include "converter/source.h"
#include "converter/tokenizer_import.h"
#include "converter/write_weights.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// The instruction that SANA's pipelines put before every prompt.
constexpr const char* kInstruction =
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable "
    "for "
    "image generation. Evaluate the level of detail in the user prompt:\n"
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial "
    "relationships to create vivid and concrete scenes.\n"
    "- If the prompt is already detailed, refine and enhance the existing details slightly without "
    "overcomplicating.\n"
    "Here are examples of how to transform or refine prompts:\n"
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, "
    "sleeping "
    "peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.\n"
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing "
    "street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by "
    "towering "
    "glass skyscrapers.\n"
    "Please generate only the enhanced description for the prompt below and avoid including any additional "
    "commentary or evaluations:\n"
    "User Prompt: ";

struct Component {
  Component() = default;
  Component(Component&&) = default;
  Component& operator=(Component&&) = default;
  ~Component() { release(config); }

  fs::path folder;
  Json config;
  std::unique_ptr<TensorSet> tensors;
  std::string kind;
};

bool has_weights(const fs::path& folder, const char* name) {
  return fs::exists(folder / (std::string(name) + ".safetensors")) ||
         fs::exists(folder / (std::string(name) + ".safetensors.index.json"));
}

Result<Component> open_component(const fs::path& folder, const std::string& overlay) {
  Component c;
  c.folder = folder;
  if (!fs::exists(folder / "config.json"))
    return fail(ErrorCode::kNotFound, strf("'{}' has no config.json", folder.string()));
  LINNET_ASSIGN(c.config, read_json((folder / "config.json").string(), true));
  if (!c.config.is_object())
    return fail(ErrorCode::kInvalidFile, strf("'{}' is not an object", (folder / "config.json").string()));
  const Json kind = c.config.contains("_class_name") ? c.config["_class_name"]
                    : c.config.contains("architectures") && c.config["architectures"].is_array() &&
                            !c.config["architectures"].empty()
                        ? c.config["architectures"][0]
                        : Json();
  c.kind = kind.is_string() ? kind.get<std::string>() : "(no class name)";
  LINNET_ASSIGN(const StoredScales scales, read_stored_scales(c.config, (folder / "config.json").string()));
  LINNET_TRY(refuse_quantised_folder(folder.string()));
  auto checkpoint = std::make_shared<Checkpoint>();
  const char* name = has_weights(folder, "diffusion_pytorch_model") ? "diffusion_pytorch_model" : "model";
  LINNET_TRY(read_weights_folder(folder.string(), name, *checkpoint));
  LINNET_TRY(refuse_quantised_tensors(*checkpoint, folder.string()));
  LINNET_ASSIGN(PackedWeights packed, PackedWeights::find(*checkpoint, scales, folder.string()));
  c.tensors = checkpoint_tensors(std::move(checkpoint), scales, std::move(packed), folder.string());
  if (overlay.empty()) return c;
  auto trained = std::make_shared<Checkpoint>();
  LINNET_TRY(read_safetensors(overlay, *trained));
  // How many heads the trained attention has, and the term of its normaliser.
  for (const auto& [key, tensor] : {std::pair{"linear_attention_heads", "linear_attention.heads"},
                                    std::pair{"linear_attention_epsilon", "linear_attention.epsilon"}}) {
    const TensorInfo* found = trained->find(tensor);
    float value = 0;
    if (!found || found->elements() != 1) {
      if (std::string_view(key) == "linear_attention_epsilon") continue;
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}' has no tensor '{}' with the number of heads it was trained with", overlay, tensor));
    }
    LINNET_TRY(trained->read_f32(*found, 0, 1, &value));
    if (std::string_view(key) == "linear_attention_heads")
      c.config[key] = static_cast<int64_t>(value);
    else
      c.config[key] = value;
  }
  c.tensors = overlay_tensors(
      std::move(c.tensors), checkpoint_tensors(std::move(trained), StoredScales{}, PackedWeights(), overlay));
  return c;
}

// Every tensor must be known, but for the encoder of pictures.
Result<void> check_import(const Importer& in, const Component& c) {
  std::vector<std::string> errors = in.errors();
  if (errors.empty())
    for (const std::string& name : in.unused()) {
      const bool picture_encoder = c.kind.starts_with("Autoencoder") &&
                                   (name.starts_with("encoder.") || name.starts_with("quant_conv."));
      const bool buffer = name.ends_with("inv_freq") || name.starts_with("linear_attention.") ||
                          name == "y_embedder.y_embedding" || name == "logvar_linear.weight" ||
                          name == "logvar_linear.bias";
      if (!picture_encoder && !buffer)
        errors.push_back(strf("unexpected tensor '{}' in {}", name, in.origin()));
    }
  if (errors.empty()) return {};
  return fail(ErrorCode::kInvalidFile,
              strf("'{}' cannot be imported as {}:{}", c.folder.string(), c.kind, listed(errors)));
}

using ComponentImport = void (*)(Importer&, ImageFacts&);
struct Known {
  const char* kind;
  ComponentImport import;
};
constexpr Known kTransformers[] = {{"SanaTransformer2DModel", import_sana},
                                   {"PixArtTransformer2DModel", import_pixart},
                                   {"DiTTransformer2DModel", import_dit},
                                   {"Transformer2DModel", nullptr}};
constexpr Known kDecoders[] = {{"AutoencoderDC", import_dc_decoder}, {"AutoencoderKL", import_kl_decoder}};
constexpr Known kEncoders[] = {
    {"Gemma2Model", [](Importer& in, ImageFacts&) { import_gemma2_encoder(in); }},
    {"Gemma2ForCausalLM", [](Importer& in, ImageFacts&) { import_gemma2_encoder(in); }},
    {"T5EncoderModel", [](Importer& in, ImageFacts&) { import_t5_encoder(in); }},
    {"T5Model", [](Importer& in, ImageFacts&) { import_t5_encoder(in); }}};

Result<void> import(Component& c, std::span<const Known> known, GraphBuilder& graph, ImageFacts& facts) {
  ComponentImport function = nullptr;
  std::string names;
  for (const Known& k : known) {
    if (!k.import) continue;
    names += (names.empty() ? "" : ", ") + std::string(k.kind);
    if (c.kind == k.kind) function = k.import;
  }
  // Older folders of PixArt and DiT name the class both were part of.
  if (!function && c.kind == "Transformer2DModel" && known.data() == kTransformers) {
    const std::string norm = c.config.value("norm_type", "");
    function = norm == "ada_norm_zero" ? import_dit : norm == "ada_norm_single" ? import_pixart : nullptr;
  }
  if (!function)
    return fail(ErrorCode::kUnsupported,
                strf("'{}' is a {}, which Linnet does not import here. It imports: {}", c.folder.string(),
                     c.kind, names));
  Importer importer(c.config, *c.tensors, graph);
  function(importer, facts);
  return check_import(importer, c);
}

struct PipelineDefaults {
  int steps;
  float guidance;
  bool text;
};
Result<PipelineDefaults> defaults_of(const std::string& pipeline, const fs::path& index) {
  if (pipeline == "SanaPipeline") return PipelineDefaults{20, 4.5f, true};
  if (pipeline == "SanaSprintPipeline") return PipelineDefaults{2, 4.5f, true};
  if (pipeline == "PixArtSigmaPipeline") return PipelineDefaults{20, 4.5f, true};
  if (pipeline == "DiTPipeline") return PipelineDefaults{50, 4.0f, false};
  return fail(
      ErrorCode::kUnsupported,
      strf("'{}' is a {}, which Linnet does not import. It imports: SanaPipeline, SanaSprintPipeline, "
           "PixArtSigmaPipeline, DiTPipeline",
           index.string(), pipeline));
}

// id2label of a class-conditional model: {"0": "tench, Tinca tinca"}.
Result<std::vector<std::string>> class_names(const Json& index, int64_t classes) {
  std::vector<std::string> names;
  const auto labels = index.find("id2label");
  if (labels == index.end() || !labels->is_object()) return names;
  for (int64_t i = 0; i < classes; ++i) {
    const auto name = labels->find(std::to_string(i));
    names.push_back(name != labels->end() && name->is_string() ? name->get<std::string>()
                                                               : std::to_string(i));
  }
  return names;
}

Result<std::unique_ptr<fb::ImagePipelineT>> assemble(const fs::path& folder, const Json& index,
                                                     const ImageFacts& facts) {
  const std::string kind = index.value("_class_name", "");
  LINNET_ASSIGN(const PipelineDefaults defaults, defaults_of(kind, folder / "model_index.json"));
  auto pipeline = std::make_unique<fb::ImagePipelineT>();
  const fs::path config = folder / "scheduler" / "scheduler_config.json";
  if (!fs::exists(config)) return fail(ErrorCode::kNotFound, strf("'{}' is missing", config.string()));
  LINNET_ASSIGN(Json scheduler, read_json(config.string(), true));
  const JsonRelease released(scheduler);
  LINNET_ASSIGN(fb::SchedulerT imported, import_scheduler(scheduler, config.string()));
  const bool sprint = facts.guidance_input > 0;
  if ((imported.kind == fb::SchedulerKind::Scm) != sprint)
    return fail(ErrorCode::kUnsupported,
                strf("'{}': an SCMScheduler and a transformer with guidance embeddings belong together",
                     config.string()));
  pipeline->scheduler = std::make_unique<fb::SchedulerT>(std::move(imported));
  pipeline->latent_channels = static_cast<int>(facts.latent_channels);
  pipeline->latent_size = static_cast<int>(facts.latent_size);
  pipeline->pixels_per_latent = static_cast<int>(facts.decodes ? facts.pixels_per_latent : 1);
  pipeline->size_multiple = pipeline->pixels_per_latent * static_cast<int>(facts.patch);
  pipeline->latent_scale = static_cast<float>(facts.latent_scale);
  pipeline->latent_shift = static_cast<float>(facts.latent_shift);
  // A folder may say what it is best sampled with (models/lit-fashion does).
  const auto own = [&index](const char* key, double absent) -> Result<double> {
    const auto found = index.find(key);
    return found == index.end() || found->is_null()
               ? Result<double>(absent)
               : read_number(*found, strf("model_index.json: '{}'", key));
  };
  LINNET_ASSIGN(const double steps, own("num_inference_steps", defaults.steps));
  LINNET_ASSIGN(const double guidance, own("guidance_scale", defaults.guidance));
  if (!(steps >= 1 && steps <= 1000))
    return fail(ErrorCode::kInvalidFile, "model_index.json: 'num_inference_steps' must be 1 to 1000");
  pipeline->steps = static_cast<int>(steps);
  pipeline->guidance = static_cast<float>(guidance);
  pipeline->guidance_channels = static_cast<int>(facts.guidance_channels);
  pipeline->guidance_input = static_cast<float>(facts.guidance_input);
  pipeline->timestep_scale = static_cast<float>(facts.timestep_scale);
  if (defaults.text) {
    pipeline->text_tokens = 300;
    pipeline->lower_case = true;
    if (kind != "PixArtSigmaPipeline") pipeline->instruction = kInstruction;
  } else {
    pipeline->null_class = static_cast<int>(facts.classes);
    LINNET_ASSIGN(pipeline->class_names, class_names(index, facts.classes));
  }
  return pipeline;
}

Result<ConvertReport> convert_folder(const ConvertOptions& options) {
  const fs::path folder = options.source;
  Json index;
  const JsonRelease released(index);
  const bool whole = fs::exists(folder / "model_index.json");
  if (whole) {
    LINNET_ASSIGN(index, read_json((folder / "model_index.json").string(), true));
    if (!index.is_object())
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}' is not an object", (folder / "model_index.json").string()));
    LINNET_TRY(defaults_of(index.value("_class_name", "(no _class_name)"), folder / "model_index.json"));
    for (const char* part : {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"}) {
      const auto named = index.find(part);
      const bool expected =
          named != index.end() && named->is_array() && !named->empty() && !(*named)[0].is_null();
      if (expected && !fs::is_directory(folder / part))
        return fail(ErrorCode::kNotFound,
                    strf("'{}' names the component '{}', but the folder '{}' is missing",
                         (folder / "model_index.json").string(), part, (folder / part).string()));
    }
    if (!fs::is_directory(folder / "transformer"))
      return fail(ErrorCode::kNotFound, strf("'{}' has no transformer", folder.string()));
  }
  GraphBuilder graph;
  ImageFacts facts;
  std::vector<Component> components;  // their tensors must live until the weights are written
  const auto add = [&](const char* part, std::span<const Known> known,
                       const std::string& overlay) -> Result<void> {
    if (!fs::is_directory(folder / part)) return {};
    LINNET_ASSIGN(Component c, open_component(folder / part, overlay));
    components.push_back(std::move(c));
    return import(components.back(), known, graph, facts);
  };
  components.reserve(3);
  LINNET_TRY(add("text_encoder", kEncoders, ""));
  for (WeightPlan& w : graph.weights())
    if (w.role == WeightRole::kMatrix &&
        (w.name.starts_with("layers.0.") || w.name.starts_with("encoder.block.0.")))
      w.role = WeightRole::kFirst;
  LINNET_TRY(add("transformer", kTransformers, options.linear_attention));
  LINNET_TRY(add("vae", kDecoders, ""));

  ConvertReport report;
  report.architecture = whole ? index.value("_class_name", "") : components.back().kind;
  fb::ModelT& model = graph.model();
  if (whole) {
    LINNET_ASSIGN(model.image, assemble(folder, index, facts));
  }
  Source text;
  if (fs::is_directory(folder / "tokenizer")) {
    LINNET_TRY(import_folder_text((folder / "tokenizer").string(), text));
    model.tokenizer = std::move(text.tokenizer);
    report.notes = text.notes;
  }
  LINNET_ASSIGN(const QuantizePolicy policy, QuantizePolicy::create(options.quantize, options.keep));
  LINNET_ASSIGN(format::ModelWriter writer,
                format::ModelWriter::create(options.output, {.replace = options.replace}));
  host::ThreadPool pool(options.threads);
  LINNET_ASSIGN(Written written, write_weights(options, policy, {.pool = &pool, .calibration = nullptr},
                                               writer, graph.weights()));
  const auto note = [&model](std::string key, std::string value) {
    model.metadata.push_back(std::make_unique<fb::KeyValueT>());
    model.metadata.back()->key = std::move(key);
    model.metadata.back()->value = std::move(value);
  };
  note("name", options.name.empty() ? fs::weakly_canonical(folder).filename().string() : options.name);
  note("architecture", report.architecture);
  note("source", "diffusers folder");
  report.parameters = written.parameters;
  report.tensors = std::move(written.tensors);
  for (std::string& line : describe(written)) report.notes.push_back(std::move(line));
  // Last, for it gives the file its name.
  LINNET_ASSIGN(report.file_bytes, writer.finish(std::move(model)));
  return report;
}

}  // namespace

bool is_image_folder(const std::string& path) {
  std::error_code error;
  const fs::path folder = path;
  if (!fs::is_directory(folder, error)) return false;
  if (fs::exists(folder / "model_index.json", error)) return true;
  if (fs::exists(folder / "config.json", error)) return false;
  for (const char* part : {"transformer", "vae", "text_encoder"})
    if (fs::is_directory(folder / part, error)) return true;
  return false;
}

Result<ConvertReport> convert_image(const ConvertOptions& options) {
  return reading(options.source, "read", [&] { return convert_folder(options); });
}

}  // namespace linnet::convert
