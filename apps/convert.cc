// linnet convert: from a published checkpoint to a Linnet file.
#include "converter/convert.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>

#include "apps/command_line.h"
#include "apps/common.h"
#include "apps/convert_report.h"
#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "format/output_file.h"
#include "runtime/core/dtype_names.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

struct ConvertArguments {
  convert::ConvertOptions convert;
  std::vector<std::string> sources, keep, lora, lora_weights;
  std::string report;  // a page to write
  bool no_self_test = false, no_error_feedback = false, force = false, verbose = false;

  bool dry_run() const { return convert.dry_run; }
};

Result<std::vector<std::pair<std::string, DType>>> parse_keep(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, DType>> keep;
  for (const std::string& text : texts) {
    const size_t equals = text.rfind('=');
    const auto dtype = equals == std::string::npos ? std::nullopt : dtype_from_name(text.substr(equals + 1));
    if (equals == 0 || !dtype || !can_be_used_as(*dtype, kWeights))
      return fail(ErrorCode::kInvalidArgument,
                  strf("--keep '{}' is not PATTERN=TYPE, such as '*.down_proj.*=q8'; the types are {}", text,
                       one_of(kWeightTypes)));
    keep.emplace_back(text.substr(0, equals), *dtype);
  }
  return keep;
}

// Each adapter with its weight.
Result<std::vector<std::pair<std::string, double>>> parse_lora(const ConvertArguments& options) {
  if (!options.lora_weights.empty() && options.lora_weights.size() != options.lora.size())
    return fail(ErrorCode::kInvalidArgument,
                strf("--lora-weight stands {} times and --lora {}: give one for each, or none",
                     options.lora_weights.size(), options.lora.size()));
  std::vector<std::pair<std::string, double>> adapters;
  for (size_t i = 0; i < options.lora.size(); ++i) {
    double weight = 1;
    if (!options.lora_weights.empty()) {
      const std::string& text = options.lora_weights[i];
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
      if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(weight))
        return fail(ErrorCode::kInvalidArgument, strf("--lora-weight '{}' is no number", text));
    }
    adapters.emplace_back(options.lora[i], weight);
  }
  return adapters;
}

// What can be known to be wrong before any work.
Result<void> check_paths(const ConvertArguments& options) {
  const std::string& output = options.convert.output;
  std::error_code error;
  for (const std::string& source : options.sources) {
    if (access(source.c_str(), R_OK) != 0)
      return fail(ErrorCode::kNotFound,
                  strf("cannot read the checkpoint '{}': {}", source, std::strerror(errno)));
    if (std::filesystem::equivalent(source, output, error))
      return fail(ErrorCode::kInvalidArgument, strf("source and output are the same file '{}'", output));
  }
  if (!options.report.empty()) {
    LINNET_TRY(format::check_output(options.report, {.replace = options.force}));
    if (std::filesystem::weakly_canonical(options.report, error) ==
        std::filesystem::weakly_canonical(output, error))
      return fail(ErrorCode::kInvalidArgument, strf("--report and --output are the same file '{}'", output));
  }
  if (options.dry_run()) return {};
  if (output.empty())
    return fail(ErrorCode::kInvalidArgument,
                "--output says which file to write and is missing (--dry-run writes none)");
  return format::check_output(output, {.replace = options.force});
}

void print(const ConvertArguments& options, const convert::ConvertReport& report) {
  std::fprintf(stderr, "wrote %s: %s, %s parameters, %s\n",
               text::printable_line(options.convert.output).c_str(),
               text::printable_line(report.architecture).c_str(), human_count(report.parameters).c_str(),
               human_bytes(report.file_bytes).c_str());
  for (const std::string& note : report.notes) std::fprintf(stderr, "  %s\n", text::printable(note).c_str());
  if (options.verbose)
    for (const std::string& detail : report.details)
      std::fprintf(stderr, "  %s\n", text::printable(detail).c_str());
  if (report.tested)
    std::fprintf(
        stderr,
        "self test against the unquantised weights: KL divergence %.3g nats per token, largest logit error "
        "%.3g, same most likely token at %.1f%% of the positions\n",
        report.mean_kl, report.largest_error, 100 * report.agreement);
}

// What would be written: each type's tensors, bytes and error, and the tensors that lose most.
void print_dry_run(const ConvertArguments& options, const convert::ConvertReport& report) {
  std::printf("%s, %s parameters: %s of weights, %s bits a weight; nothing was written\n",
              text::printable_line(report.architecture).c_str(), human_count(report.parameters).c_str(),
              human_bytes(report.file_bytes).c_str(),
              fixed(8.0 * static_cast<double>(report.file_bytes) / static_cast<double>(report.parameters), 2)
                  .c_str());
  for (const std::string& note : report.notes) std::printf("  %s\n", text::printable(note).c_str());
  std::vector<convert::ConvertReport::Tensor> tensors = report.tensors;
  for (const DType dtype : kWeightTypes) {
    uint64_t bytes = 0;
    int count = 0;
    double most = 0;
    for (const auto& t : tensors)
      if (t.dtype == dtype) bytes += t.bytes, ++count, most = std::max(most, t.error);
    if (count > 0)
      std::printf("  %-6s %4d tensors, %10s, error of the worst %.2g of its square\n",
                  std::string(dtype_name(dtype)).c_str(), count, human_bytes(bytes).c_str(), most);
  }
  if (!options.verbose) {
    std::stable_sort(tensors.begin(), tensors.end(),
                     [](const auto& a, const auto& b) { return a.error > b.error; });
    tensors.resize(std::min<size_t>(tensors.size(), 5));
    std::printf("those that lose most (--verbose lists all):\n");
  }
  for (const auto& t : tensors)
    std::printf("  %-6s %10s  %.2g  %s\n", std::string(dtype_name(t.dtype)).c_str(),
                human_bytes(t.bytes).c_str(), t.error, text::printable_line(t.name).c_str());
}

