// linnet image: a picture from a prompt or a class.
#include "linnet/image.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

#include "apps/bounds_options.h"
#include "apps/command_line.h"
#include "apps/common.h"
#include "apps/png/png.h"
#include "apps/tensor_io.h"
#include "format/container.h"
#include "format/output_file.h"
#include "runtime/core/dtype_names.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

namespace fs = std::filesystem;

struct ImageArguments {
  std::string path, prompt, negative, class_name, output, sampler, latents, tensors, device, backend = "cpu",
                                                                                             cache = "f32";
  int64_t height = 0, width = 0;
  std::vector<int64_t> size;
  uint64_t memory_limit = 0;
  int steps = 0, count = 1, threads = 1, guidance_channels = -1, scale = 1;
  float guidance = -1;
  uint64_t seed = 0;
  bool memory = false, sheet = false, force = false;
};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// A class by number, by name, or by one of the comma-separated names of an ImageNet label.
Result<int> find_class(const std::vector<std::string>& names, const std::string& wanted) {
  int number = 0;
  const auto parsed = std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
  if (parsed.ec == std::errc() && parsed.ptr == wanted.data() + wanted.size()) {
    if (number >= 0 && number < static_cast<int>(names.size())) return number;
    return fail(ErrorCode::kInvalidArgument,
                strf("--class {}: the model has 0 to {}", wanted, names.size() - 1));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    std::string rest = lower(names[i]);
    if (rest == lower(wanted)) return static_cast<int>(i);
    for (size_t at = 0; at <= rest.size();) {
      const size_t comma = std::min(rest.find(", ", at), rest.size());
      if (rest.substr(at, comma - at) == lower(wanted)) return static_cast<int>(i);
      at = comma + 2;
    }
  }
  std::string some;
  for (size_t i = 0; i < names.size() && i < 20; ++i) some += (some.empty() ? "" : "; ") + names[i];
  return fail(ErrorCode::kInvalidArgument, strf("there is no class '{}'; the model has {}: {}{}", wanted,
                                                names.size(), some, names.size() > 20 ? "; ..." : ""));
}

void print_memory(const Model& model, const ImageMemory& m) {
  std::printf("%s\n", text::printable_line(model.metadata("name")).c_str());
  const auto line = [](const char* what, size_t bytes, const char* why) {
    std::printf("  %-10s %12s  %s\n", what, human_bytes(bytes).c_str(), why);
  };
  line("weights", m.weights_bytes, "mapped from the file");
  line("stage", m.largest_stage_weights, "the most of them that one stage needs at once");
  line("state", m.state_bytes, "keys and values of the text encoder");
  line("work", m.work_bytes, "encoder, denoiser and decoder, one after another");
  line("buffers", m.buffers_bytes, "latents, sampler, picture");
  line("backend", m.backend_bytes, "threads");
  line("at most", m.largest_stage_weights + m.state_bytes + m.work_bytes + m.buffers_bytes + m.backend_bytes,
       "resident at once");
}

TextChunks describe(const ImageArguments& options, const ImageSession& session, const std::string& class_name,
                    uint64_t seed) {
  const Model& model = session.model();
  TextChunks text = {{"Software", std::string("linnet ") + LINNET_VERSION},
                     {"Model", std::string(model.metadata("name"))}};
  char id[20];
  std::snprintf(id, sizeof(id), "%016llx", static_cast<unsigned long long>(model.file().model_id()));
  text.emplace_back("Model checksum", id);
  if (class_name.empty()) {
    text.emplace_back("Prompt", options.prompt);
    if (!options.negative.empty()) text.emplace_back("Negative prompt", options.negative);
  } else {
    text.emplace_back("Class", class_name);
  }
  text.emplace_back("Seed", options.latents.empty() ? std::to_string(seed) : "latents of " + options.latents);
  text.emplace_back("Steps", std::to_string(options.steps == 0 ? session.default_steps() : options.steps));
  text.emplace_back("Guidance",
                    to_text(options.guidance < 0 ? session.default_guidance() : options.guidance));
  text.emplace_back("Sampler", options.sampler.empty() ? "published" : options.sampler);
  return text;
}

