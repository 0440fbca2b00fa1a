#include "converter/sampler_import.h"

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kUsualTopK = 50;  // transformers' default, which it does not write

// Settings that change what is generated and that Linnet does not have, with the value that means "off".
const std::array<std::pair<const char*, Json>, 16>& unsupported() {
  static const std::array<std::pair<const char*, Json>, 16> kKeys = {{{"typical_p", 1},
                                                                      {"epsilon_cutoff", 0},
                                                                      {"eta_cutoff", 0},
                                                                      {"top_h", nullptr},
                                                                      {"num_beams", 1},
                                                                      {"penalty_alpha", nullptr},
                                                                      {"no_repeat_ngram_size", 0},
                                                                      {"encoder_repetition_penalty", 1},
                                                                      {"encoder_no_repeat_ngram_size", 0},
                                                                      {"bad_words_ids", nullptr},
                                                                      {"sequence_bias", nullptr},
                                                                      {"suppress_tokens", nullptr},
                                                                      {"begin_suppress_tokens", nullptr},
                                                                      {"forced_eos_token_id", nullptr},
                                                                      {"stop_strings", nullptr},
                                                                      {"guidance_scale", nullptr}}};
  return kKeys;
}

}  // namespace

Result<std::unique_ptr<fb::SamplerDefaultsT>> sampler_defaults(const Json& generation,
                                                               std::vector<std::string>& details,
                                                               std::vector<std::string>& notes) {
  const auto find = [&](const char* key) -> const Json* {
    const auto it = generation.find(key);
    return it == generation.end() || it->is_null() ? nullptr : &*it;
  };
  const auto name = [](const char* key) { return strf("generation_config.json: '{}'", key); };
  const auto number = [&](const char* key, double absent, double least, double most) -> Result<double> {
    const Json* value = find(key);
    if (!value) return absent;
    LINNET_ASSIGN(const double d, read_number(*value, name(key)));
    if (d >= least && d <= most) return d;
    return fail(ErrorCode::kInvalidFile, strf("{} is {}, expected {} to {}", name(key), d, least, most));
  };
  for (const auto& [key, off] : unsupported())
    if (const Json* value = find(key); value && *value != off && *value != false)
      notes.push_back(
          strf("{} is {}, which Linnet does not have: it is not applied", name(key), json_text(*value, 60)));
  const Json* sample = find("do_sample");
  if (sample && !sample->is_boolean())
    return fail(ErrorCode::kInvalidFile,
                strf("{} is {}, expected true or false", name("do_sample"), json_text(*sample)));
  const bool shaped = find("temperature") || find("top_k") || find("top_p") || find("min_p");
  if (!sample && !shaped && !find("repetition_penalty")) return std::unique_ptr<fb::SamplerDefaultsT>();
  auto sampler = std::make_unique<fb::SamplerDefaultsT>();
  const bool samples = sample ? sample->get<bool>() : shaped;
  LINNET_ASSIGN(const double temperature, number("temperature", 1, 0, 1e6));
  LINNET_ASSIGN(const double top_p, number("top_p", 1, 0, 1));
  LINNET_ASSIGN(const double min_p, number("min_p", 0, 0, 1));
  LINNET_ASSIGN(const double penalty, number("repetition_penalty", 1, 1e-6, 1e6));
  int64_t top_k = sample && samples ? kUsualTopK : 0;
  if (const Json* value = find("top_k")) {
    LINNET_ASSIGN(top_k, read_integer(*value, name("top_k"), -1, int64_t{1} << 30));
  }
  sampler->temperature = samples ? static_cast<float>(temperature) : 0.0f;
  sampler->top_k = static_cast<int>(std::max<int64_t>(top_k, 0));
  sampler->top_p = static_cast<float>(top_p);
  sampler->min_p = static_cast<float>(min_p);
  sampler->repetition_penalty = static_cast<float>(penalty);
  details.push_back(strf("sampling: {}, from generation_config.json", samples ? "drawn" : "greedy"));
  return sampler;
}

}  // namespace linnet::convert
