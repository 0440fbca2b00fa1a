// Arbitrary text for tokenizers as published: byte 0 says which, the rest is the text. However its tokens are
// cut into a stream, the same characters come out, all of them valid; a byte-level vocabulary gives the text
// back.
#include <cstdlib>
#include <string>
#include <vector>

#include "converter/readers/json.h"
#include "converter/tokenizer_import.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

using namespace linnet;
using namespace linnet::text;

namespace {

struct Loaded {
  std::string name;
  Tokenizer tokenizer;
};

std::vector<Loaded> load_all() {
  std::vector<Loaded> all;
  for (const char* name :
       {"llama3", "qwen2", "smollm", "gpt2_prefix", "gemma", "llama2", "llama2_first", "t5", "nfkc_splits"}) {
    const std::string path = std::string(LINNET_GOLDEN "/text/") + name + ".tokenizer.json";
    const auto source = convert::read_text(path, size_t{64} << 20);
    if (!source) std::abort();
    const auto json = convert::parse_json(*source, name);
    if (!json) std::abort();
    const auto table = convert::import_tokenizer_json(*json, name);
    if (!table) std::abort();
    auto tokenizer = Tokenizer::create(from_fb(*table));
    if (!tokenizer) std::abort();
    all.push_back({name, std::move(*tokenizer)});
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<Loaded> all = load_all();
  if (size < 1) return 0;
  const Tokenizer& tokenizer = all[data[0] % all.size()].tokenizer;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.parse_special = special, .guard = "\xEF\xB7\x90"});
    if (!ids) {
      if (ids.error().message.empty()) std::abort();
      continue;
    }
    std::string whole, streamed;
    Utf8Stream stream;
    for (const int32_t id : *ids) {
      if (id < 0 || static_cast<size_t>(id) >= tokenizer.size()) std::abort();
      const std::string piece(tokenizer.piece(id, true));
      whole += piece;
      streamed += stream.push(piece);
    }
    streamed += stream.finish();
    Utf8Stream at_once;
    std::string expected(at_once.push(whole));
    expected += at_once.finish();
    if (streamed != expected || find_invalid_utf8(streamed)) std::abort();
    (void)tokenizer.decode(*ids);
  }
  return 0;
}
