// A conversation with a language model: chat template, sampling, streaming, undo, save. The tokens that were
// run and generated are kept exactly as they were; a turn runs only what the state has not seen, and says so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/session.h"

namespace linnet {

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// What is not set comes from the model file's sampler defaults. If the file has none and nothing at all is
// set: temperature 0.7, top-p 0.9, min-p 0.05 and a repetition penalty of 1.1.
struct SamplingOptions {
  std::optional<float> temperature;         // 0: always the most likely token
  std::optional<int> top_k;                 // 0: off
  std::optional<float> top_p;               // 1: off
  std::optional<float> min_p;               // 0: off
  std::optional<float> repetition_penalty;  // 1: off
  // Answers are a function of the seed, the position in the conversation and the count of regenerations.
  uint64_t seed = 0;
};

struct ChatOptions {
  // Unset: the template's own default. Set and empty: an empty system message.
  std::optional<std::string> system;
  SamplingOptions sampling;
  int64_t max_tokens = -1;           // of an answer; -1: until the model stops
  std::vector<int32_t> stop_tokens;  // that end an answer beside the model's own
  // Further variables of the template, such as {"enable_thinking", "false"}.
  std::vector<std::pair<std::string, std::string>> template_variables;
  // No template: the text goes to the model as it is, and special tokens written in it count.
  bool raw = false;
  // Snapshots of the state at turn boundaries, for undo, regenerate and edits, in memory taken at creation.
  // When it is full they are thinned out: the last ones stay close together, older ones further apart. A
  // session that can rewind (full attention, or SessionOptions::history_bytes) keeps only logits in them.
  size_t checkpoint_bytes = size_t{128} << 20;
  int checkpoints = 8;
  // Rounds the f32 states in them to f16: twice as many fit, and what follows going back is no longer exactly
  // what it would have been.
  bool half_checkpoints = false;
  // Most memory of what was said, which alone grows with a conversation: messages, tokens and their text, 27
  // to 51 bytes a token. A turn that begins beyond it is refused, an answer that comes to it ends
  // (kContextFull).
  size_t conversation_bytes = size_t{64} << 20;
  // File that keeps the state after the system prompt; written when it is missing, or in the place of one for
  // another prompt, model or options. Any other file there is refused.
  std::string prefix_cache;
};

enum class StopReason {
  kEndOfAnswer,  // the model ended its answer
  kMaxTokens,
  kStopped,      // the callback returned false
  kContextFull,  // full attention: no token fits any more; or ChatOptions::conversation_bytes are taken
};

struct TurnStats {
  int64_t reused_tokens = 0;  // of the prompt, in the state already
  int64_t rerun_tokens = 0;   // of the prompt, run before and run again
  int64_t new_tokens = 0;     // of the prompt, never run before
  std::string reason;         // why tokens were re-run, or a remark on the prefix cache; may be empty
  int64_t answer_tokens = 0;
  double first_token_seconds = 0;  // from the call to the first token of the answer
  double prefill_seconds = 0;      // of the tokens that were run
  double decode_seconds = 0;       // of the answer's tokens after the first
  double prefill_rate() const {
    return prefill_seconds > 0 ? static_cast<double>(rerun_tokens + new_tokens) / prefill_seconds : 0;
  }
  double decode_rate() const {
    return decode_seconds > 0 && answer_tokens > 1 ? static_cast<double>(answer_tokens - 1) / decode_seconds
                                                   : 0;
  }
};

struct Turn {
  std::string answer;
  StopReason stop = StopReason::kEndOfAnswer;
  TurnStats stats;
};

// Not thread safe; chats are independent of each other.
//
// An operation that fails leaves the messages as they were before it. Where the model itself failed
// (kNumeric), the next turn starts again from the last good checkpoint.
class Chat {
 public:
  // Receives the answer in pieces of whole UTF-8 characters; returns false to stop. What was said until then
  // stays in the conversation.
  using OnText = std::function<bool(std::string_view piece)>;
  // Called between chunks of a prompt; returns false to stop, which fails with kCancelled.
  using OnPrompt = Session::Progress;

  // With a session of its own: ChatOptions::checkpoint_bytes bounds its history and the chat's snapshots
  // together, so SessionOptions::history_bytes is not looked at. Errors: those of Session::create();
  // kUnsupported without a tokenizer, or without a template unless `raw`.
  static Result<std::unique_ptr<Chat>> create(std::shared_ptr<const Model> model, const Backend& backend,
                                              const SessionOptions& session, ChatOptions options);
  // With a session that is there, whose history is not counted.
  static Result<std::unique_ptr<Chat>> create(std::unique_ptr<Session> session, ChatOptions options);
  // What the session of the first create() will take.
  static Result<SessionMemory> memory_required(const Model& model, const Backend& backend,
                                               const SessionOptions& session, const ChatOptions& options);
  ~Chat();

  // Adds a message and generates the answer. Errors: kInvalidArgument for an empty message, for invalid UTF-8
  // (with the byte offset) or when the context or conversation_bytes are full (with the numbers).
  Result<Turn> send(std::string_view text, const OnText& on_text = {}, const OnPrompt& on_prompt = {});
  // Generates the last answer anew.
  Result<Turn> regenerate(const OnText& on_text = {}, const OnPrompt& on_prompt = {});
  // Takes back the last message and its answer.
  Result<void> undo();
  // Replaces the history, an optional system message first. Nothing runs before the next turn.
  Result<void> edit(std::vector<Message> history);
  // Unset: the template's default.
  Result<void> set_system(std::optional<std::string> system);
  // Forgets all but the system message.
  Result<void> reset();

  // The state, the history and the exact tokens, as Session::save() writes. load() refuses a file of another
  // model or other options and leaves the chat unchanged then.
  Result<void> save(const std::string& path, bool replace = true) const;
  Result<void> load(const std::string& path);

  const std::vector<Message>& messages() const;
  const std::vector<int32_t>& tokens() const;  // that the state has seen
  // The messages as the template writes them, followed by the start of an answer.
  Result<std::string> render() const;
  const Session& session() const;
  int checkpoint_count() const;
  size_t checkpoint_bytes() const;  // at most ChatOptions::checkpoint_bytes
  size_t conversation_bytes()
      const;  // of what was said, and what is bounded by ChatOptions::conversation_bytes

  Chat(const Chat&) = delete;
  Chat& operator=(const Chat&) = delete;

 private:
  struct Impl;
  static Result<std::unique_ptr<Chat>> make(std::unique_ptr<Session> session, ChatOptions options);
  explicit Chat(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet
