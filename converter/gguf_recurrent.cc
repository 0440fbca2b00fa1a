// Recurrent families as llama.cpp's converter writes them: conversion/{mamba,rwkv,qwen,falcon_h1,granite,
// kimi_linear}.py. It renames tensors, squeezes convolutions, stores -exp(A_log) for A_log, adds 1 to the
// norms of Qwen and lays its value heads out in another order, folds Falcon-H1's multipliers into the weights
// and splits the latent projections of Kimi.
#include <algorithm>
#include <cmath>

#include "converter/gguf_layout.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

double log_of_negative(double a) { return std::log(-a); }
double minus_one(double w) { return w - 1; }

// A size from the file, made small enough for products of two; no tensor is larger.
int64_t size_of(const Json& config, const char* name) {
  return integer_of(config[name], 0, int64_t{1} << 24).value_or(0);
}

std::string block(int64_t i) { return strf("blk.{}.", i); }

void common_config(GgufKeys& keys, Json& config) {
  config["hidden_size"] = keys.integer("embedding_length");
  config["num_hidden_layers"] = std::clamp<int64_t>(keys.integer("block_count"), 0, 65536) -
                                std::clamp<int64_t>(keys.integer("nextn_predict_layers", 0), 0, 65536);
  keys.copy<int64_t>(config, "max_position_embeddings", "context_length");
}

// ---- Mamba-2 ----

void mamba2_sizes(GgufKeys& keys, int64_t& inner, int64_t& heads) {
  inner = keys.integer("ssm.inner_size");
  heads = keys.integer("ssm.time_step_rank");
}

void mamba2_config(GgufKeys& keys, Json& config) {
  int64_t inner = 0, heads = 0;
  mamba2_sizes(keys, inner, heads);
  config["model_type"] = "mamba2";
  config["num_heads"] = heads;
  config["head_dim"] = heads > 0 ? inner / heads : 0;
  // The importer rounds expand * hidden_size down, as transformers does.
  config["expand"] = (static_cast<double>(inner) + 0.25) /
                     std::max(static_cast<double>(size_of(config, "hidden_size")), 1.0);
  config["state_size"] = keys.integer("ssm.state_size");
  config["n_groups"] = keys.integer("ssm.group_count", 1);
  config["conv_kernel"] = keys.integer("ssm.conv_kernel");
  config["use_conv_bias"] = keys.has_tensor("blk.0.ssm_conv1d.bias");
  config["use_bias"] = keys.has_tensor("blk.0.ssm_in.bias");
  config["layer_norm_epsilon"] = keys.number("attention.layer_norm_rms_epsilon");
}

// The mixer's tensors, from block b to hf.*.
void map_mamba2(GgufLayout& layout, const std::string& b, const std::string& hf, int64_t inner) {
  layout.map(hf + ".in_proj.weight", b + "ssm_in.weight");
  layout.map(hf + ".in_proj.bias", b + "ssm_in.bias");
  layout.map(hf + ".conv1d.weight", b + "ssm_conv1d.weight");
  layout.map(hf + ".conv1d.bias", b + "ssm_conv1d.bias");
  layout.map(hf + ".dt_bias", b + "ssm_dt.bias");
  layout.map(hf + ".A_log", b + "ssm_a", {}, each_value(log_of_negative));
  layout.map(hf + ".D", b + "ssm_d");
  layout.map(hf + ".norm.weight", b + "ssm_norm.weight", {inner});
  layout.map(hf + ".out_proj.weight", b + "ssm_out.weight");
  layout.map(hf + ".out_proj.bias", b + "ssm_out.bias");
}

void mamba2_layout(const GgufKeys& keys, const Json&, int64_t layers, GgufLayout& layout) {
  layout.map("backbone.embeddings.weight", "token_embd.weight");
  layout.map("backbone.norm_f.weight", "output_norm.weight");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("backbone.layers.{}", i);
    layout.map(hf + ".norm.weight", b + "attn_norm.weight");
    map_mamba2(layout, b, hf + ".mixer", keys.integer("ssm.inner_size", 1));
  }
}

// ---- RWKV-7 ----

void rwkv7_config(GgufKeys& keys, Json& config) {
  config["model_type"] = "rwkv7";
  config["head_dim"] = keys.integer("wkv.head_size");
  config["norm_eps"] = keys.number("attention.layer_norm_epsilon");
  config["intermediate_size"] = keys.integer("feed_forward_length");
  config["norm_first"] = keys.has_tensor("token_embd_norm.weight");
  config["fuse_norm"] = false;  // as the original code: lengths of keys have no epsilon
}

void rwkv7_layout(const GgufKeys& keys, const Json& config, int64_t layers, GgufLayout& layout) {
  const auto both = [&](const std::string& hf, const std::string& tensor) {
    for (const char* part : {".weight", ".bias"}) layout.map(hf + part, tensor + part);
  };
  const int64_t hidden = size_of(config, "hidden_size"), dim = size_of(config, "head_dim");
  layout.map("model.embeddings.weight", "token_embd.weight");
  both("model.layers.0.pre_norm", "token_embd_norm");
  both("model.norm", "output_norm");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("model.layers.{}.", i), mix = b + "time_mix_";
    both(hf + "attn_norm", b + "attn_norm");
    both(hf + "ffn_norm", b + "attn_norm_2");
    both(hf + "attn.g_norm", mix + "ln");
    for (const char* r : {"w", "a", "v", "g"}) {
      if (i == 0 && *r == 'v') {  // the first layer has none: llama.cpp wants something there
        for (int n = 0; n < 3; ++n) layout.ignore(strf("{}v{}.weight", mix, n));
        continue;
      }
      const std::string lora = strf("{}attn.{}_lora.lora.", hf, r);
      layout.map(lora + "2.bias", strf("{}{}0.weight", mix, r));
      layout.map(lora + "0.weight", strf("{}{}1.weight", mix, r));
      layout.map(lora + "2.weight", strf("{}{}2.weight", mix, r));
    }
    const std::string fused = mix + "lerp_fused.weight";
    int64_t row = 0;
    for (const char* r : {"r", "w", "k", "v", "a", "g"}) {
      layout.map(strf("{}attn.x_{}", hf, r), fused, {hidden}, [row](Rows source) -> Result<Rows> {
        if (row >= source->rows)
          return fail(ErrorCode::kInvalidFile,
                      strf("'{}' has {} rows, expected 6", source->name, source->rows));
        return slice_rows(std::move(source), row, 1);
      });
      ++row;
    }
    layout.map(hf + "attn.k_k", mix + "k_k.weight");
    layout.map(hf + "attn.k_a", mix + "k_a.weight");
    layout.map(hf + "attn.r_k", mix + "r_k.weight", {dim > 0 ? hidden / dim : 1, dim});
    const std::pair<const char*, const char*> projections[] = {
        {"r", "receptance"}, {"k", "key"}, {"v", "value"}, {"o", "output"}};
    for (const auto& [to, from] : projections)
      layout.map(strf("{}attn.{}_proj.weight", hf, to), strf("{}{}.weight", mix, from));
    layout.map(hf + "ffn.x_k", b + "channel_mix_lerp_k.weight", {hidden});
    layout.map(hf + "ffn.key.weight", b + "channel_mix_key.weight");
    layout.map(hf + "ffn.value.weight", b + "channel_mix_value.weight");
  }
  (void)keys;
}

// ---- Qwen3-Next and Qwen3.5 ----

void attention_config(GgufKeys& keys, Json& config) {
  config["num_attention_heads"] = keys.largest("attention.head_count", 1);
  config["num_key_value_heads"] =
      keys.largest("attention.head_count_kv", keys.largest("attention.head_count", 1));
  config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  keys.copy<int64_t>(config, "head_dim", "attention.key_length");
  keys.copy<int64_t>(config, "rotary_dim", "rope.dimension_count");
  keys.copy<double>(config, "rope_theta", "rope.freq_base");
  for (int64_t i = 0; i < size_of(config, "num_hidden_layers") && i < 65536; ++i)
    if (keys.has_tensor(block(i) + "attn_q.bias")) config["attention_bias"] = true;
}

