// linnet image as a person uses it: what a picture's file says, what repeats, and what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "apps/png/png.h"
#include "tests/apps/command.h"

namespace linnet::test {
namespace {

namespace fs = std::filesystem;

const std::string& painter() {
  static const std::string path = [] {
    const std::string file = (scratch() / "painter.lnt").string();
    const Outcome done = linnet_command(
        {"convert", LINNET_GOLDEN "/image/sana_pipeline/model", "-o", file, "--quantize", "f32"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    return file;
  }();
  return path;
}

struct Painted {
  app::Picture picture;
  app::TextChunks text;
  std::string of(const std::string& key) const {
    const auto found = std::ranges::find(text, key, &std::pair<std::string, std::string>::first);
    return found == text.end() ? "" : found->second;
  }
};
Painted read(const fs::path& path) {
  Painted painted;
  const auto picture = app::read_png(path.string(), &painted.text);
  REQUIRE_MESSAGE(picture, (picture ? "" : picture.error().message));
  painted.picture = *picture;
  return painted;
}

Outcome paint(const fs::path& output, const std::vector<std::string>& more,
              const std::string& prompt = "a bird", int interrupt_after_ms = -1) {
  std::vector<std::string> args = {"image",  painter(), prompt, "-o",      output.string(),
                                   "--size", "32",      "24",   "--steps", "2"};
  for (size_t i = 0; i < more.size(); i += 2) {  // an option given anew replaces the one above
    const auto at = std::ranges::find(args, more[i]);
    if (at != args.end()) args.erase(at, at + (more[i] == "--size" ? 3 : 2));
  }
  args.insert(args.end(), more.begin(), more.end());
  return linnet_command(args, "", interrupt_after_ms);
}
Painted painted(const char* name, const std::vector<std::string>& more,
                const std::string& prompt = "a bird") {
  const fs::path output = scratch() / name;
  const Outcome outcome = paint(output, more, prompt);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(contains(outcome.err, "wrote "));
  return read(output);
}

// Refused, and no file.
void refused(const std::vector<std::string>& more, int code, const std::vector<std::string>& said,
             const std::string& prompt = "a bird") {
  const fs::path output = scratch() / "refused.png";
  const Outcome outcome = paint(output, more, prompt);
  INFO(outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.err.starts_with("linnet: "));
  for (const std::string& part : said) CHECK(contains(outcome.err, part));
  CHECK_FALSE(fs::exists(output));
}

// One f32 tensor "latents" of n equal values.
std::string latents_file(const char* name, int64_t n, float value) {
  const std::string header = R"({"latents":{"dtype":"F32","shape":[)" + std::to_string(n) +
                             R"(],"data_offsets":[0,)" + std::to_string(4 * n) + "]}}";
  std::string bytes(8 + header.size() + static_cast<size_t>(4 * n), '\0');
  const auto size = static_cast<uint64_t>(header.size());
  std::memcpy(bytes.data(), &size, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  for (size_t i = 8 + header.size(); i < bytes.size(); i += 4) std::memcpy(&bytes[i], &value, 4);
  write_file(scratch() / name, bytes);
  return (scratch() / name).string();
}

}  // namespace

TEST_CASE("a picture's file says what it was made with, and the same request makes the same picture") {
  const Painted one = painted("one.png", {"--seed", "7", "--threads", "1"}, "a b\xC3\xAFrd");
  CHECK(one.picture.width == 32);
  CHECK(one.picture.height == 24);
  CHECK(one.of("Prompt") == "a b\xC3\xAFrd");
  CHECK(one.of("Seed") == "7");
  CHECK(one.of("Steps") == "2");
  CHECK(one.of("Guidance") == "4.5");
  CHECK(one.of("Sampler") == "published");
  CHECK(one.of("Model checksum").size() == 16);
  CHECK(one.of("Software").starts_with("linnet "));
  const Painted two = painted("two.png", {"--seed", "7", "--threads", "2"}, "a b\xC3\xAFrd");
  CHECK(two.picture.pixels == one.picture.pixels);
  const Painted other = painted("other.png", {"--seed", "8"}, "a b\xC3\xAFrd");
  CHECK(other.picture.pixels != one.picture.pixels);
}

TEST_CASE("several pictures count their seeds up, side by side or one file each") {
  const fs::path output = scratch() / "many.png";
  const Outcome outcome = paint(output, {"--count", "2", "--seed", "3"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK_FALSE(fs::exists(output));
  CHECK(contains(outcome.err, "many-1.png to "));
  CHECK(contains(outcome.err, "many-2.png: 2 pictures"));
  const Painted first = read(scratch() / "many-1.png"), second = read(scratch() / "many-2.png");
  CHECK(first.of("Seed") == "3");
  CHECK(second.of("Seed") == "4");
  CHECK(painted("alone.png", {"--seed", "4"}).picture.pixels == second.picture.pixels);
  CHECK(first.picture.pixels != second.picture.pixels);
  const Painted sheet = painted("sheet.png", {"--count", "2", "--seed", "3", "--sheet", "--scale", "2"});
  CHECK(sheet.picture.width == 2 * 2 * 32);
  CHECK(sheet.picture.height == 2 * 24);
}

TEST_CASE("what the picture must not show changes it, and guidance 1 leaves it out") {
  const Painted plain = painted("plain.png", {});
  const Painted negative = painted("negative.png", {"--negative", "dark"});
  CHECK(negative.picture.pixels != plain.picture.pixels);
  CHECK(negative.of("Negative prompt") == "dark");
  const Painted unguided = painted("unguided.png", {"--guidance", "1"});
  const Painted still = painted("still.png", {"--guidance", "1", "--negative", "dark"});
  CHECK(still.picture.pixels == unguided.picture.pixels);
}

TEST_CASE("--memory prints the plan and makes nothing") {
  const fs::path output = scratch() / "nothing.png";
  const Outcome plan =
      linnet_command({"image", painter(), "--memory", "--size", "64", "-o", output.string()});
  INFO(plan.err);
  CHECK(plan.code == 0);
  for (const char* word : {"weights", "state", "work", "buffers", "at most"}) CHECK(contains(plan.out, word));
  CHECK_FALSE(fs::exists(output));
}

TEST_CASE("sizes, files and options that cannot be") {
  refused({"--size", "33"}, 2, {"33", "multiple of 4"});
  refused({"--size", "20000"}, 2, {"20000", "up to 16384"});
  refused({"--sampler", "ddpm"}, 2, {"ddpm", "euler"});
  refused({"--class", "3"}, 2, {"--class", "prompt"});
  refused({"--latents", latents_file("few.safetensors", 10, 0)}, 2, {"10 latents"});
  refused({"--latents", (scratch() / "absent.safetensors").string()}, 2, {"absent.safetensors"});
  refused({}, 2, {"prompt"}, "");
  const Outcome folder = paint(scratch(), {});
  CHECK(folder.code == 2);
  CHECK(contains(folder.err, "is a folder"));
  const Outcome missing = paint(scratch() / "no" / "such.png", {});
  CHECK(missing.code == 2);
  CHECK(contains(missing.err, "does not exist"));
  const Outcome language = linnet_command({"image", tiny_model(), "a bird", "-o", "x.png"});
  CHECK(language.code == 2);
  CHECK(contains(language.err, "image pipeline"));
}

TEST_CASE("a disk that is full leaves no picture") {
  const fs::path output = scratch() / "full.png";
  const Outcome outcome = linnet_command(
      {"image", painter(), "a bird", "-o", output.string(), "--size", "64", "--steps", "1"}, "", -1, 500);
  INFO(outcome.err);
  CHECK(outcome.code == 1);
  CHECK(contains(outcome.err, "full.png"));
  CHECK_FALSE(fs::exists(output));
  for (const auto& entry : fs::directory_iterator(scratch()))  // nor anything beside it
    CHECK_FALSE(entry.path().filename().string().starts_with("full.png"));
}

TEST_CASE("Ctrl-C stops between steps and leaves no picture") {
  const fs::path output = scratch() / "stopped.png";
  // Large enough for a thousand steps to take many seconds on any machine.
  const Outcome outcome = paint(output, {"--steps", "1000", "--size", "256", "256"}, "a bird", 700);
  INFO(outcome.err);
  CHECK(outcome.code != 0);
  CHECK_FALSE(fs::exists(output));
  CHECK(contains(outcome.err, "stopped"));
}

TEST_CASE("a step that is no number is named, with its node, and makes no picture") {
  refused({"--latents", latents_file("nan.safetensors", 8 * 6 * 8, std::nanf(""))}, 1,
          {"step 1 of 2", "node '"});
}

TEST_CASE("a prompt that is too long is cut, and the user told") {
  const fs::path output = scratch() / "long.png";
  std::string words;
  for (int i = 0; i < 400; ++i) words += "bird ";
  const Outcome outcome = paint(output, {}, words);
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.err, "longer than the model reads"));
  CHECK(fs::exists(output));
  CHECK(contains(paint(output, {}, "a bird").err, "--force"));
  const Outcome again = paint(output, {"--force", "--force"}, "a bird");
  CHECK(again.code == 0);
  CHECK_FALSE(contains(again.err, "longer"));
}

TEST_CASE("folders that lack a part or have what Linnet does not") {
  const fs::path folder = scratch() / "pipeline";
  const auto convert = [&] {
    const fs::path output = scratch() / "refused.lnt";
    const Outcome outcome = linnet_command({"convert", folder.string(), "-o", output.string()});
    CHECK(outcome.code == 2);
    CHECK_FALSE(fs::exists(output));
    return outcome.err;
  };
  const auto fresh = [&] {
    fs::remove_all(folder);
    fs::copy(LINNET_GOLDEN "/image/sana_pipeline/model", folder, fs::copy_options::recursive);
  };
  const auto replace = [&](const char* file, const std::string& from, const std::string& to) {
    std::string text = read_file(folder / file);
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    write_file(folder / file, text.replace(at, from.size(), to));
  };
  for (const char* part : {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"}) {
    fresh();
    fs::remove_all(folder / part);
    CHECK(contains(convert(), part));
  }
  fresh();
  replace("scheduler/scheduler_config.json", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler");
  CHECK(contains(convert(), "UniPCMultistepScheduler"));
  fresh();
  replace("scheduler/scheduler_config.json", "\"thresholding\": false", "\"thresholding\": true");
  CHECK(contains(convert(), "thresholding"));
  fresh();
  replace("scheduler/scheduler_config.json", "\"use_beta_sigmas\": false", "\"use_beta_sigmas\": true");
  CHECK(contains(convert(), "use_beta_sigmas"));
}

TEST_CASE("a picture for which there is no room, or nobody to take it, is exit code 1") {
  for (const char* where : {"/dev/full", "/dev/stdout"}) {
    const Outcome outcome =
        linnet_command({"image", painter(), "a bird", "-o", where, "--size", "32", "24", "--steps", "1"}, "",
                       -1, std::string(where) == "/dev/full" ? RLIM_INFINITY : 100);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(contains(outcome.err.substr(0, 100), "linnet: "));
  }
  const fs::path folder = scratch() / "no-room";
  fs::create_directories(folder);
  const Outcome outcome = linnet_command(
      {"image", painter(), "a bird", "-o", (folder / "x.png").string(), "--size", "32", "24", "--steps", "1"},
      "", -1, 200);
  INFO(outcome.err);
  CHECK(outcome.code == 1);
  CHECK(contains(outcome.err, "x.png"));
  CHECK(fs::is_empty(folder));
}

}  // namespace linnet::test
