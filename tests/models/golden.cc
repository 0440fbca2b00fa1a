#include "tests/models/golden.h"

#include <doctest/doctest.h>

#include "converter/readers/json.h"
#include "converter/readers/safetensors.h"
#include "tests/compare.h"

namespace linnet::testing {
namespace {

std::vector<float> values_of(const convert::Checkpoint& file, const char* name) {
  const convert::TensorInfo* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  REQUIRE(file.read_f32(*tensor, 0, tensor->rows(), values.data()));
  return values;
}

}  // namespace

Golden read_golden(const std::filesystem::path& folder) {
  convert::Checkpoint file;
  REQUIRE(convert::read_safetensors((folder / "reference.safetensors").string(), file));
  Golden golden;
  golden.name = folder.filename().string();
  for (const float id : values_of(file, "input_ids")) golden.ids.push_back(static_cast<int32_t>(id));
  for (const float id : values_of(file, "greedy_ids")) golden.greedy.push_back(static_cast<int32_t>(id));
  for (const float p : values_of(file, "positions")) golden.positions.push_back(static_cast<int64_t>(p));
  if (golden.positions.empty())
    for (size_t i = 0; i < golden.ids.size(); ++i) golden.positions.push_back(static_cast<int64_t>(i));
  golden.logits = values_of(file, "logits");
  REQUIRE_FALSE(golden.ids.empty());
  REQUIRE(golden.greedy.size() == 16);
  check_truth("logits", golden.logits);
  REQUIRE(golden.logits.size() % golden.positions.size() == 0);
  golden.vocabulary = static_cast<int64_t>(golden.logits.size() / golden.positions.size());
  auto manifest = convert::read_json((folder / "manifest.json").string(), true);
  REQUIRE(manifest);
  golden.tolerance = (*manifest)["tolerances"]["logits_max_abs_f32"].get<double>();
  golden.model_type = "";
  if (auto config = convert::read_json((folder / "model" / "config.json").string(), true))
    golden.model_type = config->value("model_type", "");
  return golden;
}

}  // namespace linnet::testing
