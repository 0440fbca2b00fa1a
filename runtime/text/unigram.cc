#include "runtime/text/unigram.h"

#include <algorithm>
#include <limits>

#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

constexpr double kUnknownPenalty = 10;  // sentencepiece's kUnkPenalty

}  // namespace

Unigram::Unigram(std::span<const std::string> pieces, std::span<const float> scores,
                 const std::vector<bool>& use, const std::vector<bool>& user, bool single)
    : scores_(scores.begin(), scores.end()), index_(pieces, use), single_(single) {
  float lowest = std::numeric_limits<float>::infinity(), highest = -lowest;
  const auto is_user = [&](size_t i) { return !user.empty() && user[i]; };
  for (size_t i = 0; i < pieces.size(); ++i) {
    // Hugging Face counts every piece.
    if ((!use[i] && single) || is_user(i)) continue;
    lowest = std::min(lowest, scores[i]);
    highest = std::max(highest, scores[i]);
  }
  if (lowest > highest) lowest = highest = 0;  // there are none
  unknown_score_ = rounded(static_cast<double>(lowest) - kUnknownPenalty);
  // sentencepiece's bonus: about what the best piece would have for each byte.
  for (size_t i = 0; i < pieces.size(); ++i)
    if (use[i] && is_user(i))
      scores_[i] = static_cast<double>(static_cast<float>(pieces[i].size()) * highest - 0.1f);
}

void Unigram::encode(std::string_view text, std::vector<UnigramCut>& cuts) const {
  struct Node {
    double score = 0;
    int32_t id = -1;
    uint32_t begin = UINT32_MAX;  // of the last piece of the best cut that ends here
  };
  std::vector<Node> best(text.size() + 1);
  best[0].begin = 0;
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
    const double here = best[at].score;
    const size_t one = utf8_length(text[at]);
    bool has_single = false;
    const auto offer = [&](size_t end, double score, int32_t id) {
      Node& node = best[end];
      if (node.begin != UINT32_MAX && !(score > node.score)) return;
      node = {score, id, static_cast<uint32_t>(at)};
    };
    index_.each_prefix(text.substr(at), [&](uint32_t id, size_t length) {
      has_single = has_single || length == one;
      offer(at + length, rounded(here + scores_[id]), static_cast<int32_t>(id));
    });
    if (!has_single) offer(at + one, rounded(here + unknown_score_), -1);
  }
  cuts.clear();
  for (size_t end = text.size(); end > 0;) {
    const Node& node = best[end];
    cuts.push_back({node.id, node.begin, static_cast<uint32_t>(end - node.begin)});
    end = node.begin;
  }
  std::reverse(cuts.begin(), cuts.end());
}

}  // namespace linnet::text
