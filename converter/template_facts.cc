#include "converter/template_facts.h"

#include <algorithm>
#include <filesystem>

#include "converter/readers/json.h"
#include "runtime/core/strings.h"
#include "runtime/text/template.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// Each is a text, or an object with its content. What an earlier map named stays unless `over`.
void add_tokens(const Json& map, bool over, Source& source) {
  if (!map.is_object()) return;
  for (const auto& [key, value] : map.items()) {
    if (key == "extra_special_tokens" || key == "model_specific_special_tokens")
      add_tokens(value, over, source);
    if (!key.ends_with("_token")) continue;
    const Json text = value.is_object() ? value.value("content", Json()) : value;
    if (!text.is_string()) continue;
    const std::string name = std::string(text::kTokenKey) + key;
    const auto known = std::ranges::find(source.metadata, name, &std::pair<std::string, std::string>::first);
    if (known == source.metadata.end())
      source.metadata.emplace_back(name, text.get<std::string>());
    else if (over)
      known->second = text.get<std::string>();
  }
}

}  // namespace

Result<void> read_template_tokens(const std::string& folder, Source& source) {
  const fs::path config_path = fs::path(folder) / "tokenizer_config.json";
  const fs::path map_path = fs::path(folder) / "special_tokens_map.json";
  Json config = Json::object();
  const JsonRelease released(config);
  if (fs::exists(config_path)) {
    LINNET_ASSIGN(config, read_json(config_path.string(), true));
  }
  add_tokens(config, true, source);
  // As transformers: the map is old, and counts where the configuration does not list its added tokens.
  if (!fs::exists(map_path) || !config.is_object() || config.contains("added_tokens_decoder")) return {};
  LINNET_ASSIGN(Json map, read_json(map_path.string(), true));
  const JsonRelease released_too(map);
  add_tokens(map, true, source);
  return {};
}

Result<void> check_chat_template(const Source& source, const std::string& path) {
  if (source.chat_template.empty()) return {};
  const auto parsed = text::ChatTemplate::parse(source.chat_template);
  if (parsed) return {};
  return fail(
      ErrorCode::kUnsupported,
      strf("'{}': {}; --chat-template FILE puts another in its place, and an empty file leaves it out", path,
           parsed.error().message));
}

}  // namespace linnet::convert
