// The largest elements of a row, found on the device, so that a token's logits need not cross to the host.
#pragma once

#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {

// Memory that find_largest() works in, for any count up to kMostRanked.
size_t largest_bytes(size_t elements);

struct FindLargest {
  std::vector<Dispatch> dispatches;
  Region result;  // Ranked, in order
};
// Of the f32 `row`, in `work`. Elements that are not finite come out as plus infinity, and first.
FindLargest find_largest(const Region& row, const Buffer& work, size_t elements, size_t count);

}  // namespace linnet::vulkan
