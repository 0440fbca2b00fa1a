#include "runtime/text/charsmap.h"

#include <utf8proc.h>

#include "runtime/core/strings.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

uint32_t little_endian(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint32_t>(bytes[at]) | static_cast<uint32_t>(bytes[at + 1]) << 8 |
         static_cast<uint32_t>(bytes[at + 2]) << 16 | static_cast<uint32_t>(bytes[at + 3]) << 24;
}

// The fields of a darts-clone unit.
bool has_leaf(uint32_t unit) { return unit >> 8 & 1; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

}  // namespace

Result<CharsMap> CharsMap::create(std::span<const uint8_t> bytes) {
  CharsMap map;
  if (bytes.empty()) return map;
  const auto bad = [](std::string why) {
    return fail(ErrorCode::kInvalidFile, "the tokenizer's character map is damaged: " + why);
  };
  if (bytes.size() < 8) return bad(strf("it has {} bytes", bytes.size()));
  const size_t trie = little_endian(bytes, 0);
  if (trie == 0 || trie % 4 != 0 || trie > bytes.size() - 4)
    return bad(strf("its trie has {} bytes of {}", trie, bytes.size()));
  map.units_.reserve(trie / 4);
  for (size_t at = 4; at < 4 + trie; at += 4) map.units_.push_back(little_endian(bytes, at));
  map.replacements_.assign(bytes.begin() + static_cast<std::ptrdiff_t>(4 + trie), bytes.end());
  if (const auto at = find_invalid_utf8(map.replacements_))
    return bad(strf("its replacements are no UTF-8 at byte {}", *at));
  map.replacements_ += '\0';  // so that each of them ends
  return map;
}

CharsMap::Match CharsMap::find(std::string_view text, bool shortest) const {
  Match best;
  if (units_.empty()) return best;
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) break;
    const size_t value = value_of(units_[node]), length = i + 1;
    if (value >= replacements_.size() || !starts_character(replacements_[value])) continue;
    if (length < text.size() && !starts_character(text[length])) continue;
    best = {length, replacements_.c_str() + value};
    if (shortest) break;
  }
  return best;
}

std::string CharsMap::apply_by_grapheme(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + 16);
  const auto flush = [&](std::string_view grapheme) {
    if (grapheme.size() < 6)
      if (const Match match = shortest(grapheme); match.length) {
        out += match.replacement;
        return;
      }
    for (size_t at = 0; at < grapheme.size();) {
      const std::string_view c = grapheme.substr(at, utf8_length(grapheme[at]));
      const Match match = shortest(c);
      out += match.length ? match.replacement : c;
      at += c.size();
    }
  };
  size_t begin = 0;
  utf8proc_int32_t state = 0, previous = -1;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    const auto c = static_cast<utf8proc_int32_t>(next_char(text, at));
    if (previous >= 0 && utf8proc_grapheme_break_stateful(previous, c, &state)) {
      flush(text.substr(begin, here - begin));
      begin = here;
    }
    previous = c;
  }
  if (begin < text.size()) flush(text.substr(begin));
  return out;
}

}  // namespace linnet::text
