// What the chunk forms of the recurrences share: eight tokens, t0 to t0 + count - 1, between two barriers of the token
// form's kind. A_t is the product of the decay factors up to token t of the chunk; A_t / A_s is computed as the product
// of those between, never by dividing. Include after state.glsl and decay.glsl. THREADS is a multiple of 8. `lane` is the
// thread's, and tokens from `count` on have factors of one and rows of zeros.
// With VALUE_DECAY the factors are of the tile's columns, and keys do not decay.
#ifndef VALUE_DECAY
#define VALUE_DECAY false
#endif
const uint C = 8u, PARTS = THREADS / C, COLUMNS = THREADS / SLICES;
const bool PER_CHANNEL = (DECAY_FLAGS & 1u) != 0u && !VALUE_DECAY;
const uint FACTORS = VALUE_DECAY ? COLUMNS : PER_CHANNEL ? KEY_DIM : 1u;

shared float factor[C * FACTORS], all_factors[FACTORS];

// Of a key channel.
float factor_at(uint t, uint i) { return VALUE_DECAY ? 1.0 : PER_CHANNEL ? factor[t * KEY_DIM + i] : factor[t]; }

#define LOAD_FACTORS(head_)                                  \
  for (uint n_ = lane; n_ < C * FACTORS; n_ += THREADS)      \
    factor[n_] = n_ / FACTORS < count ? decay_factor(t0 + n_ / FACTORS, head_, n_ % FACTORS) : 1.0;

// Rows of `count` tokens from t0 on, activated; zeros after them. The rows are normalised by a thread each (model.fbs:
// HeadMap).
#define LOAD_CHUNK(to, from, heads_, head_, ACTIVATION, NORM, epsilon)                                    \
  {                                                                                                       \
    for (uint n_ = lane; n_ < C * KEY_DIM; n_ += THREADS) {                                               \
      uint t_ = n_ / KEY_DIM;                                                                             \
      to[n_] = t_ < count                                                                                 \
                   ? activate(ACTIVATION, from[((t0 + t_) * (heads_) + (head_)) * KEY_DIM + n_ % KEY_DIM]) \
                   : 0.0;                                                                                 \
    }                                                                                                     \
    barrier();                                                                                            \
    if (NORM != 0u) {                                                                                     \
      if (lane < count) {                                                                                 \
        uint from_ = lane * KEY_DIM, end_ = from_ + KEY_DIM;                                              \
        float most_ = -kInfinity, sum_ = 0.0;                                                             \
        if (NORM == 2u) {                                                                                 \
          for (uint i_ = from_; i_ < end_; ++i_) most_ = to[i_] > most_ ? to[i_] : most_;                 \
          for (uint i_ = from_; i_ < end_; ++i_) to[i_] = exp_(to[i_] - most_);                           \
        }                                                                                                 \
        for (uint i_ = from_; i_ < end_; ++i_) sum_ += NORM == 1u ? to[i_] * to[i_] : to[i_];             \
        if (NORM == 1u) sum_ = sqrt(sum_ + epsilon);                                                      \
        if (NORM == 3u) sum_ += epsilon;                                                                  \
        if (NORM != 1u || sum_ != 0.0)                                                                    \
          for (uint i_ = from_; i_ < end_; ++i_) to[i_] = to[i_] / sum_;                                  \
      }                                                                                                   \
      barrier();                                                                                          \
    }                                                                                                     \
  }

