#include "converter/readers/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::convert {

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

Result<void> Checkpoint::add_file(std::string name, format::MappedFile file, std::vector<TensorInfo> tensors) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) { return a->bytes.data() < b->bytes.data(); });
  const std::byte* end = file.bytes().data();
  const TensorInfo* before = nullptr;
  for (const TensorInfo* t : order) {
    if (t->bytes.empty()) continue;
    if (t->bytes.data() < end)
      return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' overlaps {}: the file is damaged", name, t->name,
                                                before ? "'" + before->name + "'" : std::string("the header")));
    end = t->bytes.data() + t->bytes.size();
    before = t;
  }
  if (end > file.bytes().data() + file.bytes().size())
    return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' reaches past the end of the file", name, before->name));
  for (TensorInfo& t : tensors) {
    t.file = names_.size();
    std::string key = t.name;
    if (!tensors_.emplace(key, std::move(t)).second)
      return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' is there twice", name, key));
  }
  names_.push_back(std::move(name));
  files_.push_back(std::move(file));
  return {};
}

Result<void> Checkpoint::read_f32(const TensorInfo& tensor, int64_t begin, int64_t count, float* out) const {
  const EncodingInfo& info = encoding_info(tensor.encoding);
  if (begin < 0 || count < 0 || begin + count > tensor.rows())
    return fail(ErrorCode::kInternal, strf("rows {} to {} of '{}' were asked for, it has {}", begin, begin + count, tensor.name, tensor.rows()));
  const int64_t blocks = tensor.columns() / info.block_values;
  const size_t row_bytes = static_cast<size_t>(blocks) * info.block_bytes;
  decode_blocks(tensor.encoding, tensor.bytes.data() + static_cast<size_t>(begin) * row_bytes, blocks * count, out);
  // What has been read will hardly be read again: a checkpoint larger than memory stays out of it.
  format::MappedFile::drop(tensor.bytes.subspan(static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(count) * row_bytes));
  return {};
}

std::optional<DType> Checkpoint::lossless_dtype(const TensorInfo& tensor) {
  switch (tensor.encoding) {
    case Encoding::kQ8_0: return DType::kQ8;
    case Encoding::kQ4_0: return DType::kQ4;
    case Encoding::kQ4_1: return DType::kQ4A;
    default: return std::nullopt;
  }
}

Result<void> Checkpoint::read_groups(const TensorInfo& tensor, int64_t begin, int64_t count, std::byte* out) const {
  const EncodingInfo& info = encoding_info(tensor.encoding);
  if (!lossless_dtype(tensor) || begin < 0 || count < 0 || begin + count > tensor.rows())
    return fail(ErrorCode::kInternal, strf("'{}' has no groups at rows {} to {}", tensor.name, begin, begin + count));
  const size_t row_bytes = static_cast<size_t>(tensor.columns() / info.block_values) * info.block_bytes;
  std::memcpy(out, tensor.bytes.data() + static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(count) * row_bytes);
  return {};
}

}  // namespace linnet::convert
