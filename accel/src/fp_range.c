/* fp_range.c - see fp_range.h: each lane once more and alone, by a scalar instruction; exactness by integers. */
#pragma GCC target("sse4.2")
#include "fp_range.h"

/* ---- is the exact value one of so many significant bits? ------------------------------------------------------------ */

/* m * 2^e; m is odd, or 0 for zero. */
struct term { u128 m; s32 e; bool sign; };

static unsigned bit_length(u128 m) {
    u64 high = (u64)(m >> 64);
    return high ? 128 - (unsigned)__builtin_clzll(high) : m ? 64 - (unsigned)__builtin_clzll((u64)m) : 0;
}

static struct term odd(u128 m, s32 e, bool sign) {
    if (!m) return (struct term){0, 0, sign};
    unsigned n = (u64)m ? (unsigned)__builtin_ctzll((u64)m) : 64 + (unsigned)__builtin_ctzll((u64)(m >> 64));
    return (struct term){m >> n, e + (s32)n, sign};
}

/* A finite float (size 4) or double (size 8). */
static struct term term_of(u64 bits, unsigned size, bool daz) {
    unsigned width = size == 4 ? 23 : 52, bias = size == 4 ? 127 : 1023;
    u32 exponent = (u32)(bits >> width) & (2 * bias + 1);
    u64 m = bits & (BIT(width) - 1);
    if (exponent) m |= BIT(width);
    else if (daz) m = 0;
    return odd(m, (s32)(exponent ? exponent : 1) - (s32)(bias + width), bits >> (8 * size - 1) & 1);
}

static struct term product(struct term a, struct term b) { return (struct term){a.m * b.m, a.e + b.e, a.sign != b.sign}; }

/* a has up to 106 bits, b up to 53. One that lies far above the other leaves a gap that no format holds. */
static bool sum_fits(struct term a, struct term b, unsigned precision) {
    if (!a.m || !b.m) return bit_length(a.m | b.m) <= precision;
    if (a.e < b.e) {
        struct term t = a;
        a = b, b = t;
    }
    unsigned gap = (unsigned)(a.e - b.e);
    if (gap + bit_length(a.m) > 126) return false;
    u128 m = a.m << gap;
    m = a.sign == b.sign ? m + b.m : m > b.m ? m - b.m : b.m - m;
    return bit_length(odd(m, 0, false).m) <= precision;
}

static bool exact(unsigned op, unsigned size, unsigned precision, const u64 *v, bool daz) {
    struct term x = term_of(v[0], size, daz), y = term_of(v[1], size, daz);
    switch (op) {
    case FP_ADD: return sum_fits(x, y, precision);
    case FP_MUL: return bit_length(product(x, y).m) <= precision;
    case FP_DIV: return x.m % y.m == 0;
    case FP_FMA: return sum_fits(product(x, y), term_of(v[2], size, daz), precision);
    default: return bit_length(y.m) <= precision;
    }
}

/* ---- tininess --------------------------------------------------------------------------------------------------------- */

/* Results that are denormal numbers, in the low `bytes`: they count also when they are exact. */
static bool denormal(vec v, unsigned lane, unsigned bytes) {
    unsigned width = lane == 2 ? 10 : lane == 4 ? 23 : 52;
    u8 b[16];
    st16(b, v);
    for (unsigned i = 0; i < bytes; i += lane) {
        u64 bits = 0;
        memcpy(&bits, b + i, lane);
        bits &= BIT(8 * lane - 1) - 1;
        if (bits && !(bits >> width)) return true;
    }
    return false;
}

/* ---- one lane ---------------------------------------------------------------------------------------------------------- */

