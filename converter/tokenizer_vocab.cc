// Tokenizers in the files of slow tokenizers: vocab.json with merges.txt, and tiktoken's. Both become the
// tokenizer.json that transformers would make of them.
#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "converter/readers/json.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/pretokenizers.h"

namespace linnet::convert {
namespace {

// The cut of a tokenizer class, or of a model_type, by the name GGUF has for it; null: none is known.
struct Family {
  std::string_view name;
  const char* cut;
  bool composed;  // NFC
};
constexpr Family kFamilies[] = {{"GPT2Tokenizer", "gpt-2", false},
                                {"GPTNeoXTokenizer", "gpt-2", false},
                                {"CodeGenTokenizer", "gpt-2", false},
                                {"RobertaTokenizer", "gpt-2", false},
                                {"BartTokenizer", "gpt-2", false},
                                {"Qwen2Tokenizer", "qwen2", true},
                                {"Qwen3Tokenizer", "qwen2", true},
                                {"TikTokenTokenizer", "kimi-k2", false},
                                {"gpt2", "gpt-2", false},
                                {"gpt_neox", "gpt-2", false},
                                {"qwen2", "qwen2", true},
                                {"qwen3", "qwen2", true},
                                {"qwen3_next", "qwen2", true},
                                {"qwen3_5", "qwen35", true},
                                {"qwen3_5_text", "qwen35", true},
                                {"qwen3_5_moe", "qwen35", true},
                                {"qwen3_5_moe_text", "qwen35", true},
                                {"kimi_linear", "kimi-k2", false},
                                {"llama", "llama-bpe", false}};

Result<const Family*> family_of(const Json& config, const std::string& model_type, const std::string& what) {
  std::string name = config.value("tokenizer_class", Json()).is_string()
                         ? config["tokenizer_class"].get<std::string>()
                         : model_type;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "PreTrainedTokenizer" || name == "TokenizersBackend") name = model_type;
  const auto it = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                               [&](const Family& f) { return f.name == name; });
  if (it != std::end(kFamilies)) return it;
  return fail(
      ErrorCode::kUnsupported,
      strf("{} does not say how text is cut, and Linnet does not know it for '{}': save the tokenizer as "
           "tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained(...))",
           what, name.empty() ? "(no tokenizer_class, no model_type)" : name));
}

Json split_step(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json around(const Family& family, Json model, bool prefix_space) {
  Json steps = Json::array();
  const auto cuts = text::pretokenizer_preset(family.cut);
  for (const auto& step : *cuts) steps.push_back(split_step(step.pattern));
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"use_regex", false}});
  // A prefix space comes before the cut.
  if (prefix_space && cuts->size() == 1 && cuts->front().pattern == text::gpt2_pattern())
    steps = Json::array({{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}}});
  Json tokenizer = {{"version", "1.0"},
                    {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
                    {"decoder", {{"type", "ByteLevel"}}},
                    {"model", std::move(model)}};
  if (family.composed) tokenizer["normalizer"] = {{"type", "NFC"}};
  return tokenizer;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint32_t bits = 0;
  int held = 0;
  bytes.clear();
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const size_t value = kDigits.find(c);
    if (value == kDigits.npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xFF);
  }
  return !bytes.empty();
}

bool read_rank(const std::string& line, std::string& bytes, int64_t& rank) {
  const size_t space = line.find(' ');
  if (space == std::string::npos || !decode_base64(std::string_view(line).substr(0, space), bytes))
    return false;
  const auto number = integer_of(Json::parse(line.substr(space + 1), nullptr, false), 0, int64_t{1} << 22);
  rank = number.value_or(-1);
  return number.has_value();
}

}  // namespace

Result<fb::TokenizerT> import_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path,
                                               const Json& config, const std::string& model_type,
                                               std::vector<std::string>& notes) {
  const std::string what = "'" + vocab_path + "'";
  LINNET_ASSIGN(Json vocab, read_json(vocab_path));
  const JsonRelease released(vocab);
  LINNET_ASSIGN(const std::string text, read_text(merges_path));
  LINNET_ASSIGN(const Family* family, family_of(config, model_type, what));
  Json merges = Json::array();
  std::istringstream lines(text);
  bool first = true;
  for (std::string line; std::getline(lines, line); first = false) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || (first && line.starts_with("#version"))) continue;
    merges.push_back(line);
  }
  const Json spaced = config.value("add_prefix_space", Json(false));
  notes.push_back(
      strf("tokenizer: vocab.json and merges.txt, cut as '{}' does ({})", family->cut, family->name));
  return import_tokenizer_json(
      around(*family, {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}},
             spaced == true),
      what);
}

bool is_tiktoken(std::string_view text) {
  std::string bytes;
  int64_t rank = 0;
  return read_rank(std::string(text.substr(0, std::min<size_t>(text.find('\n'), 200))), bytes, rank);
}

Result<fb::TokenizerT> import_tiktoken(const std::string& path, const Json& config,
                                       const std::string& model_type, std::vector<std::string>& notes) {
  const std::string what = "'" + path + "'";
  LINNET_ASSIGN(const std::string text, read_text(path));
  LINNET_ASSIGN(const Family* family, family_of(config, model_type, what));
  std::map<std::string, int64_t> ranks;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    std::string bytes;
    int64_t rank = 0;
    if (!read_rank(line, bytes, rank))
      return fail(ErrorCode::kInvalidFile,
                  strf("{}: the line '{}' is no piece in base64 and a rank", what, line.substr(0, 80)));
    ranks[bytes] = rank;
  }
  // Each way to make a piece of two, in order of its rank; tiktoken joins what makes the lowest rank.
  Json vocab = Json::object();
  std::vector<std::array<int64_t, 3>> order;
  std::map<int64_t, std::string> names;
  for (const auto& [bytes, rank] : ranks) {
    names[rank] = text::byte_level_text(bytes);
    vocab[names[rank]] = rank;
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = ranks.find(bytes.substr(0, cut)), right = ranks.find(bytes.substr(cut));
      if (left != ranks.end() && right != ranks.end()) order.push_back({rank, left->second, right->second});
    }
  }
  std::sort(order.begin(), order.end());
  Json merges = Json::array();
  for (const auto& [rank, left, right] : order) merges.push_back(Json::array({names[left], names[right]}));
  notes.push_back(strf("tokenizer: tiktoken's file, cut as '{}' does ({})", family->cut, family->name));
  return import_tokenizer_json(around(*family,
                                      {{"type", "BPE"},
                                       {"ignore_merges", true},
                                       {"vocab", std::move(vocab)},
                                       {"merges", std::move(merges)}},
                                      false),
                               what);
}

}  // namespace linnet::convert
