// The sampler against the probabilities that transformers' logits processors leave
// (tests/oracles/text_sampler.py), and what it refuses.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/text/sampler.h"

using namespace linnet;
using namespace linnet::text;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SamplerOptions read_options(const nlohmann::json& json) {
  SamplerOptions options;
  options.temperature = json.value("temperature", 0.0f);
  options.top_k = json.value("top_k", 0);
  options.top_p = json.value("top_p", 1.0f);
  options.min_p = json.value("min_p", 0.0f);
  options.repetition_penalty = json.value("repetition_penalty", 1.0f);
  return options;
}

// All logits in order: the first of it is what a GPU leaves.
std::vector<Ranked> in_order(const std::vector<float>& logits) {
  std::vector<Ranked> order;
  for (const float x : logits) order.push_back({static_cast<int32_t>(order.size()), x});
  std::ranges::sort(order, ranks_before);
  return order;
}

}  // namespace

TEST_CASE("tokens are drawn as often as transformers would draw them") {
  std::ifstream file(LINNET_GOLDEN "/text/sampler.json");
  const auto cases = nlohmann::json::parse(file);
  REQUIRE(cases.size() == 30);
  constexpr int kDraws = 20000;
  for (const auto& c : cases) {
    CAPTURE(c["options"].dump());
    std::vector<float> logits;
    for (const auto& x : c["logits"]) logits.push_back(x.is_null() ? -kInfinity : x.get<float>());
    const auto history = c["history"].get<std::vector<int32_t>>();
    const auto expected = c["probabilities"].get<std::vector<double>>();
    Sampler sampler(read_options(c["options"]), logits.size());
    for (const int32_t id : history) sampler.accept(id);
    std::vector<int> drawn(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      const auto id = sampler.sample(logits);
      REQUIRE(id);
      ++drawn[static_cast<size_t>(*id)];
    }
    for (size_t i = 0; i < drawn.size(); ++i) {
      CAPTURE(i);
      const double p = expected[i], share = static_cast<double>(drawn[i]) / kDraws;
      if (p == 0) CHECK(drawn[i] == 0);
      // Five standard deviations: once in millions for a right sampler.
      CHECK(std::fabs(share - p) <= 5 * std::sqrt(p * (1 - p) / kDraws) + 1e-9);
    }
    // A history given with the call counts like the tokens accepted.
    Sampler other(read_options(c["options"]), logits.size());
    sampler.reset();
    for (const int32_t id : history) sampler.accept(id);
    for (int i = 0; i < 50; ++i) CHECK(*sampler.sample(logits) == *other.sample(logits, history));
  }
}

TEST_CASE("temperature 0 takes the most likely token, the first of equals") {
  Sampler sampler({}, 5);
  CHECK(*sampler.sample(std::vector<float>{0, 3, 1, 3, -kInfinity}) == 1);
  CHECK(*sampler.sample(std::vector<float>{-kInfinity, -9, -kInfinity, -9.5f, -kInfinity}) == 1);
  SamplerOptions penalised;
  penalised.repetition_penalty = 2;
  Sampler other(penalised, 3);
  other.accept(0);
  CHECK(*other.sample(std::vector<float>{3, 2, 1}) == 1);        // 3 / 2 < 2
  CHECK(*other.sample(std::vector<float>{-1, -1.5f, -3}) == 1);  // -1 * 2 < -1.5
  other.accept(7);                                               // of no logit: ignored
  CHECK(*other.sample(std::vector<float>{3, 2, 1}) == 1);
}

TEST_CASE("only the last tokens are penalised") {
  SamplerOptions options;
  options.repetition_penalty = 100;
  options.repetition_window = 2;
  Sampler sampler(options, 4);
  for (const int32_t id : {0, 1, 2}) sampler.accept(id);
  CHECK(*sampler.sample(std::vector<float>{9, 8, 7, 6}) == 0);
  CHECK(*sampler.sample(std::vector<float>{1, 8, 7, 6}) == 3);
  sampler.reset();
  CHECK(*sampler.sample(std::vector<float>{1, 8, 7, 6}) == 1);
  CHECK(*sampler.sample(std::vector<float>{1, 8, 7, 6}, std::vector<int32_t>{1, 0, 3}) == 1);
}

