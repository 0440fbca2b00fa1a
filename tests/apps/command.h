// Runs the linnet command as a user does.
#pragma once

#include <sys/resource.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/contains.h"

namespace linnet::test {

struct Outcome {
  int code = -1;  // exit code; 128 + signal if one ended it
  std::string out, err;
};
// `interrupt_after_ms`: sends Ctrl-C's signal then; -1: never. `file_bytes`: no file can grow beyond; a disk
// that is full looks like that.
Outcome linnet_command(const std::vector<std::string>& args, const std::string& input = "",
                       int interrupt_after_ms = -1, rlim_t file_bytes = RLIM_INFINITY);

using testing::contains;

// A folder of this test process, removed when it ends.
const std::filesystem::path& scratch();
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

// The golden Llama (3 layers, 320 tokens, ChatML) converted to f32 once.
const std::string& tiny_model();
// The same without a token that ends an answer.
const std::string& endless_model();

}  // namespace linnet::test