// What each layer is, seen from a tensor that only softmax attention has.
void layer_types(const GgufKeys& keys, Json& config, const char* attention_tensor, const char* attention,
                 const char* recurrent) {
  Json types = Json::array();
  const auto layers = size_of(config, "num_hidden_layers");
  for (int64_t i = 0; i < layers && i < 65536; ++i)
    types.push_back(keys.has_tensor(block(i) + attention_tensor) ? attention : recurrent);
  config["layer_types"] = types;
}

void qwen_config(const std::string& architecture, GgufKeys& keys, Json& config) {
  const bool next = architecture == "qwen3next", moe = keys.integer("expert_count", 0) > 0;
  config["model_type"] = next ? "qwen3_next" : moe ? "qwen3_5_moe_text" : "qwen3_5_text";
  attention_config(keys, config);
  layer_types(keys, config, "attn_q.weight", "full_attention", "linear_attention");
  const int64_t value_heads = keys.integer("ssm.time_step_rank");
  config["linear_conv_kernel_dim"] = keys.integer("ssm.conv_kernel");
  config["linear_key_head_dim"] = keys.integer("ssm.state_size");
  config["linear_num_key_heads"] = keys.integer("ssm.group_count");
  config["linear_num_value_heads"] = value_heads;
  config["linear_value_head_dim"] = value_heads > 0 ? keys.integer("ssm.inner_size") / value_heads : 0;
  config["intermediate_size"] = keys.largest("feed_forward_length", 1);
  config["num_experts"] = keys.integer("expert_count", 0);
  config["num_experts_per_tok"] = keys.integer("expert_used_count", 0);
  if (moe) {
    config["moe_intermediate_size"] = keys.integer("expert_feed_forward_length");
    config["mlp_only_layers"] = Json::array();
    for (int64_t i = 0; i < size_of(config, "num_hidden_layers"); ++i)
      if (!keys.has_tensor(block(i) + "ffn_gate_inp.weight")) config["mlp_only_layers"].push_back(i);
  }
  // Older files do not say how wide the shared expert is; its matrix does.
  config["shared_expert_intermediate_size"] = keys.integer("expert_shared_feed_forward_length", 0);
  for (int64_t i = 0; i < size_of(config, "num_hidden_layers"); ++i)
    if (const TensorInfo* shared = keys.gguf.checkpoint().find(block(i) + "ffn_gate_shexp.weight"))
      config["shared_expert_intermediate_size"] = shared->rows();
}

// Position of value head i = group * share + j among heads that llama.cpp lays out share-major (tiled),
// `width` channels each, after `before` rows that stay.
std::vector<int64_t> grouped_order(int64_t groups, int64_t share, int64_t width, int64_t before = 0) {
  std::vector<int64_t> order;
  constexpr int64_t kMost = int64_t{1}
                            << 24;  // more rows than any matrix has: not re-ordered, and then refused
  if (before > kMost || groups * share > kMost || groups * share * width > kMost) return order;
  for (int64_t i = 0; i < before; ++i) order.push_back(i);
  for (int64_t group = 0; group < groups; ++group)
    for (int64_t j = 0; j < share; ++j)
      for (int64_t c = 0; c < width; ++c) order.push_back(before + (j * groups + group) * width + c);
  return order;
}

// Rows (or the columns of one row or of a matrix) in that order; a tensor of another size is left for the
// shape check to name.
GgufLayout::Change reordered(std::vector<int64_t> order, bool columns) {
  return [order = std::move(order), columns](Rows source) -> Result<Rows> {
    if (static_cast<int64_t>(order.size()) != (columns ? source->columns : source->rows)) return source;
    return columns ? permute_columns(std::move(source), order) : permute_rows(std::move(source), order);
  };
}

