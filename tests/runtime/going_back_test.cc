// Going back in a conversation: rows that left the window come back as they were, checkpoints keep to their
// budget, and nothing that is unchanged runs again.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "tests/compare.h"
#include "tests/runtime/tiny_model.h"
#include "tests/sanitized.h"

namespace linnet::test {
namespace {

std::shared_ptr<const Model> golden_model(const std::string& name) {
  convert::ConvertOptions options;
  options.source = std::string(LINNET_GOLDEN "/language/") + name + "/model";
  options.output = (scratch() / (name + ".lnt")).string();
  options.quantize = "f32";
  options.self_test = false;
  if (!std::filesystem::exists(options.output)) must(convert::convert(options));
  return must(Model::open(options.output));
}

std::unique_ptr<Session> session_of(const std::string& name, const SessionOptions& options) {
  return must(Session::create(golden_model(name), cpu(), options));
}

std::vector<int32_t> random_tokens(size_t n, int64_t vocabulary, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary));
  return tokens;
}

std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

struct Case {
  const char* model;
  CachePrecision cache;
  bool full;
};

}  // namespace

TEST_CASE("a session with a history goes back to any token above its floor, to the same bits") {
  for (const Case& c :
       {Case{"llama", CachePrecision::kF16, false}, Case{"llama", CachePrecision::kF32, false},
        Case{"mistral_window", CachePrecision::kF16, false},
        Case{"mistral_window", CachePrecision::kF16, true}, Case{"gemma2", CachePrecision::kF32, false},
        Case{"gemma2", CachePrecision::kF32, true}}) {
    INFO(std::string(c.model));
    SessionOptions options;
    options.window = 24;
    options.sinks = 3;
    options.chunk = 8;
    options.cache = c.cache;
    options.full_attention = c.full;
    options.context = 700;
    const auto plain = session_of(c.model, options);
    options.history_bytes = size_t{1} << 17;
    const auto session = session_of(c.model, options);
    CHECK(session->memory().history_bytes > 0);
    CHECK(session->memory().history_bytes <= options.history_bytes);
    CHECK(session->can_rewind());
    std::mt19937_64 random(1);
    std::vector<int32_t> seen;
    for (int round = 0; round < testing::repetitions(30); ++round) {
      auto more = random_tokens(1 + random() % 60, session->model().vocabulary(), random());
      if (seen.size() + more.size() > 600) more.resize(1);
      const auto logits = copy(must(session->prefill(more)));
      seen.insert(seen.end(), more.begin(), more.end());
      if (round % 3 == 2) {
        must(plain->reset());
        CHECK(logits == copy(must(plain->prefill(seen))));
      }
      const int64_t floor = session->rewind_floor();
      if (floor > 0) {
        const auto refused = session->rewind(floor - 1);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == ErrorCode::kUnsupported);
      }
      // To the floor itself now and then, else anywhere.
      const int64_t span = session->position() - floor + 1;
      const int64_t to =
          round % 5 == 0 ? floor : floor + static_cast<int64_t>(random() % static_cast<uint64_t>(span));
      if (to > 0 && round % 2 == 0) {
        must(session->rewind(to));
        CHECK(session->position() == to);
        seen.resize(static_cast<size_t>(to));
      }
    }
  }
}

TEST_CASE("the floor of a history rises with the conversation, and a restored state starts it anew") {
  SessionOptions options;
  options.window = 16;
  options.sinks = 2;
  options.chunk = 4;
  options.history_bytes = 60000;
  const auto session = tiny_session(options);
  // Six caches of 48 channels in f16.
  const int64_t rows = static_cast<int64_t>(options.history_bytes) / (6 * 48 * 2);
  CHECK(session->memory().history_bytes == static_cast<size_t>(rows) * 6 * 48 * 2);
  must(session->prefill(random_tokens(50, 320, 1)));
  CHECK(session->rewind_floor() == 0);
  must(session->prefill(random_tokens(200, 320, 2)));
  CHECK(session->rewind_floor() == 250 - rows + 16 - 1);
  std::vector<std::byte> block(session->state_bytes());
  must(session->snapshot(block));
  must(session->restore(block));
  // The ring of 16 + 4 - 1 rows is all there is.
  CHECK(session->rewind_floor() == 250 - 19 + 16 - 1);
  must(session->reset());
  CHECK(session->rewind_floor() == 0);
  options.history_bytes = 600;  // less than a ring
  CHECK_FALSE(tiny_session(options)->can_rewind());
  options.history_bytes = 60000;
  CHECK_FALSE(session_of("fla_gla", options)->can_rewind());
}

