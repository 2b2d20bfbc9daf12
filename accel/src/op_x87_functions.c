/*
 * op_x87_functions.c - F2XM1 FYL2X FYL2XP1 FPATAN FPTAN FSIN FCOS FSINCOS.
 *
 * Finite operands other than zeros are computed by x87_math.c and rounded here as the control word says; PE is always set then,
 * as processors do. Everything else has a result that the manual defines (SDM vol. 1, chapter 8: empty registers, NaNs, zeros,
 * infinities, arguments beyond 2^63, an unmasked denormal operand) and is the host's. Where the manual leaves the result
 * undefined it is the operand: F2XM1 beyond [-1, 1], FYL2XP1 of -1 and below; FYL2XP1 above its range is exact all the same.
 */
#include "x87_host.h"
#include "x87_math.h"

/* ---- operands and results ------------------------------------------------------------------------------------------- */

enum kind { ZERO, FINITE, INFINITE, OTHER /* NaN or no valid format */ };
struct operand { enum kind kind; bool denormal; struct wide v; };

enum { BIAS = 16383, MAX_EXPONENT = 0x7fff, WRAP = 0x6000 /* SDM vol. 1, "Numeric Underflow Exception" */ };

static struct operand unpack(const u8 *p) {
    u64 m;
    u16 head;
    memcpy(&m, p, 8);
    memcpy(&head, p + 8, 2);
    unsigned e = head & MAX_EXPONENT, shift;
    struct operand o = {.kind = FINITE, .denormal = e == 0, .v = {.sign = head >> 15}};
    if (e ? !(m >> 63) : !m) o.kind = e ? OTHER : ZERO, o.denormal = false;
    else if (e == MAX_EXPONENT) o.kind = m << 1 ? OTHER : INFINITE;
    if (o.kind != FINITE) return o;
    shift = (unsigned)__builtin_clzll(m);
    o.v.e = (s32)(e ? e : 1) - BIAS - (s32)shift;
    o.v.m = (u128)m << (64 + shift);
    return o;
}

/* Whether the part of m below its upper half makes that half one greater. */
static bool rounds_up(const accel_cpu *c, bool sign, u128 m) {
    u64 kept = (u64)(m >> 64), rest = (u64)m;
    switch (c->fpu.cw >> 10 & 3) {
    case 0: return rest > BIT(63) || (rest == BIT(63) && (kept & 1));
    case 1: return sign && rest;
    case 2: return !sign && rest;
    default: return false;
    }
}

/* Rounds v into the register at p; the flags raised, with C1 when it was rounded up in magnitude. */
static unsigned round_to(const accel_cpu *c, struct wide v, u8 *p) {
    unsigned flags = FSW_PE;
    bool up = rounds_up(c, v.sign, v.m);
    u64 m = (u64)(v.m >> 64) + up;
    s32 e = v.e + BIAS;
    if (!m) m = BIT(63), e++;
    if (e <= 0) {
        flags |= FSW_UE;
        if (!(c->fpu.cw & FSW_UE)) {
            e += WRAP;
        } else {
            unsigned shift = (unsigned)(1 - (v.e + BIAS));
            u128 cut = shift > 127 ? 1 : v.m >> shift | ((v.m & (((u128)1 << shift) - 1)) != 0);
            up = rounds_up(c, v.sign, cut);
            m = (u64)(cut >> 64) + up;
            e = m >> 63;
        }
    } else if (e >= MAX_EXPONENT) {
        flags |= FSW_OE;
        unsigned rc = c->fpu.cw >> 10 & 3;
        up = rc == 0 || rc == (v.sign ? 1 : 2);
        if (!(c->fpu.cw & FSW_OE)) e -= WRAP, up = rounds_up(c, v.sign, v.m);
        else m = up ? BIT(63) : ~0ull, e = up ? MAX_EXPONENT : MAX_EXPONENT - 1;
    }
    u16 head = (u16)((u32)e | (u32)v.sign << 15);
    memcpy(p, &m, 8);
    memcpy(p + 8, &head, 2);
    return flags | (up ? FSW_C1 : 0);
}

/* What every one of them leaves behind; `clear`: condition bits that are defined. */
static bool done(accel_cpu *c, const struct op *o, unsigned flags, bool denormal, unsigned clear) {
    c->fpu.sw = (u16)((c->fpu.sw & ~clear) | flags | (denormal ? FSW_DE : 0));
    fpu_update_es(c);
    fpu_note(c, o);
    if (c->fpu.sw & FSW_ES) c->fpu.fop = (u16)(1 << 8 | 0xc0 | (o->reg & 7u) << 3 | (o->rm & 7u));
    return true;
}

/* The operand in ST(i), if this file computes with its kind. */
static bool get(accel_cpu *c, unsigned i, struct operand *x) {
    if (!fpu_used(c, i)) return false;
    *x = unpack(fpu_st(c, i));
    return x->kind != OTHER && !(x->denormal && !(c->fpu.cw & FSW_DE));
}

/* ---- the functions: false if the case is not this file's -------------------------------------------------------------- */

static int compare_to_one(struct wide x) {
    const u128 one = (u128)1 << 127;
    return x.e != 0 ? (x.e > 0 ? 1 : -1) : x.m > one;
}

