#include "converter/text_facts.h"

#include <algorithm>
#include <limits>

#include "runtime/core/strings.h"
#include "runtime/text/template.h"

namespace linnet::convert {
namespace {

// Texts that end an answer in the chat formats people use, whatever the metadata says: llama.cpp's list.
constexpr const char* kEnds[] = {
    "<|im_end|>",        "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>",
    "<|endoftext|>",     "</s>",       "<EOT>",      "_<EOT>",  "[EOT]",      "[EOS]",    "<|end_of_text|>",
    "<end_of_utterance>"};

std::string token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  return {};
}

}  // namespace

int TextFacts::find(const std::string& text) const {
  if (indexed_ != t_.pieces.size() + t_.added_tokens.size()) {
    index_.clear();
    for (const auto& added : t_.added_tokens) index_.emplace(added->text, static_cast<int>(added->id));
    for (size_t i = 0; i < t_.pieces.size(); ++i)
      if (!t_.pieces[i].empty()) index_.emplace(t_.pieces[i], static_cast<int>(i));
    indexed_ = t_.pieces.size() + t_.added_tokens.size();
  }
  const auto it = index_.find(text);
  return it == index_.end() ? -1 : it->second;
}

Result<void> TextFacts::add_token(fb::AddedTokenT token, int64_t id, bool may_rename,
                                  const std::string& source) {
  if (token.text.empty()) return {};
  for (const auto& added : t_.added_tokens)
    if (added->text == token.text) {
      if (id >= 0 && id != static_cast<int64_t>(added->id) && !may_rename)
        return fail(ErrorCode::kInvalidFile,
                    strf("{} gives the token '{}' the id {}, the tokenizer has it as {}", source, token.text,
                         id, added->id));
      if (token.special && !added->special) {
        added->special = true;
        t_.kinds.resize(t_.pieces.size());
        t_.kinds[added->id] = fb::TokenKind::Control;
      }
      return {};
    }
  const int there = find(token.text);
  if (there >= 0 && (id < 0 || !may_rename)) {
    if (id >= 0 && id != there)
      return fail(ErrorCode::kInvalidFile,
                  strf("{} gives the token '{}' the id {}, the vocabulary has it as {}", source, token.text,
                       id, there));
    id = there;
  }
  if (id < 0) id = static_cast<int64_t>(t_.pieces.size());
  if (id >= static_cast<int64_t>(kMostPieces))
    return fail(ErrorCode::kInvalidFile, strf("{} gives the token '{}' the id {}", source, token.text, id));
  const auto index = static_cast<size_t>(id);
  t_.kinds.resize(t_.pieces.size(), fb::TokenKind::Normal);
  if (index >= t_.pieces.size()) {
    t_.pieces.resize(index + 1);
    t_.kinds.resize(index + 1, fb::TokenKind::Unused);
    if (!t_.scores.empty()) t_.scores.resize(index + 1, 0.0f);
  } else if (!may_rename && there < 0 && !t_.pieces[index].empty()) {
    return fail(ErrorCode::kInvalidFile,
                strf("{} gives the token '{}' the id {}, which is '{}' in the vocabulary", source, token.text,
                     id, t_.pieces[index]));
  }
  for (const auto& added : t_.added_tokens)
    if (added->id == index)
      return fail(ErrorCode::kInvalidFile, strf("{} gives the token '{}' the id {}, which is '{}'", source,
                                                token.text, id, added->text));
  t_.pieces[index] = token.text;
  t_.kinds[index] = token.special ? fb::TokenKind::Control : fb::TokenKind::UserDefined;
  token.id = static_cast<uint32_t>(index);
  added_.push_back(strf("added token '{}' ({}), from {}", token.text, id, source));
  t_.added_tokens.push_back(std::make_unique<fb::AddedTokenT>(std::move(token)));
  indexed_ = 0;
  return {};
}

Result<void> TextFacts::named(const Json& map, const char* key, const std::string& source) {
  const auto it = map.is_object() ? map.find(key) : map.end();
  if (!map.is_object() || it == map.end()) return {};
  fb::AddedTokenT token;
  token.text = token_text(*it);
  if (token.text.empty()) return {};
  token.special = true;
  const auto flag = [&](const char* name) {
    return it->is_object() && it->contains(name) && (*it)[name].is_boolean() && (*it)[name].get<bool>();
  };
  token.left_strip = flag("lstrip");
  token.right_strip = flag("rstrip");
  token.single_word = flag("single_word");
  token.normalized = flag("normalized");
  const std::string text = token.text;
  LINNET_TRY(add_token(std::move(token), -1, false, source));
  role(key, find(text), source);
  return {};
}

void TextFacts::role(const std::string& key, int id, const std::string& source) {
  if (id < 0) return;
  roles_.emplace(key, std::pair(id, source));
  if (key == "eos_token") stop(id, source);
}

