#include "linnet/chat.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "format/container.h"
#include "format/model_generated.h"
#include "format/output_file.h"
#include "runtime/core/guard.h"
#include "runtime/core/hash.h"
#include "runtime/core/strings.h"
#include "runtime/engine/engine.h"
#include "runtime/session/chat_file.h"
#include "runtime/session/chat_text.h"
#include "runtime/session/chat_timeline.h"
#include "runtime/session/state_file.h"
#include "runtime/text/sampler.h"
#include "runtime/text/utf8.h"

namespace linnet {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string hex(char byte) {
  char text[8];
  std::snprintf(text, sizeof(text), "%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
  return text;
}

Result<void> check_text(std::string_view text, std::string_view what) {
  if (const auto bad = text::find_invalid_utf8(text))
    return fail(ErrorCode::kInvalidArgument, strf("{} is not valid UTF-8: the byte at offset {} (0x{}) "
                                                  "starts no character; save or send the text as UTF-8",
                                                  what, *bad, hex(text[*bad])));
  return {};
}

Result<void> check_messages(std::span<const Message> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "user" && role != "assistant" && !(role == "system" && i == 0))
      return fail(ErrorCode::kInvalidArgument, strf("message {} has the role '{}': a history is an optional "
                                                    "system message, then 'user' and 'assistant'",
                                                    i, role));
    LINNET_TRY(check_text(messages[i].content, strf("message {}", i)));
  }
  return {};
}

// Most of the budget is for rows that left the window, which reach far back; the rest for the logits of
// checkpoints.
SessionOptions with_history(SessionOptions session, const ChatOptions& options) {
  session.history_bytes = options.checkpoint_bytes / 16 * 15;
  return session;
}

Result<text::Sampler> make_sampler(const Model& model, const SamplingOptions& wanted) {
  text::SamplerOptions options;
  if (const auto& defaults = model.file().model().sampler) {
    options.temperature = defaults->temperature;
    options.top_k = defaults->top_k;
    options.top_p = defaults->top_p;
    options.min_p = defaults->min_p;
    options.repetition_penalty = defaults->repetition_penalty;
  } else if (!wanted.temperature && !wanted.top_k && !wanted.top_p && !wanted.min_p &&
             !wanted.repetition_penalty) {
    // Always the likeliest token, as the library's bare defaults have it, makes small models go round in
    // circles.
    options.temperature = 0.7f;
    options.top_p = 0.9f;
    options.min_p = 0.05f;
    options.repetition_penalty = 1.1f;
  }
  options.temperature = wanted.temperature.value_or(options.temperature);
  options.top_k = wanted.top_k.value_or(options.top_k);
  options.top_p = wanted.top_p.value_or(options.top_p);
  options.min_p = wanted.min_p.value_or(options.min_p);
  options.repetition_penalty = wanted.repetition_penalty.value_or(options.repetition_penalty);
  LINNET_TRY(text::Sampler::check(options));
  return text::Sampler(options, static_cast<size_t>(model.vocabulary()));
}

// The state in a file stands after as many tokens as its history has.
Result<void> check_position(const std::string& path, const StateFile& file, size_t tokens) {
  int64_t position = 0;
  std::memcpy(&position, file.block.data(), sizeof(position));
  if (position >= 0 && static_cast<size_t>(position) == tokens) return {};
  return fail(ErrorCode::kInvalidFile,
              strf("the state file '{}' has a state after {} tokens and a history of {}: it is damaged", path,
                   position, tokens));
}

}  // namespace

struct Chat::Impl {
  Impl(std::unique_ptr<Session> given, ChatOptions chosen, ChatText chat_text, text::Sampler chat_sampler)
      : session(std::move(given)),
        options(std::move(chosen)),
        text(std::move(chat_text)),
        sampler(std::move(chat_sampler)),
        timeline(*session, options.checkpoint_bytes, options.checkpoints, options.half_checkpoints) {}

