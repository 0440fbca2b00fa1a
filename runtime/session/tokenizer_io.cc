#include "runtime/session/tokenizer_io.h"

#include <utility>

namespace linnet::text {

// The enums are the same numbers in both places.
static_assert(static_cast<int>(TokenizerKind::kRwkvWorld) == static_cast<int>(fb::TokenizerKind::RwkvWorld));
static_assert(static_cast<int>(TokenKind::kUnused) == static_cast<int>(fb::TokenKind::Unused));
static_assert(static_cast<int>(PreTokenizerKind::kMetaspace) ==
              static_cast<int>(fb::PreTokenizerKind::Metaspace));
static_assert(static_cast<int>(PrefixScheme::kNever) == static_cast<int>(fb::PrefixScheme::Never));
static_assert(static_cast<int>(TextStepKind::kWordStart) == static_cast<int>(fb::TextStepKind::WordStart));
static_assert(static_cast<int>(SplitBehavior::kContiguous) ==
              static_cast<int>(fb::SplitBehavior::Contiguous));

TokenizerSpec from_fb(const fb::TokenizerT& table) {
  TokenizerSpec spec;
  spec.kind = static_cast<TokenizerKind>(table.kind);
  spec.pieces = table.pieces;
  spec.scores = table.scores;
  spec.kinds.reserve(table.kinds.size());
  for (const fb::TokenKind kind : table.kinds) spec.kinds.push_back(static_cast<TokenKind>(kind));
  spec.merges = table.merges;
  for (const auto& token : table.added_tokens)
    spec.added_tokens.push_back({token->id, token->text, token->special, token->left_strip,
                                 token->right_strip, token->single_word, token->normalized});
  for (const auto& step : table.pre_tokenizer)
    spec.pre_tokenizer.push_back({step->pattern, step->invert, static_cast<SplitBehavior>(step->behavior),
                                  static_cast<PreTokenizerKind>(step->kind), step->text,
                                  static_cast<PrefixScheme>(step->scheme), step->split});
  spec.steps = table.steps;
  for (const auto& [from, to] :
       {std::pair{&table.normalizer, &spec.normalizer}, std::pair{&table.decoder, &spec.decoder}})
    for (const auto& step : *from)
      to->push_back(
          {static_cast<TextStepKind>(step->kind), step->pattern, step->text, step->left, step->right});
  spec.subword_prefix = table.subword_prefix;
  spec.word_suffix = table.word_suffix;
  spec.separate_unknowns = table.separate_unknowns;
  spec.prefix_ids = table.prefix_ids;
  spec.suffix_ids = table.suffix_ids;
  spec.normalization = table.normalization;
  spec.charsmap = table.charsmap;
  spec.hugging_face = table.hugging_face;
  spec.metaspace = table.metaspace;
  spec.metaspace_split = table.metaspace_split;
  spec.prefix_first = table.prefix_first;
  spec.add_prefix_space = table.add_prefix_space;
  spec.add_dummy_prefix = table.add_dummy_prefix;
  spec.remove_extra_whitespaces = table.remove_extra_whitespaces;
  spec.escape_whitespaces = table.escape_whitespaces;
  spec.byte_fallback = table.byte_fallback;
  spec.ignore_merges = table.ignore_merges;
  spec.add_bos = table.add_bos;
  spec.add_eos = table.add_eos;
  spec.bos_id = table.bos_id;
  spec.eos_id = table.eos_id;
  spec.unknown_id = table.unknown_id;
  spec.pad_id = table.pad_id;
  spec.stop_ids = table.stop_ids;
  return spec;
}

}  // namespace linnet::text
