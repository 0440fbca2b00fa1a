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

#include "format/block_group.h"
#include "format/file.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::convert {

// How a tensor's bytes encode its values: the rows of encodings.def.
enum class Encoding : uint8_t {
#define LINNET_ENCODING(name, ...) k##name,
#include "converter/readers/encodings.def"
};
inline constexpr size_t kEncodingCount = 0
#define LINNET_ENCODING(...) +1
#include "converter/readers/encodings.def"
    ;

struct EncodingInfo {
  const char* name;      // as the containers write it
  int64_t block_values;  // values of one block
  size_t block_bytes;
  DType nearest;  // says what the encoding says, or close to it
  bool groups;    // its blocks are groups of that type
  int ggml;       // number in ggml's enum ggml_type; -1: not in GGUF files
};
const EncodingInfo& encoding_info(Encoding encoding);
// The encoding with a number of ggml's enum ggml_type; none for those that are not read.
std::optional<Encoding> encoding_of_ggml(uint32_t type);
// Decodes `blocks` consecutive blocks into f32. `bytes` may have any alignment.
void decode_blocks(Encoding encoding, const std::byte* bytes, int64_t blocks, float* out);
// The same as groups of the encoding's nearest type. Only for encodings with `groups`.
void take_blocks_apart(Encoding encoding, const std::byte* bytes, int64_t blocks, format::BlockGroup* out);

// Dimensions as people read them: "[320, 64]".
std::string shape_name(std::span<const int64_t> shape);

struct TensorInfo {
  std::string name;
  Encoding encoding = Encoding::kF32;
  std::vector<int64_t> shape;        // the product of its non-zero dimensions fits
  std::span<const std::byte> bytes;  // in the mapping
  // Elements from one index of a dimension to the next, where the elements do not follow each other (torch's
  // views); empty: they do. Only for encodings without blocks.
  std::vector<int64_t> strides;
  size_t file = 0;  // which of the checkpoint's files

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
  // A whole tensor as it lies in the file, for readers of packed codes, who are about to read `touched` bytes
  // of it. Only of tensors without strides.
  Result<std::span<const std::byte>> read_bytes(const TensorInfo& tensor, size_t touched) const;
  // The block format a tensor's rows can be imported in without loss.
  static std::optional<DType> lossless_dtype(const TensorInfo& tensor);
  // The same rows as the groups that format::pack_panel_from_groups takes. Only with a lossless_dtype().
  Result<void> read_groups(const TensorInfo& tensor, int64_t begin, int64_t count,
                           format::BlockGroup* out) const;

  // Adds a file, all of it or nothing; used by the readers. The tensors' bytes are spans of the mapping.
  // Errors: a name that is there already, outlying tensors, overlapping ones unless they may share bytes.
  enum class Sharing : uint8_t { kRefused, kAllowed };
  Result<void> add_file(std::string name, format::MappedFile file, std::vector<TensorInfo> tensors,
                        Sharing sharing = Sharing::kRefused);

 private:
  Result<void> check_rows(const TensorInfo& tensor, int64_t begin, int64_t count) const;
  Result<std::span<const std::byte>> row_bytes(const TensorInfo& tensor, int64_t begin, int64_t count) const;
  void forget_pages(size_t just_read) const;

  std::map<std::string, TensorInfo> tensors_;
  std::vector<std::string> names_;
  std::vector<format::MappedFile> files_;
  mutable uint64_t bytes_since_drop_ = 0;  // through atomic_ref: only a hint, but read by any thread
};

}  // namespace linnet::convert
