#include "converter/transforms/adapter.h"

#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "converter/readers/json.h"
#include "converter/readers/rows.h"
#include "converter/readers/safetensors.h"
#include "runtime/core/strings.h"
#include "runtime/graph/ops.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// Rows of W + scale B A, with the norms that DoRA gives them.
class MergedRows final : public RowSource {
 public:
  MergedRows(Rows base, std::shared_ptr<const Adapter> adapter, const Adapter::Pair& pair)
      : base_(std::move(base)), adapter_(std::move(adapter)), pair_(pair) {
    rows = base_->rows;
    columns = base_->columns;
    name = base_->name + " (with its adapter)";
  }
  // Few bits held the base without loss; what an adapter adds is smaller than their steps.
  std::optional<DType> stored() const override {
    const auto type = base_->stored();
    return type && is_coarse(*type) ? DType::kQ8 : type;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    LINNET_TRY(base_->read(begin, count, out));
    std::vector<double> sum(static_cast<size_t>(columns));
    for (int64_t i = 0; i < count; ++i) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t r = 0; r < pair_.rank; ++r) {
        const auto b = static_cast<double>(pair_.b[static_cast<size_t>((begin + i) * pair_.rank + r)]);
        const float* a = &pair_.a[static_cast<size_t>(r * columns)];
        for (size_t c = 0; c < sum.size(); ++c) sum[c] += b * static_cast<double>(a[c]);
      }
      for (size_t c = 0; c < sum.size(); ++c) {
        float& w = out[i * columns + static_cast<int64_t>(c)];
        w = static_cast<float>(static_cast<double>(w) + pair_.scale * sum[c]);
      }
      if (!pair_.magnitude.empty())
        set_norm(out + i * columns, pair_.magnitude[static_cast<size_t>(begin + i)]);
    }
    return {};
  }

 private:
  void set_norm(float* row, float norm) const {
    double square = 0;
    for (int64_t c = 0; c < columns; ++c) square += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    const double factor = square > 0 ? static_cast<double>(norm) / std::sqrt(square) : 0;
    for (int64_t c = 0; c < columns; ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) * factor);
  }

  Rows base_;
  std::shared_ptr<const Adapter> adapter_;
  const Adapter::Pair& pair_;
};

class AdaptedTensors final : public TensorSet {
 public:
  AdaptedTensors(std::unique_ptr<TensorSet> base, Adapter adapter)
      : base_(std::move(base)),
        adapter_(std::make_shared<const Adapter>(std::move(adapter))),
        origin_(base_->origin() + " with " + adapter_->origin) {}
  bool has(const std::string& name) const override { return whole(name) || base_->has(name); }
  std::vector<int64_t> shape(const std::string& name) const override {
    const TensorInfo* own = whole(name);
    return own ? own->shape : base_->shape(name);
  }
  Result<Rows> rows(const std::string& name) const override {
    if (const TensorInfo* own = whole(name)) return checkpoint_rows(*adapter_->checkpoint, *own);
    LINNET_ASSIGN(Rows base, base_->rows(name));
    const auto pair = adapter_->pairs.find(name);
    if (pair == adapter_->pairs.end()) return base;
    return std::make_shared<MergedRows>(std::move(base), adapter_, pair->second);
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> all = base_->names();
    for (const auto& [name, stored] : adapter_->whole)
      if (!base_->has(name)) all.push_back(name);
    return all;
  }
  const std::string& origin() const override { return origin_; }

 private:
  const TensorInfo* whole(const std::string& name) const {
    const auto it = adapter_->whole.find(name);
    return it == adapter_->whole.end() ? nullptr : adapter_->checkpoint->find(it->second);
  }
  std::unique_ptr<TensorSet> base_;
  std::shared_ptr<const Adapter> adapter_;
  std::string origin_;
};

Error bad_config(const std::string& origin, const char* key, const Json& value, const char* wanted) {
  return Error{ErrorCode::kInvalidFile, strf("the adapter configuration of '{}': '{}' is {}, expected {}",
                                             origin, key, json_text(value), wanted)};
}

