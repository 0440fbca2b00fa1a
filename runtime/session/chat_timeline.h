// The tokens a session has seen, the text they stand for, and the places it can go back to.
//
// The tokens of an answer are rarely those that tokenising its text would give, so a conversation that is
// tokenised anew each turn never meets the state it had. The timeline therefore keeps tokens as they were
// run. A rendering that begins with the text so far needs only its rest tokenised; one that does not goes
// back to the longest beginning that agrees, by text or by tokens.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/session.h"
#include "runtime/session/state_pack.h"

namespace linnet {

class Timeline {
 public:
  // `at_start`: the text begins the conversation.
  using Encode = std::function<Result<std::vector<int32_t>>(std::string_view text, bool at_start)>;
  // Bytes of the rendering that earlier turns have run in some form; asked for only when something is re-run.
  using KnownText = std::function<size_t()>;

  struct Aligned {
    int64_t reused = 0, rerun = 0, fresh = 0;
    bool went_back = false;  // not a plain continuation
    double prefill_seconds = 0;
  };

  // Checkpoints take at most `checkpoint_bytes` together, which are allocated here, and are at most
  // `checkpoints`. `half`: their f32 states are rounded to f16.
  Timeline(Session& session, size_t checkpoint_bytes, int checkpoints, bool half);

  // Brings the session to the end of `rendering` and leaves the logits after it in logits(). Errors: from
  // encode and the session; kInvalidArgument when full attention has no room, before anything changes.
  Result<Aligned> run_to(const std::string& rendering, const Encode& encode, const KnownText& known,
                         const Session::Progress& progress);
  // Feeds one token of an answer. With a `shortlist` only so many of the largest logits are asked for:
  // shortlist() has them, and logits() is empty until read_logits().
  Result<void> feed(int32_t token, size_t shortlist);
  Result<void> read_logits();
  std::span<const float> logits() const { return logits_; }
  std::span<const Ranked> shortlist() const { return shortlist_; }

  // Ends an answer: `pending` is the last sampled token, which was not fed. `answer_text` is the text of the
  // answer's tokens as a rendering writes it; `pending_text` that of `pending`, or empty if `answer_text`
  // holds it already.
  void end_answer(std::string_view answer_text, std::optional<int32_t> pending,
                  std::string_view pending_text);

  // Keeps the present point with its logits, right after run_to().
  Result<void> keep_prompt_end();

  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::string& text() const { return text_; }
  std::optional<int32_t> pending() const { return pending_; }
  const std::string& pending_text() const { return pending_text_; }
  bool exact() const { return exact_; }

  // After the session itself was reset or given another state.
  void adopt(std::vector<int32_t> tokens, std::string text, bool exact, std::optional<int32_t> pending,
             std::string pending_text);
  Result<void> reset();

  int checkpoint_count() const { return static_cast<int>(checkpoints_.size()); }
  size_t checkpoint_bytes() const;  // of all, in use or not
  size_t bytes_each() const;
  size_t text_bytes() const;  // of tokens, their text and the marks in it

 private:
  // Where the text of a beginning of tokens_ ends: at the ends of prompts and answers.
  struct Mark {
    size_t tokens = 0, text = 0;
    std::optional<int32_t> pending;
    std::string pending_text;
  };
  struct Checkpoint {
    size_t tokens = 0;             // how much of tokens_ it stands after
    std::vector<std::byte> state;  // empty where the session can be cut instead
    std::vector<float> logits;
    bool has_logits = false;
  };
  // Text that a new rendering can be continued from.
  struct Base {
    size_t tokens = 0, text = 0;
    std::optional<int32_t> pending;
    bool pending_in_text = false;  // it has no text of its own, and was never run
  };

  static std::optional<Base> base_at(const std::string& rendering, std::string_view text, size_t tokens,
                                     std::optional<int32_t> pending, std::string_view pending_text);
  Base find_base(const std::string& rendering) const;
  const Checkpoint* best_checkpoint(size_t common, size_t target) const;
  // The lowest number of tokens that the state can be cut to without a checkpoint.
  size_t cut_floor() const;
  size_t least_useful() const;
  void release(size_t index);
  void set_logits(Checkpoint& checkpoint) const;
  Result<void> keep(bool with_logits);
  Result<void> go_back(const Checkpoint* checkpoint, size_t cut);
  Result<void> prefill(std::span<const int32_t> tokens, const Session::Progress& progress);
  void make_room(size_t tokens);
  // After the session was given `tokens` at `position`; `fine`: without an error. Allocates nothing after
  // make_room().
  void follow(std::span<const int32_t> tokens, int64_t position, bool fine);

  Session& session_;
  StatePacker packer_;
  bool cuttable_;  // the state can be cut to a prefix: checkpoints keep only logits

  std::vector<int32_t> tokens_;
  std::string text_;  // of tokens_ (and of pending_, if it has no text of its own), if exact_; else of a
                      // beginning of them
  bool exact_ = true;
  std::optional<int32_t> pending_;
  std::string pending_text_;
  std::vector<Mark> marks_;              // by position
  std::vector<Checkpoint> checkpoints_;  // by position
  std::vector<Checkpoint> spare_;        // not in use
  std::vector<float> logits_;
  std::span<const Ranked> shortlist_;  // the session's; empty if the last run gave all logits
};

}  // namespace linnet
