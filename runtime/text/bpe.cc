#include "runtime/text/bpe.h"

#include <algorithm>

#include "runtime/core/strings.h"

namespace linnet::text {

size_t MergeTable::slot_of(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = static_cast<size_t>((key ^ key >> 32) * 0x9E3779B97F4A7C15u >> 24) & mask;
  while (slots_[slot].key != key && slots_[slot].key != UINT64_MAX) slot = (slot + 1) & mask;
  return slot;
}

Result<MergeTable> MergeTable::create(std::span<const uint32_t> merges, std::span<const std::string> pieces,
                                      const PieceMap& map, const PieceMap& hidden, size_t prefix) {
  if (merges.size() % 2 != 0)
    return fail(ErrorCode::kInvalidFile,
                strf("the tokenizer's merges are {} ids, which are no pairs", merges.size()));
  MergeTable table;
  size_t slots = 16;
  while (slots < merges.size()) slots *= 2;  // twice the pairs
  table.slots_.resize(slots);
  for (size_t i = 0; i + 1 < merges.size(); i += 2) {
    const uint32_t a = merges[i], b = merges[i + 1];
    if (a >= pieces.size() || b >= pieces.size())
      return fail(ErrorCode::kInvalidFile,
                  strf("merge {} of the tokenizer joins the ids {} and {}, but there are {} pieces", i / 2, a,
                       b, pieces.size()));
    const std::string_view left = pieces[a];
    std::string_view right = pieces[b];
    right.remove_prefix(std::min(prefix, right.size()));
    const int32_t result = map.find(left, right);
    if (result < 0 && hidden.find(left, right) >= 0) continue;
    if (result < 0)
      return fail(
          ErrorCode::kInvalidFile,
          strf("merge {} of the tokenizer joins the ids {} and {} to a text that is no piece", i / 2, a, b));
    const uint64_t key = uint64_t{a} << 32 | b;
    Slot& slot = table.slots_[table.slot_of(key)];
    // A pair that is there twice: the last one counts, as when a map is filled in order.
    if (slot.key != key) ++table.count_;
    slot = {key, {static_cast<uint32_t>(i / 2), result}};
  }
  return table;
}

const Merge* MergeTable::find(int32_t left, int32_t right) const {
  if ((left | right) < 0 || slots_.empty()) return nullptr;
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  const Slot& slot = slots_[slot_of(key)];
  return slot.key == key ? &slot.merge : nullptr;
}

}  // namespace linnet::text
