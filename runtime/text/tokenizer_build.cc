// Checks a TokenizerSpec and builds the tables that encoding and printing use.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/core/strings.h"
#include "runtime/text/tokenizer_impl.h"

namespace linnet::text {
namespace {

// The byte of a piece like <0x0A>; -1: it is not of that form.
int byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  int value = -1;
  const char* end = piece.data() + 5;
  return std::from_chars(piece.data() + 3, end, value, 16).ptr == end ? value : -1;
}

}  // namespace

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
  for (const int32_t id : spec.stop_ids)
    if (id < 0 || static_cast<size_t>(id) >= count)
      return bad(strf("the stop id {} is none of its {} pieces", id, count));
  return {};
}

Result<void> Tokenizer::Impl::build() {
  const size_t count = spec.pieces.size();
  LINNET_TRY(build_normalizer());
  hidden.assign(count, false);
  for (size_t i = 0; i < spec.kinds.size(); ++i)
    hidden[i] = spec.kinds[i] == TokenKind::kControl || spec.kinds[i] == TokenKind::kUnknown;
  for (const AddedToken& token : spec.added_tokens) {
    spec.pieces[token.id] = token.text;
    if (token.special) hidden[token.id] = true;
  }
  std::vector<bool> use(count);
  byte_ids.fill(-1);
  for (size_t i = 0; i < count; ++i) {
    const bool is_byte = sentence_piece() && kind_of(i) == TokenKind::kByte;
    use[i] = !hidden[i] && !is_byte;
    if (const int byte = is_byte ? byte_of(spec.pieces[i]) : -1; byte >= 0)
      byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(i);
  }
  build_added();
  switch (spec.kind) {
    case TokenizerKind::kByteLevelBpe:
    case TokenizerKind::kSentencePieceBpe: {
      map = PieceMap(spec.pieces, use);
      hidden_map = PieceMap(spec.pieces, hidden);
      LINNET_ASSIGN(merges, MergeTable::create(spec.merges, spec.pieces, map, hidden_map));
      break;
    }
    case TokenizerKind::kUnigram:
      map = PieceMap(spec.pieces, use);
      hidden_map = PieceMap(spec.pieces, hidden);
      build_unigram(use);
      break;
    case TokenizerKind::kRwkvWorld:
      map = PieceMap(spec.pieces, use);
      hidden_map = PieceMap(spec.pieces, hidden);
      prefixes = PrefixIndex(spec.pieces, use);
      break;
  }
  if (spec.kind == TokenizerKind::kByteLevelBpe)
    for (size_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_ids[byte] = map.find(std::string_view(&c, 1));
    }
  if (sentence_piece()) {
    // Not where sums are rounded: what came before a word then decides between equals in it.
    words_separate = spec.escape_whitespaces && spec.kind == TokenizerKind::kSentencePieceBpe;
    for (size_t i = 0; words_separate && i < count; ++i) {
      const std::string_view piece = spec.pieces[i];
      for (size_t at = use[i] ? piece.find(kBlock, 1) : piece.npos; at != piece.npos;
           at = piece.find(kBlock, at + 1))
        if (!piece.substr(0, at).ends_with(kBlock)) words_separate = false;
    }
    build_printed();
  }
  return {};
}

Result<void> Tokenizer::Impl::build_normalizer() {
  LINNET_ASSIGN(CharsMap map, CharsMap::create(spec.charsmap));
  if (map.empty()) {
    LINNET_ASSIGN(normalizer, Normalizer::create(spec.normalization));
  }
  if (!sentence_piece()) return {};
  if (spec.hugging_face) {
    charsmap = std::move(map);
    return {};
  }
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

void Tokenizer::Impl::build_added() {
  std::vector<std::string> texts[2];
  std::vector<AddedPattern> patterns[2];
  std::vector<bool> listed(spec.pieces.size(), false);
  const auto add = [&](bool normalized, std::string text, const AddedToken& t) {
    if (normalized) {
      if (!charsmap.empty()) text = charsmap.apply_by_grapheme(text);
      text = normalizer.apply(text);
      if (sentence_piece() && spec.escape_whitespaces && !spec.metaspace) replace_all(text, " ", kBlock);
    }
    if (text.empty()) return;
    texts[normalized].push_back(std::move(text));
    patterns[normalized].push_back(
        {static_cast<int32_t>(t.id), hidden[t.id], t.left_strip, t.right_strip, t.single_word});
  };
  for (const AddedToken& token : spec.added_tokens) {
    listed[token.id] = true;
    add(token.normalized, token.text, token);
  }
  // sentencepiece's BPE takes user-defined pieces whole, in the text as it has normalised it; its unigram
  // model gives them a score instead. Control pieces that nobody lists are still found when asked for.
  const bool user_scored = spec.kind == TokenizerKind::kUnigram && !spec.hugging_face;
  for (size_t i = 0; i < spec.kinds.size(); ++i) {
    const bool user = spec.kinds[i] == TokenKind::kUserDefined && !user_scored,
               control = spec.kinds[i] == TokenKind::kControl;
    if ((!user && !control) || listed[i] || find_invalid_utf8(spec.pieces[i])) continue;
    AddedToken token;
    token.id = static_cast<uint32_t>(i);
    add(user, spec.pieces[i], token);
  }
  raw_added = AddedMatcher(std::move(texts[0]), std::move(patterns[0]));
  normalized_added = AddedMatcher(std::move(texts[1]), std::move(patterns[1]));
}

void Tokenizer::Impl::build_printed() {
  std::vector<bool> verbatim(spec.pieces.size(), false);
  for (const AddedToken& token : spec.added_tokens) verbatim[token.id] = true;
  printed = spec.pieces;
  for (size_t i = 0; i < printed.size(); ++i) {
    if (const int byte = kind_of(i) == TokenKind::kByte ? byte_of(printed[i]) : -1; byte >= 0)
      printed[i] = std::string(1, static_cast<char>(byte));
    else if (!verbatim[i])
      replace_all(printed[i], kBlock, " ");
  }
}

}  // namespace linnet::text
