#include "runtime/text/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/core/strings.h"

namespace linnet::text {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

size_t window_of(const SamplerOptions& o) {
  return o.repetition_window > 0 ? static_cast<size_t>(o.repetition_window) : 0;
}

}  // namespace

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9E3779B97F4A7C15u;
    uint64_t z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    word = z ^ z >> 31;
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

Sampler::Sampler(const SamplerOptions& options, size_t vocabulary)
    : options_(options), random_(options.seed), logits_(vocabulary), penalized_(vocabulary, false) {
  candidates_.reserve(vocabulary);
  accepted_.reserve(window_of(options));
}

Result<void> Sampler::check(const SamplerOptions& o) {
  const auto bad = [](const char* name, auto value, const char* range) {
    return fail(ErrorCode::kInvalidArgument,
                strf("the sampling option {} is {}; it must be {}", name, value, range));
  };
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature))
    return bad("temperature", o.temperature, "0 or more");
  if (o.top_k < 0) return bad("top-k", o.top_k, "0 (off) or more");
  if (!(o.top_p > 0 && o.top_p <= 1)) return bad("top-p", o.top_p, "over 0 and up to 1 (off)");
  if (!(o.min_p >= 0 && o.min_p <= 1)) return bad("min-p", o.min_p, "from 0 (off) to 1");
  if (!(o.repetition_penalty > 0) || !std::isfinite(o.repetition_penalty))
    return bad("repetition penalty", o.repetition_penalty, "over 0 (1: off)");
  if (o.repetition_window < 0) return bad("repetition window", o.repetition_window, "0 or more");
  return {};
}

Result<int32_t> Sampler::sample(std::span<const float> logits) { return sample(logits, accepted_); }

Result<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  LINNET_TRY(check(options_));
  if (logits.size() != logits_.size() || logits.empty())
    return fail(ErrorCode::kInvalidArgument,
                strf("the sampler was made for {} logits and got {}", logits_.size(), logits.size()));
  float best = -kInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < kInfinity))
      return fail(ErrorCode::kNumeric,
                  strf("the logit of token {} is {}: the model computed no usable numbers", i, logits[i]));
    best = std::max(best, logits[i]);
  }
  if (best == -kInfinity)
    return fail(ErrorCode::kNumeric,
                strf("all {} logits are minus infinity: there is no token to choose", logits.size()));
  std::copy(logits.begin(), logits.end(), logits_.begin());
  penalize(history);
  if (options_.temperature == 0)
    return static_cast<int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i)
    if (logits_[i] > -kInfinity) candidates_.push_back({static_cast<int32_t>(i), logits_[i]});
  keep_top_k();
  return draw();
}

std::span<const int32_t> Sampler::window(std::span<const int32_t> history) const {
  return history.last(std::min(history.size(), window_of(options_)));
}

// As transformers' RepetitionPenaltyLogitsProcessor (Keskar et al. 2019).
float Sampler::penalized(float logit) const {
  if (!(logit > -kInfinity)) return logit;
  // Finite logits stay finite, so that there is always a token to draw.
  return std::clamp(logit < 0 ? logit * options_.repetition_penalty : logit / options_.repetition_penalty,
                    -kLargest, kLargest);
}

// Each token once, however often it was seen.
void Sampler::penalize(std::span<const int32_t> history) {
  if (!penalizes()) return;
  history = window(history);
  const auto valid = [this](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits_.size(); };
  for (const int32_t id : history) {
    if (!valid(id) || penalized_[static_cast<size_t>(id)]) continue;
    penalized_[static_cast<size_t>(id)] = true;
    float& logit = logits_[static_cast<size_t>(id)];
    logit = penalized(logit);
  }
  for (const int32_t id : history)
    if (valid(id)) penalized_[static_cast<size_t>(id)] = false;
}

// A penalty over 1 only lowers logits: as many unpenalised ones as are wanted stand before all others if the
// list has room for every penalised one too. One more shows where equal logits end.
size_t Sampler::shortlist() const {
  if (options_.repetition_penalty < 1 || (options_.temperature > 0 && options_.top_k == 0)) return 0;
  const size_t wanted = options_.temperature == 0 ? 1 : static_cast<size_t>(options_.top_k) + 1;
  return std::min(wanted + (penalizes() ? window_of(options_) : 0), logits_.size());
}

Result<std::optional<int32_t>> Sampler::sample_shortlist(std::span<const Ranked> best,
                                                         std::span<const int32_t> history) {
  LINNET_TRY(check(options_));
  const size_t needed = shortlist();
  if (needed == 0 || best.size() < needed)
    return fail(ErrorCode::kInvalidArgument, strf("{} logits are too few to choose from: {} are needed",
                                                  best.size(), needed == 0 ? logits_.size() : needed));
  candidates_.assign(best.begin(), best.end());
  if (penalizes()) {
    history = window(history);
    for (Ranked& c : candidates_)
      if (std::ranges::find(history, c.id) != history.end()) c.value = penalized(c.value);
  }
  if (options_.temperature == 0) return std::ranges::min_element(candidates_, ranks_before)->id;
  keep_top_k();
  const float lowest = std::ranges::min_element(candidates_, {}, &Ranked::value)->value;
  if (best.size() < logits_.size() && best.back().value >= lowest) return std::nullopt;
  return draw();
}

void Sampler::keep_top_k() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(candidates_.begin(), last, candidates_.end(), ranks_before);
  // Those as likely as the last one stay too.
  const float lowest = last->value;
  std::erase_if(candidates_, [lowest](const Ranked& c) { return c.value < lowest; });
  // The same draw wherever they came from.
  std::ranges::sort(candidates_, {}, &Ranked::id);
}

// From candidates_, of which there is at least one.
int32_t Sampler::draw() {
  const float best = std::ranges::max_element(candidates_, {}, &Ranked::value)->value;
  // Probability relative to the best token's. Relative to it the temperature cannot overflow.
  const auto weight = [&](float logit) {
    return std::exp((static_cast<double>(logit) - best) / options_.temperature);
  };
  if (options_.top_p < 1) {
    double total = 0;
    for (const Ranked& c : candidates_) total += weight(c.value);
    // Takes the best ones off a heap until they hold the mass: mostly few of a large vocabulary.
    const auto worse = [](const Ranked& a, const Ranked& b) { return ranks_before(b, a); };
    std::make_heap(candidates_.begin(), candidates_.end(), worse);
    auto end = candidates_.end();
    double mass = 0;
    while (end != candidates_.begin() && mass < options_.top_p * total) {
      std::pop_heap(candidates_.begin(), end, worse);
      --end;
      mass += weight(end->value);
    }
    candidates_.erase(candidates_.begin(), end);
  }
  if (options_.min_p > 0)
    std::erase_if(candidates_, [&](const Ranked& c) { return weight(c.value) < options_.min_p; });
  double total = 0;
  for (const Ranked& c : candidates_) total += weight(c.value);
  double left = random_.uniform() * total;
  for (const Ranked& c : candidates_) {
    left -= weight(c.value);
    if (left < 0) return c.id;
  }
  return candidates_.back().id;  // what rounding left over
}

void Sampler::accept(int32_t id) {
  if (accepted_.size() < window_of(options_)) {
    accepted_.push_back(id);
  } else if (!accepted_.empty()) {
    accepted_[next_] = id;
    next_ = (next_ + 1) % accepted_.size();
  }
}

void Sampler::reset() {
  accepted_.clear();
  next_ = 0;
  seed(options_.seed);
}

void Sampler::seed(uint64_t seed) { random_ = Random(seed); }

}  // namespace linnet::text