GgufLayout::Change then(GgufLayout::Change first, GgufLayout::Change second) {
  return [first = std::move(first), second = std::move(second)](Rows source) -> Result<Rows> {
    LINNET_ASSIGN(Rows between, first(std::move(source)));
    return second(std::move(between));
  };
}

void map_mlp(GgufLayout& layout, const std::string& b, const std::string& hf) {
  for (const char* part : {"gate", "up", "down"})
    layout.map(strf("{}.{}_proj.weight", hf, part), strf("{}ffn_{}.weight", b, part));
}

void map_experts(GgufLayout& layout, const std::string& b, const std::string& experts,
                 const std::string& shared) {
  for (const char* part : {"gate", "up", "down"}) {
    layout.map(strf("{}.{}_proj.weight", experts, part), strf("{}ffn_{}_exps.weight", b, part));
    layout.map(strf("{}.{}_proj.weight", shared, part), strf("{}ffn_{}_shexp.weight", b, part));
  }
  layout.map(experts + ".gate_up_proj.weight", b + "ffn_gate_up_exps.weight");
}

void map_attention(GgufLayout& layout, const std::string& b, const std::string& hf) {
  const std::pair<const char*, const char*> names[] = {
      {"q_proj", "attn_q"}, {"k_proj", "attn_k"}, {"v_proj", "attn_v"}, {"o_proj", "attn_output"}};
  for (const auto& [to, from] : names)
    for (const char* part : {".weight", ".bias"}) layout.map(hf + "." + to + part, b + from + part);
}

void qwen_layout(const Json& config, int64_t layers, GgufLayout& layout) {
  const auto key = [&](const char* name) { return std::max<int64_t>(size_of(config, name), 1); };
  const int64_t groups = key("linear_num_key_heads"),
                share = std::max<int64_t>(key("linear_num_value_heads") / groups, 1);
  const int64_t width = key("linear_value_head_dim"), keys = 2 * groups * key("linear_key_head_dim");
  // Only Qwen3.5 re-orders.
  const bool tiled = config["model_type"].get<std::string>() != "qwen3_next" && share > 1;
  const GgufLayout::Change norm = each_value(minus_one);
  const auto order = [&](int64_t channels, int64_t before, bool columns) -> GgufLayout::Change {
    return tiled ? reordered(grouped_order(groups, share, channels, before), columns) : GgufLayout::Change();
  };
  layout.map("model.embed_tokens.weight", "token_embd.weight");
  layout.map("model.norm.weight", "output_norm.weight", {}, norm);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("model.layers.{}.", i), attn = hf + "self_attn";
    const std::string net = hf + "linear_attn.", mlp = hf + "mlp";
    layout.map(hf + "input_layernorm.weight", b + "attn_norm.weight", {}, norm);
    for (const char* name : {"post_attention_norm.weight", "ffn_norm.weight"})
      layout.map(hf + "post_attention_layernorm.weight", b + name, {}, norm);
    map_attention(layout, b, attn);
    layout.map(attn + ".q_norm.weight", b + "attn_q_norm.weight", {}, norm);
    layout.map(attn + ".k_norm.weight", b + "attn_k_norm.weight", {}, norm);
    layout.map(net + "in_proj_qkv.weight", b + "attn_qkv.weight", {}, order(width, keys, false));
    layout.map(net + "in_proj_z.weight", b + "attn_gate.weight", {}, order(width, 0, false));
    layout.map(net + "in_proj_a.weight", b + "ssm_alpha.weight", {}, order(1, 0, false));
    layout.map(net + "in_proj_b.weight", b + "ssm_beta.weight", {}, order(1, 0, false));
    layout.map(net + "in_proj_ba.weight", b + "ssm_ba.weight");
    layout.map(net + "in_proj_qkvz.weight", b + "ssm_in.weight");  // files before the split
    layout.map(net + "conv1d.weight", b + "ssm_conv1d.weight", {}, order(width, keys, false));
    layout.map(net + "dt_bias", b + "ssm_dt.bias", {}, order(1, 0, true));
    layout.map(net + "A_log", b + "ssm_a", {},
               tiled ? then(each_value(log_of_negative), order(1, 0, true)) : each_value(log_of_negative));
    layout.map(net + "norm.weight", b + "ssm_norm.weight");
    layout.map(net + "out_proj.weight", b + "ssm_out.weight", {}, order(width, 0, true));
    map_mlp(layout, b, mlp);
    layout.map(mlp + ".gate.weight", b + "ffn_gate_inp.weight");
    layout.map(mlp + ".shared_expert_gate.weight", b + "ffn_gate_inp_shexp.weight");
    map_experts(layout, b, mlp + ".experts", mlp + ".shared_expert");
  }
}

