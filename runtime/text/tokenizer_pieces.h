// Look-ups in a vocabulary: by a whole piece, and by everything a text begins with.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet::text {

// Ids by text. Open addressing over ids only: a vocabulary of 256k pieces is filled in a few milliseconds.
// Refers to the pieces, which must outlive it; of equal pieces the lowest id counts.
class PieceMap {
 public:
  PieceMap() = default;
  // Leaves out empty pieces and those for which `use` is false.
  PieceMap(std::span<const std::string> pieces, const std::vector<bool>& use);

  // -1: not there.
  int32_t find(std::string_view text) const;
  // Of two texts in a row, without joining them.
  int32_t find(std::string_view left, std::string_view right) const;
  size_t longest() const { return longest_; }

 private:
  std::span<const std::string> pieces_;
  std::vector<int32_t> slots_;  // a power of two of them
  size_t longest_ = 0;
};

// The entries that a text begins with, found by narrowing a sorted list byte by byte.
class PrefixIndex {
 public:
  PrefixIndex() = default;
  // `texts` must outlive the index. Leaves out empty texts and those for which `use` is false.
  PrefixIndex(std::span<const std::string> texts, const std::vector<bool>& use);

  // Calls `found(index, length)` for every entry that `text` begins with, shortest first.
  template <typename F>
  void each_prefix(std::string_view text, F&& found) const {
    if (text.empty() || first_.empty()) return;
    const auto lead = static_cast<unsigned char>(text[0]);
    uint32_t begin = first_[lead], end = first_[lead + 1u];
    for (size_t depth = 1; begin < end; ++depth) {
      // All entries of the range share the first `depth` bytes with the text; the one of that length sorts
      // first.
      while (begin < end && size_of(begin) == depth) {
        found(sorted_[begin], depth);
        // Of equal entries only the lowest id counts.
        do {
          ++begin;
        } while (begin < end && size_of(begin) == depth);
      }
      if (depth == text.size()) return;
      narrow(begin, end, depth, static_cast<unsigned char>(text[depth]));
    }
  }
  // The index of the longest such entry, or -1.
  int32_t longest_prefix(std::string_view text, size_t& length) const;
  bool empty() const { return sorted_.empty(); }

 private:
  size_t size_of(uint32_t i) const { return texts_[sorted_[i]].size(); }
  void narrow(uint32_t& begin, uint32_t& end, size_t depth, unsigned char byte) const;

  std::span<const std::string> texts_;
  std::vector<uint32_t> sorted_;
  std::vector<uint32_t> first_;  // where each first byte's entries start; 257 of them
};

}  // namespace linnet::text
