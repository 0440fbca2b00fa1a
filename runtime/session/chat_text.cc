#include "runtime/session/chat_text.h"

#include <algorithm>
#include <ctime>
#include <optional>

#include "format/container.h"
#include "format/model_generated.h"

namespace linnet {
namespace {

constexpr std::string_view kGuard = "\xEF\xB7\x90";        // U+FDD0, a noncharacter
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The guard is no text's: a user's becomes U+FFFD.
std::string without_guards(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t guard = std::min(text.find(kGuard, at), text.size());
    out += text.substr(at, guard - at);
    if (guard < text.size()) out += kReplacement;
    at = guard + (guard < text.size() ? kGuard.size() : 0);
  }
  return out;
}

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
  std::ranges::sort(out.specials_);
  out.name_tokens(model);
  out.render_.variables = options.template_variables;
  // One date for the whole conversation: a clock in the template must not change what was run.
  out.render_.now = static_cast<int64_t>(std::time(nullptr));
  if (out.template_) LINNET_TRY(out.probe());
  return out;
}

// The texts of tokens that the template may ask for, as the converter found them; a file without them has the
// ids of its tokenizer.
void ChatText::name_tokens(const Model& model) {
  for (const auto& entry : model.file().model().metadata)
    if (entry->key.starts_with(text::kTokenKey))
      render_.tokens.emplace_back(entry->key.substr(text::kTokenKey.size()), entry->value);
  if (!render_.tokens.empty()) return;
  const auto name = [&](const char* which, int32_t id) {
    if (id >= 0) render_.tokens.emplace_back(which, std::string(tokenizer_->piece(id, true)));
  };
  name("bos_token", tokenizer_->bos_id());
  name("eos_token", tokenizer_->eos_id());
  if (const auto& spec = model.file().model().tokenizer) {
    name("pad_token", spec->pad_id);
    name("unk_token", spec->unknown_id);
  }
}

// Which form of a message's content the template reads: it is shown two conversations that differ in what one
// role says, as texts and as lists of parts. Where the texts make no difference and the parts do, the role's
// messages are given as parts. A template that refuses such conversations tells nothing, and is given texts.
Result<void> ChatText::probe() {
  // `others`: the form of the other roles' messages.
  const auto seen = [&](const std::string& role, bool as_parts, bool others) -> std::optional<bool> {
    for (const bool long_chat : {true, false}) {
      if (!long_chat && role == "assistant") return std::nullopt;
      std::string shown[2];
      bool rendered = true;
      for (size_t i = 0; i < 2 && rendered; ++i) {
        std::vector<text::Message> chat;
        if (role == "system") chat.push_back({"system", "alpha"});
        chat.push_back({"user", "beta"});
        if (long_chat) {
          chat.push_back({"assistant", "gamma"});
          chat.push_back({"user", "delta"});
        }
        for (text::Message& m : chat) {
          m.as_parts = m.role == role ? as_parts : others || parts_.contains(m.role);
          if (m.role == role) m.content = i == 0 ? "linnet" : "siskin";
        }
        auto rendering = template_->render(chat, render_);
        rendered = rendering.has_value();
        if (rendered) shown[i] = std::move(rendering->text);
      }
      if (rendered) return shown[0] != shown[1];
    }
    return std::nullopt;
  };
  for (const char* role : {"user", "assistant", "system"}) {
    const auto as_text = seen(role, false, false);
    if (as_text == true) continue;
    const auto as_parts = seen(role, true, true), alone = seen(role, true, false);
    if (as_parts == true || alone == true)
      parts_.insert(role);
    else if (std::string_view(role) == "user" && as_text == false)
      return fail(
          ErrorCode::kUnsupported,
          "the chat template never writes what the user says, neither as a text nor as a list of parts: "
          "--raw goes on with plain text");
  }
  return {};
}

std::string ChatText::guarded(std::string_view text) const {
  if (!template_) return std::string(text);
  const std::string plain = without_guards(text);
  return guarded(plain, {{0, plain.size()}});
}

// A special token's text is broken wherever a byte of it is the user's; where the template wrote a shorter
// special token at the same place, behind that one.
std::string ChatText::guarded(std::string_view text,
                              const std::vector<std::pair<size_t, size_t>>& user) const {
  std::string out;
  size_t next = 0;  // the first stretch of the user's that ends behind `at`
  for (size_t at = 0; at < text.size();) {
    while (next < user.size() && user[next].second <= at) ++next;
    const auto is_users = [&](size_t end) { return next < user.size() && user[next].first < end; };
    const std::string_view rest = text.substr(at);
    size_t written = 0;  // by the template alone
    bool typed = false;  // a longer one with the user's bytes
    for (const std::string_view special : specials_of(rest)) {
      if (!rest.starts_with(special)) continue;
      if (is_users(at + special.size()))
        typed = true;
      else
        written = std::max(written, special.size());
    }
    const size_t step = written > 0 ? written
                        : typed     ? std::min(rest.size(), text::utf8_length(rest.front()))
                                    : 1;
    out += rest.substr(0, step);
    if (typed) out += kGuard;
    at += step;
  }
  return out;
}

// Those that begin with the same byte.
std::span<const std::string_view> ChatText::specials_of(std::string_view rest) const {
  const auto range =
      std::ranges::equal_range(specials_, rest.front(), {}, [](std::string_view s) { return s.front(); });
  return {range.begin(), range.end()};
}

Result<std::string> ChatText::render(std::span<const Message> messages, bool start_answer) const {
  if (!template_) {
    std::string text;
    for (const Message& message : messages) text += message.content;
    return text;
  }
  std::vector<text::Message> given;
  for (const Message& message : messages)
    given.push_back({message.role, without_guards(message.content), parts_.contains(message.role)});
  text::RenderOptions options = render_;
  options.add_generation_prompt = start_answer;
  LINNET_ASSIGN(const text::Rendering rendering, template_->render(given, options));
  return guarded(rendering.text, rendering.user);
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
