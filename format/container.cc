#include "format/container.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "format/file.h"
#include "format/head.h"
#include "format/verify.h"
#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

constexpr std::string_view kMagic("LNNT\r\n\x1a\n", 8);
constexpr uint32_t kEndianTag = 0x01020304;
constexpr size_t kUsedHeaderBytes = 48;

template <typename T>
T load(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// What the first bytes suggest, for a person who gave the wrong file.
Result<void> check_magic(std::span<const std::byte> file) {
  const std::string_view start(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 10));
  if (start.starts_with(kMagic)) return {};
  if (start.starts_with("GGUF"))
    return invalid(
        "this is a GGUF file, not a Linnet model: convert it first (linnet convert FILE -o model.lnt)");
  if (start.size() == 10 && start.substr(8) == "{\"")
    return invalid("this is a safetensors file, not a Linnet model: convert it first (linnet convert)");
  if (start.starts_with("LNNT"))
    return invalid("this Linnet file was changed in transfer (line endings): copy it again in binary mode");
  return invalid("this is not a Linnet model file (it does not start with LNNT)");
}

}  // namespace

uint64_t checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::array<std::byte, kFileHeaderBytes> encode_header(const FileHeader& header) {
  std::array<std::byte, kFileHeaderBytes> out{};
  const auto put = [&out](size_t at, auto value) { std::memcpy(out.data() + at, &value, sizeof value); };
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  put(8, header.version);
  put(12, kEndianTag);
  put(16, header.file_bytes);
  put(24, header.head_offset);
  put(32, header.head_bytes);
  put(40, header.head_checksum);
  return out;
}

Result<FileHeader> decode_header(std::span<const std::byte> file) {
  LINNET_TRY(check_magic(file));
  if (file.size() < kFileHeaderBytes)
    return invalid(
        strf("the file is truncated: {} bytes, and its header alone has {}", file.size(), kFileHeaderBytes));
  const auto endian = load<uint32_t>(file, 12);
  if (endian == std::byteswap(kEndianTag))
    return fail(ErrorCode::kUnsupported,
                "the file was written for a machine of the other byte order: convert the "
                "checkpoint again on a little-endian one");
  if (endian != kEndianTag) return invalid(strf("the header is damaged (byte order tag {})", endian));
  FileHeader header;
  header.version = load<uint32_t>(file, 8);
  if (header.version > kFormatVersion)
    return fail(ErrorCode::kUnsupported,
                strf("the file has format version {}, and this Linnet reads up to {}: update Linnet",
                     header.version, kFormatVersion));
  if (header.version == 0) return invalid("the header is damaged (format version 0)");
  header.file_bytes = load<uint64_t>(file, 16);
  header.head_offset = load<uint64_t>(file, 24);
  header.head_bytes = load<uint64_t>(file, 32);
  header.head_checksum = load<uint64_t>(file, 40);
  for (size_t i = kUsedHeaderBytes; i < kFileHeaderBytes; ++i)
    if (file[i] != std::byte{0}) return invalid(strf("the header is damaged (byte {} is not zero)", i));
  if (header.file_bytes > file.size())
    return invalid(strf("the file is truncated: {} of {} bytes; copy or download it again", file.size(),
                        header.file_bytes));
  if (header.file_bytes < file.size())
    return invalid(strf("the file has {} bytes more than its header says ({}): copy or download it again",
                        file.size() - header.file_bytes, header.file_bytes));
  if (header.head_offset < kFileHeaderBytes || header.head_offset % kTensorAlignment != 0 ||
      header.head_offset > header.file_bytes || header.head_bytes != header.file_bytes - header.head_offset)
    return invalid(strf("the header is damaged (head of {} bytes at {}, in a file of {})", header.head_bytes,
                        header.head_offset, header.file_bytes));
  if (header.head_bytes > kMaxHeadBytes)
    return invalid(
        strf("the head has {} bytes, and {} is the most one may have", header.head_bytes, kMaxHeadBytes));
  return header;
}

struct ModelFile::Impl {
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  MappedFile mapped;
  std::unique_ptr<std::byte, Free> copy;
  std::span<const std::byte> bytes;
  std::string name;
  uint64_t model_id = 0;
  std::unique_ptr<fb::ModelT> model;
};

ModelFile::ModelFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelFile::ModelFile(ModelFile&&) noexcept = default;
ModelFile& ModelFile::operator=(ModelFile&&) noexcept = default;
ModelFile::~ModelFile() = default;

Result<ModelFile> ModelFile::open(const std::filesystem::path& path) {
  auto impl = std::make_unique<Impl>();
  LINNET_ASSIGN(impl->mapped, MappedFile::open(path));
  MappedFile::huge_pages(impl->mapped.bytes());
  impl->bytes = impl->mapped.bytes();
  impl->name = path.string();
  return read(std::move(impl));
}

