// A tile of a head's state [KEY_DIM, columns] in registers for as long as its tokens pass: a thread holds the rows
// SLICE, SLICE + SLICES, ... of one column. Constants: 1 SLICES, 2 ROWS = ceil(KEY_DIM / SLICES), 3 KEY_DIM.
layout(constant_id = 1) const uint SLICES = 1u;
layout(constant_id = 2) const uint ROWS = 1u;
layout(constant_id = 3) const uint KEY_DIM = 1u;

shared float slices[THREADS];

// The sum over a column's slices; every thread of the column gets it.
float sum_of_column(float v) {
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  barrier();
  slices[lane] = v;
  barrier();
  float sum = 0.0;
  for (uint i = lane % columns; i < THREADS; i += columns) sum += slices[i];
  return sum;
}

#define FOR_ROWS(n, i) \
  for (uint n = 0u, i = gl_LocalInvocationID.x / (THREADS / SLICES); n < ROWS; ++n, i += SLICES)
