// The arithmetic this machine could do at best, so that a prefill's speed is a share and not only a number.
#pragma once

#include "backends/cpu/targets.h"
#include "backends/host/thread_pool.h"
#include "runtime/graph/ops.h"

namespace linnet::app {

// Operations per second; a multiplication and an addition count two. 0: not measured (portable kernels).
struct Peaks {
  double int8 = 0, f32 = 0;
};

// Loops of the dot products and fused multiply-adds that the matrix kernels of `target` use, in registers.
class ArithmeticProbe {
 public:
  ArithmeticProbe(cpu::CpuTarget target, int threads) : target_(target), pool_(threads) {}
  // Best of several passes, a few milliseconds each.
  Peaks measure();

 private:
  double measure(double (*probe)(int64_t iterations));

  cpu::CpuTarget target_;
  host::ThreadPool pool_;
};

// Operations of a method's matrices for one token, by the arithmetic that the CPU kernels use: int8 dot
// products for block formats, f32 for the others. Of experts those that a token meets; the logits of a
// prefill are taken for one token only and left out.
struct MatrixWork {
  double int8 = 0, f32 = 0;
};
MatrixWork matrix_work(const fb::ModelT& model, size_t method);

}  // namespace linnet::app
