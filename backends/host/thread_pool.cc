#include "backends/host/thread_pool.h"

namespace linnet::host {

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ > 1) pool_ = pthreadpool_create(static_cast<size_t>(threads_));
  if (!pool_) threads_ = 1;  // the system refused threads: the work is still done
}

ThreadPool::~ThreadPool() {
  if (pool_) pthreadpool_destroy(pool_);
}

}  // namespace linnet::host
