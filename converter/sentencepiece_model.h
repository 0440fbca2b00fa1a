#pragma once

#include <span>
#include <string>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::convert {

// A SentencePiece `tokenizer.model`: the few fields of its protobuf (sentencepiece_model.proto) that decide
// ids. The library itself does not expose them. `what` names the file in messages.
Result<fb::TokenizerT> import_sentencepiece(std::span<const std::byte> file, const std::string& what);

}  // namespace linnet::convert
