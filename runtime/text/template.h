// Chat templates: the Jinja templates that models carry, rendered as transformers renders them (sandboxed
// environment, trim_blocks, lstrip_blocks, loop controls, its tojson, raise_exception and strftime_now).
//
// The evaluator is bounded: a template that loops, recurses or writes without end gives an error. What Jinja
// has and no chat template uses (imports, inheritance, line statements, autoescape) is refused when parsed.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/result.h"

namespace linnet::text {

struct Message {
  std::string role;  // "system", "user", "assistant", ...
  std::string content;
};

struct RenderOptions {
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;
  // Further variables of the template, as strings, or as booleans where the value is "true" or "false".
  std::vector<std::pair<std::string, std::string>> variables;
  // Local time for strftime_now, as seconds since 1970; -1: the clock.
  int64_t now = -1;
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
  // alternate"), or what it did that cannot be evaluated, with its line; kOutOfMemory beyond the bounds.
  Result<std::string> render(std::span<const Message> messages, const RenderOptions& options) const;

  // The program behind it; named here so that the evaluator's files can share it.
  struct Program;

 private:
  explicit ChatTemplate(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

}  // namespace linnet::text
