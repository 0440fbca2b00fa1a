// Arbitrary bytes as a safetensors file, and as the header of one with 4 KiB of data. What opens is decoded,
// and written again as a file that reads the same.
#include <algorithm>
#include <cstring>
#include <vector>

#include "converter/readers/packed_weights.h"
#include "converter/readers/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

using namespace linnet;
using namespace linnet::convert;

namespace {

constexpr int64_t kMostPacked =
    1 << 16;  // values of a packed matrix that are read: more of the same tests nothing

// What quantisers pack, taken apart both ways.
void read_packed(const Checkpoint& checkpoint) {
  for (const int64_t bits : {4, 8}) {
    StoredScales scales;
    scales.bits = bits;
    const auto packed = PackedWeights::find(checkpoint, scales, "input");
    if (!packed) {
      if (packed.error().message.empty()) std::abort();
      continue;
    }
    for (const auto& [name, matrix] : packed->matrices()) {
      const auto rows = matrix.rows();
      if (!rows || (*rows)->columns < 1 || (*rows)->columns > kMostPacked) continue;
      const int64_t count = std::min((*rows)->rows, kMostPacked / (*rows)->columns),
                    first = (*rows)->rows - count;
      std::vector<float> values(static_cast<size_t>(count * (*rows)->columns));
      (void)(*rows)->read(first, count, values.data());
      if (!(*rows)->lossless()) continue;
      std::vector<format::BlockGroup> groups(static_cast<size_t>(count * (*rows)->columns / kGroupSize));
      (void)(*rows)->read_groups(first, count, groups.data());
    }
  }
}

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
  read_packed(checkpoint);
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
