// A long conversation of random tokens with a language model: what the memory plan says beside what the
// system counts, and how fast a token is early and late. Prints one JSON line at each mark.
//
// usage: linnet_long_run MODEL.lnt TOKENS [MARKS [THREADS]]
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>

#include "backends/cpu/cpu.h"
#include "linnet/session.h"

using namespace linnet;

namespace {

// Resident bytes of this process.
uint64_t resident() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, pages = 0;
  statm >> total >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

int failed(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: linnet_long_run MODEL.lnt TOKENS [MARKS [THREADS]]\n");
    return 2;
  }
  const int64_t total = std::atoll(argv[2]), marks = argc > 3 ? std::atoll(argv[3]) : 10;
  const uint64_t before = resident();
  const auto backend = cpu_backend();
  if (!backend) return failed(backend.error());
  auto model = Model::open(argv[1]);
  if (!model) return failed(model.error());
  SessionOptions options;
  options.threads = argc > 4 ? std::atoi(argv[4]) : 1;
  auto session = Session::create(*model, **backend, options);
  if (!session) return failed(session.error());
  const SessionMemory memory = (*session)->memory();
  const uint64_t plan = memory.weights_bytes + memory.state_bytes + memory.work_bytes + memory.backend_bytes;
  std::mt19937_64 random(1);
  const auto id = [&] {
    return static_cast<int32_t>(random() % static_cast<uint64_t>((*model)->vocabulary()));
  };
  // Every mark is a prefill up to it, then decoded tokens that are timed.
  constexpr int64_t kTimed = 64;
  std::vector<int32_t> ids;
  for (int64_t mark = 0; mark <= marks; ++mark) {
    const int64_t until = mark * (total - kTimed) / std::max<int64_t>(marks, 1);
    ids.resize(static_cast<size_t>(std::max<int64_t>(until - (*session)->position(), mark == 0 ? 8 : 1)));
    for (int32_t& x : ids) x = id();
    if (auto ran = (*session)->prefill(ids); !ran) return failed(ran.error());
    const int64_t depth = (*session)->position();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < kTimed; ++i)
      if (auto ran = (*session)->decode(id()); !ran) return failed(ran.error());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const uint64_t taken = resident() - before;
    std::printf(
        "{\"depth\": %lld, \"decode_tokens_per_second\": %.2f, \"plan_bytes\": %llu, \"resident_bytes\": "
        "%llu, "
        "\"resident_over_plan\": %.4f}\n",
        static_cast<long long>(depth), static_cast<double>(kTimed) / seconds,
        static_cast<unsigned long long>(plan), static_cast<unsigned long long>(taken),
        static_cast<double>(taken) / static_cast<double>(plan));
    std::fflush(stdout);
  }
  return 0;
}
