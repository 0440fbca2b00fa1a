// tokenizer.ggml.* of a GGUF file. What the file leaves out is assumed with a note, or refused where no
// assumption gives the model's ids.
#include <algorithm>
#include <map>

#include "converter/rwkv_vocab.h"
#include "converter/text_facts.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/pretokenizers.h"
#include "runtime/text/rwkv_world.h"

namespace linnet::convert {
namespace {

constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kTypes = "tokenizer.ggml.token_type";

class Reader {
 public:
  Reader(const Gguf& gguf, const std::string& path, Source& source)
      : gguf_(gguf), path_(path), source_(source), t_(*source.tokenizer) {}

  Result<void> read(const std::string& model) {
    static const std::map<std::string, fb::TokenizerKind> kKinds = {
        {"gpt2", fb::TokenizerKind::ByteLevelBpe},
        {"llama", fb::TokenizerKind::SentencePieceBpe},
        {"t5", fb::TokenizerKind::Unigram},
        {"rwkv", fb::TokenizerKind::RwkvWorld}};
    const auto kind = kKinds.find(model);
    if (kind == kKinds.end())
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' has a tokenizer of kind '{}', which Linnet does not have", path_, model));
    t_.kind = kind->second;
    byte_level_ = model == "gpt2";
    LINNET_TRY(read_pieces(model));
    LINNET_TRY(byte_level_       ? read_byte_level()
               : model == "rwkv" ? Result<void>()
                                 : read_sentencepiece(model));
    LINNET_ASSIGN(t_.add_bos,
                  gguf_.get_or<bool>("tokenizer.ggml.add_bos_token", model == "llama" || adds_bos_));
    LINNET_ASSIGN(t_.add_eos, gguf_.get_or<bool>("tokenizer.ggml.add_eos_token", false));
    return read_facts();
  }

 private:
  Result<void> read_pieces(const std::string& model) {
    LINNET_ASSIGN(const auto tokens, gguf_.get<std::vector<std::string>>("tokenizer.ggml.tokens"));
    LINNET_ASSIGN(const auto types, gguf_.get_or<std::vector<int64_t>>(kTypes, {}));
    if (types.empty())
      source_.notes.push_back(
          strf("the file has no {}: special tokens are those of known names alone", kTypes));
    else if (types.size() != tokens.size())
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': {} has {} values for {} tokens: convert the model anew", path_, kTypes,
                       types.size(), tokens.size()));
    if (const bool scored = model == "llama" || model == "t5"; scored) {
      LINNET_ASSIGN(const auto scores, gguf_.get_or<std::vector<double>>("tokenizer.ggml.scores", {}));
      if (scores.size() != tokens.size())
        return fail(
            ErrorCode::kInvalidFile,
            strf("'{}': tokenizer.ggml.scores has {} values for {} tokens, without which text cannot be cut: "
                 "convert the model anew",
                 path_, scores.size(), tokens.size()));
      for (const double score : scores) t_.scores.push_back(static_cast<float>(score));
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::string& piece = tokens[i];
      static constexpr fb::TokenKind kKinds[] = {
          fb::TokenKind::Normal,      fb::TokenKind::Normal, fb::TokenKind::Unknown, fb::TokenKind::Control,
          fb::TokenKind::UserDefined, fb::TokenKind::Unused, fb::TokenKind::Byte};
      const int64_t type = types.empty() ? 1 : types[i];
      if (type < 0 || type >= 7)
        return fail(ErrorCode::kInvalidFile, strf("'{}': {} has {} for token {} '{}', which is no type",
                                                  path_, kTypes, type, i, piece));
      const fb::TokenKind k = kKinds[type];
      std::string bytes = piece;
      if (byte_level_ && k == fb::TokenKind::Normal && !text::bytes_of_byte_level(piece, bytes))
        bytes = piece;
      if (model == "rwkv" && k == fb::TokenKind::Normal) {  // bytes as Python prints them
        auto plain = text::unescape_rwkv_piece(piece);
        if (!plain)
          return fail(ErrorCode::kInvalidFile,
                      strf("'{}': token {} is '{}', which is no escaped text", path_, i, piece));
        bytes = std::move(*plain);
      }
      ids_.emplace(piece, static_cast<uint32_t>(i));
      t_.pieces.push_back(std::move(bytes));
      t_.kinds.push_back(k);
      if ((k != fb::TokenKind::Control && k != fb::TokenKind::UserDefined) || piece.empty()) continue;
      auto added = std::make_unique<fb::AddedTokenT>();
      added->id = static_cast<uint32_t>(i);
      added->text = piece;
      added->special = k == fb::TokenKind::Control;
      t_.added_tokens.push_back(std::move(added));
    }
    return {};
  }

