#include "converter/readers/stored_scales.h"

#include <doctest/doctest.h>

#include <cmath>

#include "converter/readers/safetensors.h"
#include "converter/readers/weights_folder.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
using namespace linnet::testing;

TEST_CASE("FP8 and int8 weights are multiplied by their scales, whatever the scales cover") {
  Checkpoint stored, expected;
  REQUIRE(read_weights_folder(golden("fp8"), "model", stored));
  REQUIRE(read_safetensors(golden("fp8_f32.safetensors"), expected));
  const auto config = read_json(golden("fp8/config.json"));
  REQUIRE(config);
  const auto blocks = read_stored_scales(*config, "config.json");
  REQUIRE(blocks);
  CHECK(blocks->block_rows == 16);
  REQUIRE(expected.tensors().size() == 6);
  for (const auto& [name, tensor] : expected.tensors()) {
    CAPTURE(name);
    const auto rows = scaled_rows(stored, *stored.find(name), *blocks);
    REQUIRE_MESSAGE(rows, message(rows));
    std::vector<float> want(static_cast<size_t>(tensor.elements())), got(want.size());
    REQUIRE(expected.read_f32(tensor, 0, tensor.rows(), want.data()));
    REQUIRE((*rows)->rows == tensor.rows());
    // In portions, as the writer asks for them.
    for (int64_t r = 0; r < tensor.rows(); r += 5)
      REQUIRE((*rows)->read(r, std::min<int64_t>(5, tensor.rows() - r), got.data() + r * tensor.columns()));
    CHECK(got == want);
    CHECK((*rows)->stored() == (name == "plain.weight" ? DType::kF32 : DType::kBF16));
  }
}

TEST_CASE("scales are no weights") {
  Checkpoint stored;
  REQUIRE(read_weights_folder(golden("fp8"), "model", stored));
  int weights = 0;
  for (const auto& [name, tensor] : stored.tensors()) weights += !is_stored_scale(stored, name);
  CHECK(weights == 6);
  CHECK(is_stored_scale(stored, "whole.input_scale"));
  CHECK_FALSE(is_stored_scale(stored, "plain.weight"));
}

TEST_CASE("without a given block size the usual one is taken, and what does not fit is refused") {
  const TempFolder folder;
  const auto rows = [&](int64_t n, int64_t m, const StoredScales& stored) {
    const std::vector<std::byte> codes(static_cast<size_t>(n), std::byte{0x38});  // 1
    std::vector<float> scales(static_cast<size_t>(m));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<float>(i + 1);
    const OutputTensor tensors[] = {{"w", "F8_E4M3", {n, 1}, codes},
                                    {"w_scale_inv", "F32", {m, 1}, std::as_bytes(std::span(scales))}};
    REQUIRE(write_safetensors(folder / "a.safetensors", tensors));
    Checkpoint checkpoint;
    REQUIRE(read_safetensors(folder / "a.safetensors", checkpoint));
    const auto result = scaled_rows(checkpoint, *checkpoint.find("w"), stored);
    std::vector<float> values;
    if (result) {
      values.resize(static_cast<size_t>(n));
      REQUIRE((*result)->read(0, n, values.data()));
    } else {
      CHECK(contains(message(result), "w_scale_inv"));
    }
    return values;
  };
  const auto deepseek = rows(576, 5, {});
  REQUIRE(deepseek.size() == 576);
  CHECK(deepseek[127] == 1.0f);
  CHECK(deepseek[128] == 2.0f);
  CHECK(deepseek[575] == 5.0f);
  CHECK(rows(6, 3, {})[2] == 2.0f);
  CHECK(rows(6, 4, {}).empty());
  CHECK(rows(6, 3, {4, 4}).empty());
  CHECK(rows(6, 2, {4, 4})[4] == 2.0f);
}

TEST_CASE("schemes that cannot be read are refused by name") {
  const auto refusal = [](const char* text) {
    return message(read_stored_scales(*parse_json(text, "t"), "config.json"));
  };
  CHECK(refusal("{}") == "");
  CHECK(refusal(R"({"quantization_config": null})") == "");
  CHECK(refusal(R"({"quantization_config": {"quant_method": "fp8"}})") == "");
  CHECK(
      refusal(
          R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}})") ==
      "");
  CHECK(refusal(R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})") == "");
  CHECK(refusal(R"({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}})") == "");
  CHECK(contains(refusal(R"({"quantization_config": {"quant_method": "torchao"}})"), "'torchao'"));
  CHECK(
      contains(refusal(R"({"quantization_config": {"quant_method": "awq", "version": "gemv"}})"), "'gemv'"));
  CHECK(contains(
      refusal(R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "marlin-24"}})"),
      "'marlin-24'"));
  CHECK(
      contains(refusal(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 128]}})"),
               "weight_block_size is [0,128]"));
}
