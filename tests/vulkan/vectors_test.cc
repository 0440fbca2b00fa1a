// Vectors that stay on the device: operations as the host does them, samplers, faults and limits.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "runtime/engine/engine.h"
#include "tests/image/trajectory.h"
#include "tests/runtime/tiny_model.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;
using linnet::test::must;
using linnet::test::tiny_model;

namespace {

VectorSlice vector(size_t index, size_t first = 0) { return {-1, index, first}; }

size_t logits() { return static_cast<size_t>(tiny_model()->file().model().methods[0]->outputs[0]); }

// The logits of a language model are the value that operations take.
EngineOptions with_vectors(std::vector<size_t> elements) {
  EngineOptions options;
  options.symbols = {{"context", 16}};
  options.attention.full = true;
  options.vectors = {std::move(elements), {{0, logits(), 0}}};
  return options;
}

Result<std::unique_ptr<Engine>> engine_on(const Backend& backend, std::vector<size_t> elements) {
  return Engine::create(tiny_model()->shared_file(), backend, with_vectors(std::move(elements)));
}

std::vector<float> random(size_t n, uint32_t seed) {
  std::mt19937 source(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(source);
  return values;
}

// One device that shares its memory with the host and one that does not.
std::vector<std::unique_ptr<VulkanBackend>> devices() {
  std::vector<std::unique_ptr<VulkanBackend>> all;
  for (const bool staging : {false, true}) {
    if (!vulkan_test_backend()) break;
    all.push_back(staged_vulkan(staging));
  }
  return all;
}

struct OnEngine {
  Engine& engine;
  void write(size_t vector, std::span<const float> values) { must(engine.write_vector(vector, values)); }
  void read(size_t vector, std::span<float> values) { must(engine.read_vector(vector, values)); }
  void apply(std::span<const VectorOp> ops) { CHECK(must(engine.apply(ops))); }
};

}  // namespace

TEST_CASE("operations on vectors give what the host's give") {
  constexpr size_t kSize = 300;  // less than the logits' 320
  std::mt19937 source(5);
  std::vector<VectorOp> ops;
  for (int i = 0; i < 60; ++i) {
    const auto pick = [&](size_t n) { return source() % n; };
    const size_t elements = 1 + pick(kSize / 2);
    const auto any = [&] {
      const size_t first = pick(kSize - elements), which = pick(5);
      return which == 4 ? VectorSlice{0, logits(), first} : vector(which, first);
    };
    VectorOp op =
        sum_of(any(), elements, {{any(), 0.5}, {any(), -0.25}, {any(), 1}, {any(), -0.5}, {any(), 0.125}});
    op.count = 1 + pick(VectorOp::kMostTerms);
    // A term reads the destination in its own place or not at all.
    for (size_t k = 0; k < op.count; ++k)
      if (op.terms[k].from.method == op.to.method && op.terms[k].from.index == op.to.index)
        op.terms[k].from = op.to;
    if (i % 3 == 1) op.constant = 0.75;
    if (i % 4 == 1) op.limit = 0.5f;
    if (i % 5 == 1) {
      op.gain = VectorOp::Gain::kExp;
      op.gain_of = vector(5);
      op.slope = 0.5;
      op.offset = -0.5;
    }
    if (i % 5 == 2) {
      op.gain = VectorOp::Gain::kRoot;
      op.gain_of = vector(6);
    }
    ops.push_back(op);
  }
  const std::vector<size_t> sizes(7, kSize);
  std::vector<std::vector<float>> expected;
  const auto run = [&](const Backend& backend) {
    auto engine = must(engine_on(backend, sizes));
    for (size_t i = 0; i < sizes.size(); ++i) {
      std::vector<float> values = random(kSize, static_cast<uint32_t>(i));
      if (i == 6)
        for (float& v : values) v = std::abs(v);
      must(engine->write_vector(i, values));
    }
    const std::vector<float> value = random(320, 9);
    must(engine->write_value(0, logits(), std::as_bytes(std::span(value))));
    CHECK(must(engine->apply(ops)));
    std::vector<std::vector<float>> all(sizes.size(), std::vector<float>(kSize));
    for (size_t i = 0; i < sizes.size(); ++i) must(engine->read_vector(i, all[i]));
    std::vector<float>& last = all.emplace_back(320);
    must(engine->read_value(0, logits(), std::as_writable_bytes(std::span(last))));
    return all;
  };
  for (const auto& device : devices()) {
    if (expected.empty()) expected = run(test::cpu());
    const auto found = run(*device);
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      check_truth("vector", expected[i]);
      const double most = std::max(1.0, largest_magnitude(expected[i]));
      check_below("vector", largest_difference(found[i], expected[i]) / most, 1e-5);
    }
    check_silent(*device);
  }
}

