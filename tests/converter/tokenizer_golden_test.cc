// Ids of 10,000 texts against Hugging Face tokenizers and sentencepiece, for each golden tokenizer. The
// variable LINNET_TEXT_GOLDEN names one more folder made by tests/oracles/text_tokenizers.py, such as a real
// model's.
//
// Each is read from the file that a checkpoint holds. Hugging Face normalises with tables of Unicode 9 and
// utf8proc with newer ones; the ids a model was trained on decide, so characters that Unicode 9 did not know
// count as it has them (runtime/text/utf8_normalize.cc), U+32FF among these texts.
//
// The committed goldens hold a checksum of each text's ids, not the ids: a text that fails is shown with what
// it gave, and `text_tokenizers.py OUT` writes what it should have given (LINNET_TEXT_GOLDEN=OUT shows it
// here).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/converter/tokenizer_golden.h"
#include "tests/goldens.h"

using namespace linnet::text;

namespace {

uint32_t checksum(std::span<const int32_t> parsed, std::span<const int32_t> as_text) {
  std::string bytes;
  const auto add = [&bytes](int32_t id) {
    for (int shift = 0; shift < 32; shift += 8)
      bytes += static_cast<char>(static_cast<uint32_t>(id) >> shift & 0xFF);
  };
  for (const int32_t id : parsed) add(id);
  add(-2);
  for (const int32_t id : as_text) add(id);
  return crc32(bytes);
}

// The expected ids of each text, as JSON; empty where the folder has checksums only.
std::vector<std::string> read_expected_ids(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string shown(std::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

void check_folder(const std::string& folder) {
  const auto strings = read_strings(folder + "/strings.bin");
  REQUIRE(strings.size() == 10000);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".crc") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  REQUIRE_FALSE(names.empty());
  for (const std::string& name : names) {
    CAPTURE(name);
    const auto spec = read_tokenizer(folder, name);
    REQUIRE_MESSAGE(spec.has_value(), spec.error().message);
    const auto tokenizer = Tokenizer::create(*spec);
    REQUIRE_MESSAGE(tokenizer.has_value(), tokenizer.error().message);
    const auto expected = read_checksums(folder + "/" + name + ".crc");
    REQUIRE(expected.size() == strings.size());
    // SentencePiece itself never parses special tokens.
    const bool parse = spec->kind == TokenizerKind::kByteLevelBpe || !spec->added_tokens.empty();
    const auto expected_ids = read_expected_ids(folder + "/" + name + ".ids");
    size_t wrong = 0;
    for (size_t i = 0; i < strings.size(); ++i) {
      const auto parsed = tokenizer->encode(strings[i], {.add_special = false, .parse_special = parse});
      const auto as_text = tokenizer->encode(strings[i], {.add_special = false});
      REQUIRE_MESSAGE(parsed.has_value(), parsed.error().message);
      REQUIRE_MESSAGE(as_text.has_value(), as_text.error().message);
      if (checksum(*parsed, *as_text) == expected[i]) continue;
      if (++wrong > 5) continue;
      // With special tokens parsed, then as text.
      MESSAGE("text ", i, " ", shown(strings[i]), " gives ", nlohmann::json({*parsed, *as_text}).dump(),
              i < expected_ids.size() ? ", not " + expected_ids[i] : ", of another checksum than the golden");
    }
    MESSAGE(name, ": ", strings.size() - wrong, " of ", strings.size(), " texts give the expected ids");
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("the golden tokenizers give the expected ids") {
  linnet::testing::listed_goldens("text");  // none has vanished
  check_folder(LINNET_GOLDEN "/text");
}

TEST_CASE("another tokenizer gives the expected ids" *
          doctest::skip(std::getenv("LINNET_TEXT_GOLDEN") == nullptr)) {
  check_folder(std::getenv("LINNET_TEXT_GOLDEN"));
}
