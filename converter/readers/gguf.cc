#include "converter/readers/gguf.h"

#include <cstring>
#include <optional>
#include <set>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr uint64_t kMostKeys = 65536, kMostTensors = 1u << 20, kMostArray = 1u << 24, kMostString = 1u << 26;

enum class Kind : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64, kCount };

std::optional<Encoding> encoding_of(uint32_t type) {
  switch (type) {
    case 0: return Encoding::kF32;
    case 1: return Encoding::kF16;
    case 2: return Encoding::kQ4_0;
    case 3: return Encoding::kQ4_1;
    case 6: return Encoding::kQ5_0;
    case 7: return Encoding::kQ5_1;
    case 8: return Encoding::kQ8_0;
    case 10: return Encoding::kQ2_K;
    case 11: return Encoding::kQ3_K;
    case 12: return Encoding::kQ4_K;
    case 13: return Encoding::kQ5_K;
    case 14: return Encoding::kQ6_K;
    case 24: return Encoding::kI8;
    case 25: return Encoding::kI16;
    case 26: return Encoding::kI32;
    case 27: return Encoding::kI64;
    case 28: return Encoding::kF64;
    case 30: return Encoding::kBF16;
    default: return std::nullopt;
  }
}

// Reads forward; after the first failure everything reads as zero and `problem` says what it was.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> file) : file_(file) {}
  std::string problem;
  size_t at = 0;

  void fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
  }
  bool ok() const { return problem.empty(); }

  template <typename T>
  T take() {
    T value{};
    if (file_.size() - at < sizeof(T)) {
      fail(strf("it ends at byte {}, in the middle of its directory: it is truncated", file_.size()));
      return value;
    }
    std::memcpy(&value, file_.data() + at, sizeof(T));
    at += sizeof(T);
    return ok() ? value : T{};
  }
  std::string text() {
    const auto length = take<uint64_t>();
    if (!ok()) return {};
    if (length > kMostString || length > file_.size() - at) {
      fail(strf("a string at byte {} claims {} bytes: it is damaged", at, length));
      return {};
    }
    std::string value(reinterpret_cast<const char*>(file_.data()) + at, length);
    at += length;
    return value;
  }

  int64_t integer(Kind kind) {
    switch (kind) {
      case Kind::kU8: return take<uint8_t>();
      case Kind::kI8: return take<int8_t>();
      case Kind::kU16: return take<uint16_t>();
      case Kind::kI16: return take<int16_t>();
      case Kind::kU32: return take<uint32_t>();
      case Kind::kI32: return take<int32_t>();
      case Kind::kI64: return take<int64_t>();
      default: {
        const auto value = take<uint64_t>();
        return value > uint64_t{INT64_MAX} ? INT64_MAX : static_cast<int64_t>(value);
      }
    }
  }

  GgufValue value(Kind kind) {
    switch (kind) {
      case Kind::kF32: return static_cast<double>(take<float>());
      case Kind::kF64: return take<double>();
      case Kind::kBool: return take<uint8_t>() != 0;
      case Kind::kString: return text();
      case Kind::kArray: return array();
      default: return integer(kind);
    }
  }

  GgufValue array() {
    const auto kind = static_cast<Kind>(take<uint32_t>());
    const auto count = take<uint64_t>();
    if (!ok()) return int64_t{0};
    if (kind >= Kind::kCount || kind == Kind::kArray) {
      fail("it has an array of arrays or of an unknown type, which is not supported");
      return int64_t{0};
    }
    if (count > kMostArray || count > file_.size() - at) {
      fail(strf("an array at byte {} claims {} items: it is damaged", at, count));
      return int64_t{0};
    }
    const auto fill = [&](auto items, auto read) -> GgufValue {
      for (uint64_t i = 0; i < count && ok(); ++i) items.push_back(read());
      return items;
    };
    switch (kind) {
      case Kind::kString: return fill(std::vector<std::string>(), [&] { return text(); });
      case Kind::kF32: return fill(std::vector<double>(), [&] { return static_cast<double>(take<float>()); });
      case Kind::kF64: return fill(std::vector<double>(), [&] { return take<double>(); });
      case Kind::kBool: return fill(std::vector<bool>(), [&] { return take<uint8_t>() != 0; });
      default: return fill(std::vector<int64_t>(), [&] { return integer(kind); });
    }
  }

 private:
  std::span<const std::byte> file_;
};

// Shape and byte count of one tensor of the directory; `offset` is relative to the data.
struct Entry {
  TensorInfo tensor;
  uint64_t offset = 0, bytes = 0;
};

