// Unigram language model (Kudo 2018): the cut of a text whose pieces have the highest sum of log
// probabilities.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer_pieces.h"

namespace linnet::text {

struct UnigramCut {
  int32_t id;  // -1: a character that no piece covers
  uint32_t begin, size;
};

class Unigram {
 public:
  Unigram() = default;
  // `scores`: one log probability a piece, all finite. `use` says which pieces may be found in text. `pieces`
  // and `scores` must outlive it.
  Unigram(std::span<const std::string> pieces, std::span<const float> scores, const std::vector<bool>& use);

  // Viterbi, in one pass: sentencepiece's EncodeOptimized. A character that is no piece by itself may be
  // passed over at the lowest score less 10. Of equal sums the cut whose last piece starts first wins. Linear
  // in the text, times the longest piece.
  void encode(std::string_view text, std::vector<UnigramCut>& cuts) const;

 private:
  std::span<const float> scores_;
  PrefixIndex index_;
  double unknown_score_ = 0;
};

}  // namespace linnet::text
