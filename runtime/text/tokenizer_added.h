// Finds added tokens in text, as AddedVocabulary of Hugging Face tokenizers does.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer_pieces.h"

namespace linnet::text {

struct AddedPattern {
  int32_t id = -1;
  bool special = false, left_strip = false, right_strip = false, single_word = false;
};

struct Segment {
  int32_t id;             // -1: plain text
  std::string_view text;  // a view into what was cut
};

class AddedMatcher {
 public:
  AddedMatcher() = default;
  AddedMatcher(std::vector<std::string> texts, std::vector<AddedPattern> patterns);

  // Cuts `text` (valid UTF-8) at the added tokens in it: of those that start first the longest, then on
  // behind it. Without `parse_special`, special ones are passed over as text, with all that is inside them.
  void split(std::string_view text, bool parse_special, std::vector<Segment>& segments) const;
  bool empty() const { return patterns_.empty(); }

 private:
  // On the heap, so that the index's view of them survives a move.
  std::vector<std::string> texts_;
  std::vector<AddedPattern> patterns_;
  PrefixIndex index_;
  std::array<bool, 256> starts_ = {};
};

}  // namespace linnet::text
