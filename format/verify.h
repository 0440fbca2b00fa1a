// Structural checks that are always on: what a model's head must satisfy whatever its ops mean. The rules of
// each op (operand counts, shapes, dtypes) are checked after this by runtime/graph.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "format/model_generated.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"
#include "runtime/core/limits.h"

namespace linnet::format {

// The enums of the schema and of the runtime have the same values.
constexpr DType to_dtype(fb::DType dtype) { return static_cast<DType>(dtype); }
constexpr fb::DType to_fb(DType dtype) { return static_cast<fb::DType>(dtype); }

inline constexpr int64_t kMaxDim = int64_t{1} << 40;              // of a plain tensor
inline constexpr int64_t kMaxMatrixDim = (int64_t{1} << 31) - 1;  // rows and inputs of a matrix
inline constexpr int64_t kMaxElements = int64_t{1} << 48;

// What a model file may have of each, far beyond any real one, so that checking and planning it takes no time
// to speak of.
inline constexpr size_t kMaxSymbols = 64;
inline constexpr size_t kMaxMethods = 64;
inline constexpr size_t kMaxSegments = 4096;
inline constexpr size_t kMaxWeights = size_t{1} << 17;
inline constexpr size_t kMaxStates = size_t{1} << 14;
inline constexpr size_t kMaxNodes = size_t{1} << 14;   // of all methods together
inline constexpr size_t kMaxValues = size_t{1} << 16;  // of all methods together
inline constexpr size_t kMaxOperands = 64;             // inputs, weights, states or outputs of a node
inline constexpr size_t kMaxMethodInputs = 256;        // and outputs
// Channels of a value, and integers among an op's arguments. With these bounds, and at most 2^45 elements in
// a value, no product that a kernel makes of them for its scratch exceeds 64 bits.
inline constexpr int64_t kMaxChannels = int64_t{1} << 24;

// The refusal of a file's content.
inline std::unexpected<Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidFile, std::move(message));
}

// Bytes a weight takes in the file. Errors (kInvalidFile): a shape out of bounds, a block format that is not
// in panels, a panel that is not of rank 2 or 3.
Result<uint64_t> stored_bytes(DType dtype, fb::Layout layout, std::span<const int64_t> shape);

// Checks every index, extent, dimension, name and the order of nodes; `head_offset` is where weight segments
// must end. A model that passes can be walked without further bounds checks: all pointers are set, every
// index is in range (or -1 where absence is allowed). Errors: kInvalidFile, naming the part.
Result<void> verify_model(const fb::ModelT& model, uint64_t head_offset);

// The part of verify_model that looks at tokenizer and sampler.
Result<void> verify_text(const fb::ModelT& model);

}  // namespace linnet::format
