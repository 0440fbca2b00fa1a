// CachePrecision and the types it stands for.
#pragma once

#include <optional>

#include "linnet/session.h"
#include "runtime/core/dtype.h"

namespace linnet {

// The public names are in the order of the table of types.
static_assert(kCacheTypes.count == 3 &&
              kCacheTypes.types[static_cast<size_t>(CachePrecision::kF32)] == DType::kF32 &&
              kCacheTypes.types[static_cast<size_t>(CachePrecision::kF16)] == DType::kF16 &&
              kCacheTypes.types[static_cast<size_t>(CachePrecision::kQ8)] == DType::kQ8);

constexpr DType dtype_of(CachePrecision precision) {
  return kCacheTypes.types[static_cast<size_t>(precision)];
}

// The precision for whose type `is` holds, among those that can be used as `use`.
template <typename Is>
constexpr std::optional<CachePrecision> find_precision(DTypeUse use, const Is& is) {
  for (size_t i = 0; i < kCacheTypes.count; ++i)
    if (can_be_used_as(kCacheTypes.types[i], use) && is(kCacheTypes.types[i]))
      return static_cast<CachePrecision>(i);
  return std::nullopt;
}

}  // namespace linnet
