// Tensors of safetensors files as the importers see them.
#pragma once

#include <memory>
#include <string>

#include "converter/architectures/importer.h"
#include "converter/readers/checkpoint.h"
#include "converter/readers/stored_scales.h"

namespace linnet::convert {

std::unique_ptr<TensorSet> checkpoint_tensors(std::shared_ptr<const Checkpoint> checkpoint,
                                              StoredScales scales, std::string origin);
// The tensors of both; where a name is in both, that of `above`.
std::unique_ptr<TensorSet> overlay_tensors(std::unique_ptr<TensorSet> below,
                                           std::unique_ptr<TensorSet> above);

}  // namespace linnet::convert