static vec run_lane(unsigned op, unsigned lane, const u64 *v, struct fp_env *env) {
    struct fp_env e = *env;
    vec a = _mm_cvtsi64_si128((s64)v[0]), b = _mm_cvtsi64_si128((s64)v[1]), z = _mm_cvtsi64_si128((s64)v[2]);
    switch (op << 4 | lane) {
    case FP_ADD << 4 | 4: FP_SLOW("addss %2,%0", "+x"(a), "x"(b)); break;
    case FP_ADD << 4 | 8: FP_SLOW("addsd %2,%0", "+x"(a), "x"(b)); break;
    case FP_MUL << 4 | 4: FP_SLOW("mulss %2,%0", "+x"(a), "x"(b)); break;
    case FP_MUL << 4 | 8: FP_SLOW("mulsd %2,%0", "+x"(a), "x"(b)); break;
    case FP_DIV << 4 | 4: FP_SLOW("divss %2,%0", "+x"(a), "x"(b)); break;
    case FP_DIV << 4 | 8: FP_SLOW("divsd %2,%0", "+x"(a), "x"(b)); break;
    case FP_FMA << 4 | 4: FP_SLOW("vfmadd213ss %3,%2,%0", "+x"(a), "x"(b), "x"(z)); break;
    case FP_FMA << 4 | 8: FP_SLOW("vfmadd213sd %3,%2,%0", "+x"(a), "x"(b), "x"(z)); break;
    case FP_NARROW << 4 | 4: FP_SLOW("cvtsd2ss %2,%0", "+x"(a), "x"(b)); break;
    case FP_HALF << 4 | 2: FP_SLOW("vcvtps2ph $4,%2,%0", "=x"(a), "x"(b)); break;
    default: __builtin_unreachable();
    }
    env->after = e.after;
    return a;
}

/* size: of the operands. */
static u32 lane_flags(const accel_cpu *c, const struct fp_env *env, unsigned op, unsigned lane, unsigned size, const u64 *v) {
    static const u8 precision[9] = {[2] = 11, [4] = 24, [8] = 53};
    struct fp_env e = *env;
    bool tiny = denormal(run_lane(op, lane, v, &e), lane, lane);
    u32 unmasked = ~(c->mxcsr >> 7), raised = (e.after & MXCSR_FLAGS) | (tiny ? MXCSR_UE & unmasked : 0);
    if (!(raised & unmasked & (MXCSR_OE | MXCSR_UE))) return raised;
    bool daz = c->mxcsr & MXCSR_DAZ && op != FP_HALF;
    return (raised & ~(u32)MXCSR_PE) | (exact(op, size, precision[lane], v, daz) ? 0 : MXCSR_PE);
}

/* ---- all lanes ----------------------------------------------------------------------------------------------------------- */

static u64 element(const void *p, unsigned size, unsigned i) {
    u64 v = 0;
    if (p) memcpy(&v, (const u8 *)p + size * i, size);
    return v;
}

static u32 all_flags(const accel_cpu *c, const struct fp_env *e, const struct fp_lanes *l) {
    unsigned op = l->op & FP_KIND, size = op == FP_NARROW ? 8 : op == FP_HALF ? 4 : l->lane, n = l->bytes / l->lane;
    u32 flags = 0;
    for (unsigned i = 0; i < n; i++) {
        u64 sign = BIT(8 * size - 1), v[3] = {element(l->x, size, i), element(l->y, size, i), element(l->z, size, i)};
        if (l->op & FP_PAIRS) {
            const void *from = i < n / 2 ? l->x : l->y;
            v[0] = element(from, size, 2 * i % n), v[1] = element(from, size, 2 * i % n + 1);
        }
        bool minus = l->op & FP_MINUS;
        if (l->op & FP_TURNS && !(i & 1)) minus = !minus;
        if (minus) v[op == FP_FMA ? 2 : 1] ^= sign;
        if (l->op & FP_NEGATED) v[0] ^= sign;
        flags |= lane_flags(c, e, op, l->lane, size, v);
    }
    return flags;
}

void fp_range(const accel_cpu *c, struct fp_env *e, unsigned n, const vec *results, const struct fp_lanes *l) {
    u32 unmasked = ~(c->mxcsr >> 7) & (MXCSR_OE | MXCSR_UE), raised = e->after, flags = 0;
    if (!unmasked || l->op == FP_NONE) return;
    for (unsigned i = 0; i < n; i++)
        if (denormal(results[i], l[i].lane, l[i].bytes)) raised |= MXCSR_UE;
    if (!(raised & unmasked)) return;
    for (unsigned i = 0; i < n; i++) flags |= all_flags(c, e, &l[i]);
    e->after = flags;
}
