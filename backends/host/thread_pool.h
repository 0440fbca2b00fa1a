// The one thread pool of a session: pthreadpool, the caller's thread included.
#pragma once

#include <pthreadpool.h>

#include <cstddef>
#include <cstdint>

namespace linnet::host {

// Runs f(begin, end) over [0, n) cut into one contiguous range per thread, so that every thread reads
// contiguous memory. Kernels must give the same bits for any cut. Not thread safe; one loop at a time.
class ThreadPool {
 public:
  // threads >= 1. With one thread no pool exists and loops run in place.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  pthreadpool_t handle() const { return pool_; }

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
    struct Job {
      const F* f;
      int64_t n, parts;
    } job{&f, n, parts};
    pthreadpool_parallelize_1d(
        pool_,
        [](void* context, size_t part) {
          const auto& j = *static_cast<const Job*>(context);
          const auto p = static_cast<int64_t>(part);
          (*j.f)(static_cast<int>(p), j.n * p / j.parts, j.n * (p + 1) / j.parts);
        },
        &job, static_cast<size_t>(parts), PTHREADPOOL_FLAG_DISABLE_DENORMALS);
  }

 private:
  int threads_ = 1;
  pthreadpool_t pool_ = nullptr;
};

}  // namespace linnet::host
