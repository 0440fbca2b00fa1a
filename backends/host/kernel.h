// What a kernel of a host backend (reference, cpu) sees of a node. Shapes were checked at load and bounds at
// create: kernels assert, they do not validate.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/host/thread_pool.h"
#include "runtime/plan/tensor.h"

namespace linnet::host {

struct Tensor : plan::TensorShape {
  std::byte* data = nullptr;  // null: an absent optional operand

  explicit operator bool() const { return data != nullptr; }
  template <typename T = float>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// Which rows of an image a convolution sees and writes, where it does not work on the whole of it: input 0
// holds rows [in_first, in_first + its height) of an image of `in_height` rows, output 0 begins at row
// out_first.
struct RowWindow {
  int64_t in_first = 0, in_height = 0, out_first = 0;  // in_height 0: the whole image
};

struct KernelContext {
  const fb::NodeT* node;
  std::span<const Tensor> in, weights, states, out;
  std::byte* scratch;   // as many bytes as the kernel's scratch function asked for
  int64_t position;     // tokens the states have seen before this run
  plan::Ring ring;      // of a node that keeps keys and values
  ThreadPool* pool;     // null while scratch is being sized
  int threads;          // threads of the pool, known in both phases
  const void* backend;  // the backend's own constants (chosen kernels for this processor)
  RowWindow window;     // convolution only

  template <typename T>
  const T& args() const {
    return *static_cast<const T*>(node->args.value);
  }
};

using KernelFn = void (*)(const KernelContext&);
// Scratch at the bounds: a context with the largest shapes and no data pointers (absent operands have rank
// 0).
using ScratchFn = size_t (*)(const KernelContext&);

struct Kernel {
  KernelFn run = nullptr;
  ScratchFn scratch = nullptr;  // null: none needed
};

}  // namespace linnet::host
