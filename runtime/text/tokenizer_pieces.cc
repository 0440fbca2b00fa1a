#include "runtime/text/tokenizer_pieces.h"

#include <algorithm>
#include <cstring>

namespace linnet::text {
namespace {

// Multiplicative hash over bytes, so that two texts in a row hash like their concatenation.
struct Hash {
  uint64_t state = 0xCBF29CE484222325u;
  void add(std::string_view text) {
    for (const char c : text) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  // The low bits of the product know little of the high ones.
  size_t value() const { return static_cast<size_t>((state ^ state >> 29) * 0xBF58476D1CE4E5B9u >> 20); }
};

}  // namespace

PieceMap::PieceMap(std::span<const std::string> pieces, const std::vector<bool>& use) : pieces_(pieces) {
  size_t slots = 16;
  while (slots < static_cast<size_t>(std::count(use.begin(), use.end(), true)) * 2) slots *= 2;
  slots_.assign(slots, -1);
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (!use[id] || pieces[id].empty()) continue;
    Hash hash;
    hash.add(pieces[id]);
    size_t slot = hash.value() & (slots - 1);
    while (slots_[slot] >= 0 && pieces[static_cast<size_t>(slots_[slot])] != pieces[id])
      slot = (slot + 1) & (slots - 1);
    if (slots_[slot] < 0) slots_[slot] = static_cast<int32_t>(id);
    longest_ = std::max(longest_, pieces[id].size());
  }
}

int32_t PieceMap::find(std::string_view text) const { return find(text, {}); }

int32_t PieceMap::find(std::string_view left, std::string_view right) const {
  const size_t size = left.size() + right.size();
  if (size == 0 || size > longest_) return -1;  // also when the map is empty
  Hash hash;
  hash.add(left);
  hash.add(right);
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash.value() & mask; slots_[slot] >= 0; slot = (slot + 1) & mask) {
    const std::string_view piece = pieces_[static_cast<size_t>(slots_[slot])];
    if (piece.size() == size && piece.starts_with(left) && piece.substr(left.size()) == right)
      return slots_[slot];
  }
  return -1;
}

PrefixIndex::PrefixIndex(std::span<const std::string> texts, const std::vector<bool>& use) : texts_(texts) {
  struct Entry {
    uint64_t head;  // the first eight bytes as a number: most comparisons end there
    uint32_t id;
  };
  std::vector<Entry> entries;
  entries.reserve(texts.size());
  for (size_t id = 0; id < texts.size(); ++id) {
    if (!use[id] || texts[id].empty()) continue;
    uint64_t head = 0;
    for (size_t i = 0; i < 8; ++i)
      head = head << 8 | (i < texts[id].size() ? static_cast<unsigned char>(texts[id][i]) : 0u);
    entries.push_back({head, static_cast<uint32_t>(id)});
  }
  std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) {
    if (a.head != b.head) return a.head < b.head;
    const int order = texts[a.id].compare(texts[b.id]);  // as unsigned bytes
    return order != 0 ? order < 0 : a.id < b.id;
  });
  sorted_.reserve(entries.size());
  first_.assign(257, 0);
  for (const Entry& e : entries) {
    sorted_.push_back(e.id);
    ++first_[(e.head >> 56) + 1];
  }
  for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
}

void PrefixIndex::narrow(uint32_t& begin, uint32_t& end, size_t depth, unsigned char byte) const {
  const auto at = [&](uint32_t i) { return static_cast<unsigned char>(texts_[i][depth]); };
  const auto first = sorted_.begin() + begin, last = sorted_.begin() + end;
  const auto low = std::partition_point(first, last, [&](uint32_t i) { return at(i) < byte; });
  const auto high = std::partition_point(low, last, [&](uint32_t i) { return at(i) == byte; });
  end = begin + static_cast<uint32_t>(high - first);
  begin += static_cast<uint32_t>(low - first);
}

int32_t PrefixIndex::longest_prefix(std::string_view text, size_t& length) const {
  int32_t best = -1;
  each_prefix(text, [&](uint32_t index, size_t size) {
    best = static_cast<int32_t>(index);
    length = size;
  });
  return best;
}

}  // namespace linnet::text