// ---- Falcon-H1 and Granite hybrids ----

void hybrid_mamba_config(GgufKeys& keys, Json& config) {
  int64_t inner = 0, heads = 0;
  mamba2_sizes(keys, inner, heads);
  config["mamba_d_ssm"] = inner;
  config["mamba_n_heads"] = heads;
  config["mamba_d_head"] = heads > 0 ? inner / heads : 0;
  config["mamba_n_groups"] = keys.integer("ssm.group_count", 1);
  config["mamba_d_state"] = keys.integer("ssm.state_size");
  config["mamba_d_conv"] = keys.integer("ssm.conv_kernel");
  for (int64_t i = 0; i < size_of(config, "num_hidden_layers") && i < 65536; ++i)
    if (keys.has_tensor(block(i) + "ssm_in.weight")) {
      config["mamba_conv_bias"] = keys.has_tensor(block(i) + "ssm_conv1d.bias");
      config["mamba_proj_bias"] = keys.has_tensor(block(i) + "ssm_in.bias");
      config["projectors_bias"] = keys.has_tensor(block(i) + "ssm_out.bias");
      break;
    }
}

void falcon_config(GgufKeys& keys, Json& config) {
  config["model_type"] = "falcon_h1";
  attention_config(keys, config);
  hybrid_mamba_config(keys, config);
  config["intermediate_size"] = keys.integer("feed_forward_length");
  config["mamba_rms_norm"] = keys.has_tensor("blk.0.ssm_norm.weight");
  config["mamba_norm_before_gate"] = false;  // the only order llama.cpp has
}

void falcon_layout(const Json& config, int64_t layers, GgufLayout& layout) {
  layout.map("model.embed_tokens.weight", "token_embd.weight");
  layout.map("model.final_layernorm.weight", "output_norm.weight");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("model.layers.{}.", i);
    layout.map(hf + "input_layernorm.weight", b + "attn_norm.weight");
    for (const char* name : {"ffn_norm", "ffn_norm.weight"})  // written without a suffix
      layout.map(hf + "pre_ff_layernorm.weight", b + name);
    map_attention(layout, b, hf + "self_attn");
    map_mamba2(layout, b, hf + "mamba", size_of(config, "mamba_d_ssm"));
    map_mlp(layout, b, hf + "feed_forward");
  }
}

