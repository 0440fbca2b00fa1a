#include "apps/eval_pictures.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "apps/common.h"
#include "converter/readers/json.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

using Report = nlohmann::ordered_json;

constexpr double kMostDecibels = 99;  // said of pictures that are the same

Result<std::vector<std::string>> read_prompts(const std::string& path) {
  LINNET_ASSIGN(const std::string text, convert::read_text(path));
  std::vector<std::string> prompts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) prompts.push_back(line);
  }
  if (prompts.empty()) return fail(ErrorCode::kInvalidFile, strf("'{}' has no prompts: one a line", path));
  return prompts;
}

Result<ImageRequest> request_of(const ImageSession& session, const std::string& prompt,
                                const PictureComparison& options) {
  ImageRequest request;
  request.steps = options.steps;
  if (session.class_names().empty()) {
    request.prompt = prompt;
    return request;
  }
  const auto [end, error] =
      std::from_chars(prompt.data(), prompt.data() + prompt.size(), request.class_label);
  if (error != std::errc() || end != prompt.data() + prompt.size())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': '{}' is no number of a class, and '{}' makes pictures of classes",
                     options.prompts, prompt, options.path));
  return request;
}

// As a file of 8 bits a channel holds it.
double byte_of(float value) {
  return std::round((std::clamp(static_cast<double>(value), -1.0, 1.0) * 0.5 + 0.5) * 255);
}

double decibels(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = byte_of(a[i]) - byte_of(b[i]);
    sum += e * e;
  }
  const double mean = sum / static_cast<double>(a.size());
  return mean > 0 ? std::min(10 * std::log10(255.0 * 255.0 / mean), kMostDecibels) : kMostDecibels;
}

double share(std::span<const float> a, std::span<const float> b) {
  double error = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += e * e;
    square += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return square > 0 ? error / square : 0;
}

}  // namespace

Result<Report> compare_pictures(const PictureComparison& options, const Backend& backend,
                                const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  LINNET_ASSIGN(const std::vector<std::string> prompts, read_prompts(options.prompts));
  ImageOptions image;
  image.threads = options.threads;
  image.height = image.width = options.size;
  std::unique_ptr<ImageSession> sessions[2];
  for (int i = 0; i < 2; ++i) {
    LINNET_ASSIGN(const auto model, Model::open(i == 0 ? options.path : options.against));
    LINNET_ASSIGN(sessions[i], ImageSession::create(model, backend, image));
  }
  double sum = 0, least = kMostDecibels, distance = 0;
  std::string worst;
  uint64_t done = 0;
  const OnImageStep on_step = [&](const ImageStep&) { return progress(done, 2 * prompts.size()); };
  for (size_t p = 0; p < prompts.size(); ++p) {
    ImageResult results[2];
    for (int i = 0; i < 2; ++i) {
      LINNET_ASSIGN(ImageRequest request, request_of(*sessions[i], prompts[p], options));
      request.seed = options.seed + p;
      if (!on_step({})) return fail(ErrorCode::kCancelled, "stopped");
      LINNET_ASSIGN(results[i], sessions[i]->generate(request, on_step));
      ++done;
    }
    if (results[0].planes.size() != results[1].planes.size() ||
        results[0].latents.size() != results[1].latents.size())
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' makes pictures of another size than '{}': give --size, or "
                       "files of one model",
                       options.path, options.against));
    const double db = decibels(results[0].planes, results[1].planes);
    sum += db;
    distance += share(results[0].latents, results[1].latents);
    if (p == 0 || db < least) least = db, worst = prompts[p];
  }
  const auto n = static_cast<double>(prompts.size());
  return Report{{"model", options.path},  {"against", options.against}, {"pictures", prompts.size()},
                {"psnr", sum / n},        {"least_psnr", least},        {"least_psnr_of", worst},
                {"latents", distance / n}};
}

void print_pictures(const Report& r) {
  std::printf(
      "%lld pictures against %s at equal seeds: PSNR %.2f dB, least %.2f dB ('%s'); latents %.3g of their "
      "square apart\n",
      r["pictures"].get<long long>(), text::printable_line(r["against"].get<std::string>()).c_str(),
      r["psnr"].get<double>(), r["least_psnr"].get<double>(),
      text::printable_line(r["least_psnr_of"].get<std::string>()).c_str(), r["latents"].get<double>());
}

}  // namespace linnet::app