TEST_CASE("every sampler on a GPU follows diffusers as closely as the host's") {
  if (!vulkan_test_backend()) return;
  auto engine = must(engine_on(*vulkan_test_backend(), std::vector<size_t>(kTrajectoryVectors, 128)));
  OnEngine gpu{*engine};
  CHECK(check_trajectories(LINNET_GOLDEN "/image/schedulers", gpu, 2e-5) == 38);
  check_vulkan_messages();
}

TEST_CASE("more groups than a device has in a line") {
  if (!vulkan_test_backend()) return;
  constexpr size_t kMany = size_t{65535} * 64 + 100;
  auto engine = must(engine_on(*vulkan_test_backend(), {kMany}));
  std::vector<float> values(kMany);
  for (size_t i = 0; i < kMany; ++i) values[i] = static_cast<float>(i);
  must(engine->write_vector(0, values));
  const VectorOp twice = sum_of(vector(0), kMany, {{vector(0), 2}});
  CHECK(must(engine->apply({&twice, 1}, {vector(0), kMany})));
  std::vector<float> found(kMany);
  must(engine->read_vector(0, found));
  for (float& v : values) v *= 2;
  CHECK(found == values);
  found[kMany - 1] = NAN;
  must(engine->write_vector(0, found));
  CHECK_FALSE(must(engine->apply({&twice, 1}, {vector(0), kMany})));
  check_vulkan_messages();
}

TEST_CASE("operations on a GPU wait for what is watched to be finite, and four bytes say it") {
  for (const auto& device : devices()) {
    auto engine = must(engine_on(*device, {70, 1}));
    std::vector<float> values(70, 2.0f);
    const float one = 1;
    float found = 0;
    const VectorOp copy = sum_of(vector(1), 1, {{vector(0), 1}});
    const VectorOp from_value = sum_of(vector(1), 1, {{{0, logits(), 5}, 1}});
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      must(engine->write_vector(1, {&one, 1}));
      values[69] = bad;
      must(engine->write_vector(0, values));
      must(engine->write_value(0, logits(), std::as_bytes(std::span(values))));
      const DeviceCounts before = device->counts();
      CHECK_FALSE(must(engine->apply({&copy, 1}, {vector(0), 70})));
      CHECK_FALSE(must(engine->apply({&copy, 1}, {vector(0, 69), 1})));
      CHECK_FALSE(must(engine->apply({&from_value, 1}, {{0, logits(), 0}, 70})));
      const DeviceCounts after = device->counts();
      CHECK(after.read_bytes - before.read_bytes == 3 * sizeof(uint32_t));
      CHECK(after.written_bytes == before.written_bytes);
      CHECK(after.submits - before.submits == 3);
      CHECK(after.allocations == before.allocations);
      must(engine->read_vector(1, {&found, 1}));
      CHECK(found == 1);
      CHECK(must(engine->apply({&copy, 1}, {vector(0), 69})));
      must(engine->read_vector(1, {&found, 1}));
      CHECK(found == 2);
    }
    check_silent(*device);
  }
}

