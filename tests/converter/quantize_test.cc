// Which precision a weight gets when none is asked for.
#include "converter/transforms/quantize.h"

#include <doctest/doctest.h>

using namespace linnet;
using namespace linnet::convert;

namespace {

struct Stored : RowSource {
  Stored(DType type, int64_t inputs) : type(type) {
    rows = 64;
    columns = inputs;
  }
  DType type;
  Result<void> read(int64_t, int64_t, float*) const override { return {}; }
  std::optional<DType> stored() const override { return type; }
  std::optional<DType> lossless() const override {
    return is_quantized(type) ? std::optional(type) : std::nullopt;
  }
};

WeightPlan weight(WeightRole role, DType type, int64_t inputs = 64) {
  return {"layer.weight", role, fb::Layout::Panel, {64, inputs}, std::make_shared<Stored>(type, inputs)};
}

DType chosen(const std::string& quantize, DType matrices, const WeightPlan& plan) {
  QuantizePolicy policy = *QuantizePolicy::create(quantize, {});
  const WeightPlan all[] = {weight(WeightRole::kMatrix, matrices), plan};
  policy.look_at(all);
  return policy.choose(plan);
}

}  // namespace

TEST_CASE("as stored, but low-rank pairs beside matrices in block formats become q8") {
  const WeightPlan pair = weight(WeightRole::kLowRank, DType::kF32);
  CHECK(chosen("", DType::kQ4, pair) == DType::kQ8);
  CHECK(chosen("keep", DType::kQ8, pair) == DType::kQ8);
  CHECK(chosen("", DType::kF16, pair) == DType::kF32);
  CHECK(chosen("f32", DType::kQ4, pair) == DType::kF32);
  CHECK(chosen("", DType::kQ4, weight(WeightRole::kLowRank, DType::kQ4)) == DType::kQ4);
  CHECK(chosen("", DType::kQ4, weight(WeightRole::kLowRank, DType::kF32, 24)) == DType::kF32);
  for (const WeightRole role : {WeightRole::kMatrix, WeightRole::kSmall, WeightRole::kHead})
    CHECK(chosen("", DType::kQ4, weight(role, DType::kF32)) == DType::kF32);
}

TEST_CASE("asked for 4 bits, what is small and what is no matrix gets 8") {
  for (const WeightRole role : {WeightRole::kLowRank, WeightRole::kSmall, WeightRole::kHead})
    CHECK(chosen("q4", DType::kF32, weight(role, DType::kF32)) == DType::kQ8);
  CHECK(chosen("q4", DType::kF32, weight(WeightRole::kMatrix, DType::kF32)) == DType::kQ4);
}

TEST_CASE("the first layer of a text encoder stays at 16 bits beside q8, not beside 4 bits") {
  CHECK(chosen("q8", DType::kF32, weight(WeightRole::kFirst, DType::kF32)) == DType::kF16);
  CHECK(chosen("q4", DType::kF32, weight(WeightRole::kFirst, DType::kF32)) == DType::kQ4);
}

TEST_CASE("asked for q4, a matrix that is stored in q4a stays so unless it is forced") {
  const WeightPlan stored = weight(WeightRole::kMatrix, DType::kQ4A);
  CHECK(chosen("q4", DType::kQ4A, stored) == DType::kQ4A);
  CHECK(chosen("q8", DType::kQ4A, stored) == DType::kQ8);
  CHECK(chosen("q4", DType::kQ8, weight(WeightRole::kMatrix, DType::kQ8)) == DType::kQ4);
  const QuantizePolicy forced = *QuantizePolicy::create("q4", {{"layer.*", DType::kQ4}});
  CHECK(forced.choose(stored) == DType::kQ4);
}
