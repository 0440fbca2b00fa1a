// Checks a TokenizerSpec and builds the tables that encoding and printing use.
#include <algorithm>
#include <cmath>

#include "runtime/core/strings.h"
#include "runtime/text/tokenizer_impl.h"

namespace linnet::text {
Result<void> Tokenizer::Impl::check() const {
  const auto bad = [](std::string why) {
    return fail(ErrorCode::kInvalidFile, "the tokenizer is damaged: " + why);
  };
  const size_t count = spec.pieces.size();
  if (spec.kind > TokenizerKind::kRwkvWorld)
    return fail(ErrorCode::kUnsupported,
                strf("the tokenizer is of the unknown kind {}", static_cast<int>(spec.kind)));
  if (count == 0) return bad("it has no pieces");
  if (count > size_t{1} << 24) return bad(strf("it has {} pieces", count));
  if (!spec.kinds.empty() && spec.kinds.size() != count)
    return bad(strf("{} kinds for {} pieces", spec.kinds.size(), count));
  for (size_t i = 0; i < spec.kinds.size(); ++i)
    if (spec.kinds[i] > TokenKind::kUnused)
      return bad(strf("piece {} is of the unknown kind {}", i, static_cast<int>(spec.kinds[i])));
  const bool scored = spec.kind == TokenizerKind::kUnigram ||
                      (spec.kind == TokenizerKind::kSentencePieceBpe && spec.merges.empty());
  if (scored && spec.scores.size() != count)
    return bad(strf("{} scores for {} pieces", spec.scores.size(), count));
  for (size_t i = 0; scored && i < count; ++i)
    if (!std::isfinite(spec.scores[i])) return bad(strf("the score of piece {} is not finite", i));
  for (const AddedToken& token : spec.added_tokens) {
    if (token.id >= count)
      return bad(
          strf("the added token '{}' has the id {}, but there are {} pieces", token.text, token.id, count));
    if (find_invalid_utf8(token.text))
      return bad(strf("the text of the added token {} is not UTF-8", token.id));
  }
  const auto check_id = [&](const char* name, int32_t id) -> Result<void> {
    if (id < -1 || (id >= 0 && static_cast<size_t>(id) >= count))
      return bad(strf("its {} is {}, but there are {} pieces", name, id, count));
    return {};
  };
  LINNET_TRY(check_id("bos_id", spec.bos_id));
  LINNET_TRY(check_id("eos_id", spec.eos_id));
  LINNET_TRY(check_id("unknown_id", spec.unknown_id));
  LINNET_TRY(check_id("pad_id", spec.pad_id));
  for (const auto& [name, ids] : {std::pair<const char*, const std::vector<int32_t>&>{"stop", spec.stop_ids},
                                  {"prefix", spec.prefix_ids},
                                  {"suffix", spec.suffix_ids}})
    for (const int32_t id : ids)
      if (id < 0 || static_cast<size_t>(id) >= count)
        return bad(strf("the {} id {} is none of its {} pieces", name, id, count));
  return {};
}

Result<void> Tokenizer::Impl::build() {
  const size_t count = spec.pieces.size();
  LINNET_TRY(build_normalizer());
  hidden.assign(count, false);
  listed.assign(count, false);
  std::vector<bool> use(count, true);  // may be found in text
  for (size_t i = 0; i < spec.kinds.size(); ++i) {
    const TokenKind kind = spec.kinds[i];
    // The library prints an unknown token like any other.
    hidden[i] = kind == TokenKind::kControl || (kind == TokenKind::kUnknown && !spec.steps);
    use[i] = kind != TokenKind::kControl && kind != TokenKind::kUnknown;
  }
  for (const AddedToken& token : spec.added_tokens) {
    spec.pieces[token.id] = token.text;
    listed[token.id] = true;
    if (token.special) hidden[token.id] = true;
    // Not a piece of the model, which tokenizer.json keeps apart: text becomes it as a whole alone.
    const bool apart = spec.steps && kind_of(token.id) == TokenKind::kUserDefined;
    if (token.special || apart) use[token.id] = false;
  }
  std::vector<bool> unused(count);
  byte_ids.fill(-1);
  for (size_t i = 0; i < count; ++i) {
    const bool is_byte = over_characters() && kind_of(i) == TokenKind::kByte;
    unused[i] = !use[i];
    if (is_byte && sentence_piece()) use[i] = false;
    if (const int byte = is_byte ? byte_of_piece(spec.pieces[i]) : -1; byte >= 0)
      byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(i);
  }
  LINNET_TRY(build_added());
  map = PieceMap(spec.pieces, use);
  hidden_map = PieceMap(spec.pieces, unused);
  switch (spec.kind) {
    case TokenizerKind::kByteLevelBpe:
    case TokenizerKind::kSentencePieceBpe: {
      LINNET_ASSIGN(
          merges, MergeTable::create(spec.merges, spec.pieces, map, hidden_map, spec.subword_prefix.size()));
      break;
    }
    case TokenizerKind::kUnigram:
      build_unigram(use);
      break;
    case TokenizerKind::kRwkvWorld:
      prefixes = PrefixIndex(spec.pieces, use);
      break;
  }
  if (spec.kind == TokenizerKind::kByteLevelBpe)
    for (size_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_ids[byte] = map.find(std::string_view(&c, 1));
    }
  find_separate_words(use);
  LINNET_ASSIGN(printer, TokenPrinter::create(spec.decoder));
  if (over_characters() || !spec.decoder.empty() || !normalized_texts.empty()) build_printed();
  return {};
}

void Tokenizer::Impl::find_separate_words(const std::vector<bool>& use) {
  // Not where sums are rounded: what came before a word then decides between equals in it.
  words_separate = spec.kind == TokenizerKind::kSentencePieceBpe && !spec.ignore_merges &&
                   map.find(kBlock) >= 0 && spec.subword_prefix.empty() && spec.word_suffix.empty();
  for (size_t i = 0; words_separate && i < spec.pieces.size(); ++i) {
    const std::string_view piece = spec.pieces[i];
    for (size_t at = use[i] ? piece.find(kBlock, 1) : piece.npos; at != piece.npos;
         at = piece.find(kBlock, at + 1))
      if (!piece.substr(0, at).ends_with(kBlock)) words_separate = false;
  }
}

Result<void> Tokenizer::Impl::build_normalizer() {
  LINNET_ASSIGN(CharsMap map, CharsMap::create(spec.charsmap));
  if (!sentence_piece()) charsmap = std::move(map);
  LINNET_ASSIGN(normalizer, NormalizerChain::create(spec.normalizer, charsmap));
  if (!sentence_piece()) return {};
  std::vector<std::string> symbols;
  for (size_t i = 0; i < spec.kinds.size(); ++i)
    if (spec.kinds[i] == TokenKind::kUserDefined && !find_invalid_utf8(spec.pieces[i]))
      symbols.push_back(spec.pieces[i]);
  sentence_spaces = SentencePieceNormalizer(std::move(map), std::move(symbols),
                                            {.add_dummy_prefix = spec.add_dummy_prefix,
                                             .remove_extra_whitespaces = spec.remove_extra_whitespaces,
                                             .escape_whitespaces = spec.escape_whitespaces});
  return {};
}

void Tokenizer::Impl::build_unigram(std::vector<bool> use) {
  std::vector<bool> user(spec.pieces.size());
  for (size_t i = 0; i < user.size() && !spec.hugging_face; ++i) {
    user[i] = kind_of(i) == TokenKind::kUserDefined;
    if (kind_of(i) == TokenKind::kUnused) use[i] = false;
  }
  unigram = Unigram(spec.pieces, spec.scores, use, user, !spec.hugging_face);
}

Result<void> Tokenizer::Impl::build_added() {
  std::vector<std::string> texts[2];
  std::vector<AddedPattern> patterns[2];
  const auto add = [&](bool normalized, std::string text, const AddedToken& t) -> Result<void> {
    if (normalized) {
      LINNET_ASSIGN(text, normalizer.apply(text));
      if (spec.steps && text != t.text) normalized_texts[t.id] = text;
      if (sentence_piece() && spec.escape_whitespaces) replace_all(text, " ", kBlock);
    }
    if (text.empty()) return {};
    texts[normalized].push_back(std::move(text));
    patterns[normalized].push_back(
        {static_cast<int32_t>(t.id), hidden[t.id], t.left_strip, t.right_strip, t.single_word});
    return {};
  };
  // Of two that read alike the first counts; Hugging Face lists the special ones first.
  for (const bool special : {true, false})
    for (const AddedToken& token : spec.added_tokens)
      if (token.special == special) LINNET_TRY(add(token.normalized, token.text, token));
  // sentencepiece's BPE takes user-defined pieces whole, in the text as it has normalised it; its unigram
  // model gives them a score instead. Control pieces that nobody lists are still found when asked for.
  const bool user_scored = spec.kind == TokenizerKind::kUnigram && !spec.hugging_face;
  for (size_t i = 0; !spec.steps && i < spec.kinds.size(); ++i) {
    const bool user = spec.kinds[i] == TokenKind::kUserDefined && !user_scored,
               control = spec.kinds[i] == TokenKind::kControl;
    if ((!user && !control) || listed[i] || find_invalid_utf8(spec.pieces[i])) continue;
    AddedToken token;
    token.id = static_cast<uint32_t>(i);
    LINNET_TRY(add(user, spec.pieces[i], token));
  }
  raw_added = AddedMatcher(std::move(texts[0]), std::move(patterns[0]));
  normalized_added = AddedMatcher(std::move(texts[1]), std::move(patterns[1]));
  return {};
}

std::string Tokenizer::Impl::print(size_t id, bool first, bool last) const {
  const auto other = normalized_texts.find(static_cast<uint32_t>(id));
  const std::string& piece = other == normalized_texts.end() ? spec.pieces[id] : other->second;
  return printer.print(piece, listed[id] && !spec.steps, first, last);
}

void Tokenizer::Impl::build_printed() {
  printed.reserve(spec.pieces.size());
  for (size_t i = 0; i < spec.pieces.size(); ++i) printed.push_back(print(i, false, false));
}

}  // namespace linnet::text
