#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "runtime/plan/plan.h"

using namespace linnet;

TEST_CASE("placed buffers never overlap while they live, and the arena is not wasteful") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<plan::Buffer> buffers(1 + random() % 60);
    const int nodes = 40;
    for (plan::Buffer& b : buffers) {
      b.bytes = random() % 5 == 0 ? 0 : 1 + random() % 5000;
      b.first = static_cast<int>(random() % nodes);
      b.last = std::min(nodes, b.first + static_cast<int>(random() % 6));
    }
    const size_t arena = plan::place_buffers(buffers);
    CHECK_FALSE(plan::any_overlap(buffers));
    size_t most = 0;
    for (int node = 0; node <= nodes; ++node) {
      size_t live = 0;
      for (const plan::Buffer& b : buffers)
        if (b.bytes && b.first <= node && node <= b.last) live += b.bytes;
      most = std::max(most, live);
    }
    CHECK(arena >= most);
    for (const plan::Buffer& b : buffers) {
      CHECK(b.offset % plan::kAlignment == 0);
      if (b.bytes) CHECK(b.offset + b.bytes <= arena);
    }
  }
}

TEST_CASE("a chain of equal buffers needs two of them") {
  std::vector<plan::Buffer> chain(100);
  for (int i = 0; i < 100; ++i) chain[static_cast<size_t>(i)] = {4096 - 64, 0, i, i + 1};
  CHECK(plan::place_buffers(chain) == 2 * 4096);
}

TEST_CASE("overlap is found wherever comparing every pair finds it") {
  std::mt19937 random(11);
  int overlapping = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<plan::Buffer> buffers(2 + random() % 8);
    for (plan::Buffer& b : buffers) {
      b.bytes = random() % 6 == 0 ? 0 : 1 + random() % 100;
      b.offset = random() % 800;
      b.first = static_cast<int>(random() % 20) - 1;
      b.last = b.first + static_cast<int>(random() % 5);
    }
    bool expected = false;
    for (const plan::Buffer& a : buffers)
      for (const plan::Buffer& b : buffers)
        expected =
            expected || (&a < &b && a.bytes > 0 && b.bytes > 0 && a.first <= b.last && b.first <= a.last &&
                         a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes);
    CHECK(plan::any_overlap(buffers) == expected);
    overlapping += expected;
  }
  CHECK(overlapping > 400);
  CHECK(overlapping < 1600);
}

TEST_CASE("overlap is detected") {
  std::vector<plan::Buffer> two = {{64, 0, 0, 2}, {64, 32, 2, 3}};
  CHECK(plan::any_overlap(two));
  two[1].first = 3;
  CHECK_FALSE(plan::any_overlap(two));
}

namespace {
// One causal attention layer over symbols tokens and context.
fb::ModelT one_layer(int window) {
  fb::ModelT model;
  for (const char* name : {"tokens", "context"}) {
    model.symbols.push_back(std::make_unique<fb::SymbolT>());
    model.symbols.back()->name = name;
  }
  for (const auto role : {fb::StateRole::KeyCache, fb::StateRole::ValueCache}) {
    model.states.push_back(std::make_unique<fb::StateT>());
    model.states.back()->name = fb::EnumNameStateRole(role);
    model.states.back()->role = role;
    model.states.back()->shape = {fb::Dim(1, 1, 1, 0), fb::Dim(-1, 1, 1, 64)};
  }
  fb::SoftmaxAttentionT args;
  args.heads = args.kv_heads = 1;
  args.head_dim = args.value_dim = 64;
  args.window = window;
  model.methods.push_back(std::make_unique<fb::MethodT>());
  auto node = std::make_unique<fb::NodeT>();
  node->args.Set(std::move(args));
  node->states = {0, 1};
  node->inputs = {0};
  model.methods[0]->values.push_back(std::make_unique<fb::ValueT>());
  model.methods[0]->values[0]->name = "queries";
  model.methods[0]->values[0]->shape = {fb::Dim(0, 1, 1, 0), fb::Dim(-1, 1, 1, 64)};
  model.methods[0]->nodes.push_back(std::move(node));
  return model;
}
size_t no_scratch(size_t, size_t, const plan::Plan&) { return 0; }
}  // namespace

