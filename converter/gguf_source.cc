#include "converter/gguf_source.h"

#include <map>

#include "converter/readers/rows.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// GGUF architecture -> model_type of config.json.
const std::map<std::string, std::string>& architectures() {
  static const std::map<std::string, std::string> kNames = {
      {"llama", "llama"}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}, {"gemma2", "gemma2"}};
  return kNames;
}

struct Keys {
  const Gguf& gguf;
  std::string prefix;
  std::string missing;

  int64_t integer(const std::string& key) {
    const auto* value = gguf.find<int64_t>(prefix + key);
    if (!value && missing.empty()) missing = prefix + key;
    return value ? *value : 1;
  }
  double number(const std::string& key) {
    const auto* value = gguf.find<double>(prefix + key);
    if (!value && missing.empty()) missing = prefix + key;
    return value ? *value : 1;
  }
  template <typename T>
  void copy(Json& config, const char* to, const std::string& key) {
    if (const T* value = gguf.find<T>(prefix + key)) config[to] = *value;
  }
};

void read_rope_scaling(Keys& keys, Json& config) {
  if (const TensorInfo* factors = keys.gguf.checkpoint().find("rope_freqs.weight")) {
    std::vector<float> values(static_cast<size_t>(factors->elements()));
    if (keys.gguf.checkpoint().read_f32(*factors, 0, factors->rows(), values.data()))
      config["rope_scaling"] = {{"rope_type", "factors"}, {"factors", values}};
    return;
  }
  const auto* type = keys.gguf.find<std::string>(keys.prefix + "rope.scaling.type");
  if (!type || *type == "none") return;
  Json scaling = {{"rope_type", *type}};
  keys.copy<double>(scaling, "factor", "rope.scaling.factor");
  keys.copy<int64_t>(scaling, "original_max_position_embeddings", "rope.scaling.original_context_length");
  config["rope_scaling"] = scaling;
}

std::string replaced(std::string text, const std::vector<std::pair<std::string, std::string>>& names) {
  for (const auto& [from, to] : names)
    if (text == from || (text.starts_with(from) && text[from.size()] == '.'))
      return to + text.substr(from.size());
  return {};
}

// The Hugging Face name of a GGUF tensor; empty if there is none.
std::string hugging_face_name(const std::string& name, const std::string& type) {
  static const std::vector<std::pair<std::string, std::string>> kTop = {
      {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
  static const std::vector<std::pair<std::string, std::string>> kLayer = {
      {"attn_norm", "input_layernorm"},    {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"}, {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"}};
  if (!name.starts_with("blk.")) return replaced(name, kTop);
  const size_t dot = name.find('.', 4);
  if (dot == std::string::npos) return {};
  const std::string rest = name.substr(dot + 1);
  std::string inner = replaced(rest, kLayer);
  if (inner.empty()) {
    static const std::vector<std::pair<std::string, std::string>> kPlain = {
        {"ffn_norm", "post_attention_layernorm"}};
    static const std::vector<std::pair<std::string, std::string>> kGemma = {
        {"post_attention_norm", "post_attention_layernorm"},
        {"ffn_norm", "pre_feedforward_layernorm"},
        {"post_ffw_norm", "post_feedforward_layernorm"}};
    inner = replaced(rest, type == "gemma2" ? kGemma : kPlain);
  }
  return inner.empty() ? inner : "model.layers." + name.substr(4, dot - 4) + "." + inner;
}

class GgufTensors final : public TensorSet {
 public:
  GgufTensors(std::shared_ptr<const Gguf> gguf, const Json& config, std::string path)
      : gguf_(std::move(gguf)), path_(std::move(path)) {
    type_ = config.value("model_type", "");
    heads_ = config.value("num_attention_heads", int64_t{1});
    kv_heads_ = config.value("num_key_value_heads", heads_);
    for (const auto& [name, tensor] : gguf_->checkpoint().tensors()) {
      std::string hf = hugging_face_name(name, type_);
      names_[hf.empty() ? name : hf] = name;
    }
  }
  bool has(const std::string& name) const override { return names_.contains(name); }
  std::vector<int64_t> shape(const std::string& name) const override {
    const TensorInfo* tensor = find(name);
    return tensor ? tensor->shape : std::vector<int64_t>{};
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, gguf] : names_) result.push_back(name);
    return result;
  }
  const std::string& origin() const override { return path_; }

  Result<Rows> rows(const std::string& name) const override {
    const TensorInfo* tensor = find(name);
    if (!tensor) return fail(ErrorCode::kNotFound, strf("'{}' has no tensor '{}'", path_, name));
    Rows source = checkpoint_rows(gguf_->checkpoint(), *tensor);
    const bool q = name.find("self_attn.q_proj.") != std::string::npos,
               k = name.find("self_attn.k_proj.") != std::string::npos;
    if (type_ == "llama" && (q || k))
      return unturned(source, q ? heads_ : kv_heads_, name.ends_with(".bias"));
    if (type_ == "gemma2" && name.ends_with("norm.weight"))
      return map_rows(source, [n = source->columns](int64_t, float* row) {
        for (int64_t i = 0; i < n; ++i) row[i] -= 1.0f;
      });
    return source;
  }

 private:
  const TensorInfo* find(const std::string& name) const {
    const auto it = names_.find(name);
    return it == names_.end() ? nullptr : gguf_->checkpoint().find(it->second);
  }
  // llama.cpp interleaves the two halves of each head, for its pairwise rotation.
  static Result<Rows> unturned(Rows source, int64_t heads, bool vector) {
    const int64_t n = vector ? source->columns : source->rows;
    if (heads < 1 || n % (2 * heads) != 0) return source;  // the shape check names it
    const int64_t dim = n / heads;
    std::vector<int64_t> order;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t side = 0; side < 2; ++side)
        for (int64_t i = 0; i < dim / 2; ++i) order.push_back(h * dim + 2 * i + side);
    return vector ? permute_columns(std::move(source), std::move(order))
                  : permute_rows(std::move(source), std::move(order));
  }

  std::shared_ptr<const Gguf> gguf_;
  std::string path_, type_;
  int64_t heads_ = 1, kv_heads_ = 1;
  std::map<std::string, std::string> names_;  // Hugging Face -> GGUF
};

}  // namespace

