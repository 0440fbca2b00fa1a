// tokenizer.json (Hugging Face tokenizers) into the file's tokenizer table. What changes ids or printed text
// and is not understood is refused by name.
#include "converter/tokenizer_json.h"

#include <algorithm>
#include <limits>
#include <span>

#include "converter/text_facts.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer.h"

namespace linnet::convert {

JsonFields::JsonFields(TokenizerBuilder& b, const Json& json, std::string where)
    : b_(b), json_(json), where_(std::move(where)) {
  if (!json.is_object()) {
    refuse(strf("is {}, expected an object", json_text(json)));
    return;
  }
  if (const auto type = json.find("type"); type != json.end() && type->is_string())
    where_ += " " + type->get<std::string>();
}

void JsonFields::refuse(const std::string& why) { b_.refuse(where_ + " " + why); }

const Json* JsonFields::find(const char* key) {
  asked_.insert(key);
  if (!json_.is_object()) return nullptr;
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

std::string JsonFields::text(const char* key, const std::string& absent) {
  const Json* value = find(key);
  if (value && value->is_string()) return value->get<std::string>();
  if (value) refuse(strf("has '{}' {}, expected a string", key, json_text(*value)));
  return absent;
}

bool JsonFields::flag(const char* key, bool absent) {
  const Json* value = find(key);
  if (value && value->is_boolean()) return value->get<bool>();
  if (value) refuse(strf("has '{}' {}, expected true or false", key, json_text(*value)));
  return absent;
}

int64_t JsonFields::integer(const char* key, int64_t absent, int64_t least, int64_t most) {
  const Json* value = find(key);
  if (!value) return absent;
  if (const auto n = integer_of(*value, least, most)) return *n;
  refuse(strf("has '{}' {}, expected an integer from {} to {}", key, json_text(*value), least, most));
  return absent;
}

const Json& JsonFields::list(const char* key) {
  static const Json kEmpty = Json::array();
  const Json* value = find(key);
  if (value && value->is_array()) return *value;
  if (value) refuse(strf("has '{}' {}, expected a list", key, json_text(*value)));
  return kEmpty;
}

void JsonFields::only(const char* key, const Json& value, const std::string& why) {
  const Json* found = find(key);
  if (found && *found != value)
    refuse(strf("has '{}' {}, {}; Linnet supports {}", key, json_text(*found), why, json_text(value)));
}

void JsonFields::finish() {
  if (!json_.is_object()) return;
  asked_.insert("type");
  for (const auto& [key, value] : json_.items())
    if (!asked_.contains(key)) refuse(strf("has '{}' {}, which Linnet does not know", key, json_text(value)));
}

namespace {

// Pieces by id; gaps stay empty and unused.
void set_piece(TokenizerBuilder& b, size_t id, std::string piece, fb::TokenKind kind) {
  if (b.out.pieces.size() <= id) {
    b.out.pieces.resize(id + 1);
    b.out.kinds.resize(id + 1, fb::TokenKind::Unused);
  }
  b.out.pieces[id] = std::move(piece);
  b.out.kinds[id] = kind;
}

void read_merges(TokenizerBuilder& b, const Json& merges, size_t prefix) {
  for (const Json& merge : merges) {
    std::string left, right;
    if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const size_t space = text.find(' ', 1);
      if (space == std::string::npos)
        return b.refuse(strf("its model BPE: the merge '{}' is not two pieces", text));
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      return b.refuse("its model BPE: a merge is not two pieces");
    }
    const auto a = b.vocabulary.find(left), c = b.vocabulary.find(right), none = b.vocabulary.end();
    const bool fits = a != none && c != none && right.size() >= prefix &&
                      b.vocabulary.find(left + right.substr(prefix)) != none;
    if (!fits)
      return b.refuse(strf("the merge '{}' + '{}' names pieces that are not in the vocabulary", left, right));
    b.out.merges.push_back(a->second);
    b.out.merges.push_back(c->second);
  }
}

void read_bpe(TokenizerBuilder& b, JsonFields& in, const Json& vocab) {
  fb::TokenizerT& t = b.out;
  t.kind = fb::TokenizerKind::SentencePieceBpe;
  for (const auto& [piece, value] : vocab.items()) {
    const auto id = integer_of(value, 0, static_cast<int64_t>(kMostPieces) - 1);
    if (!id) return b.refuse(strf("its model BPE: the piece '{}' has the id {}", piece, json_text(value)));
    b.vocabulary[piece] = static_cast<uint32_t>(*id);
    set_piece(b, static_cast<size_t>(*id), piece, fb::TokenKind::Normal);
  }
  t.subword_prefix = in.text("continuing_subword_prefix");
  t.word_suffix = in.text("end_of_word_suffix");
  t.separate_unknowns = !in.flag("fuse_unk", false);
  t.byte_fallback = in.flag("byte_fallback", false);
  t.ignore_merges = in.flag("ignore_merges", false);
  if (const Json* dropout = in.find("dropout"); dropout && number_of(*dropout).value_or(1) != 0)
    in.refuse(strf("has 'dropout' {}, which gives other ids each time: set it to null", json_text(*dropout)));
  read_merges(b, in.list("merges"), t.subword_prefix.size());
  // Where there are no merges, there is nothing to rank either.
  if (t.merges.empty()) t.scores.assign(t.pieces.size(), 0.0f);
  if (const std::string unknown = in.text("unk_token"); !unknown.empty()) {
    const auto it = b.vocabulary.find(unknown);
    if (it != b.vocabulary.end()) t.unknown_id = static_cast<int>(it->second);
  }
}

void read_unigram(TokenizerBuilder& b, JsonFields& in, const Json& vocab) {
  b.out.kind = fb::TokenizerKind::Unigram;
  b.out.byte_fallback = in.flag("byte_fallback", false);
  size_t id = 0, rounded = 0;
  for (const Json& entry : vocab) {
    const auto score = entry.is_array() && entry.size() == 2 ? number_of(entry[1]) : std::nullopt;
    if (!score || !entry[0].is_string() || id >= kMostPieces)
      return b.refuse("its model Unigram: a piece of its vocabulary is not [text, score]");
    b.vocabulary.emplace(entry[0].get<std::string>(), static_cast<uint32_t>(id));
    set_piece(b, id++, entry[0].get<std::string>(), fb::TokenKind::Normal);
    b.out.scores.push_back(static_cast<float>(*score));
    rounded += static_cast<double>(b.out.scores.back()) != *score ? 1 : 0;
  }
  // SentencePiece has f32, so that what was made from its models loses nothing.
  if (rounded > 0)
    b.notes.push_back(
        strf("{} scores of the vocabulary have more digits than f32, in which they are kept: where two ways "
             "to cut "
             "a word score alike to seven digits, it may be cut otherwise than by the tokenizers library",
             rounded));
  b.out.unknown_id = static_cast<int>(in.integer("unk_id", -1, 0, static_cast<int64_t>(id) - 1));
}

void mark_bytes_and_unknown(TokenizerBuilder& b) {
  fb::TokenizerT& t = b.out;
  size_t bytes = 0;
  for (size_t i = 0; i < t.pieces.size(); ++i) {
    const std::string& piece = t.pieces[i];
    if (!t.byte_fallback || piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') continue;
    t.kinds[i] = fb::TokenKind::Byte;
    ++bytes;
  }
  if (t.unknown_id >= 0 && static_cast<size_t>(t.unknown_id) < t.kinds.size())
    t.kinds[static_cast<size_t>(t.unknown_id)] = fb::TokenKind::Unknown;
  if (t.kind == fb::TokenizerKind::Unigram && t.unknown_id < 0 && bytes < 256)
    b.refuse("its model Unigram has no unk_id, and not all bytes: it fails on unknown characters");
}

void read_added_tokens(TokenizerBuilder& b, const Json& list) {
  for (const Json& token : list) {
    JsonFields in(b, token, "an added token");
    auto added = std::make_unique<fb::AddedTokenT>();
    const int64_t id = in.integer("id", -1, 0, static_cast<int64_t>(kMostPieces) - 1);
    added->id = static_cast<uint32_t>(id);
    added->text = in.text("content");
    if (id < 0 || added->text.empty()) return b.refuse("an added token has no id and content");
    added->special = in.flag("special", false);
    added->left_strip = in.flag("lstrip", false);
    added->right_strip = in.flag("rstrip", false);
    added->single_word = in.flag("single_word", false);
    added->normalized = in.flag("normalized", true);
    in.finish();
    const auto known = b.vocabulary.find(added->text);
    if (known != b.vocabulary.end() && known->second != added->id)
      return b.refuse(strf("the added token '{}' has the id {}, in the vocabulary it is {}", added->text,
                           added->id, known->second));
    const fb::TokenKind plain =
        known == b.vocabulary.end() ? fb::TokenKind::UserDefined : fb::TokenKind::Normal;
    set_piece(b, added->id, added->text, added->special ? fb::TokenKind::Control : plain);
    b.out.added_tokens.push_back(std::move(added));
  }
  if (!b.out.scores.empty()) b.out.scores.resize(b.out.pieces.size(), 0.0f);
}

// Byte-level BPE as GPT-2 has it can work on bytes, which is the same and faster: the pieces are stored as
// bytes.
void store_as_bytes(TokenizerBuilder& b) {
  fb::TokenizerT& t = b.out;
  const bool last = b.byte_level_steps == 1 && !t.pre_tokenizer.empty() &&
                    t.pre_tokenizer.back()->kind == fb::PreTokenizerKind::ByteLevel;
  const bool printed =
      t.decoder.empty() || (t.decoder.size() == 1 && t.decoder[0]->kind == fb::TextStepKind::ByteLevel);
  if (t.kind != fb::TokenizerKind::SentencePieceBpe || !last || !printed || b.byte_level_normalizer ||
      !t.subword_prefix.empty() || !t.word_suffix.empty() || t.byte_fallback)
    return;
  std::vector<bool> added(t.pieces.size()), seen(256);
  for (const auto& token : t.added_tokens) added[token->id] = true;
  std::vector<std::string> bytes(t.pieces.size());
  for (size_t i = 0; i < t.pieces.size(); ++i) {
    if (added[i])
      bytes[i] = t.pieces[i];
    else if (!text::bytes_of_byte_level(t.pieces[i], bytes[i]))
      return;
    else if (bytes[i].size() == 1)
      seen[static_cast<unsigned char>(bytes[i][0])] = true;
  }
  // Without one of the bytes there are unknown characters, which are more than one byte.
  if (std::find(seen.begin(), seen.end(), false) != seen.end()) return;
  // A merge of or into an added token that is no text of bytes.
  for (const uint32_t id : t.merges)
    if (std::string plain; added[id] && !text::bytes_of_byte_level(t.pieces[id], plain)) return;
  t.pieces = std::move(bytes);
  t.pre_tokenizer.pop_back();
  t.decoder.clear();
  t.kind = fb::TokenizerKind::ByteLevelBpe;
  t.scores.clear();
}

// A file without a decoder: the library would put a space between any two tokens.
void assume_decoder(TokenizerBuilder& b) {
  if (b.has_decoder) return;
  b.notes.push_back(
      "tokenizer.json has no decoder: tokens are printed one behind the other, U+2581 as a space");
  const auto add = [&b](fb::TextStepKind kind, const char* pattern = "") {
    auto step = std::make_unique<fb::TextStepT>();
    step->kind = kind;
    step->pattern = pattern;
    step->text = " ";
    b.out.decoder.push_back(std::move(step));
  };
  if (b.byte_level_steps > 0 || b.byte_level_normalizer) return add(fb::TextStepKind::ByteLevel);
  if (!b.out.word_suffix.empty()) add(fb::TextStepKind::WordEnd, b.out.word_suffix.c_str());
  add(fb::TextStepKind::Replace, kBlock);
  add(fb::TextStepKind::ByteFallback);
}

void read_all(TokenizerBuilder& b, const Json& json) {
  JsonFields in(b, json, "it");
  in.without_effect("version");
  for (const char* key : {"truncation", "padding"})
    if (const Json* value = in.find(key))
      b.notes.push_back(
          strf("tokenizer.json sets {} {}, which is not applied, as transformers does not unless asked", key,
               json_text(*value)));
  const Json none;
  const auto part = [&in, &none](const char* key) -> const Json& {
    const Json* value = in.find(key);
    return value ? *value : none;
  };
  read_normalizer(b, part("normalizer"));
  read_pre_tokenizer(b, part("pre_tokenizer"));
  read_decoder(b, part("decoder"));
  const Json& model_json = part("model");
  JsonFields model(b, model_json, "its model");
  const std::string type = model.text("type", model_json.contains("merges") ? "BPE" : "Unigram");
  const Json* vocab = model.find("vocab");
  if (vocab && type == "BPE" && vocab->is_object())
    read_bpe(b, model, *vocab);
  else if (vocab && type == "Unigram" && vocab->is_array())
    read_unigram(b, model, *vocab);
  else
    b.refuse(strf("its model '{}' is not supported (BPE and Unigram with a vocabulary are)", type));
  model.finish();
  mark_bytes_and_unknown(b);
  read_added_tokens(b, in.list("added_tokens"));
  read_post_processor(b, part("post_processor"));
  in.finish();
  b.out.steps = true;
  b.out.hugging_face = true;
  assume_decoder(b);
  if (b.problem.empty()) store_as_bytes(b);
}

}  // namespace

Result<fb::TokenizerT> import_tokenizer_json(const Json& json, const std::string& what,
                                             std::vector<std::string>* notes) {
  TokenizerBuilder b;
  if (!json.is_object() || !json.contains("model") || !json["model"].is_object() ||
      !json["model"].contains("vocab"))
    return fail(ErrorCode::kInvalidFile, strf("{} has no model with a vocabulary", what));
  try {
    read_all(b, json);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {  // a value of an unexpected type
    b.refuse(e.what());
  }
  if (!b.problem.empty())
    return fail(ErrorCode::kUnsupported, strf("{} cannot be imported: {}", what, b.problem));
  // Patterns that do not compile, steps in an order that is not possible.
  if (auto built = text::Tokenizer::create(text::from_fb(b.out)); !built) {
    if (built.error().code == ErrorCode::kOutOfMemory) return std::unexpected(std::move(built.error()));
    return fail(ErrorCode::kUnsupported, strf("{} cannot be imported: {}", what, built.error().message));
  }
  if (notes) notes->insert(notes->end(), b.notes.begin(), b.notes.end());
  return std::move(b.out);
}

}  // namespace linnet::convert
