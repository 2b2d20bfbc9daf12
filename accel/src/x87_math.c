/*
 * x87_math.c - sine, cosine, arctangent, exponential and logarithm by series in 128-bit fixed point; see x87_math.h.
 *
 * Fractions: a u128 q stands for q * 2^-128 in [0, 1). A series is evaluated from its last term (Horner), each step cutting at
 * most 2^-128, and its first term, which carries the magnitude, is a factor taken out before: so what is small keeps all
 * its bits. Lengths are chosen for the largest argument that reduction leaves.
 */
#include "x87_math.h"
#include "x87_tables.h"

#define TOP_BIT ((u128)1 << 127)

/* ---- arithmetic --------------------------------------------------------------------------------------------------- */

/* The high half of a 256-bit product. */
static u128 mul_high(u128 a, u128 b) {
    u64 ah = (u64)(a >> 64), al = (u64)a, bh = (u64)(b >> 64), bl = (u64)b;
    u128 cross = (u128)ah * bl, other = (u128)al * bh;
    u128 middle = ((u128)al * bl >> 64) + (u64)cross + (u64)other;
    return (u128)ah * bh + (cross >> 64) + (other >> 64) + (middle >> 64);
}

static unsigned leading_zeros(u128 v) {
    u64 high = (u64)(v >> 64);
    return high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((u64)v);
}

static struct wide normal(bool sign, s32 e, u128 m) {
    if (!m) return (struct wide){.sign = sign};
    unsigned n = leading_zeros(m);
    return (struct wide){.sign = sign, .e = e - (s32)n, .m = m << n};
}

struct wide wide_mul(struct wide a, struct wide b) { return normal(a.sign != b.sign, a.e + b.e + 1, mul_high(a.m, b.m)); }

struct wide wide_div(struct wide a, struct wide b) {
    u128 rest = a.m, q = 0;
    s32 e = a.e - b.e;
    if (rest >= b.m) rest -= b.m, q = 1;
    for (int i = 0; i < 127; i++) {
        bool carry = rest >> 127;
        rest <<= 1;
        q <<= 1;
        if (carry || rest >= b.m) rest -= b.m, q |= 1;
    }
    return normal(a.sign != b.sign, e, q);
}

struct wide wide_add(struct wide a, struct wide b) {
    if (!a.m) return b;
    if (!b.m) return a;
    if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
        struct wide t = a;
        a = b, b = t;
    }
    unsigned shift = (unsigned)(a.e - b.e);
    u128 m = shift > 127 ? 0 : b.m >> shift;
    if (a.sign != b.sign) return normal(a.sign, a.e, a.m - m);
    u128 sum = a.m + m;
    if (sum < m) return (struct wide){.sign = a.sign, .e = a.e + 1, .m = sum >> 1 | TOP_BIT};
    return normal(a.sign, a.e, sum);
}

static struct wide of_integer(s64 v) { return normal(v < 0, 127, v < 0 ? (u128)0 - (u128)v : (u128)v); }

/* a, which is below 1, as a fraction. */
static u128 fraction(struct wide a) {
    unsigned shift = (unsigned)(-1 - a.e);
    return shift > 127 ? 0 : a.m >> shift;
}

/* 1 + q and 1 - q. What is cut away of 1 - q is never nothing: the value stays below 1, as the function's does. */
static struct wide one_plus(u128 q) { return normal(false, 0, TOP_BIT | q >> 1); }
static struct wide one_minus(u128 q) { return normal(false, 0, TOP_BIT - (q >> 1) - 1); }

/* ---- exponential and logarithm ------------------------------------------------------------------------------------ */

/* e^y - 1 = y (1 + y (1/2! + y (1/3! ...))) with |y| <= ln 2 */
struct wide math_exp2m1(struct wide x) {
    enum { TERMS = 32 };
    struct wide y = wide_mul(x, LN2);
    u128 a = fraction(y), sum = inverse_factorial[TERMS - 1];
    for (int n = TERMS - 2; n >= 0; n--) {
        u128 rest = mul_high(a, sum);
        sum = y.sign ? inverse_factorial[n] - rest : inverse_factorial[n] + rest;
    }
    sum = mul_high(a, sum);
    return wide_mul(y, y.sign ? one_minus(sum) : one_plus(sum));
}

/* log2((1 + s) / (1 - s)) = 2 s (1 + s^2/3 + s^4/5 ...) / ln 2 with |s| <= 3 - 2 sqrt(2) */
static struct wide log2_ratio(struct wide s) {
    enum { TERMS = 26 };
    if (!s.m) return s;
    u128 a = fraction(s), z = mul_high(a, a), sum = inverse_odd[TERMS - 1];
    for (int n = TERMS - 2; n >= 0; n--) sum = inverse_odd[n] + mul_high(z, sum);
    struct wide r = wide_mul(wide_mul(s, one_plus(mul_high(z, sum))), LOG2_E);
    r.e += r.m != 0;
    return r;
}

