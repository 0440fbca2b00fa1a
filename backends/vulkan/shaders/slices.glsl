// Products of 16 rows (a panel) with inputs that are sliced over the threads of a group: thread `lane` has rows
// 4 (lane % 4) to 4 (lane % 4) + 3 and every SLICES-th unit of inputs (quads.glsl) from lane / 4 on. With SHUFFLE (a
// second compilation) subgroups are whole and of eight threads or more, a power of two: each adds up its own slices
// first, and only what is left goes through shared memory.
const uint SLICES = THREADS / 4u;
#ifdef SHUFFLE
shared float sums[2][THREADS / 8u * 16u];  // a subgroup each
uint product_lane() { return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID; }
#else
shared float sums[2][THREADS * 4u];  // a slice each
uint product_lane() { return gl_LocalInvocationID.x; }
#endif
uint sums_at = 0u;

// acc of a thread's rows += unit n of their weights times inputs from[0], from[1], ... of x.
#define DOT(x, from, n, k, DTYPE, w, acc)                                             \
  {                                                                                   \
    uint low_ = first_input(DTYPE, n), high_ = low_ + input_step(DTYPE);              \
    vec4 sum_ = vec4(0.0);                                                            \
    for (uint j_ = 0u; j_ < 4u; ++j_) {                                               \
      sum_ += w[j_] * (WHOLE || low_ + j_ < k ? x[(from) + low_ + j_] : 0.0);         \
      sum_ += w[4u + j_] * (WHOLE || high_ + j_ < k ? x[(from) + high_ + j_] : 0.0);  \
    }                                                                                 \
    acc += sum_;                                                                      \
  }

// `product`: a thread's part of the products of its rows. Row r's whole product comes back to lane r of the first 16.
// There is one barrier: the next sum but one comes after that of the next.
float add_slices(vec4 product) {
  uint lane = product_lane(), parts = SLICES, part = lane / 4u;
  bool first = true;
#ifdef SHUFFLE
  for (uint step = 4u; step < gl_SubgroupSize; step *= 2u) product += subgroupShuffleXor(product, step);
  parts = gl_NumSubgroups;
  part = gl_SubgroupID;
  first = gl_SubgroupInvocationID < 4u;
#endif
  uint to = part * 16u + lane % 4u * 4u;
  if (first)
    for (uint i = 0u; i < 4u; ++i) sums[sums_at][to + i] = product[i];
  barrier();
  float sum = 0.0;
  if (lane < 16u)
    for (uint i = lane; i < parts * 16u; i += 16u) sum += sums[sums_at][i];
  sums_at = 1u - sums_at;
  return sum;
}