  Result<void> read_byte_level() {
    LINNET_ASSIGN(const auto merges, gguf_.get_or<std::vector<std::string>>(kMerges, {}));
    if (merges.empty())
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}' has no {}, without which every text falls into bytes: convert the model anew with a "
               "current llama.cpp, or from its folder",
               path_, kMerges));
    for (const std::string& merge : merges) {
      const size_t space = merge.find(' ', 1);
      const auto a = space == std::string::npos ? ids_.end() : ids_.find(merge.substr(0, space));
      const auto b = space == std::string::npos ? ids_.end() : ids_.find(merge.substr(space + 1));
      if (a == ids_.end() || b == ids_.end())
        return fail(ErrorCode::kInvalidFile,
                    strf("'{}': the merge '{}' does not name two pieces", path_, merge));
      t_.merges.push_back(a->second);
      t_.merges.push_back(b->second);
    }
    LINNET_ASSIGN(std::string name, gguf_.get_or<std::string>("tokenizer.ggml.pre", ""));
    if (name.empty()) {
      // Files from before May 2024. Byte-level models of these architectures were Llama 3 and Qwen 1.5 then.
      LINNET_ASSIGN(const std::string architecture, gguf_.get_or<std::string>("general.architecture", ""));
      name = architecture == "llama" ? "llama-bpe" : architecture.starts_with("qwen") ? "qwen2" : "gpt-2";
      source_.notes.push_back(
          strf("the file has no tokenizer.ggml.pre, which says how text is cut before BPE: '{}' is "
               "assumed from its architecture '{}'; if answers are poor, convert the model anew",
               name, architecture));
    } else if (name == "default") {
      source_.notes.push_back(
          "tokenizer.ggml.pre is 'default': the converter did not know how this model cuts text, and "
          "llama.cpp's rule for that is used; if answers are poor, convert the model anew");
    }
    const auto steps = text::pretokenizer_preset(name);
    if (!steps)
      return fail(
          ErrorCode::kUnsupported,
          strf(
              "'{}' has the pre-tokenizer '{}', which Linnet does not have (it has: {}); convert the model's "
              "folder with its tokenizer.json instead",
              path_, name, text::preset_names()));
    for (const auto& step : *steps) {
      auto s = std::make_unique<fb::PreTokenizerStepT>();
      s->pattern = step.pattern;
      s->invert = step.invert;
      s->behavior = static_cast<fb::SplitBehavior>(step.behavior);
      t_.pre_tokenizer.push_back(std::move(s));
    }
    source_.details.push_back(strf("tokenizer: byte-level BPE, cut as '{}' does", name));
    t_.ignore_merges = text::preset_ignores_merges(name);
    adds_bos_ = text::preset_adds_bos(name);
    LINNET_ASSIGN(t_.add_prefix_space, gguf_.get_or<bool>("tokenizer.ggml.add_space_prefix", false));
    return {};
  }

  Result<void> read_sentencepiece(const std::string& model) {
    t_.escape_whitespaces = true;
    LINNET_ASSIGN(t_.add_dummy_prefix, gguf_.get_or<bool>("tokenizer.ggml.add_space_prefix", true));
    LINNET_ASSIGN(t_.remove_extra_whitespaces,
                  gguf_.get_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false));
    t_.byte_fallback = std::find(t_.kinds.begin(), t_.kinds.end(), fb::TokenKind::Byte) != t_.kinds.end();
    if (const auto* map = gguf_.find<std::vector<int64_t>>("tokenizer.ggml.precompiled_charsmap"))
      for (const int64_t byte : *map) t_.charsmap.push_back(static_cast<uint8_t>(byte));
    else if (model == "t5")
      t_.normalization = "nmt_nfkc";
    source_.details.push_back(strf("tokenizer: SentencePiece {}", model == "t5" ? "unigram" : "BPE"));
    return {};
  }

  Result<void> read_facts() {
    TextFacts facts(t_);
    Json ids = Json::object();
    const std::pair<const char*, const char*> keys[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                                        {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                                        {"pad_token_id", "tokenizer.ggml.padding_token_id"},
                                                        {"unk_token_id", "tokenizer.ggml.unknown_token_id"},
                                                        {"eot", "tokenizer.ggml.eot_token_id"},
                                                        {"eom", "tokenizer.ggml.eom_token_id"}};
    for (const auto& [name, key] : keys) {
      if (!gguf_.has(key)) continue;
      LINNET_ASSIGN(const int64_t id, gguf_.get<int64_t>(key));
      if (id < 0 || static_cast<size_t>(id) >= t_.pieces.size()) {
        source_.notes.push_back(
            strf("{} is {}, which is none of the {} tokens: it is not used", key, id, t_.pieces.size()));
        continue;
      }
      if (std::string_view(name) == "unk_token_id") t_.unknown_id = static_cast<int>(id);
      if (std::string_view(name).starts_with("eo") && !std::string_view(name).ends_with("_id"))
        facts.stop(id, key);
      facts.ids(Json{{name, id}}, name, key);
    }
    if (const auto* text = gguf_.find<std::string>("tokenizer.chat_template")) source_.chat_template = *text;
    if (source_.chat_template == "rwkv-world")
      source_.chat_template = kRwkvWorldTemplate;  // a name, no template
    facts.known_ends();
    facts.template_end(source_.chat_template);
    facts.finish(source_.details, source_.notes);
    return {};
  }

  const Gguf& gguf_;
  const std::string& path_;
  Source& source_;
  fb::TokenizerT& t_;
  std::map<std::string, uint32_t> ids_;
  bool byte_level_ = false, adds_bos_ = false;
};

}  // namespace

Result<void> import_gguf_text(const Gguf& gguf, const std::string& path, Source& source) {
  if (!gguf.has("tokenizer.ggml.model") || !gguf.has("tokenizer.ggml.tokens")) {
    source.notes.push_back(
        "the file has no tokenizer: the result can be run on token ids, but not chatted with");
    return {};
  }
  LINNET_ASSIGN(const std::string model, gguf.get<std::string>("tokenizer.ggml.model"));
  source.tokenizer = std::make_unique<fb::TokenizerT>();
  return Reader(gguf, path, source).read(model);
}

}  // namespace linnet::convert
