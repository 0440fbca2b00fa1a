#include "runtime/session/chat_timeline.h"

#include <algorithm>
#include <chrono>

#include "runtime/core/strings.h"
#include "runtime/engine/engine.h"

namespace linnet {
namespace {

template <typename A, typename B>
size_t common_prefix(const A& a, const B& b) {
  const size_t n = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

bool starts_with(std::string_view text, std::string_view start, std::string_view then) {
  return text.substr(0, start.size()) == start && text.substr(start.size(), then.size()) == then;
}

// True if every state is a cache that keeps all positions up to the largest context.
bool always_cuttable(const Session& session) {
  if (!session.can_rewind()) return false;
  const int64_t longest = session.position() + std::max<int64_t>(0, session.remaining());
  const auto& states = session.engine().plan().states;
  return std::ranges::all_of(states, [&](const plan::StatePlan& state) { return state.shape[0] >= longest; });
}

}  // namespace

Timeline::Timeline(Session& session, size_t checkpoint_bytes, int checkpoints)
    : session_(session),
      budget_bytes_(checkpoint_bytes),
      most_(static_cast<size_t>(std::max(0, checkpoints))),
      cuttable_(always_cuttable(session)) {
  logits_.reserve(static_cast<size_t>(session.model().vocabulary()));
}

Timeline::Base Timeline::find_base(const std::string& rendering) const {
  if (exact_ && !session_.poisoned()) {
    if (starts_with(rendering, text_, pending_text_))
      return {tokens_.size(), text_.size() + pending_text_.size(), pending_.has_value()};
    if (starts_with(rendering, text_, "")) return {tokens_.size(), text_.size(), false};
  }
  const size_t agree = common_prefix(rendering, text_);
  for (auto c = checkpoints_.rbegin(); c != checkpoints_.rend(); ++c)
    if (c->text <= agree && c->text > 0) return {c->tokens, c->text, false};
  return {};
}

const Timeline::Checkpoint* Timeline::best_checkpoint(size_t common, size_t target) const {
  for (auto c = checkpoints_.rbegin(); c != checkpoints_.rend(); ++c) {
    const bool reachable = !c->state.empty() || (cuttable_ && !session_.poisoned());
    if (reachable && c->tokens <= common && (c->tokens < target || !c->logits.empty())) return &*c;
  }
  return nullptr;
}

Result<void> Timeline::go_back(const Checkpoint* checkpoint, size_t cut) {
  const size_t position = std::max(cut, checkpoint ? checkpoint->tokens : 0);
  if (checkpoint && checkpoint->tokens == position && !checkpoint->state.empty()) {
    LINNET_TRY(session_.restore(checkpoint->state));
  } else if (position > 0) {
    LINNET_TRY(session_.rewind(static_cast<int64_t>(position)));
  } else {
    LINNET_TRY(session_.reset());
  }
  if (checkpoint && checkpoint->tokens == position) logits_ = checkpoint->logits;
  tokens_.resize(position);
  return {};
}

Result<void> Timeline::prefill(std::span<const int32_t> tokens, const Session::Progress& progress) {
  const int64_t before = session_.position();
  const auto logits = session_.prefill(tokens, progress);
  const int64_t fed =
      std::clamp<int64_t>(session_.position() - before, 0, static_cast<int64_t>(tokens.size()));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + fed);
  if (!logits) return std::unexpected(logits.error());
  logits_.assign(logits->begin(), logits->end());
  return {};
}

Result<Timeline::Aligned> Timeline::run_to(const std::string& rendering, const Encode& encode,
                                           const KnownText& known, const Session::Progress& progress) {
  const Base base = find_base(rendering);
  std::vector<int32_t> target(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(base.tokens));
  if (base.pending) target.push_back(*pending_);
  if (base.text < rendering.size()) {
    LINNET_ASSIGN(const std::vector<int32_t> rest,
                  encode(std::string_view(rendering).substr(base.text), target.empty()));
    target.insert(target.end(), rest.begin(), rest.end());
  }
  if (target.empty())
    return fail(ErrorCode::kInvalidArgument, "there is no text to answer: the prompt is empty");

  const size_t seen = tokens_.size();
  const size_t common = common_prefix(target, tokens_);
  const bool standing = !session_.poisoned() && common == seen && seen < target.size();
  const size_t cut = cuttable_ && !session_.poisoned() ? std::min(common, target.size() - 1) : 0;
  const Checkpoint* checkpoint = best_checkpoint(common, target.size());
  const size_t restart = standing ? seen : std::max(cut, checkpoint ? checkpoint->tokens : 0);

  if (session_.remaining() >= 0) {
    const auto context = static_cast<size_t>(session_.remaining() + session_.position());
    if (target.size() > context)
      return fail(ErrorCode::kInvalidArgument,
                  strf("the conversation with this message has {} tokens, the context has room for {}: /undo "
                       "or /reset, or "
                       "start with a larger --context or with --attention window",
                       target.size(), context));
  }

  // Nothing has changed so far; from here on the old end is given up.
  const size_t agree = common_prefix(rendering, text_);
  if (standing) {
    if (exact_) LINNET_TRY(keep(false));
  } else {
    LINNET_TRY(go_back(checkpoint, cut));
  }
  std::erase_if(checkpoints_, [&](const Checkpoint& c) { return c.tokens > restart || c.text > agree; });
  text_.resize(agree);
  exact_ = false;
  pending_.reset();
  pending_text_.clear();

  Aligned aligned;
  aligned.reused = static_cast<int64_t>(restart);
  aligned.went_back = !standing && seen > 0;
  aligned.fresh = static_cast<int64_t>(target.size() - restart);
  if (aligned.went_back && aligned.fresh > 0) {
    const std::string_view unknown = std::string_view(rendering).substr(std::min(rendering.size(), known()));
    LINNET_ASSIGN(const std::vector<int32_t> never_run, encode(unknown, false));
    const int64_t run = aligned.fresh;
    aligned.fresh = std::min(run, static_cast<int64_t>(never_run.size()));
    aligned.rerun = run - aligned.fresh;
  }
  const auto start = std::chrono::steady_clock::now();
  if (restart < target.size()) LINNET_TRY(prefill(std::span(target).subspan(restart), progress));
  aligned.prefill_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  text_ = rendering;
  exact_ = true;
  return aligned;
}

Result<void> Timeline::feed(int32_t token) {
  exact_ = false;
  return prefill({&token, 1}, {});
}

void Timeline::end_answer(std::string_view fed_text, std::optional<int32_t> pending,
                          std::string_view pending_text) {
  if (session_.poisoned()) return;
  text_ += fed_text;
  pending_ = pending;
  pending_text_ = pending_text;
  exact_ = true;
}

Result<void> Timeline::keep_prompt_end() { return keep(true); }

Result<void> Timeline::keep(bool with_logits) {
  if (!checkpoints_.empty() && checkpoints_.back().tokens == tokens_.size()) {
    Checkpoint& last = checkpoints_.back();
    last.text = std::max(last.text, text_.size());
    if (with_logits) last.logits = logits_;
    return {};
  }
  const size_t state = cuttable_ ? 0 : session_.state_bytes();
  const size_t most_bytes = state + logits_.size() * sizeof(float);
  if (most_ == 0 || most_bytes > budget_bytes_ || tokens_.empty()) return {};
  // The memory of the one that makes room is taken over, so that a long conversation's does not move.
  Checkpoint kept;
  while (checkpoints_.size() >= most_ || checkpoint_bytes() + most_bytes > budget_bytes_) {
    kept = std::move(checkpoints_.front());
    checkpoints_.erase(checkpoints_.begin());
  }
  kept.tokens = tokens_.size();
  kept.text = text_.size();
  kept.logits.clear();
  if (with_logits) kept.logits = logits_;
  kept.state.resize(state);
  if (state > 0) LINNET_TRY(session_.snapshot(kept.state));
  checkpoints_.push_back(std::move(kept));
  return {};
}

size_t Timeline::checkpoint_bytes() const {
  size_t bytes = 0;
  for (const Checkpoint& c : checkpoints_) bytes += c.state.capacity() + c.logits.capacity() * sizeof(float);
  return bytes;
}

void Timeline::adopt(std::vector<int32_t> tokens, std::string text, bool exact,
                     std::optional<int32_t> pending, std::string pending_text) {
  tokens_ = std::move(tokens);
  text_ = std::move(text);
  exact_ = exact;
  pending_ = pending;
  pending_text_ = std::move(pending_text);
  checkpoints_.clear();
  logits_.clear();
}

Result<void> Timeline::reset() {
  LINNET_TRY(session_.reset());
  adopt({}, {}, true, std::nullopt, {});
  return {};
}

}  // namespace linnet