Entry read_entry(Cursor& in) {
  Entry entry;
  entry.tensor.name = in.text();
  const auto rank = in.take<uint32_t>();
  if (rank > 4) in.fail(strf("tensor '{}' has {} dimensions, at most 4 are possible", entry.tensor.name, rank));
  std::vector<int64_t> shape;
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank && in.ok(); ++i) {
    const auto n = in.take<uint64_t>();
    if (n > (uint64_t{1} << 40) || (n != 0 && elements > (uint64_t{1} << 48) / n))
      in.fail(strf("tensor '{}' has absurd dimensions", entry.tensor.name));
    elements *= n;
    shape.insert(shape.begin(), static_cast<int64_t>(n));
  }
  const auto type = in.take<uint32_t>();
  entry.offset = in.take<uint64_t>();
  if (!in.ok()) return entry;
  const auto encoding = encoding_of(type);
  if (!encoding) {
    in.fail(strf("tensor '{}' has GGUF type {}, which Linnet does not read (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and "
                 "Q2_K to Q6_K are read)", entry.tensor.name, type));
    return entry;
  }
  entry.tensor.encoding = *encoding;
  entry.tensor.shape = std::move(shape);
  const EncodingInfo& info = encoding_info(*encoding);
  if (entry.tensor.columns() % info.block_values != 0)
    in.fail(strf("tensor '{}' has rows of {} values, not a multiple of {}'s {}", entry.tensor.name, entry.tensor.columns(), info.name, info.block_values));
  entry.bytes = elements / static_cast<uint64_t>(info.block_values) * info.block_bytes;
  return entry;
}

}  // namespace

Result<GgufDirectory> parse_gguf(std::span<const std::byte> file, const std::string& name) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidFile, strf("'{}' cannot be read as GGUF: {}", name, why));
  };
  Cursor in(file);
  if (file.size() < 24 || std::memcmp(file.data(), "GGUF", 4) != 0) return refuse("it does not begin as one");
  in.at = 4;
  const auto version = in.take<uint32_t>();
  if (version != 2 && version != 3) {
    const bool swapped = version == 0x02000000 || version == 0x03000000;
    return fail(ErrorCode::kUnsupported, strf("'{}' is GGUF {}: only versions 2 and 3, little endian, are read", name,
                                              swapped ? std::string("of the other byte order") : strf("version {}", version)));
  }
  const auto tensor_count = in.take<uint64_t>(), key_count = in.take<uint64_t>();
  if (tensor_count > kMostTensors || key_count > kMostKeys) return refuse(strf("it claims {} tensors and {} keys", tensor_count, key_count));
  GgufDirectory directory;
  for (uint64_t i = 0; i < key_count && in.ok(); ++i) {
    std::string key = in.text();
    const auto kind = static_cast<Kind>(in.take<uint32_t>());
    if (in.ok() && kind >= Kind::kCount) in.fail(strf("the key '{}' has an unknown type", key));
    if (!in.ok()) break;
    GgufValue value = in.value(kind);
    if (in.ok() && !directory.metadata.emplace(key, std::move(value)).second) in.fail(strf("the key '{}' is there twice", key));
  }
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < tensor_count && in.ok(); ++i) entries.push_back(read_entry(in));
  if (!in.ok()) return refuse(in.problem);

  uint64_t alignment = 32;
  if (const auto it = directory.metadata.find("general.alignment"); it != directory.metadata.end()) {
    const auto* value = std::get_if<int64_t>(&it->second);
    if (!value || *value < 8 || *value > (1 << 20) || (*value & (*value - 1)) != 0) return refuse("general.alignment is not a power of two from 8 to 2^20");
    alignment = static_cast<uint64_t>(*value);
  }
  const uint64_t data = (in.at + alignment - 1) / alignment * alignment;
  for (Entry& e : entries) {
    if (e.offset % alignment != 0) return refuse(strf("tensor '{}' is not aligned", e.tensor.name));
    if (data > file.size() || e.offset > file.size() - data || e.bytes > file.size() - data - e.offset)
      return refuse(strf("tensor '{}' lies at byte {} with {} bytes, the file has {}: it is truncated or damaged", e.tensor.name, data + e.offset, e.bytes, file.size()));
    e.tensor.bytes = file.subspan(data + e.offset, e.bytes);
    directory.tensors.push_back(std::move(e.tensor));
  }
  return directory;
}

Result<Gguf> Gguf::open(const std::string& path) {
  LINNET_ASSIGN(format::MappedFile file, format::MappedFile::open(path));
  LINNET_ASSIGN(GgufDirectory directory, parse_gguf(file.bytes(), path));
  Gguf gguf;
  gguf.metadata_ = std::move(directory.metadata);
  LINNET_TRY(gguf.checkpoint_.add_file(path, std::move(file), std::move(directory.tensors)));
  return gguf;
}

}  // namespace linnet::convert
