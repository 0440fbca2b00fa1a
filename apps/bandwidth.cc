#include "apps/bandwidth.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace linnet::app {
namespace {

constexpr size_t kBufferBytes = size_t{512} << 20;
constexpr size_t kSmallestBufferBytes = size_t{256} << 20;
constexpr int kReadPasses = 6;

// Half of the memory that is free, within limits: a probe must not push the model out.
size_t buffer_bytes() {
  const long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return kSmallestBufferBytes;
  const size_t half = static_cast<size_t>(pages) * static_cast<size_t>(page) / 2;
  return std::clamp(half, kSmallestBufferBytes, kBufferBytes);
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define LINNET_WIDEST __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define LINNET_WIDEST
#endif

// Eight independent sums let the compiler use the widest loads and keep many lines in flight. The prefetch
// reaches past the hardware's, which stops at page borders.
LINNET_WIDEST uint64_t read_all(const uint64_t* data, size_t count) {
  constexpr size_t kLanes = 64;
  uint64_t sums[kLanes] = {};
  for (size_t i = 0; i + kLanes <= count; i += kLanes) {
    for (size_t line = 0; line < kLanes; line += 8) __builtin_prefetch(data + i + line + 256, 0, 3);
    for (size_t j = 0; j < kLanes; ++j) sums[j] += data[i + j];
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

struct BandwidthProbe::Impl {
  explicit Impl(int threads) : pool(threads) {}
  ~Impl() {
    if (data != MAP_FAILED) munmap(data, bytes);
  }
  host::ThreadPool pool;
  size_t bytes = 0;
  void* data = MAP_FAILED;
  std::atomic<uint64_t> sink{0};  // so that the reads are not optimised away
};

BandwidthProbe::BandwidthProbe(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BandwidthProbe::BandwidthProbe(BandwidthProbe&&) noexcept = default;
BandwidthProbe& BandwidthProbe::operator=(BandwidthProbe&&) noexcept = default;
BandwidthProbe::~BandwidthProbe() = default;

Result<BandwidthProbe> BandwidthProbe::create(int threads) {
  auto impl = std::make_unique<Impl>(threads);
  impl->bytes = buffer_bytes();
  impl->data = mmap(nullptr, impl->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (impl->data == MAP_FAILED)
    return fail(ErrorCode::kOutOfMemory, "the system has no memory for the bandwidth measurement");
#ifdef MADV_HUGEPAGE
  madvise(impl->data, impl->bytes, MADV_HUGEPAGE);
#endif
  // Written, or every page would be the system's one page of zeros; by the thread that will read it.
  auto* words = static_cast<uint64_t*>(impl->data);
  impl->pool.parallel_for(static_cast<int64_t>(impl->bytes / sizeof(uint64_t)), 1,
                          [&](int64_t begin, int64_t end) {
                            for (int64_t i = begin; i < end; ++i) words[i] = static_cast<uint64_t>(i);
                          });
  return BandwidthProbe(std::move(impl));
}

double BandwidthProbe::measure() {
  const auto* words = static_cast<const uint64_t*>(impl_->data);
  const auto count = static_cast<int64_t>(impl_->bytes / sizeof(uint64_t));
  double best = 0;
  for (int pass = 0; pass < kReadPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    impl_->pool.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      impl_->sink += read_all(words + begin, static_cast<size_t>(end - begin));
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(impl_->bytes) / seconds.count() / 1e9);
  }
  return best;
}

}  // namespace linnet::app
