#include "converter/architectures/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

double field(Importer& in, const Json& scaling, const char* key, double absent, bool required = false) {
  const auto it = scaling.find(key);
  if (it == scaling.end() || it->is_null()) {
    if (required) in.fail(strf("config.json: the rotary scaling has no '{}'", key));
    return absent;
  }
  const auto found = number_of(*it);
  if (!found)
    in.fail(strf("config.json: '{}' of the rotary scaling is {}, expected a number", key, json_text(*it)));
  return found.value_or(absent);
}

// Llama 3: long wavelengths are slowed by `factor`, short ones kept, the band between interpolated.
void scale_llama3(Importer& in, const Json& scaling, std::vector<float>& inverse) {
  const double factor = field(in, scaling, "factor", 1, true);
  const double low = field(in, scaling, "low_freq_factor", 1, true);
  const double high = field(in, scaling, "high_freq_factor", 4, true);
  const double context = field(in, scaling, "original_max_position_embeddings", 8192, true);
  for (float& f : inverse) {
    const double frequency = static_cast<double>(f);
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > context / low) {
      f = static_cast<float>(frequency / factor);
    } else if (wavelength >= context / high) {
      const double smooth = (context / wavelength - low) / (high - low);
      f = static_cast<float>((1 - smooth) * frequency / factor + smooth * frequency);
    }
  }
}

// YaRN (Peng et al. 2023): per-dimension ramp between interpolation and extrapolation, and a temperature.
float scale_yarn(Importer& in, const Json& scaling, double theta, int64_t dim, std::vector<float>& inverse) {
  const double context_now = static_cast<double>(in.integer("max_position_embeddings", 4096));
  const double context = field(in, scaling, "original_max_position_embeddings", context_now);
  const double factor = field(in, scaling, "factor", context_now / context);
  const double fast = field(in, scaling, "beta_fast", 32), slow = field(in, scaling, "beta_slow", 1);
  const auto n = static_cast<double>(dim);
  const auto correction = [&](double rotations) {
    return n * std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = correction(fast), high = correction(slow);
  const bool truncate =
      !scaling.contains("truncate") || scaling["truncate"].is_null() || scaling["truncate"] == true;
  if (truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, n - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double frequency = static_cast<double>(inverse[i]);
    inverse[i] = static_cast<float>(frequency / factor * ramp + frequency * (1 - ramp));
  }
  const auto mscale = [](double scale, double m) {
    return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0;
  };
  const double m = field(in, scaling, "mscale", 0), all = field(in, scaling, "mscale_all_dim", 0);
  const double inferred = m != 0 && all != 0 ? mscale(factor, m) / mscale(factor, all) : mscale(factor, 1);
  return static_cast<float>(field(in, scaling, "attention_factor", inferred));
}

fb::RotaryEmbeddingT make_rope(Importer& in, const Json& scaling, int64_t head_dim, double theta,
                               double fraction) {
  // Negated so that NaN fails too.
  if (!(fraction >= 0 && fraction <= 1) || head_dim > 65536) {
    in.fail(
        strf("config.json: a rotary embedding over {} of {} channels is not possible", fraction, head_dim));
    return {};
  }
  auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * fraction);
  if (in.has_key("rotary_dim")) dim = in.integer("rotary_dim");
  fb::RotaryEmbeddingT rope;
  rope.head_dim = static_cast<int32_t>(head_dim);
  if (!(theta > 0) || dim < 2 || dim > head_dim || dim % 2 != 0) {
    in.fail(strf("config.json: rotary embedding of theta {} over {} of {} channels is not possible", theta,
                 dim, head_dim));
    return rope;
  }
  for (int64_t i = 0; i < dim; i += 2)
    rope.inverse_frequencies.push_back(
        static_cast<float>(1.0 / std::pow(theta, static_cast<double>(i) / static_cast<double>(dim))));
  std::string type = "default";
  for (const char* key : {"type", "rope_type"})
    if (scaling.contains(key) && scaling[key].is_string()) type = scaling[key].get<std::string>();
  if (type == "linear") {
    const double factor = field(in, scaling, "factor", 1, true);
    for (float& f : rope.inverse_frequencies) f = static_cast<float>(static_cast<double>(f) / factor);
  } else if (type == "llama3") {
    scale_llama3(in, scaling, rope.inverse_frequencies);
  } else if (type == "yarn") {
    rope.amplitude = scale_yarn(in, scaling, theta, dim, rope.inverse_frequencies);
  } else if (type == "factors" && scaling["factors"].is_array() &&
             scaling["factors"].size() == rope.inverse_frequencies.size()) {
    for (size_t i = 0; i < rope.inverse_frequencies.size(); ++i)  // as GGUF stores Llama 3's scaling
      rope.inverse_frequencies[i] /= static_cast<float>(number_of(scaling["factors"][i]).value_or(1));
  } else if (type != "default" && type != "mrope") {  // for text, mrope's three positions are equal
    in.fail(strf("config.json: rotary scaling '{}' is not supported (default, linear, llama3 and yarn are)",
                 type));
  }
  return rope;
}

}  // namespace

fb::RotaryEmbeddingT read_rope(Importer& in, int64_t head_dim, double default_theta,
                               double default_fraction) {
  const Json none = Json::object();
  const Json* given = &none;
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (in.has_key(key) && in.config()[key].is_object()) given = &in.config()[key];
  const double theta = field(in, *given, "rope_theta", in.number("rope_theta", default_theta));
  const double fraction =
      field(in, *given, "partial_rotary_factor", in.number("partial_rotary_factor", default_fraction));
  return make_rope(in, *given, head_dim, theta, fraction);
}

fb::RotaryEmbeddingT read_rope_of(Importer& in, const char* layers, const char* theta_key,
                                  double default_theta, bool scaled, int64_t head_dim) {
  const Json none = Json::object();
  const Json* given = &none;
  if (scaled && in.has_key("rope_scaling") && in.config()["rope_scaling"].is_object())
    given = &in.config()["rope_scaling"];
  if (in.has_key("rope_parameters") && in.config()["rope_parameters"].is_object() &&
      in.config()["rope_parameters"].contains(layers) && in.config()["rope_parameters"][layers].is_object())
    given = &in.config()["rope_parameters"][layers];
  const double theta = field(in, *given, "rope_theta", in.number(theta_key, default_theta));
  return make_rope(in, *given, head_dim, theta, field(in, *given, "partial_rotary_factor", 1));
}

fb::RotaryEmbeddingT plain_rope(int64_t head_dim, double theta) {
  fb::RotaryEmbeddingT rope;
  rope.head_dim = static_cast<int32_t>(head_dim);
  for (int64_t i = 0; i + 1 < head_dim; i += 2)
    rope.inverse_frequencies.push_back(
        static_cast<float>(1.0 / std::pow(theta, static_cast<double>(i) / static_cast<double>(head_dim))));
  return rope;
}

}  // namespace linnet::convert
