// What may be done with a model file that opens: planned, created and run, with both host backends, at the
// bounds of its symbols and below them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace linnet::fuzz {

// Returns false if the file was refused. Ends the process where an error has no message.
bool run_file(std::span<const std::byte> file, uint64_t seed);

}  // namespace linnet::fuzz
