// The Vulkan backend around its shaders: state that moves between processors, faults, limits, counts.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "runtime/engine/engine.h"
#include "tests/runtime/tiny_model.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using linnet::test::must;
using linnet::test::tiny_model;

namespace {

SessionOptions small(bool full = true) {
  SessionOptions options;
  options.chunk = 8;
  options.context = 64;
  options.full_attention = full;
  options.window = 12;
  options.sinks = 2;
  return options;
}

std::vector<int32_t> tokens(size_t n) {
  std::vector<int32_t> ids(n);
  for (size_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>((i * 37 + 11) % 300);
  return ids;
}

std::vector<float> logits(Session& session, std::span<const int32_t> ids) {
  const auto out = must(session.prefill(ids));
  return {out.begin(), out.end()};
}

void check_close(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  testing::check_truth("logits", b);
  testing::check_below("logits", testing::largest_difference(a, b), static_cast<double>(tolerance));
}

// Its keys are a multiple of 32 channels, as q8 wants them.
std::shared_ptr<const Model> wide_model() {
  convert::ConvertOptions options;
  options.source = LINNET_GOLDEN "/language/llama_rope_linear/model";
  options.output = (test::scratch() / "wide.lnt").string();
  options.quantize = "f32";
  options.self_test = false;
  must(convert::convert(options));
  return must(Model::open(options.output));
}

// Null, after saying so, where there is no device.
std::unique_ptr<VulkanBackend> device(VulkanOptions options = {}) {
  if (!testing::vulkan_test_backend()) return nullptr;
  return must(testing::open_test_vulkan(options));
}

}  // namespace

TEST_CASE("a conversation moves from the CPU to the GPU and back") {
  const Backend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  const auto ids = tokens(40);
  for (const CachePrecision cache : {CachePrecision::kF32, CachePrecision::kF16, CachePrecision::kQ8}) {
    CAPTURE(static_cast<int>(cache));
    SessionOptions options = small(false);
    options.cache = cache;
    // A key on the edge between two steps of its precision may fall to either side.
    const float tolerance = cache == CachePrecision::kF32   ? 2e-3f
                            : cache == CachePrecision::kF16 ? 1e-2f
                                                            : 0.1f;
    const auto model = cache == CachePrecision::kQ8 ? wide_model() : tiny_model();
    auto host = must(Session::create(model, test::cpu(), options));
    auto gpu = must(Session::create(model, *vulkan, options));
    logits(*host, std::span(ids).first(20));
    std::vector<std::byte> block(host->state_bytes());
    must(host->snapshot(block));
    must(gpu->restore(block));
    CHECK(gpu->position() == 20);
    check_close(logits(*gpu, std::span(ids).subspan(20, 11)), logits(*host, std::span(ids).subspan(20, 11)),
                2e-3f);
    must(gpu->snapshot(block));
    must(host->restore(block));
    check_close(logits(*gpu, std::span(ids).subspan(31)), logits(*host, std::span(ids).subspan(31)),
                tolerance);
  }
  testing::check_vulkan_messages();
}

TEST_CASE("a state file and a fork go on on the other processor") {
  const Backend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  const auto ids = tokens(30);
  SessionOptions options = small(false);
  options.cache = CachePrecision::kF32;
  const std::string path = (test::scratch() / "moved.state").string();
  auto host = must(Session::create(tiny_model(), test::cpu(), options));
  auto gpu = must(Session::create(tiny_model(), *vulkan, options));
  logits(*host, std::span(ids).first(17));
  must(host->save(path));
  must(gpu->load(path));
  auto fork = must(gpu->fork());
  const auto expected = logits(*host, std::span(ids).subspan(17));
  check_close(logits(*fork, std::span(ids).subspan(17)), expected, 2e-3f);
  // The fork's tokens are not the original's.
  CHECK(gpu->position() == 17);
  must(gpu->save(path));
  must(host->load(path));
  CHECK(host->position() == 17);
  check_close(logits(*host, std::span(ids).subspan(17)), expected, 2e-3f);
  check_close(logits(*gpu, std::span(ids).subspan(17)), expected, 2e-3f);
  testing::check_vulkan_messages();
}

TEST_CASE("abilities on and off, the file in place or copied: the same logits") {
  const VulkanBackend* usual = testing::vulkan_test_backend();
  if (!usual) return;
  const auto ids = tokens(40);
  SessionOptions options = small(false);
  options.chunk = 24;
  const auto expected = logits(*must(Session::create(tiny_model(), *usual, options)), ids);
  for (const bool all : {false, true}) {
    VulkanOptions with;
    std::vector<std::string> names(std::begin(kVulkanAbilities), std::end(kVulkanAbilities));
    uint64_t reported = 0, in_all = 0;
    (all ? with.even_if_slow : with.without) = names;
    with.progress = [&](uint64_t done, uint64_t total) {
      CHECK(done > reported);
      reported = done;
      in_all = total;
    };
    const auto backend = device(with);
    if (!all) CHECK(backend->device().abilities.empty());
    auto session = must(Session::create(tiny_model(), *backend, options));
    check_close(logits(*session, ids), expected, 2e-3f);
    const bool imports = std::ranges::count(backend->device().abilities, "import") > 0;
    CHECK((backend->counts().imported_bytes > 0) == imports);
    // What is used in place is not copied.
    CHECK((reported == 0) == imports);
    CHECK(reported == in_all);
    testing::check_silent(*backend);
    session.reset();
    CHECK(backend->counts().imported_bytes == 0);
    CHECK(backend->counts().device_bytes == 0);
  }
}

TEST_CASE("the time of every node") {
  VulkanOptions options;
  options.profile = true;
  const auto backend = device(options);
  if (!backend) return;
  auto session = must(Session::create(tiny_model(), *backend, small()));
  must(session->decode(1));
  must(session->decode(2));
  const auto times = backend->profile();
  REQUIRE(times.size() == tiny_model()->file().model().methods[0]->nodes.size());
  double seconds = 0;
  for (const DeviceNodeTime& t : times) {
    CHECK(t.runs == 2);
    CHECK(t.method == "forward");
    seconds += t.seconds;
  }
  CHECK(times.back().op == "logits");
  CHECK(seconds > 0);
  CHECK(seconds < 60);
  testing::check_silent(*backend);
}

TEST_CASE("a token is one submission of a command buffer recorded once") {
  const VulkanBackend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  auto session = must(Session::create(tiny_model(), *vulkan, small()));
  logits(*session, tokens(8));
  must(session->decode(1));
  const DeviceCounts before = vulkan->counts();
  for (int32_t i = 0; i < 5; ++i) must(session->decode(i));
  const DeviceCounts after = vulkan->counts();
  CHECK(after.submits - before.submits == 5);
  CHECK(after.recordings == before.recordings);
  CHECK(after.allocations == before.allocations);
  const auto layers = 3u;
  CHECK(after.dispatches - before.dispatches <= 5 * (12 * layers + 3));
  // Every weight is read once for a token; of the embedding table one row.
  uint64_t weights = 0;
  for (const auto& weight : tiny_model()->file().model().weights) weights += weight->bytes;
  CHECK((after.weight_bytes - before.weight_bytes) / 5 <= weights);
}

// The same as sorting all logits, which a plain decode gives.
void check_largest(Session& session, Session& plain, int32_t token, size_t count) {
  const auto found = must(session.decode_largest(token, count));
  const std::vector<Ranked> largest(found.begin(), found.end());
  const auto row = must(plain.decode(token));
  std::vector<Ranked> all;
  for (const float x : row) all.push_back({static_cast<int32_t>(all.size()), x});
  std::ranges::sort(all, ranks_before);
  REQUIRE(largest.size() == count);
  CHECK(std::ranges::equal(largest, std::span(all).first(count)));
  const auto fetched = must(session.logits());
  CHECK(std::ranges::equal(fetched, row));
}

TEST_CASE("the largest logits alone are read back, the others on demand") {
  for (const bool staging : {false, true}) {
    CAPTURE(staging);
    VulkanOptions options;
    options.staging = staging;
    const auto backend = device(options);
    if (!backend) return;
    auto a = must(Session::create(tiny_model(), *backend, small()));
    auto b = must(Session::create(tiny_model(), *backend, small()));
    const auto before = backend->counts();
    int32_t token = 3;
    for (const size_t count : {1u, 1u, 2u, 65u, 128u}) {
      CAPTURE(count);
      const uint64_t read = backend->counts().read_bytes;
      check_largest(*a, *b, token, count);
      CHECK(backend->counts().read_bytes - read == count * sizeof(Ranked) + 320 * sizeof(float));
      token = static_cast<int32_t>(count + 40);
    }
    CHECK(backend->counts().allocations == before.allocations);
    const uint64_t submits = backend->counts().submits;
    must(a->decode_largest(5, 1));
    CHECK(backend->counts().submits == submits + 1);
    CHECK_FALSE(a->decode_largest(5, 0));
    CHECK_FALSE(a->decode_largest(5, kMostRanked + 1));
    CHECK_FALSE(a->decode_largest(-1, 1));
    CHECK_FALSE(a->poisoned());
    // A plain run after it gives all logits again.
    must(b->decode(5));
    CHECK(logits(*a, tokens(9)) == logits(*b, tokens(9)));
    testing::check_silent(*backend);
  }
}

TEST_CASE("an answer without chance is the same on both processors, a few bytes read for each token") {
  const VulkanBackend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  ChatOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = 12;
  options.checkpoints = 2;
  std::string answers[2];
  for (const bool gpu : {false, true}) {
    SessionOptions wide = small();
    wide.context = 256;
    const Backend& backend = gpu ? *vulkan : static_cast<const Backend&>(test::cpu());
    auto chat = must(Chat::create(must(Session::create(tiny_model(), backend, wide)), options));
    const uint64_t read = vulkan->counts().read_bytes;
    const Turn turn = must(chat->send("hello there"));
    answers[gpu] = turn.answer;
    if (!gpu) continue;
    REQUIRE(turn.stats.answer_tokens == 12);
    // The prompt's logits whole.
    CHECK(vulkan->counts().read_bytes - read == 320 * sizeof(float) + 11 * sizeof(Ranked));
    CHECK(must(chat->regenerate()).answer == turn.answer);
  }
  CHECK(answers[0] == answers[1]);
  testing::check_vulkan_messages();
}

TEST_CASE("device memory out of the host's sight gives the same") {
  VulkanOptions options;
  options.staging = true;
  const auto staged = device(options);
  if (!staged) return;
  const auto ids = tokens(21);
  auto a = must(Session::create(tiny_model(), *staged, small(false)));
  auto b = must(Session::create(tiny_model(), *testing::vulkan_test_backend(), small(false)));
  CHECK(logits(*a, ids) == logits(*b, ids));
  std::vector<std::byte> x(a->state_bytes()), y(b->state_bytes());
  must(a->snapshot(x));
  must(b->snapshot(y));
  CHECK(x == y);
  must(a->reset());
  must(b->reset());
  CHECK(logits(*a, ids) == logits(*b, ids));
  testing::check_silent(*staged);
}

TEST_CASE("every allocation may fail: an error, nothing kept, nothing wrong afterwards") {
  if (!testing::vulkan_test_backend()) return;
  for (const bool staging : {false, true}) {
    int failures = 0, n = 0;
    // Memory, buffers, shaders, layouts, sets of bindings, pools, fences: each is asked for here. After the
    // first of every kind come many alike, of which every eighth is taken unless LINNET_EVERY_FAILURE is set.
    const int step = std::getenv("LINNET_EVERY_FAILURE") ? 1 : 8;
    for (bool done = false; !done; n += n < 24 ? 1 : step) {
      CAPTURE(n);
      VulkanOptions options;
      options.staging = staging;
      options.fail_allocation = n;
      const auto backend = testing::open_test_vulkan(options);
      if (!backend) {
        ++failures;
        CHECK((backend.error().code == ErrorCode::kOutOfMemory));
        continue;
      }
      const auto session = Session::create(tiny_model(), **backend, small());
      done = session.has_value();
      if (done) break;
      ++failures;
      CHECK((session.error().code == ErrorCode::kOutOfMemory));
      CHECK((*backend)->counts().device_bytes == 0);
      // The injected failure was that one allocation: the next attempt succeeds.
      if (n % 8 == 0) CHECK(Session::create(tiny_model(), **backend, small()).has_value());
      testing::check_silent(**backend);
    }
    MESSAGE("injected failures: ", failures, " of ", n, " objects");
    CHECK(failures > 24);
    CHECK(n < 2000);
  }
}

TEST_CASE("the memory that is said beforehand has the device's copy of the weights") {
  const VulkanBackend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  const auto need = must(Session::memory_required(*tiny_model(), *vulkan, small()));
  const uint64_t before = vulkan->counts().device_bytes;
  auto session = must(Session::create(tiny_model(), *vulkan, small()));
  CHECK(session->memory().backend_bytes == need.backend_bytes);
  const bool copied = std::ranges::count(vulkan->device().abilities, "import") == 0;
  CHECK((need.backend_bytes >= need.weights_bytes + need.state_bytes) == copied);
  const uint64_t taken = vulkan->counts().device_bytes - before;
  CHECK(taken >= need.backend_bytes);
  CHECK(taken <= need.backend_bytes + (uint64_t{1} << 20));
}

TEST_CASE("too little memory is said, and nothing is kept") {
  VulkanOptions options;
  options.most_memory_bytes = 100'000;
  const auto backend = device(options);
  if (!backend) return;
  const auto session = Session::create(tiny_model(), *backend, small());
  REQUIRE_FALSE(session.has_value());
  CHECK((session.error().code == ErrorCode::kOutOfMemory));
  CHECK(session.error().message.find("bytes for") != std::string::npos);
  CHECK(session.error().message.find("--backend cpu") != std::string::npos);
  CHECK(backend->counts().device_bytes == 0);
}

TEST_CASE("a value larger than a binding is refused by name when the session is created") {
  VulkanOptions options;
  options.most_binding_bytes = 24'000;
  const auto backend = device(options);
  if (!backend) return;
  SessionOptions wide = small();
  wide.chunk = 64;
  const auto refused = Session::create(tiny_model(), *backend, wide);
  REQUIRE_FALSE(refused.has_value());
  CAPTURE(refused.error().message);
  CHECK((refused.error().code == ErrorCode::kUnsupported));
  CHECK(refused.error().message.find("that the device") != std::string::npos);
  CHECK(refused.error().message.find("smaller chunk") != std::string::npos);
  CHECK(backend->counts().device_bytes == 0);
}

TEST_CASE("a run that takes longer than the timeout loses the device, without a hang") {
  VulkanOptions options;
  options.timeout_ms = 1;
  auto backend = device(options);
  if (!backend) return;
  auto session = must(Session::create(tiny_model(), *backend, small()));
  const auto begin = std::chrono::steady_clock::now();
  // A software device compiles the shaders in its first run.
  const auto failed = session->prefill(tokens(60));
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message.find("did not finish") != std::string::npos);
  CHECK(session->poisoned());
  CHECK_FALSE(session->decode(1).has_value());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
  const auto other = Session::create(tiny_model(), *backend, small());
  CHECK_FALSE((other && (*other)->decode(1)));
  // What the device may still use is not freed: it finishes what it was given.
  session.reset();
  backend.reset();
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

TEST_CASE("a device that is lost in the middle of a run") {
  VulkanOptions options;
  options.lose_at_submit = 3;
  const auto backend = device(options);
  if (!backend) return;
  auto session = must(Session::create(tiny_model(), *backend, small()));
  const auto ids = tokens(60);
  const auto failed = session->prefill(ids);
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message.find("lost") != std::string::npos);
  CHECK(session->poisoned());
  CHECK_FALSE(session->decode(1).has_value());
  CHECK_FALSE(Session::create(tiny_model(), *backend, small())->get()->decode(1).has_value());
}

