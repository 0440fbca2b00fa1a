// Reads the tensors of tests/golden/image.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "converter/readers/safetensors.h"
#include "tests/compare.h"

namespace linnet::testing {

class TensorFile {
 public:
  explicit TensorFile(const std::string& path) {
    const auto read = convert::read_safetensors(path, file_);
    REQUIRE_MESSAGE(read, (read ? "" : read.error().message));
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::vector<int64_t> shape(const std::string& name) const {
    REQUIRE(has(name));
    return file_.find(name)->shape;
  }
  std::vector<float> operator[](const std::string& name) const {
    const convert::TensorInfo* tensor = file_.find(name);
    REQUIRE_MESSAGE(tensor, name);
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    REQUIRE(file_.read_f32(*tensor, 0, tensor->rows(), values.data()));
    return values;
  }

 private:
  convert::Checkpoint file_;
};

}  // namespace linnet::testing
