#include "tests/fuzz/model_run.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "format/container.h"
#include "format/model_generated.h"
#include "runtime/engine/engine.h"

namespace linnet::fuzz {
namespace {

// More is slow and tests nothing else.
constexpr size_t kMostMemory = size_t{4} << 20;
constexpr size_t kMostNodes = 400;
constexpr int64_t kTokens = 5;

bool told(const Error& error) {
  if (error.message.empty()) std::abort();
  return false;
}

bool is_small(const fb::ModelT& model) {
  size_t nodes = 0;
  for (const auto& method : model.methods) nodes += method->nodes.size();
  return nodes < kMostNodes;
}

EngineOptions options_for(const fb::ModelT& model, bool full) {
  EngineOptions options;
  for (const auto& symbol : model.symbols) {
    int64_t bound = 3;
    if (symbol->name == "tokens") bound = kTokens;
    if (symbol->name == "logit_tokens") bound = 2;
    if (symbol->name == "context") bound = 11;
    options.symbols.emplace_back(symbol->name, bound);
  }
  options.attention = {full, 4, 1};
  options.cache_dtype = full ? DType::kF32 : DType::kQ8;
  options.threads = full ? 1 : 2;
  options.band_bytes = full ? size_t{1} << 10 : size_t{64} << 20;
  return options;
}

void write_inputs(Engine& engine, size_t m, std::mt19937_64& random) {
  for (const int32_t input : engine.model().methods[m]->inputs) {
    const auto value = static_cast<size_t>(input);
    std::vector<std::byte> bytes(engine.host_value(m, value).size());
    const bool ids = engine.model().methods[m]->values[value]->dtype == fb::DType::I32;
    // Small floats, or ids of which some a table may lack.
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      const float number = static_cast<float>(random() % 64) / 32 - 1;
      const auto id = static_cast<int32_t>(random() % 4);
      std::copy_n(ids ? reinterpret_cast<const std::byte*>(&id) : reinterpret_cast<const std::byte*>(&number),
                  4, bytes.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (const auto written = engine.write_value(m, value, bytes); !written) told(written.error());
  }
}

void run_methods(Engine& engine, std::mt19937_64& random) {
  const std::vector<int64_t>& bounds = engine.bounds().symbols;
  const fb::ModelT& model = engine.model();
  for (size_t m = 0; m < model.methods.size(); ++m) {
    for (int round = 0; round < 4; ++round) {
      std::vector<int64_t> symbols = bounds;
      for (int64_t& n : symbols) {
        if (round == 1) n = 1;
        if (round > 1) n = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n));
      }
      const int logits = graph::find_symbol(model, "logit_tokens"),
                tokens = graph::find_symbol(model, "tokens");
      if (logits >= 0 && round == 3) symbols[static_cast<size_t>(logits)] = 0;
      const int context = graph::find_symbol(model, "context");
      // As sessions do: full attention runs no further than its context.
      const int64_t advance = tokens < 0 ? 0 : symbols[static_cast<size_t>(tokens)];
      if (engine.bounds().attention.full && context >= 0 &&
          engine.position() + advance > bounds[static_cast<size_t>(context)]) {
        if (!engine.reset()) return;
      }
      write_inputs(engine, m, random);
      if (const auto ran = engine.run(m, symbols, advance); !ran) {
        told(ran.error());
        if (!engine.reset()) return;
        break;
      }
      volatile size_t sum = 0;
      for (const int32_t output : model.methods[m]->outputs)
        for (const std::byte b : engine.host_value(m, static_cast<size_t>(output)))
          sum = sum + static_cast<size_t>(b);
    }
  }
  std::vector<std::byte> block(engine.state_bytes());
  if (engine.snapshot(block)) (void)engine.restore(block);
}

}  // namespace

bool run_file(std::span<const std::byte> bytes, uint64_t seed) {
  auto opened = format::ModelFile::from_memory(bytes);
  if (!opened) return told(opened.error());
  if (!is_small(opened->model())) return false;
  const auto file = std::make_shared<const format::ModelFile>(std::move(*opened));
  bool accepted = false;
  for (const bool full : {false, true}) {
    const EngineOptions options = options_for(file->model(), full);
    for (const Backend* backend : {&reference_backend(), *cpu_backend()}) {
      const auto memory = Engine::memory_required(*file, *backend, options);
      if (!memory) return told(memory.error());
      if (memory->state_bytes > kMostMemory || memory->work_bytes > kMostMemory) return false;
      const auto engine = Engine::create(file, *backend, options);
      if (!engine) {
        told(engine.error());
        continue;
      }
      accepted = true;
      std::mt19937_64 random(seed);
      run_methods(**engine, random);
    }
  }
  return accepted;
}

}  // namespace linnet::fuzz