int run(ConvertArguments options) {
  auto keep = parse_keep(options.keep);
  if (!keep) return complain(keep.error());
  auto lora = parse_lora(options);
  if (!lora) return complain(lora.error());
  if (auto checked = check_paths(options); !checked) return complain_input(checked.error());
  convert::ConvertOptions& convert = options.convert;
  convert.source = options.sources.front();
  convert.others.assign(options.sources.begin() + 1, options.sources.end());
  convert.keep = std::move(*keep);
  convert.lora = std::move(*lora);
  convert.replace = options.force;
  convert.self_test = !options.no_self_test;
  convert.error_feedback = !options.no_error_feedback;
  convert.reference = &reference_backend();
  const auto backend = cpu_backend();
  if (!backend) return complain(backend.error());
  convert.backend = *backend;

  catch_interrupts();
  ProgressBar bar;
  convert.progress = [&bar](const std::string& stage, uint64_t done, uint64_t total) {
    bar.show(stage, done, total);
    return !interrupted();
  };
  convert.warn = [&bar](const std::string& message) {
    bar.clear();
    std::fprintf(stderr, "linnet: note: %s\n", text::printable(message).c_str());
  };
  const auto report = convert::convert(convert);
  bar.clear();
  if (!report) return complain(report.error());
  if (options.dry_run())
    print_dry_run(options, *report);
  else
    print(options, *report);
  if (options.report.empty()) return kOk;
  if (const auto written = write_report(options.report, options.force, convert, *report); !written)
    return complain(written.error());
  std::fprintf(stderr, "wrote the report %s\n", text::printable_line(options.report).c_str());
  return kOk;
}

}  // namespace

void add_convert(CommandLine& line) {
  const auto options = std::make_shared<ConvertArguments>();
  Command command = line.command(
      "convert", "Turn a checkpoint (Hugging Face or diffusers folder, GGUF file) into a Linnet file");
  command
      .option(
          "SOURCE", options->sources,
          "a folder with config.json (or model_index.json) and its weights, or a .gguf file; several with "
          "--combine")
      .required();
  command.option("-o,--output", options->convert.output, "the Linnet file to write");
  std::vector<std::string> precisions = names_of(kWeightTypes);
  precisions.emplace_back("keep");
  command
      .option("--quantize", options->convert.quantize,
              "type of the matrices (without it, or with 'keep': as stored where Linnet has the type)")
      .one_of(precisions);
  command.option(
      "--keep", options->keep,
      "exceptions, as PATTERN=TYPE with * for any text; may be repeated, the last that fits counts");
  command
      .option("--linearize", options->convert.linearize,
              "give a softmax model a recurrent form: liger (half gated linear attention, half a short "
              "window), lolcats, or window (window, sinks and a gated state; both need --lora)")
      .one_of({"liger", "lolcats", "window"});
  command.option(
      "--lora", options->lora,
      "folder of an adapter (PEFT's LoRA or DoRA, or one of models/), merged before quantising; may be "
      "repeated");
  command.option(
      "--lora-weight", options->lora_weights,
      "how much of what a --lora adds is added, one for each of them in their order (without it: 1)");
  command.option("--combine", options->convert.combine,
                 "add up several checkpoints: a coefficient for each (1.9,-1.4,0.5), or a JSON file with a "
                 "list, or with "
                 "lists by pattern of tensors");
  command.option("--linear-attention", options->convert.linear_attention,
                 "trained linear attention (safetensors) that takes the place of a DiT's or PixArt's own");
  command.option("--chat-template", options->convert.chat_template,
                 "file with a Jinja template that takes the place of the checkpoint's; empty: none");
  command.option("--name", options->convert.name, "name of the model (without it: the checkpoint's)");
  command.option(
      "--calibrate", options->convert.calibrate,
      "a text like what the model will be used for: weights are rounded so that its answers change "
      "least");
  command.option("--calibration-tokens", options->convert.calibration_tokens, "how much of the text is used")
      .between(int64_t{1024}, int64_t{1} << 24)
      .shows_default();
  command
      .option(
          "--budget", options->convert.budget,
          "most bytes of all weights, such as 90M: every matrix gets the type that its bits are worth on the "
          "text of --calibrate")
      .bytes(1);
  command.option("--bits", options->convert.bits, "the same, as bits a weight: 4.2").between(1.0, 16.0);
  command.flag("--no-error-feedback", options->no_error_feedback,
               "calibrate by how large the inputs are alone: less memory and time, and less gain");
  options->convert.threads = default_threads();
  command.option("--threads", options->convert.threads, "threads, this one included")
      .between(1, 1024)
      .shows_default();
  command.flag(
      "--dry-run", options->convert.dry_run,
      "write nothing: say which type each tensor would get, its bytes and the error of its rounding");
  command.option(
      "--report", options->report,
      "write a page (HTML) on what became of every tensor: type, bytes, error, and the memory plan");
  command.flag("--no-self-test", options->no_self_test,
               "do not compare the result with the unquantised weights");
  command.flag("--verbose", options->verbose,
               "also say which file each token, the chat template and the sampler settings come from");
  command.flag("--force", options->force, "replace the output if it exists");
  command.does([options] {
    if (options->convert.quantize == "keep") options->convert.quantize.clear();
    return run(*options);
  });
}

}  // namespace linnet::app
