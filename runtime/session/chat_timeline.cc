#include "runtime/session/chat_timeline.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/core/strings.h"

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

}  // namespace

Timeline::Timeline(Session& session, size_t checkpoint_bytes, int checkpoints, bool half)
    : session_(session), packer_(session, half), cuttable_(session.can_rewind()) {
  const auto vocabulary = static_cast<size_t>(session.model().vocabulary());
  logits_.reserve(vocabulary);
  // All memory is taken now, and is resident, so that it does not grow with the conversation.
  spare_.resize(std::min(static_cast<size_t>(std::max(0, checkpoints)), checkpoint_bytes / bytes_each()));
  checkpoints_.reserve(spare_.size());
  for (Checkpoint& c : spare_) {
    c.state.resize(cuttable_ ? 0 : packer_.bytes());
    c.logits.resize(vocabulary);
  }
}

size_t Timeline::bytes_each() const {
  return (cuttable_ ? 0 : packer_.bytes()) + logits_.capacity() * sizeof(float);
}

size_t Timeline::cut_floor() const {
  return cuttable_ && !session_.poisoned() ? static_cast<size_t>(session_.rewind_floor())
                                           : tokens_.size() + 1;
}

// What a rendering that goes on after `text` is continued from: the pending token counts if the rendering has
// its text as well. One without a text of its own is in `text`.
std::optional<Timeline::Base> Timeline::base_at(const std::string& rendering, std::string_view text,
                                                size_t tokens, std::optional<int32_t> pending,
                                                std::string_view pending_text) {
  if (starts_with(rendering, text, pending_text))
    return Base{tokens, text.size() + pending_text.size(), pending, pending && pending_text.empty()};
  if (!pending_text.empty() && starts_with(rendering, text, "")) return Base{tokens, text.size(), {}, false};
  return std::nullopt;
}

Timeline::Base Timeline::find_base(const std::string& rendering) const {
  if (exact_ && !session_.poisoned())
    if (const auto base = base_at(rendering, text_, tokens_.size(), pending_, pending_text_)) return *base;
  for (auto m = marks_.rbegin(); m != marks_.rend(); ++m) {
    const std::string_view text = std::string_view(text_).substr(0, m->text);
    if (const auto base = base_at(rendering, text, m->tokens, m->pending, m->pending_text)) return *base;
  }
  return {};
}

const Timeline::Checkpoint* Timeline::best_checkpoint(size_t common, size_t target) const {
  for (auto c = checkpoints_.rbegin(); c != checkpoints_.rend(); ++c) {
    const bool reachable = !c->state.empty() || c->tokens >= cut_floor();
    if (reachable && c->tokens <= common && (c->tokens < target || c->has_logits)) return &*c;
  }
  return nullptr;
}

Result<void> Timeline::go_back(const Checkpoint* checkpoint, size_t cut) {
  const size_t position = std::max(cut, checkpoint ? checkpoint->tokens : 0);
  shortlist_ = {};
  if (checkpoint && checkpoint->tokens == position && !checkpoint->state.empty()) {
    LINNET_TRY(packer_.restore(session_, checkpoint->state));
  } else if (position > 0) {
    LINNET_TRY(session_.rewind(static_cast<int64_t>(position)));
  } else {
    LINNET_TRY(session_.reset());
  }
  if (checkpoint && checkpoint->tokens == position && checkpoint->has_logits) logits_ = checkpoint->logits;
  tokens_.resize(position);
  return {};
}

Result<void> Timeline::prefill(std::span<const int32_t> tokens, const Session::Progress& progress) {
  shortlist_ = {};
  make_room(tokens.size());
  const int64_t before = session_.position();
  const auto logits = session_.prefill(tokens, progress);
  follow(tokens, before, logits.has_value());
  if (!logits) return std::unexpected(logits.error());
  logits_.assign(logits->begin(), logits->end());
  return {};
}

// Before the session moves on, so that noting where it stands cannot fail.
void Timeline::make_room(size_t tokens) {
  const size_t need = tokens_.size() + tokens;
  if (need > tokens_.capacity()) tokens_.reserve(std::max(need, 2 * tokens_.capacity()));
}

void Timeline::follow(std::span<const int32_t> tokens, int64_t position, bool fine) {
  const int64_t fed =
      std::clamp<int64_t>(session_.position() - position, 0, static_cast<int64_t>(tokens.size()));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.begin() + fed);
  // The latest checkpoint may hold what spoilt the run: the next turn goes back further.
  if (!fine && session_.poisoned() && !checkpoints_.empty()) release(checkpoints_.size() - 1);
}

