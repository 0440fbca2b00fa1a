// Byte pair encoding: joins neighbours, best pair first, until no pair is known.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "linnet/result.h"
#include "runtime/text/tokenizer_pieces.h"

namespace linnet::text {

// What two neighbours become, and how early.
struct Merge {
  uint32_t rank;
  int32_t result;
};

// Merges by pair of ids; open addressing.
class MergeTable {
 public:
  // `merges`: pairs of ids, best first; a pair that makes a piece of `hidden` is left out. Of
  // the second of a pair the first `prefix` bytes are dropped. Errors:
  // kInvalidFile with the pair whose concatenation neither map has, or that is out of range.
  static Result<MergeTable> create(std::span<const uint32_t> merges, std::span<const std::string> pieces,
                                   const PieceMap& map, const PieceMap& hidden, size_t prefix = 0);
  const Merge* find(int32_t left, int32_t right) const;
  bool empty() const { return count_ == 0; }

 private:
  struct Slot {
    uint64_t key = UINT64_MAX;
    Merge merge = {};
  };
  size_t slot_of(uint64_t key) const;
  std::vector<Slot> slots_;
  size_t count_ = 0;
};

// Buffers of one encode call, used for each of its words.
struct BpeScratch {
  struct Symbol {
    int32_t id;  // -1: not in the vocabulary
    uint32_t previous, next;
    uint32_t begin, size;  // of the text; size 0: joined to the one before
  };
  struct Candidate {
    uint32_t rank;  // lower is better; of equal ones the leftmost goes first
    uint32_t left, right;
    uint32_t size;  // of both together: tells whether a neighbour has changed since
    int32_t result;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

// The merges are taken in order of rank, then from left to right, which is what Hugging Face tokenizers and
// sentencepiece do. Works on scratch.symbols (ids, sizes and begins; links are set here). `find(left, right)`
// takes two symbols and gives {rank, result}, or a pointer that is null. O(n log n) in the number of symbols.
template <typename Find>
void merge_symbols(BpeScratch& scratch, Find&& find);

}  // namespace linnet::text

#include "runtime/text/bpe_inl.h"
