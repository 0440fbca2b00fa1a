// What a checkpoint's folder says about text, merged from its files.
#include "converter/tokenizer_import.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "converter/readers/json.h"
#include "converter/rwkv_vocab.h"
#include "converter/sampler_import.h"
#include "converter/sentencepiece_model.h"
#include "converter/text_facts.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

std::string chat_template(const Json& config) {
  const auto it = config.find("chat_template");
  if (it == config.end()) return {};
  if (it->is_string()) return it->get<std::string>();
  std::string first;
  if (it->is_array())
    for (const Json& named : *it) {
      if (!named.is_object() || !named.value("template", Json()).is_string()) continue;
      if (named.value("name", "") == "default") return named["template"].get<std::string>();
      if (first.empty()) first = named["template"].get<std::string>();
    }
  return first;
}

// The JSON files beside the tokenizer; an empty object for one that is not there.
struct Beside {
  Json tokenizer, generation, special, added;
  Beside() = default;
  Beside(Beside&&) = default;
  Beside& operator=(Beside&&) = default;
  ~Beside() {
    for (Json* json : {&tokenizer, &generation, &special, &added}) release(*json);
  }
};

Result<Json> read_object(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return Json(Json::object());
  LINNET_ASSIGN(Json json, read_json(path.string(), true));
  const JsonRelease released(json);
  if (!json.is_object())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' is {}, expected an object", path.string(), json_text(json, 60)));
  return json;
}

bool is_llama_class(const Json& config) {
  const Json name = config.value("tokenizer_class", Json());
  return name.is_string() && name.get<std::string>().find("Llama") != std::string::npos;
}

Result<bool> flag_of(const Json& config, const char* key, bool absent) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return absent;
  if (it->is_boolean()) return it->get<bool>();
  return fail(ErrorCode::kInvalidFile,
              strf("tokenizer_config.json: '{}' is {}, expected true or false", key, json_text(*it)));
}

Result<fb::TokenizerT> read_sentencepiece(const fs::path& path, const Json& config, Source& source) {
  LINNET_ASSIGN(const std::string bytes, read_text(path.string()));
  LINNET_ASSIGN(fb::TokenizerT t,
                import_sentencepiece(std::as_bytes(std::span(bytes)), "'" + path.string() + "'"));
  LINNET_ASSIGN(t.add_bos, flag_of(config, "add_bos_token", true));
  LINNET_ASSIGN(t.add_eos, flag_of(config, "add_eos_token", false));
  LINNET_ASSIGN(const bool spaced, flag_of(config, "add_prefix_space", t.add_dummy_prefix));
  t.add_dummy_prefix = t.add_dummy_prefix && spaced;
  // transformers 5: not legacy is the default of its Llama tokenizer alone.
  const bool llama = is_llama_class(config);
  LINNET_ASSIGN(const bool legacy, flag_of(config, "legacy", !llama));
  t.prefix_first = t.add_dummy_prefix && !legacy;
  if (t.add_dummy_prefix)
    source.details.push_back(strf("SentencePiece: the space before a text is put {} ({})",
                                  legacy ? "behind added tokens too" : "at its very beginning alone",
                                  config.contains("legacy") ? "'legacy' of tokenizer_config.json"
                                  : llama                   ? "default of LlamaTokenizer in transformers 5"
                                                            : "the default without 'legacy'"));
  return t;
}

