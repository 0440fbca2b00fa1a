// Normalizers, pre-tokenizers and decoders of tokenizer.json as steps of the file's tokenizer table. What
// changes ids or printed text and is not understood is refused by name.
#include "converter/tokenizer_json.h"
#include "runtime/core/strings.h"
#include "runtime/text/charsmap.h"
#include "runtime/text/pretokenizers.h"
#include "runtime/text/regex.h"

namespace linnet::convert {
namespace {

using Steps = std::vector<std::unique_ptr<fb::TextStepT>>;

void add(Steps& steps, fb::TextStepKind kind, std::string text = "", std::string pattern = "", int left = 0,
         int right = 0) {
  auto step = std::make_unique<fb::TextStepT>();
  step->kind = kind;
  step->text = std::move(text);
  step->pattern = std::move(pattern);
  step->left = left;
  step->right = right;
  steps.push_back(std::move(step));
}

bool decode_base64(const std::string& text, std::vector<uint8_t>& bytes) {
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<uint8_t>(bits >> held));
    }
  }
  return true;
}

// {"String": ...} or {"Regex": ...}, as a pattern; empty after a refusal.
std::string pattern_of(JsonFields& in) {
  const Json* pattern = in.find("pattern");
  if (pattern && pattern->is_object() && pattern->size() == 1 && pattern->begin()->is_string()) {
    const std::string value = pattern->begin()->get<std::string>();
    if (pattern->begin().key() == "Regex" && !value.empty()) return value;
    if (pattern->begin().key() == "String" && !value.empty()) return text::quoted_pattern(value);
  }
  in.refuse(strf("has the pattern {}, expected a String or a Regex", pattern ? json_text(*pattern) : "null"));
  return {};
}

fb::SplitBehavior behavior_of(JsonFields& in, const std::string& absent) {
  static const std::map<std::string, fb::SplitBehavior> kNames = {
      {"Isolated", fb::SplitBehavior::Isolated},
      {"Removed", fb::SplitBehavior::Removed},
      {"MergedWithPrevious", fb::SplitBehavior::MergedWithPrevious},
      {"MergedWithNext", fb::SplitBehavior::MergedWithNext},
      {"Contiguous", fb::SplitBehavior::Contiguous}};
  const std::string name = in.text("behavior", absent);
  const auto it = kNames.find(name);
  if (it != kNames.end()) return it->second;
  in.refuse(strf("has the split behaviour '{}', which Linnet does not have", name));
  return fb::SplitBehavior::Isolated;
}

// Metaspace's fields, of the pre-tokenizer and of the decoder.
struct Metaspace {
  std::string text;
  fb::PrefixScheme scheme = fb::PrefixScheme::Always;
  bool split = true;
};
Metaspace read_metaspace(JsonFields& in) {
  Metaspace m;
  m.text = in.text("replacement", kBlock);
  if (m.text.empty()) in.refuse("has no replacement");
  static const std::map<std::string, fb::PrefixScheme> kSchemes = {{"always", fb::PrefixScheme::Always},
                                                                   {"first", fb::PrefixScheme::First},
                                                                   {"never", fb::PrefixScheme::Never}};
  const bool old = in.flag("add_prefix_space", true);  // before there were schemes
  const std::string scheme = in.text("prepend_scheme", old ? "always" : "never");
  const auto it = kSchemes.find(scheme);
  if (it == kSchemes.end() || (!old && scheme != "never"))
    in.refuse(strf("has the prepend_scheme '{}'{}", scheme, old ? "" : " beside add_prefix_space false"));
  else
    m.scheme = it->second;
  m.split = in.flag("split", true);
  in.without_effect("str_rep");
  return m;
}

constexpr const char* kRustWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
constexpr const char* kPunctuation = R"([\p{P}$+<=>^`|~])";

}  // namespace

void TokenizerBuilder::split(std::string pattern, fb::SplitBehavior behavior, bool invert) {
  fb::PreTokenizerStepT step;
  step.pattern = std::move(pattern);
  step.behavior = behavior;
  step.invert = invert;
  add_step(std::move(step));
}

void read_normalizer(TokenizerBuilder& b, const Json& json) {
  if (json.is_null()) return;
  JsonFields in(b, json, "its normalizer");
  const std::string type = in.text("type");
  Steps& steps = b.out.normalizer;
  using Kind = fb::TextStepKind;
  static const std::map<std::string, const char*> kForms = {{"NFC", "nfc"},   {"NFD", "nfd"},
                                                            {"NFKC", "nfkc"}, {"NFKD", "nfkd"},
                                                            {"Nmt", "nmt"},   {"Lowercase", "lower"}};
  if (type == "Sequence") {
    for (const Json& part : in.list("normalizers")) read_normalizer(b, part);
  } else if (const auto form = kForms.find(type); form != kForms.end()) {
    add(steps, Kind::Unicode, form->second);
  } else if (type == "Strip") {
    const bool left = in.flag("strip_left", true), right = in.flag("strip_right", true);
    add(steps, Kind::Strip, "", "", left, right);
  } else if (type == "StripAccents") {
    add(steps, Kind::StripAccents);
  } else if (type == "Precompiled") {
    std::vector<uint8_t> map;
    if (!decode_base64(in.text("precompiled_charsmap"), map))
      in.refuse("has a precompiled_charsmap that is no base64");
    if (const auto made = text::CharsMap::create(map); !made) in.refuse(made.error().message);
    if (!b.out.charsmap.empty() && b.out.charsmap != map)
      in.refuse("is the second with a precompiled_charsmap");
    b.out.charsmap = std::move(map);
    add(steps, Kind::Charsmap);
  } else if (type == "Prepend") {
    add(steps, Kind::Prepend, in.text("prepend"));
  } else if (type == "Replace") {
    std::string pattern = pattern_of(in);
    add(steps, Kind::Replace, in.text("content"), std::move(pattern));
  } else if (type == "ByteLevel") {
    b.byte_level_normalizer = true;
    add(steps, Kind::ByteLevel);
  } else {
    return in.refuse(strf("'{}' is not supported: {}", type, json_text(json, 300)));
  }
  in.finish();
}

