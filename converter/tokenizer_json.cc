// tokenizer.json (Hugging Face tokenizers) into the file's tokenizer table. What changes ids and is not
// understood is refused by name.
#include <algorithm>
#include <map>

#include "converter/readers/json.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// As in GPT-2's encoder.py; ByteLevel's own regex.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr const char* kBlock = "\xE2\x96\x81";  // U+2581, SentencePiece's space

bool decode_base64(const std::string& text, std::vector<uint8_t>& bytes) {
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<uint8_t>(bits >> held));
    }
  }
  return true;
}

struct Builder {
  const std::string& what;
  fb::TokenizerT out;
  std::string problem;
  bool byte_level = false;
  bool strips = false, collapses = false;  // converted SentencePiece models do both

  void refuse(std::string why) {
    if (problem.empty()) problem = std::move(why);
  }
  void unsupported(const char* part, const Json& json) {
    refuse(strf("its {} {} is not supported", part, json_text(json, 300)));
  }

  void add_step(std::string pattern, fb::SplitBehavior behavior, bool invert = false) {
    if (out.metaspace) refuse("its pre-tokenizer cuts behind Metaspace, which is not supported");
    auto step = std::make_unique<fb::PreTokenizerStepT>();
    step->pattern = std::move(pattern);
    step->behavior = behavior;
    step->invert = invert;
    out.pre_tokenizer.push_back(std::move(step));
  }
};

std::string quoted_pattern(const std::string& literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::string_view("\\^$.|?*+()[]{}#-").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

fb::SplitBehavior behavior_of(Builder& b, const std::string& name) {
  static const std::map<std::string, fb::SplitBehavior> kNames = {
      {"Isolated", fb::SplitBehavior::Isolated},
      {"Removed", fb::SplitBehavior::Removed},
      {"MergedWithPrevious", fb::SplitBehavior::MergedWithPrevious},
      {"MergedWithNext", fb::SplitBehavior::MergedWithNext},
      {"Contiguous", fb::SplitBehavior::Contiguous}};
  const auto it = kNames.find(name);
  if (it != kNames.end()) return it->second;
  b.refuse(strf("its split behaviour '{}' is not supported", name));
  return fb::SplitBehavior::Isolated;
}

void read_normalizer(Builder& b, const Json& json) {
  if (json.is_null()) return;
  const std::string type = json.value("type", "");
  const auto set = [&b](const char* name) {
    if (!b.out.normalization.empty() && b.out.normalization != name)
      b.refuse("it chains two Unicode normalisations");
    b.out.normalization = name;
  };
  if (type == "Sequence") {
    for (const Json& part : json.value("normalizers", Json::array())) read_normalizer(b, part);
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    set(type == "NFC" ? "nfc" : type == "NFD" ? "nfd" : type == "NFKC" ? "nfkc" : "nfkd");
  } else if (type == "Precompiled") {
    if (!decode_base64(json.value("precompiled_charsmap", ""), b.out.charsmap))
      b.refuse("its precompiled character map is no base64");
  } else if (type == "Prepend" && json.value("prepend", "") == kBlock) {
    b.out.add_dummy_prefix = true;
  } else if (type == "Replace") {
    const Json pattern = json.value("pattern", Json::object());
    const std::string content = json.value("content", "");
    if (pattern.value("String", "") == " " && content == kBlock)
      b.out.escape_whitespaces = true;
    else if (pattern.value("Regex", "") == " {2,}" && (content == " " || content == kBlock))
      b.collapses = true;
    else
      b.unsupported("normalizer", json);
  } else if (type == "Strip" && !json.value("strip_left", true) && json.value("strip_right", true) &&
             !b.out.escape_whitespaces) {
    b.strips = true;
  } else {
    b.unsupported("normalizer", json);
  }
}

void read_pre_tokenizer(Builder& b, const Json& json) {
  if (json.is_null()) return;
  const std::string type = json.value("type", "");
  if (type == "Sequence") {
    for (const Json& part : json.value("pretokenizers", Json::array())) read_pre_tokenizer(b, part);
  } else if (type == "ByteLevel") {
    b.byte_level = true;
    b.out.add_prefix_space = json.value("add_prefix_space", true);
    if (json.value("use_regex", true)) b.add_step(kGpt2Pattern, fb::SplitBehavior::Isolated);
  } else if (type == "Digits") {
    if (json.value("individual_digits", false))
      b.add_step(R"(\p{N})", fb::SplitBehavior::Isolated);
    else
      b.add_step(R"(\p{N}+)", fb::SplitBehavior::Isolated);
  } else if (type == "Split") {
    const Json pattern = json.value("pattern", Json::object());
    std::string regex;
    if (pattern.contains("Regex") && pattern["Regex"].is_string())
      regex = pattern["Regex"].get<std::string>();
    else if (pattern.contains("String") && pattern["String"].is_string())
      regex = quoted_pattern(pattern["String"].get<std::string>());
    else
      b.unsupported("pre-tokenizer", json);
    b.add_step(regex, behavior_of(b, json.value("behavior", "Isolated")), json.value("invert", false));
  } else if (type == "Metaspace") {
    if (json.value("replacement", kBlock) != kBlock || b.out.escape_whitespaces || b.out.add_dummy_prefix)
      b.unsupported("pre-tokenizer", json);
    b.out.metaspace = b.out.escape_whitespaces = true;
    b.out.metaspace_split = json.value("split", true);
    const std::string scheme =
        json.value("prepend_scheme", json.value("add_prefix_space", true) ? "always" : "never");
    b.out.add_dummy_prefix = scheme != "never";
    b.out.prefix_first = scheme == "first";
  } else if (type == "Whitespace") {
    b.add_step(R"(\w+|[^\w\s]+)", fb::SplitBehavior::Removed, true);
  } else if (type == "WhitespaceSplit") {
    b.add_step(R"(\s+)", fb::SplitBehavior::Removed);
  } else if (type == "Punctuation") {
    b.add_step(R"([\p{P}$+<=>^`|~])", behavior_of(b, json.value("behavior", "Isolated")));
  } else {
    b.unsupported("pre-tokenizer", json);
  }
}

// Pieces by id; gaps stay empty and unused.
void set_piece(Builder& b, size_t id, std::string piece, fb::TokenKind kind) {
  if (id >= (size_t{1} << 22)) return b.refuse(strf("it has the id {}, which is absurd", id));
  if (b.out.pieces.size() <= id) {
    b.out.pieces.resize(id + 1);
    b.out.kinds.resize(id + 1, fb::TokenKind::Unused);
  }
  b.out.pieces[id] = std::move(piece);
  b.out.kinds[id] = kind;
}

void read_bpe(Builder& b, const Json& model) {
  const Json& vocab = model["vocab"];
  std::map<std::string, uint32_t> ids;
  for (const auto& [piece, id] : vocab.items()) {
    if (!id.is_number_unsigned()) return b.refuse(strf("the piece '{}' has no id", piece));
    ids[piece] = id.get<uint32_t>();
    std::string bytes = piece;
    if (b.byte_level && !decode_byte_level(piece, bytes))
      bytes = piece;  // an added token that is in the vocabulary too
    set_piece(b, id.get<size_t>(), std::move(bytes), fb::TokenKind::Normal);
  }
  if (!b.problem.empty()) return;
  for (const Json& merge : model.value("merges", Json::array())) {
    std::string left, right;
    if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const size_t space = text.find(' ', 1);
      if (space == std::string::npos) return b.refuse(strf("the merge '{}' is not two pieces", text));
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      return b.refuse("a merge is not two pieces");
    }
    const auto a = ids.find(left), c = ids.find(right), both = ids.find(left + right);
    if (a == ids.end() || c == ids.end() || both == ids.end())
      return b.refuse(strf("the merge '{}' + '{}' names pieces that are not in the vocabulary", left, right));
    b.out.merges.push_back(a->second);
    b.out.merges.push_back(c->second);
  }
  b.out.byte_fallback = model.value("byte_fallback", false);
  b.out.ignore_merges = model.value("ignore_merges", false);
  if (b.byte_level) {
    b.out.kind = fb::TokenizerKind::ByteLevelBpe;
    return;
  }
  b.out.kind = fb::TokenizerKind::SentencePieceBpe;
  // Where there are no merges, there is nothing to rank either.
  if (b.out.merges.empty()) b.out.scores.assign(b.out.pieces.size(), 0.0f);
}

