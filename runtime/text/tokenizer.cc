#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "runtime/core/strings.h"
#include "runtime/text/bpe.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/rwkv_world.h"
#include "runtime/text/sentencepiece_spaces.h"
#include "runtime/text/tokenizer_added.h"
#include "runtime/text/unigram.h"
#include "runtime/text/utf8_normalize.h"

namespace linnet::text {
namespace {

constexpr size_t kMostText = size_t{1} << 30;

// The byte of a piece like <0x0A>; -1: it is not of that form.
int byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  int value = -1;
  const char* end = piece.data() + 5;
  return std::from_chars(piece.data() + 3, end, value, 16).ptr == end ? value : -1;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  text = out.append(text, done);
}

// A number that is smaller the better the score is.
uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

}  // namespace

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

std::string Tokenizer::Impl::normalized(std::string_view text, const Call& call) const {
  std::string out = normalizer.apply(text);
  if (!sentence_piece()) return out;
  if (!spec.hugging_face) return sentence_spaces.apply(out);
  if (!charsmap.empty()) out = charsmap.apply_by_grapheme(out);
  if (spec.remove_extra_whitespaces) {  // Strip on the right, and Replace of two and more spaces
    for (size_t at = out.size(); at > 0 && is_space(previous_char(out, at));) out.resize(at);
    const auto two = [](char a, char b) { return a == ' ' && b == ' '; };
    out.erase(std::unique(out.begin(), out.end(), two), out.end());
  }
  if (spec.metaspace || out.empty()) return out;
  if (spec.add_dummy_prefix && (call.at_start || !spec.prefix_first)) out.insert(0, kBlock);
  if (spec.escape_whitespaces) replace_all(out, " ", kBlock);
  return out;
}

Result<void> Tokenizer::Impl::encode_segment(std::string_view text, std::string_view guard,
                                             Call& call) const {
  call.after_unknown = false;
  std::string changed;
  if (sentence_piece() || !normalizer.identity()) text = changed = normalized(text, call);
  std::vector<Segment> segments;
  normalized_added.split(text, call.parse_special, segments);
  std::string without_guard;
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      call.ids.push_back(segment.id);
      call.after_unknown = false;
      call.at_start = false;
      continue;
    }
    std::string_view plain = segment.text;
    if (!guard.empty() && plain.find(guard) != plain.npos) {
      without_guard = plain;
      replace_all(without_guard, guard, {});
      plain = without_guard;
    }
    LINNET_TRY(encode_plain(plain, call));
    call.at_start = false;
  }
  return {};
}

Result<void> Tokenizer::Impl::encode_plain(std::string_view text, Call& call) const {
  std::string prefixed;
  if (spec.kind == TokenizerKind::kByteLevelBpe && spec.add_prefix_space && !text.empty() && text[0] != ' ')
    text = prefixed = " " + std::string(text);
  LINNET_TRY(pre_tokenizer.split(text, call.words));
  for (const std::string_view word : call.words) {
    if (sentence_piece() && spec.metaspace)
      encode_metaspace(word, !spec.prefix_first || (call.at_start && word.data() == text.data()), call);
    else
      encode_part(word, call);
  }
  return {};
}

void Tokenizer::Impl::encode_metaspace(std::string_view part, bool prefix, Call& call) const {
  std::string text(part);
  replace_all(text, " ", kBlock);
  if (prefix && spec.add_dummy_prefix && !text.starts_with(kBlock)) text.insert(0, kBlock);
  size_t begin = 0;
  for (size_t at = spec.metaspace_split ? text.find(kBlock, 1) : text.npos; at != text.npos;
       at = text.find(kBlock, at + 1)) {
    encode_part(std::string_view(text).substr(begin, at - begin), call);
    begin = at;
  }
  encode_part(std::string_view(text).substr(begin), call);
}

void Tokenizer::Impl::encode_part(std::string_view part, Call& call) const {
  if (spec.kind == TokenizerKind::kByteLevelBpe)
    encode_byte_level(part, call);
  else if (spec.kind == TokenizerKind::kRwkvWorld)
    encode_rwkv_world(prefixes, part, spec.unknown_id, call.ids);
  else
    encode_sentence(part, call);
}