// sums[t] of this thread, s = lane % C: the part of it of the sum over key channels of left_t right_s A_t / A_s, for
// t >= s; with BEFORE that of A_(t - 1) / A_s, for t > s. The parts of all threads add up to a matrix by ADD_PRODUCTS.
#define MULTIPLY_PAIRS(left, right, BEFORE, sums)                             \
  for (uint t_ = 0u; t_ < C; ++t_) sums[t_] = 0.0;                            \
  for (uint i_ = lane / C; i_ < KEY_DIM; i_ += PARTS) {                       \
    uint s_ = lane % C;                                                       \
    float right_ = right[s_ * KEY_DIM + i_];                                  \
    for (uint t_ = 0u; t_ < C; ++t_) {                                        \
      if (t_ < s_) continue;                                                  \
      if (!(BEFORE) && t_ > s_) right_ *= factor_at(t_, i_);                  \
      if (!(BEFORE) || t_ > s_) sums[t_] += left[t_ * KEY_DIM + i_] * right_; \
      if ((BEFORE) && t_ > s_) right_ *= factor_at(t_, i_);                   \
    }                                                                         \
  }
// `partial` has C * THREADS floats, `products` C * C: [t, s]. Barriers are the caller's.
#define STORE_PRODUCTS(sums, partial) \
  for (uint t_ = 0u; t_ < C; ++t_) partial[(lane / C * C + t_) * C + lane % C] = sums[t_];
#define ADD_PRODUCTS(partial, products)                                                             \
  for (uint n_ = lane; n_ < C * C; n_ += THREADS) {                                                 \
    float sum_ = 0.0;                                                                               \
    for (uint part_ = 0u; part_ < PARTS; ++part_) sum_ += partial[part_ * C * C + n_];              \
    products[n_] = sum_;                                                                            \
  }

// x_t becomes x_t A_t in `to`, or x_t A_(t - 1) with BEFORE. `to` may be `from`.
#define DECAY_FROM_START(from, to, BEFORE)                    \
  for (uint i_ = lane; i_ < KEY_DIM; i_ += THREADS) {         \
    float f_ = 1.0;                                           \
    for (uint t_ = 0u; t_ < C; ++t_) {                        \
      if (!(BEFORE)) f_ *= factor_at(t_, i_);                 \
      to[t_ * KEY_DIM + i_] = from[t_ * KEY_DIM + i_] * f_;   \
      if (BEFORE) f_ *= factor_at(t_, i_);                    \
    }                                                         \
  }
// x_s becomes x_s A_last / A_s; all_factors A_last.
#define DECAY_TO_END(x)                               \
  for (uint i_ = lane; i_ < KEY_DIM; i_ += THREADS) { \
    float f_ = 1.0;                                   \
    for (uint s_ = C; s_ > 0u; --s_) {                \
      x[(s_ - 1u) * KEY_DIM + i_] *= f_;              \
      f_ *= factor_at(s_ - 1u, i_);                   \
    }                                                 \
    if (i_ < FACTORS) all_factors[i_] = f_;           \
  }

// This thread's parts, over its rows of the state, of x_t S for all t; ADD_PARTS adds those of a column to `sum`.
#define MULTIPLY_STATE(x, state_rows_, partial)                                  \
  for (uint t_ = 0u; t_ < C; ++t_) {                                             \
    float part_ = 0.0;                                                           \
    FOR_ROWS(n_, i_) {                                                           \
      if (i_ < KEY_DIM) part_ += x[t_ * KEY_DIM + i_] * state_rows_[n_];         \
    }                                                                            \
    partial[t_ * THREADS + lane] = part_;                                        \
  }
#define ADD_PARTS(partial, t_, column_, sum) \
  for (uint i_ = column_; i_ < THREADS; i_ += COLUMNS) sum += partial[(t_) * THREADS + i_];

// The same for a column of KEY_DIM floats that all threads share: this thread's part of x_t z, t = lane % C, into
// `parts`, THREADS floats.
#define MULTIPLY_COLUMN(x, z, parts)                                                                       \
  {                                                                                                        \
    float part_ = 0.0;                                                                                     \
    for (uint i_ = lane / C; i_ < KEY_DIM; i_ += PARTS) part_ += x[lane % C * KEY_DIM + i_] * z[i_];       \
    parts[lane] = part_;                                                                                   \
  }
#define ADD_COLUMN(parts, t_, sum) \
  for (uint i_ = t_; i_ < THREADS; i_ += C) sum += parts[i_];