TEST_CASE("two sessions on two threads share a device") {
  const auto backend = device();
  if (!backend) return;
  const auto ids = tokens(24);
  std::vector<float> out[2];
  std::vector<std::thread> threads;
  for (auto& own : out)
    threads.emplace_back([&] {
      auto session = Session::create(tiny_model(), *backend, small());
      if (!session) return;
      const auto result = (*session)->prefill(ids);
      if (result) own.assign(result->begin(), result->end());
    });
  for (std::thread& thread : threads) thread.join();
  auto alone = must(Session::create(tiny_model(), *backend, small()));
  const auto expected = logits(*alone, ids);
  CHECK(out[0] == expected);
  CHECK(out[1] == expected);
  testing::check_silent(*backend);
}

TEST_CASE("a state that is not finite is traced to its node") {
  const Backend* vulkan = testing::vulkan_test_backend();
  if (!vulkan) return;
  SessionOptions options = small();
  options.cache = CachePrecision::kF32;
  auto session = must(Session::create(tiny_model(), *vulkan, options));
  logits(*session, tokens(4));
  std::vector<std::byte> block(session->state_bytes());
  must(session->snapshot(block));
  const float nan = NAN;
  std::memcpy(&block[64], &nan, sizeof(nan));
  const auto traced = [](const auto& failed) {
    REQUIRE_FALSE(failed.has_value());
    CHECK((failed.error().code == ErrorCode::kNumeric));
    CHECK(failed.error().message.find("layers.0") != std::string::npos);
  };
  must(session->restore(block));
  traced(session->decode(1));
  must(session->restore(block));
  traced(session->decode_largest(1, 3));
  testing::check_vulkan_messages();
}

