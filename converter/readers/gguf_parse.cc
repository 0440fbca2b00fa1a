// The directory of a GGUF file: header, metadata, tensor entries.
#include <algorithm>
#include <cstring>
#include <optional>

#include "converter/readers/gguf.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Far above any real file, and low enough that a hostile one cannot ask for the machine's memory.
constexpr uint64_t kMostKeys = 65536, kMostTensors = 1u << 20, kMostArray = 1u << 24, kMostString = 1u << 26;
constexpr uint32_t kMostDimensions = 4;  // GGML_MAX_DIMS

enum class Kind : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
  kCount
};

// The rest of ggml's enum ggml_type beside encodings.def: what can be named but is not read.
struct UnreadType {
  uint32_t type;
  const char* name;
};
constexpr UnreadType kUnread[] = {
    {9, "Q8_1"},     {15, "Q8_K"},
    {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {21, "IQ3_S"},   {22, "IQ2_S"},
    {29, "IQ1_M"},   {31, "Q4_0_4_4 (withdrawn)"},
    {34, "TQ1_0"},   {32, "Q4_0_4_8 (withdrawn)"},
    {35, "TQ2_0"},   {33, "Q4_0_8_8 (withdrawn)"},
    {40, "NVFP4"},
};
std::string name_of_unread(uint32_t type) {
  for (const UnreadType& unread : kUnread)
    if (unread.type == type) return unread.name;
  return strf("the unknown type {}", type);
}

// Those of GGUF's encodings that hold weights, for messages.
std::string readable_types() {
  std::string text;
  for (uint32_t type = 0; type < 64; ++type)
    if (const auto encoding = encoding_of_ggml(type)) {
      const EncodingInfo& info = encoding_info(*encoding);
      if (info.block_values == 1 && info.nearest != DType::kF16 && info.nearest != DType::kBF16) continue;
      text += (text.empty() ? "" : ", ") + std::string(info.name);
    }
  return text;
}

// Reads forward; after the first failure everything reads as zero and `error` says what it was.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}
  size_t at = 0;
  std::optional<Error> error;

  bool ok() const { return !error; }
  void refuse(std::string_view why, ErrorCode code = ErrorCode::kInvalidFile) {
    if (ok()) error = Error{code, strf("'{}' cannot be read as GGUF: {}", name_, why)};
  }

  template <typename T>
  T take() {
    T value{};
    if (!ok()) return value;
    if (file_.size() - at < sizeof(T)) {
      refuse(strf("it ends at byte {}, in the middle of its directory: it is truncated", file_.size()));
      return value;
    }
    std::memcpy(&value, file_.data() + at, sizeof(T));
    at += sizeof(T);
    return value;
  }

  std::string text() {
    const auto length = take<uint64_t>();
    if (!ok()) return {};
    if (length > kMostString || length > file_.size() - at) {
      refuse(strf("a string at byte {} claims {} bytes: it is truncated or damaged", at, length));
      return {};
    }
    std::string value(reinterpret_cast<const char*>(file_.data()) + at, length);
    at += length;
    return value;
  }

  GgufValue value(const std::string& key) {
    const auto kind = static_cast<Kind>(take<uint32_t>());
    if (ok() && kind >= Kind::kCount)
      refuse(strf("the key '{}' has the unknown type {}", printable(key), static_cast<uint32_t>(kind)));
    if (!ok()) return int64_t{0};
    switch (kind) {
      case Kind::kF32:
      case Kind::kF64:
        return real(kind);
      case Kind::kBool:
        return take<uint8_t>() != 0;
      case Kind::kString:
        return text();
      case Kind::kArray:
        return array(key);
      default:
        return integer(kind);
    }
  }

  // A name as it can be printed: hostile files have long and binary ones.
  static std::string printable(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 120))
      out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return out;
  }

 private:
  double real(Kind kind) { return kind == Kind::kF32 ? static_cast<double>(take<float>()) : take<double>(); }
  int64_t integer(Kind kind) {
    switch (kind) {
      case Kind::kU8:
        return take<uint8_t>();
      case Kind::kI8:
        return take<int8_t>();
      case Kind::kU16:
        return take<uint16_t>();
      case Kind::kI16:
        return take<int16_t>();
      case Kind::kU32:
        return take<uint32_t>();
      case Kind::kI32:
        return take<int32_t>();
      case Kind::kI64:
        return take<int64_t>();
      default: {
        // No key that Linnet reads has such values; the largest int64 fails every check of range.
        const auto value = take<uint64_t>();
        return value > uint64_t{INT64_MAX} ? INT64_MAX : static_cast<int64_t>(value);
      }
    }
  }
  static size_t smallest(Kind kind) {
    switch (kind) {
      case Kind::kU8:
      case Kind::kI8:
      case Kind::kBool:
        return 1;
      case Kind::kU16:
      case Kind::kI16:
        return 2;
      case Kind::kU32:
      case Kind::kI32:
      case Kind::kF32:
        return 4;
      default:
        return 8;  // a string has its length at least
    }
  }

  template <typename T, typename Read>
  GgufValue items(uint64_t count, const Read& read) {
    std::vector<T> result;
    result.reserve(count);
    for (uint64_t i = 0; i < count && ok(); ++i) result.push_back(read());
    return result;
  }
  GgufValue array(const std::string& key) {
    const auto kind = static_cast<Kind>(take<uint32_t>());
    const auto count = take<uint64_t>();
    if (ok() && (kind >= Kind::kCount || kind == Kind::kArray))
      refuse(strf("the key '{}' is an array of {}, which is not supported", printable(key),
                  kind == Kind::kArray ? std::string("arrays")
                                       : strf("the unknown type {}", static_cast<uint32_t>(kind))));
    if (ok() && (count > kMostArray || count > (file_.size() - at) / smallest(kind)))
      refuse(strf("the array '{}' claims {} items: it is truncated or damaged", printable(key), count));
    if (!ok()) return int64_t{0};
    switch (kind) {
      case Kind::kString:
        return items<std::string>(count, [&] { return text(); });
      case Kind::kF32:
      case Kind::kF64:
        return items<double>(count, [&] { return real(kind); });
      case Kind::kBool:
        return items<bool>(count, [&] { return take<uint8_t>() != 0; });
      default:
        return items<int64_t>(count, [&] { return integer(kind); });
    }
  }

  std::span<const std::byte> file_;
  const std::string& name_;
};

