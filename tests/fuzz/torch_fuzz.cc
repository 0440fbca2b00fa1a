// Arbitrary bytes as a file of torch.save, and as the pickle in one. What opens is decoded.
#include <cstdlib>
#include <vector>

#include "converter/readers/pickle.h"
#include "converter/readers/torch_zip.h"
#include "tests/fuzz/fuzz_file.h"

using namespace linnet;
using namespace linnet::convert;

namespace {

constexpr int64_t kMostValues = 1 << 16;  // of one tensor: more of the same tests nothing

void read(std::span<const uint8_t> bytes) {
  const auto tensors = parse_torch(std::as_bytes(bytes), "input");
  if (!tensors) {
    if (tensors.error().message.empty()) std::abort();
    return;
  }
  for (const TensorInfo& t : *tensors) {
    const auto* first = reinterpret_cast<const uint8_t*>(t.bytes.data());
    if (!t.bytes.empty() && (first < bytes.data() || first + t.bytes.size() > bytes.data() + bytes.size()))
      std::abort();
  }
  const FuzzFile file(bytes);
  Checkpoint checkpoint;
  if (!read_torch(file.path(), checkpoint)) return;
  volatile float sum = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const int64_t columns = std::max<int64_t>(tensor.columns(), 1);
    const int64_t rows = std::min(tensor.rows(), kMostValues / columns);
    if (rows <= 0) continue;
    std::vector<float> values(static_cast<size_t>(rows * columns));
    if (!checkpoint.read_f32(tensor, tensor.rows() - rows, rows, values.data())) std::abort();
    for (const float v : values) sum = sum + v;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  read({data, size});
  const auto pickle = read_pickle(std::as_bytes(std::span(data, size)), "input");
  if (!pickle && pickle.error().message.empty()) std::abort();
  return 0;
}