// A pattern of PEFT, which must match a whole module name or one that ends with a dot and it. With a bound on
// the work: a pattern comes with a file.
class Pattern {
 public:
  static std::optional<Pattern> compile(const std::string& pattern) {
    const std::string whole = "(*LIMIT_MATCH=100000)(?:.*\\.)?(?:" + pattern + ")";
    int error = 0;
    PCRE2_SIZE at = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(),
                            PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &error, &at,
                            nullptr));
    if (!code) return std::nullopt;
    return Pattern(pattern, std::move(code));
  }
  Result<bool> matches(const std::string& name) const {
    const std::unique_ptr<pcre2_match_data, Free> data(pcre2_match_data_create(1, nullptr));
    if (!data) return fail(ErrorCode::kOutOfMemory, "no memory to match a pattern");
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                                  data.get(), nullptr);
    if (found >= 0) return true;
    if (found == PCRE2_ERROR_NOMATCH) return false;
    return fail(
        ErrorCode::kInvalidFile,
        strf("the adapter configuration's pattern '{}' takes too long to match '{}': write it without "
             "nested repetitions",
             pattern_, name));
  }

 private:
  struct Free {
    void operator()(pcre2_code* p) const { pcre2_code_free(p); }
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  };
  using Code = std::unique_ptr<pcre2_code, Free>;
  Pattern(std::string pattern, Code code) : pattern_(std::move(pattern)), code_(std::move(code)) {}
  std::string pattern_;
  Code code_;
};

// How PEFT scales a module's pair.
class PeftScale {
 public:
  static Result<PeftScale> create(const Json& config, const std::string& origin) {
    PeftScale s;
    const auto off = [&](const char* key) {
      return !config.contains(key) || config[key].is_null() || config[key] == false ||
             (config[key].is_object() && config[key].empty());
    };
    if (config.contains("peft_type") && !is_text(config["peft_type"], "LORA"))
      return fail(ErrorCode::kUnsupported, strf("'{}' is a PEFT adapter of type {}; Linnet merges LORA",
                                                origin, json_text(config["peft_type"])));
    for (const char* key : {"fan_in_fan_out", "lora_bias", "layer_replication", "alora_invocation_tokens",
                            "trainable_token_indices", "use_qalora"})
      if (!off(key))
        return fail(ErrorCode::kUnsupported,
                    strf("'{}' was trained with {} = {}, which Linnet does not merge", origin, key,
                         json_text(config[key])));
    if (config.contains("bias") && !is_text(config["bias"], "none") && !config["bias"].is_null())
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' was trained with bias = {}, which Linnet does not merge", origin,
                       json_text(config["bias"])));
    for (const auto& [key, into] : {std::pair{"lora_alpha", &s.alpha_}, std::pair{"r", &s.rank_}}) {
      if (!config.contains(key)) continue;
      const auto number = number_of(config[key]);
      if (!number) return std::unexpected(bad_config(origin, key, config[key], "a number"));
      *into = *number;
    }
    s.rooted_ = !off("use_rslora");
    s.normed_ = !off("use_dora");
    for (const auto& [key, into] :
         {std::pair{"alpha_pattern", &s.alphas_}, std::pair{"rank_pattern", &s.ranks_}}) {
      if (off(key)) continue;
      if (!config[key].is_object()) return std::unexpected(bad_config(origin, key, config[key], "an object"));
      for (const auto& [pattern, value] : config[key].items()) {
        const auto number = number_of(value);
        if (!number) return std::unexpected(bad_config(origin, key, value, "numbers"));
        auto compiled = Pattern::compile(pattern);
        if (!compiled) return std::unexpected(bad_config(origin, key, pattern, "a regular expression"));
        into->emplace_back(std::move(*compiled), *number);
      }
    }
    return s;
  }
  bool normed() const { return normed_; }  // DoRA
  Result<double> rank(const std::string& module) const { return find(ranks_, module, rank_); }
  Result<double> operator()(const std::string& module, double rank) const {
    LINNET_ASSIGN(const double alpha, find(alphas_, module, alpha_));
    return alpha / (rooted_ ? std::sqrt(rank) : rank);
  }

 private:
  using Patterns = std::vector<std::pair<Pattern, double>>;
  static Result<double> find(const Patterns& patterns, const std::string& module, double absent) {
    for (const auto& [pattern, value] : patterns) {
      LINNET_ASSIGN(const bool matches, pattern.matches(module));
      if (matches) return value;
    }
    return absent;
  }
  double alpha_ = 8, rank_ = 8;  // PEFT's own defaults
  bool rooted_ = false, normed_ = false;
  Patterns alphas_, ranks_;
};