  std::unique_ptr<Session> session;
  ChatOptions options;
  ChatText text;
  text::Sampler sampler;
  Timeline timeline;
  std::vector<Message> messages;
  std::string_view change;    // what happened since the last turn that makes the state go back: a literal
  uint64_t attempt = 0;       // regenerations of the present answer
  bool prefix_ready = false;  // the prefix cache was looked at since the last reset

  StateKeys keys() const { return {session->engine().state_key(), session->model().file().model_id()}; }
  Timeline::Encode encoder() const {
    return [this](std::string_view t, bool at_start) { return text.encode(t, at_start); };
  }

  Result<Turn> answer(bool seen_before, const OnText& on_text, const OnPrompt& on_prompt);
  Result<Turn> regenerate(const OnText& on_text, const OnPrompt& on_prompt);
  Result<void> load(const std::string& path);
  Result<void> generate(Turn& turn, Clock::time_point start, const OnText& on_text);
  Result<int32_t> choose();
  std::string answer_text(const std::string& answer, bool first_space, std::string_view end);
  size_t known_text(const std::string& rendering, bool seen_before) const;
  std::string explain(const Timeline::Aligned& aligned) const;

  size_t conversation_bytes() const;
  Result<std::string> use_prefix_cache(const OnPrompt& on_prompt);
  Result<std::vector<int32_t>> prefix_tokens() const;
};

// The bytes of the rendering that have been run before in some form: all of it when an answer is generated
// anew, else what the history without the new message gives, up to the end of its last answer: how the
// template goes on from there is part of the new message.
size_t Chat::Impl::known_text(const std::string& rendering, bool seen_before) const {
  if (seen_before) return rendering.size();
  const auto before = text.render(std::span(messages).first(messages.size() - 1), false);
  if (!before) return 0;
  const size_t n = std::min(before->size(), rendering.size());
  const auto same = static_cast<size_t>(
      std::mismatch(before->begin(), before->begin() + static_cast<std::ptrdiff_t>(n), rendering.begin())
          .first -
      before->begin());
  if (messages.size() < 2) return same;
  const std::string last = text.guarded(messages[messages.size() - 2].content);
  const size_t at = before->rfind(last);
  return at == std::string::npos ? same : std::min(same, at + last.size());
}

std::string Chat::Impl::explain(const Timeline::Aligned& aligned) const {
  if (aligned.rerun == 0) return {};
  std::string reason(change.empty() ? "the template writes an earlier answer otherwise than the model said it"
                                    : change);
  if (aligned.reused > 0) return reason;
  const size_t each = timeline.bytes_each();
  if (options.checkpoints <= 0 || options.checkpoint_bytes < each)
    return strf("{}, and no checkpoints are kept (one takes {} bytes, the budget is {})", reason, each,
                options.checkpoints <= 0 ? 0 : options.checkpoint_bytes);
  return reason + ", and no checkpoint reaches back so far";
}

size_t Chat::Impl::conversation_bytes() const {
  size_t bytes = timeline.text_bytes();
  for (const Message& m : messages) bytes += sizeof(m) + m.role.capacity() + m.content.capacity();
  return bytes;
}

Result<Turn> Chat::Impl::answer(bool seen_before, const OnText& on_text, const OnPrompt& on_prompt) {
  const auto start = Clock::now();
  if (const size_t bytes = conversation_bytes(); bytes > options.conversation_bytes)
    return fail(
        ErrorCode::kInvalidArgument,
        strf("the conversation takes {} bytes of memory and may take {}: take messages back, or begin "
             "a new one",
             bytes, options.conversation_bytes));
  LINNET_ASSIGN(std::string rendering, text.render(messages, true));
  LINNET_ASSIGN(const std::string remark, use_prefix_cache(on_prompt));
  Turn turn;
  const auto aligned = timeline.run_to(
      rendering, encoder(), [&] { return known_text(rendering, seen_before); }, on_prompt);
  if (!aligned) {
    if (session->poisoned()) change = "the turn before failed";
    return std::unexpected(aligned.error());
  }
  turn.stats.reused_tokens = aligned->reused;
  turn.stats.rerun_tokens = aligned->rerun;
  turn.stats.new_tokens = aligned->fresh;
  turn.stats.prefill_seconds = aligned->prefill_seconds;
  turn.stats.reason = explain(*aligned);
  if (!remark.empty()) turn.stats.reason += (turn.stats.reason.empty() ? "" : "; ") + remark;
  change = {};
  std::string().swap(rendering);  // the timeline has it: a long conversation is not kept twice
  const auto generated = guarded([&]() -> Result<void> {
    LINNET_TRY(generate(turn, start, on_text));
    messages.push_back({"assistant", turn.answer});
    return {};
  });
  if (!generated) {
    change = "the turn before failed";
    return std::unexpected(generated.error());
  }
  return turn;
}

