#include "runtime/text/template.h"

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"

namespace linnet::text {
namespace {

std::string where(const jinja::Failure& failure) {
  return failure.line > 0 ? strf(" (line {} of the template)", failure.line) : std::string();
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  try {
    auto program = std::make_unique<Program>();
    program->body = jinja::parse(source);
    return ChatTemplate(std::move(program));
  } catch (const jinja::Failure& failure) {
    return fail(ErrorCode::kInvalidFile,
                strf("the chat template cannot be read: {}{}", failure.message, where(failure)));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidFile, strf("the chat template cannot be read: {}", e.what()));
  }
}

Result<std::string> ChatTemplate::render(std::span<const Message> messages,
                                         const RenderOptions& options) const {
  using jinja::Value;
  jinja::Evaluator evaluator;
  evaluator.now = options.now;
  auto& globals = evaluator.scopes.emplace_back();
  jinja::List list;
  for (const Message& m : messages)
    list.emplace_back(jinja::Dict{{"role", Value(m.role)}, {"content", Value(m.content)}});
  globals["messages"] = Value(std::move(list));
  globals["add_generation_prompt"] = Value(options.add_generation_prompt);
  globals["bos_token"] = Value(options.bos_token);
  globals["eos_token"] = Value(options.eos_token);
  globals["tools"] = Value(jinja::None{});
  globals["documents"] = Value(jinja::None{});
  for (const auto& [name, value] : options.variables)
    globals[name] = value == "true" ? Value(true) : value == "false" ? Value(false) : Value(value);
  try {
    evaluator.run(program_->body);
    return std::move(evaluator.out);
  } catch (const jinja::Failure& failure) {
    if (failure.raised)
      return fail(ErrorCode::kInvalidArgument,
                  strf("the model's chat template refuses: {}", failure.message));
    return fail(failure.bound ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidArgument,
                strf("the chat template cannot be evaluated: {}{}", failure.message, where(failure)));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidArgument, strf("the chat template cannot be evaluated: {}", e.what()));
  }
}

}  // namespace linnet::text
