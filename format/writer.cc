#include "format/writer.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "format/head.h"
#include "format/output_file.h"
#include "format/panel.h"
#include "format/verify.h"
#include "runtime/core/align.h"
#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

constexpr size_t kBufferBytes = size_t{4} << 20;

std::unexpected<Error> misuse(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message));
}

}  // namespace

struct ModelWriter::Impl {
  explicit Impl(OutputFile output) : file(std::move(output)), hash(XXH3_createState(), XXH3_freeState) {
    buffer.reserve(kBufferBytes);
  }

  OutputFile file;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash;
  std::vector<std::byte> buffer;  // bytes not yet written, which belong at `flushed`
  uint64_t flushed = 0;
  std::vector<fb::SegmentT> segments;  // the last one may still be open
  std::vector<fb::WeightT> weights;
  uint64_t next_alignment = kPageBytes;
  bool segment_open = false;
  bool weight_open = false;
  uint64_t weight_written = 0;
  std::optional<Error> error;

  // Keeps the first error: after it the file cannot be completed.
  template <typename T>
  Result<T> keep(Result<T> result) {
    if (!result && !error) error = result.error();
    return result;
  }
  Result<void> usable() const {
    if (error) return std::unexpected(*error);
    return {};
  }

  uint64_t position() const { return flushed + buffer.size(); }

  Result<void> flush() {
    LINNET_TRY(file.write_at(flushed, buffer));
    flushed += buffer.size();
    buffer.clear();
    return {};
  }

  // Appends to the open segment, whose checksum covers the gaps between tensors too.
  Result<void> append(std::span<const std::byte> bytes) {
    XXH3_64bits_update(hash.get(), bytes.data(), bytes.size());
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(bytes.size(), kBufferBytes - buffer.size()));
      buffer.insert(buffer.end(), piece.begin(), piece.end());
      bytes = bytes.subspan(piece.size());
      if (buffer.size() == kBufferBytes) LINNET_TRY(flush());
    }
    return {};
  }

  // Moves on without writing: what is skipped reads as zero.
  Result<void> skip_to(uint64_t offset) {
    LINNET_TRY(flush());
    flushed = offset;
    return {};
  }

  void close_segment() {
    if (!segment_open) return;
    fb::SegmentT& segment = segments.back();
    segment.bytes = position() - segment.offset;
    segment.checksum = XXH3_64bits_digest(hash.get());
    segment_open = false;
  }

  uint64_t end_of_segments() const {
    return segments.empty() ? kFileHeaderBytes : segments.back().offset + segments.back().bytes + kOverRead;
  }

  Result<void> open_segment() {
    const uint64_t offset = align_up(std::max(end_of_segments(), kPageBytes), next_alignment);
    LINNET_TRY(skip_to(offset));
    segments.emplace_back();
    segments.back().offset = offset;
    XXH3_64bits_reset(hash.get());
    segment_open = true;
    return {};
  }

  Result<void> begin_weight(std::string name, DType dtype, fb::Layout layout, std::vector<int64_t> shape) {
    LINNET_TRY(usable());
    if (weight_open) return misuse(strf("weight '{}' begins inside weight '{}'", name, weights.back().name));
    const auto bytes = stored_bytes(dtype, layout, shape);
    if (!bytes) return misuse(strf("weight '{}' cannot be stored: {}", name, bytes.error().message));
    if (segment_open) {
      static constexpr std::array<std::byte, kTensorAlignment> kZeros{};
      const uint64_t used = position() - segments.back().offset;
      LINNET_TRY(
          append(std::span(kZeros).first(static_cast<size_t>(align_up(used, kTensorAlignment) - used))));
    } else {
      LINNET_TRY(open_segment());
    }
    fb::WeightT& weight = weights.emplace_back();
    weight.name = std::move(name);
    weight.dtype = to_fb(dtype);
    weight.layout = layout;
    weight.shape = std::move(shape);
    weight.segment = static_cast<uint32_t>(segments.size() - 1);
    weight.offset = position() - segments.back().offset;
    weight.bytes = *bytes;
    weight_open = true;
    weight_written = 0;
    return {};
  }

  Result<void> write(std::span<const std::byte> bytes) {
    LINNET_TRY(usable());
    if (!weight_open) return misuse("bytes were written outside a weight");
    const fb::WeightT& weight = weights.back();
    if (bytes.size() > weight.bytes - weight_written)
      return misuse(
          strf("weight '{}' got more than the {} bytes its type and shape need", weight.name, weight.bytes));
    weight_written += bytes.size();
    return append(bytes);
  }

  Result<int32_t> end_weight() {
    LINNET_TRY(usable());
    if (!weight_open) return misuse("no weight was begun");
    const fb::WeightT& weight = weights.back();
    if (weight_written != weight.bytes)
      return misuse(strf("weight '{}' got {} of the {} bytes its type and shape need", weight.name,
                         weight_written, weight.bytes));
    weight_open = false;
    return static_cast<int32_t>(weights.size() - 1);
  }

  // Calls pack(first row, rows, panel) for each panel of each matrix.
  template <typename Pack>
  Result<int32_t> write_panels(std::string name, DType dtype, std::vector<int64_t> shape, const Pack& pack) {
    LINNET_TRY(begin_weight(std::move(name), dtype, fb::Layout::Panel, shape));  // checks the shape
    const int64_t k = shape.back(), n = shape[shape.size() - 2];
    const int64_t matrices = shape.size() == 3 ? shape[0] : 1;
    std::vector<std::byte> panel(panel_bytes(dtype, k));
    for (int64_t e = 0; e < matrices; ++e)
      for (int64_t r = 0; r < n; r += kPanelRows) {
        const int64_t first = e * n + r, rows = std::min(kPanelRows, n - r);
        LINNET_TRY(pack(first, rows, panel.data()));
        if (!panel_is_finite(dtype, panel.data(), k))
          return fail(
              ErrorCode::kNumeric,
              strf(
                  "tensor '{}': rows {} to {} have a value that is not finite or that {} cannot hold; repair "
                  "the checkpoint, or keep this tensor in bf16 or f32",
                  weights.back().name, first, first + rows - 1, dtype_name(dtype)));
        LINNET_TRY(write(panel));
      }
    return end_weight();
  }

  Result<uint64_t> finish(fb::ModelT&& model) {
    LINNET_TRY(usable());
    if (weight_open) return misuse(strf("weight '{}' was begun and not ended", weights.back().name));
    close_segment();
    model.segments.clear();
    model.weights.clear();
    for (fb::SegmentT& segment : segments)
      model.segments.push_back(std::make_unique<fb::SegmentT>(std::move(segment)));
    for (fb::WeightT& weight : weights)
      model.weights.push_back(std::make_unique<fb::WeightT>(std::move(weight)));
    const uint64_t after = model.segments.empty()
                               ? kFileHeaderBytes
                               : model.segments.back()->offset + model.segments.back()->bytes + kOverRead;
    FileHeader header;
    header.head_offset = align_up(after, kTensorAlignment);
    LINNET_TRY(verify_model(model, header.head_offset));
    LINNET_ASSIGN(const std::vector<std::byte> head, encode_head(model));
    LINNET_TRY(decode_head(head));  // nothing is written that a reader would refuse
    header.head_bytes = head.size();
    header.file_bytes = header.head_offset + header.head_bytes;
    header.head_checksum = checksum(head);
    LINNET_TRY(flush());
    LINNET_TRY(file.write_at(header.head_offset, head));
    LINNET_TRY(file.write_at(0, encode_header(header)));
    Error finished{ErrorCode::kInvalidArgument, "the file is finished: nothing can be added to it"};
    LINNET_TRY(file.publish());
    error = std::move(finished);
    return header.file_bytes;
  }
};