Result<void> Chat::Impl::generate(Turn& turn, Clock::time_point start, const OnText& on_text) {
  sampler.seed(mix(mix(options.sampling.seed, static_cast<uint64_t>(session->position())), attempt));
  text::Utf8Stream stream;
  bool first_space = false;  // that the tokenizer put before the first word
  std::optional<int32_t> pending;
  std::string pending_text;
  bool kept = false;
  auto decoding = start;
  const size_t said = conversation_bytes();
  const auto show = [&](std::string_view piece) {
    turn.answer += piece;
    return piece.empty() || !on_text || on_text(piece);
  };
  const auto keep = [&]() -> Result<void> {
    if (std::exchange(kept, true)) return {};
    return timeline.keep_prompt_end();
  };
  // Where a few logits decide, only they are fetched.
  const size_t shortlist = sampler.shortlist() <= kMostRanked ? sampler.shortlist() : 0;
  turn.stop = StopReason::kMaxTokens;
  while (options.max_tokens < 0 || turn.stats.answer_tokens < options.max_tokens) {
    if (pending) {
      // Not before the first token was shown: a copy of the state takes time.
      LINNET_TRY(keep());
      // What the answer adds: itself, its text in the timeline, its tokens.
      const size_t grown =
          2 * turn.answer.size() + sizeof(int32_t) * static_cast<size_t>(turn.stats.answer_tokens);
      if (session->remaining() == 0 || said + grown > options.conversation_bytes) {
        turn.stop = StopReason::kContextFull;
        break;
      }
      LINNET_TRY(timeline.feed(*std::exchange(pending, std::nullopt), shortlist));
    }
    LINNET_ASSIGN(const int32_t token, choose());
    if (turn.stats.first_token_seconds == 0) {
      turn.stats.first_token_seconds = seconds_since(start);
      decoding = Clock::now();
    }
    pending = token;
    if (text.is_stop(token)) {
      turn.stop = StopReason::kEndOfAnswer;
      pending_text = text.special_text(token);
      break;
    }
    ++turn.stats.answer_tokens;
    std::string_view piece = text.piece(token);
    if (turn.stats.answer_tokens == 1 && text.drops_first_space() && piece.starts_with(' ')) {
      first_space = true;
      piece.remove_prefix(1);
    }
    if (!show(stream.push(piece))) {
      turn.stop = StopReason::kStopped;
      break;
    }
  }
  turn.stats.decode_seconds = seconds_since(decoding);
  show(stream.finish());
  LINNET_TRY(keep());
  timeline.end_answer(answer_text(turn.answer, first_space, pending_text), pending, pending_text);
  return {};
}

Result<int32_t> Chat::Impl::choose() {
  if (!timeline.shortlist().empty()) {
    LINNET_ASSIGN(const std::optional<int32_t> token,
                  sampler.sample_shortlist(timeline.shortlist(), timeline.tokens()));
    if (token) return *token;
    LINNET_TRY(timeline.read_logits());
  }
  return sampler.sample(timeline.logits(), timeline.tokens());
}

