// Arbitrary bytes as a GGUF file: read as `linnet convert` reads it (directory, configuration, tokenizer),
// every tensor decoded, the graph built.
#include <algorithm>
#include <cmath>
#include <vector>

#include "converter/architectures/importer.h"
#include "converter/readers/gguf.h"
#include "converter/source.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

using namespace linnet;
using namespace linnet::convert;

namespace {

constexpr int64_t kMostValues = 1 << 16;  // of one tensor: more of the same tests nothing

void read_all_of(const Checkpoint& checkpoint) {
  volatile float sum = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const int64_t columns = std::max<int64_t>(tensor.columns(), 1);
    const int64_t rows = std::min(tensor.rows(), kMostValues / columns);
    std::vector<float> values(static_cast<size_t>(std::max<int64_t>(rows, 0) * columns));
    if (rows > 0 && !checkpoint.read_f32(tensor, tensor.rows() - rows, rows, values.data())) std::abort();
    for (const float v : values) sum = sum + v;
    if (rows > 0 && Checkpoint::lossless_dtype(tensor)) {
      std::vector<format::BlockGroup> groups(static_cast<size_t>(tensor.elements() / kGroupSize));
      if (!checkpoint.read_groups(tensor, 0, tensor.rows(), groups.data())) std::abort();
    }
  }
}

void read_source(const std::string& path) {
  auto source = open_source(path);
  if (!source) {
    if (source.error().message.empty()) std::abort();
    return;
  }
  if (source->tokenizer)
    if (const auto tokenizer = text::Tokenizer::create(text::from_fb(*source->tokenizer)))
      (void)tokenizer->encode("The linnet <s>\xC3\xA9 12");
  if (const ImportFunction import = find_architecture(source->config.value("model_type", ""))) {
    GraphBuilder graph;
    Importer importer(source->config, *source->tensors, graph);
    try {
      import(importer);
    } catch (const std::exception&) {  // as convert() does
      return;
    }
    (void)importer.errors();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const auto directory = parse_gguf(std::as_bytes(bytes), "input");
  if (!directory) {
    if (directory.error().message.empty()) std::abort();
    return 0;
  }
  if (bytes.empty()) return 0;
  const FuzzFile file(bytes);
  if (const auto gguf = Gguf::open(file.path())) read_all_of(gguf->checkpoint());
  read_source(file.path());
  return 0;
}
