// Sums over the slices of a workgroup: thread i holds a part of the sum of row i % 16.
shared float sums[THREADS];

// `product`: partial sum of a thread. The whole sum comes back to the first 16 threads, slice 0.
float add_slices(float product) {
  uint lane = gl_LocalInvocationID.x;
  barrier();
  sums[lane] = product;
  barrier();
  float sum = 0.0;
  if (lane < 16u)
    for (uint i = lane; i < THREADS; i += 16u) sum += sums[i];
  return sum;
}
