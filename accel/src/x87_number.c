/* x87_number.c - see x87_number.h. */
#include "x87_number.h"

enum { BIAS = 16383, MAX_EXPONENT = 0x7fff, WRAP = 0x6000 /* SDM vol. 1, "Numeric Underflow Exception" */ };

static const u8 indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};

struct raw { u64 m; u16 head; };

static struct raw raw_of(const u8 *p) {
    struct raw r;
    memcpy(&r.m, p, 8);
    memcpy(&r.head, p + 8, 2);
    return r;
}

static void put_raw(u8 *p, u64 m, u32 e, bool sign) {
    u16 head = (u16)(e | (u32)sign << 15);
    memcpy(p, &m, 8);
    memcpy(p + 8, &head, 2);
}

/* ---- operands ------------------------------------------------------------------------------------------------------------ */

static bool is_nan(struct raw r) { return (r.head & MAX_EXPONENT) == MAX_EXPONENT && r.m >> 63 && r.m << 1; }
static bool is_signalling(struct raw r) { return is_nan(r) && !(r.m >> 62 & 1); }
/* Unnormals, pseudo-infinities and pseudo-NaNs (SDM vol. 1, "Unsupported Double Extended-Precision Encodings"). */
static bool is_unsupported(struct raw r) { return (r.head & MAX_EXPONENT) && !(r.m >> 63); }

static struct x87_number number_of(struct raw r) {
    unsigned e = r.head & MAX_EXPONENT, shift;
    struct x87_number n = {.kind = X87_FINITE, .v = {.sign = r.head >> 15}};
    if (e == MAX_EXPONENT) n.kind = X87_INFINITE;
    else if (!r.m) n.kind = X87_ZERO;
    if (n.kind != X87_FINITE) return n;
    shift = (unsigned)__builtin_clzll(r.m);
    n.denormal = e == 0;
    n.v.e = (s32)(e ? e : 1) - BIAS - (s32)shift;
    n.v.m = (u128)r.m << (64 + shift);
    return n;
}

/* Of two NaNs: a quiet one before a signalling one, then the larger significand, then the positive one (SDM vol. 1, "Rules for
 * Handling NaNs"). */
static struct raw prevailing(struct raw a, struct raw b) {
    if (!is_nan(b)) return a;
    if (!is_nan(a)) return b;
    if (is_signalling(a) != is_signalling(b)) return is_signalling(a) ? b : a;
    if (a.m != b.m) return a.m > b.m ? a : b;
    return a.head >> 15 ? b : a;
}

/* ---- results ------------------------------------------------------------------------------------------------------------- */

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

/* Masked overflow. */
static unsigned overflow(const accel_cpu *c, bool sign, u8 *p) {
    unsigned rc = c->fpu.cw >> 10 & 3;
    bool up = rc == 0 || rc == (sign ? 1 : 2);
    put_raw(p, up ? BIT(63) : ~0ull, up ? MAX_EXPONENT : MAX_EXPONENT - 1, sign);
    return FSW_OE | FSW_PE | (up ? FSW_C1 : 0);
}

/* Unmasked, and beyond the format even with the exponent biased: an infinity or a zero (SDM vol. 1, "Numeric Overflow
 * Exception", "Numeric Underflow Exception" of the x87). */
static unsigned massive(bool over, bool sign, u8 *p) {
    put_raw(p, over ? BIT(63) : 0, over ? MAX_EXPONENT : 0, sign);
    return (over ? FSW_OE | FSW_C1 : FSW_UE) | FSW_PE;
}

/* Rounds v into the register at p; the flags raised, with C1 when it was rounded up in magnitude. */
static unsigned round_to(const accel_cpu *c, struct wide v, bool inexact, u8 *p) {
    unsigned flags = 0;
    bool up = rounds_up(c, v.sign, v.m);
    u64 m = (u64)(v.m >> 64) + up;
    s32 e = v.e + BIAS;
    inexact |= (u64)v.m != 0;
    if (!m) m = BIT(63), e++;
    if (e >= MAX_EXPONENT) {
        if (c->fpu.cw & FSW_OE) return overflow(c, v.sign, p);
        flags = FSW_OE, e -= WRAP;
        if (e >= MAX_EXPONENT) return massive(true, v.sign, p);
    } else if (e <= 0 && !(c->fpu.cw & FSW_UE)) {
        flags = FSW_UE, e += WRAP;
        if (e <= 0) return massive(false, v.sign, p);
    } else if (e <= 0) {
        unsigned shift = (unsigned)(1 - (v.e + BIAS));
        u128 cut = shift > 127 ? 1 : v.m >> shift | ((v.m & (((u128)1 << shift) - 1)) != 0);
        inexact |= (u64)cut != 0;
        up = rounds_up(c, v.sign, cut);
        m = (u64)(cut >> 64) + up;
        e = m >> 63;
        flags = inexact ? FSW_UE : 0;
    }
    put_raw(p, m, (u32)e, v.sign);
    return flags | (inexact ? FSW_PE : 0) | (up ? FSW_C1 : 0);
}

