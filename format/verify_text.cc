#include <string>
#include <unordered_set>

#include "format/verify.h"
#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

// Vocabularies have up to 300,000 pieces; the bound keeps tables indexed by id small.
constexpr size_t kMaxTokens = size_t{1} << 24;

Result<void> verify_tokenizer(const fb::TokenizerT& tokenizer) {
  const size_t pieces = tokenizer.pieces.size();
  if (pieces == 0) return invalid("the tokenizer has no pieces");
  if (pieces > kMaxTokens)
    return invalid(strf("the tokenizer has {} pieces, more than {}", pieces, kMaxTokens));
  const auto per_piece = [&](size_t count, std::string_view what) -> Result<void> {
    if (count == 0 || count == pieces) return {};
    return invalid(strf("the tokenizer has {} pieces and {} {}", pieces, count, what));
  };
  LINNET_TRY(per_piece(tokenizer.scores.size(), "scores"));
  LINNET_TRY(per_piece(tokenizer.kinds.size(), "kinds"));
  if (tokenizer.kind == fb::TokenizerKind::Unigram && tokenizer.scores.empty())
    return invalid("a unigram tokenizer needs scores, and the file has none");
  if (tokenizer.merges.size() % 2 != 0)
    return invalid(strf("the tokenizer's merges are {} ids: they come in pairs", tokenizer.merges.size()));
  for (size_t i = 0; i < tokenizer.merges.size(); ++i)
    if (tokenizer.merges[i] >= pieces)
      return invalid(
          strf("merge {} refers to piece {}, and there are {}", i / 2, tokenizer.merges[i], pieces));

  std::unordered_set<uint32_t> added;
  for (size_t i = 0; i < tokenizer.added_tokens.size(); ++i) {
    if (!tokenizer.added_tokens[i]) return invalid(strf("added token {} is missing", i));
    const fb::AddedTokenT& token = *tokenizer.added_tokens[i];
    if (token.text.empty()) return invalid(strf("added token {} (id {}) has no text", i, token.id));
    if (token.id >= kMaxTokens)
      return invalid(strf("added token '{}' has id {}, beyond {}", token.text, token.id, kMaxTokens));
    if (!added.insert(token.id).second) return invalid(strf("two added tokens have the id {}", token.id));
  }
  const auto exists = [&](int32_t id, std::string_view what) -> Result<void> {
    if (id >= 0 && (static_cast<size_t>(id) < pieces || added.contains(static_cast<uint32_t>(id)))) return {};
    return invalid(strf("the tokenizer's {} is {}, and no such token exists ({} pieces)", what, id, pieces));
  };
  const auto optional = [&](int32_t id, std::string_view what) {
    return id == -1 ? Result<void>() : exists(id, what);
  };
  LINNET_TRY(optional(tokenizer.bos_id, "bos_id"));
  LINNET_TRY(optional(tokenizer.eos_id, "eos_id"));
  LINNET_TRY(optional(tokenizer.unknown_id, "unknown_id"));
  LINNET_TRY(optional(tokenizer.pad_id, "pad_id"));
  for (const int32_t id : tokenizer.stop_ids) LINNET_TRY(exists(id, "stop id"));
  for (size_t i = 0; i < tokenizer.pre_tokenizer.size(); ++i)
    if (!tokenizer.pre_tokenizer[i]) return invalid(strf("pre-tokenizer step {} is missing", i));
  return {};
}

Result<void> verify_sampler(const fb::SamplerDefaultsT& sampler) {
  const auto refuse = [](std::string_view what, float value, std::string_view range) {
    return invalid(strf("the sampler's {} is {}, and must be {}", what, value, range));
  };
  // Negated so that NaN fails too.
  if (!(sampler.temperature >= 0)) return refuse("temperature", sampler.temperature, "0 or more");
  if (sampler.top_k < 0) return refuse("top_k", static_cast<float>(sampler.top_k), "0 or more");
  if (!(sampler.top_p > 0 && sampler.top_p <= 1))
    return refuse("top_p", sampler.top_p, "over 0 and at most 1");
  if (!(sampler.min_p >= 0 && sampler.min_p <= 1)) return refuse("min_p", sampler.min_p, "0 to 1");
  if (!(sampler.repetition_penalty > 0))
    return refuse("repetition_penalty", sampler.repetition_penalty, "over 0");
  return {};
}

}  // namespace

Result<void> verify_text(const fb::ModelT& model) {
  if (model.tokenizer) LINNET_TRY(verify_tokenizer(*model.tokenizer));
  if (model.sampler) LINNET_TRY(verify_sampler(*model.sampler));
  return {};
}

}  // namespace linnet::format