// The answer as the template will write it when the conversation goes on: some put a space before it or take
// the spaces around it away, and its tokens are its tokens all the same. Where the template writes something
// else altogether (an answer without its thoughts), the answer as it was said, which the next turn will not
// find in the rendering.
std::string Chat::Impl::answer_text(const std::string& answer, bool first_space, std::string_view end) {
  const std::string said = text.guarded(answer);
  messages.push_back({"assistant", answer});
  const auto rendering = guarded([&] { return text.render(messages, false); });
  messages.pop_back();
  if (!rendering) return said;
  const std::string_view rest =
      std::string_view(*rendering)
          .substr(rendering->starts_with(timeline.text()) ? timeline.text().size() : rendering->size());
  constexpr std::string_view kSpaces = " \t\r\n";
  const size_t first = said.find_first_not_of(kSpaces), last = said.find_last_not_of(kSpaces);
  const std::string bare = first == std::string::npos ? "" : said.substr(first, last + 1 - first);
  const size_t lead = first == std::string::npos ? 0 : first;
  const std::vector<std::string> forms = {(first_space ? " " : "") + said, said, bare, said.substr(lead),
                                          said.substr(0, lead + bare.size())};
  for (const std::string& form : forms)
    if (rest.starts_with(form) && rest.substr(form.size()).starts_with(end)) return form;
  for (const std::string& form : forms)
    if (rest.starts_with(form)) return form;
  return said;
}

// What every conversation with this system message begins with, whatever the user says.
Result<std::vector<int32_t>> Chat::Impl::prefix_tokens() const {
  std::vector<Message> probe;
  if (!messages.empty() && messages[0].role == "system") probe.push_back(messages[0]);
  probe.push_back({"user", ""});
  std::vector<int32_t> prefix;
  bool first = true;
  // Several beginnings, because a tokenizer may join the first character of a message with what is before it.
  for (const char* beginning : {"a", "A", "1", ".", " ", "\n"}) {
    probe.back().content = beginning;
    LINNET_ASSIGN(const std::string rendering, text.render(probe, true));
    LINNET_ASSIGN(const std::vector<int32_t> tokens, text.encode(rendering, true));
    if (std::exchange(first, false)) {
      prefix = tokens;
    } else {
      const size_t n = std::min(prefix.size(), tokens.size());
      prefix.resize(static_cast<size_t>(
          std::mismatch(prefix.begin(), prefix.begin() + static_cast<std::ptrdiff_t>(n), tokens.begin())
              .first -
          prefix.begin()));
    }
  }
  return prefix;
}

// Returns a remark for the user, or nothing.
Result<std::string> Chat::Impl::use_prefix_cache(const OnPrompt& on_prompt) {
  if (options.prefix_cache.empty() || prefix_ready || !timeline.tokens().empty()) return std::string();
  prefix_ready = true;
  const std::string& path = options.prefix_cache;
  LINNET_ASSIGN(std::vector<int32_t> prefix, prefix_tokens());
  if (prefix.empty())
    return std::string("the prefix cache is not used: conversations with this template share no beginning");
  std::string why = "it was missing";
  if (auto file = read_state_file(path, keys(), session->state_bytes())) {
    const auto record = decode_record(file->attachment);
    if (!record || record->kind != ChatRecord::Kind::kPrefix)
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is a saved conversation, not a prefix cache: name another file", path));
    if (record->tokens == prefix) {
      LINNET_TRY(check_position(path, *file, prefix.size()));
      LINNET_TRY(session->restore(file->block));
      timeline.adopt(std::move(prefix), {}, false, std::nullopt, {});
      return std::string();
    }
    const size_t n = std::min(prefix.size(), record->tokens.size());
    const auto differs =
        std::mismatch(prefix.begin(), prefix.begin() + static_cast<std::ptrdiff_t>(n), record->tokens.begin())
            .first -
        prefix.begin();
    why = strf("its prompt differs from token {} on (of {})", differs, prefix.size());
  } else if (file.error().code != ErrorCode::kNotFound) {
    if (!is_state_file(path))
      return std::unexpected(file.error());  // a file of the user's: not ours to replace
    why = file.error().message;
  }
  LINNET_TRY(session->prefill(prefix, on_prompt));
  ChatRecord record;
  record.kind = ChatRecord::Kind::kPrefix;
  record.tokens = prefix;
  timeline.adopt(std::move(prefix), {}, false, std::nullopt, {});
  if (auto saved = session->save(path, encode_record(record)); !saved)
    return strf("the prefix cache could not be written: {}", saved.error().message);
  return strf("the prefix cache was written ({}: {} tokens)", why, record.tokens.size());
}

