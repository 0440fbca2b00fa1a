#include "runtime/session/chat_text.h"

#include <algorithm>
#include <ctime>

#include "format/container.h"
#include "format/model_generated.h"

namespace linnet {
namespace {

constexpr std::string_view kGuard = "\xEF\xB7\x90";        // U+FDD0, a noncharacter
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

Result<ChatText> ChatText::create(const Model& model, const ChatOptions& options) {
  const text::Tokenizer* tokenizer = model.tokenizer();
  if (!tokenizer)
    return fail(ErrorCode::kUnsupported,
                "the model file carries no tokenizer: convert it from a checkpoint that has one");
  if (!options.raw && !model.chat_template())
    return fail(ErrorCode::kUnsupported,
                "the model file carries no chat template: it is not made for conversations; --raw goes on "
                "with plain text");
  ChatText out;
  out.tokenizer_ = tokenizer;
  out.template_ = options.raw ? nullptr : model.chat_template();
  const auto& spec = model.file().model().tokenizer;
  out.drops_first_space_ = spec && spec->add_dummy_prefix;
  const auto stops = tokenizer->stop_ids();
  out.stops_.assign(stops.begin(), stops.end());
  if (tokenizer->eos_id() >= 0) out.stops_.push_back(tokenizer->eos_id());
  out.stops_.insert(out.stops_.end(), options.stop_tokens.begin(), options.stop_tokens.end());
  for (const text::AddedToken& token : tokenizer->added_tokens())
    if (token.special && !token.text.empty()) out.specials_.push_back(token.text);
  std::sort(out.specials_.begin(), out.specials_.end(), [](std::string_view a, std::string_view b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  const auto name_of = [&](int32_t id) {
    return id < 0 ? std::string() : std::string(tokenizer->piece(id, true));
  };
  out.render_.bos_token = name_of(tokenizer->bos_id());
  out.render_.eos_token = name_of(tokenizer->eos_id());
  out.render_.variables = options.template_variables;
  // One date for the whole conversation: a clock in the template must not change what was run.
  out.render_.now = static_cast<int64_t>(std::time(nullptr));
  return out;
}

std::string ChatText::guarded(std::string_view text) const {
  std::string out;
  if (!template_) return std::string(text);
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (rest.starts_with(kGuard)) {
      out += kReplacement;
      at += kGuard.size();
      continue;
    }
    const auto special =
        std::ranges::find_if(specials_, [&](std::string_view s) { return rest.starts_with(s); });
    if (special == specials_.end()) {
      out += text[at++];
      continue;
    }
    const size_t first = std::min(special->size(), text::utf8_length(special->front()));
    out += rest.substr(0, first);
    out += kGuard;
    at += first;
  }
  return out;
}

Result<std::string> ChatText::render(std::span<const Message> messages, bool start_answer) const {
  if (!template_) {
    std::string text;
    for (const Message& message : messages) text += message.content;
    return text;
  }
  std::vector<text::Message> given;
  for (const Message& message : messages) given.push_back({message.role, guarded(message.content)});
  text::RenderOptions options = render_;
  options.add_generation_prompt = start_answer;
  return template_->render(given, options);
}

Result<std::vector<int32_t>> ChatText::encode(std::string_view text, bool at_start) const {
  text::EncodeOptions options;
  // A template writes the beginning token itself.
  options.add_special = !template_ && at_start;
  options.parse_special = true;
  options.guard = template_ ? kGuard : std::string_view();
  return tokenizer_->encode(text, options);
}

bool ChatText::is_stop(int32_t token) const { return std::ranges::find(stops_, token) != stops_.end(); }

std::string_view ChatText::piece(int32_t token) const { return tokenizer_->piece(token); }
std::string_view ChatText::special_text(int32_t token) const { return tokenizer_->piece(token, true); }

}  // namespace linnet
