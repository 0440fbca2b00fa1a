// Reads the f32 tensors of tests/golden/ops/*.safetensors, none of which is zero throughout.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/compare.h"

namespace linnet::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name) {
    std::ifstream in(std::string(LINNET_GOLDEN) + "/ops/" + name + ".safetensors", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    REQUIRE(bytes_.size() > 8);
    uint64_t header = 0;
    std::memcpy(&header, bytes_.data(), 8);
    REQUIRE(header < bytes_.size());
    header_ = nlohmann::json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + static_cast<long>(header));
    data_ = 8 + header;
  }
  std::vector<float> operator[](const std::string& name) const {
    REQUIRE(header_.contains(name));
    REQUIRE(header_[name]["dtype"] == "F32");
    const size_t begin = header_[name]["data_offsets"][0], end = header_[name]["data_offsets"][1];
    REQUIRE(data_ + end <= bytes_.size());
    std::vector<float> values((end - begin) / sizeof(float));
    std::memcpy(values.data(), &bytes_[data_ + begin], values.size() * sizeof(float));
    check_truth(name, values);
    return values;
  }

 private:
  std::vector<char> bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

}  // namespace linnet::testing
