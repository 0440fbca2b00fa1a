// The RWKV World tokenizer: at each place the longest piece that fits.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer_pieces.h"

namespace linnet::text {

// Appends the ids of `text`; where no piece fits, `unknown` stands for one byte, and nothing if that is -1.
void encode_rwkv_world(const PrefixIndex& index, std::string_view text, int32_t unknown,
                       std::vector<int32_t>& ids);

// A piece as GGUF files write it, with the escapes of a Python literal (\n, \t, \r, \', \", \\, \x00), as
// bytes. Nothing when an escape is cut short or unknown.
std::optional<std::string> unescape_rwkv_piece(std::string_view piece);

}  // namespace linnet::text
