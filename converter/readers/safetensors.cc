#include "converter/readers/safetensors.h"

#include <algorithm>
#include <cstring>

#include "converter/readers/json.h"
#include "format/output_file.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr uint64_t kMostHeader = uint64_t{100} << 20;  // what the official library accepts
constexpr size_t kMostRank = 8;

// The dtypes are named as encoding_info names them; block encodings do not occur.
std::optional<Encoding> encoding_of(std::string_view dtype) {
  for (size_t i = 0; i < kEncodingCount; ++i)
    if (const EncodingInfo& info = encoding_info(static_cast<Encoding>(i));
        info.block_values == 1 && dtype == info.name)
      return static_cast<Encoding>(i);
  return std::nullopt;
}

// Bytes of a tensor, if they are no absurd number.
std::optional<uint64_t> extent(Encoding encoding, std::span<const int64_t> shape) {
  uint64_t product = encoding_info(encoding).block_bytes;
  bool empty = false;
  for (const int64_t d : shape) {
    const auto n = static_cast<uint64_t>(d);
    if (n == 0) empty = true;
    // Empty tensors too: elements() multiplies in this order.
    if (n > 1 && product > (uint64_t{1} << 50) / n) return std::nullopt;
    product *= std::max<uint64_t>(n, 1);
  }
  return empty ? 0 : product;
}

Result<TensorInfo> parse_tensor(const std::string& name, const Json& entry, std::span<const std::byte> data,
                                const std::string& file) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' {}", file, name, why));
  };
  const auto member = [&](const char* key) -> const Json& {
    static const Json kNothing;
    const auto it = entry.find(key);
    return it == entry.end() ? kNothing : *it;
  };
  if (!entry.is_object()) return refuse("is not described by an object");
  const Json &dtype = member("dtype"), &shape = member("shape"), &offsets = member("data_offsets");
  constexpr int64_t kMostOffset = int64_t{1} << 62;
  const bool pair = offsets.is_array() && offsets.size() == 2;
  const auto first = pair ? integer_of(offsets[0], 0, kMostOffset) : std::nullopt,
             last = pair ? integer_of(offsets[1], 0, kMostOffset) : std::nullopt;
  if (!dtype.is_string() || !shape.is_array() || !first || !last)
    return refuse("has no proper dtype, shape and data_offsets");
  TensorInfo tensor;
  tensor.name = name;
  const auto encoding = encoding_of(dtype.get_ref<const std::string&>());
  if (!encoding)
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}': tensor '{}' has dtype {}, which Linnet does not read (F64, F32, F16, BF16, F8_E4M3, "
             "F8_E5M2, F8_E8M0, integers and BOOL are): convert it to BF16",
             file, name, json_text(dtype, 100)));
  tensor.encoding = *encoding;
  if (shape.size() > kMostRank)
    return refuse(strf("has {} dimensions, at most {} are possible", shape.size(), kMostRank));
  for (const Json& d : shape) {
    const auto size = integer_of(d, 0, int64_t{1} << 40);
    if (!size) return refuse(strf("has the shape {}", json_text(shape, 200)));
    tensor.shape.push_back(*size);
  }
  const auto bytes = extent(tensor.encoding, tensor.shape);
  if (!bytes) return refuse(strf("has the shape {}, which is too large", shape_name(tensor.shape)));
  const auto begin = static_cast<uint64_t>(*first), end = static_cast<uint64_t>(*last);
  if (begin > end || end > data.size())
    return refuse(strf("lies at bytes {} to {}, the file has {} bytes of data: it is truncated or damaged",
                       begin, end, data.size()));
  if (end - begin != *bytes)
    return refuse(strf("has {} bytes, expected {} for {} of {}", end - begin, *bytes,
                       shape_name(tensor.shape), encoding_info(tensor.encoding).name));
  tensor.bytes = data.subspan(begin, *bytes);
  return tensor;
}

// The official library refuses bytes that belong to no tensor: they could hide another file.
Result<void> check_no_holes(std::span<const TensorInfo> tensors, std::span<const std::byte> data,
                            const std::string& file) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) < std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* end = data.data();
  for (const TensorInfo* t : order) {
    if (t->bytes.data() != end)
      return fail(
          ErrorCode::kInvalidFile,
          strf("'{}': tensor '{}' begins at byte {} of the data, expected {}: tensors overlap or leave a "
               "hole, the file is damaged",
               file, t->name, t->bytes.data() - data.data(), end - data.data()));
    end += t->bytes.size();
  }
  if (end != data.data() + data.size())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' has {} bytes of data, its tensors have {}: the file is damaged", file, data.size(),
                     end - data.data()));
  return {};
}

}  // namespace

Result<std::vector<TensorInfo>> parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  uint64_t length = 0;
  if (file.size() < sizeof(length))
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' has {} bytes, too few for a safetensors file", name, file.size()));
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kMostHeader || length > file.size() - sizeof(length))
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' says its header has {} bytes, the file has {}: it is truncated, damaged, or not "
                     "safetensors (a Git LFS pointer is not the file itself)",
                     name, length, file.size()));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + sizeof(length), length);
  LINNET_ASSIGN(Json header, parse_json(text, strf("the header of '{}'", name)));
  const JsonRelease released(header);
  if (!header.is_object())
    return fail(ErrorCode::kInvalidFile, strf("the header of '{}' is not an object", name));
  const auto data = file.subspan(sizeof(length) + length);
  std::vector<TensorInfo> tensors;
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") continue;
    LINNET_ASSIGN(TensorInfo tensor, parse_tensor(key, entry, data, name));
    tensors.push_back(std::move(tensor));
  }
  LINNET_TRY(check_no_holes(tensors, data, name));
  return tensors;
}

Result<void> read_safetensors(const std::string& path, Checkpoint& checkpoint) {
  LINNET_ASSIGN(format::MappedFile file, format::MappedFile::open(path));
  LINNET_ASSIGN(std::vector<TensorInfo> tensors, parse_safetensors(file.bytes(), path));
  return checkpoint.add_file(path, std::move(file), std::move(tensors));
}

Result<void> write_safetensors(const std::string& path, std::span<const OutputTensor> tensors,
                               std::span<const std::pair<std::string, std::string>> metadata, bool replace) {
  Json header = Json::object();
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  uint64_t offset = 0;
  for (const OutputTensor& t : tensors) {
    const auto encoding = encoding_of(t.dtype);
    const bool sane = std::all_of(t.shape.begin(), t.shape.end(), [](int64_t d) { return d >= 0; });
    if (!encoding || !sane || extent(*encoding, t.shape) != t.bytes.size())
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}': tensor '{}' of dtype {} and shape {} was given {} bytes", path, t.name, t.dtype,
                       shape_name(t.shape), t.bytes.size()));
    if (t.name == "__metadata__" || header.contains(t.name))
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}': there cannot be two tensors named '{}'", path, t.name));
    header[t.name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes.size()}}};
    offset += t.bytes.size();
  }
  std::string text = json_text(header, std::string::npos);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // readers may expect aligned data
  const uint64_t length = text.size();
  LINNET_ASSIGN(
      format::OutputFile file,
      format::OutputFile::create(
          path, {.expected_bytes = sizeof(length) + length + offset, .replace = replace, .stream = true}));
  LINNET_TRY(file.append(std::as_bytes(std::span(&length, 1))));
  LINNET_TRY(file.append(std::as_bytes(std::span(text))));
  for (const OutputTensor& t : tensors) LINNET_TRY(file.append(t.bytes));
  return file.publish();
}

}  // namespace linnet::convert
