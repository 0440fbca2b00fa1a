#include "runtime/text/tokenizer_added.h"

#include <algorithm>
#include <utility>

#include "runtime/text/utf8.h"

namespace linnet::text {

AddedMatcher::AddedMatcher(std::vector<std::string> texts, std::vector<AddedPattern> patterns)
    : texts_(std::move(texts)),
      patterns_(std::move(patterns)),
      index_(texts_, std::vector<bool>(texts_.size(), true)) {
  for (const std::string& text : texts_)
    if (!text.empty()) starts_[static_cast<unsigned char>(text[0])] = true;
}

void AddedMatcher::split(std::string_view text, bool parse_special, std::vector<Segment>& segments) const {
  segments.clear();
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !patterns_.empty();) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    size_t length = 0;
    const int32_t found = index_.longest_prefix(text.substr(at), length);
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedPattern& pattern = patterns_[static_cast<size_t>(found)];
    size_t begin = at, end = at + length;
    at = end;
    if (pattern.special && !parse_special) continue;
    if (pattern.single_word) {
      size_t before = begin, after = end;
      if (begin > 0 && is_word(previous_char(text, before))) continue;
      if (end < text.size() && is_word(next_char(text, after))) continue;
    }
    if (pattern.left_strip) {
      // What the token before has taken already stays with it.
      for (size_t i = begin; begin > done && is_space(previous_char(text, i));) begin = i;
      begin = std::max(begin, done);
    }
    if (pattern.right_strip)
      for (size_t i = end; end < text.size() && is_space(next_char(text, i));) end = i;
    // The white space that the token before took along may have been this one.
    if (end <= begin) {
      done = end;
      continue;
    }
    if (done < begin) segments.push_back({-1, text.substr(done, begin - done)});
    segments.push_back({pattern.id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) segments.push_back({-1, text.substr(done)});
}

}  // namespace linnet::text
