// sin and cos to about 2 units in the last place for |x| up to 8192 (Cephes); built-in ones may be off by 2^-11.
vec2 cos_sin(float x) {
  float a = abs(x), n = floor(a * 1.27323954 + 1.0);
  // The octants come in pairs, so that the remainder is within pi/4.
  n -= mod(n, 2.0);
  precise float r = ((a - n * 0.78515625) - n * 2.4187564849853515625e-4) - n * 3.77489497744594108e-8;
  float z = r * r;
  float s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
  float c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  uint quadrant = uint(mod(n, 8.0)) / 2u;
  vec2 y = quadrant == 0u ? vec2(c, s) : quadrant == 1u ? vec2(-s, c) : quadrant == 2u ? vec2(-c, -s) : vec2(s, -c);
  return vec2(y.x, x < 0.0 ? -y.y : y.y);
}
