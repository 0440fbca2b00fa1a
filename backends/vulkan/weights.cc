#include "backends/vulkan/weights.h"

#include <algorithm>

#include "format/model_generated.h"
#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

// Larger blocks save nothing and are harder to find room for.
constexpr uint64_t kBlockBytes = uint64_t{256} << 20;

MatrixPart part_of(const Buffer& block, const WeightPiece& piece, size_t offset) {
  return {block.region(offset, (piece.bytes + 3) / 4 * 4), piece.first_panel, piece.panels};
}

}  // namespace

bool Weights::import(Device& device, const format::ModelFile& file, const std::vector<WeightPiece>& pieces) {
  const uint64_t most = std::min(device.most_allocation(), kBlockBytes);
  const auto page = static_cast<uintptr_t>(device.import_alignment());
  const auto begin_of = [&](const WeightPiece& piece) {
    return reinterpret_cast<uintptr_t>(file.weight_bytes(piece.weight).data()) + piece.source;
  };
  std::vector<WeightPiece> sorted = pieces;
  std::ranges::sort(sorted, {}, begin_of);
  // Runs of pieces that lie within `most` bytes. A mapping ends with its page, so that whole pages are there.
  std::vector<std::pair<uintptr_t, uintptr_t>> runs;
  for (WeightPiece& piece : sorted) {
    const uintptr_t begin = begin_of(piece) / page * page,
                    end = (begin_of(piece) + (piece.bytes + 3) / 4 * 4 + page - 1) / page * page;
    if (runs.empty() || end - runs.back().first > most) runs.push_back({begin, end});
    runs.back().second = std::max(runs.back().second, end);
    if (end - runs.back().first > most) return false;  // one piece and its pages are too much
    piece.block = runs.size() - 1;
  }
  for (const auto& [begin, end] : runs) {
    Result<Buffer> block = device.import({reinterpret_cast<const std::byte*>(begin), end - begin});
    if (!block) {
      blocks_.clear();
      return false;
    }
    blocks_.push_back(std::move(*block));
  }
  for (const WeightPiece& piece : sorted)
    parts_[piece.weight].push_back(
        part_of(blocks_[piece.block], piece, begin_of(piece) - runs[piece.block].first));
  for (std::vector<MatrixPart>& parts : parts_) std::ranges::sort(parts, {}, &MatrixPart::first_panel);
  return true;
}

Result<std::shared_ptr<const Weights>> Weights::upload(std::shared_ptr<Device> device,
                                                       const format::ModelFile& file) {
  const fb::ModelT& model = file.model();
  const uint64_t most = std::min(device->most_binding(), device->most_allocation());
  const uint64_t block_bytes = std::min(device->most_allocation(), std::max(most, kBlockBytes));
  const size_t alignment = device->alignment();
  std::vector<WeightPiece> pieces;
  std::vector<size_t> blocks;
  const auto place = [&](size_t bytes) {
    const size_t padded = align_up(bytes, alignment);
    if (blocks.empty() || blocks.back() + padded > block_bytes) blocks.push_back(0);
    blocks.back() += padded;
    return blocks.back() - padded;
  };
  for (size_t w = 0; w < model.weights.size(); ++w) {
    const fb::WeightT& weight = *model.weights[w];
    const size_t bytes = file.weight_bytes(w).size();
    if (weight.layout != fb::Layout::Panel) {
      if (bytes > most)
        return fail(ErrorCode::kUnsupported,
                    strf("the tensor '{}' has {} bytes, the device '{}' binds at most {}: use --backend cpu",
                         weight.name, bytes, device->info().name, most));
      const size_t offset = place(bytes);
      pieces.push_back({w, 0, bytes, blocks.size() - 1, offset, 0, 0});
      continue;
    }
    const size_t panel = format::panel_bytes(static_cast<DType>(weight.dtype), weight.shape.back());
    if (panel > most)
      return fail(
          ErrorCode::kUnsupported,
          strf("16 rows of the matrix '{}' have {} bytes, the device '{}' binds at most {}: use --backend "
               "cpu",
               weight.name, panel, device->info().name, most));
    const size_t panels = bytes / panel, fit = static_cast<size_t>(most / panel);
    for (size_t first = 0; first < panels; first += fit) {
      const size_t n = std::min(fit, panels - first);
      const size_t offset = place(n * panel);
      pieces.push_back({w, first * panel, n * panel, blocks.size() - 1, offset, static_cast<uint32_t>(first),
                        static_cast<uint32_t>(n)});
    }
  }
  auto out = std::make_shared<Weights>();
  out->parts_.resize(model.weights.size());
  if (device->abilities().import && out->import(*device, file, pieces)) return out;
  for (const size_t bytes : blocks) {
    LINNET_ASSIGN(Buffer block, device->buffer(bytes, MemoryKind::kDevice, "weights"));
    out->blocks_.push_back(std::move(block));
  }
  LINNET_ASSIGN(Transfer transfer, Transfer::create(device));
  uint64_t done = 0, all = 0;
  for (const WeightPiece& piece : pieces) all += piece.bytes;
  for (const WeightPiece& piece : pieces) {
    const Buffer& block = out->blocks_[piece.block];
    LINNET_TRY(transfer.write(block, piece.offset,
                              file.weight_bytes(piece.weight).subspan(piece.source, piece.bytes)));
    out->parts_[piece.weight].push_back(part_of(block, piece, piece.offset));
    done += piece.bytes;
    if (device->options().progress) device->options().progress(done, all);
  }
  return out;
}

}  // namespace linnet::vulkan