void mark_bytes_and_unknown(Builder& b, const Json& model) {
  for (size_t i = 0; i < b.out.pieces.size(); ++i) {
    const std::string& piece = b.out.pieces[i];
    if (b.out.byte_fallback && piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>')
      b.out.kinds[i] = fb::TokenKind::Byte;
  }
  if (model.contains("unk_token") && model["unk_token"].is_string()) {
    const auto it =
        std::find(b.out.pieces.begin(), b.out.pieces.end(), model["unk_token"].get<std::string>());
    if (it != b.out.pieces.end()) b.out.unknown_id = static_cast<int>(it - b.out.pieces.begin());
  }
  if (model.contains("unk_id") && model["unk_id"].is_number_integer())
    b.out.unknown_id = model["unk_id"].get<int>();
  if (b.out.unknown_id >= 0 && static_cast<size_t>(b.out.unknown_id) < b.out.kinds.size())
    b.out.kinds[static_cast<size_t>(b.out.unknown_id)] = fb::TokenKind::Unknown;
}

void read_unigram(Builder& b, const Json& model) {
  b.out.kind = fb::TokenizerKind::Unigram;
  b.out.byte_fallback = model.value("byte_fallback", false);
  size_t id = 0;
  for (const Json& entry : model["vocab"]) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      return b.refuse("a piece of its vocabulary is not [text, score]");
    set_piece(b, id++, entry[0].get<std::string>(), fb::TokenKind::Normal);
    b.out.scores.push_back(entry[1].get<float>());
  }
}