// The name without what PEFT puts around it.
std::string plain_name(std::string name) {
  for (const char* prefix : {"base_model.model.", "base_model."})
    if (name.starts_with(prefix)) name.erase(0, std::string(prefix).size());
  for (const char* part : {".modules_to_save.default", ".default", ".base_layer"})
    if (const size_t at = name.find(part); at != std::string::npos) name.erase(at, std::string(part).size());
  return name;
}

// layers.N.REST of Linnet's trainers: what belongs to attention layer N.
std::string own_name(const std::string& name) {
  static const std::map<std::string, std::string> kNames = {{"feat_q", "feature_q"},
                                                            {"feat_k", "feature_k"},
                                                            {"gate_bias", "gate_bias"},
                                                            {"lin_bias_c", "linear_bias"},
                                                            {"lin_gain_u", "linear_gain"}};
  if (!name.starts_with("layers.")) return name;
  const size_t dot = name.find('.', 7);
  if (dot == std::string::npos) return name;
  std::string rest = name.substr(dot + 1);
  if (const auto it = kNames.find(rest); it != kNames.end()) rest = it->second;
  return "model." + name.substr(0, dot) + ".self_attn." + rest;
}

Result<std::vector<float>> values_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  LINNET_TRY(checkpoint.read_f32(tensor, 0, tensor.rows(), values.data()));
  return values;
}

Result<void> read_configs(const fs::path& folder, Adapter& adapter, Json& peft) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) {
    LINNET_ASSIGN(adapter.config, read_json((folder / "config.json").string(), true));
  }
  if (fs::exists(folder / "adapter_config.json", error)) {
    LINNET_ASSIGN(peft, read_json((folder / "adapter_config.json").string(), true));
  }
  if (!adapter.config.is_object() || !(peft.is_null() || peft.is_object()))
    return fail(ErrorCode::kInvalidFile, strf("the configuration in '{}' is not an object", folder.string()));
  return {};
}

}  // namespace

bool Adapter::has_tensor(const std::string& part) const {
  return std::any_of(whole.begin(), whole.end(),
                     [&](const auto& entry) { return entry.first.find(part) != std::string::npos; });
}

