#include "converter/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "backends/host/host_backend.h"
#include "converter/calibration/calibration.h"
#include "converter/calibration/mixed_precision.h"
#include "converter/image/convert_image.h"
#include "converter/readers/json.h"
#include "converter/readers/reading.h"
#include "converter/self_test.h"
#include "converter/source.h"
#include "converter/template_facts.h"
#include "converter/transforms/combine.h"
#include "converter/transforms/linearize.h"
#include "converter/transforms/quantize.h"
#include "converter/write_weights.h"
#include "format/names.h"
#include "format/writer.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/engine/engine.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"

namespace linnet::convert {
namespace {

// A KL divergence, nats a token, above which answers are another model's: q4 of SmolLM2-135M, the least that
// its users call good, has 0.3 (docs/performance.md).
constexpr double kTellingKl = 0.5;
// Nats a token above chance: no trained model needs as many for a plain sentence (SmolLM2-135M: 4 where
// chance is 10.8, and 25 with random codes in its blocks).
constexpr double kBeyondChance = 1;

// Some buffers are saved although no computation reads them.
bool harmless(const std::string& name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with("attn.bias") ||
         name.ends_with("masked_bias") || name.ends_with("rope_freqs.weight");
}

// A short text in the model's own tokens, or scattered ids where there is no tokenizer.
std::vector<int32_t> test_input(const fb::ModelT& model, int64_t vocabulary) {
  std::vector<int32_t> ids;
  if (model.tokenizer) {
    if (auto tokenizer = text::Tokenizer::create(text::from_fb(*model.tokenizer))) {
      auto encoded =
          tokenizer->encode("The linnet is a small bird of open country. It sings from the top of a bush.");
      if (encoded) ids = std::move(*encoded);
    }
  }
  for (int64_t i = static_cast<int64_t>(ids.size()); i < 8; ++i)
    ids.push_back(static_cast<int32_t>((i * 7919 + 13) % std::max<int64_t>(vocabulary, 1)));
  if (ids.size() > 24) ids.resize(24);
  for (int32_t& id : ids) id = static_cast<int32_t>(std::min<int64_t>(id, vocabulary - 1));
  return ids;
}

Result<void> self_test(const ConvertOptions& options, const GraphBuilder& graph, const fb::ModelT& model,
                       std::span<const WeightPlan> weights, ConvertReport& report) {
  LINNET_ASSIGN(format::ModelFile opened, format::ModelFile::open(options.output));
  const auto file = std::make_shared<const format::ModelFile>(std::move(opened));
  (void)graph;
  const int forward = graph::find_method(model, names::kForward);
  const auto* streaming = dynamic_cast<const host::HostBackend*>(options.reference);
  if (forward < 0 || !streaming || !options.backend) return {};
  const fb::MethodT& method = *model.methods[static_cast<size_t>(forward)];
  const fb::ValueT& logits = *method.values[static_cast<size_t>(method.outputs[0])];
  const int64_t vocabulary = logits.shape.back().add();
  const std::vector<int32_t> ids = test_input(model, vocabulary);
  const auto count = static_cast<int64_t>(ids.size());
  if (options.progress) options.progress("self test", 0, 1);
  LINNET_ASSIGN(const std::vector<float> expected,
                streamed_logits(model, weights, *streaming, ids, options.threads));
  EngineOptions engine_options;
  engine_options.symbols = {{names::kTokens, count}, {names::kLogitTokens, count}, {names::kContext, count}};
  engine_options.threads = options.threads;
  LINNET_ASSIGN(const auto engine, Engine::create(file, *options.backend, engine_options));
  const auto m = static_cast<size_t>(forward);
  LINNET_TRY(engine->write_value(m, static_cast<size_t>(method.inputs[0]), std::as_bytes(std::span(ids))));
  LINNET_TRY(engine->run(m, engine->bounds().symbols, count));
  std::vector<float> found(expected.size());
  LINNET_TRY(engine->read_value(m, static_cast<size_t>(method.outputs[0]),
                                std::as_writable_bytes(std::span(found))));
  const Comparison comparison = compare_logits(expected, found, count);
  report.tested = true;
  report.mean_kl = comparison.mean_kl;
  report.largest_error = comparison.largest_error;
  report.agreement = comparison.agreement;
  if (!(comparison.mean_kl < 1e6))  // NaN too
    return fail(ErrorCode::kNumeric,
                strf("the self test of '{}' gave logits that are not finite", options.output));
  const double loss = mean_loss(expected, ids), chance = std::log(static_cast<double>(vocabulary));
  if (model.tokenizer && loss > chance + kBeyondChance && options.warn)
    options.warn(
        strf("the checkpoint itself finds an English sentence less likely than chance does ({} nats a token, "
             "chance {}): "
             "its weights may be damaged or untrained, and the file says what they say",
             std::round(100 * loss) / 100, std::round(100 * chance) / 100));
  if (comparison.mean_kl > kTellingKl && options.warn)
    options.warn(strf(
        "the file answers otherwise than the checkpoint: KL divergence {} nats a token, where {} is much: "
        "keep more bits (--quantize q6k or q8, or --keep for single tensors)",
        std::round(1000 * comparison.mean_kl) / 1000, kTellingKl));
  if (options.progress) options.progress("self test", 1, 1);
  return {};
}

// Puts the combination of its own tensors and the other checkpoints' in the place of the source's.
Result<void> combine(const ConvertOptions& options, Source& source) {
  LINNET_ASSIGN(Coefficients coefficients, read_coefficients(options.combine, 1 + options.others.size()));
  std::vector<std::unique_ptr<TensorSet>> sets;
  sets.push_back(std::move(source.tensors));
  const std::string type = source.config.value("model_type", "");
  for (const std::string& path : options.others) {
    LINNET_ASSIGN(Source other, open_source(path));
    if (const std::string own = other.config.value("model_type", ""); own != type)
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is a {} and '{}' a {}: only checkpoints of one model are combined",
                       options.source, type, path, own));
    sets.push_back(std::move(other.tensors));
  }
  double sum = 0;
  for (const double c : coefficients.front().second) sum += c;
  source.notes.push_back(strf("{} checkpoints combined; the coefficients sum to {}", sets.size(), sum));
  LINNET_ASSIGN(source.tensors, combined_tensors(std::move(sets), std::move(coefficients)));
  return {};
}