// `hybrid` is false for llama.cpp's "granite": attention in every layer, and a rotary embedding unless it
// says not.
void granite_config(GgufKeys& keys, Json& config, bool hybrid) {
  config["model_type"] = "granitemoehybrid";
  attention_config(keys, config);
  if (hybrid) hybrid_mamba_config(keys, config);
  layer_types(keys, config, "attn_q.weight", "attention", hybrid ? "mamba" : "attention");
  const auto* turned = keys.gguf.find<bool>(keys.prefix + "rope.scaling.finetuned");
  config["position_embedding_type"] = (turned ? *turned : !hybrid) ? "rope" : "nope";
  const int64_t width = keys.integer("feed_forward_length");
  config["intermediate_size"] = width;
  config["num_local_experts"] = keys.integer("expert_count", 0);
  config["num_experts_per_tok"] = keys.integer("expert_used_count", 0);
  const int64_t dense = keys.integer("expert_count", 0) > 0 ? 0 : width;
  config["shared_intermediate_size"] = keys.integer("expert_shared_feed_forward_length", dense);
  if (const TensorInfo* gate = keys.gguf.checkpoint().find("blk.0.ffn_gate.weight"))
    config["shared_intermediate_size"] = gate->rows();
  const auto heads = static_cast<double>(size_of(config, "num_attention_heads")),
             hidden = static_cast<double>(size_of(config, "hidden_size"));
  const double dim = config.value("head_dim", heads > 0 ? hidden / heads : 1.0);
  config["attention_multiplier"] = keys.number("attention.scale", 1 / std::sqrt(std::max(dim, 1.0)));
  config["embedding_multiplier"] = keys.number("embedding_scale", 1);
  config["residual_multiplier"] = keys.number("residual_scale", 1);
  config["logits_scaling"] = keys.number("logit_scale", 1);
}

void granite_layout(const Json& config, int64_t layers, GgufLayout& layout) {
  const auto key = [&](const char* name) { return size_of(config, name); };
  const int64_t hidden = key("hidden_size"), shared = key("shared_intermediate_size");
  const int64_t experts = key("num_local_experts"), width = key("intermediate_size");
  const auto turned = [](int64_t heads, bool vector) -> GgufLayout::Change {
    return [heads, vector](Rows source) -> Result<Rows> {
      return vector ? unturned_columns(std::move(source), heads) : unturned(std::move(source), heads);
    };
  };
  // Gate and up of all experts -> gate and up of each expert in turn.
  const GgufLayout::Join paired = [experts, width](std::vector<Rows> sources) -> Result<Rows> {
    for (const Rows& source : sources)
      if (source->rows != experts * width || source->columns != sources[0]->columns)
        return fail(ErrorCode::kInvalidFile, strf("'{}' has {} rows, expected {} experts of {}", source->name,
                                                  source->rows, experts, width));
    std::vector<int64_t> order;
    for (int64_t e = 0; e < experts; ++e)
      for (int64_t side = 0; side < 2; ++side)
        for (int64_t r = 0; r < width; ++r) order.push_back((side * experts + e) * width + r);
    return permute_rows(concat_rows(std::move(sources)), std::move(order));
  };
  layout.map("model.embed_tokens.weight", "token_embd.weight");
  layout.map("model.norm.weight", "output_norm.weight");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("model.layers.{}.", i), attn = hf + "self_attn";
    const std::string mlp = hf + "shared_mlp", moe = hf + "block_sparse_moe";
    layout.map(hf + "input_layernorm.weight", b + "attn_norm.weight");
    layout.map(hf + "post_attention_layernorm.weight", b + "ffn_norm.weight");
    map_attention(layout, b, attn);
    for (const bool vector : {false, true}) {
      const char* part = vector ? ".bias" : ".weight";
      layout.map(attn + ".q_proj" + part, b + "attn_q" + part, {},
                 turned(key("num_attention_heads"), vector));
      layout.map(attn + ".k_proj" + part, b + "attn_k" + part, {},
                 turned(key("num_key_value_heads"), vector));
    }
    if (config.contains("mamba_d_ssm")) map_mamba2(layout, b, hf + "mamba", key("mamba_d_ssm"));
    for (const char* s : {"", "_shexp"}) {
      layout.join(mlp + ".input_linear.weight",
                  {b + "ffn_gate" + s + ".weight", b + "ffn_up" + s + ".weight"}, {2 * shared, hidden});
      layout.map(mlp + ".output_linear.weight", b + "ffn_down" + s + ".weight");
    }
    layout.map(moe + ".router.layer.weight", b + "ffn_gate_inp.weight");
    layout.join(moe + ".input_linear.weight", {b + "ffn_gate_exps.weight", b + "ffn_up_exps.weight"},
                {experts, 2 * width, hidden}, paired);
    layout.map(moe + ".output_linear.weight", b + "ffn_down_exps.weight");
  }
}

