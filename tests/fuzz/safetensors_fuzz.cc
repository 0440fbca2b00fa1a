// Arbitrary bytes as a safetensors file, and as the header of one with 4 KiB of data. What opens is decoded,
// and written again as a file that reads the same.
#include <algorithm>
#include <cstring>
#include <vector>

#include "converter/readers/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

using namespace linnet;
using namespace linnet::convert;

namespace {

void read(std::span<const uint8_t> bytes) {
  const auto tensors = parse_safetensors(std::as_bytes(bytes), "input");
  if (!tensors) {
    if (tensors.error().message.empty()) std::abort();
    return;
  }
  uint64_t total = 0;
  for (const TensorInfo& t : *tensors) {
    const auto* first = reinterpret_cast<const uint8_t*>(t.bytes.data());
    if (!t.bytes.empty() && (first < bytes.data() || first + t.bytes.size() > bytes.data() + bytes.size()))
      std::abort();
    total += t.bytes.size();
  }
  if (total > bytes.size()) std::abort();  // so no two of them overlap
  const FuzzFile file(bytes);
  Checkpoint checkpoint;
  if (!read_safetensors(file.path(), checkpoint)) return;
  volatile float sum = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (tensor.elements() == 0) continue;
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    if (!checkpoint.read_f32(tensor, 0, tensor.rows(), values.data())) std::abort();
    for (const float v : values) sum = sum + v;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  read({data, size});
  const uint64_t length = size;
  std::vector<uint8_t> file(sizeof(length) + size + 4096);
  std::memcpy(file.data(), &length, sizeof(length));
  std::copy(data, data + size, file.begin() + sizeof(length));
  read(file);
  return 0;
}
