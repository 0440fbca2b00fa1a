// What tokenizer.json's readers share. Private to tokenizer_json*.cc.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "converter/readers/json.h"
#include "format/model_generated.h"

namespace linnet::convert {

inline constexpr const char* kBlock = "\xE2\x96\x81";  // U+2581, SentencePiece's space

// The tokenizer under construction, and the first reason to refuse it.
struct TokenizerBuilder {
  fb::TokenizerT out;
  std::string problem;
  std::vector<std::string> notes;
  std::map<std::string, uint32_t> vocabulary;  // of the model
  bool byte_level_normalizer = false;
  int byte_level_steps = 0;  // in the pre-tokenizer
  bool has_decoder = false;

  void refuse(std::string why) {
    if (problem.empty()) problem = std::move(why);
  }
  void add_step(fb::PreTokenizerStepT step) {
    out.pre_tokenizer.push_back(std::make_unique<fb::PreTokenizerStepT>(std::move(step)));
  }
  void split(std::string pattern, fb::SplitBehavior behavior, bool invert = false);
};

// One object of the file. Its reader asks for each field by name; finish() refuses what nobody asked for. A
// value of another type than is asked for is refused.
class JsonFields {
 public:
  JsonFields(TokenizerBuilder& b, const Json& json, std::string where);

  const std::string& where() const { return where_; }
  const Json* find(const char* key);  // null where it is absent or null
  std::string text(const char* key, const std::string& absent = "");
  bool flag(const char* key, bool absent);
  int64_t integer(const char* key, int64_t absent, int64_t least, int64_t most);
  const Json& list(const char* key);  // an empty one where it is absent
  // Has no effect on ids or on printed text.
  void without_effect(const char* key) { asked_.insert(key); }
  // Refuses any other value.
  void only(const char* key, const Json& value, const std::string& why);
  void refuse(const std::string& why);
  void finish();

 private:
  TokenizerBuilder& b_;
  const Json& json_;
  std::string where_;
  std::set<std::string> asked_;
};

// The parts of tokenizer.json, each an object or null.
void read_normalizer(TokenizerBuilder& b, const Json& json);
void read_pre_tokenizer(TokenizerBuilder& b, const Json& json);
void read_decoder(TokenizerBuilder& b, const Json& json);
void read_post_processor(TokenizerBuilder& b, const Json& json);

}  // namespace linnet::convert
