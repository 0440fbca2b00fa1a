#include "converter/transforms/linearize.h"

#include <map>
#include <set>

#include "converter/transforms/adapter.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// What each form makes of a model_type.
const std::map<std::string, std::map<std::string, std::string>>& forms() {
  static const std::map<std::string, std::map<std::string, std::string>> all = {
      {"liger", {{"llama", "liger_gla"}, {"mistral", "liger_mistral_gla"}, {"qwen2", "liger_qwen2_gla"}}},
      {"lolcats", {{"llama", "lolcats"}, {"mistral", "lolcats"}}},
      {"window", {{"llama", "window_linear_llama"}}}};
  return all;
}

// The keys of an adapter's configuration that shape the form; nested ones as the trainers write them.
void take_keys(const Json& from, std::initializer_list<const char*> keys, Json& to) {
  for (const char* key : keys)
    if (from.is_object() && from.contains(key)) to[key] = from[key];
}

Result<void> check_adapter(const std::string& form, const Adapter* adapter) {
  if (form == "lolcats" && !(adapter && adapter->has_tensor("feature_map_q")))
    return fail(ErrorCode::kUnsupported,
                "the lolcats form needs trained feature maps (tensors ...self_attn.feature_map_q.mlp.layer): "
                "give their folder with --lora. Random ones give no usable model.");
  if (form == "window" && !adapter)
    return fail(ErrorCode::kUnsupported,
                "the window form needs a trained adapter (--lora). Without one it would be a window with "
                "attention sinks, which needs no conversion: linnet chat and linnet run do that with any "
                "softmax model.");
  if (form == "window" && !adapter->has_tensor("feature_q"))
    return fail(ErrorCode::kUnsupported,
                strf("'{}' has no feature maps (layers.N.feat_q): it was not trained for the window form",
                     adapter->origin));
  return {};
}

}  // namespace

Result<void> linearize(Source& source, const std::string& form, const AdapterFolders& adapters) {
  std::optional<Adapter> adapter;
  if (!adapters.empty()) {
    LINNET_ASSIGN(adapter, read_adapter(adapters[0].first, adapters[0].second));
  }
  if (!form.empty()) {
    const auto it = forms().find(form);
    if (it == forms().end())
      return fail(ErrorCode::kInvalidArgument, strf("no form '{}': liger, lolcats or window", form));
    LINNET_TRY(check_adapter(form, adapter ? &*adapter : nullptr));
    const Json named = source.config.contains("model_type") ? source.config["model_type"] : Json();
    const std::string type = named.is_string() ? named.get<std::string>() : "";
    const auto target = it->second.find(type);
    if (target == it->second.end()) {
      std::string known;
      for (const auto& [from, to] : it->second) known += (known.empty() ? "" : ", ") + from;
      return fail(ErrorCode::kUnsupported,
                  strf("the {} form is defined for {}, not for '{}'{}", form, known, type,
                       type == "qwen3" && form == "liger" ? " (Liger drops Qwen3's norms of q and k)" : ""));
    }
    Json& config = source.config;
    config["model_type"] = target->second;
    if (adapter && form == "lolcats") {
      const Json& own = adapter->config;
      const Json attention = own.contains("attention") ? own["attention"] : own;
      take_keys(attention,
                {"window_size", "affine_attention_factors", "init_window_factor", "feature_map",
                 "normalizer_epsilon"},
                config);
      if (attention.is_object() && attention.contains("tie_qk_kernels"))
        config["tie_feature_map_qk"] = attention["tie_qk_kernels"];
      if (attention.is_object() && attention.contains("learned_kernel_kwargs"))
        take_keys(attention["learned_kernel_kwargs"], {"skip_connection"}, config);
      // HazyResearch's code adds nothing to the normaliser.
      if (own.contains("attention") && !config.contains("normalizer_epsilon"))
        config["normalizer_epsilon"] = 0;
    }
    if (adapter && form == "window")
      take_keys(adapter->config, {"window", "sinks", "gate_divisor", "gate_minimum"}, config);
    source.notes.push_back(strf("linearised: {} as {}", type, target->second));
  }
  std::set<std::string> replaced;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const auto& [folder, weight] = adapters[i];
    if (i > 0) {
      LINNET_ASSIGN(adapter, read_adapter(folder, weight));
    }
    for (const auto& [name, stored] : adapter->whole)
      if (!replaced.insert(name).second)
        return fail(
            ErrorCode::kInvalidArgument,
            strf("'{}' replaces '{}', and so does an adapter before it: give one of them", folder, name));
    if (!adapter->pairs.empty())
      source.notes.push_back(strf("{} LoRA pairs of '{}' merged in f32{}", adapter->pairs.size(), folder,
                                  weight == 1 ? "" : strf(", by {}", weight)));
    LINNET_ASSIGN(source.tensors, adapt(std::move(source.tensors), std::move(*adapter)));
  }
  return {};
}

}  // namespace linnet::convert
