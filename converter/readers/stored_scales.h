// What config.json says about quantised weights, and weights as FP8 or int8 codes whose scales lie in tensors
// beside them (packed codes: packed_weights.h).
#pragma once

#include "converter/architectures/row_source.h"
#include "converter/readers/checkpoint.h"
#include "converter/readers/json.h"

namespace linnet::convert {

// What config.json says about how its weights are stored.
struct StoredScales {
  int64_t block_rows = 0, block_columns = 0;  // one scale for so many; 0: not said
  int64_t bits = 0, group_size = 0;           // of integers in groups; 0: not said
  std::string packed_by = {};    // "gptq", "awq" or "bitsandbytes", which pack every matrix; empty: not said
  bool zeros_as_stored = false;  // GPTQ: zero points are not stored less one (gptq_v2)
  std::string forward_dtype = {};  // FP-Quant: "mxfp4" or "nvfp4"
};
// Reads quantization_config (also `quantization` and compression_config), wherever it stands in `config`.
// Errors: kUnsupported for a scheme whose weights Linnet cannot read (MLX, torchao, ...), by name. `where` is
// the file, for messages.
Result<StoredScales> read_stored_scales(const Json& config, const std::string& where);

// Refuse by name what config.json does not tell: files that quantisers leave in a folder, and packed tensors.
Result<void> refuse_quantised_folder(const std::string& folder);
Result<void> refuse_quantised_tensors(const Checkpoint& checkpoint, const std::string& where);

// Whether `name` is a tensor of scales that belong to another tensor, or to activations: not a weight itself.
bool is_stored_scale(const Checkpoint& checkpoint, const std::string& name);

// A checkpoint's tensor as rows; codes are multiplied by the scales beside them: NAME_scale_inv (DeepSeek,
// Qwen: a factor in spite of its name) or NAME_scale, one for the tensor, per row, or per block of rows and
// columns. The checkpoint must outlive the rows. Error: scales whose shape does not fit.
Result<Rows> scaled_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, const StoredScales& stored);

}  // namespace linnet::convert
