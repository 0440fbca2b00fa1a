#include "runtime/text/template.h"

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_input.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

using jinja::Failure;
using jinja::Value;

Error error_of(const Failure& failure, int line) {
  if (failure.kind == Failure::kRaised)
    return {ErrorCode::kInvalidArgument,
            strf("the chat template refuses the conversation: {}", failure.message)};
  const int at = failure.line > 0 ? failure.line : line;
  const std::string place =
      at > 0 ? strf("line {} of the chat template: ", at) : std::string("the chat template: ");
  switch (failure.kind) {
    case Failure::kBound:
      return {ErrorCode::kOutOfMemory, place + failure.message};
    case Failure::kUnsupported:
      return {ErrorCode::kUnsupported, strf("{}{} is not supported", place, failure.message)};
    default:
      return {ErrorCode::kInvalidArgument, place + failure.message};
  }
}

template <typename F>
Result<Rendering> rendered(const jinja::FunctionNode& root, int64_t now, const F& give) {
  jinja::Evaluator evaluator;
  evaluator.now = now;
  try {
    give(evaluator);
    evaluator.render(root);
    Rendering out;
    for (const jinja::Span& span : evaluator.out.take_spans()) out.user.emplace_back(span.begin, span.end);
    out.text = evaluator.out.take_bytes();
    return out;
  } catch (const Failure& failure) {
    return std::unexpected(error_of(failure, evaluator.line));
  } catch (const std::bad_alloc&) {
    throw;  // the functions around it name it
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidArgument, strf("the chat template cannot be rendered: {}", e.what()));
  }
}

Value message_value(const jinja::Heap& heap, const Message& m) {
  jinja::Dict dict;
  dict.set(heap.text("role"), heap.text(m.role));
  Value content = heap.user_text(m.content);
  if (m.as_parts) {
    jinja::Dict part;
    part.set(heap.text("type"), heap.text("text"));
    part.set(heap.text("text"), std::move(content));
    content = heap.list({heap.dict(std::move(part))});
  }
  dict.set(heap.text("content"), std::move(content));
  return heap.dict(std::move(dict));
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  if (const auto bad = find_invalid_utf8(source))
    return fail(ErrorCode::kInvalidFile, strf("the chat template is not UTF-8 at byte {}", *bad));
  try {
    auto program = std::make_unique<Program>();
    program->root = jinja::parse(source);
    return ChatTemplate(std::move(program));
  } catch (const Failure& failure) {
    const std::string place = failure.line > 0 ? strf("line {} of the chat template: ", failure.line)
                                               : std::string("the chat template: ");
    return fail(ErrorCode::kInvalidFile, place + failure.message);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidFile, strf("the chat template cannot be read: {}", e.what()));
  }
}

Result<Rendering> ChatTemplate::render(std::span<const Message> messages,
                                       const RenderOptions& options) const {
  return rendered(*program_->root, options.now, [&](jinja::Evaluator& e) {
    const jinja::Heap& heap = e.heap;
    jinja::List list;
    for (const Message& m : messages) list.push_back(message_value(heap, m));
    for (const auto& [name, text] : options.tokens) e.given[name] = heap.text(text);
    e.given["messages"] = heap.list(std::move(list));
    e.given["add_generation_prompt"] = Value(options.add_generation_prompt);
    e.given["tools"] = Value(jinja::None{});
    e.given["documents"] = Value(jinja::None{});
    for (const auto& [name, text] : options.variables) {
      try {
        e.given[name] = jinja::read_variable(heap, text, name == "tools" || name == "documents");
      } catch (const Failure& failure) {
        throw Failure{strf("the template variable '{}': {}", name, failure.message), 0, failure.kind};
      }
    }
  });
}

Result<Rendering> ChatTemplate::render_json(std::string_view variables, int64_t now) const {
  return rendered(*program_->root, now, [&](jinja::Evaluator& e) {
    const Value all = jinja::read_json(e.heap, variables, false);
    if (!all.dict()) jinja::fail_with("the variables are no JSON object");
    for (const auto& [name, value] : all.map().entries) e.given[name.bytes()] = value;
  });
}

}  // namespace linnet::text
