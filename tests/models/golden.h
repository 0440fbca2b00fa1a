// One case of tests/golden/language: inputs and official outputs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace linnet::testing {

struct Golden {
  std::string name;                // of the case
  std::vector<int32_t> ids;        // [T]
  std::vector<int64_t> positions;  // where logits were kept
  std::vector<float> logits;       // [positions, vocabulary]
  std::vector<int32_t> greedy;
  int64_t vocabulary = 0;
  std::string model_type;
  double tolerance = 0;  // absolute, from the case's manifest: far above the official code's own noise
};

Golden read_golden(const std::filesystem::path& folder);

}  // namespace linnet::testing
