// The threads of a session, the caller's included.
//
// A decode launches hundreds of loops a token, each of a few microseconds: what a launch costs decides how
// much of the memory's bandwidth is left. So helpers wait for the next loop spinning, for a fraction of a
// millisecond, and then sleep: between turns nothing spins. Each helper has one cache line through which it
// is given its part and says that it took it; the caller does its own part and then those that no helper took
// yet, so a helper that the system keeps from running delays no loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace linnet::host {

// Runs f(begin, end) over [0, n) cut into one contiguous range per thread, so that every thread reads
// contiguous memory. Kernels must give the same bits for any cut. Not thread safe; one loop at a time.
class ThreadPool {
 public:
  // threads >= 1. With one thread no helper exists and loops run in place.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // `grain`: fewest items worth a thread of their own.
  template <typename F>
  void parallel_for(int64_t n, int64_t grain, const F& f) {
    parallel_for_thread(n, grain, [&f](int, int64_t begin, int64_t end) { f(begin, end); });
  }
  // The same with f(thread, begin, end), for per-thread scratch; thread < threads().
  template <typename F>
  void parallel_for_thread(int64_t n, int64_t grain, const F& f) {
    loop(n, grain, 0, f);
  }
  // The same where waiting for the slowest thread would cost more than calling f several times: processors
  // differ (a small core beside a large one, a neighbour on the same core). A thread takes its own range
  // piece by piece and then, from the last on, the pieces that others have not begun. Pieces have at least
  // `grain` items where a range has as many.
  template <typename F>
  void parallel_for_pieces(int64_t n, int64_t grain, const F& f) {
    const int64_t most = int64_t{kPieces} * threads_, piece = (n + most - 1) / most;
    loop(n, grain, piece > grain ? piece : grain > 0 ? grain : 1, f);
  }

 private:
  static constexpr int kPieces = 32;  // of a thread's range, at most

  struct Loop {
    void (*run)(const void* function, int thread, int64_t begin, int64_t end);
    const void* function;
    int64_t n, parts;
    int64_t piece;  // 0: a part is one piece, and nobody's but its thread's

    int64_t begin(int64_t p) const { return n * p / parts; }
    void part(int64_t p) const { run(function, static_cast<int>(p), begin(p), begin(p + 1)); }
  };
  struct Helper;
  struct Pieces;
  struct Shared;

  template <typename F>
  static void call(const void* function, int thread, int64_t begin, int64_t end) {
    (*static_cast<const F*>(function))(thread, begin, end);
  }
  template <typename F>
  void loop(int64_t n, int64_t grain, int64_t piece, const F& f) {
    if (n <= 0) return;
    int64_t parts = grain > 0 ? (n + grain - 1) / grain : n;
    if (parts > threads_) parts = threads_;
    if (parts <= 1) {
      f(0, int64_t{0}, n);
      return;
    }
    launch({&call<F>, &f, n, parts, piece});
  }
  void launch(const Loop& loop);
  static void help(Shared& shared, Helper& helper, int index);

  int threads_ = 1;
  std::unique_ptr<Shared> shared_;  // null with one thread
};

}  // namespace linnet::host
