// What the forms of convolution_2d share. Constants: 1 dtype, 2 activation, 3 flags.
layout(constant_id = 1) const uint DTYPE = 0u;
layout(constant_id = 2) const uint ACTIVATION = 0u;
layout(constant_id = 3) const uint FLAGS = 0u;
const bool BIAS = (FLAGS & 1u) != 0u, RESIDUAL = (FLAGS & 2u) != 0u, GATED = (FLAGS & 4u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint height, width, channels;              // of x, before upsampling
  uint out_width, pixels, outputs, written;  // outputs: before a gate halves them
  uint kernel_height, kernel_width, stride;
  int pad_top, pad_left;
  uint upsample;
  uint in_group, out_group;      // channels
  uint first_panel, panels, skip;  // of the stack of the groups' matrices, and of the bound part before them
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };

// x under tap (ky, kx) of output pixel (i, j): where its channels begin, or -1 outside.
int tap_at(uint i, uint j, uint ky, uint kx) {
  int y = int(i * p.stride + ky) - p.pad_top, z = int(j * p.stride + kx) - p.pad_left;
  if (y < 0 || y >= int(p.height * p.upsample) || z < 0 || z >= int(p.width * p.upsample)) return -1;
  return int((uint(y) / p.upsample * p.width + uint(z) / p.upsample) * p.channels);
}
