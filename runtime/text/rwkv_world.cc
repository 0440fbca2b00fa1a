#include "runtime/text/rwkv_world.h"

#include <charconv>

namespace linnet::text {

void encode_rwkv_world(const PrefixIndex& index, std::string_view text, int32_t unknown,
                       std::vector<int32_t>& ids) {
  while (!text.empty()) {
    size_t length = 1;
    const int32_t id = index.longest_prefix(text, length);
    if (id >= 0)
      ids.push_back(id);
    else if (unknown >= 0)
      ids.push_back(unknown);
    text.remove_prefix(length);
  }
}

std::optional<std::string> unescape_rwkv_piece(std::string_view piece) {
  std::string out;
  for (size_t i = 0; i < piece.size(); ++i) {
    if (piece[i] != '\\') {
      out += piece[i];
      continue;
    }
    if (++i == piece.size()) return std::nullopt;
    switch (piece[i]) {
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case 'r':
        out += '\r';
        break;
      case '\\':
      case '\'':
      case '"':
        out += piece[i];
        break;
      case 'x': {
        unsigned value = 0;
        const std::string_view digits = piece.substr(i + 1, 2);
        const auto end = digits.data() + digits.size();
        if (digits.size() != 2 || std::from_chars(digits.data(), end, value, 16).ptr != end)
          return std::nullopt;
        out += static_cast<char>(value);
        i += 2;
        break;
      }
      default:
        return std::nullopt;
    }
  }
  return out;
}

}  // namespace linnet::text
