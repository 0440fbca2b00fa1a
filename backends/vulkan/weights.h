// A model's weights on the device, as the file has them, in as few buffers as the device's limits allow:
// copies, or on unified memory the pages of the mapped file themselves.
#pragma once

#include "backends/vulkan/transfer.h"
#include "format/container.h"

namespace linnet::vulkan {

// Consecutive panels of a matrix (or of the matrices of a stack, counted through) that one binding reaches.
struct MatrixPart {
  Region region;
  uint32_t first_panel = 0, panels = 0;
};

// What one binding is to reach of a tensor.
struct WeightPiece {
  size_t weight, source, bytes, block, offset;
  uint32_t first_panel, panels;
};

class Weights {
 public:
  // Errors: kOutOfMemory; kUnsupported where a tensor that cannot be split exceeds a binding.
  static Result<std::shared_ptr<const Weights>> upload(std::shared_ptr<Device> device,
                                                       const format::ModelFile& file);
  // The parts of a matrix; a tensor in rows is one part.
  const std::vector<MatrixPart>& parts(size_t weight) const { return parts_[weight]; }

 private:
  // False if the driver refuses the file's memory.
  bool import(Device& device, const format::ModelFile& file, const std::vector<WeightPiece>& pieces);
  std::vector<Buffer> blocks_;
  std::vector<std::vector<MatrixPart>> parts_;
};

}  // namespace linnet::vulkan