// Pictures of one size side by side, `columns` in a row, each pixel `scale` wide.
Picture sheet_of(std::span<const Picture> pictures, int columns, int scale) {
  const Picture& first = pictures.front();
  const int rows = (static_cast<int>(pictures.size()) + columns - 1) / columns;
  Picture sheet{first.width * columns * scale, first.height * rows * scale, first.channels, {}};
  const auto channels = static_cast<size_t>(first.channels);
  sheet.pixels.resize(static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height) * channels);
  for (int y = 0; y < sheet.height; ++y)
    for (int x = 0; x < sheet.width; ++x) {
      const int row = y / (first.height * scale), column = x / (first.width * scale);
      const auto index = static_cast<size_t>(row * columns + column);
      if (index >= pictures.size()) continue;
      const int py = y / scale % first.height, px = x / scale % first.width;
      const auto from = static_cast<size_t>(py * first.width + px) * channels;
      const auto to =
          (static_cast<size_t>(y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(x)) * channels;
      std::copy_n(&pictures[index].pixels[from], channels, &sheet.pixels[to]);
    }
  return sheet;
}

Result<std::vector<float>> read_latents(const std::string& path) {
  LINNET_ASSIGN(const Tensors tensors, read_tensors(path));
  const auto found = tensors.find("latents");
  if (found == tensors.end() || found->second.dtype != DType::kF32)
    return fail(ErrorCode::kInvalidFile, strf("'{}' has no tensor 'latents'", path));
  std::vector<float> values(found->second.bytes.size() / sizeof(float));
  std::memcpy(values.data(), found->second.bytes.data(), found->second.bytes.size());
  return values;
}

Tensor to_tensor(const std::vector<float>& values, std::vector<int64_t> shape) {
  Tensor tensor{DType::kF32, std::move(shape), {}};
  const auto bytes = std::as_bytes(std::span(values));
  tensor.bytes.assign(bytes.begin(), bytes.end());
  return tensor;
}

std::string numbered(const std::string& path, size_t i) {
  const fs::path p = path;
  return (p.parent_path() / strf("{}-{}{}", p.stem().string(), i + 1, p.extension().string())).string();
}

std::vector<std::string> output_files(const ImageArguments& options, size_t pictures) {
  if (options.sheet || pictures == 1) return {options.output};
  std::vector<std::string> files;
  for (size_t i = 0; i < pictures; ++i) files.push_back(numbered(options.output, i));
  return files;
}

// What can be known to be wrong before any work.
Result<void> check_outputs(const ImageArguments& options, size_t pictures) {
  if (options.output.empty())
    return fail(ErrorCode::kInvalidArgument, "-o is required: the PNG file to write");
  const format::OutputOptions output = {.replace = options.force, .stream = true};
  for (const std::string& file : output_files(options, pictures))
    LINNET_TRY(format::check_output(file, output));
  if (!options.tensors.empty()) LINNET_TRY(format::check_output(options.tensors, output));
  return {};
}

ImageOptions image_options(const ImageArguments& options) {
  ImageOptions bounds;
  bounds.threads = options.threads;
  bounds.memory_limit = options.memory_limit;
  bounds.height = options.height;
  bounds.width = options.width;
  bounds.cache = precision_named(options.cache);
  return bounds;
}

// The classes to paint, or -1 for a model that takes a prompt.
Result<std::vector<int>> find_labels(const ImageArguments& options, const std::vector<std::string>& names) {
  std::vector<int> labels = {-1};
  if (names.empty()) {
    if (!options.class_name.empty())
      return fail(ErrorCode::kInvalidArgument, "--class is for models of classes; this one takes a prompt");
    if (options.prompt.empty())
      return fail(ErrorCode::kInvalidArgument,
                  "a prompt is required: linnet image MODEL \"a small bird\" -o bird.png");
    return labels;
  }
  if (!options.prompt.empty() || !options.negative.empty())
    return fail(ErrorCode::kInvalidArgument,
                "this model takes no prompt but a class: --class NAME, or --class all");
  if (options.class_name.empty())
    return fail(ErrorCode::kInvalidArgument,
                strf("--class is required: a name, a number below {}, or all", names.size()));
  if (options.class_name == "all") {
    labels.resize(names.size());
    std::iota(labels.begin(), labels.end(), 0);
  } else {
    LINNET_ASSIGN(labels[0], find_class(names, options.class_name));
  }
  return labels;
}

