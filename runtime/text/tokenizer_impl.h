// What a Tokenizer is made of. Private to tokenizer*.cc.
#pragma once

#include <array>
#include <unordered_map>
#include <utility>

#include "runtime/text/bpe.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/rwkv_world.h"
#include "runtime/text/sentencepiece_spaces.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_added.h"
#include "runtime/text/unigram.h"
#include "runtime/text/utf8_normalize.h"

namespace linnet::text {

void replace_all(std::string& text, std::string_view from, std::string_view to);

struct Tokenizer::Impl {
  TokenizerSpec spec;
  std::vector<std::string> printed;  // SentencePiece; otherwise pieces are printed as they are
  std::vector<bool> hidden;          // printed only when asked
  PieceMap map;                      // what text can become
  PieceMap hidden_map;
  std::array<int32_t, 256> byte_ids;
  bool words_separate = false;  // SentencePiece: no piece reaches over the start of a word
  Normalizer normalizer;
  CharsMap charsmap;                        // with hugging_face
  SentencePieceNormalizer sentence_spaces;  // without
  AddedMatcher raw_added, normalized_added;
  PreTokenizer pre_tokenizer;
  MergeTable merges;
  Unigram unigram;
  PrefixIndex prefixes;  // RWKV

  explicit Impl(PreTokenizer pre) : pre_tokenizer(std::move(pre)) {}

  bool sentence_piece() const {
    return spec.kind == TokenizerKind::kSentencePieceBpe || spec.kind == TokenizerKind::kUnigram;
  }
  TokenKind kind_of(size_t id) const { return spec.kinds.empty() ? TokenKind::kNormal : spec.kinds[id]; }

  Result<void> check() const;
  Result<void> build();
  Result<void> build_normalizer();
  void build_unigram(std::vector<bool> use);
  void build_added();
  void build_printed();

  struct Call;  // the buffers of one encode
  Result<void> encode_segment(std::string_view text, std::string_view guard, Call& call) const;
  Result<void> encode_plain(std::string_view text, Call& call) const;
  std::string normalized(std::string_view text, const Call& call) const;
  void encode_metaspace(std::string_view part, bool prefix, Call& call) const;
  void encode_part(std::string_view part, Call& call) const;
  void encode_byte_level(std::string_view word, Call& call) const;
  void encode_sentence(std::string_view text, Call& call) const;
  void encode_sentence_word(std::string_view word, Call& call) const;
  void resegment(int32_t id, std::string_view piece, Call& call) const;
  void put(int32_t id, std::string_view text, Call& call) const;
};

struct Tokenizer::Impl::Call {
  bool parse_special = false;
  bool at_start = true;  // nothing of the text is encoded yet
  std::vector<int32_t> ids;
  std::vector<std::string_view> words;
  BpeScratch bpe;
  std::vector<UnigramCut> cuts;
  // SentencePiece: how an unused piece was joined, to take it apart again.
  std::unordered_map<int32_t, uint32_t> unused_left_size;
  bool after_unknown = false;
};

}  // namespace linnet::text
