// Normal noise that depends on a seed alone: not on threads, the platform or the picture's neighbours.
//
// The numbers are those of PyTorch's CPU generator (`torch.randn` with `manual_seed(seed)`) for 16 values or
// more, up to the last bits of its vectorised logarithm and sine, so that a picture can be compared with
// diffusers'.
#pragma once

#include <cstdint>
#include <random>
#include <span>

namespace linnet::image {

class Noise {
 public:
  // As PyTorch's generator, only the low 32 bits of the seed count.
  explicit Noise(uint64_t seed) : engine_(static_cast<std::mt19937::result_type>(seed)) {}

  // Fills `values` with independent N(0, 1). Calls continue one stream.
  void fill(std::span<float> values);

 private:
  float uniform();
  std::mt19937 engine_;
};

}  // namespace linnet::image