ModelWriter::ModelWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelWriter::ModelWriter(ModelWriter&&) noexcept = default;
ModelWriter& ModelWriter::operator=(ModelWriter&&) noexcept = default;
ModelWriter::~ModelWriter() = default;

Result<ModelWriter> ModelWriter::create(const std::filesystem::path& path, const WriterOptions& options) {
  LINNET_ASSIGN(OutputFile file, OutputFile::create(path, {.expected_bytes = options.expected_bytes,
                                                           .replace = options.replace,
                                                           .mapped = true,
                                                           .unnamed = options.unnamed}));
  auto impl = std::make_unique<Impl>(std::move(file));
  if (!impl->hash) return fail(ErrorCode::kOutOfMemory, "no memory for a checksum");
  return ModelWriter(std::move(impl));
}

Result<void> ModelWriter::begin_segment(uint64_t alignment) {
  LINNET_TRY(impl_->usable());
  if (impl_->weight_open) return impl_->keep<void>(misuse("a segment begins inside a weight"));
  if (alignment < kPageBytes || !std::has_single_bit(alignment))
    return impl_->keep<void>(misuse(strf("a segment cannot be aligned to {}", alignment)));
  impl_->close_segment();
  impl_->next_alignment = alignment;
  return {};
}

Result<void> ModelWriter::begin_weight(std::string name, DType dtype, fb::Layout layout,
                                       std::vector<int64_t> shape) {
  return impl_->keep(impl_->begin_weight(std::move(name), dtype, layout, std::move(shape)));
}

Result<void> ModelWriter::write(std::span<const std::byte> bytes) { return impl_->keep(impl_->write(bytes)); }

Result<int32_t> ModelWriter::end_weight() { return impl_->keep(impl_->end_weight()); }

Result<int32_t> ModelWriter::pack_and_write_matrix(std::string name, DType dtype, std::vector<int64_t> shape,
                                                   const RowSource& source, ScaleSearch search) {
  const int64_t k = shape.empty() ? 0 : shape.back();
  std::vector<float> values;
  return impl_->keep(impl_->write_panels(std::move(name), dtype, std::move(shape),
                                         [&](int64_t first, int64_t rows, std::byte* panel) -> Result<void> {
                                           values.resize(static_cast<size_t>(kPanelRows * k));
                                           LINNET_TRY(source(first, rows, values.data()));
                                           pack_panel(dtype, values.data(), rows, k, panel, search);
                                           return {};
                                         }));
}

Result<int32_t> ModelWriter::pack_and_write_groups(std::string name, DType dtype, std::vector<int64_t> shape,
                                                   const GroupSource& source) {
  const int64_t k = shape.empty() ? 0 : shape.back();
  if (!is_quantized(dtype) || k % kGroupSize != 0)
    return impl_->keep<int32_t>(
        misuse(strf("weight '{}' of type {} with {} inputs is not made of groups of {}", name,
                    dtype_name(dtype), k, kGroupSize)));
  std::vector<BlockGroup> groups;
  return impl_->keep(impl_->write_panels(std::move(name), dtype, std::move(shape),
                                         [&](int64_t first, int64_t rows, std::byte* panel) -> Result<void> {
                                           groups.resize(static_cast<size_t>(kPanelRows * (k / kGroupSize)));
                                           LINNET_TRY(source(first, rows, groups.data()));
                                           pack_panel_from_groups(dtype, groups.data(), rows, k, panel);
                                           return {};
                                         }));
}

Result<uint64_t> ModelWriter::finish(fb::ModelT&& model) {
  return impl_->keep(impl_->finish(std::move(model)));
}

}  // namespace linnet::format