struct wide math_log2(struct wide x) {
    const u128 sqrt2 = Q(0xb504f333f9de6484, 0x597d89b3754abe9f), one = TOP_BIT;
    s32 k = x.e;
    struct wide below = {.sign = true, .e = 0, .m = one};
    x.e = 0;
    if (x.m > sqrt2) x.e = -1, k++;
    struct wide minus = wide_add(x, below);
    below.sign = false;
    return wide_add(of_integer(k), log2_ratio(wide_div(minus, wide_add(x, below))));
}

struct wide math_log2p1(struct wide x) {
    const struct wide one = {.e = 0, .m = TOP_BIT}, two = {.e = 1, .m = TOP_BIT};
    if (x.e >= -2) return math_log2(wide_add(one, x));
    return log2_ratio(wide_div(x, wide_add(two, x)));
}

/* ---- arctangent ---------------------------------------------------------------------------------------------------------- */

struct wide math_pi_quarters(unsigned quarters) {
    struct wide r = wide_mul(PI, of_integer(quarters));
    r.e -= 2;
    return r;
}

/* atan(t) = t (1 - t^2/3 + t^4/5 ...) with |t| <= 1/16 */
static struct wide atan_series(struct wide t) {
    enum { TERMS = 16 };
    if (!t.m) return t;
    u128 a = fraction(t), z = mul_high(a, a), sum = inverse_odd[TERMS - 1];
    for (int n = TERMS - 2; n >= 0; n--) sum = inverse_odd[n] - mul_high(z, sum);
    return wide_mul(t, one_minus(mul_high(z, sum)));
}

/* 0 < y <= x: atan(y/x) = atan(i/16) + atan((y - x i/16) / (x + y i/16)) */
static struct wide atan_ratio(struct wide y, struct wide x) {
    struct wide t = wide_div(y, x);
    unsigned i = t.e < -5 ? 0 : (unsigned)(((fraction(t) >> 123) + 1) >> 1);
    if (t.e >= 0) i = 16;
    if (i == 0) return atan_series(t);
    struct wide c = of_integer(i);
    c.e -= 4;
    struct wide cx = wide_mul(c, x), cy = wide_mul(c, y);
    cx.sign = !cx.sign;
    return wide_add(normal(false, -1, arctangent[i - 1]), atan_series(wide_div(wide_add(y, cx), wide_add(x, cy))));
}

struct wide math_atan2(struct wide y, struct wide x) {
    bool sign = y.sign, left = x.sign;
    y.sign = x.sign = false;
    bool steep = y.e > x.e || (y.e == x.e && y.m > x.m);
    struct wide a = steep ? atan_ratio(x, y) : atan_ratio(y, x);
    if (steep != left) a.sign = true;
    if (steep) a = wide_add(math_pi_quarters(2), a);
    else if (left) a = wide_add(math_pi_quarters(4), a);
    a.sign = sign;
    return a;
}

/* ---- sine and cosine ------------------------------------------------------------------------------------------------------- */

/* x = quadrant * pi/2 + r with |r| <= pi/4, exactly, pi having 66 bits: pi/2 is P * 2^-67. */
static struct wide reduce(struct wide x, unsigned *quadrant) {
    const u128 P = Q(0xc, 0x90fdaa22168c234c);
    *quadrant = 0;
    if (x.e < -1) return x;
    u128 rest = x.m >> 64; /* times 2^(e - 63): e + 4 doublings away from units of 2^-67 */
    for (s32 i = 0; i < x.e + 4; i++) {
        rest <<= 1;
        *quadrant = *quadrant << 1 & 3;
        while (rest >= P) rest -= P, ++*quadrant;
    }
    bool over = rest > P / 2;
    if (over) rest = P - rest, ++*quadrant;
    *quadrant &= 3;
    return normal(over, 127 - 67, rest);
}

/* sin r = r (1 - r^2 (1/3! - r^2 (1/5! ...))) and cos r = 1 - r^2 (1/2! - r^2 (1/4! ...)) */
static u128 alternating(u128 z, int first) {
    enum { LAST = 29 };
    u128 sum = 0;
    for (int n = LAST + first % 2 - 1; n >= first; n -= 2) sum = inverse_factorial[n - 2] - mul_high(z, sum);
    return mul_high(z, sum);
}

void math_sincos(struct wide x, struct wide *sine, struct wide *cosine) {
    bool sign = x.sign;
    unsigned quadrant;
    x.sign = false;
    struct wide r = reduce(x, &quadrant);
    u128 a = fraction(r), z = mul_high(a, a);
    struct wide s = r.m ? wide_mul(r, one_minus(alternating(z, 3))) : r, c = one_minus(alternating(z, 2));
    if (!r.m) c = (struct wide){.e = 0, .m = TOP_BIT};
    *sine = quadrant & 1 ? c : s;
    *cosine = quadrant & 1 ? s : c;
    if (quadrant & 2) sine->sign = !sine->sign;
    if (quadrant == 1 || quadrant == 2) cosine->sign = !cosine->sign;
    if (sign) sine->sign = !sine->sign;
}
