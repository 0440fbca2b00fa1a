#include "converter/tokenizer_import.h"

#include <algorithm>
#include <filesystem>

#include "converter/readers/json.h"
#include "converter/rwkv_vocab.h"
#include "converter/sentencepiece_model.h"
#include "runtime/core/strings.h"
#include "runtime/text/pretokenizers.h"
#include "runtime/text/rwkv_world.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// Texts that end an answer in the chat formats people use, whatever the metadata says.
constexpr const char* kEndOfTurn[] = {"<|im_end|>", "<|eot_id|>",    "<|eom_id|>", "<end_of_turn>",
                                      "<|end|>",    "<|endoftext|>", "</s>"};

int find_piece(const fb::TokenizerT& t, const std::string& text) {
  for (const auto& added : t.added_tokens)
    if (added->text == text) return static_cast<int>(added->id);
  const auto it = std::find(t.pieces.begin(), t.pieces.end(), text);
  return it == t.pieces.end() ? -1 : static_cast<int>(it - t.pieces.begin());
}

void add_stop(fb::TokenizerT& t, int64_t id) {
  if (id < 0 || static_cast<size_t>(id) >= t.pieces.size()) return;
  if (std::find(t.stop_ids.begin(), t.stop_ids.end(), static_cast<int>(id)) == t.stop_ids.end())
    t.stop_ids.push_back(static_cast<int>(id));
}

void add_stops(fb::TokenizerT& t, const Json& ids) {
  if (ids.is_number_integer()) add_stop(t, ids.get<int64_t>());
  if (ids.is_array())
    for (const Json& id : ids)
      if (id.is_number_integer()) add_stop(t, id.get<int64_t>());
}

// A token of tokenizer_config.json: a string, or an object with its content.
std::string token_text(const Json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end()) return {};
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string())
    return (*it)["content"].get<std::string>();
  return {};
}

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

std::unique_ptr<fb::SamplerDefaultsT> sampler_defaults(const Json& generation) {
  const auto number = [&](const char* key, double absent) {
    const auto it = generation.find(key);
    return it != generation.end() && it->is_number() ? it->get<double>() : absent;
  };
  if (!generation.contains("temperature") && !generation.contains("top_p") && !generation.contains("top_k"))
    return nullptr;
  auto sampler = std::make_unique<fb::SamplerDefaultsT>();
  const bool samples = !generation.contains("do_sample") || generation["do_sample"] != false;
  sampler->temperature = samples ? static_cast<float>(number("temperature", 1)) : 0.0f;
  sampler->top_k = static_cast<int>(number("top_k", 0));
  sampler->top_p = static_cast<float>(number("top_p", 1));
  sampler->min_p = static_cast<float>(number("min_p", 0));
  sampler->repetition_penalty = static_cast<float>(number("repetition_penalty", 1));
  return sampler;
}

// rwkv_vocab_v20230424.txt, or whatever the version is.
fs::path rwkv_vocabulary(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("rwkv_vocab") && name.ends_with(".txt")) return entry.path();
  }
  return {};
}

Result<std::unique_ptr<fb::TokenizerT>> read_tokenizer(const fs::path& folder, const Json& config) {
  fb::TokenizerT tokenizer;
  if (const fs::path json = folder / "tokenizer.json"; fs::exists(json)) {
    LINNET_ASSIGN(const Json parsed, read_json(json.string()));
    LINNET_ASSIGN(tokenizer, import_tokenizer_json(parsed, "'" + json.string() + "'"));
  } else if (const fs::path model = folder / "tokenizer.model"; fs::exists(model)) {
    LINNET_ASSIGN(const std::string bytes, read_text(model.string()));
    LINNET_ASSIGN(tokenizer,
                  import_sentencepiece(std::as_bytes(std::span(bytes)), "'" + model.string() + "'"));
    tokenizer.add_bos = config.value("add_bos_token", true);
    tokenizer.add_eos = config.value("add_eos_token", false);
    const Json decoder = config.value("added_tokens_decoder", Json::object());  // outlives its items()
    for (const auto& [id, token] : decoder.items()) {
      const auto index = static_cast<size_t>(std::strtoul(id.c_str(), nullptr, 10));
      if (index > tokenizer.pieces.size() + 65536 || !token.is_object()) continue;
      auto added = std::make_unique<fb::AddedTokenT>();
      added->id = static_cast<uint32_t>(index);
      added->text = token.value("content", "");
      added->special = token.value("special", true);
      added->left_strip = token.value("lstrip", false);
      added->right_strip = token.value("rstrip", false);
      if (added->text.empty()) continue;
      if (tokenizer.pieces.size() <= index) {
        tokenizer.pieces.resize(index + 1);
        tokenizer.scores.resize(index + 1, 0.0f);
        tokenizer.kinds.resize(index + 1, fb::TokenKind::Unused);
        tokenizer.pieces[index] = added->text;
        tokenizer.kinds[index] = added->special ? fb::TokenKind::Control : fb::TokenKind::UserDefined;
      }
      tokenizer.added_tokens.push_back(std::move(added));
    }
  } else if (const fs::path vocab = rwkv_vocabulary(folder); !vocab.empty()) {
    LINNET_ASSIGN(const std::string text, read_text(vocab.string()));
    LINNET_ASSIGN(tokenizer, import_rwkv_vocab(text, "'" + vocab.string() + "'"));
  } else {
    return std::unique_ptr<fb::TokenizerT>();
  }
  return std::make_unique<fb::TokenizerT>(std::move(tokenizer));
}

}  // namespace

