// The read bandwidth of this machine, as a decode could use it at best.
#pragma once

#include <cstddef>
#include <memory>

#include "backends/host/thread_pool.h"
#include "linnet/result.h"

namespace linnet::app {

// Holds a buffer far larger than the caches. Every thread of the pool reads its own contiguous part once, as
// the matrix kernels do.
class BandwidthProbe {
 public:
  // Errors: kOutOfMemory.
  static Result<BandwidthProbe> create(int threads);
  BandwidthProbe(BandwidthProbe&&) noexcept;
  BandwidthProbe& operator=(BandwidthProbe&&) noexcept;
  ~BandwidthProbe();

  // Best of several passes, in 10^9 bytes per second.
  double measure();

 private:
  struct Impl;
  explicit BandwidthProbe(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::app
