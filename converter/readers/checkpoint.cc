#include "converter/readers/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Dropping costs a system call and later page faults at the seams, keeping costs memory.
constexpr uint64_t kDropAfter = uint64_t{32} << 20;

Result<void> check_extents(const std::string& file, std::span<const std::byte> bytes,
                           std::span<const TensorInfo> tensors, Checkpoint::Sharing sharing) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& t : tensors)
    if (!t.bytes.empty()) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->bytes.data() < b->bytes.data(); });
  const std::byte* end = bytes.data();
  const TensorInfo* before = nullptr;
  for (const TensorInfo* t : order) {
    const bool overlaps = t->bytes.data() < (sharing == Checkpoint::Sharing::kAllowed ? bytes.data() : end);
    if (overlaps)
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': tensor '{}' overlaps {}: the file is damaged", file, t->name,
                       before ? "'" + before->name + "'" : std::string("the header")));
    if (const std::byte* own = t->bytes.data() + t->bytes.size(); own > end) end = own, before = t;
  }
  if (end > bytes.data() + bytes.size())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': tensor '{}' reaches past the end of the file", file, before->name));
  return {};
}

}  // namespace

std::string shape_name(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
  return text + "]";
}

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

Result<void> Checkpoint::add_file(std::string name, format::MappedFile file, std::vector<TensorInfo> tensors,
                                  Sharing sharing) {
  LINNET_TRY(check_extents(name, file.bytes(), tensors, sharing));
  std::set<std::string_view> seen;
  for (const TensorInfo& t : tensors) {
    if (!seen.insert(t.name).second)
      return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' is there twice", name, t.name));
    if (const TensorInfo* other = find(t.name))
      return fail(ErrorCode::kInvalidFile,
                  strf("tensor '{}' is in '{}' and in '{}'", t.name, file_name(*other), name));
  }
  for (TensorInfo& t : tensors) {
    t.file = names_.size();
    std::string key = t.name;
    tensors_.emplace(std::move(key), std::move(t));
  }
  names_.push_back(std::move(name));
  files_.push_back(std::move(file));
  return {};
}

Result<void> Checkpoint::check_rows(const TensorInfo& tensor, int64_t begin, int64_t count) const {
  const int64_t rows = tensor.rows();
  if (begin < 0 || count < 0 || begin > rows || count > rows - begin)
    return fail(ErrorCode::kInternal, strf("'{}': rows {} to {} of '{}' were asked for, it has {}",
                                           file_name(tensor), begin, begin + count, tensor.name, rows));
  if (auto unchanged = files_[tensor.file].check_unchanged(); !unchanged)
    return fail(unchanged.error().code, strf("'{}' cannot be converted: {}; start again", file_name(tensor),
                                             unchanged.error().message));
  return {};
}

Result<std::span<const std::byte>> Checkpoint::row_bytes(const TensorInfo& tensor, int64_t begin,
                                                         int64_t count) const {
  LINNET_TRY(check_rows(tensor, begin, count));
  const EncodingInfo& info = encoding_info(tensor.encoding);
  const size_t row = static_cast<size_t>(tensor.columns() / info.block_values) * info.block_bytes;
  return tensor.bytes.subspan(static_cast<size_t>(begin) * row, static_cast<size_t>(count) * row);
}

void Checkpoint::forget_pages(size_t just_read) const {
  const std::atomic_ref<uint64_t> counter(bytes_since_drop_);
  if (counter.fetch_add(just_read, std::memory_order_relaxed) + just_read < kDropAfter) return;
  counter.store(0, std::memory_order_relaxed);
  for (const format::MappedFile& file : files_)
    if (file.is_mapped()) format::MappedFile::drop(file.bytes());
}

Result<void> Checkpoint::read_f32(const TensorInfo& tensor, int64_t begin, int64_t count, float* out) const {
  if (!tensor.strides.empty()) {
    LINNET_TRY(check_rows(tensor, begin, count));
    const int64_t columns = tensor.columns();
    const size_t bytes = encoding_info(tensor.encoding).block_bytes;
    for (int64_t i = 0; i < count; ++i, out += columns) {
      int64_t at = 0, rest = begin + i;  // the row's index in each dimension before the last
      for (size_t d = tensor.shape.size() - 1; d-- > 0; rest /= tensor.shape[d])
        at += rest % tensor.shape[d] * tensor.strides[d];
      for (int64_t c = 0; c < columns; ++c)
        decode_blocks(tensor.encoding,
                      tensor.bytes.data() + static_cast<size_t>(at + c * tensor.strides.back()) * bytes, 1,
                      out + c);
    }
    return {};
  }
  LINNET_ASSIGN(const std::span<const std::byte> bytes, row_bytes(tensor, begin, count));
  const auto blocks = static_cast<int64_t>(bytes.size() / encoding_info(tensor.encoding).block_bytes);
  decode_blocks(tensor.encoding, bytes.data(), blocks, out);
  forget_pages(bytes.size());
  return {};
}

Result<std::span<const std::byte>> Checkpoint::read_bytes(const TensorInfo& tensor, size_t touched) const {
  if (!tensor.strides.empty())
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}': the packed tensor '{}' is a view whose elements do not follow each other: save it "
             "with .contiguous()",
             file_name(tensor), tensor.name));
  LINNET_ASSIGN(const std::span<const std::byte> bytes, row_bytes(tensor, 0, tensor.rows()));
  forget_pages(touched);
  return bytes;
}

std::optional<DType> Checkpoint::lossless_dtype(const TensorInfo& tensor) {
  const EncodingInfo& info = encoding_info(tensor.encoding);
  return info.groups ? std::optional(info.nearest) : std::nullopt;
}

Result<void> Checkpoint::read_groups(const TensorInfo& tensor, int64_t begin, int64_t count,
                                     format::BlockGroup* out) const {
  if (!lossless_dtype(tensor))
    return fail(ErrorCode::kInternal,
                strf("'{}': tensor '{}' is stored as {}, which has no groups to take over", file_name(tensor),
                     tensor.name, encoding_info(tensor.encoding).name));
  LINNET_ASSIGN(const std::span<const std::byte> bytes, row_bytes(tensor, begin, count));
  const auto blocks = static_cast<int64_t>(bytes.size() / encoding_info(tensor.encoding).block_bytes);
  take_blocks_apart(tensor.encoding, bytes.data(), blocks, out);
  forget_pages(bytes.size());
  return {};
}

}  // namespace linnet::convert
