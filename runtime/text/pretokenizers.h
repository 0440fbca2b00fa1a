// How named tokenizers cut text before BPE.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace linnet::text {

// GPT-2's own pattern, which ByteLevel of Hugging Face tokenizers uses too.
std::string_view gpt2_pattern();

// The steps behind a GGUF file's tokenizer.ggml.pre; nothing for a name that is not known. The names are
// llama.cpp's, the patterns those of the models' own tokenizer.json.
std::optional<std::vector<PreTokenizerStep>> pretokenizer_preset(std::string_view name);

// Whether the models of that pre-tokenizer take a word that is in the vocabulary whole
// (TokenizerSpec::ignore_merges).
bool preset_ignores_merges(std::string_view name);
// Whether they put the beginning token before a text where the file does not say.
bool preset_adds_bos(std::string_view name);
// All names, with spaces between them.
std::string preset_names();

}  // namespace linnet::text
