// Opens arbitrary bytes as a model file, three ways: as they are; with a header that fits them, so that
// changes get past the checksum; and as the bare head of a file with 64 KiB of weights, which keeps inputs
// small. Whatever opens is then read as a runtime reads it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "format/container.h"
#include "format/model_generated.h"

using namespace linnet;
using namespace linnet::format;

namespace {

void open_and_read(std::span<const std::byte> bytes) {
  const auto file = ModelFile::from_memory(bytes);
  if (!file) {
    if (file.error().message.empty()) std::abort();
    return;
  }
  const fb::ModelT& model = file->model();
  volatile uint64_t sum = 0;
  for (size_t i = 0; i < model.weights.size(); ++i) {
    const auto weight = file->weight_bytes(i);
    if (reinterpret_cast<uintptr_t>(weight.data()) % kTensorAlignment != 0) std::abort();
    for (size_t b = 0; b < weight.size() + kOverRead; ++b)
      sum = sum + static_cast<uint64_t>(weight.data()[b]);
  }
  // Verified: indices are used without a check, as the graph does.
  for (const auto& method : model.methods)
    for (const auto& node : method->nodes) {
      for (const int32_t v : node->inputs)
        sum = sum + (v < 0 ? 0 : method->values[static_cast<size_t>(v)]->name.size());
      for (const int32_t v : node->outputs) sum = sum + method->values[static_cast<size_t>(v)]->shape.size();
      for (const int32_t w : node->weights)
        sum = sum + (w < 0 ? 0 : model.weights[static_cast<size_t>(w)]->bytes);
      for (const int32_t s : node->states) sum = sum + model.states[static_cast<size_t>(s)]->shape.size();
    }
  (void)file->verify_checksums();
}

void open_repaired(std::vector<std::byte> bytes, uint64_t head_offset) {
  const auto head = std::span(bytes).subspan(static_cast<size_t>(head_offset));
  const auto header = encode_header({.version = kFormatVersion,
                                     .file_bytes = bytes.size(),
                                     .head_offset = head_offset,
                                     .head_bytes = head.size(),
                                     .head_checksum = checksum(head)});
  std::copy(header.begin(), header.end(), bytes.begin());
  open_and_read(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  open_and_read(bytes);
  if (const auto header = decode_header(bytes)) {
    open_repaired({bytes.begin(), bytes.end()}, header->head_offset);
    return 0;
  }
  constexpr size_t kWeightArea = size_t{64} << 10;
  std::vector<std::byte> file(kWeightArea);
  file.insert(file.end(), bytes.begin(), bytes.end());
  open_repaired(std::move(file), kWeightArea);
  return 0;
}