TEST_CASE("the ring follows the attention mode") {
  plan::Bounds bounds{{16, 5000}, {}, DType::kF32};
  const fb::ModelT full = one_layer(0), sliding = one_layer(100);

  auto plan = plan::make_plan(full, bounds, no_scratch);
  REQUIRE(plan);
  CHECK(plan->states[0].shape == std::vector<int64_t>{5000, 64});

  bounds.attention = {false, 256, 4};
  plan = plan::make_plan(full, bounds, no_scratch);
  REQUIRE(plan);
  CHECK(plan->states[0].shape[0] == 4 + 256 + 16 - 1);
  const size_t f32_bytes = plan->states[0].bytes;
  bounds.cache_dtype = DType::kQ8;
  plan = plan::make_plan(full, bounds, no_scratch);
  REQUIRE(plan);
  CHECK(plan->states[0].bytes * 256 == f32_bytes * 68);  // 2 x 34 bytes instead of 64 x 4

  // A model's own window that is smaller than the session's stays exact, without sinks.
  const auto own = plan::ring_of(*sliding.methods[0]->nodes[0], sliding, bounds);
  REQUIRE(own);
  CHECK(own->sinks == 0);
  CHECK(own->window == 100);
}

TEST_CASE("keys and values are one row for each token, and bounded") {
  const plan::Bounds bounds{{16, 5000}, {}, DType::kF32};
  const auto refusal = [&](const fb::ModelT& model) {
    const auto plan = plan::make_plan(model, bounds, no_scratch);
    return plan ? std::string() : plan.error().message;
  };
  CHECK(refusal(one_layer(0)).empty());
  for (const fb::Dim rows :
       {fb::Dim(1, 1, 1, 0), fb::Dim(0, 2, 1, 0), fb::Dim(0, 1, 1, 3), fb::Dim(-1, 1, 1, 17)}) {
    fb::ModelT model = one_layer(0);
    model.methods[0]->values[0]->shape[0] = rows;
    CHECK(refusal(model).find("expected one for each token") != std::string::npos);
  }
  fb::ModelT unbounded = one_layer(0);
  unbounded.symbols[1]->name = "other";
  CHECK(refusal(unbounded).find("no symbol 'context'") != std::string::npos);
  // A context shorter than a chunk: the ring still holds the chunk.
  const auto small = plan::make_plan(one_layer(0), {{16, 5}, {}, DType::kF32}, no_scratch);
  REQUIRE(small);
  CHECK(small->states[0].shape[0] == 16);
}

TEST_CASE("bounds that cannot be are refused with their numbers") {
  const fb::ModelT model = one_layer(0);
  CHECK_FALSE(plan::make_plan(model, {{16}, {}, DType::kF32}, no_scratch));
  CHECK_FALSE(plan::make_plan(model, {{0, 10}, {}, DType::kF32}, no_scratch));
  CHECK_FALSE(plan::make_plan(model, {{16, 10}, {}, DType::kQ4}, no_scratch));
  const auto sinks = plan::make_plan(model, {{16, 10}, {false, 0, 4}, DType::kF32}, no_scratch);
  REQUIRE_FALSE(sinks);
  CHECK(sinks.error().message.find("window 0") != std::string::npos);
}

TEST_CASE("keys that two layers see through different windows are refused by name") {
  fb::ModelT model = one_layer(100);
  auto second = std::make_unique<fb::NodeT>(*model.methods[0]->nodes[0]);
  second->name = "second";
  model.methods[0]->nodes.push_back(std::move(second));
  const plan::Bounds bounds{{16, 5000}, {}, DType::kF32};
  REQUIRE(plan::make_plan(model, bounds, no_scratch));
  model.methods[0]->nodes[1]->args.AsSoftmaxAttention()->window = 1000;
  const auto refused = plan::make_plan(model, bounds, no_scratch);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("node 'second'") != std::string::npos);
  CHECK(refused.error().message.find("state 'KeyCache'") != std::string::npos);
}

TEST_CASE("thousands of buffers are placed in no time, without overlap and with little waste") {
  std::mt19937 random(11);
  std::vector<plan::Buffer> buffers(60000);
  for (size_t i = 0; i < buffers.size(); ++i) {
    plan::Buffer& b = buffers[i];
    b.bytes = random() % 5 == 0 ? 0 : 1 + random() % 5000;
    b.first = static_cast<int>(i / 2);
    b.last = b.first + static_cast<int>(random() % 6);
  }
  const size_t arena = plan::place_buffers(buffers);
  CHECK_FALSE(plan::any_overlap(buffers));
  for (const plan::Buffer& b : buffers)
    if (b.bytes) REQUIRE(b.offset + b.bytes <= arena);
  // Twelve live at a time, of five thousand bytes at most.
  CHECK(arena < 4 * 12 * 5000);
}
