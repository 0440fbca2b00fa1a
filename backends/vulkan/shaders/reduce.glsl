// Sums and maxima over the threads of a group, in a fixed order; every thread gets the result.
shared float reduced[THREADS];

float sum_of_group(float v) {
  uint lane = gl_LocalInvocationID.x;
  barrier();
  reduced[lane] = v;
  barrier();
  for (uint step = THREADS / 2u; step > 0u; step /= 2u) {
    if (lane < step) reduced[lane] += reduced[lane + step];
    barrier();
  }
  return reduced[0];
}

float max_of_group(float v) {  // NaN wins
  uint lane = gl_LocalInvocationID.x;
  barrier();
  reduced[lane] = v;
  barrier();
  for (uint step = THREADS / 2u; step > 0u; step /= 2u) {
    if (lane < step) {
      float other = reduced[lane + step];
      if (other > reduced[lane] || isnan(other)) reduced[lane] = other;
    }
    barrier();
  }
  return reduced[0];
}