Result<Adapter> read_adapter(const std::string& folder, double weight) {
  Adapter adapter;
  adapter.origin = folder;
  Json peft;
  const JsonRelease released(peft);
  LINNET_TRY(read_configs(folder, adapter, peft));
  std::error_code error;
  std::string file;
  for (const char* name : {"adapter_model.safetensors", "adapter.safetensors"})
    if (file.empty() && fs::exists(fs::path(folder) / name, error)) file = (fs::path(folder) / name).string();
  if (file.empty())
    return fail(ErrorCode::kNotFound,
                strf("'{}' is no adapter folder: it has neither adapter_model.safetensors (PEFT) nor "
                     "adapter.safetensors",
                     folder));
  auto checkpoint = std::make_shared<Checkpoint>();
  LINNET_TRY(read_safetensors(file, *checkpoint));
  LINNET_ASSIGN(const PeftScale scale,
                PeftScale::create(peft.is_object() ? peft : Json(Json::object()), folder));
  const bool own = adapter.config.contains("lora") && adapter.config["lora"].is_object();
  const auto own_scale = own ? number_of(adapter.config["lora"].value("scale", Json())) : std::nullopt;
  if (own && !own_scale)
    return std::unexpected(bad_config(folder, "lora", adapter.config["lora"], "an object with a scale"));

  for (const auto& [stored, tensor] : checkpoint->tensors()) {
    const std::string name = own_name(plain_name(stored));
    for (const char* part : {"lora_embedding_", "lora_B.bias", "lora_A.bias"})
      if (name.find(part) != std::string::npos)
        return fail(ErrorCode::kUnsupported, strf("'{}' of '{}': Linnet does not merge it", stored, file));
    const size_t a = name.find(".lora_A"), b = name.find(".lora_B"), m = name.find(".lora_magnitude_vector");
    if (m != std::string::npos) {
      LINNET_ASSIGN(adapter.pairs[name.substr(0, m) + ".weight"].magnitude, values_of(*checkpoint, tensor));
      continue;
    }
    if (a == std::string::npos && b == std::string::npos) {
      adapter.whole[name] = stored;
      continue;
    }
    const std::string module = name.substr(0, a != std::string::npos ? a : b);
    if (tensor.shape.size() != 2)
      return fail(ErrorCode::kUnsupported, strf("'{}' of '{}' has shape {}; Linnet merges matrices", stored,
                                                file, shape_name(tensor.shape)));
    Adapter::Pair& pair = adapter.pairs[module + ".weight"];
    LINNET_ASSIGN(auto values, values_of(*checkpoint, tensor));
    if (a != std::string::npos) {
      pair.a = std::move(values);
      pair.k = tensor.shape[1];
      pair.rank = tensor.shape[0];
    } else {
      pair.b = std::move(values);
      pair.n = tensor.shape[0];
    }
  }
  for (auto& [name, pair] : adapter.pairs) {
    if (pair.a.empty() || pair.b.empty() || static_cast<int64_t>(pair.b.size()) != pair.n * pair.rank)
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}' has no lora_A [r, inputs] and lora_B [outputs, r] that fit each other for '{}'",
                       file, name));
    if (scale.normed() != !pair.magnitude.empty() ||
        (scale.normed() && static_cast<int64_t>(pair.magnitude.size()) != pair.n))
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}' has {} magnitudes (lora_magnitude_vector) for the {} rows of '{}', and use_dora is {}",
               file, pair.magnitude.size(), pair.n, name, scale.normed()));
    if (weight != 1 && !pair.magnitude.empty())
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' is a DoRA adapter, which gives rows their norms: it is merged whole, not by {}",
                       folder, weight));
    const std::string module = name.substr(0, name.size() - 7);
    const auto rank = static_cast<double>(pair.rank);
    LINNET_ASSIGN(const double said, scale.rank(module));
    if (peft.is_object() && said != rank)
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': '{}' has rank {}, the configuration says {}", file, name, pair.rank, said));
    if (!own && !peft.is_object())
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}' has LoRA pairs but no adapter_config.json, which says how they are scaled", folder));
    if (own) {
      pair.scale = *own_scale;
    } else {
      LINNET_ASSIGN(pair.scale, scale(module, rank));
    }
    pair.scale *= weight;
  }
  if (weight != 1 && !adapter.whole.empty())
    return fail(ErrorCode::kUnsupported,
                strf("'{}' replaces whole tensors ('{}'): it is merged whole, not by {}", folder,
                     adapter.whole.begin()->first, weight));
  adapter.checkpoint = std::move(checkpoint);
  return adapter;
}

Result<std::unique_ptr<TensorSet>> adapt(std::unique_ptr<TensorSet> base, Adapter adapter) {
  for (const auto& [name, pair] : adapter.pairs) {
    const std::vector<int64_t> found = base->shape(name), expected = {pair.n, pair.k};
    if (!base->has(name))
      return fail(ErrorCode::kInvalidFile, strf("the adapter '{}' changes '{}', which {} does not have",
                                                adapter.origin, name, base->origin()));
    if (found != expected)
      return fail(
          ErrorCode::kInvalidFile,
          strf("the adapter '{}' changes '{}' as {}, but {} has it as {}: it belongs to another model",
               adapter.origin, name, graph::shape_text(expected), base->origin(), graph::shape_text(found)));
  }
  return std::make_unique<AdaptedTensors>(std::move(base), std::move(adapter));
}

}  // namespace linnet::convert
