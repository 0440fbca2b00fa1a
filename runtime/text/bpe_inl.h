// merge_symbols() of bpe.h.
#pragma once

#include <algorithm>

#include "runtime/text/bpe.h"

namespace linnet::text {

template <typename Find>
void merge_symbols(BpeScratch& scratch, Find&& find) {
  using Symbol = BpeScratch::Symbol;
  using Candidate = BpeScratch::Candidate;
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<Candidate>& heap = scratch.heap;
  const auto count = static_cast<uint32_t>(symbols.size());
  constexpr uint32_t kNone = UINT32_MAX;
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto consider = [&](uint32_t left, uint32_t right) {
    if (const auto merge = find(symbols[left], symbols[right])) {
      heap.push_back({merge->rank, left, right, symbols[left].size + symbols[right].size, merge->result});
      return true;
    }
    return false;
  };
  heap.clear();
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNone : i - 1;
    symbols[i].next = i + 1 == count ? kNone : i + 1;
    if (i > 0) consider(i - 1, i);
  }
  std::make_heap(heap.begin(), heap.end(), worse);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), worse);
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    // Only growth can have happened to either since, so the sum of sizes tells.
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.id = best.result;
    left.size = best.size;
    right.size = 0;
    left.next = right.next;
    if (right.next != kNone) symbols[right.next].previous = best.left;
    if (left.previous != kNone && consider(left.previous, best.left))
      std::push_heap(heap.begin(), heap.end(), worse);
    if (left.next != kNone && consider(best.left, left.next)) std::push_heap(heap.begin(), heap.end(), worse);
  }
  std::erase_if(symbols, [](const Symbol& s) { return s.size == 0; });
}

}  // namespace linnet::text
