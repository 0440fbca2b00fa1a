// What Linnet does not compute is refused by name when a checkpoint is converted, never guessed: every case
// is a golden model with one value of its config.json changed.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "converter/convert.h"
#include "converter/readers/json.h"
#include "tests/converter/files.h"
#include "tests/goldens.h"
#include "tests/sanitized.h"

using namespace linnet;
using namespace linnet::testing;
namespace fs = std::filesystem;

namespace {

// The writer of JSON has no infinity: Mamba-2's limit of steps becomes null, which config.json says
// otherwise.
std::string with_infinity(std::string text) {
  const size_t at = text.find("\"time_step_limit\":[0.0,null]");
  if (at != std::string::npos) text.replace(text.find("null", at), 4, "Infinity");
  return text;
}

struct Refusal {
  const char* model;   // in tests/golden/language
  const char* change;  // merged into the config; null removes a key
  const char* named;   // in the error
};

const Refusal kRefusals[] = {
    {"llama", R"({"hidden_act": "mish"})", "hidden_act"},
    {"llama", R"({"rope_scaling": {"rope_type": "longrope", "factor": 2}})", "longrope"},
    {"llama", R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2}})", "dynamic"},
    {"llama", R"({"num_hidden_layers": -1})", "num_hidden_layers"},
    {"llama", R"({"num_hidden_layers": 1000000000})", "num_hidden_layers"},
    {"llama", R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})", "gptq"},
    {"llama", R"({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}})",
     "bitsandbytes"},
    {"llama", R"({"model_type": "gpt_neox"})", "gpt_neox"},
    {"fla_gla", R"({"feature_map": "hedgehog"})", "feature_map"},
    {"fla_gla", R"({"expand_k": 0.3})", "expand_k"},
    {"fla_gla", R"({"expand_v": -1})", "expand_v"},
    {"fla_gla", R"({"clamp_min": 1})", "clamp_min"},
    {"fla_gla", R"({"hidden_act": "powlu"})", "hidden_act"},
    {"fla_gla", R"({"use_short_conv": true, "conv_size": 1})", "taps"},
    {"fla_gla", R"({"use_short_conv": true, "conv_size": 99})", "taps"},
    {"fla_gla", R"({"use_gv": true})", "use_gv"},
    {"fla_gla", R"({"attnres_block_size": 2})", "attnres_block_size"},
    {"fla_gla", R"({"attn": {"layers": [5], "num_heads": 4}})", "attn.layers"},
    {"fla_gla", R"({"attn": {"layers": [0], "num_heads": 4, "qk_norm": true}})", "qk_norm"},
    {"fla_gla", R"({"attn": [{"layers": [0], "num_heads": 4}, {"layers": [0], "num_heads": 2}]})", "twice"},
    {"fla_retnet", R"({"num_heads": 0})", "heads"},
    {"fla_hgrn2", R"({"num_heads": 7, "expand_ratio": null})", "heads"},
    {"fla_delta_net", R"({"qk_norm": "l1"})", "qk_norm"},
    {"fla_delta_net", R"({"qk_activation": "gelu"})", "qk_activation"},
    {"fla_gated_deltanet", R"({"num_v_heads": 5})", "num_v_heads"},
    {"fla_kda", R"({"safe_gate": true})", "lower_bound"},
    {"fla_kda", R"({"safe_gate": true, "lower_bound": 5})", "lower_bound"},
    {"fla_rwkv7", R"({"hidden_act": "mish"})", "hidden_act"},
    {"fla_rwkv7", R"({"head_dim": 48})", "48"},
    {"fla_rwkv7", R"({"value_dim": 96})", "value_dim"},
    {"fla_rwkv7", R"({"value_dim": [64, 128, 64]})", "value_dim"},
    {"fla_rwkv7", R"({"attn": {"layers": [0], "num_heads": 4}})", "attn"},
    {"mamba2", R"({"conv_kernel": 17})", "taps"},
    {"mamba2", R"({"n_groups": 3})", "groups"},
    {"mamba2", R"({"expand": 3})", "inner channels"},
    {"mamba2", R"({"rms_norm": false})", "rms_norm"},
    {"mamba2", R"({"norm_before_gate": true})", "norm_before_gate"},
    {"mamba2", R"({"time_step_limit": [0.1]})", "time_step_limit"},
    {"mamba2", R"({"use_conv_bias": false})", "conv1d.bias"},
    {"mamba2", R"({"hidden_act": "mish"})", "hidden_act"},
    {"falcon_h1", R"({"ssm_multipliers": [1, 1, 1, 1]})", "ssm_multipliers"},
    {"falcon_h1", R"({"mamba_d_ssm": 90})", "90"},
    {"granite_hybrid", R"({"position_embedding_type": "alibi"})", "position_embedding_type"},
    {"granite_hybrid", R"({"normalization_function": "layernorm"})", "normalization_function"},
    {"granite_hybrid", R"({"layer_types": ["mamba", "attention", "rwkv"]})", "layer_types"},
    {"minimax", R"({"layer_types": ["linear_attention", "sliding"]})", "layer_types"},
    {"minimax", R"({"num_experts_per_tok": 99})", "experts"},
    {"minimax", R"({"layernorm_full_attention_alpha": 3.5})", "layernorm_full_attention_alpha"},
    {"qwen3_next_moe", R"({"linear_num_value_heads": 3})", "value heads"},
    {"qwen3_next_moe", R"({"mlp_only_layers": [9]})", "mlp_only_layers"},
    {"qwen3_next_moe", R"({"decoder_sparse_step": 0})", "decoder_sparse_step"},
    {"qwen3_next_moe", R"({"full_attention_interval": 0})", "full_attention_interval"},
    {"qwen3_next_moe", R"({"linear_conv_kernel_dim": 20})", "taps"},
    {"qwen3_5_text", R"({"attn_output_gate": false})", "attn_output_gate"},
    {"qwen3_5_text", R"({"layer_types": ["linear_attention"]})", "layer_types"},
    {"qwen3_5_published", R"({"text_config": 5})", "text_config"},
    {"kimi_linear", R"({"moe_router_activation_func": "softmax"})", "moe_router_activation_func"},
    {"kimi_linear", R"({"num_expert_group": 3, "topk_group": 1})", "groups of experts"},
    {"kimi_linear", R"({"mla_use_nope": false})", "mla_use_nope"},
    {"kimi_linear", R"({"linear_attn_config": {"kda_layers": [0, 2], "full_attn_layers": [1]}})",
     "kda_layers"},
    {"kimi_linear", R"({"linear_attn_config": {"kda_layers": [1], "full_attn_layers": [2]}})", "layer 3"},
    {"kimi_linear", R"({"num_key_value_heads": 1})", "num_key_value_heads"},
};

