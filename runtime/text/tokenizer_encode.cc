// From a part of the text between added tokens to ids.
#include <algorithm>
#include <bit>

#include "runtime/text/tokenizer_impl.h"

namespace linnet::text {
namespace {

// A number that is smaller the better the score is.
uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

}  // namespace

Result<std::string> Tokenizer::Impl::normalized(std::string_view text, Call& call) const {
  bool begins = true;
  LINNET_ASSIGN(std::string out, normalizer.apply(text, &begins));
  if (sentence_piece()) return sentence_spaces.apply(out, call.at_start || !spec.prefix_first);
  call.at_start = call.at_start && begins;
  return out;
}

Result<void> Tokenizer::Impl::encode_segment(std::string_view text, std::string_view guard,
                                             Call& call) const {
  call.after_unknown = false;
  std::string changed;
  if (sentence_piece() || !normalizer.identity()) {
    LINNET_ASSIGN(changed, normalized(text, call));
    text = changed;
  }
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
  LINNET_TRY(pre_tokenizer.split(text, call.at_start, call.parts));
  for (const std::string_view word : call.parts.views) encode_part(word, call);
  return {};
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
  const auto encode = spec.kind == TokenizerKind::kUnigram ? &Impl::encode_unigram
                      : spec.hugging_face                  ? &Impl::encode_bpe_word
                                                           : &Impl::encode_sentence_word;
  // Words that no piece connects are encoded one by one: the same ids, and a smaller heap.
  size_t begin = 0;
  for (size_t at = words_separate && !text.empty() ? text.find(kBlock, 1) : text.npos; at != text.npos;
       at = text.find(kBlock, at + 1)) {
    if (text.substr(0, at).ends_with(kBlock)) continue;
    (this->*encode)(text.substr(begin, at - begin), call);
    begin = at;
  }
  if (begin < text.size()) (this->*encode)(text.substr(begin), call);
}

// BPE of Hugging Face tokenizers: what no piece covers becomes its bytes or unknown tokens before anything is
// joined.
void Tokenizer::Impl::encode_bpe_word(std::string_view word, Call& call) const {
  if (spec.ignore_merges)
    if (const int32_t id = map.find(word); id >= 0) {
      call.ids.push_back(id);
      return;
    }
  auto& symbols = call.bpe.symbols;
  symbols.clear();
  uint32_t unknown_begin = 0, unknown_size = 0;
  const auto put_unknown = [&] {
    if (unknown_size > 0) symbols.push_back({spec.unknown_id, 0, 0, unknown_begin, unknown_size});
    unknown_size = 0;
  };
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    const size_t size = utf8_length(word[at]);
    std::string_view piece = word.substr(at, size);
    const bool first = at == 0, last = at + size == word.size();
    if ((!first && !spec.subword_prefix.empty()) || (last && !spec.word_suffix.empty())) {
      decorated = first ? "" : spec.subword_prefix;
      decorated += piece;
      if (last) decorated += spec.word_suffix;
      piece = decorated;
    }
    const auto begin = static_cast<uint32_t>(at), bytes = static_cast<uint32_t>(size);
    at += size;
    const auto byte_id = [this](char c) { return byte_ids[static_cast<unsigned char>(c)]; };
    if (const int32_t id = map.find(piece); id >= 0) {
      put_unknown();
      symbols.push_back({id, 0, 0, begin, bytes});
    } else if (spec.byte_fallback &&
               std::all_of(piece.begin(), piece.end(), [&](char c) { return byte_id(c) >= 0; })) {
      // Unknown characters before these come out behind them, as the library has it.
      for (const char c : piece) symbols.push_back({byte_id(c), 0, 0, begin, 1});
    } else if (spec.unknown_id >= 0) {
      if (spec.separate_unknowns) put_unknown();
      if (unknown_size == 0) unknown_begin = begin;
      unknown_size += bytes;
    }
  }
  put_unknown();
  merge_symbols(call.bpe, [this](const auto& a, const auto& b) { return merges.find(a.id, b.id); });
  for (const auto& symbol : symbols) call.ids.push_back(symbol.id);
}

void Tokenizer::Impl::encode_unigram(std::string_view word, Call& call) const {
  unigram.encode(word, call.cuts);
  for (size_t i = 0; i < call.cuts.size(); ++i) {
    UnigramCut cut = call.cuts[i];
    // Hugging Face looks for the bytes of a whole run of unknown characters.
    for (; spec.hugging_face && cut.id < 0 && i + 1 < call.cuts.size() && call.cuts[i + 1].id < 0; ++i)
      cut.size += call.cuts[i + 1].size;
    // It fuses unknown tokens within a part only.
    if (spec.hugging_face) call.after_unknown = false;
    put(cut.id, word.substr(cut.begin, cut.size), call);
  }
}

void Tokenizer::Impl::encode_sentence_word(std::string_view word, Call& call) const {
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

}  // namespace linnet::text
