// Arbitrary bytes as the head of a model file with 1 MiB of weights: what is verified is planned and run by
// the reference backend, every method twice, so that a graph that gets past the checks must also be safe to
// run.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "backends/reference/reference.h"
#include "format/container.h"
#include "format/model_generated.h"
#include "runtime/engine/engine.h"

using namespace linnet;
using namespace linnet::format;

namespace {

constexpr size_t kWeightArea = size_t{1} << 20;
// More is slow and tests nothing else.
constexpr size_t kMostMemory = size_t{16} << 20;
constexpr int64_t kTokens = 3;

// Small floats, whatever is read from them.
std::vector<std::byte> weight_area() {
  std::vector<std::byte> area(kWeightArea);
  for (size_t i = 0; i + 4 <= area.size(); i += 4) {
    const float value = static_cast<float>(i / 4 % 17) / 64 - 0.125f;
    std::copy_n(reinterpret_cast<const std::byte*>(&value), 4, area.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return area;
}

// A bound on the work of one run: no dimension is large, and neither is any weight that a node reads.
bool is_small(const fb::ModelT& model) {
  size_t nodes = 0;
  for (const auto& method : model.methods) nodes += method->nodes.size();
  return nodes < 400;
}

void run(Engine& engine, const fb::ModelT& model) {
  for (size_t m = 0; m < model.methods.size(); ++m) {
    const fb::MethodT& method = *model.methods[m];
    for (int round = 0; round < 2; ++round) {
      for (const int32_t input : method.inputs) {
        const auto value = static_cast<size_t>(input);
        const auto held = engine.host_value(m, value);
        const std::vector<std::byte> zeros(held.size());
        (void)engine.write_value(m, value, zeros);
      }
      if (!engine.run(m, engine.bounds().symbols, kTokens)) {
        (void)engine.reset();
        break;
      }
      volatile size_t sum = 0;
      for (const int32_t output : method.outputs)
        for (const std::byte b : engine.host_value(m, static_cast<size_t>(output)))
          sum = sum + static_cast<size_t>(b);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::byte> area = weight_area();
  std::vector<std::byte> bytes = area;
  const auto head = std::as_bytes(std::span(data, size));
  bytes.insert(bytes.end(), head.begin(), head.end());
  const auto header = encode_header({.version = kFormatVersion,
                                     .file_bytes = bytes.size(),
                                     .head_offset = kWeightArea,
                                     .head_bytes = head.size(),
                                     .head_checksum = checksum(head)});
  std::copy(header.begin(), header.end(), bytes.begin());
  auto opened = ModelFile::from_memory(bytes);
  if (!opened || !is_small(opened->model())) return 0;
  const auto file = std::make_shared<const ModelFile>(std::move(*opened));
  for (const bool full : {false, true}) {
    EngineOptions options;
    options.symbols = {{"tokens", kTokens}, {"logit_tokens", 1}, {"context", 8}};
    options.attention = {full, 4, 1};
    options.cache_dtype = full ? DType::kF32 : DType::kQ8;
    const auto memory = Engine::memory_required(*file, reference_backend(), options);
    if (!memory) {
      if (memory.error().message.empty()) std::abort();
      return 0;
    }
    if (memory->state_bytes > kMostMemory || memory->work_bytes > kMostMemory) return 0;
    const auto engine = Engine::create(file, reference_backend(), options);
    if (!engine) return 0;
    run(**engine, file->model());
  }
  return 0;
}
