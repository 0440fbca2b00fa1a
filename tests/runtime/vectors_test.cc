// Operations on vectors beside a model's values.
#include "runtime/engine/vectors.h"

#include <doctest/doctest.h>

#include <cmath>

#include "runtime/engine/engine.h"
#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

VectorSlice vector(size_t index, size_t first = 0) { return {-1, index, first}; }

}  // namespace

TEST_CASE("an operation adds terms, a constant and a gain, and clamps") {
  HostVectors v(VectorPlan{{4, 4, 4}, {}});
  const auto set = [&](size_t i, std::initializer_list<float> values) {
    std::ranges::copy(values, v[i].begin());
  };
  const auto check = [&](const VectorOp& op, std::initializer_list<double> expected) {
    REQUIRE(v.apply({&op, 1}, {}, {}));
    size_t i = op.to.first;
    for (const double x : expected) CHECK(v[op.to.index][i++] == doctest::Approx(x).epsilon(1e-6));
  };
  set(0, {1, 2, 3, 4});
  set(1, {10, 20, 30, 40});
  set(2, {0.25f, 1, 4, 9});
  VectorOp op = sum_of(vector(0), 2, {{vector(0), 2}, {vector(1, 2), -0.5}, {vector(2), 0}});
  CHECK(op.count == 2);  // a factor of 0 is no term: what it would multiply may be anything
  op.constant = 1;
  check(op, {2 - 15 + 1, 4 - 20 + 1});
  CHECK(v[0][2] == 3);
  op = sum_of(vector(1, 1), 3, {{vector(1, 1), 1}});
  op.limit = 25;
  check(op, {20, 25, 25});
  op.limit = 3;
  op.terms[0].factor = -1;
  check(op, {-3, -3, -3});
  set(0, {1, 2, 3, 4});
  set(1, {0, 0, 1, 1});
  op = sum_of(vector(1), 4, {{vector(1), 1}, {vector(0), 2}});
  op.gain_of = vector(2);
  op.gain = VectorOp::Gain::kRoot;
  check(op, {0.5 * 2, 1 * 4, 1 + 2 * 6, 1 + 3 * 8});
  set(1, {0, 0, 1, 1});
  op.gain = VectorOp::Gain::kExp;
  op.slope = 0.5;
  op.offset = -1;
  check(op, {2 * std::exp(-0.875), 4 * std::exp(-0.5), 1 + 6 * std::exp(1.0), 1 + 8 * std::exp(3.5)});
}

TEST_CASE("nothing is done where what is watched is not finite") {
  HostVectors v(VectorPlan{{3, 1}, {}});
  const VectorOp op = sum_of(vector(1), 1, {{vector(0), 1}});
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    v[0][0] = 5;
    v[0][2] = bad;
    v[1][0] = 1;
    CHECK_FALSE(v.apply({&op, 1}, {vector(0), 3}, {}));
    CHECK_FALSE(v.apply({&op, 1}, {vector(0, 2), 1}, {}));
    CHECK(v[1][0] == 1);
    CHECK(v.apply({&op, 1}, {vector(0), 2}, {}));
    CHECK(v[1][0] == 5);
  }
}

TEST_CASE("an engine's vectors, and what is beyond them") {
  const auto file = tiny_model()->shared_file();
  const auto logits = static_cast<size_t>(file->model().methods[0]->outputs[0]);
  EngineOptions options;
  options.symbols = {{"context", 16}};
  options.attention.full = true;
  options.vectors = {{8, 8}, {{0, logits, 0}}};
  const MemoryRequired need = must(Engine::memory_required(*file, cpu(), options));
  CHECK(need.vectors_bytes == 64);
  auto engine = must(Engine::create(file, cpu(), options));
  CHECK(engine->memory().vectors_bytes == 64);
  std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8}, read(8);
  must(engine->write_vector(0, values));
  const VectorSlice value{0, logits, 3};
  const VectorOp ops[] = {sum_of(value, 8, {{vector(0), 2}}),
                          sum_of(vector(1), 7, {{value, 1}, {vector(0, 1), 1}})};
  CHECK(must(engine->apply(ops)));
  must(engine->read_vector(1, read));
  for (size_t i = 0; i < 7; ++i) CHECK(read[i] == 2 * static_cast<float>(i + 1) + static_cast<float>(i + 2));
  const auto refused = [](const auto& result) {
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == ErrorCode::kInvalidArgument);
  };
  values.push_back(9);
  refused(engine->write_vector(0, values));
  refused(engine->write_vector(2, std::span(values).first(1)));
  refused(engine->read_vector(1, values));
  const auto refuse = [&](const VectorOp& op) { refused(engine->apply({&op, 1})); };
  refuse(sum_of(vector(0), 9, {{vector(0), 1}}));
  refuse(sum_of(vector(0), 8, {{vector(1, 1), 1}}));
  refuse(sum_of(vector(0), 1, {{{0, logits, 1000}, 1}}));
  refuse(sum_of(vector(0), 1, {{{0, logits + 1, 0}, 1}}));
  refuse(sum_of(vector(0), 1, {{{1, logits, 0}, 1}}));
  VectorOp op = sum_of(vector(0), 1, {{vector(1), 1}});
  op.gain = VectorOp::Gain::kRoot;
  op.gain_of = vector(0, 8);
  refuse(op);
  refused(engine->apply({}, {vector(1), 9}));
  CHECK_FALSE(engine->poisoned());
  engine->poison();
  CHECK(engine->apply(ops).error().code == ErrorCode::kPoisoned);
}

}  // namespace linnet::test