struct Entry {
  TensorInfo tensor;
  uint64_t offset = 0, bytes = 0;  // offset from the start of the data
};

Entry read_entry(Cursor& in) {
  Entry entry;
  entry.tensor.name = in.text();
  const std::string name = Cursor::printable(entry.tensor.name);
  const auto rank = in.take<uint32_t>();
  if (rank > kMostDimensions)
    in.refuse(strf("tensor '{}' has {} dimensions, at most {} are possible", name, rank, kMostDimensions));
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank && in.ok(); ++i) {
    const auto n = in.take<uint64_t>();
    if (in.ok() && (n == 0 || n > (uint64_t{1} << 48) / elements))
      in.refuse(strf("tensor '{}' has a dimension of {}: it is damaged", name, n));
    if (!in.ok()) return entry;
    elements *= n;
    entry.tensor.shape.insert(entry.tensor.shape.begin(), static_cast<int64_t>(n));
  }
  const auto type = in.take<uint32_t>();
  entry.offset = in.take<uint64_t>();
  if (!in.ok()) return entry;
  const auto encoding = encoding_of_ggml(type);
  if (!encoding) {
    in.refuse(strf("tensor '{}' is encoded as {}, which Linnet does not read: use a file in one of {}", name,
                   name_of_unread(type), readable_types()),
              ErrorCode::kUnsupported);
    return entry;
  }
  entry.tensor.encoding = *encoding;
  const EncodingInfo& info = encoding_info(*encoding);
  if (entry.tensor.columns() % info.block_values != 0)
    in.refuse(strf("tensor '{}' has rows of {} values, expected a multiple of {} for {}", name,
                   entry.tensor.columns(), info.block_values, info.name));
  entry.bytes = elements / static_cast<uint64_t>(info.block_values) * info.block_bytes;
  return entry;
}

Result<uint64_t> alignment(const GgufDirectory& directory, const std::string& name) {
  const auto it = directory.metadata.find("general.alignment");
  if (it == directory.metadata.end()) return 32;
  const auto* value = std::get_if<int64_t>(&it->second);
  if (!value || *value < 8 || *value > (1 << 20) || (*value & (*value - 1)) != 0)
    return fail(
        ErrorCode::kInvalidFile,
        strf("'{}' cannot be read as GGUF: general.alignment is {}, expected a power of two from 8 to 2^20",
             name, value ? std::to_string(*value) : std::string("no integer")));
  return static_cast<uint64_t>(*value);
}

}  // namespace

Result<GgufDirectory> parse_gguf(std::span<const std::byte> file, const std::string& name) {
  Cursor in(file, name);
  const auto refused = [&]() -> std::unexpected<Error> { return std::unexpected(std::move(*in.error)); };
  if (file.size() < 4 || std::memcmp(file.data(), "GGUF", 4) != 0) {
    in.refuse("it does not begin with 'GGUF'");
    return refused();
  }
  in.at = 4;
  const auto version = in.take<uint32_t>();
  if (!in.ok()) return refused();
  if (version != 2 && version != 3) {
    const bool swapped = (version & 0xFFFF) == 0 && version != 0;
    return fail(ErrorCode::kUnsupported,
                strf("'{}' is GGUF {}: only versions 2 and 3, little endian, are read; convert it again with "
                     "a current "
                     "llama.cpp",
                     name, swapped ? std::string("in big-endian byte order") : strf("version {}", version)));
  }
  const auto tensor_count = in.take<uint64_t>(), key_count = in.take<uint64_t>();
  if (tensor_count > kMostTensors || key_count > kMostKeys)
    in.refuse(strf("it claims {} tensors and {} keys: it is damaged", tensor_count, key_count));
  GgufDirectory directory;
  for (uint64_t i = 0; i < key_count && in.ok(); ++i) {
    std::string key = in.text();
    GgufValue value = in.value(key);
    if (in.ok() && !directory.metadata.try_emplace(key, std::move(value)).second)
      in.refuse(strf("the key '{}' is there twice", Cursor::printable(key)));
  }
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < tensor_count && in.ok(); ++i) entries.push_back(read_entry(in));
  if (!in.ok()) return refused();

  LINNET_ASSIGN(const uint64_t align, alignment(directory, name));
  const uint64_t data = (in.at + align - 1) / align * align;
  for (Entry& e : entries) {
    const std::string tensor = Cursor::printable(e.tensor.name);
    if (e.offset % align != 0)
      in.refuse(strf("tensor '{}' lies at byte {} of the data, expected a multiple of {}", tensor, e.offset,
                     align));
    else if (data > file.size() || e.offset > file.size() - data || e.bytes > file.size() - data - e.offset)
      in.refuse(strf(
          "tensor '{}' lies at byte {} of the data with {} bytes, the data has {}: the file is truncated or "
          "damaged",
          tensor, e.offset, e.bytes, file.size() - std::min<uint64_t>(data, file.size())));
    if (!in.ok()) return refused();
    e.tensor.bytes = file.subspan(data + e.offset, e.bytes);
    directory.tensors.push_back(std::move(e.tensor));
  }
  return directory;
}

}  // namespace linnet::convert