static unsigned put_result(const accel_cpu *c, const struct x87_result *r, u8 *p) {
    switch (r->n.kind) {
    case X87_FINITE: return round_to(c, r->n.v, r->inexact, p);
    case X87_ZERO: put_raw(p, 0, 0, r->n.v.sign); break;
    case X87_INFINITE: put_raw(p, BIT(63), MAX_EXPONENT, r->n.v.sign); break;
    default: memcpy(p, indefinite, 10); break;
    }
    return 0;
}

/* ---- before and behind --------------------------------------------------------------------------------------------------- */

/* Without a number for a result C0 and C3 stay. */
enum { NO_NUMBER = FSW_C1 | FSW_C2 };

static void done(accel_cpu *c, const struct op *o, unsigned flags, unsigned defined) {
    c->fpu.sw = (u16)((c->fpu.sw & ~defined) | flags);
    fpu_update_es(c);
    fpu_note(c, o);
    if (c->fpu.sw & FSW_ES) c->fpu.fop = (u16)(1 << 8 | 0xc0 | (o->reg & 7u) << 3 | (o->rm & 7u));
}

/* The same bytes are all results. */
static void deliver_nan(accel_cpu *c, const struct op *o, unsigned shape, unsigned defined, unsigned flags, const u8 *nan) {
    if (!(flags & ~c->fpu.cw & FSW_IE)) {
        unsigned to = shape & X87_POPS ? 1 : 0;
        memcpy(fpu_st(c, to), nan, 10);
        c->fpu.tag |= (u8)(1u << fpu_reg(c, to));
        if (shape & X87_POPS) fpu_pop(c);
        if (shape & X87_PUSHES) memcpy(fpu_push(c), nan, 10);
    }
    done(c, o, flags, defined & NO_NUMBER);
}

bool x87_fetch(accel_cpu *c, const struct op *o, unsigned shape, unsigned defined, struct x87_number *a) {
    unsigned n = shape & X87_OPERANDS;
    bool empty = false, unsupported = false, signalling = false, nan = false;
    struct raw r[2] = {{0, 0}, {0, 0}};
    for (unsigned i = 0; i < n; i++) {
        r[i] = raw_of(fpu_st(c, i));
        empty |= !fpu_used(c, i);
        unsupported |= is_unsupported(r[i]);
        signalling |= is_signalling(r[i]);
        nan |= is_nan(r[i]);
        a[i] = number_of(r[i]);
    }
    bool full = shape & X87_PUSHES && fpu_used(c, 7);
    if (empty || full) {
        deliver_nan(c, o, shape, defined | FSW_C1, FSW_IE | FSW_SF | (empty ? 0 : FSW_C1), indefinite);
    } else if (unsupported) {
        deliver_nan(c, o, shape, defined, FSW_IE, indefinite);
    } else if (nan) {
        u8 result[10];
        struct raw p = prevailing(r[0], r[1]);
        put_raw(result, p.m | BIT(62), p.head & MAX_EXPONENT, p.head >> 15);
        deliver_nan(c, o, shape, defined, signalling ? FSW_IE : 0, result);
    } else {
        return true;
    }
    return false;
}

void x87_deliver(accel_cpu *c, const struct op *o, unsigned shape, unsigned defined, const struct x87_number *a,
                 const struct x87_result *r) {
    unsigned flags = r[0].flags;
    if (flags & FSW_IE) defined &= NO_NUMBER;
    if (!(flags & (FSW_IE | FSW_ZE)) && (a[0].denormal || a[1].denormal)) flags |= FSW_DE;
    if (flags & ~c->fpu.cw & (FSW_IE | FSW_ZE | FSW_DE)) {
        flags &= ~(unsigned)FSW_CC;
        defined &= NO_NUMBER;
    } else if (!r[0].unchanged) {
        flags |= put_result(c, &r[0], fpu_st(c, shape & X87_POPS ? 1 : 0));
        if (shape & X87_POPS) fpu_pop(c);
        if (shape & X87_PUSHES) {
            if (r[1].inexact) flags &= ~(unsigned)FSW_C1;
            flags |= put_result(c, &r[1], fpu_push(c));
        }
    }
    done(c, o, flags, defined);
}
