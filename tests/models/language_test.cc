// Every tiny language model in tests/golden/language, converted in f32 and held to the official logits and
// greedy continuation (see tests/oracles/README.md for how they were made).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "converter/architectures/importer.h"
#include "converter/convert.h"
#include "runtime/engine/engine.h"
#include "tests/compare.h"
#include "tests/goldens.h"
#include "tests/models/golden.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;
namespace fs = std::filesystem;

namespace {

// Feeds ids in chunks of `chunk` and returns the logits of all of them.
std::vector<float> run_chunks(Engine& engine, const std::vector<int32_t>& ids, int64_t chunk,
                              int64_t vocabulary) {
  std::vector<float> logits;
  REQUIRE_FALSE(ids.empty());
  const fb::MethodT& method = *engine.model().methods[0];
  for (size_t t = 0; t < ids.size(); t += static_cast<size_t>(chunk)) {
    const auto n = std::min(static_cast<size_t>(chunk), ids.size() - t);
    std::vector<int64_t> symbols = engine.bounds().symbols;
    for (const char* name : {"tokens", "logit_tokens"}) {
      const int symbol = graph::find_symbol(engine.model(), name);
      REQUIRE(symbol >= 0);
      symbols[static_cast<size_t>(symbol)] = static_cast<int64_t>(n);
    }
    REQUIRE(engine.write_value(0, static_cast<size_t>(method.inputs[0]),
                               std::as_bytes(std::span(ids).subspan(t, n))));
    const auto ran = engine.run(0, symbols, static_cast<int64_t>(n));
    REQUIRE_MESSAGE(ran, (ran ? "" : ran.error().message));
    const auto* out =
        reinterpret_cast<const float*>(engine.host_value(0, static_cast<size_t>(method.outputs[0])).data());
    logits.insert(logits.end(), out, out + static_cast<int64_t>(n) * vocabulary);
  }
  return logits;
}

EngineOptions options_for(int64_t chunk, int64_t context) {
  EngineOptions options;
  options.symbols = {{"tokens", chunk}, {"logit_tokens", chunk}, {"context", context}};
  return options;
}

std::shared_ptr<const format::ModelFile> converted_file(const fs::path& source, const std::string& name) {
  const fs::path file = fs::temp_directory_path() / ("linnet_" + name + ".lnt");
  convert::ConvertOptions options;
  options.source = source.string();
  options.output = file.string();
  options.quantize = "f32";
  options.self_test = false;
  const auto report = convert::convert(options);
  REQUIRE_MESSAGE(report, (report ? "" : report.error().message));
  auto opened = format::ModelFile::open(file);
  fs::remove(file);
  REQUIRE(opened);
  return std::make_shared<const format::ModelFile>(std::move(*opened));
}

// The largest distance from the official logits, over all positions that were kept.
double distance(const Golden& golden, const std::vector<float>& logits) {
  const auto width = static_cast<size_t>(golden.vocabulary);
  REQUIRE(logits.size() == golden.ids.size() * width);
  std::vector<float> kept;
  for (const int64_t position : golden.positions) {
    const auto row = std::span(logits).subspan(static_cast<size_t>(position) * width, width);
    kept.insert(kept.end(), row.begin(), row.end());
  }
  return largest_difference(kept, golden.logits);
}

// The greedy continuation of a prompt that `engine` has run, one token at a time.
void check_greedy(Engine& engine, const Golden& golden, std::vector<float> logits, size_t count) {
  REQUIRE(golden.greedy.size() >= count);
  for (size_t i = 0; i < count; ++i) {
    const auto last = std::span(logits).last(static_cast<size_t>(golden.vocabulary));
    REQUIRE(std::isfinite(largest_magnitude(last)));
    CHECK(std::ranges::max_element(last) - last.begin() == golden.greedy[i]);
    logits = run_chunks(engine, {golden.greedy[i]}, 1, golden.vocabulary);
  }
}

// One way of cutting the prompt and a few tokens: a software GPU is slow.
void check_on_vulkan(const Golden& golden, std::shared_ptr<const format::ModelFile> model, int64_t context) {
  const Backend* vulkan = vulkan_test_backend();
  if (!vulkan) return;
  CAPTURE(vulkan->name());
  auto engine = Engine::create(std::move(model), *vulkan, options_for(64, context));
  REQUIRE_MESSAGE(engine, (engine ? "" : engine.error().message));
  std::vector<float> logits = run_chunks(**engine, golden.ids, 64, golden.vocabulary);
  check_below("vulkan", distance(golden, logits), std::max(golden.tolerance, 2e-3));
  check_greedy(**engine, golden, std::move(logits), 3);
  check_vulkan_messages();
}

void check_case(const fs::path& folder) {
  const Golden golden = read_golden(folder);
  REQUIRE_MESSAGE((convert::find_architecture(golden.model_type) != nullptr), golden.model_type,
                  " has no importer");
  const auto model = converted_file(folder / "model", folder.filename().string());
  const auto total = static_cast<int64_t>(golden.ids.size());
  const auto context = total + static_cast<int64_t>(golden.greedy.size());

  check_on_vulkan(golden, model, context);
  if (vulkan_wish() == "only") return;
  const auto cpu = cpu_backend();
  REQUIRE(cpu);
  for (const Backend* backend : {&reference_backend(), *cpu}) {
    CAPTURE(backend->name());
    // The reference has one form of each op, so uneven pieces say all about its states.
    const bool slow = backend == &reference_backend();
    for (const int64_t chunk : {total, int64_t{64}, int64_t{7}, int64_t{1}}) {
      if (slow && (chunk == 64 || chunk == 1)) continue;
      CAPTURE(chunk);
      auto engine = Engine::create(model, *backend, options_for(chunk, context));
      REQUIRE_MESSAGE(engine, (engine ? "" : engine.error().message));
      check_below(golden.name + ", " + std::string(backend->name()),
                  distance(golden, run_chunks(**engine, golden.ids, chunk, golden.vocabulary)),
                  golden.tolerance);
    }
    // Greedy continuation, one token at a time after a prefill in uneven pieces.
    auto engine = Engine::create(model, *backend, options_for(33, context));
    REQUIRE(engine);
    std::vector<float> logits = run_chunks(**engine, golden.ids, 33, golden.vocabulary);
    check_greedy(**engine, golden, std::move(logits), golden.greedy.size());
  }
}

// The same model as llama.cpp's converter writes it gives the official logits too.
void check_gguf(const fs::path& file) {
  const std::string name = file.stem().string();
  const Golden golden = read_golden(fs::path(LINNET_GOLDEN "/language") / name);
  const auto model = converted_file(file, name + "_gguf");
  const auto total = static_cast<int64_t>(golden.ids.size());
  const auto cpu = cpu_backend();
  REQUIRE(cpu);
  auto engine = Engine::create(model, **cpu, options_for(total, total));
  REQUIRE_MESSAGE(engine, (engine ? "" : engine.error().message));
  check_below(golden.name + ", GGUF",
              distance(golden, run_chunks(**engine, golden.ids, total, golden.vocabulary)), golden.tolerance);
}

}  // namespace

TEST_CASE("tiny language models equal the official code") {
  for (const std::string& name : listed_goldens("language")) {
    SUBCASE(name.c_str()) {
      CAPTURE(name);
      check_case(fs::path(LINNET_GOLDEN "/language") / name);
    }
  }
}

TEST_CASE("GGUF files of recurrent families equal the official code") {
  for (const std::string& name : listed_goldens("gguf")) {
    SUBCASE(name.c_str()) {
      CAPTURE(name);
      check_gguf(fs::path(LINNET_GOLDEN "/gguf") / name);
    }
  }
}
