// Elementary functions to about 2 units in the last place on every driver: built-in ones differ between drivers
// by a hundred times that. After the Cephes library's single-precision forms.
#define kInfinity uintBitsToFloat(0x7F800000u)

float exp_(float x) {
  if (isnan(x)) return x;
  if (x > 88.72283) return kInfinity;
  if (x < -87.3) return 0.0;
  precise float n = floor(x * 1.44269504 + 0.5);
  precise float r = x - n * 0.693359375;
  r = r + n * 2.12194440e-4;
  float y = 1.9875691500e-4;
  y = y * r + 1.3981999507e-3;
  y = y * r + 8.3334519073e-3;
  y = y * r + 4.1665795894e-2;
  y = y * r + 1.6666665459e-1;
  y = y * r + 5.0000001201e-1;
  y = y * r * r + r + 1.0;
  return y * 2.0 * uintBitsToFloat(uint(int(n) + 126) << 23);
}

float log_(float x) {  // x > 0 and normal
  uint bits = floatBitsToUint(x);
  int e = int(bits >> 23) - 126;
  float m = uintBitsToFloat((bits & 0x7FFFFFu) | 0x3F000000u);  // [0.5, 1)
  if (m < 0.70710678) {
    e -= 1;
    m = m + m;
  }
  m -= 1.0;
  float z = m * m;
  float y = 7.0376836292e-2;
  y = y * m - 1.1514610310e-1;
  y = y * m + 1.1676998740e-1;
  y = y * m - 1.2420140846e-1;
  y = y * m + 1.4249322787e-1;
  y = y * m - 1.6668057665e-1;
  y = y * m + 2.0000714765e-1;
  y = y * m - 2.4999993993e-1;
  y = y * m + 3.3333331174e-1;
  y = y * m * z;
  float n = float(e);
  y += n * -2.12194440e-4;
  y -= 0.5 * z;
  return m + y + n * 0.693359375;
}

float log1p_(float u) {  // u >= 0
  if (isnan(u) || isinf(u)) return u;
  precise float w = 1.0 + u;
  precise float d = w - 1.0;
  return d == 0.0 ? u : log_(w) * (u / d);
}

float tanh_(float x) {
  float a = abs(x);
  if (a < 0.625) {
    float z = x * x;
    float y = -5.70498872745e-3;
    y = y * z + 2.06390887954e-2;
    y = y * z - 5.37397155531e-2;
    y = y * z + 1.33314422036e-1;
    y = y * z - 3.33332819422e-1;
    return y * z * x + x;
  }
  if (isnan(x)) return x;
  float y = 1.0 - 2.0 / (exp_(2.0 * a) + 1.0);
  return x < 0.0 ? -y : y;
}

float erf_(float x) {  // within 2e-7 (Abramowitz and Stegun 7.1.26)
  float a = abs(x);
  float t = 1.0 / (1.0 + 0.3275911 * a);
  float y = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  y = 1.0 - y * exp_(-a * a);
  return x < 0.0 ? -y : y;
}

float sigmoid(float x) { return 1.0 / (1.0 + exp_(-x)); }
float softplus(float x) { return x > 20.0 ? x : log1p_(exp_(x)); }
float log_sigmoid(float x) { return x < 0.0 ? x - log1p_(exp_(x)) : -log1p_(exp_(-x)); }

// model.fbs: Activation. NaN passes through every one.
float activate(uint kind, float x) {
  switch (kind) {
    case 1u:
      return x / (1.0 + exp_(-x));
    case 2u:
      return 0.5 * x * (1.0 + erf_(x * 0.70710678));
    case 3u:
      return 0.5 * x * (1.0 + tanh_(0.79788456 * (x + 0.044715 * x * x * x)));
    case 4u:
      return x < 0.0 ? 0.0 : x;
    case 5u:
      return x < 0.0 ? 0.0 : x * x;
    case 6u:
      return sigmoid(x);
    case 7u:
      return tanh_(x);
    case 8u:
      return softplus(x);
    case 9u:
      return exp_(x);
    case 10u:
      return log_sigmoid(x);
    case 11u:
      return x > 0.0 ? x + 1.0 : exp_(x);
    default:
      return x;
  }
}