void read_added_tokens(Builder& b, const Json& json) {
  for (const Json& token : json.value("added_tokens", Json::array())) {
    if (!token.is_object() || !token.value("id", Json()).is_number_unsigned() ||
        !token.value("content", Json()).is_string())
      return b.refuse("an added token has no id and content");
    auto added = std::make_unique<fb::AddedTokenT>();
    added->id = token["id"].get<uint32_t>();
    added->text = token["content"].get<std::string>();
    added->special = token.value("special", false);
    added->left_strip = token.value("lstrip", false);
    added->right_strip = token.value("rstrip", false);
    added->single_word = token.value("single_word", false);
    added->normalized = token.value("normalized", true);
    set_piece(b, added->id, added->text,
              added->special ? fb::TokenKind::Control : fb::TokenKind::UserDefined);
    b.out.added_tokens.push_back(std::move(added));
  }
  if (!b.out.scores.empty()) b.out.scores.resize(b.out.pieces.size(), 0.0f);
}

// What is put around one text: only a first and a last special token are understood.
void read_post_processor(Builder& b, const Json& json) {
  if (json.is_null()) return;
  const std::string type = json.value("type", "");
  if (type == "Sequence") {
    for (const Json& part : json.value("processors", Json::array())) read_post_processor(b, part);
  } else if (type == "TemplateProcessing") {
    const Json single = json.value("single", Json::array());
    bool seen_text = false;
    for (const Json& part : single) {
      if (part.contains("Sequence")) {
        seen_text = true;
        continue;
      }
      const std::string name = part.contains("SpecialToken") ? part["SpecialToken"].value("id", "") : "";
      const auto it = std::find_if(b.out.added_tokens.begin(), b.out.added_tokens.end(),
                                   [&](const auto& t) { return t->text == name; });
      if (it == b.out.added_tokens.end()) return b.unsupported("post-processor", part);
      (seen_text ? b.out.add_eos : b.out.add_bos) = true;
      (seen_text ? b.out.eos_id : b.out.bos_id) = static_cast<int>((*it)->id);
    }
  } else if (type != "ByteLevel") {
    b.unsupported("post-processor", json);
  }
}

}  // namespace

bool decode_byte_level(const std::string& piece, std::string& bytes) {
  // Printable bytes stand for themselves; the other 68 are U+0100 and up, in order.
  static const std::vector<int> kByteOf = [] {
    std::vector<int> table(0x100 + 68, -1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      table[static_cast<size_t>(printable ? byte : next++)] = byte;
    }
    return table;
  }();
  bytes.clear();
  for (size_t i = 0; i < piece.size();) {
    const auto first = static_cast<unsigned char>(piece[i]);
    size_t code = first, length = 1;
    if (first >= 0x80) {
      if ((first & 0xE0) != 0xC0 || i + 1 >= piece.size()) return false;
      code = static_cast<size_t>(first & 0x1F) << 6 | (static_cast<unsigned char>(piece[i + 1]) & 0x3Fu);
      length = 2;
    }
    if (code >= kByteOf.size() || kByteOf[code] < 0) return false;
    bytes += static_cast<char>(kByteOf[code]);
    i += length;
  }
  return true;
}

Result<fb::TokenizerT> import_tokenizer_json(const Json& json, const std::string& what) {
  Builder b{what, {}, {}, false};
  try {
    if (!json.is_object() || !json.contains("model") || !json["model"].is_object() ||
        !json["model"].contains("vocab"))
      return fail(ErrorCode::kInvalidFile, strf("{} has no model with a vocabulary", what));
    const Json& model = json["model"];
    read_normalizer(b, json.value("normalizer", Json()));
    read_pre_tokenizer(b, json.value("pre_tokenizer", Json()));
    if (json.contains("decoder") && json["decoder"].is_object() &&
        json["decoder"].value("type", "") == "ByteLevel")
      b.byte_level = true;
    const std::string type = model.value("type", model.contains("merges") ? "BPE" : "");
    if (type == "BPE" && model["vocab"].is_object())
      read_bpe(b, model);
    else if (type == "Unigram" && model["vocab"].is_array())
      read_unigram(b, model);
    else
      b.refuse(strf("its model '{}' is not supported (BPE and Unigram are)", type));
    read_added_tokens(b, json);
    mark_bytes_and_unknown(b, model);
    read_post_processor(b, json.value("post_processor", Json()));
    if (b.strips != b.collapses)
      b.refuse("its normalizer strips spaces or joins them: only both together are supported");
    b.out.remove_extra_whitespaces = b.strips;
    b.out.hugging_face = b.out.kind != fb::TokenizerKind::ByteLevelBpe;
    if (!b.out.hugging_face && !b.out.charsmap.empty())
      b.refuse("its byte-level model has a precompiled character map");
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {  // a value of an unexpected type
    b.refuse(e.what());
  }
  if (!b.problem.empty())
    return fail(ErrorCode::kUnsupported, strf("{} cannot be imported: {}", what, b.problem));
  return std::move(b.out);
}

}  // namespace linnet::convert