// All that is settled before the first picture.
struct Task {
  std::unique_ptr<ImageSession> session;
  std::vector<std::string> names;  // of classes
  std::vector<int> labels;
  std::vector<float> latents;
  ImageRequest request;

  size_t pictures(const ImageArguments& options) const {
    return labels.size() * static_cast<size_t>(options.count);
  }
};

Result<Task> prepare(const ImageArguments& options, const std::shared_ptr<const Model>& model,
                     const Backend& backend) {
  // Before the session, which takes its memory, and once more when the classes are known.
  LINNET_TRY(check_outputs(options, options.sheet ? 1 : static_cast<size_t>(options.count)));
  Task task;
  LINNET_ASSIGN(task.session, ImageSession::create(model, backend, image_options(options)));
  task.names = task.session->class_names();
  LINNET_ASSIGN(task.labels, find_labels(options, task.names));
  LINNET_TRY(check_outputs(options, task.pictures(options)));
  ImageRequest& request = task.request;
  request.prompt = options.prompt;
  request.negative = options.negative;
  request.height = options.height;
  request.width = options.width;
  request.steps = options.steps;
  request.guidance = options.guidance;
  request.guidance_channels = options.guidance_channels;
  request.sampler = options.sampler;
  request.with_latents = !options.tensors.empty();
  if (!options.latents.empty()) {
    LINNET_ASSIGN(task.latents, read_latents(options.latents));
    request.latents = task.latents;
  }
  return task;
}

struct Made {
  std::vector<Picture> pictures;
  Tensors tensors;  // with --tensors
  double seconds = 0, text_seconds = 0, decode_seconds = 0;
  int64_t steps = 0;
};

Result<void> add_picture(const ImageArguments& options, Task& task, size_t i, ProgressBar& bar, Made& made) {
  const size_t all = task.pictures(options);
  task.request.class_label = task.labels[i % task.labels.size()];
  task.request.seed = options.seed + i / task.labels.size();
  const auto on_step = [&](const ImageStep& step) {
    made.seconds += step.seconds;
    ++made.steps;
    const auto total = all * static_cast<size_t>(step.steps);
    bar.show(strf("step {} of {}, {} s a step", step.step, step.steps, fixed(step.seconds, 2)),
             i * static_cast<size_t>(step.steps) + static_cast<size_t>(step.step), total);
    return !interrupted();
  };
  bar.show(task.names.empty() ? "reading the prompt" : "starting", i, all);
  LINNET_ASSIGN(const ImageResult result, task.session->generate(task.request, on_step));
  made.text_seconds += result.text_seconds;
  made.decode_seconds += result.decode_seconds;
  if (result.truncated) {
    bar.clear();
    std::fprintf(stderr, "linnet: note: the prompt is longer than the model reads; its end was left out\n");
  }
  if (interrupted()) return fail(ErrorCode::kCancelled, "stopped; no picture was written");
  made.pictures.push_back(to_picture(result.planes, result.channels, static_cast<int>(result.height),
                                     static_cast<int>(result.width)));
  if (options.tensors.empty()) return {};
  const std::string suffix = all > 1 ? strf(".{}", i) : "";
  const int64_t c = result.channels, h = result.height, w = result.width;
  made.tensors["image" + suffix] = to_tensor(result.planes, {c, h, w});
  made.tensors["latents" + suffix] = to_tensor(result.latents, {static_cast<int64_t>(result.latents.size())});
  return {};
}

Result<void> write(const ImageArguments& options, const Task& task, const Made& made) {
  const std::string class_name = task.names.empty() ? ""
                                 : options.class_name == "all"
                                     ? "all"
                                     : task.names[static_cast<size_t>(task.labels[0])];
  const size_t all = made.pictures.size();
  const std::vector<std::string> files = output_files(options, all);
  for (size_t i = 0; i < files.size(); ++i) {
    const auto shown = std::span(made.pictures).subspan(i, files.size() == 1 ? all : 1);
    const int columns = !options.sheet           ? 1
                        : task.labels.size() > 1 ? static_cast<int>(task.labels.size())
                                                 : std::min(4, static_cast<int>(all));
    LINNET_TRY(write_png(files[i], sheet_of(shown, columns, options.scale),
                         describe(options, *task.session, class_name, options.seed + i), options.force));
  }
  if (!options.tensors.empty()) LINNET_TRY(write_tensors(options.tensors, made.tensors, options.force));
  const std::string written = files.size() == 1 ? files[0] : strf("{} to {}", files.front(), files.back());
  std::fprintf(stderr, "wrote %s: %zu picture%s, %s s a step; %s s for the text, %s s to decode\n",
               text::printable_line(written).c_str(), all, all == 1 ? "" : "s",
               fixed(made.seconds / static_cast<double>(std::max<int64_t>(made.steps, 1)), 3).c_str(),
               fixed(made.text_seconds, 2).c_str(), fixed(made.decode_seconds, 2).c_str());
  return {};
}

