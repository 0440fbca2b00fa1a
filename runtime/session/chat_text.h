// Between messages and tokens: the template, the tokenizer, and what keeps them from being fooled.
//
// A template's own special tokens must become special tokens, but the same characters typed by a user must
// stay text. The template sees messages as they are, and so finds and takes away what it looks for; its
// rendering says which bytes came from messages. A special token with such a byte in it is then broken by a
// guard: a noncharacter, which no text may hold, and which the tokenizer drops again after it has found the
// special tokens.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/chat.h"
#include "runtime/text/template.h"
#include "runtime/text/tokenizer.h"

namespace linnet {

class ChatText {
 public:
  // `raw`: messages are joined as they are. Errors: kUnsupported without tokenizer or template.
  static Result<ChatText> create(const Model& model, const ChatOptions& options);

  Result<std::string> render(std::span<const Message> messages, bool start_answer) const;
  Result<std::vector<int32_t>> encode(std::string_view text, bool at_start) const;
  // A message's text as a rendering has it, where the template writes it as it is.
  std::string guarded(std::string_view text) const;
  bool is_stop(int32_t token) const;
  // The bytes that a token adds to an answer; may be a part of a character. Special tokens add nothing.
  std::string_view piece(int32_t token) const;
  // SentencePiece: the first word of an answer brings a space along that its author did not mean.
  bool drops_first_space() const { return drops_first_space_; }
  // The text that stands for a special token in a rendering.
  std::string_view special_text(int32_t token) const;

 private:
  ChatText() = default;
  void name_tokens(const Model& model);
  Result<void> probe();
  std::string guarded(std::string_view text, const std::vector<std::pair<size_t, size_t>>& user) const;
  std::span<const std::string_view> specials_of(std::string_view rest) const;

  const text::Tokenizer* tokenizer_ = nullptr;
  const text::ChatTemplate* template_ = nullptr;  // null: raw
  bool drops_first_space_ = false;
  std::vector<int32_t> stops_;
  std::vector<std::string_view> specials_;  // in order
  std::set<std::string> parts_;             // roles whose content the template reads as a list of parts
  text::RenderOptions render_;
};

}  // namespace linnet