// ---- Kimi Linear ----

void kimi_config(GgufKeys& keys, Json& config) {
  config["model_type"] = "kimi_linear";
  const int64_t heads = keys.largest("attention.head_count", 1),
                shared = keys.integer("rope.dimension_count");
  config["num_attention_heads"] = heads;
  config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  layer_types(keys, config, "attn_kv_a_mqa.weight", "full_attention", "linear_attention");
  const int64_t dim = keys.integer("kda.head_dim"), layers = size_of(config, "num_hidden_layers");
  config["linear_head_dim"] = dim;
  config["linear_conv_kernel_dim"] = keys.integer("ssm.conv_kernel");
  for (int64_t i = 0; i < layers && i < 65536 && !config.contains("linear_num_heads"); ++i)
    if (const TensorInfo* decay = keys.gguf.checkpoint().find(block(i) + "ssm_a"))
      config["linear_num_heads"] = decay->elements();
  config["q_lora_rank"] = keys.integer("attention.q_lora_rank", 0);
  config["kv_lora_rank"] = keys.integer("attention.kv_lora_rank");
  config["qk_rope_head_dim"] = shared;
  config["qk_nope_head_dim"] = keys.integer("attention.key_length_mla") - shared;
  config["v_head_dim"] = keys.integer("attention.value_length_mla");
  config["intermediate_size"] = keys.largest("feed_forward_length", 1);
  config["num_experts"] = keys.integer("expert_count", 0);
  config["num_experts_per_token"] = keys.integer("expert_used_count", 0);
  config["num_shared_experts"] = keys.integer("expert_shared_count", 0);
  config["moe_intermediate_size"] = keys.integer("expert_feed_forward_length");
  config["first_k_dense_replace"] = keys.integer("leading_dense_block_count", 0);
  config["routed_scaling_factor"] = keys.number("expert_weights_scale", 1);
}

// k_b [heads, rank, nope] and v_b [heads, value, rank] -> for each head nope rows of keys, then value rows.
Result<Rows> latent_rows(std::vector<Rows> sources, int64_t heads, int64_t nope, int64_t value,
                         int64_t rank) {
  const Rows &keys = sources[0], &values = sources[1];
  if (keys->rows != heads * rank || keys->columns != nope || values->rows != heads * value ||
      values->columns != rank)
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' [{}, {}] and '{}' [{}, {}] do not fit {} heads", keys->name, keys->rows,
                     keys->columns, values->name, values->rows, values->columns, heads));
  std::vector<Rows> turned;
  std::vector<int64_t> order;
  for (int64_t h = 0; h < heads; ++h) {
    LINNET_ASSIGN(Rows head, transpose(slice_rows(keys, h * rank, rank)));
    turned.push_back(std::move(head));
    for (int64_t r = 0; r < nope; ++r) order.push_back(h * nope + r);
    for (int64_t r = 0; r < value; ++r) order.push_back(heads * nope + h * value + r);
  }
  turned.push_back(values);
  return permute_rows(concat_rows(std::move(turned)), std::move(order));
}