Result<void> import_folder_text(const std::string& path, Source& source) {
  const fs::path folder(path);
  Json config = Json::object(), generation = Json::object();
  if (fs::exists(folder / "tokenizer_config.json")) {
    LINNET_ASSIGN(config, read_json((folder / "tokenizer_config.json").string(), true));
  }
  if (fs::exists(folder / "generation_config.json")) {
    LINNET_ASSIGN(generation, read_json((folder / "generation_config.json").string(), true));
  }
  if (!config.is_object() || !generation.is_object())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': tokenizer_config.json and generation_config.json must be objects", path));
  LINNET_ASSIGN(source.tokenizer, read_tokenizer(folder, config));
  if (!source.tokenizer) {
    source.notes.push_back(
        "the folder has no tokenizer: the file can be run on token ids, but not chatted with");
    return {};
  }
  fb::TokenizerT& t = *source.tokenizer;
  if (const int id = find_piece(t, token_text(config, "bos_token")); id >= 0) t.bos_id = id;
  if (const int id = find_piece(t, token_text(config, "eos_token")); id >= 0) {
    t.eos_id = id;
    add_stop(t, id);
  }
  if (const int id = find_piece(t, token_text(config, "pad_token")); id >= 0) t.pad_id = id;
  add_stops(t, generation.value("eos_token_id", Json()));
  // A component of an image model has no configuration of a language model.
  if (source.config.is_object()) add_stops(t, source.config.value("eos_token_id", Json()));
  source.chat_template = chat_template(config);
  if (const fs::path file = folder / "chat_template.jinja"; fs::exists(file)) {
    LINNET_ASSIGN(source.chat_template, read_text(file.string(), 1 << 20));
  }
  source.sampler = sampler_defaults(generation);
  return {};
}

// RWKV World's turns: "User: ...", a blank line, "Assistant: ...", a blank line.
constexpr const char* kRwkvWorldTemplate =
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ 'System: ' + m.content + '\\n\\n' }}"
    "{% elif m.role == 'user' %}{{ 'User: ' + m.content + '\\n\\n' }}"
    "{% else %}{{ 'Assistant: ' + m.content + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