Chat::Chat(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Chat::~Chat() = default;

Result<std::unique_ptr<Chat>> Chat::create(std::shared_ptr<const Model> model, const Backend& backend,
                                           const SessionOptions& session, ChatOptions options) {
  return guarded([&]() -> Result<std::unique_ptr<Chat>> {
    LINNET_ASSIGN(auto own, Session::create(std::move(model), backend, with_history(session, options)));
    options.checkpoint_bytes -= own->memory().history_bytes;
    return make(std::move(own), std::move(options));
  });
}

Result<SessionMemory> Chat::memory_required(const Model& model, const Backend& backend,
                                            const SessionOptions& session, const ChatOptions& options) {
  return Session::memory_required(model, backend, with_history(session, options));
}

Result<std::unique_ptr<Chat>> Chat::create(std::unique_ptr<Session> session, ChatOptions options) {
  return guarded([&] { return make(std::move(session), std::move(options)); });
}

Result<std::unique_ptr<Chat>> Chat::make(std::unique_ptr<Session> session, ChatOptions options) {
  if (options.system) LINNET_TRY(check_text(*options.system, "the system message"));
  if (!options.prefix_cache.empty()) LINNET_TRY(format::check_cache(options.prefix_cache));
  const Model& model = session->model();
  LINNET_ASSIGN(ChatText chat_text, ChatText::create(model, options));
  LINNET_ASSIGN(text::Sampler sampler, make_sampler(model, options.sampling));
  const std::optional<std::string> system = options.system;
  std::unique_ptr<Chat> chat(new Chat(std::make_unique<Impl>(std::move(session), std::move(options),
                                                             std::move(chat_text), std::move(sampler))));
  LINNET_TRY(chat->set_system(system));
  return chat;
}

Result<Turn> Chat::send(std::string_view message, const OnText& on_text, const OnPrompt& on_prompt) {
  return guarded([&]() -> Result<Turn> {
    if (message.empty())
      return fail(ErrorCode::kInvalidArgument, "the prompt is empty: there is nothing to answer");
    LINNET_TRY(check_text(message, "the prompt"));
    impl_->messages.push_back({"user", std::string(message)});
    impl_->attempt = 0;
    auto turn = guarded([&] { return impl_->answer(false, on_text, on_prompt); });
    if (!turn) impl_->messages.pop_back();
    return turn;
  });
}

Result<Turn> Chat::regenerate(const OnText& on_text, const OnPrompt& on_prompt) {
  return guarded([&] { return impl_->regenerate(on_text, on_prompt); });
}

Result<Turn> Chat::Impl::regenerate(const OnText& on_text, const OnPrompt& on_prompt) {
  std::optional<Message> old;
  if (!messages.empty() && messages.back().role == "assistant") {
    old = std::move(messages.back());
    messages.pop_back();
  }
  if (messages.empty() || messages.back().role != "user") {
    if (old) messages.push_back(std::move(*old));
    return fail(ErrorCode::kInvalidArgument, "there is no message to answer anew");
  }
  ++attempt;
  if (change.empty()) change = "the answer is generated anew";
  auto turn = guarded([&] { return answer(old.has_value(), on_text, on_prompt); });
  // A message was taken out: its place is still there.
  if (!turn && old) messages.push_back(std::move(*old));
  return turn;
}

Result<void> Chat::undo() {
  return guarded([&]() -> Result<void> {
    auto& messages = impl_->messages;
    const size_t before = messages.size();
    if (!messages.empty() && messages.back().role == "assistant") messages.pop_back();
    if (!messages.empty() && messages.back().role == "user") messages.pop_back();
    if (messages.size() == before) return fail(ErrorCode::kInvalidArgument, "there is nothing to take back");
    impl_->change = "the last exchange was taken back";
    return {};
  });
}

Result<void> Chat::edit(std::vector<Message> history) {
  return guarded([&]() -> Result<void> {
    LINNET_TRY(check_messages(history));
    impl_->messages = std::move(history);
    impl_->change = "the history was edited";
    return {};
  });
}

Result<void> Chat::set_system(std::optional<std::string> system) {
  return guarded([&]() -> Result<void> {
    if (system) LINNET_TRY(check_text(*system, "the system message"));
    auto& messages = impl_->messages;
    const bool present = !messages.empty() && messages[0].role == "system";
    if (system && present) {
      messages[0].content = std::move(*system);
    } else if (system) {
      messages.insert(messages.begin(), {"system", std::move(*system)});
    } else if (present) {
      messages.erase(messages.begin());
    }
    if (!impl_->timeline.tokens().empty()) impl_->change = "the system message changed";
    return {};
  });
}

Result<void> Chat::reset() {
  return guarded([&]() -> Result<void> {
    LINNET_TRY(impl_->timeline.reset());
    auto& messages = impl_->messages;
    messages.erase(messages.begin() + (!messages.empty() && messages[0].role == "system" ? 1 : 0),
                   messages.end());
    impl_->change = {};
    impl_->prefix_ready = false;
    return {};
  });
}

Result<void> Chat::save(const std::string& path, bool replace) const {
  return guarded([&]() -> Result<void> {
    const Timeline& timeline = impl_->timeline;
    ChatRecord record;
    record.messages = impl_->messages;
    record.tokens = timeline.tokens();
    record.text = timeline.text();
    record.exact = timeline.exact();
    record.pending = timeline.pending();
    record.pending_text = timeline.pending_text();
    return impl_->session->save(path, encode_record(record), replace);
  });
}

Result<void> Chat::load(const std::string& path) {
  return guarded([&] { return impl_->load(path); });
}

Result<void> Chat::Impl::load(const std::string& path) {
  LINNET_ASSIGN(StateFile file, read_state_file(path, keys(), session->state_bytes()));
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidFile, strf("the state file '{}' {}", path, why));
  };
  auto record = decode_record(file.attachment);
  if (!record) return refuse(record.error().message);
  if (record->kind != ChatRecord::Kind::kChat) return refuse("is a prefix cache, not a conversation");
  const int64_t vocabulary = session->model().vocabulary();
  const auto valid = [&](int32_t id) { return id >= 0 && id < vocabulary; };
  if (!std::ranges::all_of(record->tokens, valid) || (record->pending && !valid(*record->pending)))
    return refuse("holds tokens that this model lacks: it is damaged");
  if (auto checked = check_messages(record->messages); !checked) return refuse(checked.error().message);
  LINNET_TRY(check_position(path, file, record->tokens.size()));
  LINNET_TRY(session->restore(file.block));
  timeline.adopt(std::move(record->tokens), std::move(record->text), record->exact, record->pending,
                 std::move(record->pending_text));
  messages = std::move(record->messages);
  change = {};
  prefix_ready = true;
  return {};
}

const std::vector<Message>& Chat::messages() const { return impl_->messages; }
const std::vector<int32_t>& Chat::tokens() const { return impl_->timeline.tokens(); }
Result<std::string> Chat::render() const {
  return guarded([&] { return impl_->text.render(impl_->messages, true); });
}
const Session& Chat::session() const { return *impl_->session; }
int Chat::checkpoint_count() const { return impl_->timeline.checkpoint_count(); }
size_t Chat::checkpoint_bytes() const { return impl_->timeline.checkpoint_bytes(); }
size_t Chat::conversation_bytes() const { return impl_->conversation_bytes(); }

}  // namespace linnet
