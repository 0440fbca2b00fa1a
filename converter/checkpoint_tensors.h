// Tensors of safetensors files as the importers see them.
#pragma once

#include <memory>
#include <string>

#include "converter/architectures/importer.h"
#include "converter/readers/checkpoint.h"
#include "converter/readers/packed_weights.h"
#include "converter/readers/stored_scales.h"

namespace linnet::convert {

// `packed`: matrices whose codes, scales and zero points are tensors of the checkpoint.
std::unique_ptr<TensorSet> checkpoint_tensors(std::shared_ptr<const Checkpoint> checkpoint,
                                              StoredScales scales, PackedWeights packed, std::string origin);
// The tensors of both; where a name is in both, that of `above`.
std::unique_ptr<TensorSet> overlay_tensors(std::unique_ptr<TensorSet> below,
                                           std::unique_ptr<TensorSet> above);

}  // namespace linnet::convert