Result<void> import_gguf_text(const Gguf& gguf, const std::string& path, Source& source) {
  const auto* model = gguf.find<std::string>("tokenizer.ggml.model");
  const auto* tokens = gguf.find<std::vector<std::string>>("tokenizer.ggml.tokens");
  if (!model || !tokens) {
    source.notes.push_back(
        "the file has no tokenizer: the result can be run on token ids, but not chatted with");
    return {};
  }
  auto t = std::make_unique<fb::TokenizerT>();
  const bool byte_level = *model == "gpt2";
  if (byte_level) {
    t->kind = fb::TokenizerKind::ByteLevelBpe;
  } else if (*model == "llama") {
    t->kind = fb::TokenizerKind::SentencePieceBpe;
  } else if (*model == "t5") {
    t->kind = fb::TokenizerKind::Unigram;
  } else if (*model == "rwkv") {
    t->kind = fb::TokenizerKind::RwkvWorld;
  } else {
    return fail(ErrorCode::kUnsupported,
                strf("'{}' has a tokenizer of kind '{}', which Linnet does not have", path, *model));
  }
  const auto* kinds = gguf.find<std::vector<int64_t>>("tokenizer.ggml.token_type");
  const auto* scores = gguf.find<std::vector<double>>("tokenizer.ggml.scores");
  std::map<std::string, uint32_t> ids;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const std::string& piece = (*tokens)[i];
    static constexpr fb::TokenKind kKinds[] = {
        fb::TokenKind::Normal,      fb::TokenKind::Normal, fb::TokenKind::Unknown, fb::TokenKind::Control,
        fb::TokenKind::UserDefined, fb::TokenKind::Unused, fb::TokenKind::Byte};
    const int64_t kind = kinds && i < kinds->size() ? (*kinds)[i] : 1;
    const fb::TokenKind k = kind >= 0 && kind < 7 ? kKinds[kind] : fb::TokenKind::Normal;
    std::string bytes = piece;
    if (byte_level && k == fb::TokenKind::Normal && !decode_byte_level(piece, bytes)) bytes = piece;
    if (*model == "rwkv" && k == fb::TokenKind::Normal) {  // bytes as Python prints them
      auto plain = text::unescape_rwkv_piece(piece);
      if (!plain)
        return fail(ErrorCode::kInvalidFile,
                    strf("'{}': token {} is '{}', which is no escaped text", path, i, piece));
      bytes = std::move(*plain);
    }
    ids.emplace(piece, static_cast<uint32_t>(i));
    t->pieces.push_back(std::move(bytes));
    t->kinds.push_back(k);
    if (scores && i < scores->size()) t->scores.push_back(static_cast<float>((*scores)[i]));
    if (k == fb::TokenKind::Control || k == fb::TokenKind::UserDefined) {
      auto added = std::make_unique<fb::AddedTokenT>();
      added->id = static_cast<uint32_t>(i);
      added->text = piece;
      added->special = k == fb::TokenKind::Control;
      if (!piece.empty()) t->added_tokens.push_back(std::move(added));
    }
  }
  t->scores.resize(t->scores.empty() ? 0 : t->pieces.size());
  if (const auto* merges = gguf.find<std::vector<std::string>>("tokenizer.ggml.merges");
      merges && byte_level) {
    for (const std::string& merge : *merges) {
      const size_t space = merge.find(' ', 1);
      const auto a = space == std::string::npos ? ids.end() : ids.find(merge.substr(0, space));
      const auto b = space == std::string::npos ? ids.end() : ids.find(merge.substr(space + 1));
      if (a == ids.end() || b == ids.end())
        return fail(ErrorCode::kInvalidFile,
                    strf("'{}': the merge '{}' does not name two pieces", path, merge));
      t->merges.push_back(a->second);
      t->merges.push_back(b->second);
    }
  }
  const auto id_of = [&](const char* key) {
    const auto* id = gguf.find<int64_t>(key);
    return id && *id >= 0 && static_cast<size_t>(*id) < t->pieces.size() ? static_cast<int>(*id) : -1;
  };
  t->bos_id = id_of("tokenizer.ggml.bos_token_id");
  t->eos_id = id_of("tokenizer.ggml.eos_token_id");
  t->unknown_id = id_of("tokenizer.ggml.unknown_token_id");
  t->pad_id = id_of("tokenizer.ggml.padding_token_id");
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    add_stop(*t, id_of(key));
  for (const char* text : kEndOfTurn)
    if (const auto it = ids.find(text); it != ids.end() && t->kinds[it->second] == fb::TokenKind::Control)
      add_stop(*t, it->second);
  const auto flag = [&](const char* key, bool absent) {
    const auto* value = gguf.find<bool>(key);
    return value ? *value : absent;
  };
  t->add_bos = flag("tokenizer.ggml.add_bos_token", *model == "llama");
  t->add_eos = flag("tokenizer.ggml.add_eos_token", false);
  if (byte_level) {
    const auto* pre = gguf.find<std::string>("tokenizer.ggml.pre");
    const std::string name = pre ? *pre : "default";
    const auto steps = text::pretokenizer_preset(name);
    if (!steps)
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' has the pre-tokenizer '{}', which Linnet does not have", path, name));
    for (const auto& step : *steps) {
      auto s = std::make_unique<fb::PreTokenizerStepT>();
      s->pattern = step.pattern;
      s->invert = step.invert;
      s->behavior = static_cast<fb::SplitBehavior>(step.behavior);
      t->pre_tokenizer.push_back(std::move(s));
    }
    t->ignore_merges = text::preset_ignores_merges(name);
    t->add_prefix_space = flag("tokenizer.ggml.add_space_prefix", false);
  } else if (*model != "rwkv") {
    t->escape_whitespaces = true;
    t->add_dummy_prefix = flag("tokenizer.ggml.add_space_prefix", true);
    t->remove_extra_whitespaces = flag("tokenizer.ggml.remove_extra_whitespaces", false);
    t->byte_fallback = std::find(t->kinds.begin(), t->kinds.end(), fb::TokenKind::Byte) != t->kinds.end();
    if (const auto* map = gguf.find<std::vector<int64_t>>("tokenizer.ggml.precompiled_charsmap"))
      for (const int64_t byte : *map) t->charsmap.push_back(static_cast<uint8_t>(byte));
    else if (*model == "t5")
      t->normalization = "nmt_nfkc";
  }
  if (const auto* text = gguf.find<std::string>("tokenizer.chat_template")) source.chat_template = *text;
  if (source.chat_template == "rwkv-world") source.chat_template = kRwkvWorldTemplate;  // a name, no template
  source.tokenizer = std::move(t);
  return {};
}

}  // namespace linnet::convert