TEST_CASE("devices are listed, chosen by number and name, and refused by name") {
  if (!testing::vulkan_test_backend()) return;
  const auto devices = must(vulkan_devices());
  REQUIRE_FALSE(devices.empty());
  VulkanOptions options;
  options.device = "no such GPU";
  const auto refused = create_vulkan_backend(options);
  REQUIRE_FALSE(refused.has_value());
  CHECK((refused.error().code == ErrorCode::kNotFound));
  CHECK(refused.error().message.find(devices[0].name) != std::string::npos);
  options.device = "0";
  CHECK(must(create_vulkan_backend(options))->device().name == devices[0].name);
  options.device = devices[0].name.substr(0, 4);
  CHECK(create_vulkan_backend(options).has_value());
  options.without = {"teleport"};
  const auto unknown = create_vulkan_backend(options);
  REQUIRE_FALSE(unknown.has_value());
  CHECK((unknown.error().code == ErrorCode::kInvalidArgument));
  CHECK(unknown.error().message.find("integer_dot") != std::string::npos);
}

TEST_CASE("compiled shaders are kept in a file, and a damaged file does no harm") {
  VulkanOptions options;
  options.pipeline_cache = (test::scratch() / "shaders.bin").string();
  for (int round = 0; round < 3; ++round) {
    auto backend = device(options);
    if (!backend) return;
    CHECK(Session::create(tiny_model(), *backend, small()).has_value());
    backend.reset();
    REQUIRE(std::filesystem::file_size(options.pipeline_cache) > 0);
    if (round == 1) std::filesystem::resize_file(options.pipeline_cache, 17);
  }
}
