// Online softmax (Milakov and Gimelshein 2018) by a group of threads, a block of a key for each. math.glsl, reduce.glsl
// and `shared float weights[THREADS]` come before.

// Takes the block into the running maximum and sum: the weights of its keys relative to the new maximum, and the
// factor that brings what was summed up before to it. `seen`: this thread has a key; without one `score` is -infinity.
float take_in_block(float score, bool seen, bool first, inout float most, inout float sum) {
  float block_most = max_of_group(score);
  float higher = block_most > most || isnan(block_most) ? block_most : most;
  float factor = first ? 0.0 : exp_(most - higher);
  float weight = seen ? exp_(score - higher) : 0.0;
  weights[gl_LocalInvocationID.x] = weight;
  sum = sum * factor + sum_of_group(weight);
  most = higher;
  return factor;
}
