// Special tokens, wherever a checkpoint names them: beside transformers (tests/oracles/text_facts.py;
// LINNET_TEXT_FACTS names one more file made by it), and case by case what it does not have.
#include <doctest/doctest.h>

#include <cstdlib>

#include "converter/sampler_import.h"
#include "runtime/text/pretokenizer.h"
#include "tests/contains.h"
#include "tests/converter/files.h"
#include "tests/converter/tokenizer_golden.h"

using namespace linnet;
using convert::Json;

namespace {

class TextFolder {
 public:
  explicit TextFolder(const Json& files) {
    for (const auto& [name, content] : files.items())
      std::ofstream(folder_ / name) << (content.is_string() ? content.get<std::string>() : content.dump());
  }
  Result<convert::Source> read(Json config = Json::object()) const {
    convert::Source source;
    source.config = std::move(config);
    LINNET_TRY(convert::import_folder_text(folder_.path(), source));
    return source;
  }

 private:
  testing::TempFolder folder_;
};

void check_file(const std::string& path) {
  std::ifstream lines(path);
  REQUIRE(lines);
  size_t folders = 0, texts = 0, wrong = 0;
  for (std::string line; std::getline(lines, line); ++folders) {
    const Json row = Json::parse(line);
    const auto source = TextFolder(row.at("files")).read();
    REQUIRE_MESSAGE(source.has_value(), source.error().message, line);
    const fb::TokenizerT& t = *source->tokenizer;
    const auto id = [&](const char* key) { return row.at(key).is_null() ? -1 : row.at(key).get<int>(); };
    const bool same = t.bos_id == id("bos") && t.eos_id == id("eos") && t.pad_id == id("pad");
    if (!same)
      MESSAGE("bos, eos and pad are ", Json({t.bos_id, t.eos_id, t.pad_id}).dump(), ", not ",
              Json({id("bos"), id("eos"), id("pad")}).dump(), " in ", row.at("files").dump());
    wrong += !same;
    if (id("eos") >= 0) CHECK(std::find(t.stop_ids.begin(), t.stop_ids.end(), id("eos")) != t.stop_ids.end());
    const auto tokenizer = text::Tokenizer::create(text::from_fb(t));
    REQUIRE_MESSAGE(tokenizer.has_value(), tokenizer.error().message);
    for (const Json& pair : row.at("texts")) {
      const auto ids =
          tokenizer->encode(pair.at(0).get<std::string>(), {.add_special = true, .parse_special = true});
      REQUIRE(ids.has_value());
      ++texts;
      if (*ids == pair.at(1).get<std::vector<int32_t>>()) continue;
      ++wrong;
      MESSAGE(pair.at(0).dump(), " gives ", Json(*ids).dump(), ", not ", pair.at(1).dump(), " in ",
              row.at("files").dump());
    }
  }
  MESSAGE(folders, " folders, ", texts, " texts: ", wrong, " differences");
  CHECK(folders > 0);
  CHECK(wrong == 0);
}

Json byte_tokenizer(Json added = Json::array()) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[text::byte_level_text(std::string(1, static_cast<char>(byte)))] = byte;
  return {{"added_tokens", std::move(added)},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", Json::array()}}}};
}
Json token(int id, const char* text, bool special) {
  return {{"id", id}, {"content", text}, {"special", special}, {"normalized", false}};
}

}  // namespace

TEST_CASE("folders give transformers' special tokens and ids") {
  check_file(LINNET_GOLDEN "/text/facts.jsonl");
}

TEST_CASE("another file of folders does") {
  if (const char* path = std::getenv("LINNET_TEXT_FACTS")) check_file(path);
}

// Folders as users had them, from other runtimes' bug trackers.
TEST_CASE("folders from the field give the ids of the libraries they come from") {
  size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LINNET_GOLDEN "/field")) {
    const std::string path = entry.path().string();
    CAPTURE(path);
    const Json expected = Json::parse(text::read_bytes(path + "/case.json"));
    convert::Source source;
    source.config = Json::object();
    const auto read = convert::import_folder_text(path, source);
    REQUIRE_MESSAGE(read.has_value(), read.error().message);
    const auto tokenizer = text::Tokenizer::create(text::from_fb(*source.tokenizer));
    REQUIRE(tokenizer.has_value());
    const auto ids = tokenizer->encode(expected.at("text").get<std::string>(),
                                       {.add_special = false, .parse_special = true});
    REQUIRE(ids.has_value());
    CHECK(Json(*ids) == expected.at("ids"));
    ++cases;
  }
  CHECK(cases == 6);
}