TEST_CASE("undo, regenerate and edit at 4,000 tokens take under 50 ms before the first token is computed") {
  constexpr int kTokens = testing::kSanitized ? 1000 : 4000;
  for (const bool recurrent : {false, true}) {
    INFO(std::string(recurrent ? "fla_gla" : "llama"));
    SessionOptions bounds;
    bounds.history_bytes = size_t{8} << 20;
    ChatOptions options;
    options.raw = recurrent;  // its checkpoint has no template
    options.max_tokens = 150;
    options.sampling.temperature = 1.0f;
    options.sampling.seed = 5;
    auto session = session_of(recurrent ? "fla_gla" : "llama", bounds);
    CHECK(session->can_rewind() == !recurrent);
    const auto chat = must(Chat::create(std::move(session), options));
    while (chat->session().position() < kTokens)
      must(chat->send("Tell me more about it, and then some more."));
    const auto before_first = [](const Turn& turn) {
      return turn.stats.first_token_seconds - turn.stats.prefill_seconds;
    };
    const Turn again = must(chat->regenerate());
    CHECK(before_first(again) < 0.05);
    CHECK(again.stats.rerun_tokens == 0);
    CHECK(again.stats.new_tokens == 0);
    must(chat->undo());
    const Turn other = must(chat->send("Something else, please."));
    CHECK(before_first(other) < 0.05);
    CHECK(other.stats.rerun_tokens == 0);
    CHECK(other.stats.reused_tokens > kTokens - 500);
    // The second message before the last, changed; what was before it stays.
    std::vector<Message> history = chat->messages();
    history.resize(history.size() - 3);
    history.back().content = "Changed.";
    must(chat->edit(history));
    const Turn edited = must(chat->regenerate());
    CHECK(before_first(edited) < 0.05);
    CHECK(edited.stats.reused_tokens > kTokens - 700);
    CHECK(edited.stats.rerun_tokens + edited.stats.new_tokens < 60);
  }
}

TEST_CASE("a chat with a history takes back every message, and re-runs nothing") {
  SessionOptions bounds;
  bounds.window = 64;
  bounds.chunk = 16;
  bounds.history_bytes = size_t{2} << 20;
  ChatOptions options;
  options.max_tokens = 20;
  options.sampling.temperature = 1.0f;
  const auto chat = tiny_chat(options, bounds);
  for (int i = 0; i < 20; ++i) must(chat->send("message " + std::to_string(i)));
  const auto messages = chat->messages();
  for (int back = 0; back < 15; ++back) must(chat->undo());
  const Turn turn = must(chat->send("Anew"));
  CHECK(turn.stats.rerun_tokens == 0);
  CHECK(turn.stats.reused_tokens > 100);
  // As a chat that never said the rest.
  const auto other = tiny_chat(options, bounds);
  for (int i = 0; i < 5; ++i) must(other->send("message " + std::to_string(i)));
  CHECK(must(other->send("Anew")).answer == turn.answer);
  CHECK(other->tokens() == chat->tokens());
}

TEST_CASE("checkpoints are thinned out, the last ones stay") {
  SessionOptions bounds;
  const size_t state = session_of("fla_gla", bounds)->state_bytes();
  ChatOptions options;
  options.raw = true;
  options.max_tokens = 6;
  options.sampling.temperature = 1.0f;
  options.checkpoint_bytes = 7 * state;
  const auto chat = must(Chat::create(session_of("fla_gla", bounds), options));
  for (int i = 0; i < 40; ++i) {
    must(chat->send("once more"));
    CHECK(chat->checkpoint_bytes() <= options.checkpoint_bytes);
  }
  const int64_t all = chat->session().position();
  // One back: exactly; far back: a part runs again, not all.
  must(chat->undo());
  CHECK(must(chat->send("else")).stats.rerun_tokens == 0);
  for (int i = 0; i < 30; ++i) must(chat->undo());
  const Turn far = must(chat->send("far back"));
  CHECK(far.stats.reused_tokens > 0);
  CHECK(far.stats.reused_tokens < all / 3);
}

TEST_CASE("checkpoints in f16: half the bytes, nearly the same answer") {
  SessionOptions bounds;
  ChatOptions options;
  options.raw = true;
  options.max_tokens = 24;
  options.sampling.temperature = 0.0f;
  const auto exact = must(Chat::create(session_of("fla_gla", bounds), options));
  options.half_checkpoints = true;
  const auto half = must(Chat::create(session_of("fla_gla", bounds), options));
  CHECK(static_cast<double>(half->checkpoint_bytes()) < 0.7 * static_cast<double>(exact->checkpoint_bytes()));
  for (Chat* chat : {exact.get(), half.get()}) {
    must(chat->send("The beginning of a story"));
    must(chat->send("to be taken back"));
    must(chat->undo());
    must(chat->send("and its end"));
  }
  CHECK(half->tokens().size() == exact->tokens().size());
  // The states differ by the rounding of one restore, and by what has been made of it since.
  std::vector<float> a = copy(must(const_cast<Session&>(exact->session()).decode(1)));
  std::vector<float> b = copy(must(const_cast<Session&>(half->session()).decode(1)));
  testing::check_truth("logits", a);
  testing::check_below("logits after a restore from f16", testing::relative_difference(b, a), 5e-3);
}

}  // namespace linnet::test
