#include "backends/host/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace linnet::host {

TEST_CASE("a loop covers every item once, in one range per thread and in order of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    REQUIRE(pool.threads() == threads);
    for (int64_t n = 0; n < 40; ++n) {
      for (const int64_t grain : {1, 3, 100}) {
        std::vector<std::atomic<int>> seen(40);
        std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
        std::vector<int64_t> first(static_cast<size_t>(threads), -1);
        pool.parallel_for_thread(n, grain, [&](int thread, int64_t begin, int64_t end) {
          ++calls[static_cast<size_t>(thread)];
          first[static_cast<size_t>(thread)] = begin;
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (size_t i = 0; i < 40; ++i) CHECK(seen[i] == (static_cast<int64_t>(i) < n ? 1 : 0));
        int64_t before = -1;
        for (size_t t = 0; t < calls.size(); ++t) {
          CHECK(calls[t] <= 1);
          if (calls[t] == 0) continue;
          CHECK(first[t] > before);
          before = first[t];
        }
      }
    }
  }
}

TEST_CASE("a loop in pieces covers every item once, in pieces of the grain and more") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const int64_t n : {0, 1, 2, 7, 39, 1000}) {
      for (const int64_t grain : {0, 1, 3, 100}) {
        std::vector<std::atomic<int>> seen(1000);
        std::atomic<int64_t> small{0};
        std::atomic<bool> known{true};
        pool.parallel_for_pieces(n, grain, [&](int thread, int64_t begin, int64_t end) {
          if (thread < 0 || thread >= threads || begin >= end) known = false;
          if (end - begin < grain) ++small;
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (size_t i = 0; i < 1000; ++i) CHECK(seen[i] == (static_cast<int64_t>(i) < n ? 1 : 0));
        CHECK(known);
        CHECK(small <= threads);  // the last of each range
      }
    }
  }
}

TEST_CASE("pieces that a slow thread does not come to are done by the others") {
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    for (const int64_t slow : {0, 63}) {  // the first item of the first range, and the last of the last
      std::atomic<int64_t> done{0};
      bool others_done = false;
      const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      pool.parallel_for_pieces(64, 1, [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          while (i == slow && !others_done && std::chrono::steady_clock::now() < limit) {
            others_done = done == 63;
            std::this_thread::yield();
          }
          ++done;
        }
      });
      CHECK(others_done);
      CHECK(done == 64);
    }
  }
}

TEST_CASE(
    "what a loop wrote is seen by the next, and pauses long enough for helpers to sleep change nothing") {
  ThreadPool pool(4);
  std::vector<int64_t> values(1000, 0);
  int64_t expected = 0;
  for (int round = 0; round < 3000; ++round) {
    if (round % 1000 == 999) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    // Reversed, so that a thread reads what another wrote.
    const auto add = [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        auto& value = values[static_cast<size_t>(round % 2 == 0 ? i : 999 - i)];
        value = static_cast<int64_t>(static_cast<uint64_t>(value) * 3u + static_cast<uint64_t>(round));
      }
    };
    if (round % 3 == 0)
      pool.parallel_for_pieces(1000, 1, add);
    else
      pool.parallel_for_thread(1000, 1, add);
    expected = static_cast<int64_t>(static_cast<uint64_t>(expected) * 3u + static_cast<uint64_t>(round));
  }
  for (const int64_t value : values) REQUIRE(value == expected);
}

TEST_CASE("pools come and go, used or not") {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(3);
    std::atomic<int64_t> sum{0};
    if (i % 2 == 0) pool.parallel_for(3, 1, [&](int64_t begin, int64_t) { sum += begin; });
    CHECK(sum == (i % 2 == 0 ? 3 : 0));
  }
}

}  // namespace linnet::host
