/*
 * op_x87_scale.c - FPREM FPREM1 FSCALE FXTRACT in integers.
 *
 * How far a partial remainder goes when the exponents are 64 or more apart is the processor's choice, between 32 and 63 bits (SDM
 * vol. 2, FPREM): here, as on known processors, by 32 + (difference mod 32) bits.
 */
#include "x87_number.h"

/* ---- remainders ---------------------------------------------------------------------------------------------------------- */

/* rest = (x mod y * 2^scale) with its quotient's low bits: `bits` + 1 steps of a long division of significands. */
static u128 divide(u128 x, u128 y, unsigned bits, u64 *quotient) {
    u64 q = 0;
    for (unsigned i = 0;; i++) {
        q <<= 1;
        if (x >= y) x -= y, q |= 1;
        if (i == bits) break;
        x <<= 1;
    }
    *quotient = q;
    return x;
}

static struct wide from_integer(bool sign, u128 m, s32 lowest) {
    struct wide v = {.sign = sign};
    if (!m) return v;
    u64 high = (u64)(m >> 64);
    unsigned zeros = high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((u64)m);
    v.m = m << zeros;
    v.e = lowest + 127 - (s32)zeros;
    return v;
}

static unsigned quotient_bits(u64 q) { return (q & 4 ? FSW_C0 : 0) | (q & 2 ? FSW_C3 : 0) | (q & 1 ? FSW_C1 : 0); }

/* x and y finite. */
static struct x87_result remainder_of(struct wide x, struct wide y, bool nearest) {
    s32 distance = x.e - y.e;
    u128 mx = x.m >> 64, my = y.m >> 64, rest;
    u64 q = 0;
    bool sign = x.sign;
    struct x87_result r;
    if (distance >= 64) {
        unsigned bits = 32 + ((unsigned)distance & 31);
        rest = divide(mx, my, bits, &q);
        r = x87_exact(from_integer(sign, rest, y.e + distance - (s32)bits - 63));
        r.flags = FSW_C2;
        return r;
    }
    if (distance < -1 || (distance < 0 && !nearest)) return x87_exact(x);
    s32 lowest = y.e - 63;
    if (distance < 0) rest = mx, my <<= 1, lowest--;
    else rest = divide(mx, my, (unsigned)distance, &q);
    if (nearest && (2 * rest > my || (2 * rest == my && (q & 1)))) rest = my - rest, sign = !sign, q++;
    if (!rest) sign = x.sign;
    r = x87_exact(from_integer(sign, rest, lowest));
    r.flags = quotient_bits(q);
    return r;
}

static void remainder_to(const struct x87_number *a, struct x87_result *r, bool nearest) {
    if (a[0].kind == X87_INFINITE || a[1].kind == X87_ZERO) *r = x87_invalid();
    else if (a[0].kind == X87_ZERO) *r = x87_signed(X87_ZERO, a[0].v.sign);
    else if (a[1].kind == X87_INFINITE) *r = x87_exact(a[0].v);
    else *r = remainder_of(a[0].v, a[1].v, nearest);
}
static void fprem(const struct x87_number *a, struct x87_result *r) { remainder_to(a, r, false); }
static void fprem1(const struct x87_number *a, struct x87_result *r) { remainder_to(a, r, true); }

/* ---- exponents ----------------------------------------------------------------------------------------------------------- */

/* y cut to an integer, at most FAR from 0. */
static s32 whole(struct wide y) {
    enum { FAR = 0x20000 };
    if (y.e < 0) return 0;
    s32 n = y.e > 16 ? FAR : (s32)(y.m >> (127 - y.e));
    return y.sign ? -n : n;
}

static void fscale(const struct x87_number *a, struct x87_result *r) {
    const struct x87_number *x = &a[0], *y = &a[1];
    if (y->kind == X87_INFINITE) {
        enum x87_kind kind = y->v.sign ? X87_ZERO : X87_INFINITE;
        bool never = x->kind != X87_FINITE && x->kind != kind;
        *r = never ? x87_invalid() : x87_signed(kind, x->v.sign);
        return;
    }
    *r = (struct x87_result){.n = *x};
    if (y->kind == X87_FINITE) r->n.v.e += whole(y->v);
}

static void fxtract(const struct x87_number *a, struct x87_result *r) {
    if (a->kind != X87_FINITE) {
        r[0] = x87_signed(X87_INFINITE, a->kind == X87_ZERO);
        if (a->kind == X87_ZERO) r[0].flags = FSW_ZE;
        r[1] = x87_signed(a->kind, a->v.sign);
        return;
    }
    struct wide significand = a->v;
    bool sign = a->v.e < 0;
    significand.e = 0;
    r[0] = x87_exact(from_integer(sign, (u128)(u32)(sign ? -a->v.e : a->v.e), 0));
    r[1] = x87_exact(significand);
}

X87_FUNCTION(fprem, X87_TWO, FSW_CC)
X87_FUNCTION(fprem1, X87_TWO, FSW_CC)
X87_FUNCTION(fscale, X87_TWO, FSW_C1)
X87_FUNCTION(fxtract, X87_ONE | X87_PUSHES, FSW_C1)