static bool own_f2xm1(accel_cpu *c, const struct op *o) {
    struct operand x;
    if (!get(c, 0, &x) || x.kind != FINITE) return false;
    struct wide v = x.v;
    int one = compare_to_one(v);
    if (one < 0) v = math_exp2m1(v);
    else if (one == 0 && v.sign) v.e = -1;
    return done(c, o, round_to(c, v, fpu_st(c, 0)), x.denormal, FSW_C1);
}

/* The result of two operands replaces both. */
static bool give_popped(accel_cpu *c, const struct op *o, struct wide v, bool denormal) {
    unsigned flags = round_to(c, v, fpu_st(c, 1));
    fpu_pop(c);
    return done(c, o, flags, denormal, FSW_C1);
}

static bool own_fyl2x(accel_cpu *c, const struct op *o) {
    struct operand x, y;
    if (!get(c, 0, &x) || !get(c, 1, &y) || x.kind != FINITE || y.kind != FINITE || x.v.sign || !compare_to_one(x.v)) return false;
    return give_popped(c, o, wide_mul(y.v, math_log2(x.v)), x.denormal || y.denormal);
}

static bool own_fyl2xp1(accel_cpu *c, const struct op *o) {
    struct operand x, y;
    if (!get(c, 0, &x) || !get(c, 1, &y) || x.kind != FINITE || y.kind != FINITE) return false;
    struct wide v = x.v.sign && compare_to_one(x.v) >= 0 ? x.v : wide_mul(y.v, math_log2p1(x.v));
    return give_popped(c, o, v, x.denormal || y.denormal);
}

/* In quarters of pi (SDM vol. 2, table "FPATAN Results"); 0: none, or the result is a zero. */
static unsigned special_angle(const struct operand *y, const struct operand *x) {
    if (y->kind == ZERO) return x->v.sign ? 4 : 0;
    if (y->kind == INFINITE) return x->kind != INFINITE ? 2 : x->v.sign ? 3 : 1;
    if (x->kind == INFINITE) return x->v.sign ? 4 : 0;
    return x->kind == ZERO ? 2 : 0;
}

static bool own_fpatan(accel_cpu *c, const struct op *o) {
    struct operand x, y;
    if (!get(c, 0, &x) || !get(c, 1, &y)) return false;
    unsigned quarters = special_angle(&y, &x);
    if (!quarters && (x.kind != FINITE || y.kind != FINITE)) return false;
    struct wide v = quarters ? math_pi_quarters(quarters) : math_atan2(y.v, x.v);
    v.sign = y.v.sign;
    return give_popped(c, o, v, x.denormal || y.denormal);
}

/* FSIN FCOS FSINCOS FPTAN take what they compute with alike. */
static bool angle(accel_cpu *c, struct operand *x, bool pushes, struct wide *sine, struct wide *cosine) {
    if (!get(c, 0, x) || x->kind != FINITE || x->v.e >= 63 || (pushes && fpu_used(c, 7))) return false;
    math_sincos(x->v, sine, cosine);
    return true;
}

static bool own_fsin(accel_cpu *c, const struct op *o) {
    struct operand x;
    struct wide sine, cosine;
    if (!angle(c, &x, false, &sine, &cosine)) return false;
    return done(c, o, round_to(c, sine, fpu_st(c, 0)), x.denormal, FSW_C1 | FSW_C2);
}

static bool own_fcos(accel_cpu *c, const struct op *o) {
    struct operand x;
    struct wide sine, cosine;
    if (!angle(c, &x, false, &sine, &cosine)) return false;
    return done(c, o, round_to(c, cosine, fpu_st(c, 0)), x.denormal, FSW_C1 | FSW_C2);
}

static bool own_fsincos(accel_cpu *c, const struct op *o) {
    struct operand x;
    struct wide sine, cosine;
    if (!angle(c, &x, true, &sine, &cosine)) return false;
    unsigned flags = round_to(c, sine, fpu_st(c, 0)) & ~(unsigned)FSW_C1;
    flags |= round_to(c, cosine, fpu_push(c));
    return done(c, o, flags, x.denormal, FSW_C1 | FSW_C2);
}

static bool own_fptan(accel_cpu *c, const struct op *o) {
    static const u8 one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
    struct operand x;
    struct wide sine, cosine;
    if (!angle(c, &x, true, &sine, &cosine)) return false;
    unsigned flags = round_to(c, wide_div(sine, cosine), fpu_st(c, 0));
    memcpy(fpu_push(c), one, 10);
    return done(c, o, flags, x.denormal, FSW_C1 | FSW_C2);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------------- */

#define FUNCTION(name, defined) \
    SLOW_HANDLER(h_##name##_r) { \
        struct x87_image im; \
        if (!fpu_wait(c)) return false; \
        if (own_##name(c, o)) return true; \
        x87_load(c, &im); \
        X87_RUN(&im, #name); \
        x87_commit(c, o, &im, defined, 0xd9); \
        return true; \
    }
FUNCTION(f2xm1, FSW_C1)
FUNCTION(fyl2x, FSW_C1)
FUNCTION(fyl2xp1, FSW_C1)
FUNCTION(fpatan, FSW_C1)
FUNCTION(fptan, FSW_C1 | FSW_C2)
FUNCTION(fsin, FSW_C1 | FSW_C2)
FUNCTION(fcos, FSW_C1 | FSW_C2)
FUNCTION(fsincos, FSW_C1 | FSW_C2)
