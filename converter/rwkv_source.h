// RWKV-7 as its author publishes it: one torch file with names of its own, without configuration, beside
// which the vocabulary (rwkv_vocab_v20230424.txt) may lie.
#pragma once

#include <string>

#include "converter/source.h"

namespace linnet::convert {

// A file of torch.save (.pth, .pt, .ckpt, .bin). What config.json would say is read from the shapes.
// Errors: those of the reader; kUnsupported for weights that are not RWKV-7's, with what to do.
Result<Source> open_torch_file(const std::string& path);

}  // namespace linnet::convert
