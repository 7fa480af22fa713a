// Functions of one number that a compiler turns into vectors: no branches, no calls. For float
// they are polynomials exact to about two units in the last place; for double, exp and tanh are
// rational functions as exact as that (after Cephes, https://www.netlib.org/cephes), the rest libm's.

static inline float from_bits(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float exponential(float x) {
  // exp(x) = 2^n exp(r), |r| <= ln(2) / 2, with ln(2) in two parts; 2^n in two factors, so that
  // neither leaves the range. NaN passes every comparison unchanged.
  const float c = x > 104.0f ? 104.0f : x < -104.0f ? -104.0f : x;
  const float n = std::nearbyintf(c * 1.44269504088896341f);
  float r = c - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t whole = (int32_t)n;
  const int32_t half = whole >> 1;
  return p * from_bits((half + 127) << 23) * from_bits((whole - half + 127) << 23);
}
static inline double from_bits(int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
// 2^n of a whole number in [-1100, 1100]: n + 1.5 * 2^52 has n in its last bits.
static inline double power_of_two(double n) {
  const double shifted = n + 6755399441055744.0;
  int64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return from_bits((int64_t)((uint64_t)(bits + 1023) << 52));
}
static inline double exponential(double x) {
  const double c = x > 746.0 ? 746.0 : x < -746.0 ? -746.0 : x;
  const double n = (c * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0;
  const double r = (c - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6, s = r * r;
  const double p = r * ((1.26177193074810590878e-4 * s + 3.02994407707441961300e-2) * s + 1.0);
  const double q = ((3.00198505138664455042e-6 * s + 2.52448340349684104192e-3) * s +
                    2.27265548208155028766e-1) * s + 2.0;
  const double half = (n * 0.5 + 6755399441055744.0) - 6755399441055744.0;
  return (1.0 + 2.0 * (p / (q - p))) * power_of_two(half) * power_of_two(n - half);
}

static inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }
static inline double logistic(double x) { return 1.0 / (1.0 + exponential(-x)); }

static inline float absolute(float x) { return std::fabs(x); }
static inline double absolute(double x) { return std::fabs(x); }

static inline float hyperbolic(float x) {
  // Near zero an odd polynomial, which keeps small values' digits; elsewhere 1 - 2 / (e^2|x| + 1).
  const float a = std::fabs(x), s = x * x;
  float p = -5.70498872745e-3f;
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  const float near_zero = p * s * x + x;
  const float far = std::copysign(1.0f - 2.0f / (exponential(2.0f * a) + 1.0f), x);
  return a < 0.625f ? near_zero : far;
}
static inline double hyperbolic(double x) {
  const double a = std::fabs(x), s = x * x;
  const double p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s -
                   1.61468768441708447952e3;
  const double q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s +
                   4.84406305325125486048e3;
  const double near_zero = x + x * s * (p / q);
  const double far = std::copysign(1.0 - 2.0 / (exponential(2.0 * a) + 1.0), x);
  return a < 0.625 ? near_zero : far;
}

static inline float logarithm(float x) {
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1. Below the normal numbers x
  // is scaled up first.
  const bool small = x < 1.17549435e-38f;
  const float scaled = small ? x * 8388608.0f : x;
  int32_t bits;
  std::memcpy(&bits, &scaled, sizeof bits);
  const int32_t whole = (bits - 0x3f3504f3) >> 23;
  const float m = from_bits(bits - (whole << 23)) - 1.0f;
  const float n = (float)whole - (small ? 23.0f : 0.0f);
  const float q = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = p * m * q - n * 2.12194440e-4f - 0.5f * q;
  y = m + y + n * 0.693359375f;
  y = x == INFINITY ? x : y;
  y = x == 0.0f ? -INFINITY : y;
  return x < 0.0f || x != x ? NAN : y;
}
static inline double logarithm(double x) { return std::log(x); }

static inline float logarithm_1p(float x) {
  // What is lost in rounding 1 + x is put back to first order.
  const float u = 1.0f + x;
  const float y = logarithm(u) + (x - (u - 1.0f)) / u;
  return u == 1.0f || u == INFINITY || u == 0.0f ? (u == 1.0f ? x : logarithm(u)) : y;
}
static inline double logarithm_1p(double x) { return std::log1p(x); }

// As torch has them: NaN in either argument is the result.
template <typename A, typename B> static inline T larger(A a, B b) {
  return a > T(b) || a != a ? T(a) : T(b);
}
template <typename A, typename B> static inline T smaller(A a, B b) {
  return a < T(b) || a != a ? T(a) : T(b);
}
template <typename A> static inline T rectified(A x) { return x < A(0) ? A(0) : x; }
template <typename A> static inline T squared(A x) { return x * x; }
template <typename A> static inline T sign_of(A x) { return T(x > A(0)) - T(x < A(0)); }
template <typename A> static inline bool not_a_number(A x) { return x != x; }
