#include "converter/transforms/combine.h"

#include <doctest/doctest.h>

#include "converter/checkpoint_tensors.h"
#include "converter/readers/safetensors.h"
#include "tests/compare.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
using namespace linnet::testing;

namespace {

std::unique_ptr<TensorSet> opened(const std::string& path) {
  auto checkpoint = std::make_shared<Checkpoint>();
  REQUIRE(read_safetensors(path, *checkpoint));
  return checkpoint_tensors(std::move(checkpoint), {}, PackedWeights(), path);
}

std::vector<std::unique_ptr<TensorSet>> saved_checkpoints() {
  std::vector<std::unique_ptr<TensorSet>> sets;
  for (const char* n : {"0", "1", "2", "3"})
    sets.push_back(opened(golden(std::string("lcsc/checkpoint_") + n + ".safetensors")));
  return sets;
}

std::string numbers() {
  Checkpoint coefficients;
  REQUIRE(read_safetensors(golden("lcsc/coefficients.safetensors"), coefficients));
  const TensorInfo& alpha = *coefficients.find("alpha");
  std::string text;
  for (size_t i = 0; i < 4; ++i) {
    double value;
    std::memcpy(&value, alpha.bytes.data() + i * sizeof value, sizeof value);
    char number[32];
    std::snprintf(number, sizeof number, "%s%.17g", i ? "," : "", value);
    text += number;
  }
  return text;
}

}  // namespace

TEST_CASE("checkpoints are combined in f64 and rounded once") {
  const auto coefficients = read_coefficients(numbers(), 4);
  REQUIRE_MESSAGE(coefficients, message(coefficients));
  auto combined = combined_tensors(saved_checkpoints(), *coefficients);
  REQUIRE_MESSAGE(combined, message(combined));
  Checkpoint expected;
  REQUIRE(read_safetensors(golden("lcsc/combined.safetensors"), expected));
  for (const auto& [name, tensor] : expected.tensors()) {
    CAPTURE(name);
    const auto rows = (*combined)->rows(name);
    REQUIRE(rows);
    const std::vector<float> want = values(expected, tensor);
    std::vector<float> got(want.size());
    const auto read = (*rows)->read(0, (*rows)->rows, got.data());
    const bool negative = name.find("running_var") != std::string::npos &&
                          std::ranges::any_of(want, [](float v) { return v < 0; });
    if (negative) {
      CHECK(contains(message(read), "the variance"));
      continue;
    }
    REQUIRE_MESSAGE(read, message(read));
    CHECK(got == want);
  }
}

TEST_CASE("coefficients by pattern: the longest that fits counts") {
  const TempFolder folder;
  folder.write("c.json", R"({"a.*": [0, 1, 0, 0], "*": [1, 0, 0, 0], "norm.running_var": [0, 0, 0, 1]})");
  const auto coefficients = read_coefficients(folder / "c.json", 4);
  REQUIRE_MESSAGE(coefficients, message(coefficients));
  auto combined = combined_tensors(saved_checkpoints(), *coefficients);
  REQUIRE(combined);
  for (const auto& [name, from] : {std::pair{"a.weight", "1"}, {"a.bias", "1"}, {"norm.running_var", "3"}}) {
    const auto one = opened(golden(std::string("lcsc/checkpoint_") + from + ".safetensors"));
    const auto rows = (*combined)->rows(name), own = one->rows(name);
    REQUIRE(rows);
    REQUIRE(own);
    CHECK(*read_all(**rows) == *read_all(**own));
  }
}

TEST_CASE("what cannot be combined is refused with every difference") {
  CHECK(contains(message(read_coefficients("1,2,3", 4)), "4 numbers"));
  CHECK(contains(message(read_coefficients("1,nan,3,4", 4)), "4 numbers"));
  CHECK(contains(message(read_coefficients("no.json", 2)), "neither a file nor 2 numbers"));
  const TempFolder folder;
  folder.write("c.json", R"({"a.*": [1, 0]})");
  CHECK(contains(message(read_coefficients(folder / "c.json", 4)), "expected 4 numbers"));
  const std::vector<float> data(64);
  const auto bytes = std::as_bytes(std::span(data));
  const OutputTensor one[] = {{"a.weight", "F32", {2, 4}, bytes.first(32)},
                              {"b", "F32", {4}, bytes.first(16)}};
  const OutputTensor two[] = {{"a.weight", "F32", {4, 2}, bytes.first(32)},
                              {"c", "F32", {4}, bytes.first(16)}};
  REQUIRE(write_safetensors(folder / "1.safetensors", one));
  REQUIRE(write_safetensors(folder / "2.safetensors", two));
  std::vector<std::unique_ptr<TensorSet>> sets;
  sets.push_back(opened(folder / "1.safetensors"));
  sets.push_back(opened(folder / "2.safetensors"));
  const std::string refusal =
      message(combined_tensors(std::move(sets), *read_coefficients(folder / "c.json", 2)));
  for (const char* part :
       {"'a.weight' is [2, 4]", "'b' is not in", "'c' is not in", "'b' has no coefficients"})
    CHECK(contains(refusal, part));
}
