#include "backends/host/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <vector>

#include "backends/host/denormals.h"

namespace linnet::host {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than what lies between two loops of one token, and than sampling between two tokens.
constexpr auto kHelperSpin = std::chrono::microseconds(200);
// The caller then lets others run: the helper it waits for may need this very processor.
constexpr auto kCallerSpin = std::chrono::microseconds(50);
constexpr int kPollsPerClock = 64;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Polls until done() or the time is over.
template <typename Done>
bool spin(std::chrono::microseconds limit, const Done& done) {
  for (int i = 0; i < kPollsPerClock; ++i) {
    if (done()) return true;
    pause();
  }
  const auto start = Clock::now();
  do {
    for (int i = 0; i < kPollsPerClock; ++i) {
      if (done()) return true;
      pause();
    }
  } while (Clock::now() - start < limit);
  return false;
}

}  // namespace

// Turns count up by four: turn t is offered, t + 1 taken, t + 2 asks the helper to end.
struct alignas(64) ThreadPool::Helper {
  std::atomic<uint32_t> turn{0};
  Loop loop{};  // of the turn offered
  std::thread thread;

  // Whoever takes a turn runs its part.
  bool take(uint32_t offered) {
    return turn.compare_exchange_strong(offered, offered + 1, std::memory_order_acq_rel);
  }
};

// The pieces of a part that nobody took yet, first and end in one word: its thread takes from the front, the
// others from the back. Whoever takes one is in the loop, so that no piece outlives it.
struct alignas(64) ThreadPool::Pieces {
  std::atomic<uint64_t> word{0};

  void reset(uint32_t count) { word.store(uint64_t{count} << 32, std::memory_order_relaxed); }
  // Returns the piece taken, or -1.
  int64_t take(bool from_back) {
    uint64_t now = word.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t first = static_cast<uint32_t>(now), end = static_cast<uint32_t>(now >> 32);
      if (first == end) return -1;
      const uint64_t next = from_back ? now - (uint64_t{1} << 32) : now + 1;
      if (word.compare_exchange_weak(now, next, std::memory_order_relaxed))
        return from_back ? int64_t{end} - 1 : int64_t{first};
    }
  }
};

struct ThreadPool::Shared {
  explicit Shared(size_t threads) : helpers(threads - 1), pieces(threads) {}
  alignas(64) std::atomic<int64_t> left{0};  // parts of the current loop that are not done
  std::vector<Helper> helpers;
  std::vector<Pieces> pieces;  // of every part of the current loop
  uint32_t turn = 0;

  void work(const Loop& loop, int thread) {
    if (loop.piece == 0) return loop.part(thread);
    for (int64_t i = 0, p = thread; i < loop.parts; ++i, p = p + 1 < loop.parts ? p + 1 : 0) {
      const int64_t begin = loop.begin(p), end = loop.begin(p + 1);
      for (int64_t at; (at = pieces[static_cast<size_t>(p)].take(i > 0)) >= 0;) {
        const int64_t first = begin + at * loop.piece;
        loop.run(loop.function, thread, first, std::min(end, first + loop.piece));
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>(static_cast<size_t>(threads_));
  for (int i = 1; i < threads_; ++i) {
    Helper& helper = shared_->helpers[static_cast<size_t>(i - 1)];
    try {
      helper.thread = std::thread([this, &helper, i] { help(*shared_, helper, i); });
    } catch (const std::exception&) {
      threads_ = i;  // the system refused more threads, or memory for one: the work is still done
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  if (!shared_) return;
  for (Helper& helper : shared_->helpers) {
    if (!helper.thread.joinable()) continue;
    helper.turn.store(shared_->turn + 2, std::memory_order_release);
    helper.turn.notify_one();
    helper.thread.join();
  }
}

void ThreadPool::help(Shared& shared, Helper& helper, int index) {
  const FlushDenormals flush(true);
  uint32_t seen = 0;  // what turn was before any loop
  for (;;) {
    const auto offered = [&] { return helper.turn.load(std::memory_order_acquire) != seen; };
    if (!spin(kHelperSpin, offered)) helper.turn.wait(seen, std::memory_order_acquire);
    seen = helper.turn.load(std::memory_order_acquire);
    if (seen % 4 == 2) return;
    if (seen % 4 != 0 || !helper.take(seen)) continue;
    ++seen;
    shared.work(helper.loop, index);
    shared.left.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::launch(const Loop& loop) {
  Shared& shared = *shared_;
  shared.left.store(loop.parts - 1, std::memory_order_relaxed);
  if (loop.piece > 0)
    for (int64_t p = 0; p < loop.parts; ++p) {
      const int64_t items = loop.begin(p + 1) - loop.begin(p);
      shared.pieces[static_cast<size_t>(p)].reset(
          static_cast<uint32_t>((items + loop.piece - 1) / loop.piece));
    }
  const uint32_t turn = shared.turn += 4;
  for (int64_t p = 1; p < loop.parts; ++p) {
    Helper& helper = shared.helpers[static_cast<size_t>(p - 1)];
    helper.loop = loop;
    helper.turn.store(turn, std::memory_order_seq_cst);
    helper.turn.notify_one();
  }
  shared.work(loop, 0);
  for (int64_t p = 1; p < loop.parts; ++p) {
    if (!shared.helpers[static_cast<size_t>(p - 1)].take(turn)) continue;
    if (loop.piece == 0) loop.part(p);  // else its pieces are all taken
    shared.left.fetch_sub(1, std::memory_order_relaxed);
  }
  const auto done = [&] { return shared.left.load(std::memory_order_acquire) == 0; };
  while (!spin(kCallerSpin, done)) std::this_thread::yield();
}

}  // namespace linnet::host
