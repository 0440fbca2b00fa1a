// The special tokens of a checkpoint, which stand in many places. One rule merges them: of the places that
// name a token (bos, eos, pad), the first one asked wins; every token that any place names as an end ends an
// answer; and so do the tokens that chat formats are known to end turns with, and the one that the chat
// template writes behind an answer.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "converter/readers/json.h"
#include "format/model_generated.h"

namespace linnet::convert {

// No vocabulary has more; an id beyond it would only ask for memory.
inline constexpr size_t kMostPieces = size_t{1} << 22;

class TextFacts {
 public:
  explicit TextFacts(fb::TokenizerT& tokenizer) : t_(tokenizer) {}

  // A token that is found in text whole. An id below 0: the vocabulary's, or the next free one. One that is
  // there already stays as it is, but becomes special if asked for. Errors: kInvalidFile for an id that is
  // another piece's.
  Result<void> add_token(fb::AddedTokenT token, int64_t id, bool may_rename, const std::string& source);
  // `key` of a map of special tokens: a text, or an object with its content. "eos_token" ends answers too.
  Result<void> named(const Json& map, const char* key, const std::string& source);
  // `key` with an id or a list of them, as in config.json. "eos_token_id" ends answers too.
  void ids(const Json& config, const char* key, const std::string& source);
  void stop(int64_t id, const std::string& source);
  // The ends that no place names, by text.
  void known_ends();
  // Renders an answer and looks at what follows it.
  void template_end(const std::string& chat_template);

  // What won, a line each; `notes` gets what a person should know unasked.
  void finish(std::vector<std::string>& details, std::vector<std::string>& notes);

  int find(const std::string& text) const;  // -1: no such token

 private:
  void role(const std::string& key, int id, const std::string& source);

  fb::TokenizerT& t_;
  mutable std::map<std::string, int> index_;
  mutable size_t indexed_ = 0;
  std::map<std::string, std::pair<int, std::string>> roles_;
  std::map<int, std::string> stops_;  // with the places that say so
  std::vector<int> order_;
  std::vector<std::string> added_, notes_;
};

}  // namespace linnet::convert
