#include "runtime/text/pretokenizers.h"

#include <string>
#include <vector>

namespace linnet::text {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kOneDigit = R"(\p{N})", kThreeDigits = R"(\p{N}{1,3})",
                           kChineseJapanese = "[一-龥\xE3\x81\x80-ゟ゠-ヿ]+";
// Kimi's: Han apart, letters by case without it.
constexpr std::string_view kKimi =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kMiniCpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr std::string_view kBloom = R"( ?[^(\s|[.,!?…。，、।۔،])]+)";

PreTokenizerStep isolated(std::string_view pattern) {
  return {std::string(pattern), false, SplitBehavior::kIsolated};
}

// llama.cpp's names, and the cuts of the models' own tokenizer.json.
struct Preset {
  std::string_view names;  // separated by spaces
  std::vector<std::string_view> cuts;
  bool takes_whole = false;  // a word that is in the vocabulary is one token
  bool adds_bos = false;     // where the file does not say
};

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = {
      {"gpt-2 gpt2 phi-2 mpt olmo roberta-bpe jina-v2-en jina-es jina-de jina-v1-en jina-v2-es jina-v2-de "
       "jina-v2-code "
       "gigachat exaone4 a.x-4.0 mellum modern-bert jais trillion granite-docling",
       {kGpt2}},
      // What llama.cpp does with a file whose model its converter did not know.
      {"default", {R"([\p{P}$+<=>^~|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", {kOneDigit, kGpt2}},
      {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
       {kLlama3},
       true,
       true},
      {"smaug-bpe dbrx glm4 chatglm-bpe", {kLlama3}},
      {"qwen2 deepseek-r1-qwen stablelm2 kormo megrez hunyuan solar-open grok-2 f2llmv2", {kQwen2}},
      {"qwen35", {kQwen35}},
      {"tekken", {kTekken}, true, true},
      {"gpt-4o llama4 kanana2 minimax-m2 talkie", {kGpt4o}},
      {"tiny_aya cohere2moe", {R"(\d{1,3}(?=(?:\d{3})*\b))", kGpt4o}},
      {"deepseek-v3 hunyuan-dense joyai-llm", {kThreeDigits, kChineseJapanese, kDeepSeek3}},
      {"deepseek-coder",
       {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)",
        kOneDigit}},
      {"falcon", {R"([\p{P}$+<=>^`|~]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {"kimi-k2", {kKimi}, true},
      {"superbpe", {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}},
      {"bailingmoe bailingmoe2 llada-moe", {kBailing}},
      {"seed-coder", {kSeedCoder}},
      {"exaone-moe", {kExaoneMoe}},
      {"minicpm5", {kThreeDigits, kMiniCpm5}, true},
      {"jais-2", {kJais2}},
      {"poro-chat bloom gpt3-finnish", {kBloom}},
      {"viking", {kBloom, kOneDigit}},
      {"laguna", {R"([^\n]+|[\n]+)", kQwen2}},
  };
  return kPresets;
}

const Preset* find_preset(std::string_view name) {
  if (name.empty() || name.find(' ') != name.npos) return nullptr;
  for (const Preset& preset : presets())
    if ((" " + std::string(preset.names) + " ").find(" " + std::string(name) + " ") != std::string::npos)
      return &preset;
  return nullptr;
}

}  // namespace

std::string_view gpt2_pattern() { return kGpt2; }

std::optional<std::vector<PreTokenizerStep>> pretokenizer_preset(std::string_view name) {
  const Preset* preset = find_preset(name);
  if (!preset) return std::nullopt;
  std::vector<PreTokenizerStep> steps;
  for (const std::string_view cut : preset->cuts) steps.push_back(isolated(cut));
  return steps;
}

bool preset_ignores_merges(std::string_view name) {
  const Preset* preset = find_preset(name);
  return preset && preset->takes_whole;
}

bool preset_adds_bos(std::string_view name) {
  const Preset* preset = find_preset(name);
  return preset && preset->adds_bos;
}

std::string preset_names() {
  std::string names;
  for (const Preset& preset : presets()) names += (names.empty() ? "" : " ") + std::string(preset.names);
  return names;
}

}  // namespace linnet::text