TEST_CASE("every place that names an end counts, and --verbose says which") {
  const auto ends = [](Json files, Json config = Json::object()) {
    files["tokenizer.json"] = byte_tokenizer(
        Json::array({token(256, "<a>", true), token(257, "<b>", true), token(258, "<c>", false)}));
    auto source = TextFolder(files).read(std::move(config));
    REQUIRE_MESSAGE(source.has_value(), source.error().message);
    return std::move(*source);
  };
  CHECK(ends({}).tokenizer->stop_ids.empty());
  CHECK(testing::contains(ends({}).notes.back(), "no token is known to end an answer"));
  CHECK(ends({{"special_tokens_map.json", {{"eos_token", "<a>"}}}}).tokenizer->stop_ids ==
        std::vector<int>{256});
  CHECK(ends({{"generation_config.json", {{"eos_token_id", {256, 257}}}}}).tokenizer->stop_ids ==
        std::vector<int>{256, 257});
  CHECK(ends({}, {{"eos_token_id", 257}}).tokenizer->stop_ids == std::vector<int>{257});
  CHECK(ends({}, {{"text_config", {{"eos_token_id", 257}}}}).tokenizer->stop_ids == std::vector<int>{257});
  const auto by_template =
      ends({{"tokenizer_config.json",
             {{"eos_token", "<a>"},
              {"chat_template", "{% for m in messages %}{{ m.content }}<c>\n{% endfor %}"}}}});
  CHECK(by_template.tokenizer->stop_ids == std::vector<int>{256, 258});
  std::string details;
  for (const std::string& detail : by_template.details) details += detail + "\n";
  CHECK(testing::contains(details, "'<c>' (258), from the chat template"));
  CHECK(testing::contains(details, "eos_token: '<a>' (256), from tokenizer_config.json"));
}

TEST_CASE("generation_config.json says how tokens are drawn") {
  const auto read = [](const Json& generation) {
    std::vector<std::string> details, notes;
    auto sampler = convert::sampler_defaults(generation, details, notes);
    REQUIRE(sampler.has_value());
    return std::move(*sampler);
  };
  CHECK_FALSE(read(Json::object()));
  CHECK_FALSE(read({{"eos_token_id", 1}}));
  CHECK(read({{"do_sample", false}})->temperature == 0);
  CHECK(read({{"do_sample", false}, {"temperature", 0.7}})->temperature == 0);
  CHECK(read({{"do_sample", true}})->temperature == 1);
  CHECK(read({{"do_sample", true}})->top_k == 50);
  CHECK(read({{"do_sample", true}, {"top_k", 0}})->top_k == 0);
  CHECK(read({{"temperature", 0.5}})->temperature == 0.5f);
  CHECK(read({{"repetition_penalty", 1.5}})->temperature == 0);
  CHECK(read({{"repetition_penalty", 1.5}})->repetition_penalty == 1.5f);
  std::vector<std::string> details, notes;
  REQUIRE(convert::sampler_defaults({{"no_repeat_ngram_size", 3}}, details, notes).has_value());
  CHECK(testing::contains(notes.at(0), "no_repeat_ngram_size"));
  CHECK(testing::contains(convert::sampler_defaults({{"top_p", "x"}}, details, notes).error().message,
                          "'top_p'"));
}

TEST_CASE("numbers as transformers 5 and Python write them") {
  const auto parsed = convert::parse_json(
      R"({"a": {"__float__": "Infinity"}, "b": [-Infinity, NaN], "c": {"__float__": "x"}, "d": "Infinity"})",
      "it", true);
  REQUIRE(parsed.has_value());
  CHECK(convert::number_of((*parsed)["a"], true) == std::numeric_limits<double>::infinity());
  CHECK_FALSE(convert::number_of((*parsed)["a"]).has_value());
  CHECK(convert::number_of((*parsed)["b"][0], true) == -std::numeric_limits<double>::infinity());
  CHECK_FALSE(convert::number_of((*parsed)["b"][1], true).has_value());
  CHECK((*parsed)["c"].is_object());
  CHECK((*parsed)["d"] == "Infinity");
  CHECK(convert::json_text((*parsed)["b"]) == R"(["-Infinity","NaN"])");
  CHECK(convert::integer_of(Json(2.0), 0, 5) == 2);
  CHECK_FALSE(convert::integer_of(Json(2.5), 0, 5).has_value());
  CHECK_FALSE(convert::integer_of(Json(9), 0, 5).has_value());
  CHECK(testing::contains(convert::read_integer(Json("x"), "config.json: 'n'", 0, 5).error().message,
                          "config.json: 'n' is \"x\", expected an integer from 0 to 5"));
}