void Tokenizer::Impl::encode_byte_level(std::string_view word, Call& call) const {
  if (spec.ignore_merges)
    if (const int32_t id = map.find(word); id >= 0) {
      call.ids.push_back(id);
      return;
    }
  // A byte that the vocabulary lacks is left out, as Hugging Face does, unless the model has an unknown
  // token.
  const bool has_unknown =
      spec.unknown_id >= 0 && kind_of(static_cast<size_t>(spec.unknown_id)) == TokenKind::kUnknown;
  call.bpe.symbols.clear();
  for (size_t i = 0; i < word.size(); ++i) {
    int32_t id = byte_ids[static_cast<unsigned char>(word[i])];
    if (id < 0 && has_unknown) id = spec.unknown_id;
    if (id >= 0) call.bpe.symbols.push_back({id, 0, 0, static_cast<uint32_t>(i), 1});
  }
  merge_symbols(call.bpe, [this](const auto& a, const auto& b) { return merges.find(a.id, b.id); });
  for (const auto& symbol : call.bpe.symbols) call.ids.push_back(symbol.id);
}

void Tokenizer::Impl::encode_sentence(std::string_view text, Call& call) const {
  // Hugging Face fuses unknown tokens within a part only.
  if (spec.hugging_face) call.after_unknown = false;
  // Words that no piece connects are encoded one by one: the same ids, and a smaller heap.
  size_t begin = 0;
  for (size_t at = words_separate && !text.empty() ? text.find(kBlock, 1) : text.npos; at != text.npos;
       at = text.find(kBlock, at + 1)) {
    if (text.substr(0, at).ends_with(kBlock)) continue;
    encode_sentence_word(text.substr(begin, at - begin), call);
    begin = at;
  }
  if (begin < text.size()) encode_sentence_word(text.substr(begin), call);
}

void Tokenizer::Impl::encode_sentence_word(std::string_view word, Call& call) const {
  if (spec.kind == TokenizerKind::kUnigram) {
    unigram.encode(word, call.cuts);
    for (const UnigramCut& cut : call.cuts) put(cut.id, word.substr(cut.begin, cut.size), call);
    return;
  }
  call.unused_left_size.clear();
  auto& symbols = call.bpe.symbols;
  symbols.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t size = utf8_length(word[at]);
    symbols.push_back(
        {map.find(word.substr(at, size)), 0, 0, static_cast<uint32_t>(at), static_cast<uint32_t>(size)});
    at += size;
  }
  if (!merges.empty()) {
    merge_symbols(call.bpe, [this](const auto& a, const auto& b) { return merges.find(a.id, b.id); });
  } else {
    merge_symbols(call.bpe, [&](const auto& a, const auto& b) -> std::optional<Merge> {
      const int32_t id = map.find(word.substr(a.begin, a.size + b.size));
      if (id < 0) return std::nullopt;
      if (kind_of(static_cast<size_t>(id)) == TokenKind::kUnused) call.unused_left_size[id] = a.size;
      return Merge{rank_of(spec.scores[static_cast<size_t>(id)]), id};
    });
  }
  for (const auto& symbol : symbols) resegment(symbol.id, word.substr(symbol.begin, symbol.size), call);
}

// An unused piece is no output: it falls back into the two that made it.
void Tokenizer::Impl::resegment(int32_t id, std::string_view piece, Call& call) const {
  const auto made = id >= 0 ? call.unused_left_size.find(id) : call.unused_left_size.end();
  if (made == call.unused_left_size.end() || made->second >= piece.size()) {
    put(id, piece, call);
    return;
  }
  for (const std::string_view part : {piece.substr(0, made->second), piece.substr(made->second)})
    resegment(map.find(part), part, call);
}

