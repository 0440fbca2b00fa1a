// What "memory fixed at creation" means: no allocation afterwards, no growth over a long conversation, and
// the same bits for any number of threads. This file replaces the global operator new of its executable to
// count.
#include <doctest/doctest.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>

#include "linnet/image.h"
#include "tests/runtime/tiny_model.h"
#include "tests/sanitized.h"

namespace {
std::atomic<int64_t> g_allocations{0};

void* try_counted(size_t bytes, size_t alignment) noexcept {
  ++g_allocations;
  return alignment <= alignof(std::max_align_t)
             ? std::malloc(bytes ? bytes : 1)
             : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
void* counted(size_t bytes, size_t alignment) {
  void* p = try_counted(bytes, alignment);
  if (!p) throw std::bad_alloc();
  return p;
}
}  // namespace

void* operator new(size_t bytes) { return counted(bytes, 0); }
void* operator new[](size_t bytes) { return counted(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t a) { return counted(bytes, static_cast<size_t>(a)); }
void* operator new[](size_t bytes, std::align_val_t a) { return counted(bytes, static_cast<size_t>(a)); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return try_counted(bytes, 0); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return try_counted(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return try_counted(bytes, static_cast<size_t>(a));
}
void* operator new[](size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return try_counted(bytes, static_cast<size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace linnet::test {
namespace {

int64_t resident_bytes() {
  // The quarantine keeps what was freed: only builds without it measure.
  if (testing::kSanitized) return 0;
  long pages = 0, ignored = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  REQUIRE(file != nullptr);
  REQUIRE(std::fscanf(file, "%ld %ld", &ignored, &pages) == 2);
  std::fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

// Under the sanitizers nothing is measured, and a tenth shows as much.
constexpr int kLong = testing::kSanitized ? 2000 : 20000;

std::vector<int32_t> random_tokens(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 320);
  return tokens;
}

}  // namespace

TEST_CASE("after create nothing allocates: prefill, decode, snapshot, restore, reset") {
  for (const int threads : {1, 2}) {
    for (const bool full : {false, true}) {
      SessionOptions options;
      options.threads = threads;
      options.full_attention = full;
      const auto session = tiny_session(options);
      const auto prompt = random_tokens(testing::kSanitized ? 200 : 700, 1);
      std::vector<std::byte> block(session->state_bytes());
      const int64_t before = g_allocations;
      const auto in_use = mallinfo2().uordblks;
      bool good = session->prefill(prompt).has_value();
      for (int i = 0; i < 50; ++i) good = good && session->decode(i).has_value();
      good = good && session->snapshot(block).has_value() && session->restore(block).has_value();
      for (int i = 0; i < 50; ++i) good = good && session->decode(i).has_value();
      good = good && session->reset().has_value() && session->decode(3).has_value();
      const int64_t allocations = g_allocations - before;
      CHECK(mallinfo2().uordblks == in_use);
      CHECK(good);
      CHECK(allocations == 0);
    }
  }
}

TEST_CASE("memory_required is what create takes") {
  const SessionOptions options;
  const auto need = must(Session::memory_required(*tiny_model(), cpu(), options));
  const auto have = tiny_session(options)->memory();
  CHECK(need.weights_bytes == have.weights_bytes);
  CHECK(need.state_bytes == have.state_bytes);
  CHECK(need.work_bytes == have.work_bytes);
  CHECK(need.backend_bytes == have.backend_bytes);
}

TEST_CASE("20,000 tokens of one conversation take no more memory than the first") {
  SessionOptions options;
  options.window = 64;
  options.chunk = 32;
  const auto session = tiny_session(options);
  const auto tokens = random_tokens(kLong, 2);
  must(session->prefill(std::span(tokens).first(1)));
  const int64_t before = resident_bytes();
  must(session->prefill(std::span(tokens).subspan(1, kLong / 2 - 1)));
  bool good = true;
  for (size_t i = kLong / 2; i < tokens.size(); ++i) good = good && session->decode(tokens[i]).has_value();
  CHECK(good);
  CHECK(session->position() == kLong);
  CHECK(resident_bytes() - before < 1 << 20);
}

TEST_CASE("a chat of 20,000 tokens grows by its text alone") {
  SessionOptions session;
  session.window = 64;
  session.chunk = 32;
  ChatOptions options;
  options.max_tokens = 150;
  options.sampling.temperature = 1.0f;
  const auto chat = tiny_chat(options, session);
  const std::string message(100, 'a');
  // The ring of checkpoints fills in the first turns, up to its budget.
  for (int i = 0; i < 10; ++i) must(chat->send(message));
  const int64_t before = resident_bytes(), held = static_cast<int64_t>(chat->checkpoint_bytes());
  while (chat->session().position() < kLong) must(chat->send(message));
  CHECK(static_cast<int64_t>(chat->checkpoint_bytes()) == held);
  CHECK(resident_bytes() - before < 1 << 20);
}

TEST_CASE("nothing allocates between the steps of a picture") {
  convert::ConvertOptions source;
  source.source = LINNET_GOLDEN "/image/sana_pipeline/model";
  source.output = (scratch() / "painter.lnt").string();
  source.quantize = "q8";
  source.self_test = false;
  must(convert::convert(source));
  const auto model = must(Model::open(source.output));
  for (const char* sampler : {"", "euler"}) {
    ImageOptions options;
    options.height = options.width = 32;
    options.threads = 2;
    const auto session = must(ImageSession::create(model, cpu(), options));
    ImageRequest request;
    request.prompt = "a bird";
    request.steps = 6;
    request.sampler = sampler;
    std::vector<int64_t> counted;
    counted.reserve(8);
    must(session->generate(request, [&](const ImageStep&) {
      counted.push_back(g_allocations);
      return true;
    }));
    REQUIRE(counted.size() == 6);
    CHECK(counted.front() == counted.back());
  }
}

TEST_CASE("one and two threads give the same bits") {
  SessionOptions options;
  options.window = 40;
  const auto tokens = random_tokens(300, 3);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2}) {
    options.threads = threads;
    const auto session = tiny_session(options);
    std::vector<float> all;
    const auto prompt = must(session->prefill(std::span(tokens).first(200)));
    all.assign(prompt.begin(), prompt.end());
    for (size_t i = 200; i < tokens.size(); ++i) {
      const auto logits = must(session->decode(tokens[i]));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    results.push_back(std::move(all));
  }
  CHECK(results[0] == results[1]);
}

}  // namespace linnet::test
