// Between messages and tokens: the template, the tokenizer, and what keeps them from being fooled.
//
// A template's own special tokens must become special tokens, but the same characters typed by a user must
// stay text. Before rendering, every special token's text inside a message is broken by a guard: a
// noncharacter, which no text may hold. The tokenizer drops the guard again after it has found the special
// tokens.
#pragma once

#include <span>
#include <string>
#include <string_view>
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
  // A message's text as render() puts it in.
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
  const text::Tokenizer* tokenizer_ = nullptr;
  const text::ChatTemplate* template_ = nullptr;  // null: raw
  bool drops_first_space_ = false;
  std::vector<int32_t> stops_;
  std::vector<std::string_view> specials_;  // longest first
  text::RenderOptions render_;
};

}  // namespace linnet
