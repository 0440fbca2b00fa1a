// What a token costs deep in a conversation: two sessions of one model, one at depth 0 and one at DEPTH,
// decode in turn; the prefill of the deep one is timed piece by piece. Random tokens. The time is that of
// this process on its processors, so that one thread's figures mean something beside other programs; --wall
// takes the clock's.
//
// usage: linnet_depth_bench MODEL.lnt [DEPTH, 16384] [ROUNDS, 9] [THREADS, 1] [--wall]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backends/cpu/cpu.h"
#include "linnet/session.h"
#include "tests/bench/bench.h"

namespace {

using namespace linnet;
using bench::median;
using bench::must;

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: linnet_depth_bench MODEL.lnt [DEPTH] [ROUNDS] [THREADS] [--wall]\n");
    return 2;
  }
  const int64_t depth = argc > 2 ? std::atoll(argv[2]) : 16384, rounds = argc > 3 ? std::atoll(argv[3]) : 9;
  constexpr int64_t kPieces = 8, kDecoded = 32;
  const bool wall = argc > 5 && std::strcmp(argv[5], "--wall") == 0;
  const auto seconds_of = [wall](auto&& work) {
    const clockid_t clock = wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    const double start = bench::seconds(clock);
    work();
    return bench::seconds(clock) - start;
  };
  SessionOptions options;
  options.threads = argc > 4 ? std::atoi(argv[4]) : 1;
  const auto backend = must(cpu_backend());
  const auto model = must(Model::open(argv[1]));
  const auto shallow = must(Session::create(model, *backend, options));
  const auto deep = must(Session::create(model, *backend, options));
  std::mt19937_64 random(1);
  const auto id = [&] { return static_cast<int32_t>(random() % static_cast<uint64_t>(model->vocabulary())); };
  const auto prefill = [&](Session& session, int64_t tokens) {
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    for (int32_t& x : ids) x = id();
    return seconds_of([&] { must(session.prefill(ids)); });
  };
  prefill(*shallow, 64);  // weights into memory, the thread awake
  must(shallow->reset());
  std::printf("prefill, tokens/s up to a depth:");
  for (int64_t i = 1; i <= kPieces; ++i) {
    const int64_t until = depth * i / kPieces, tokens = until - deep->position();
    const double seconds = prefill(*deep, tokens);
    std::printf(" %lld: %.1f", static_cast<long long>(until), static_cast<double>(tokens) / seconds);
    std::fflush(stdout);
  }
  const auto decode = [&](Session& session) {
    return static_cast<double>(kDecoded) / seconds_of([&] {
             for (int64_t i = 0; i < kDecoded; ++i) must(session.decode(id()));
           });
  };
  std::vector<double> at_start, at_depth, ratios;
  for (int64_t i = 0; i < rounds; ++i) {
    must(shallow->reset());
    prefill(*shallow, 1);
    at_start.push_back(decode(*shallow));
    at_depth.push_back(decode(*deep));
    ratios.push_back(at_depth.back() / at_start.back());
  }
  std::printf(
      "\ndecode, tokens/s, median of %lld rounds in turn: depth 0 %.1f, depth %lld %.1f; ratio %.4f\n",
      static_cast<long long>(rounds), median(at_start), static_cast<long long>(depth), median(at_depth),
      median(ratios));
  return 0;
}
