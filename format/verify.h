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