// A text in the model's tokens.
struct CalibrationText {
  std::vector<int32_t> ids;
  int32_t bos = -1;
};

Result<CalibrationText> read_calibration(const ConvertOptions& options, const Source& source) {
  if (!source.tokenizer)
    return fail(ErrorCode::kUnsupported,
                strf("'{}' has no tokenizer: --calibrate cannot read a text without one", options.source));
  LINNET_ASSIGN(const std::string text, read_text(options.calibrate));
  LINNET_ASSIGN(const text::Tokenizer tokenizer, text::Tokenizer::create(text::from_fb(*source.tokenizer)));
  CalibrationText result;
  LINNET_ASSIGN(result.ids, tokenizer.encode(text));
  result.bos = tokenizer.bos_id();
  if (!result.ids.empty() && result.ids[0] == result.bos) result.ids.erase(result.ids.begin());
  return result;
}

// How the weights are rounded, and to what.
struct Plan {
  QuantizePolicy policy;
  std::optional<Calibration> calibration;
  std::vector<std::string> notes;
  double expected_kl = 0;
};

Result<void> calibrate(const ConvertOptions& options, const Source& source, GraphBuilder& graph,
                       host::ThreadPool& pool, Plan& plan) {
  const auto* kernels = dynamic_cast<const host::HostBackend*>(options.backend);
  if (!kernels) return fail(ErrorCode::kInvalidArgument, "a calibration needs a backend of the processor");
  LINNET_ASSIGN(const CalibrationText text, read_calibration(options, source));
  const auto progress = [&](const char* stage) -> std::function<bool(uint64_t, uint64_t)> {
    if (!options.progress) return {};
    return [&options, stage](uint64_t done, uint64_t total) { return options.progress(stage, done, total); };
  };
  CalibrationOptions how;
  how.most = options.calibration_tokens;
  how.covariances = options.error_feedback;
  how.threads = options.threads;
  how.progress = progress("calibrating");
  LINNET_ASSIGN(plan.calibration,
                Calibration::measure(graph.model(), graph.weights(), *kernels, text.ids, text.bos, how));
  plan.notes.push_back(
      strf("calibrated on {} tokens of '{}'", plan.calibration->tokens(), options.calibrate));
  if (options.budget == 0 && options.bits == 0) return {};
  MixedOptions mixed;
  mixed.budget = options.budget;
  if (options.bits > 0) {
    double values = 0;
    for (const WeightPlan& w : graph.weights()) values += static_cast<double>(w.rows->rows * w.rows->columns);
    mixed.budget = static_cast<uint64_t>(values * options.bits / 8);
  }
  mixed.rounding = {.pool = &pool, .calibration = &*plan.calibration};
  mixed.threads = options.threads;
  mixed.progress = progress("measuring sensitivities");
  LINNET_ASSIGN(MixedChoice choice, choose_types(graph.model(), graph.weights(), plan.policy, *kernels,
                                                 text.ids, text.bos, mixed));
  plan.notes.push_back(strf("types chosen by sensitivity for at most {} bytes of weights", mixed.budget));
  plan.expected_kl = choice.expected_kl;
  plan.policy.assign(std::move(choice.types));
  return {};
}

