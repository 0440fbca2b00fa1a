#include "converter/gguf_source.h"

#include <map>

#include "converter/gguf_layout.h"
#include "converter/readers/rows.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// GGUF architecture -> model_type of config.json.
const std::map<std::string, std::string>& architectures() {
  static const std::map<std::string, std::string> kNames = {{"llama", "llama"},
                                                            {"qwen2", "qwen2"},
                                                            {"qwen3", "qwen3"},
                                                            {"gemma2", "gemma2"},
                                                            {"gemma3", "gemma3_text"}};

  return kNames;
}

void read_rope_scaling(const GgufKeys& keys, Json& config) {
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

bool is_gemma(const std::string& type) { return type == "gemma2" || type == "gemma3_text"; }

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
    inner = replaced(rest, is_gemma(type) ? kGemma : kPlain);
  }
  return inner.empty() ? inner : "model.layers." + name.substr(4, dot - 4) + "." + inner;
}

void softmax_layout(const Gguf& gguf, const Json& config, GgufLayout& layout) {
  const std::string type = config.value("model_type", "");
  const auto size = [&](const char* key, int64_t absent) {
    return config.contains(key) ? integer_of(config[key], 0, 65536).value_or(absent) : absent;
  };
  const int64_t heads = size("num_attention_heads", 1), kv_heads = size("num_key_value_heads", heads);
  const auto turned_back = [](int64_t n, bool vector) -> GgufLayout::Change {
    return [n, vector](Rows source) -> Result<Rows> {
      return vector ? unturned_columns(std::move(source), n) : unturned(std::move(source), n);
    };
  };
  for (const auto& [name, tensor] : gguf.checkpoint().tensors()) {
    const std::string hf = hugging_face_name(name, type);
    if (hf.empty()) continue;
    GgufLayout::Change change;
    const bool q = hf.find("self_attn.q_proj.") != std::string::npos,
               k = hf.find("self_attn.k_proj.") != std::string::npos;
    if (type == "llama" && (q || k)) change = turned_back(q ? heads : kv_heads, hf.ends_with(".bias"));
    if (is_gemma(type) && hf.ends_with("norm.weight")) change = each_value([](double w) { return w - 1; });
    layout.map(hf, name, {}, std::move(change));
  }
  layout.finish(1 << 20);
}

class GgufTensors final : public TensorSet {
 public:
  GgufTensors(std::shared_ptr<const Gguf> gguf, GgufLayout layout, std::string path)
      : gguf_(std::move(gguf)), layout_(std::move(layout)), path_(std::move(path)) {}
  bool has(const std::string& name) const override { return layout_.entries().contains(name); }
  std::vector<int64_t> shape(const std::string& name) const override {
    const auto it = layout_.entries().find(name);
    return it == layout_.entries().end() ? std::vector<int64_t>{} : it->second.shape;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, entry] : layout_.entries()) result.push_back(name);
    return result;
  }
  const std::string& origin() const override { return path_; }

  Result<Rows> rows(const std::string& name) const override {
    const auto it = layout_.entries().find(name);
    if (it == layout_.entries().end())
      return fail(ErrorCode::kNotFound, strf("'{}' has no tensor '{}'", path_, name));
    std::vector<Rows> sources;
    for (const std::string& tensor : it->second.sources)
      sources.push_back(checkpoint_rows(gguf_->checkpoint(), *gguf_->checkpoint().find(tensor)));
    if (it->second.join) return it->second.join(std::move(sources));
    for (const Rows& source : sources)
      if (source->columns != sources.front()->columns)
        return fail(ErrorCode::kInvalidFile, strf("'{}': '{}' and '{}' have rows of different lengths", path_,
                                                  sources.front()->name, source->name));
    return sources.size() == 1 ? sources.front() : concat_rows(std::move(sources));
  }

 private:
  std::shared_ptr<const Gguf> gguf_;
  GgufLayout layout_;
  std::string path_;
};

}  // namespace

Result<Json> gguf_config(const Gguf& gguf, const std::string& path) {
  const auto* architecture = gguf.find<std::string>("general.architecture");
  if (!architecture) return fail(ErrorCode::kInvalidFile, strf("'{}' has no general.architecture", path));
  GgufKeys keys{gguf, *architecture + ".", {}};
  Json config;
  const JsonRelease released(config);
  const TensorInfo* table = gguf.checkpoint().find("token_embd.weight");
  if (!table) return fail(ErrorCode::kInvalidFile, strf("'{}' has no tensor 'token_embd.weight'", path));
  config["vocab_size"] = table->rows();
  config["tie_word_embeddings"] = gguf.checkpoint().find("output.weight") == nullptr;
  const auto complete = [&]() -> Result<Json> {
    if (keys.missing.empty()) return config;
    return fail(ErrorCode::kInvalidFile, strf("'{}' has no metadata key '{}'", path, keys.missing));
  };
  read_rope_scaling(keys, config);
  if (recurrent_config(*architecture, keys, config)) return complete();
  const auto type = architectures().find(*architecture);
  if (type == architectures().end())
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' has the GGUF architecture '{}', which Linnet does not import", path, *architecture));
  config["model_type"] = type->second;
  config["hidden_size"] = keys.integer("embedding_length");
  config["num_hidden_layers"] = keys.integer("block_count");
  config["num_attention_heads"] = keys.integer("attention.head_count");
  config["intermediate_size"] = keys.integer("feed_forward_length");
  config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  keys.copy<int64_t>(config, "num_key_value_heads", "attention.head_count_kv");
  keys.copy<int64_t>(config, "head_dim", "attention.key_length");
  keys.copy<int64_t>(config, "max_position_embeddings", "context_length");
  keys.copy<int64_t>(config, "rotary_dim", "rope.dimension_count");
  keys.copy<double>(config, "rope_theta", "rope.freq_base");
  keys.copy<int64_t>(config, "sliding_window", "attention.sliding_window");
  keys.copy<double>(config, "attn_logit_softcapping", "attn_logit_softcapping");
  keys.copy<double>(config, "final_logit_softcapping", "final_logit_softcapping");
  config["attention_bias"] =
      gguf.checkpoint().find("blk.0.attn_q.bias") != nullptr && type->second != "qwen2";
  if (is_gemma(type->second)) {
    config["hidden_act"] = "gelu_pytorch_tanh";
    // The files do not say it; llama.cpp knows the models of 27B, whose queries are scaled by the hidden
    // size, by their layers.
    const int64_t layers = keys.integer("block_count"), heads = keys.integer("attention.head_count");
    if (layers == (type->second == "gemma2" ? 46 : 62) && heads > 0)
      config["query_pre_attn_scalar"] = keys.integer("embedding_length") / heads;
  }
  return complete();
}

std::unique_ptr<TensorSet> gguf_tensors(std::shared_ptr<const Gguf> gguf, const Json& config,
                                        const std::string& path) {
  GgufLayout layout(*gguf);
  const auto* architecture = gguf->find<std::string>("general.architecture");
  const std::string name = architecture ? *architecture : "";
  if (!recurrent_layout(name, GgufKeys{*gguf, name + ".", {}}, config, layout))
    softmax_layout(*gguf, config, layout);
  return std::make_unique<GgufTensors>(std::move(gguf), std::move(layout), path);
}

}  // namespace linnet::convert