Result<Timeline::Aligned> Timeline::run_to(const std::string& rendering, const Encode& encode,
                                           const KnownText& known, const Session::Progress& progress) {
  const Base base = find_base(rendering);
  std::vector<int32_t> target(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(base.tokens));
  if (base.pending) target.push_back(*base.pending);
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
  const size_t longest = std::min(common, target.size() - 1);
  const size_t cut = longest >= cut_floor() ? longest : 0;
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
  for (size_t i = checkpoints_.size(); i-- > 0;)
    if (checkpoints_[i].tokens > common) release(i);
  std::erase_if(marks_, [&](const Mark& m) { return m.tokens > common || m.text > agree; });
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
    const int64_t owed = base.pending_in_text && restart <= base.tokens ? 1 : 0;
    aligned.fresh = std::min(run, static_cast<int64_t>(never_run.size()) + owed);
    aligned.rerun = run - aligned.fresh;
  }
  const auto start = std::chrono::steady_clock::now();
  if (restart < target.size()) LINNET_TRY(prefill(std::span(target).subspan(restart), progress));
  aligned.prefill_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  text_ = rendering;
  exact_ = true;
  return aligned;
}

Result<void> Timeline::feed(int32_t token, size_t shortlist) {
  exact_ = false;
  if (shortlist == 0) return prefill({&token, 1}, {});
  logits_.clear();
  shortlist_ = {};
  make_room(1);
  const int64_t before = session_.position();
  const auto largest = session_.decode_largest(token, shortlist);
  follow({&token, 1}, before, largest.has_value());
  if (!largest) return std::unexpected(largest.error());
  shortlist_ = *largest;
  return {};
}

Result<void> Timeline::read_logits() {
  shortlist_ = {};
  LINNET_ASSIGN(const std::span<const float> logits, session_.logits());
  logits_.assign(logits.begin(), logits.end());
  return {};
}

void Timeline::end_answer(std::string_view answer_text, std::optional<int32_t> pending,
                          std::string_view pending_text) {
  if (session_.poisoned()) return;
  text_ += answer_text;
  pending_ = pending;
  pending_text_ = pending_text;
  exact_ = true;
}

Result<void> Timeline::keep_prompt_end() { return keep(true); }

Result<void> Timeline::keep(bool with_logits) {
  if (exact_ && !tokens_.empty() && (marks_.empty() || marks_.back().tokens < tokens_.size()))
    marks_.push_back({tokens_.size(), text_.size(), pending_, pending_text_});
  if (!checkpoints_.empty() && checkpoints_.back().tokens == tokens_.size()) {
    if (with_logits) set_logits(checkpoints_.back());
    return {};
  }
  if (spare_.empty() && !checkpoints_.empty()) release(least_useful());
  if (spare_.empty() || tokens_.empty()) return {};
  Checkpoint kept = std::move(spare_.back());
  spare_.pop_back();
  kept.tokens = tokens_.size();
  kept.has_logits = false;
  if (with_logits) set_logits(kept);
  auto packed = cuttable_ ? Result<void>() : packer_.pack(session_, kept.state);
  (packed ? checkpoints_ : spare_).push_back(std::move(kept));
  return packed;
}

void Timeline::set_logits(Checkpoint& checkpoint) const {
  checkpoint.has_logits = !logits_.empty();
  if (checkpoint.has_logits) std::copy(logits_.begin(), logits_.end(), checkpoint.logits.begin());
}

// Going back a little is frequent and going back far is rare: the last ones (of two turns, if there is room)
// and the first stay, and of the others goes the one whose neighbours are closest together, measured by how
// long ago it was.
size_t Timeline::least_useful() const {
  if (cuttable_ || checkpoints_.size() < 4) return 0;
  const size_t last = std::clamp<size_t>(checkpoints_.size() / 2, 2, 4);
  size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 1; i + last < checkpoints_.size(); ++i) {
    const auto gap = static_cast<double>(checkpoints_[i + 1].tokens - checkpoints_[i - 1].tokens);
    const double score = gap / static_cast<double>(tokens_.size() + 1 - checkpoints_[i].tokens);
    if (score < least) {
      least = score;
      best = i;
    }
  }
  return best;
}

void Timeline::release(size_t index) {
  spare_.push_back(std::move(checkpoints_[index]));
  checkpoints_.erase(checkpoints_.begin() + static_cast<std::ptrdiff_t>(index));
}

size_t Timeline::text_bytes() const {
  return tokens_.capacity() * sizeof(int32_t) + text_.capacity() + marks_.capacity() * sizeof(Mark);
}
size_t Timeline::checkpoint_bytes() const { return (checkpoints_.size() + spare_.size()) * bytes_each(); }

void Timeline::adopt(std::vector<int32_t> tokens, std::string text, bool exact,
                     std::optional<int32_t> pending, std::string pending_text) {
  tokens_ = std::move(tokens);
  text_ = std::move(text);
  exact_ = exact;
  pending_ = pending;
  pending_text_ = std::move(pending_text);
  while (!checkpoints_.empty()) release(checkpoints_.size() - 1);
  marks_.clear();
  logits_.clear();
  shortlist_ = {};
}

Result<void> Timeline::reset() {
  LINNET_TRY(session_.reset());
  adopt({}, {}, true, std::nullopt, {});
  return {};
}

}  // namespace linnet