TEST_CASE("a run leaves a value that operations take on the device") {
  for (const auto& device : devices()) {
    auto engine = must(engine_on(*device, {320}));
    const int32_t token = 7;
    const auto ids = static_cast<size_t>(tiny_model()->file().model().methods[0]->inputs[0]);
    std::vector<int64_t> symbols = engine->bounds().symbols;
    const auto run = [&](Engine& e) {
      must(e.write_value(0, ids, std::as_bytes(std::span(&token, 1))));
      const uint64_t before = device->counts().read_bytes;
      must(e.run(0, symbols, 1));
      return device->counts().read_bytes - before;
    };
    CHECK(run(*engine) == 0);
    const VectorOp copy = sum_of(vector(0), 320, {{{0, logits(), 0}, 1}});
    CHECK(must(engine->apply({&copy, 1}, {{0, logits(), 0}, 320})));
    std::vector<float> copied(320), fetched(320);
    must(engine->read_vector(0, copied));
    const uint64_t before = device->counts().read_bytes;
    must(engine->read_value(0, logits(), std::as_writable_bytes(std::span(fetched))));
    CHECK(device->counts().read_bytes - before == 320 * sizeof(float));
    CHECK(copied == fetched);
    CHECK(*std::ranges::max_element(copied) > 0);
    check_silent(*device);
  }
}

TEST_CASE("vectors that cannot be made: an error, nothing kept") {
  if (!vulkan_test_backend()) return;
  VulkanOptions options;
  options.staging = true;  // which needs all that the other does, and memory to read what is watched
  options.pipeline_cache = (test::scratch() / "vectors.bin").string();
  // What an engine without and with vectors asks for: the difference comes last.
  uint64_t without = 0, with = 0;
  for (const bool vectors : {false, true}) {
    const auto backend = must(open_test_vulkan(options));
    EngineOptions engine = with_vectors({64});
    if (!vectors) engine.vectors = {};
    must(Engine::create(tiny_model()->shared_file(), *backend, engine));
    (vectors ? with : without) = backend->counts().allocations;
  }
  MESSAGE("injected failures: ", with - without);
  CHECK(with > without + 6);
  for (uint64_t n = without; n < with; ++n) {
    CAPTURE(n);
    options.fail_allocation = static_cast<int>(n);
    const auto backend = must(open_test_vulkan(options));
    const auto engine = engine_on(*backend, {64});
    REQUIRE_FALSE(engine.has_value());
    CHECK((engine.error().code == ErrorCode::kOutOfMemory));
    CHECK(backend->counts().device_bytes == 0);
    if (n + 1 == with) CHECK(engine_on(*backend, {64}).has_value());  // the failure was that one
    check_silent(*backend);
  }
}

TEST_CASE("vectors larger than a binding are refused by name, and what they take is said beforehand") {
  if (!vulkan_test_backend()) return;
  VulkanOptions options;
  options.most_binding_bytes = uint64_t{1} << 20;
  const auto backend = must(open_test_vulkan(options));
  const auto refused = engine_on(*backend, {size_t{1} << 17, size_t{1} << 17});
  REQUIRE_FALSE(refused.has_value());
  CAPTURE(refused.error().message);
  CHECK((refused.error().code == ErrorCode::kUnsupported));
  CHECK(refused.error().message.find("sampler") != std::string::npos);
  CHECK(refused.error().message.find("smaller image") != std::string::npos);
  CHECK(backend->counts().device_bytes == 0);
  uint64_t taken[2] = {};
  for (const size_t elements : {size_t{16}, size_t{1} << 17}) {
    const auto engine = must(engine_on(*backend, {elements}));
    taken[elements > 16] = backend->counts().device_bytes - engine->memory().vectors_bytes;
  }
  CHECK(taken[0] == taken[1]);
  check_silent(*backend);
}
