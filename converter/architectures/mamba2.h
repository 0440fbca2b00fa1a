// The Mamba-2 mixer as Mamba-2, Falcon-H1 and Granite's hybrids have it.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct Mamba2 {
  int64_t hidden = 0, inner = 0, heads = 0, head_dim = 0, groups = 1, state = 0, kernel = 4;
  float epsilon = 1e-5f;
  bool bias = false, output_bias = false, convolution_bias = true;
  bool norm = true, norm_before_gate = false;
  fb::Activation activation = fb::Activation::Silu;  // of the convolution
  float step_minimum = 0, step_maximum = 0;          // of the time step; 0: none
  double multipliers[5] = {1, 1, 1, 1, 1};           // of z, x, B, C and dt after the projection
};

// Reads time_step_limit and refuses sizes that do not fit.
void finish_mamba2(Importer& in, Mamba2& mixer);
// out_proj(...) + residual, or without one if that is -1. Tensors under prefix.
Value mamba2_mixer(Importer& in, const std::string& prefix, Value h, const Mamba2& mixer, Value residual);

}  // namespace linnet::convert
