// The threads of a session, the caller's included.
//
// A decode launches hundreds of loops a token, each of a few microseconds: what a launch costs decides how
// much of the memory's bandwidth is left. So helpers wait for the next loop spinning, for a fraction of a
// millisecond, and then sleep: between turns nothing spins. Each helper has one cache line through which it
// is given its part and says that it took it; the caller does its own part and then those that no helper took
// yet, so a helper that the system keeps from running delays no loop.
#pragma once

#include <pthreadpool.h>

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

  // For libraries that want a pthreadpool (XNNPACK): made at the first call, null with one thread. Use it
  // before the next loop of ours, which sends its threads to sleep so that the two sets do not compete.
  pthreadpool_t handle();

  // `grain`: fewest items worth a thread of their own.
  template <typename F>
  void parallel_for(int64_t n, int64_t grain, const F& f) {
    parallel_for_thread(n, grain, [&f](int, int64_t begin, int64_t end) { f(begin, end); });
  }
  // The same with f(thread, begin, end), for per-thread scratch; thread < threads().
  template <typename F>
  void parallel_for_thread(int64_t n, int64_t grain, const F& f) {
    if (n <= 0) return;
    int64_t parts = grain > 0 ? (n + grain - 1) / grain : n;
    if (parts > threads_) parts = threads_;
    if (parts <= 1) {
      f(0, int64_t{0}, n);
      return;
    }
    launch({[](const void* function, int thread, int64_t begin, int64_t end) {
              (*static_cast<const F*>(function))(thread, begin, end);
            },
            &f, n, parts});
  }

 private:
  struct Loop {
    void (*run)(const void* function, int thread, int64_t begin, int64_t end);
    const void* function;
    int64_t n, parts;

    void part(int64_t p) const { run(function, static_cast<int>(p), n * p / parts, n * (p + 1) / parts); }
  };
  struct Helper;
  struct Shared;

  void launch(const Loop& loop);
  static void help(Shared& shared, Helper& helper, int index);

  int threads_ = 1;
  std::unique_ptr<Shared> shared_;  // null with one thread
  pthreadpool_t library_ = nullptr;
  bool library_awake_ = false;
};

}  // namespace linnet::host