Result<void> make(const ImageArguments& options, Task& task) {
  Made made;
  ProgressBar bar;
  for (size_t i = 0; i < task.pictures(options); ++i) LINNET_TRY(add_picture(options, task, i, bar, made));
  bar.clear();
  return write(options, task, made);
}

int run(ImageArguments options) {
  if (!options.size.empty()) {
    options.width = options.size[0];
    options.height = options.size.size() > 1 ? options.size[1] : options.size[0];
  }
  BackendOptions device;
  device.device = options.device;
  const auto backend = find_backend(options.backend, std::move(device));
  if (!backend) return complain(backend.error());
  const auto model = Model::open(options.path);
  if (!model) return complain_input(model.error());
  if (options.memory) {
    const auto memory = ImageSession::memory_required(**model, **backend, image_options(options));
    if (!memory) return complain_input(memory.error());
    print_memory(**model, *memory);
    return kOk;
  }
  if (options.class_name == "all") options.sheet = true;
  catch_interrupts();
  auto task = prepare(options, *model, **backend);
  if (!task) return complain_input(task.error());
  if (auto made = make(options, *task); !made) return complain(made.error());
  return kOk;
}

}  // namespace

void add_image(CommandLine& line) {
  const auto options = std::make_shared<ImageArguments>();
  options->threads = default_threads();
  Command command = line.command("image", "Make a picture from a prompt or a class");
  command.option("MODEL", options->path, "a Linnet file (.lnt) of an image model").required();
  command.option("PROMPT", options->prompt, "what the picture shows");
  command.option("-o,--output", options->output, "the PNG file to write");
  command.flag("--force", options->force, "replace files that are there already");
  command.option("--class", options->class_name, "models of classes: its name or number, or all for a sheet");
  command.option("--negative", options->negative, "what the picture must not show");
  command.option("--steps", options->steps, "calls of the denoiser (without it: the model's)")
      .between(1, 1000);
  command.option("--guidance", options->guidance, "how strongly the prompt or class counts; 1: plainly")
      .between(0.0f, 100.0f);
  command
      .option("--guidance-channels", options->guidance_channels,
              "leading channels that guidance changes, 0 for all (the original DiT takes 3)")
      .between(0, 64);
  command.option("--size", options->size, "WIDTH HEIGHT in pixels, or one number for a square")
      .between(int64_t{1}, int64_t{std::numeric_limits<int32_t>::max()})  // what PNG can say
      .values(1, 2);
  command.option("--seed", options->seed, "the same seed gives the same picture").shows_default();
  command.option("--sampler", options->sampler, "instead of the published one")
      .one_of({"ddpm", "ddim", "dpm++", "euler"});
  command.option("--count", options->count, "pictures, with seeds counting up")
      .between(1, 1000)
      .shows_default();
  command.flag("--sheet", options->sheet, "all pictures in one file, side by side");
  command.option("--scale", options->scale, "pixels of the file for one of the picture, along a side")
      .between(1, 16)
      .shows_default();
  command.option("--latents", options->latents, "safetensors file whose 'latents' are the first noise");
  command.option("--tensors", options->tensors,
                 "safetensors file for the picture and its latents as numbers");
  command.flag("--memory", options->memory, "print what it takes, make nothing");
  add_memory_limit(command, options->memory_limit);
  command.option("--threads", options->threads, "threads, this one included")
      .between(1, 1024)
      .shows_default();
  command.option("--cache", options->cache, "precision of the text encoder's keys and values")
      .one_of(names_of(kCacheTypes))
      .shows_default();
  command.option("--backend", options->backend, backend_help()).one_of(backend_choices()).shows_default();
  command.option("--device", options->device, "the GPU of --backend vulkan, by number or part of its name");
  command.does([options] { return run(*options); });
}

}  // namespace linnet::app
