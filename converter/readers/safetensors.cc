#include "converter/readers/safetensors.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

#include "converter/readers/json.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr uint64_t kMostHeader = uint64_t{100} << 20;  // what the official library accepts

const std::map<std::string, Encoding>& encodings() {
  static const std::map<std::string, Encoding> kNames = {
      {"F64", Encoding::kF64},        {"F32", Encoding::kF32},        {"F16", Encoding::kF16}, {"BF16", Encoding::kBF16},
      {"F8_E4M3", Encoding::kF8E4M3}, {"F8_E5M2", Encoding::kF8E5M2}, {"I64", Encoding::kI64}, {"I32", Encoding::kI32},
      {"I16", Encoding::kI16},        {"I8", Encoding::kI8},          {"U8", Encoding::kU8},   {"BOOL", Encoding::kBool},
  };
  return kNames;
}

Result<TensorInfo> parse_tensor(const std::string& name, const Json& entry, std::span<const std::byte> data, const std::string& file) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' {}", file, name, why));
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
      !entry["shape"].is_array() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2 || !entry["data_offsets"][0].is_number_unsigned() ||
      !entry["data_offsets"][1].is_number_unsigned())
    return refuse("has no proper dtype, shape and data_offsets");
  TensorInfo tensor;
  tensor.name = name;
  const auto encoding = encodings().find(entry["dtype"].get<std::string>());
  if (encoding == encodings().end())
    return refuse(strf("has dtype {}, which Linnet does not read (F64, F32, F16, BF16, F8_E4M3, F8_E5M2 and integers are)", entry["dtype"].dump()));
  tensor.encoding = encoding->second;
  uint64_t bytes = encoding_info(tensor.encoding).block_bytes;
  if (entry["shape"].size() > 8) return refuse("has more than 8 dimensions");
  for (const Json& d : entry["shape"]) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > (uint64_t{1} << 40)) return refuse(strf("has the shape {}", entry["shape"].dump()));
    const auto n = d.get<uint64_t>();
    if (n != 0 && bytes > (uint64_t{1} << 50) / n) return refuse(strf("has the shape {}, which is too large", entry["shape"].dump()));
    bytes *= n;
    tensor.shape.push_back(static_cast<int64_t>(n));
  }
  const auto begin = entry["data_offsets"][0].get<uint64_t>(), end = entry["data_offsets"][1].get<uint64_t>();
  if (begin > end || end > data.size())
    return refuse(strf("lies at bytes {} to {}, the file has {} bytes of data: it is truncated or damaged", begin, end, data.size()));
  if (end - begin != bytes)
    return refuse(strf("has {} bytes, its shape {} of {} needs {}", end - begin, entry["shape"].dump(), encoding->first, bytes));
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

}  // namespace

Result<std::vector<TensorInfo>> parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  uint64_t length = 0;
  if (file.size() < sizeof(length)) return fail(ErrorCode::kInvalidFile, strf("'{}' is too short for a safetensors file", name));
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kMostHeader || length > file.size() - sizeof(length))
    return fail(ErrorCode::kInvalidFile, strf("'{}' says its header has {} bytes, the file has {}: it is truncated, damaged, or not safetensors", name, length, file.size()));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + sizeof(length), length);
  LINNET_ASSIGN(const Json header, parse_json(text, strf("the header of '{}'", name)));
  if (!header.is_object()) return fail(ErrorCode::kInvalidFile, strf("the header of '{}' is not an object", name));
  const auto data = file.subspan(sizeof(length) + length);
  std::vector<TensorInfo> tensors;
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") continue;
    LINNET_ASSIGN(TensorInfo tensor, parse_tensor(key, entry, data, name));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

Result<void> read_safetensors(const std::string& path, Checkpoint& checkpoint) {
  LINNET_ASSIGN(format::MappedFile file, format::MappedFile::open(path));
  LINNET_ASSIGN(std::vector<TensorInfo> tensors, parse_safetensors(file.bytes(), path));
  return checkpoint.add_file(path, std::move(file), std::move(tensors));
}

Result<void> write_safetensors(const std::string& path, std::span<const OutputTensor> tensors,
                               std::span<const std::pair<std::string, std::string>> metadata) {
  Json header = Json::object();
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  uint64_t offset = 0;
  for (const OutputTensor& t : tensors) {
    header[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes.size()}}};
    offset += t.bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  const std::string beside = path + ".part";
  const auto refused = [&] {
    const int reason = errno;
    std::remove(beside.c_str());
    return fail(ErrorCode::kIo, strf("cannot write '{}': {}", path, std::strerror(reason)));
  };
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (!file) return refused();
  const auto put = [&](const void* data, size_t bytes) { return bytes == 0 || std::fwrite(data, bytes, 1, file) == 1; };
  bool good = put(&length, sizeof(length)) && put(text.data(), text.size());
  for (const OutputTensor& t : tensors) good = good && put(t.bytes.data(), t.bytes.size());
  good = good && std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  const int reason = errno;
  std::fclose(file);
  errno = reason;
  if (!good || std::rename(beside.c_str(), path.c_str()) != 0) return refused();
  return {};
}

}  // namespace linnet::convert
