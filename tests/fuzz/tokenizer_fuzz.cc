// A tokenizer of arbitrary bytes, and a text for it. Byte 0 says what the tokenizer is: a tokenizer.json, a
// SentencePiece model, or a specification decoded field by field; bytes 1 and 2 are the size of the text,
// which comes next.
#include <algorithm>
#include <cstring>
#include <string>

#include "converter/readers/json.h"
#include "converter/sentencepiece_model.h"
#include "converter/tokenizer_import.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"

using namespace linnet;
using namespace linnet::text;

namespace {

class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}
  bool more() const { return !bytes_.empty(); }
  uint8_t byte() {
    if (bytes_.empty()) return 0;
    const auto value = static_cast<uint8_t>(bytes_[0]);
    bytes_.remove_prefix(1);
    return value;
  }
  uint32_t number() { return static_cast<uint32_t>(byte()) | static_cast<uint32_t>(byte()) << 8; }
  std::string text() {
    const size_t wanted = byte(), size = std::min(wanted, bytes_.size());
    std::string value(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return value;
  }

 private:
  std::string_view bytes_;
};

TokenizerSpec decode_spec(std::string_view bytes) {
  Fields in(bytes);
  TokenizerSpec spec;
  spec.kind = static_cast<TokenizerKind>(in.byte() % 5);
  static constexpr const char* kForms[] = {"",     "nfc",      "nfd",     "nfkc",
                                           "nfkd", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"};
  spec.normalization = kForms[in.byte() % 8];
  const uint32_t flags = in.number();
  spec.add_prefix_space = flags & 1;
  spec.add_dummy_prefix = flags & 2;
  spec.remove_extra_whitespaces = flags & 4;
  spec.escape_whitespaces = flags & 8;
  spec.byte_fallback = flags & 16;
  spec.ignore_merges = flags & 32;
  spec.add_bos = flags & 64;
  spec.add_eos = flags & 128;
  spec.hugging_face = flags & 256;
  spec.metaspace = flags & 512;
  spec.metaspace_split = flags & 1024;
  spec.prefix_first = flags & 2048;
  spec.bos_id = static_cast<int8_t>(in.byte());
  spec.eos_id = static_cast<int8_t>(in.byte());
  spec.unknown_id = static_cast<int8_t>(in.byte());
  for (uint8_t n = in.byte() % 4; n > 0; --n)
    spec.pre_tokenizer.push_back(
        {in.text(), (in.byte() & 1) != 0, static_cast<SplitBehavior>(in.byte() % 6)});
  const std::string map = in.text();
  spec.charsmap.assign(map.begin(), map.end());
  for (uint8_t n = in.byte() % 8; n > 0; --n) {
    const uint8_t bits = in.byte();
    spec.added_tokens.push_back({in.byte(), in.text(), (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0,
                                 (bits & 8) != 0, (bits & 16) != 0});
  }
  for (uint8_t n = in.byte(); n > 0; --n) spec.merges.push_back(in.byte());
  if (flags & 0x8000)
    for (int byte = 0; byte < 256; ++byte) spec.pieces.emplace_back(1, static_cast<char>(byte));
  while (in.more()) {
    spec.kinds.push_back(static_cast<TokenKind>(in.byte() % 7));
    spec.pieces.push_back(in.text());
    spec.scores.push_back(-static_cast<float>(in.byte()) / 16);
  }
  spec.scores.resize(spec.pieces.size());
  spec.kinds.resize(spec.pieces.size());
  return spec;
}

void use(const Tokenizer& tokenizer, const std::string& text) {
  for (const bool parse : {false, true}) {
    const auto ids = tokenizer.encode(text, {.parse_special = parse, .guard = "\xEF\xB7\x90"});
    if (!ids) {
      if (ids.error().message.empty()) std::abort();
      continue;
    }
    std::string pieces;
    for (const int32_t id : *ids) {
      if (id < 0 || static_cast<size_t>(id) >= tokenizer.size()) std::abort();
      pieces += tokenizer.piece(id, true);
    }
    // However a stream is cut, the same characters come out, all of them valid.
    std::string streamed;
    Utf8Stream stream;
    for (const int32_t id : *ids) streamed += stream.push(tokenizer.piece(id, true));
    streamed += stream.finish();
    Utf8Stream whole;
    std::string expected(whole.push(pieces));
    expected += whole.finish();
    if (streamed != expected || find_invalid_utf8(streamed)) std::abort();
    (void)tokenizer.decode(*ids);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t text_size = std::min<size_t>(data[1] | static_cast<size_t>(data[2]) << 8, size - 3);
  const std::string text(bytes.substr(3, text_size));
  const std::string_view rest = bytes.substr(3 + text_size);
  TokenizerSpec spec;
  if (data[0] % 3 == 0) {
    const auto json = convert::parse_json(rest, "input");
    if (!json) return 0;
    const auto table = convert::import_tokenizer_json(*json, "input");
    if (!table) return 0;
    spec = from_fb(*table);
  } else if (data[0] % 3 == 1) {
    const auto table = convert::import_sentencepiece(std::as_bytes(std::span(rest)), "input");
    if (!table) return 0;
    spec = from_fb(*table);
  } else {
    spec = decode_spec(rest);
  }
  const auto tokenizer = Tokenizer::create(std::move(spec));
  if (!tokenizer) {
    if (tokenizer.error().message.empty()) std::abort();
    return 0;
  }
  use(*tokenizer, text);
  return 0;
}