void TextFacts::ids(const Json& config, const char* key, const std::string& source) {
  const auto it = config.is_object() ? config.find(key) : config.end();
  if (!config.is_object() || it == config.end()) return;
  const std::string name = std::string(key).substr(0, std::string_view(key).size() - 3);  // without _id
  const int64_t last = static_cast<int64_t>(t_.pieces.size()) - 1;
  for (const Json& value : it->is_array() ? *it : Json::array({*it}))
    if (const auto id = integer_of(value, 0, last))
      role(name, static_cast<int>(*id), source);
    else if (!value.is_null() && integer_of(value, -1, -1) != -1)  // which say that there is none
      notes_.push_back(strf("{}: '{}' is {}, expected a token from 0 to {}: it is not applied", source, key,
                            json_text(*it, 80), last));
}

void TextFacts::stop(int64_t id, const std::string& source) {
  if (id < 0 || static_cast<size_t>(id) >= t_.pieces.size()) return;
  std::string& sources = stops_[static_cast<int>(id)];
  if (sources.empty()) order_.push_back(static_cast<int>(id));
  if (sources.find(source) == std::string::npos) sources += (sources.empty() ? "" : ", ") + source;
}

void TextFacts::known_ends() {
  for (const char* text : kEnds) {
    const int id = find(text);
    if (id < 0) continue;
    stop(id, "its text");
    t_.kinds.resize(t_.pieces.size(), fb::TokenKind::Normal);
    const auto index = static_cast<size_t>(id);
    if (t_.kinds[index] == fb::TokenKind::Control) continue;
    // A token that ends answers is no text of one.
    t_.kinds[index] = fb::TokenKind::Control;
    const auto it = std::find_if(t_.added_tokens.begin(), t_.added_tokens.end(),
                                 [&](const auto& added) { return added->id == index; });
    if (it != t_.added_tokens.end()) {
      (*it)->special = true;
      continue;
    }
    auto added = std::make_unique<fb::AddedTokenT>();
    added->id = static_cast<uint32_t>(id);
    added->text = text;
    added->special = true;
    t_.added_tokens.push_back(std::move(added));
  }
}

void TextFacts::template_end(const std::string& chat_template) {
  if (chat_template.empty()) return;
  const auto parsed = text::ChatTemplate::parse(chat_template);
  if (!parsed) return;
  constexpr const char* kAnswer = "linnetanswer";
  const auto text_of = [this](const char* key) {
    const auto it = roles_.find(key);
    return it == roles_.end() ? std::string() : t_.pieces[static_cast<size_t>(it->second.first)];
  };
  text::RenderOptions options;
  for (const char* key : {"bos_token", "eos_token", "pad_token"})
    if (std::string text = text_of(key); !text.empty()) options.tokens.emplace_back(key, std::move(text));
  options.add_generation_prompt = false;
  const std::vector<text::Message> messages = {{"user", "linnetquestion", false},
                                               {"assistant", kAnswer, false}};
  const auto rendered = parsed->render(messages, options);
  if (!rendered) return;
  const size_t at = rendered->text.rfind(kAnswer);
  if (at == std::string::npos) return;
  std::string_view rest = std::string_view(rendered->text).substr(at + std::string_view(kAnswer).size());
  while (!rest.empty() && (rest[0] == ' ' || rest[0] == '\n')) rest.remove_prefix(1);
  const fb::AddedTokenT* longest = nullptr;
  for (const auto& added : t_.added_tokens)
    if (rest.starts_with(added->text) && (!longest || added->text.size() > longest->text.size()))
      longest = added.get();
  if (longest) stop(longest->id, "the chat template");
}

void TextFacts::finish(std::vector<std::string>& details, std::vector<std::string>& notes) {
  const auto shown = [&](int id) { return strf("'{}' ({})", t_.pieces[static_cast<size_t>(id)], id); };
  for (const auto& [key, into] : {std::pair{"bos_token", &t_.bos_id}, std::pair{"eos_token", &t_.eos_id},
                                  std::pair{"pad_token", &t_.pad_id}}) {
    const auto it = roles_.find(key);
    if (it != roles_.end()) *into = it->second.first;
    if (*into >= 0)
      details.push_back(strf("{}: {}, from {}", key, shown(*into),
                             it != roles_.end() ? it->second.second : "the tokenizer"));
  }
  details.insert(details.end(), added_.begin(), added_.end());
  notes.insert(notes.end(), notes_.begin(), notes_.end());
  t_.stop_ids.clear();
  for (const int id : order_) {
    t_.stop_ids.push_back(id);
    details.push_back(strf("ends an answer: {}, from {}", shown(id), stops_[id]));
  }
  if (order_.empty())
    notes.push_back(
        "no token is known to end an answer: it goes on to --max-tokens (an eos_token in "
        "tokenizer_config.json "
        "would say which one)");
}

}  // namespace linnet::convert
