// Chat templates: the Jinja templates that models carry, rendered as transformers renders them: jinja2's
// immutable sandbox with trim_blocks, lstrip_blocks, loop controls, {% generation %}, and transformers' own
// tojson, raise_exception, strftime_now, dict and namespace. tests/oracles/template_fuzz.py holds it to that.
//
// What Jinja has and this engine has not is refused when a template is parsed, by its line (docs/chat.md has
// the list). Rendering is bounded: in time, in memory, and in stack, for which a thread of 512 KiB is enough.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/result.h"

namespace linnet::text {

// Metadata of a model file whose key begins so holds the text of a token for its template: pad_token and so
// on.
inline constexpr std::string_view kTokenKey = "chat_template.";

struct Message {
  std::string role;  // "system", "user", "assistant", ...
  std::string content;
  bool as_parts = false;  // the template sees [{"type": "text", "text": content}] instead of a text
};

struct RenderOptions {
  bool add_generation_prompt = true;
  // Texts by name: bos_token, eos_token, pad_token, ... What is not here is undefined to the template.
  std::vector<std::pair<std::string, std::string>> tokens;
  // Further variables. true, false, null (also as Python writes them), numbers, and JSON arrays, objects and
  // quoted texts are what they say; everything else is a text.
  std::vector<std::pair<std::string, std::string>> variables;
  // Local time for strftime_now, as seconds since 1970; -1: the clock.
  int64_t now = -1;
};

struct Rendering {
  std::string text;
  // The bytes that came from messages, tools and documents, as [begin, end), ascending.
  std::vector<std::pair<size_t, size_t>> user;
};

// Immutable after parsing; render may be called from any thread.
class ChatTemplate {
 public:
  // Errors: kInvalidFile with the line of the template.
  static Result<ChatTemplate> parse(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Errors: kInvalidArgument with the template's own words when it calls raise_exception (such as "roles must
  // alternate"), what it did that cannot be evaluated, with its line, or a variable that begins like JSON and
  // is none; kUnsupported for what jinja2 would do and this engine does not; kOutOfMemory beyond the bounds.
  Result<Rendering> render(std::span<const Message> messages, const RenderOptions& options) const;
  // The same with all variables from a JSON object.
  Result<Rendering> render_json(std::string_view variables, int64_t now = -1) const;

  // The program behind it; named here so that the evaluator's files can share it.
  struct Program;

 private:
  explicit ChatTemplate(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

}  // namespace linnet::text
