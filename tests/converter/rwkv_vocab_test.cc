// RWKV's vocabulary file into the tokenizer table, and what is wrong with a damaged one.
#include "converter/rwkv_vocab.h"

#include <doctest/doctest.h>

#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("literals of every kind become bytes, and the longest piece is taken") {
  const auto table = convert::import_rwkv_vocab(
      "1 '\\x00' 1\n2 'a' 1\n3 \"'\" 1\n4 '\"' 1\n5 ' ' 1\n6 '\\n\\n' 2\n7 b'\\xe6' 1\n8 b'\\xbc\\xa2' 2\n"
      "9 '\\u6f22' 3\n10 'a a' 3\n11 '\\\\' 1\n12 '\xC3\xA9' 2\r\n13 '\\U0001f600' 4\n15 b\"'b\" 2\n",
      "vocab");
  REQUIRE_MESSAGE(table, message(table));
  CHECK(table->pieces.size() == 16);
  CHECK(table->pieces[1] == std::string(1, '\0'));
  CHECK(table->pieces[7] == "\xE6");
  CHECK(table->kinds[14] == fb::TokenKind::Unused);
  CHECK(table->kinds[0] == fb::TokenKind::Control);
  const auto tokenizer = text::Tokenizer::create(text::from_fb(*table));
  REQUIRE_MESSAGE(tokenizer, message(tokenizer));
  const std::string all = "a aa\n\n\xE6\xBC\xA2\\'b\"\xF0\x9F\x98\x80\xC3\xA9";
  const auto ids = tokenizer->encode(all);
  REQUIRE_MESSAGE(ids, message(ids));
  CHECK(*ids == std::vector<int32_t>{10, 2, 6, 9, 11, 15, 4, 13, 12});
  CHECK(tokenizer->decode(*ids) == all);
  CHECK(tokenizer->is_stop(0));
}

TEST_CASE("damaged vocabularies are refused with the line") {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no vocabulary"},       {"1 'a'\n", "line 1"},           {"1 'a' 1\nx 'b' 1\n", "line 2"},
      {"1 'a' 2\n", "1 bytes"},    {"1 'a' 1\n1 'b' 1\n", "twice"}, {"99999999 'a' 1\n", "line 1"},
      {"1 'a\\q' 1\n", "literal"}, {"1 '\\x1' 1\n", "literal"},     {"1 a 1\n", "literal"},
      {"1 '' 0\n", "literal"},     {"1 b'\\u0041' 1\n", "literal"}, {"-1 'a' 1\n", "line 1"}};
  for (const auto& [text, said] : cases) {
    CAPTURE(text);
    const auto table = convert::import_rwkv_vocab(text, "vocab");
    REQUIRE_FALSE(table);
    CHECK(table.error().code == ErrorCode::kInvalidFile);
    CHECK(contains(message(table), said));
    CHECK(contains(message(table), "vocab"));
  }
}