TEST_CASE("the largest logits decide as all of them do") {
  int asked = 0, chosen = 0;
  for (const float temperature : {0.0f, 0.8f})
    for (const int top_k : {0, 1, 7, 40})
      for (const float top_p : {1.0f, 0.8f})
        for (const float penalty : {1.0f, 1.3f, 0.8f})
          for (const bool coarse : {false, true}) {
            SamplerOptions options;
            options.temperature = temperature;
            options.top_k = top_k;
            options.top_p = top_p;
            options.min_p = top_k == 7 ? 0.1f : 0.0f;
            options.repetition_penalty = penalty;
            options.repetition_window = 9;
            Sampler all(options, 500), few(options, 500);
            const size_t need = few.shortlist();
            // What a penalty below 1 lifts, and what only a sum over all logits bounds, is not in a short
            // list.
            CHECK((need == 0) == (penalty < 1 || (temperature > 0 && top_k == 0)));
            if (need == 0) {
              CHECK_FALSE(few.sample_shortlist(in_order(std::vector<float>(500)), {}));
              continue;
            }
            CHECK(need <= 50);
            Random random(static_cast<uint64_t>(top_k) + (coarse ? 77 : 0));
            std::vector<int32_t> history;
            for (int i = 0; i < 60; ++i) {
              std::vector<float> logits(500);
              for (float& x : logits) {
                x = static_cast<float>(random.uniform() * 8 - 3);
                if (coarse) x = std::round(x);  // many equal ones
              }
              const auto order = in_order(logits);
              const auto token = few.sample_shortlist(std::span(order).first(need), history);
              REQUIRE(token);
              ++asked;
              const int32_t expected = *all.sample(logits, history);
              if (*token) {
                CHECK(**token == expected);
                ++chosen;
              } else {
                CHECK(coarse);
                CHECK(*few.sample(logits, history) == expected);  // no random number was drawn
              }
              history.push_back(order[random.next() % 5].id);
            }
            const auto flat = in_order(std::vector<float>(500));
            CHECK_FALSE(few.sample_shortlist(std::span(flat).first(need - 1), {}));
          }
  CHECK(chosen > asked / 2);
  CHECK(chosen < asked);
  // A whole vocabulary is a short list too.
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 50;
  Sampler small(options, 3);
  CHECK(small.shortlist() == 3);
  CHECK(small.sample_shortlist(in_order({1, 1, 1}), {}).value().has_value());
}

TEST_CASE("a seed gives the same tokens again") {
  SamplerOptions options;
  options.temperature = 1;
  options.seed = 42;
  const std::vector<float> logits(100, 0.0f);
  Sampler a(options, 100), b(options, 100);
  std::vector<int32_t> first;
  for (int i = 0; i < 64; ++i) first.push_back(*a.sample(logits));
  for (const int32_t id : first) CHECK(*b.sample(logits) == id);
  a.reset();
  CHECK(*a.sample(logits) == first[0]);
  a.seed(43);
  std::vector<int32_t> other;
  for (int i = 0; i < 64; ++i) other.push_back(*a.sample(logits));
  CHECK(other != first);
  // xoshiro256** seeded by splitmix64, so that a seed means the same on every machine.
  Random zero(0);
  CHECK(zero.next() == 11091344671253066420ull);
  CHECK(zero.next() == 13793997310169335082ull);
}

TEST_CASE("numbers that are none, and options out of range, are refused") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  SamplerOptions drawing;
  drawing.temperature = 1;
  for (const SamplerOptions& options : {SamplerOptions{}, drawing}) {
    Sampler sampler(options, 3);
    for (const std::vector<float>& bad :
         {std::vector<float>{0, nan, 0}, {0, kInfinity, 0}, {-kInfinity, -kInfinity, -kInfinity}}) {
      const auto id = sampler.sample(bad);
      REQUIRE_FALSE(id);
      CHECK(id.error().code == ErrorCode::kNumeric);
    }
    const auto id = sampler.sample(std::vector<float>{0, 0});
    REQUIRE_FALSE(id);
    CHECK(id.error().code == ErrorCode::kInvalidArgument);
    CHECK(sampler.sample(std::vector<float>{0, -kInfinity, -kInfinity}) == 0);
  }
  const auto refused = [](auto change) {
    SamplerOptions options;
    change(options);
    const auto checked = Sampler::check(options);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == ErrorCode::kInvalidArgument);
    Sampler sampler(options, 2);
    CHECK_FALSE(sampler.sample(std::vector<float>{0, 1}));
  };
  refused([](auto& o) { o.temperature = -1; });
  refused([&](auto& o) { o.temperature = nan; });
  refused([](auto& o) { o.temperature = kInfinity; });
  refused([](auto& o) { o.top_k = -1; });
  refused([](auto& o) { o.top_p = 0; });
  refused([](auto& o) { o.top_p = 1.5f; });
  refused([&](auto& o) { o.min_p = nan; });
  refused([](auto& o) { o.repetition_penalty = 0; });
  refused([](auto& o) { o.repetition_window = -1; });
  CHECK(Sampler::check({}));
}

TEST_CASE("extreme logits and temperatures still give a token") {
  SamplerOptions options;
  for (const float temperature : {1e-38f, 1e38f}) {
    options.temperature = temperature;
    options.repetition_penalty = 1e30f;
    Sampler sampler(options, 3);
    sampler.accept(2);
    const auto id = sampler.sample(std::vector<float>{-3e38f, 3e38f, -3e38f});
    REQUIRE(id);
    CHECK((*id >= 0 && *id < 3));
  }
}
