// Python's pickle format as far as torch.save needs it, read without running anything: a program of about
// forty instructions builds plain values; whatever a class or a function would have made is an opaque value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "linnet/result.h"

namespace linnet::convert {

// A value, and by index into Pickle::values those it is made of.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInteger,
    kNumber,
    kText,
    kTuple,   // tuples and lists: items
    kDict,    // items: key, value, key, value, ...
    kGlobal,  // text: "module name"
    kStored,  // a persistent id: items[0]
    kTensor,  // items: storage, offset, sizes, strides
    kOpaque,  // what only running code could make
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;
  std::string text;
  std::vector<uint32_t> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  uint32_t root = 0;
  const PickleValue& at(uint32_t i) const { return values[i]; }
};

// Error: kInvalidFile, with the byte at which it is truncated or damaged. Calls of collections.OrderedDict
// become dicts, those of torch._utils' functions that rebuild tensors tensors, all others opaque values.
Result<Pickle> read_pickle(std::span<const std::byte> program, const std::string& name);

}  // namespace linnet::convert
