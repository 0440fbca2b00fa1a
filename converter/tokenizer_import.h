// Tokenizers, chat templates and sampler defaults of a checkpoint, into the tables of the model file.
#pragma once

#include "converter/readers/gguf.h"
#include "converter/source.h"

namespace linnet::convert {

// tokenizer.json or tokenizer.model, tokenizer_config.json, generation_config.json, chat_template.jinja of a
// folder. A folder without a tokenizer gives a file without one (with a note). Errors name file and part.
Result<void> import_folder_text(const std::string& folder, Source& source);
// tokenizer.ggml.* of a GGUF file.
Result<void> import_gguf_text(const Gguf& gguf, const std::string& path, Source& source);

// The parsed tokenizer.json; `what` names it in messages.
Result<fb::TokenizerT> import_tokenizer_json(const Json& json, const std::string& what);

// The byte a byte-level vocabulary's character stands for, undone: GPT-2 writes bytes as printable
// characters. False if the piece has a character outside of that alphabet.
bool decode_byte_level(const std::string& piece, std::string& bytes);

}  // namespace linnet::convert
