// A state block as a checkpoint keeps it: as it is, or with its f32 states rounded to f16.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "linnet/session.h"

namespace linnet {

// Allocates only when it is created.
class StatePacker {
 public:
  StatePacker(const Session& session, bool half);
  size_t bytes() const { return bytes_; }
  // The session's state into `packed`, of bytes(). Values beyond f16's range become its largest.
  Result<void> pack(const Session& session, std::span<std::byte> packed);
  Result<void> restore(Session& session, std::span<const std::byte> packed);

 private:
  struct Part {
    size_t offset = 0, bytes = 0;  // in the block
    bool half = false;
  };
  bool half_;
  size_t bytes_ = 0;
  std::vector<Part> parts_;
  std::vector<std::byte> block_;  // with half_
};

}  // namespace linnet