Result<convert::ConvertReport> convert_changed(const fs::path& model, const convert::Json& config,
                                               const TempFolder& folder) {
  fs::create_directory(folder / "m");
  for (const auto& entry : fs::directory_iterator(model))
    if (entry.path().filename() != "config.json")
      fs::create_symlink(entry.path(), folder / ("m/" + entry.path().filename().string()));
  folder.write("m/config.json", with_infinity(config.dump()));
  convert::ConvertOptions options;
  options.source = folder / "m";
  options.output = folder / "m.lnt";
  options.quantize = "f32";
  options.self_test = false;
  auto report = convert::convert(options);
  CHECK(fs::exists(options.output) == report.has_value());
  return report;
}

}  // namespace

TEST_CASE("unsupported values of a configuration are refused by name") {
  for (const Refusal& r : kRefusals) {
    INFO(std::string(r.model), ": ", std::string(r.change));
    const fs::path model = fs::path(LINNET_GOLDEN "/language") / r.model / "model";
    auto config = convert::read_json((model / "config.json").string(), true);
    REQUIRE(config);
    config->merge_patch(convert::Json::parse(r.change));
    const TempFolder folder;
    const auto report = convert_changed(model, *config, folder);
    CHECK_FALSE(report);
    if (!report) {
      INFO(report.error().message);
      CHECK(report.error().message.find(r.named) != std::string::npos);
    }
  }
}

// No number in a configuration, however wrong, may end the process: every integer of every golden's config is
// tried at values no model has. Conversion may fail or succeed, but must return.
TEST_CASE("any number in a configuration is survived") {
  for (const std::string& name : listed_goldens("language")) {
    const fs::path model = fs::path(LINNET_GOLDEN "/language") / name / "model";
    const auto original = convert::read_json((model / "config.json").string(), true);
    REQUIRE(original);
    for (const auto& [key, value] : original->items()) {
      if (!value.is_number() || key.ends_with("_token_id")) continue;  // ids of tokens shape nothing
      for (const double wrong : {-1.0, 0.0, 2147483648.0}) {
        // AddressSanitizer's operator new ends the process where others throw: no sizes beyond memory then.
        if (kSanitized && wrong > 1e9) continue;
        CAPTURE(name);
        CAPTURE(key);
        CAPTURE(wrong);
        convert::Json config = *original;
        config[key] = static_cast<int64_t>(wrong);
        const TempFolder folder;
        const auto report = convert_changed(model, config, folder);
        if (!report) CHECK_FALSE(report.error().message.empty());
      }
    }
  }
}