// The first that is there of the files a tokenizer can be in; the others are named.
Result<std::unique_ptr<fb::TokenizerT>> read_tokenizer(const fs::path& folder, const Json& config,
                                                       Source& source) {
  const std::string type = source.config.is_object() && source.config.value("model_type", Json()).is_string()
                               ? source.config["model_type"].get<std::string>()
                               : "";
  std::error_code error;
  const auto there = [&](const fs::path& path) { return !path.empty() && fs::exists(path, error); };
  const fs::path files[] = {folder / "tokenizer.json", folder / "tokenizer.model", folder / "tiktoken.model",
                            folder / "vocab.json", rwkv_vocabulary(folder)};
  std::vector<std::string> names;
  for (const fs::path& path : files)
    if (there(path) && (path.filename() != "vocab.json" || there(folder / "merges.txt")))
      names.push_back(path.filename().string());
  if (names.empty()) {
    if (there(folder / "vocab.json"))
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}' has a vocab.json without merges.txt, and no tokenizer.json: a tokenizer needs both",
               folder.string()));
    return std::unique_ptr<fb::TokenizerT>();
  }
  fb::TokenizerT t;
  const fs::path path = folder / names[0];
  const std::string what = "'" + path.string() + "'";
  if (names[0] == "tokenizer.json") {
    LINNET_ASSIGN(Json parsed, read_json(path.string(), true));
    const JsonRelease released(parsed);
    LINNET_ASSIGN(t, import_tokenizer_json(parsed, what, &source.notes));
  } else if (names[0] == "vocab.json") {
    LINNET_ASSIGN(t, import_vocab_and_merges(path.string(), (folder / "merges.txt").string(), config, type,
                                             source.notes));
  } else if (names[0].starts_with("rwkv_vocab")) {
    LINNET_ASSIGN(const std::string text, read_text(path.string()));
    LINNET_ASSIGN(t, import_rwkv_vocab(text, what));
  } else {
    LINNET_ASSIGN(const std::string text, read_text(path.string()));
    if (is_tiktoken(text)) {
      LINNET_ASSIGN(t, import_tiktoken(path.string(), config, type, source.notes));
    } else {
      LINNET_ASSIGN(t, read_sentencepiece(path, config, source));
    }
  }
  source.details.push_back(strf("tokenizer: {}", names[0]));
  for (size_t i = 1; i < names.size(); ++i)
    source.notes.push_back(strf("the tokenizer is {}; {} beside it is not read", names[0], names[i]));
  return std::make_unique<fb::TokenizerT>(std::move(t));
}

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kMap = "special_tokens_map.json";

Result<void> add_tokens(TextFacts& facts, const Beside& beside, bool may_rename) {
  const auto decoder = beside.tokenizer.find("added_tokens_decoder");
  if (decoder != beside.tokenizer.end() && decoder->is_object()) {
    std::vector<std::pair<int64_t, const Json*>> tokens;  // by id: one without a place gets the next free one
    for (const auto& [id, token] : decoder->items()) {
      const Json number = Json::parse(id, nullptr, false);
      const auto index = integer_of(number, 0, int64_t{1} << 22);
      if (!index || !token.is_object())
        return fail(ErrorCode::kInvalidFile,
                    strf("{}: added_tokens_decoder has '{}': {}", kConfig, id, json_text(token)));
      tokens.emplace_back(*index, &token);
    }
    std::sort(tokens.begin(), tokens.end());
    for (const auto& [id, json] : tokens) {
      fb::AddedTokenT token;
      const auto flag = [json](const char* key, bool absent) {
        const Json value = json->value(key, Json(absent));
        return value.is_boolean() && value.get<bool>();
      };
      const Json content = json->value("content", Json());
      if (!content.is_string())
        return fail(ErrorCode::kInvalidFile,
                    strf("{}: added_tokens_decoder has {}", kConfig, json_text(*json)));
      token.text = content.get<std::string>();
      token.special = flag("special", false);
      token.left_strip = flag("lstrip", false);
      token.right_strip = flag("rstrip", false);
      token.single_word = flag("single_word", false);
      token.normalized = flag("normalized", !token.special);
      LINNET_TRY(facts.add_token(std::move(token), id, may_rename, kConfig));
    }
    return {};
  }
  // Legacy: texts and ids alone; special are those that some map names.
  std::set<std::string> special;
  for (const Json* map : {&beside.tokenizer, &beside.special})
    for (const auto& [key, value] : map->items())
      for (const Json& one : value.is_array() ? value : Json::array({value}))
        if (key.ends_with("_token") || key.ends_with("_special_tokens")) {
          if (one.is_string()) special.insert(one.get<std::string>());
          if (one.is_object() && one.value("content", Json()).is_string())
            special.insert(one["content"].get<std::string>());
        }
  std::vector<std::pair<int64_t, std::string>> tokens;
  for (const auto& [text, value] : beside.added.items()) {
    LINNET_ASSIGN(const int64_t id,
                  read_integer(value, strf("added_tokens.json: '{}'", text), 0, int64_t{1} << 22));
    tokens.emplace_back(id, text);
  }
  std::sort(tokens.begin(), tokens.end());
  for (auto& [id, text] : tokens) {
    fb::AddedTokenT token;
    token.special = special.contains(text);
    token.normalized = !token.special;
    token.text = std::move(text);
    LINNET_TRY(facts.add_token(std::move(token), id, may_rename, "added_tokens.json"));
  }
  return {};
}

