// tokenizer.json's options, in random combinations, beside the library that defines them (ids, what is put
// around a text, decoded text), and its whole schema: every field of every type changes something or is
// refused by name.
//
// The goldens are those of tests/oracles/text_options.py; LINNET_TEXT_OPTIONS names one more folder made by
// it.
#include <doctest/doctest.h>

#include <cstdlib>
#include <set>

#include "tests/converter/tokenizer_golden.h"

using namespace linnet;
using convert::Json;

namespace {

Json tokenizer_of(const Json& entry, const Json& models) {
  Json json = entry.at("rest");
  Json model = models.at(entry.at("model").get<std::string>());
  model.update(entry.at("options"));
  json["model"] = std::move(model);
  return json;
}

struct Count {
  size_t texts = 0, refused = 0, wrong_ids = 0, wrong_text = 0;
};

void check_case(const Json& entry, const Json& models, Count& count) {
  const Json json = tokenizer_of(entry, models);
  const auto table = convert::import_tokenizer_json(json, "golden");
  if (!table) {
    ++count.refused;
    // A refusal names the part.
    CHECK_MESSAGE(table.error().message.find("cannot be imported") != std::string::npos,
                  table.error().message);
    MESSAGE("refused: ", table.error().message);
    return;
  }
  const auto tokenizer = text::Tokenizer::create(text::from_fb(*table));
  REQUIRE(tokenizer.has_value());
  for (const Json& row : entry.at("texts")) {
    const auto text = row.at(0).get<std::string>();
    const auto ids = [&row](size_t i) { return row.at(i).get<std::vector<int32_t>>(); };
    const auto encode = [&](bool around, bool special) {
      const auto found = tokenizer->encode(text, {.add_special = around, .parse_special = special});
      REQUIRE_MESSAGE(found.has_value(), found.error().message);
      return *found;
    };
    const auto parsed = encode(false, true), as_text = encode(false, false), around = encode(true, true);
    ++count.texts;
    if (parsed != ids(1) || as_text != ids(2) || around != ids(5)) {
      if (++count.wrong_ids <= 5)
        MESSAGE(Json(text).dump(), " gives ", Json({parsed, as_text, around}).dump(), ", not ",
                Json({ids(1), ids(2), ids(5)}).dump(), " with ", entry.at("model").dump(),
                entry.at("options").dump(), entry.at("rest").dump());
      continue;
    }
    // Bytes that are no characters come out as U+FFFD.
    const auto characters = [](const std::string& bytes) {
      text::Utf8Stream stream;
      std::string out(stream.push(bytes));
      return out.append(stream.finish());
    };
    const std::string shown = characters(tokenizer->decode(parsed)),
                      all = characters(tokenizer->decode(parsed, true));
    // The library joins tokens without a decoder by spaces; Linnet does not (and says so).
    if (entry.at("rest").at("decoder").is_null()) continue;
    if (shown != row.at(3).get<std::string>() || all != row.at(4).get<std::string>()) {
      if (++count.wrong_text <= 5)
        MESSAGE(Json(text).dump(), " is decoded as ",
                Json({shown, all}).dump(-1, ' ', true, Json::error_handler_t::replace), ", not ",
                Json({row.at(3), row.at(4)}).dump(), " with ", entry.at("model").dump(),
                entry.at("options").dump(), entry.at("rest").dump());
    }
  }
}

void check_options_of(const std::string& folder) {
  const Json models = Json::parse(text::read_bytes(folder + "/models.json"));
  std::ifstream lines(folder + "/cases.jsonl");
  REQUIRE(lines);
  Count count;
  size_t cases = 0;
  for (std::string line; std::getline(lines, line); ++cases) check_case(Json::parse(line), models, count);
  MESSAGE(cases, " tokenizers (", count.refused, " refused by name), ", count.texts,
          " texts: ", count.wrong_ids, " with other ids, ", count.wrong_text, " with other decoded text");
  CHECK(cases > 0);
  CHECK(count.wrong_ids == 0);
  CHECK(count.wrong_text == 0);
  CHECK(count.refused * 20 <= cases);  // what the oracle draws is meant to be supported
}

// The least tokenizer.json around one part.
Json around(const std::string& part, Json value) {
  Json json = {
      {"version", "1.0"},
      {"added_tokens", Json::array({{{"id", 3},
                                     {"content", "zz"},
                                     {"special", true},
                                     {"single_word", false},
                                     {"lstrip", false},
                                     {"rstrip", false},
                                     {"normalized", false}}})},
      {"model",
       {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", Json::array({"a b"})}}},
      {"decoder", {{"type", "Fuse"}}}};
  if (part == "added_tokens") {
    value["id"] = 4;
    if (value["content"] == "b") value["content"] = "zy";  // which is in the vocabulary
    json[part].push_back(std::move(value));
  } else {
    json[part] = std::move(value);
  }
  return json;
}

// What an import gives, to compare: everything the table says, or the refusal.
std::string described(const fb::TokenizerT& t) {
  Json json = {{"kind", static_cast<int>(t.kind)},
               {"pieces", t.pieces},
               {"scores", t.scores},
               {"merges", t.merges},
               {"charsmap", t.charsmap},
               {"byte_fallback", t.byte_fallback},
               {"ignore_merges", t.ignore_merges},
               {"unknown", t.unknown_id},
               {"subword_prefix", t.subword_prefix},
               {"word_suffix", t.word_suffix},
               {"separate_unknowns", t.separate_unknowns},
               {"prefix_ids", t.prefix_ids},
               {"suffix_ids", t.suffix_ids}};
  for (const fb::TokenKind kind : t.kinds) json["kinds"].push_back(static_cast<int>(kind));
  for (const auto& [name, steps] : {std::pair{"normalizer", &t.normalizer}, std::pair{"decoder", &t.decoder}})
    for (const auto& step : *steps)
      json[name].push_back(
          {static_cast<int>(step->kind), step->pattern, step->text, step->left, step->right});
  for (const auto& step : t.pre_tokenizer)
    json["pre_tokenizer"].push_back({static_cast<int>(step->kind), step->pattern, step->text, step->invert,
                                     static_cast<int>(step->behavior), static_cast<int>(step->scheme),
                                     step->split});
  for (const auto& token : t.added_tokens)
    json["added"].push_back({token->id, token->text, token->special, token->left_strip, token->right_strip,
                             token->single_word, token->normalized});
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

struct Imported {
  std::string table, refusal;
};
Imported imported(const Json& json) {
  const auto table = convert::import_tokenizer_json(json, "it");
  return table ? Imported{described(*table), ""} : Imported{"", table.error().message};
}

// Other values of a field's kind.
std::vector<Json> others(const Json& value) {
  if (value.is_boolean()) return {!value.get<bool>()};
  if (value.is_number_integer()) return {value.get<int>() + 1};
  if (value.is_number()) return {0.5};
  if (value.is_string()) return {value.get<std::string>() + "q", "Removed", "first", "Left"};
  if (value.is_null()) return {true, 1, 0.5, "b"};
  if (value.is_object()) return {Json{{"Regex", "q"}}, Json::object()};
  return {Json::array(), Json::array({Json{{"type", "NoSuchType"}}})};
}

// Where a value may be without effect: offsets and second texts, which a language model never sees, names for
// people.
const std::set<std::string>& without_effect() {
  static const std::set<std::string> kFields = {"pre_tokenizer ByteLevel trim_offsets",
                                                "decoder ByteLevel add_prefix_space",
                                                "decoder ByteLevel trim_offsets",
                                                "decoder ByteLevel use_regex",
                                                "decoder Metaspace split",
                                                "post_processor ByteLevel add_prefix_space",
                                                "post_processor ByteLevel trim_offsets",
                                                "post_processor ByteLevel use_regex",
                                                "post_processor RobertaProcessing trim_offsets",
                                                "post_processor RobertaProcessing add_prefix_space",
                                                "post_processor TemplateProcessing pair",
                                                "top version"};
  return kFields;
}

void check_fields(const std::string& part, const Json& sample, const std::set<std::string>& known_types) {
  const std::string type = sample.value("type", "");
  CAPTURE(part);
  CAPTURE(type);
  const Imported before = imported(around(part, sample));
  if (!before.refusal.empty()) {
    CHECK_MESSAGE(!known_types.contains(type), before.refusal);
    CHECK(before.refusal.find(type) != std::string::npos);
    return;
  }
  CHECK(known_types.contains(type));
  for (const auto& [key, value] : sample.items()) {
    if (key == "type" || (part == "added_tokens" && key == "id")) continue;
    CAPTURE(key);
    bool seen = without_effect().contains(part + (type.empty() ? "" : " " + type) + " " + key);
    for (const Json& other : others(value)) {
      if (other == value) continue;
      Json changed = sample;
      changed[key] = other;
      const Imported after = imported(around(part, changed));
      seen = seen ||
             (after.refusal.empty() ? after.table != before.table
                                    : after.refusal.find(type.empty() ? key : type) != std::string::npos ||
                                          after.refusal.find("NoSuchType") != std::string::npos);
    }
    CHECK_MESSAGE(seen, "the field is neither honoured nor refused");
  }
  Json more = sample;
  more["a_new_field"] = 1;
  CHECK(imported(around(part, more)).refusal.find("a_new_field") != std::string::npos);
}

}  // namespace

TEST_CASE("random options give the library's ids and texts") {
  check_options_of(LINNET_GOLDEN "/text/options");
}

TEST_CASE("another folder of random options does") {
  if (const char* folder = std::getenv("LINNET_TEXT_OPTIONS")) check_options_of(folder);
}

TEST_CASE("every field of the library's schema is honoured or refused by name") {
  const Json schema = Json::parse(text::read_bytes(LINNET_GOLDEN "/text/options/schema.json"));
  const std::map<std::string, std::set<std::string>> known = {
      {"normalizer",
       {"NFC", "NFD", "NFKC", "NFKD", "Sequence", "Lowercase", "Strip", "StripAccents", "Nmt", "Replace",
        "Prepend", "ByteLevel", "Precompiled"}},
      {"pre_tokenizer",
       {"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation",
        "Sequence", "Split", "Whitespace", "WhitespaceSplit", "FixedLength"}},
      {"decoder",
       {"ByteLevel", "Metaspace", "BPEDecoder", "Sequence", "ByteFallback", "Replace", "Fuse", "Strip"}},
      {"post_processor",
       {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing", "Sequence"}},
      {"model", {"BPE", "Unigram"}}};
  for (const auto& [part, types] : known) {
    std::set<std::string> met;
    for (const Json& sample : schema.at(part)) {
      check_fields(part, sample, types);
      met.insert(sample.value("type", ""));
    }
    for (const std::string& type : types)
      CHECK_MESSAGE(met.contains(type), part, " ", type, " is not in the schema");
  }
  for (const Json& sample : schema.at("added_tokens")) check_fields("added_tokens", sample, {""});
  // At the top: each is a part above, or one of these.
  const std::set<std::string> top = {"version", "truncation", "padding"};
  for (const Json& key : schema.at("top")) {
    const auto name = key.get<std::string>();
    CHECK_MESSAGE((top.contains(name) || known.contains(name) || name == "added_tokens"), name);
  }
  for (const char* part : {"truncation", "padding"}) {
    std::vector<std::string> notes;
    REQUIRE(convert::import_tokenizer_json(around(part, schema.at(part)), "it", &notes).has_value());
    bool said = false;
    for (const std::string& note : notes) said = said || note.find(part) != std::string::npos;
    CHECK_MESSAGE(said, part);
  }
  Json more = around("version", "1.0");
  more["a_new_part"] = 1;
  CHECK(imported(more).refusal.find("a_new_part") != std::string::npos);
}
