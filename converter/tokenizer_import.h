// Tokenizers, chat templates and sampler defaults of a checkpoint, into the tables of the model file.
#pragma once

#include "converter/readers/gguf.h"
#include "converter/source.h"

namespace linnet::convert {

// A folder's tokenizer, special tokens, chat template and sampler settings; docs/models.md has the table of
// which file counts for what. A folder without a tokenizer gives a file without one (with a note). Errors
// name file and part.
Result<void> import_folder_text(const std::string& folder, Source& source);
// tokenizer.ggml.* of a GGUF file.
Result<void> import_gguf_text(const Gguf& gguf, const std::string& path, Source& source);

// The parsed tokenizer.json; `what` names it in messages. What is not applied goes into `notes`. Errors:
// kInvalidFile, kUnsupported, naming the part and the field.
Result<fb::TokenizerT> import_tokenizer_json(const Json& json, const std::string& what,
                                             std::vector<std::string>* notes = nullptr);

// Byte-level BPE in the two files of slow tokenizers. `tokenizer_class` of tokenizer_config.json, or
// model_type where there is none, says how text is cut.
Result<fb::TokenizerT> import_vocab_and_merges(const std::string& vocab, const std::string& merges,
                                               const Json& tokenizer_config, const std::string& model_type,
                                               std::vector<std::string>& notes);
// A file of tiktoken: lines of a piece in base64 and its rank.
Result<fb::TokenizerT> import_tiktoken(const std::string& path, const Json& tokenizer_config,
                                       const std::string& model_type, std::vector<std::string>& notes);
bool is_tiktoken(std::string_view text);

}  // namespace linnet::convert
