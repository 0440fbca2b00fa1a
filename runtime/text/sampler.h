// Chooses the next token from logits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "linnet/ranked.h"
#include "linnet/result.h"

namespace linnet::text {

struct SamplerOptions {
  float temperature = 0;         // 0: always the most likely token
  int top_k = 0;                 // 0: off
  float top_p = 1;               // 1: off
  float min_p = 0;               // 0: off
  float repetition_penalty = 1;  // 1: off
  int repetition_window = 64;    // how many of the last tokens are penalised
  uint64_t seed = 0;
};

// xoshiro256** (Blackman and Vigna), seeded by splitmix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next();
  // In [0, 1), with 53 random bits.
  double uniform();

 private:
  std::array<uint64_t, 4> state_;
};

// Applies what the options ask for in the order of transformers: repetition penalty, temperature, top-k,
// top-p, min-p; then draws. Allocates when it is constructed, and never after. One thread at a time.
class Sampler {
 public:
  // `vocabulary`: how many logits there are.
  Sampler(const SamplerOptions& options, size_t vocabulary);

  // The errors that sample() would give for options out of range: kInvalidArgument.
  static Result<void> check(const SamplerOptions& options);

  // An id in [0, vocabulary); at temperature 0 the lowest of equally likely ones. Logits of minus infinity
  // are never drawn. Errors: kInvalidArgument (options, count of logits), kNumeric (a logit is NaN or plus
  // infinity, or none is finite).
  Result<int32_t> sample(std::span<const float> logits);
  // The same, with the end of `history` penalised in place of the tokens given to accept().
  Result<int32_t> sample(std::span<const float> logits, std::span<const int32_t> history);

  // How many of the largest logits are enough to choose by these options, whatever the others are; 0 if all
  // are needed.
  size_t shortlist() const;
  // The choice of sample(logits, history), from the shortlist() largest of them in order (all, if there are
  // no more). Without a value, and without a number drawn, where logits equal to the last that counts may
  // stand beyond the end: then all are needed.
  Result<std::optional<int32_t>> sample_shortlist(std::span<const Ranked> best,
                                                  std::span<const int32_t> history);

  // Tells which token was taken, for the repetition penalty.
  void accept(int32_t id);
  // Forgets the accepted tokens, and starts the random numbers anew.
  void reset();
  // Starts the random numbers anew, from another seed.
  void seed(uint64_t seed);

 private:
  bool penalizes() const { return options_.repetition_penalty != 1; }
  std::span<const int32_t> window(std::span<const int32_t> history) const;
  float penalized(float logit) const;
  void penalize(std::span<const int32_t> history);
  void keep_top_k();
  int32_t draw();

  SamplerOptions options_;
  Random random_;
  std::vector<float> logits_;
  std::vector<Ranked> candidates_;
  std::vector<int32_t> accepted_;  // the last repetition_window of them; a ring once full
  size_t next_ = 0;
  std::vector<bool> penalized_;
};

}  // namespace linnet::text
