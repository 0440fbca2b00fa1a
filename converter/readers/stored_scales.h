// Checkpoints published in 8 bits: weights as FP8 or int8 codes, their scales in tensors beside them.
#pragma once

#include "converter/architectures/row_source.h"
#include "converter/readers/checkpoint.h"
#include "converter/readers/json.h"

namespace linnet::convert {

// What config.json says about how its weights are stored.
struct StoredScales {
  int64_t block_rows = 0, block_columns = 0;  // one scale for so many; 0: not said
};
// Reads quantization_config (also `quantization` and compression_config), wherever it stands in `config`.
// Errors: kUnsupported for a scheme whose weights Linnet cannot read (gptq, awq, bitsandbytes, MLX, ...), by
// name. `where` is the file, for messages.
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
