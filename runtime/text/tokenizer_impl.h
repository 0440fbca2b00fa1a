// What a Tokenizer is made of. Private to tokenizer*.cc.
#pragma once

#include <array>
#include <unordered_map>
#include <utility>

#include "runtime/text/bpe.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/rwkv_world.h"
#include "runtime/text/sentencepiece_spaces.h"
#include "runtime/text/text_steps.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_added.h"
#include "runtime/text/unigram.h"
#include "runtime/text/utf8_normalize.h"

namespace linnet::text {

struct Tokenizer::Impl {
  TokenizerSpec spec;
  std::vector<std::string> printed;  // SentencePiece; otherwise pieces are printed as they are
  std::vector<bool> hidden;          // printed only when asked
  std::vector<bool> listed;          // added tokens
  // Added tokens that are looked for in normalised text print what they look like there, by id.
  std::unordered_map<uint32_t, std::string> normalized_texts;
  PieceMap map;  // what text can become
  PieceMap hidden_map;
  std::array<int32_t, 256> byte_ids;
  bool words_separate = false;  // no piece reaches over U+2581, the start of a word
  NormalizerChain normalizer;
  CharsMap charsmap;
  SentencePieceNormalizer sentence_spaces;  // sentencepiece's own rules
  TokenPrinter printer;
  AddedMatcher raw_added, normalized_added;
  PreTokenizer pre_tokenizer;
  MergeTable merges;
  Unigram unigram;
  PrefixIndex prefixes;  // RWKV

  explicit Impl(PreTokenizer pre) : pre_tokenizer(std::move(pre)) {}

  // By the rules of sentencepiece, or by those of Hugging Face tokenizers over characters.
  bool sentence_piece() const { return over_characters() && !spec.hugging_face; }
  bool over_characters() const {
    return spec.kind == TokenizerKind::kSentencePieceBpe || spec.kind == TokenizerKind::kUnigram;
  }
  TokenKind kind_of(size_t id) const { return spec.kinds.empty() ? TokenKind::kNormal : spec.kinds[id]; }

  Result<void> check() const;
  Result<void> build();
  Result<void> build_normalizer();
  void build_unigram(std::vector<bool> use);
  void find_separate_words(const std::vector<bool>& use);
  Result<void> build_added();
  void build_printed();
  std::string print(size_t id, bool first, bool last) const;

  struct Call;  // the buffers of one encode
  Result<void> encode_segment(std::string_view text, std::string_view guard, Call& call) const;
  Result<void> encode_plain(std::string_view text, Call& call) const;
  Result<std::string> normalized(std::string_view text, Call& call) const;
  void encode_part(std::string_view part, Call& call) const;
  void encode_byte_level(std::string_view word, Call& call) const;
  void encode_sentence(std::string_view text, Call& call) const;
  void encode_bpe_word(std::string_view word, Call& call) const;
  void encode_unigram(std::string_view word, Call& call) const;
  void encode_sentence_word(std::string_view word, Call& call) const;
  void resegment(int32_t id, std::string_view piece, Call& call) const;
  void put(int32_t id, std::string_view text, Call& call) const;
};

struct Tokenizer::Impl::Call {
  bool parse_special = false;
  bool at_start = true;  // nothing of the text is encoded yet
  std::vector<int32_t> ids;
  PreTokenizer::Parts parts;
  BpeScratch bpe;
  std::vector<UnigramCut> cuts;
  // SentencePiece: how an unused piece was joined, to take it apart again.
  std::unordered_map<int32_t, uint32_t> unused_left_size;
  bool after_unknown = false;
};

}  // namespace linnet::text