// Emits a piece, or what stands for text that is none: its bytes, or one unknown token for a run of it.
void Tokenizer::Impl::put(int32_t id, std::string_view text, Call& call) const {
  if (id >= 0) {
    call.ids.push_back(id);
    call.after_unknown = false;
    return;
  }
  const auto byte_id = [this](char c) { return byte_ids[static_cast<unsigned char>(c)]; };
  if (spec.byte_fallback && std::all_of(text.begin(), text.end(), [&](char c) { return byte_id(c) >= 0; })) {
    for (const char c : text) call.ids.push_back(byte_id(c));
    call.after_unknown = false;
    return;
  }
  if (spec.unknown_id >= 0 && !call.after_unknown) call.ids.push_back(spec.unknown_id);
  call.after_unknown = true;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  LINNET_ASSIGN(PreTokenizer pre, PreTokenizer::create(spec.pre_tokenizer));
  auto impl = std::make_unique<Impl>(std::move(pre));
  impl->spec = std::move(spec);
  LINNET_TRY(impl->check());
  LINNET_TRY(impl->build());
  return Tokenizer(std::move(impl));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TokenizerSpec& spec = impl_->spec;
  if (text.size() > kMostText)
    return fail(ErrorCode::kInvalidArgument,
                strf("the text has {} bytes; at most {} are encoded at once", text.size(), kMostText));
  if (const auto bad = find_invalid_utf8(text))
    return fail(ErrorCode::kInvalidArgument, strf("the text is not valid UTF-8: the byte at offset {} starts "
                                                  "no character; convert the text to UTF-8",
                                                  *bad));
  if (find_invalid_utf8(options.guard))
    return fail(ErrorCode::kInvalidArgument, "the guard is not valid UTF-8");
  Impl::Call call;
  call.parse_special = options.parse_special;
  call.ids.reserve(text.size() / 3 + 8);
  if (options.add_special && spec.add_bos && spec.bos_id >= 0) call.ids.push_back(spec.bos_id);
  std::vector<Segment> segments;
  impl_->raw_added.split(text, options.parse_special, segments);
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      call.ids.push_back(segment.id);
      call.at_start = false;
    } else {
      LINNET_TRY(impl_->encode_segment(segment.text, options.guard, call));
    }
  }
  if (options.add_special && spec.add_eos && spec.eos_id >= 0) call.ids.push_back(spec.eos_id);
  return std::move(call.ids);
}

std::string_view Tokenizer::piece(int32_t id, bool with_special) const {
  if (id < 0 || static_cast<size_t>(id) >= size()) return {};
  const auto index = static_cast<size_t>(id);
  if (impl_->hidden[index] && !with_special) return {};
  return impl_->printed.empty() ? impl_->spec.pieces[index] : impl_->printed[index];
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_special) const {
  std::string out;
  for (const int32_t id : ids) out += piece(id, with_special);
  const TokenizerSpec& spec = impl_->spec;
  const bool prefixed = impl_->sentence_piece() && spec.add_dummy_prefix;
  if (prefixed && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

bool Tokenizer::is_stop(int32_t id) const {
  const auto& stops = impl_->spec.stop_ids;
  return std::find(stops.begin(), stops.end(), id) != stops.end();
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < size() && impl_->hidden[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::token_id(std::string_view text) const {
  for (const AddedToken& token : impl_->spec.added_tokens)
    if (token.text == text) return static_cast<int32_t>(token.id);
  if (const int32_t id = impl_->map.find(text); id >= 0) return id;
  if (const int32_t id = impl_->hidden_map.find(text); id >= 0) return id;
  return std::nullopt;
}

size_t Tokenizer::size() const { return impl_->spec.pieces.size(); }
int32_t Tokenizer::bos_id() const { return impl_->spec.bos_id; }
int32_t Tokenizer::eos_id() const { return impl_->spec.eos_id; }
int32_t Tokenizer::pad_id() const { return impl_->spec.pad_id; }
std::span<const int32_t> Tokenizer::stop_ids() const { return impl_->spec.stop_ids; }
std::span<const AddedToken> Tokenizer::added_tokens() const { return impl_->spec.added_tokens; }

}  // namespace linnet::text
