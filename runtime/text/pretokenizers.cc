#include "runtime/text/pretokenizers.h"

#include <string>

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

PreTokenizerStep isolated(std::string_view pattern) {
  return {std::string(pattern), false, SplitBehavior::kIsolated};
}

}  // namespace

std::string_view gpt2_pattern() { return kGpt2; }

std::optional<std::vector<PreTokenizerStep>> pretokenizer_preset(std::string_view name) {
  const auto is = [name](auto... names) { return ((name == names) || ...); };
  using Steps = std::vector<PreTokenizerStep>;
  if (is("", "default", "gpt-2", "gpt2", "phi-2", "mpt", "olmo", "roberta-bpe", "jina-v2-en", "jina-es",
         "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "gigachat", "exaone4"))
    return Steps{isolated(kGpt2)};
  if (is("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"))
    return Steps{isolated(R"(\p{N})"), isolated(kGpt2)};
  if (is("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
         "smaug-bpe", "dbrx"))
    return Steps{isolated(kLlama3)};
  if (is("qwen2", "deepseek-r1-qwen", "stablelm2", "kormo", "megrez")) return Steps{isolated(kQwen2)};
  if (is("qwen35")) return Steps{isolated(kQwen35)};
  if (is("tekken")) return Steps{isolated(kTekken)};
  if (is("gpt-4o", "llama4", "kanana2")) return Steps{isolated(kGpt4o)};
  if (is("deepseek-v3", "hunyuan-dense"))
    return Steps{isolated(R"(\p{N}{1,3})"), isolated("[一-龥\xE3\x81\x80-ゟ゠-ヿ]+"), isolated(kDeepSeek3)};
  return std::nullopt;
}

bool preset_ignores_merges(std::string_view name) {
  for (const char* other :
       {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"})
    if (name == other) return true;
  return false;
}

}  // namespace linnet::text
