// Input that cannot be: an error that names it, and a session that goes on as if nothing had been asked.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

std::vector<float> logits_of(Session& session, std::vector<int32_t> tokens) {
  const auto logits = must(session.prefill(tokens));
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST_CASE("a token that the vocabulary lacks changes nothing") {
  const auto session = tiny_session(), other = tiny_session();
  logits_of(*session, {5, 6, 7});
  logits_of(*other, {5, 6, 7});
  const auto before = state_of(*session);
  std::vector<int32_t> late(600, 9);  // more than a chunk; the last one is wrong
  late.back() = 320;
  for (const std::vector<int32_t>& bad : {std::vector<int32_t>{-1},
                                          {320},
                                          {8, std::numeric_limits<int32_t>::max()},
                                          {std::numeric_limits<int32_t>::min()},
                                          late,
                                          {}}) {
    const auto logits = session->prefill(bad);
    REQUIRE_FALSE(logits);
    CHECK(logits.error().code == ErrorCode::kInvalidArgument);
    if (!bad.empty()) CHECK(logits.error().message.find("320") != std::string::npos);
    CHECK_FALSE(session->poisoned());
    CHECK(session->position() == 3);
    CHECK(state_of(*session) == before);
  }
  CHECK(logits_of(*session, {8}) == logits_of(*other, {8}));
}

TEST_CASE("more tokens than a full context holds change nothing") {
  SessionOptions options;
  options.full_attention = true;
  options.context = 16;
  const auto session = tiny_session(options), other = tiny_session(options);
  logits_of(*session, {5, 6, 7});
  logits_of(*other, {5, 6, 7});
  const auto refused = session->prefill(std::vector<int32_t>(14, 4));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("16") != std::string::npos);
  CHECK_FALSE(session->poisoned());
  const std::vector<int32_t> rest(13, 4);
  CHECK(logits_of(*session, rest) == logits_of(*other, rest));
  CHECK(session->remaining() == 0);
  CHECK_FALSE(session->decode(1));
}

TEST_CASE("blocks and files that are no state of this session change nothing") {
  const auto session = tiny_session();
  logits_of(*session, {5, 6, 7});
  const auto before = state_of(*session);
  std::vector<std::byte> block = before;
  CHECK_FALSE(session->restore(std::span(block).first(block.size() - 1)));
  CHECK_FALSE(session->restore({}));
  CHECK_FALSE(session->snapshot(std::span(block).first(10)));
  CHECK_FALSE(session->load((scratch() / "no-such-file").string()));
  CHECK_FALSE(session->rewind(-1));
  CHECK_FALSE(session->rewind(4));
  CHECK(state_of(*session) == before);
  CHECK_FALSE(session->poisoned());
}

}  // namespace linnet::test
