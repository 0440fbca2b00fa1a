// Checkpoints that torch.save wrote (.pth, .pt, .ckpt, pytorch_model.bin): a ZIP file with a pickle and the
// storages' bytes. No code is run (pickle.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Adds a file's tensors to `checkpoint`: those of the state_dict, whether it is the whole file or lies in it
// under a usual name ("state_dict", "model", ...); tensors that share a storage, and views of one that are
// not contiguous, read as themselves. Errors: kNotFound, kIo, kInvalidFile (damaged, hostile), kUnsupported
// (the tar form of before torch 1.6, a kind of storage Linnet cannot read, no state_dict); all name the file.
Result<void> read_torch(const std::string& path, Checkpoint& checkpoint);
// The tensors of a file in memory, spans of it; `name` is for messages. Public for fuzzing.
Result<std::vector<TensorInfo>> parse_torch(std::span<const std::byte> file, const std::string& name);

}  // namespace linnet::convert
