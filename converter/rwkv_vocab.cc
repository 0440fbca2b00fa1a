#include "converter/rwkv_vocab.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "runtime/core/strings.h"
#include "runtime/text/utf8.h"

namespace linnet::convert {
namespace {

constexpr size_t kMostTokens = size_t{1} << 20;

// The bytes of a Python literal as repr() writes it: '...', "..." or either with a b before it.
std::optional<std::string> python_literal(std::string_view text) {
  const bool bytes = text.starts_with('b');
  if (bytes) text.remove_prefix(1);
  if (text.size() < 2 || (text[0] != '\'' && text[0] != '"') || text.back() != text[0]) return std::nullopt;
  text = text.substr(1, text.size() - 2);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    const char c = text[i];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      constexpr std::string_view kNames = "ntr0'\"\\abfv", kBytes("\n\t\r\0'\"\\\a\b\f\v", 11);
      const size_t at = kNames.find(c);
      if (at == kNames.npos) return std::nullopt;
      out += kBytes[at];
      continue;
    }
    uint32_t value = 0;
    const std::string_view number = text.substr(i + 1, digits);
    const auto read = std::from_chars(number.data(), number.data() + number.size(), value, 16);
    if (number.size() != digits || read.ptr != number.data() + digits || value > 0x10FFFF ||
        (bytes && digits != 2))
      return std::nullopt;
    if (bytes)
      out += static_cast<char>(value);
    else
      text::append_utf8(out, value);
    i += digits;
  }
  return out;
}

}  // namespace

const char* const kRwkvWorldTemplate =
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ 'System: ' + m.content + '\\n\\n' }}"
    "{% elif m.role == 'user' %}{{ 'User: ' + m.content + '\\n\\n' }}"
    "{% else %}{{ 'Assistant: ' + m.content + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

std::filesystem::path rwkv_vocabulary(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("rwkv_vocab") && name.ends_with(".txt")) return entry.path();
  }
  return {};
}

Result<fb::TokenizerT> import_rwkv_vocab(std::string_view text, const std::string& what) {
  fb::TokenizerT out;
  out.kind = fb::TokenizerKind::RwkvWorld;
  size_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto bad = [&](std::string_view why) {
      return fail(ErrorCode::kInvalidFile, strf("{}, line {}: {}", what, line_number, why));
    };
    const size_t first = line.find(' '), last = line.rfind(' ');
    if (first == line.npos || first == last) return bad("expected an id, a quoted text and its size");
    size_t id = 0, size = 0;
    const std::string_view size_text = line.substr(last + 1);
    const auto id_read = std::from_chars(line.data(), line.data() + first, id);
    const auto size_read = std::from_chars(size_text.data(), size_text.data() + size_text.size(), size);
    if (id_read.ptr != line.data() + first || size_read.ptr != size_text.data() + size_text.size() ||
        id >= kMostTokens)
      return bad("the id or the size is no sensible number");
    auto piece = python_literal(line.substr(first + 1, last - first - 1));
    if (!piece || piece->empty()) return bad("the text is no Python literal");
    if (piece->size() != size)
      return bad(strf("the text has {} bytes, and the line says {}", piece->size(), size));
    if (out.pieces.size() <= id) {
      out.pieces.resize(id + 1);
      out.kinds.resize(id + 1, fb::TokenKind::Unused);
    }
    if (!out.pieces[id].empty()) return bad(strf("the id {} is there twice", id));
    out.pieces[id] = std::move(*piece);
    out.kinds[id] = fb::TokenKind::Normal;
  }
  if (out.pieces.size() < 2) return fail(ErrorCode::kInvalidFile, strf("{} holds no vocabulary", what));
  if (out.pieces[0].empty()) {
    out.pieces[0] = "<|endoftext|>";
    out.kinds[0] = fb::TokenKind::Control;
    out.bos_id = out.eos_id = 0;
    out.stop_ids = {0};
  }
  return out;
}

}  // namespace linnet::convert
