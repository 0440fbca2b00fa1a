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
  // `scores`: one log probability a piece, all finite. `use` says which pieces may be found in text, `user`
  // (empty: none) which of them are user-defined. `pieces` must outlive it. `single`: sums are kept in f32,
  // as sentencepiece keeps them, otherwise in f64 as Hugging Face tokenizers does; where two cuts are equally
  // good but for rounding, that decides.
  Unigram(std::span<const std::string> pieces, std::span<const float> scores, const std::vector<bool>& use,
          const std::vector<bool>& user, bool single);

  // Viterbi, in one pass: sentencepiece's EncodeOptimized. A character that is no piece by itself may be
  // passed over at the lowest score less 10. Of equal sums the cut whose last piece starts first wins. Linear
  // in the text, times the longest piece.
  void encode(std::string_view text, std::vector<UnigramCut>& cuts) const;

 private:
  double rounded(double sum) const { return single_ ? static_cast<double>(static_cast<float>(sum)) : sum; }

  std::vector<double> scores_;
  PrefixIndex index_;
  double unknown_score_ = 0;
  bool single_ = false;
};

}  // namespace linnet::text
