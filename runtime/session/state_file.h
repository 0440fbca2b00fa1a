// Files of conversation state: 64-byte header, the caller's attachment, the state block, one checksum.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/output_file.h"
#include "linnet/result.h"

namespace linnet {

struct StateKeys {
  uint64_t state = 0;  // Engine::state_key(): model, bounds and precisions
  uint64_t model = 0;  // ModelFile::model_id(): to tell "another model" from "other options"
};

struct StateFile {
  std::vector<std::byte> attachment, block;
};

// Through `output`, whose errors it returns; expected_bytes and stream are set here.
Result<void> write_state_file(const std::string& path, const StateKeys& keys,
                              std::span<const std::byte> attachment, std::span<const std::byte> block,
                              format::OutputOptions output = {.stream = true});
// Whether the file begins as a state file does; also when it belongs to another model or is damaged.
bool is_state_file(const std::string& path);
// Errors: kNotFound, kInvalidFile (not a state file, newer version, another model, other options, damaged).
Result<StateFile> read_state_file(const std::string& path, const StateKeys& keys, size_t block_bytes);

}  // namespace linnet