// More special tokens, by lists of texts or of objects.
Result<void> add_listed(TextFacts& facts, const Json& map, const char* source) {
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto list = map.find(key);
    if (list == map.end() || !list->is_structured()) continue;
    for (const Json& one : *list) LINNET_TRY(facts.named(Json{{"token", one}}, "token", source));
  }
  return {};
}

Result<void> merge_facts(const fs::path& folder, const Beside& beside, Source& source) {
  fb::TokenizerT& t = *source.tokenizer;
  TextFacts facts(t);
  LINNET_TRY(add_tokens(facts, beside, t.kind != fb::TokenizerKind::ByteLevelBpe && !t.steps));
  // As transformers: with added_tokens_decoder the map is old and comes last.
  std::vector<std::pair<const Json*, const char*>> maps = {{&beside.special, kMap},
                                                           {&beside.tokenizer, kConfig}};
  if (beside.tokenizer.contains("added_tokens_decoder")) std::swap(maps[0], maps[1]);
  for (const auto& [map, name] : maps) {
    for (const char* key : {"bos_token", "eos_token", "pad_token"}) LINNET_TRY(facts.named(*map, key, name));
    LINNET_TRY(add_listed(facts, *map, name));
  }
  for (const auto& [config, name] : {std::pair{&beside.generation, "generation_config.json"},
                                     std::pair{&std::as_const(source.config), "config.json"}}) {
    // A component of an image model has no configuration of a language model.
    if (!config->is_object()) continue;
    const Json inner = config->value("text_config", Json());
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      facts.ids(*config, key, name);
      facts.ids(inner, key, strf("text_config of {}", name));
    }
  }
  if (t.eos_id >= 0) facts.stop(t.eos_id, "the tokenizer");
  source.chat_template = chat_template(beside.tokenizer);
  std::string from = kConfig;
  for (const char* name : {"chat_template.json", "chat_template.jinja"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file)) continue;
    if (!source.chat_template.empty())
      source.details.push_back(strf("chat template: {} counts, not {}", name, from));
    from = name;
    if (file.extension() == ".json") {
      LINNET_ASSIGN(const Json json, read_object(file));
      source.chat_template = chat_template(json);
    } else {
      LINNET_ASSIGN(source.chat_template, read_text(file.string(), 1 << 20));
    }
  }
  if (!source.chat_template.empty()) source.details.push_back("chat template: " + from);
  facts.known_ends();
  facts.template_end(source.chat_template);
  facts.finish(source.details, source.notes);
  // Beside a tokenizer.json, whose post-processor says it, transformers 5 reads neither.
  if (t.steps && !fs::exists(folder / "tokenizer.json") &&
      (beside.tokenizer.contains("add_bos_token") || beside.tokenizer.contains("add_eos_token"))) {
    LINNET_ASSIGN(const bool bos, flag_of(beside.tokenizer, "add_bos_token", false));
    LINNET_ASSIGN(const bool eos, flag_of(beside.tokenizer, "add_eos_token", false));
    t.add_bos = bos && t.bos_id >= 0;
    t.add_eos = eos && t.eos_id >= 0;
    t.prefix_ids.clear();
    t.suffix_ids.clear();
    source.details.push_back(strf("around a text: {}{}, from {}", t.add_bos ? "bos" : "nothing before",
                                  t.add_eos ? " and eos" : ", nothing behind", kConfig));
  }
  return {};
}

}  // namespace

Result<void> import_folder_text(const std::string& path, Source& source) {
  const fs::path folder(path);
  Beside beside;
  for (const auto& [name, into] :
       {std::pair{kConfig, &beside.tokenizer}, std::pair{"generation_config.json", &beside.generation},
        std::pair{kMap, &beside.special}, std::pair{"added_tokens.json", &beside.added}}) {
    LINNET_ASSIGN(*into, read_object(folder / name));
  }
  LINNET_ASSIGN(source.tokenizer, read_tokenizer(folder, beside.tokenizer, source));
  if (!source.tokenizer) {
    source.notes.push_back(
        "the folder has no tokenizer: the file can be run on token ids, but not chatted with");
    return {};
  }
  LINNET_TRY(merge_facts(folder, beside, source));
  LINNET_ASSIGN(source.sampler, sampler_defaults(beside.generation, source.details, source.notes));
  return {};
}

}  // namespace linnet::convert
