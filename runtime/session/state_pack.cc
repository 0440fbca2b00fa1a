#include "runtime/session/state_pack.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/dtype.h"
#include "runtime/engine/engine.h"

namespace linnet {
namespace {

constexpr float kLargestHalf = 65504.0f;

}  // namespace

StatePacker::StatePacker(const Session& session, bool half) : half_(half) {
  if (!half_) {
    bytes_ = session.state_bytes();
    return;
  }
  parts_.push_back({0, plan::kStateHeaderBytes, false});
  for (const plan::StatePlan& state : session.engine().plan().states)
    parts_.push_back({state.offset, state.bytes, state.dtype == DType::kF32});
  for (const Part& part : parts_) bytes_ += part.half ? part.bytes / 2 : part.bytes;
  block_.resize(session.state_bytes());
}

Result<void> StatePacker::pack(const Session& session, std::span<std::byte> packed) {
  if (!half_) return session.snapshot(packed);
  LINNET_TRY(session.snapshot(block_));
  size_t at = 0;
  for (const Part& part : parts_) {
    const std::byte* from = block_.data() + part.offset;
    if (!part.half) {
      std::memcpy(packed.data() + at, from, part.bytes);
      at += part.bytes;
      continue;
    }
    for (size_t i = 0; i < part.bytes; i += sizeof(float), at += sizeof(uint16_t)) {
      float value;
      std::memcpy(&value, from + i, sizeof(value));
      const uint16_t rounded = f32_to_f16(std::clamp(value, -kLargestHalf, kLargestHalf));
      std::memcpy(packed.data() + at, &rounded, sizeof(rounded));
    }
  }
  return {};
}

Result<void> StatePacker::restore(Session& session, std::span<const std::byte> packed) {
  if (!half_) return session.restore(packed);
  size_t at = 0;
  for (const Part& part : parts_) {
    std::byte* to = block_.data() + part.offset;
    if (!part.half) {
      std::memcpy(to, packed.data() + at, part.bytes);
      at += part.bytes;
      continue;
    }
    for (size_t i = 0; i < part.bytes; i += sizeof(float), at += sizeof(uint16_t)) {
      uint16_t rounded;
      std::memcpy(&rounded, packed.data() + at, sizeof(rounded));
      const float value = f16_to_f32(rounded);
      std::memcpy(to + i, &value, sizeof(value));
    }
  }
  return session.restore(block_);
}

}  // namespace linnet