Result<Json> gguf_config(const Gguf& gguf, const std::string& path) {
  const auto* architecture = gguf.find<std::string>("general.architecture");
  if (!architecture) return fail(ErrorCode::kInvalidFile, strf("'{}' has no general.architecture", path));
  const auto type = architectures().find(*architecture);
  if (type == architectures().end())
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' has the GGUF architecture '{}', which Linnet does not import", path, *architecture));
  Keys keys{gguf, *architecture + ".", {}};
  Json config;
  config["model_type"] = type->second;
  config["hidden_size"] = keys.integer("embedding_length");
  config["num_hidden_layers"] = keys.integer("block_count");
  config["num_attention_heads"] = keys.integer("attention.head_count");
  config["intermediate_size"] = keys.integer("feed_forward_length");
  config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  if (!keys.missing.empty())
    return fail(ErrorCode::kInvalidFile, strf("'{}' has no metadata key '{}'", path, keys.missing));
  keys.copy<int64_t>(config, "num_key_value_heads", "attention.head_count_kv");
  keys.copy<int64_t>(config, "head_dim", "attention.key_length");
  keys.copy<int64_t>(config, "max_position_embeddings", "context_length");
  keys.copy<int64_t>(config, "rotary_dim", "rope.dimension_count");
  keys.copy<double>(config, "rope_theta", "rope.freq_base");
  keys.copy<int64_t>(config, "sliding_window", "attention.sliding_window");
  keys.copy<double>(config, "attn_logit_softcapping", "attn_logit_softcapping");
  keys.copy<double>(config, "final_logit_softcapping", "final_logit_softcapping");
  read_rope_scaling(keys, config);
  const TensorInfo* table = gguf.checkpoint().find("token_embd.weight");
  if (!table) return fail(ErrorCode::kInvalidFile, strf("'{}' has no tensor 'token_embd.weight'", path));
  config["vocab_size"] = table->rows();
  config["tie_word_embeddings"] = gguf.checkpoint().find("output.weight") == nullptr;
  config["attention_bias"] =
      gguf.checkpoint().find("blk.0.attn_q.bias") != nullptr && type->second != "qwen2";
  if (type->second == "gemma2") config["hidden_act"] = "gelu_pytorch_tanh";
  return config;
}

std::unique_ptr<TensorSet> gguf_tensors(std::shared_ptr<const Gguf> gguf, const Json& config,
                                        const std::string& path) {
  return std::make_unique<GgufTensors>(std::move(gguf), config, path);
}

}  // namespace linnet::convert
