// Text to token ids and back: byte-level BPE, SentencePiece BPE and unigram, RWKV World.
//
// A tokenizer is built once from a TokenizerSpec (the Tokenizer table of format/model.fbs as plain values)
// and is immutable afterwards: every const method may be called from any thread.
//
// Ids are those of Hugging Face tokenizers for byte-level BPE and those of sentencepiece for its two kinds,
// with one deliberate difference: the text of a control token inside plain text never becomes that token
// unless parse_special asks for it, whatever the vocabulary holds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/result.h"
#include "runtime/text/utf8.h"

namespace linnet::text {

// The enumerators have the values of format/model.fbs.
enum class TokenizerKind : uint8_t { kByteLevelBpe = 0, kSentencePieceBpe = 1, kUnigram = 2, kRwkvWorld = 3 };
enum class TokenKind : uint8_t {
  kNormal = 0,
  kUnknown = 1,
  kControl = 2,
  kUserDefined = 3,
  kByte = 4,
  kUnused = 5
};
enum class SplitBehavior : uint8_t {
  kIsolated = 0,
  kRemoved = 1,
  kMergedWithPrevious = 2,
  kMergedWithNext = 3,
  kContiguous = 4
};

struct AddedToken {
  uint32_t id = 0;
  std::string text;
  bool special = false;
  bool left_strip = false;   // takes the whitespace before it along
  bool right_strip = false;  // takes the whitespace after it along
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // is looked for in the normalised text
};

// One step on the text before BPE; each works on the parts that the one before left. Meanings:
// PreTokenizerKind of format/model.fbs.
enum class PreTokenizerKind : uint8_t { kSplit = 0, kPrefix = 1, kByteLevel = 2, kMetaspace = 3 };
enum class PrefixScheme : uint8_t { kAlways = 0, kFirst = 1, kNever = 2 };
struct PreTokenizerStep {
  std::string pattern;  // Oniguruma's Ruby syntax
  bool invert = false;  // what lies between the matches counts as the match
  SplitBehavior behavior = SplitBehavior::kIsolated;
  PreTokenizerKind kind = PreTokenizerKind::kSplit;
  std::string text = {};  // Prefix and Metaspace
  PrefixScheme scheme = PrefixScheme::kAlways;
  bool split = false;
};

// One change of a text or of what tokens print. Meanings: TextStepKind of format/model.fbs.
enum class TextStepKind : uint8_t {
  kUnicode = 0,
  kStrip = 1,
  kStripAccents = 2,
  kCharsmap = 3,
  kPrepend = 4,
  kReplace = 5,
  kByteLevel = 6,
  kFuse = 7,
  kByteFallback = 8,
  kMetaspace = 9,
  kWordEnd = 10,
  kWordStart = 11
};
struct TextStep {
  TextStepKind kind = TextStepKind::kUnicode;
  std::string pattern = {}, text = {};
  int left = 0, right = 0;
};

struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  std::vector<std::string> pieces;  // by id, as bytes; SentencePiece: with U+2581 for space, bytes as <0x0A>
  std::vector<float> scores;        // SentencePiece: one a piece
  std::vector<TokenKind> kinds;     // empty, or one a piece
  // Pairs of ids, best first. SentencePiece BPE uses them when there are any, else the scores.
  std::vector<uint32_t> merges;
  std::vector<AddedToken> added_tokens;
  std::vector<PreTokenizerStep> pre_tokenizer;  // empty: the text stays in one piece
  // "" and "identity", "nfc", "nfd", "nfkc", "nfkd", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"
  std::string normalization;
  // SentencePiece's precompiled character map. Where there is one, it stands for its normalisation's name.
  std::vector<uint8_t> charsmap;
  // SentencePiece kinds: the rules of Hugging Face tokenizers in place of sentencepiece's, for a
  // tokenizer.json. The character map goes by graphemes, scores are summed in f64, and the normalised text is
  // cut by pre_tokenizer.
  bool hugging_face = false;
  // With hugging_face and without `steps`: spaces become U+2581 behind pre_tokenizer, in each of its parts
  // (the Metaspace pre-tokenizer), and a part that begins with U+2581 gets no dummy prefix.
  bool metaspace = false;
  bool metaspace_split = false;  // each U+2581 begins a part
  bool prefix_first = false;     // the dummy prefix only where the text begins, not behind an added token
  bool add_prefix_space = false;
  bool add_dummy_prefix = false;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
  bool add_bos = false;
  bool add_eos = false;
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unknown_id = -1;
  int32_t pad_id = -1;
  std::vector<int32_t> stop_ids;
  // The rules of a tokenizer.json step by step, in place of `normalization`, metaspace, add_prefix_space and
  // SentencePiece's flags.
  bool steps = false;
  std::vector<TextStep> normalizer, decoder;
  std::string subword_prefix;      // BPE: before every character of a word but its first
  std::string word_suffix;         // BPE: behind the last character of a word
  bool separate_unknowns = false;  // BPE: one unknown token for each character, not for a run of them
  std::vector<int32_t> prefix_ids, suffix_ids;  // around a text; both empty: add_bos and add_eos decide
};

struct EncodeOptions {
  // Puts the beginning and end tokens around the text, as far as the spec asks for them.
  bool add_special = true;
  // Texts of special tokens become those tokens. Otherwise they are text; added tokens that are not special
  // are found in both cases.
  bool parse_special = false;
  // Bytes dropped from the text after special tokens were looked for: a caller who puts them inside a special
  // token's text keeps it from being one. Must be valid UTF-8.
  std::string_view guard = {};
};

class Tokenizer {
 public:
  // Errors: kInvalidFile (ids out of range, a merge without result, counts that differ, a pattern that does
  // not compile), kUnsupported (an unknown normalisation).
  static Result<Tokenizer> create(TokenizerSpec spec);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of UTF-8 text. Errors: kInvalidArgument with the byte offset where the text is no UTF-8, or when it
  // is over 1 GiB; kUnsupported when a pre-tokenizer pattern gives up on it.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The bytes that the token prints, possibly a part of a character (see Utf8Stream). Nothing for control and
  // unknown tokens and special added tokens, unless asked, and for ids out of range. Lives as long as the
  // tokenizer. SentencePiece: the space that a dummy prefix put before a text is still there; decode() drops
  // it.
  std::string_view piece(int32_t id, bool with_special = false) const;
  // The bytes of a whole text.
  std::string decode(std::span<const int32_t> ids, bool with_special = false) const;

  bool is_stop(int32_t id) const;
  bool is_special(int32_t id) const;
  // The id of an added token's text, or of a piece as the spec has it.
  std::optional<int32_t> token_id(std::string_view text) const;
  size_t size() const;
  int32_t bos_id() const;  // -1: none
  int32_t eos_id() const;
  int32_t pad_id() const;
  std::span<const int32_t> stop_ids() const;
  std::span<const AddedToken> added_tokens() const;

  struct Impl;

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::text
