// Numbers below 2^-126 count as zero while an object of this class lives, on this thread. The pool's threads
// do the same (they slow down a hundredfold otherwise), so the caller's thread must, or results would depend
// on the number of threads.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace linnet::host {

class FlushDenormals {
 public:
  explicit FlushDenormals(bool on) : on_(on) {
    if (!on_) return;
#if defined(__x86_64__)
    before_ = _mm_getcsr();
    _mm_setcsr(static_cast<unsigned>(before_) | 0x8040u);  // results and operands
#elif defined(__aarch64__)
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(before_));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before_ | (uint64_t{1} << 24)));
#endif
  }
  ~FlushDenormals() {
    if (!on_) return;
#if defined(__x86_64__)
    _mm_setcsr(static_cast<unsigned>(before_));
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before_));
#endif
  }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  bool on_;
  uint64_t before_ = 0;
};

}  // namespace linnet::host
