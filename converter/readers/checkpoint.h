// The tensors of a checkpoint, whatever container they lie in. Shapes are as PyTorch has them, outermost
// dimension first. Files are mapped; nothing is held but the directory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/file.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::convert {

// How a tensor's bytes encode its values.
enum class Encoding : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,  // the "fn" form: no infinities
  kF8E5M2,
  kF8E8M0,  // powers of two, for scales
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kQ4_0,  // from here on: GGUF's blocks
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
};
inline constexpr size_t kEncodingCount = static_cast<size_t>(Encoding::kMXFP4) + 1;

struct EncodingInfo {
  const char* name;      // as the containers write it
  int64_t block_values;  // values of one block
  size_t block_bytes;
};
const EncodingInfo& encoding_info(Encoding encoding);
// Decodes `blocks` consecutive blocks into f32. `bytes` may have any alignment.
void decode_blocks(Encoding encoding, const std::byte* bytes, int64_t blocks, float* out);

// Dimensions as people read them: "[320, 64]".
std::string shape_name(std::span<const int64_t> shape);

struct TensorInfo {
  std::string name;
  Encoding encoding = Encoding::kF32;
  std::vector<int64_t> shape;        // the product of its non-zero dimensions fits
  std::span<const std::byte> bytes;  // in the mapping
  size_t file = 0;                   // which of the checkpoint's files

  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  // All dimensions but the last; a vector is one row.
  int64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }
};

// Immutable once its files are added; then safe from any thread.
class Checkpoint {
 public:
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(const std::string& name) const;
  const std::string& file_name(const TensorInfo& tensor) const { return names_[tensor.file]; }

  // Rows [begin, begin + count) as f32, row-major [count, columns()]. Pages that were read are given back to
  // the system now and then, so a checkpoint larger than memory can be read through.
  Result<void> read_f32(const TensorInfo& tensor, int64_t begin, int64_t count, float* out) const;
  // The block format a tensor's rows can be imported in without loss.
  static std::optional<DType> lossless_dtype(const TensorInfo& tensor);
  // The same rows as the groups that format::pack_panel_from_groups takes. Only with a lossless_dtype().
  Result<void> read_groups(const TensorInfo& tensor, int64_t begin, int64_t count, std::byte* out) const;

  // Adds a file, all of it or nothing; used by the readers. The tensors' bytes are spans of the mapping.
  // Errors: a name that is there already, overlapping or outlying tensors.
  Result<void> add_file(std::string name, format::MappedFile file, std::vector<TensorInfo> tensors);

 private:
  Result<std::span<const std::byte>> row_bytes(const TensorInfo& tensor, int64_t begin, int64_t count) const;
  void forget_pages(size_t just_read) const;

  std::map<std::string, TensorInfo> tensors_;
  std::vector<std::string> names_;
  std::vector<format::MappedFile> files_;
  mutable uint64_t bytes_since_drop_ = 0;  // through atomic_ref: only a hint, but read by any thread
};

}  // namespace linnet::convert