Result<ModelFile> ModelFile::from_memory(std::span<const std::byte> bytes) {
  auto impl = std::make_unique<Impl>();
  // Weights and the head are read in place, so the copy has their alignment.
  const size_t size = (bytes.size() / kTensorAlignment + 1) * kTensorAlignment;
  impl->copy.reset(static_cast<std::byte*>(std::aligned_alloc(kTensorAlignment, size)));
  if (!impl->copy)
    return fail(ErrorCode::kOutOfMemory, strf("no memory for a model of {} bytes", bytes.size()));
  std::copy(bytes.begin(), bytes.end(), impl->copy.get());
  impl->bytes = std::span(impl->copy.get(), bytes.size());
  impl->name = "memory";
  return read(std::move(impl));
}

Result<ModelFile> ModelFile::read(std::unique_ptr<Impl> impl) {
  const auto checked = [&]() -> Result<void> {
    LINNET_ASSIGN(const FileHeader header, decode_header(impl->bytes));
    const auto head = impl->bytes.subspan(static_cast<size_t>(header.head_offset));
    if (checksum(head) != header.head_checksum)
      return invalid("the head is damaged (its checksum differs): copy or download the file again");
    LINNET_ASSIGN(impl->model, decode_head(head));
    LINNET_TRY(verify_model(*impl->model, header.head_offset));
    impl->model_id = header.head_checksum;
    return {};
  }();
  if (!checked) {
    Error error = checked.error();
    error.message = strf("cannot open model '{}': {}", impl->name, error.message);
    return std::unexpected(std::move(error));
  }
  return ModelFile(std::move(impl));
}

const fb::ModelT& ModelFile::model() const { return *impl_->model; }
uint64_t ModelFile::model_id() const { return impl_->model_id; }
uint64_t ModelFile::file_bytes() const { return impl_->bytes.size(); }
const std::string& ModelFile::name() const { return impl_->name; }

std::span<const std::byte> ModelFile::segment_bytes(size_t index) const {
  const fb::SegmentT& segment = *impl_->model->segments[index];
  return impl_->bytes.subspan(static_cast<size_t>(segment.offset), static_cast<size_t>(segment.bytes));
}

std::span<const std::byte> ModelFile::weight_bytes(size_t index) const {
  const fb::WeightT& weight = *impl_->model->weights[index];
  return segment_bytes(weight.segment)
      .subspan(static_cast<size_t>(weight.offset), static_cast<size_t>(weight.bytes));
}

Result<void> ModelFile::verify_checksums(const Progress& progress) const {
  LINNET_TRY(check_unchanged());
  const auto& segments = impl_->model->segments;
  uint64_t total = 0, done = 0;
  for (const auto& segment : segments) total += segment->bytes;
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  if (!state) return fail(ErrorCode::kOutOfMemory, "no memory for a checksum");
  constexpr size_t kPiece = size_t{16} << 20;
  for (size_t i = 0; i < segments.size(); ++i) {
    XXH3_64bits_reset(state.get());
    auto rest = segment_bytes(i);
    while (!rest.empty()) {
      const auto piece = rest.first(std::min(kPiece, rest.size()));
      XXH3_64bits_update(state.get(), piece.data(), piece.size());
      rest = rest.subspan(piece.size());
      done += piece.size();
      if (progress && !progress(done, total))
        return fail(ErrorCode::kCancelled,
                    strf("checking '{}' was stopped after {} of {} bytes", name(), done, total));
    }
    if (XXH3_64bits_digest(state.get()) != segments[i]->checksum)
      return invalid(
          strf("'{}' is damaged: the checksum of weight segment {} ({} bytes at {}) differs; copy or "
               "download it again",
               name(), i, segments[i]->bytes, segments[i]->offset));
  }
  return {};
}

Result<void> ModelFile::check_unchanged() const {
  auto unchanged = impl_->mapped.check_unchanged();
  if (unchanged) return {};
  Error error = std::move(unchanged.error());
  error.message =
      strf("the model '{}' cannot be used any more: {}; open it again", impl_->name, error.message);
  return std::unexpected(std::move(error));
}

// What is not mapped could not be read again.
void ModelFile::prefetch_segment(size_t index) const {
  if (impl_->mapped.is_mapped()) MappedFile::will_need(segment_bytes(index));
}
void ModelFile::drop_segment(size_t index) const {
  if (impl_->mapped.is_mapped()) MappedFile::drop(segment_bytes(index));
}
void ModelFile::drop_weight(size_t index) const {
  if (impl_->mapped.is_mapped()) MappedFile::drop(weight_bytes(index));
}

}  // namespace linnet::format