Result<ConvertReport> convert_checked(const ConvertOptions& options) {
  if (options.combine.empty() != options.others.empty())
    return fail(ErrorCode::kInvalidArgument,
                options.combine.empty()
                    ? "several checkpoints were given: --combine says how they are added up"
                    : "--combine needs several checkpoints, and one was given");
  if (!options.combine.empty() && is_image_folder(options.source))
    return fail(ErrorCode::kUnsupported, "--combine takes language models; image folders are not combined");
  const bool mixes = options.budget > 0 || options.bits > 0;
  if (mixes && options.calibrate.empty())
    return fail(
        ErrorCode::kInvalidArgument,
        "--budget and --bits measure what each tensor's bits are worth: --calibrate names the text for it");
  if (mixes && !options.quantize.empty())
    return fail(
        ErrorCode::kInvalidArgument,
        "--budget and --bits choose the types, and so does --quantize: leave one of them out (--keep names "
        "exceptions)");
  if (const auto asked = dtype_from_name(options.quantize);
      !options.calibrate.empty() && asked && !is_quantized(*asked) && options.keep.empty())
    return fail(
        ErrorCode::kInvalidArgument,
        strf(
            "--calibrate decides how weights are rounded, and --quantize {} rounds nothing that a text could "
            "better: ask for a block format, or for --bits",
            options.quantize));
  if (options.budget > 0 && options.bits > 0)
    return fail(ErrorCode::kInvalidArgument,
                "--budget and --bits both say how large the weights may be: give one");
  if (!options.calibrate.empty() && is_image_folder(options.source))
    return fail(
        ErrorCode::kUnsupported,
        "--calibrate takes language models: no text says what the weights of image folders are worth");
  if (options.dry_run && is_image_folder(options.source))
    return fail(ErrorCode::kUnsupported, "--dry-run takes language models; image folders are not measured");
  if (is_image_folder(options.source)) return convert_image(options);
  if (!options.linear_attention.empty())
    return fail(
        ErrorCode::kInvalidArgument,
        "trained linear attention goes into a DiT or PixArt folder (with transformer/), which this is not");
  LINNET_ASSIGN(Source source, open_source(options.source));
  if (!options.chat_template.empty()) {
    LINNET_ASSIGN(source.chat_template, read_text(options.chat_template, 1 << 20));
  }
  LINNET_TRY(check_chat_template(source, options.source));
  if (!options.combine.empty()) LINNET_TRY(combine(options, source));
  if (!options.linearize.empty() || !options.lora.empty())
    LINNET_TRY(linearize(source, options.linearize, options.lora));
  ConvertReport report;
  report.notes = source.notes;
  report.details = source.details;
  const std::string type = source.config.value("model_type", "");
  const ImportFunction import = find_architecture(type);
  if (!import)
    return fail(ErrorCode::kUnsupported,
                strf("'{}' has the architecture '{}', which Linnet does not import. It imports: {}",
                     options.source, type.empty() ? "(no model_type)" : type, listed(architecture_names())));
  report.architecture = type;
  GraphBuilder graph;
  Importer importer(source.config, *source.tensors, graph);
  import(importer);
  report.notes.insert(report.notes.end(), importer.notes().begin(), importer.notes().end());
  std::vector<std::string> errors = importer.errors();
  if (errors.empty())
    for (const std::string& name : importer.unused())
      if (!harmless(name))
        errors.push_back(strf("unexpected tensor '{}' {} in {}", name,
                              graph::shape_text(source.tensors->shape(name)), importer.origin()));
  if (!errors.empty())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' cannot be imported as {}:{}", options.source, type, listed(errors)));

  Plan plan;
  const bool mixed = options.budget > 0 || options.bits > 0;
  // What has no choice stays as fine as beside matrices of few bits.
  LINNET_ASSIGN(plan.policy, QuantizePolicy::create(mixed ? "q4k" : options.quantize, options.keep));
  plan.policy.look_at(graph.weights());
  host::ThreadPool pool(options.threads);
  if (!options.calibrate.empty()) LINNET_TRY(calibrate(options, source, graph, pool, plan));
  const QuantizePolicy& policy = plan.policy;
  const Rounding rounding{.pool = &pool, .calibration = plan.calibration ? &*plan.calibration : nullptr};
  report.notes.insert(report.notes.end(), plan.notes.begin(), plan.notes.end());
  report.expected_kl = plan.expected_kl;
  if (options.dry_run) {
    LINNET_ASSIGN(report.tensors, measure_weights(options, policy, rounding, graph.weights()));
    for (const ConvertReport::Tensor& t : report.tensors) report.file_bytes += t.bytes;
    for (const WeightPlan& w : graph.weights()) report.parameters += w.rows->rows * w.rows->columns;
    return report;
  }
  LINNET_ASSIGN(format::ModelWriter writer,
                format::ModelWriter::create(options.output, {.replace = options.replace}));
  LINNET_ASSIGN(Written written, write_weights(options, policy, rounding, writer, graph.weights()));

  fb::ModelT& model = graph.model();
  const auto note = [&model](std::string key, std::string value) {
    model.metadata.push_back(std::make_unique<fb::KeyValueT>());
    model.metadata.back()->key = std::move(key);
    model.metadata.back()->value = std::move(value);
  };
  note("name", options.name.empty() ? source.name : options.name);
  note("architecture", type);
  note("source", source.kind);
  if (!options.linearize.empty()) note("linearized", options.linearize);
  for (auto& [key, value] : source.metadata) note(key, value);
  model.tokenizer = std::move(source.tokenizer);
  model.chat_template = source.chat_template;
  model.sampler = std::move(source.sampler);

  // finish() takes the model; the self test still needs its graph.
  fb::ModelT kept(model);
  report.parameters = written.parameters;
  report.tensors = std::move(written.tensors);
  for (std::string& line : describe(written)) report.notes.push_back(std::move(line));
  // Last, for it gives the file its name.
  LINNET_ASSIGN(report.file_bytes, writer.finish(std::move(model)));
  if (options.self_test) {
    const auto tested = guarded([&] { return self_test(options, graph, kept, graph.weights(), report); });
    if (!tested) {
      std::remove(options.output.c_str());
      return std::unexpected(tested.error());
    }
  }
  return report;
}

}  // namespace

Result<ConvertReport> convert(const ConvertOptions& options) {
  return guarded([&] {
    // A value of config.json of another type than its key has is one that throws.
    return reading(options.source, "imported", [&] { return convert_checked(options); });
  });
}

}  // namespace linnet::convert