void kimi_layout(const Json& config, int64_t layers, GgufLayout& layout) {
  const auto key = [&](const char* name) { return size_of(config, name); };
  const int64_t heads = key("num_attention_heads"), nope = key("qk_nope_head_dim"), value = key("v_head_dim"),
                rank = key("kv_lora_rank");
  const auto join = [=](std::vector<Rows> sources) {
    return latent_rows(std::move(sources), heads, nope, value, rank);
  };
  layout.map("model.embed_tokens.weight", "token_embd.weight");
  layout.map("model.norm.weight", "output_norm.weight");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = block(i), hf = strf("model.layers.{}.", i), attn = hf + "self_attn.",
                      moe = hf + "block_sparse_moe.";
    layout.map(hf + "input_layernorm.weight", b + "attn_norm.weight");
    layout.map(hf + "post_attention_layernorm.weight", b + "ffn_norm.weight");
    map_attention(layout, b, hf + "self_attn");
    for (const char* part : {"q", "k", "v"})
      layout.map(strf("{}{}_conv1d.weight", attn, part), strf("{}ssm_conv1d_{}.weight", b, part));
    const std::pair<const char*, const char*> names[] = {{"f_a_proj", "ssm_f_a"},
                                                         {"f_b_proj", "ssm_f_b"},
                                                         {"g_a_proj", "ssm_g_a"},
                                                         {"g_b_proj", "ssm_g_b"},
                                                         {"b_proj", "ssm_beta"},
                                                         {"o_norm", "ssm_norm"},
                                                         {"q_a_proj", "attn_q_a"},
                                                         {"q_b_proj", "attn_q_b"},
                                                         {"q_a_layernorm", "attn_q_a_norm"},
                                                         {"kv_a_proj_with_mqa", "attn_kv_a_mqa"},
                                                         {"kv_a_layernorm", "attn_kv_a_norm"},
                                                         {"kv_b_proj", "attn_kv_b"}};
    for (const auto& [to, from] : names) layout.map(attn + to + ".weight", b + from + ".weight");
    layout.map(attn + "dt_bias", b + "ssm_dt.bias");
    layout.map(attn + "A_log", b + "ssm_a", {}, each_value(log_of_negative));
    layout.join(attn + "kv_b_proj.weight", {b + "attn_k_b.weight", b + "attn_v_b.weight"},
                {heads * (nope + value), rank}, join);
    map_mlp(layout, b, hf + "mlp");
    layout.map(moe + "gate.weight", b + "ffn_gate_inp.weight");
    for (const char* name : {"exp_probs_b.bias", "exp_probs_b"})
      layout.map(moe + "gate.e_score_correction_bias", b + name);
    map_experts(layout, b, moe + "experts", moe + "shared_experts");
  }
}

}  // namespace

bool recurrent_config(const std::string& architecture, GgufKeys& keys, Json& config) {
  const bool qwen = architecture == "qwen35" || architecture == "qwen35moe" || architecture == "qwen3next";
  if (!qwen && architecture != "mamba2" && architecture != "rwkv7" && architecture != "falcon-h1" &&
      architecture != "granitehybrid" && architecture != "granite" && architecture != "kimi-linear")
    return false;
  common_config(keys, config);
  if (qwen)
    qwen_config(architecture, keys, config);
  else if (architecture == "mamba2")
    mamba2_config(keys, config);
  else if (architecture == "rwkv7")
    rwkv7_config(keys, config);
  else if (architecture == "falcon-h1")
    falcon_config(keys, config);
  else if (architecture == "kimi-linear")
    kimi_config(keys, config);
  else
    granite_config(keys, config, architecture == "granitehybrid");
  return true;
}

bool recurrent_layout(const std::string& architecture, const GgufKeys& keys, const Json& config,
                      GgufLayout& layout) {
  const auto layers = std::min<int64_t>(config.value("num_hidden_layers", int64_t{0}), 65536);
  layout.map("lm_head.weight", "output.weight");
  if (architecture == "mamba2")
    mamba2_layout(keys, config, layers, layout);
  else if (architecture == "rwkv7")
    rwkv7_layout(keys, config, layers, layout);
  else if (architecture == "falcon-h1")
    falcon_layout(config, layers, layout);
  else if (architecture == "granitehybrid" || architecture == "granite")
    granite_layout(config, layers, layout);
  else if (architecture == "kimi-linear")
    kimi_layout(config, layers, layout);
  else if (architecture == "qwen35" || architecture == "qwen35moe" || architecture == "qwen3next")
    qwen_layout(config, layers, layout);
  else
    return false;
  layout.finish(layers);
  return true;
}

}  // namespace linnet::convert