void read_pre_tokenizer(TokenizerBuilder& b, const Json& json) {
  if (json.is_null()) return;
  JsonFields in(b, json, "its pre-tokenizer");
  const std::string type = in.text("type");
  using Kind = fb::PreTokenizerKind;
  using Behavior = fb::SplitBehavior;
  if (type == "Sequence") {
    for (const Json& part : in.list("pretokenizers")) read_pre_tokenizer(b, part);
  } else if (type == "ByteLevel") {
    if (in.flag("add_prefix_space", true)) {
      fb::PreTokenizerStepT step;
      step.kind = Kind::Prefix;
      step.text = " ";
      b.add_step(std::move(step));
    }
    if (in.flag("use_regex", true)) b.split(std::string(text::gpt2_pattern()), Behavior::Isolated);
    in.without_effect("trim_offsets");
    fb::PreTokenizerStepT step;
    step.kind = Kind::ByteLevel;
    b.add_step(std::move(step));
    ++b.byte_level_steps;
  } else if (type == "Digits") {
    b.split(in.flag("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", Behavior::Isolated);
  } else if (type == "Split") {
    std::string pattern = pattern_of(in);
    const Behavior behavior = behavior_of(in, "Isolated");
    b.split(std::move(pattern), behavior, in.flag("invert", false));
  } else if (type == "Metaspace") {
    const Metaspace m = read_metaspace(in);
    fb::PreTokenizerStepT step;
    step.kind = Kind::Metaspace;
    step.text = m.text;
    step.scheme = m.scheme;
    step.split = m.split;
    b.add_step(std::move(step));
  } else if (type == "Whitespace") {
    b.split(strf(R"([{}]+|[^{}\s]+)", kRustWord, kRustWord), Behavior::Removed, true);
  } else if (type == "WhitespaceSplit") {
    b.split(R"(\s)", Behavior::Removed);
  } else if (type == "Punctuation") {
    b.split(kPunctuation, behavior_of(in, "Isolated"));
  } else if (type == "BertPreTokenizer") {
    b.split(R"(\s)", Behavior::Removed);
    b.split(kPunctuation, Behavior::Isolated);
  } else if (type == "CharDelimiterSplit") {
    const std::string delimiter = in.text("delimiter");
    if (delimiter.empty()) in.refuse("has no delimiter");
    b.split(text::quoted_pattern(delimiter), Behavior::Removed);
  } else if (type == "FixedLength") {
    b.split("(?m:.{1," + std::to_string(in.integer("length", 5, 1, 65535)) + "})", Behavior::Isolated);
  } else {
    return in.refuse(strf("'{}' is not supported: {}", type, json_text(json, 300)));
  }
  in.finish();
}

void read_decoder(TokenizerBuilder& b, const Json& json) {
  if (json.is_null()) return;
  b.has_decoder = true;
  JsonFields in(b, json, "its decoder");
  const std::string type = in.text("type");
  Steps& steps = b.out.decoder;
  using Kind = fb::TextStepKind;
  if (type == "Sequence") {
    for (const Json& part : in.list("decoders")) read_decoder(b, part);
  } else if (type == "ByteLevel") {
    for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) in.without_effect(key);
    add(steps, Kind::ByteLevel);
  } else if (type == "Metaspace") {
    const Metaspace m = read_metaspace(in);
    add(steps, Kind::Metaspace, "", m.text, m.scheme != fb::PrefixScheme::Never);
  } else if (type == "Replace") {
    std::string literal;
    if (const std::string pattern = pattern_of(in); !text::literal_of_pattern(pattern, literal))
      in.refuse(strf("replaces the pattern '{}', which is no plain text", pattern));
    add(steps, Kind::Replace, in.text("content"), std::move(literal));
  } else if (type == "Fuse") {
    add(steps, Kind::Fuse);
  } else if (type == "ByteFallback") {
    add(steps, Kind::ByteFallback);
  } else if (type == "Strip") {
    std::string content = in.text("content", " ");
    const auto start = static_cast<int>(in.integer("start", 0, 0, 65535)),
               stop = static_cast<int>(in.integer("stop", 0, 0, 65535));
    add(steps, Kind::Strip, std::move(content), "", start, stop);
  } else if (type == "BPEDecoder") {
    add(steps, Kind::WordEnd, "", in.text("suffix", "</w>"));
  } else if (type == "WordPiece") {
    add(steps, Kind::WordStart, "", in.text("prefix", "##"));
    in.only("cleanup", false, "which would change spaces before punctuation");
  } else {
    return in.refuse(strf("'{}' is not supported: {}", type, json_text(json, 300)));
  }
  in.finish();
}

}  // namespace linnet::convert
