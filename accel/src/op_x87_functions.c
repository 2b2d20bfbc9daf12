/*
 * op_x87_functions.c - F2XM1 FYL2X FYL2XP1 FPATAN FPTAN FSIN FCOS FSINCOS, on every operand, by x87_math.c.
 *
 * The results for zeros and infinities are those of the tables in SDM vol. 2; any other is inexact, as processors say. Where the
 * manual leaves the result undefined it is the operand: F2XM1 beyond [-1, 1], FYL2XP1 of -1 and below; FYL2XP1 above its range
 * is exact all the same.
 */
#include "x87_number.h"

static int compare_to_one(struct wide x) {
    const u128 one = (u128)1 << 127;
    return x.e != 0 ? (x.e > 0 ? 1 : -1) : x.m > one;
}

/* ---- exponential and logarithm ------------------------------------------------------------------------------------------- */

static void f2xm1(const struct x87_number *a, struct x87_result *r) {
    struct wide v = a->v;
    if (a->kind == X87_ZERO) {
        *r = x87_signed(X87_ZERO, v.sign);
    } else if (a->kind == X87_INFINITE) {
        *r = v.sign ? x87_one(true) : x87_signed(X87_INFINITE, false);
    } else {
        int one = compare_to_one(v);
        if (one < 0) v = math_exp2m1(v);
        else if (one == 0 && v.sign) v.e = -1;
        *r = x87_series(v);
    }
}

/* y times a logarithm whose sign is known: y or the logarithm is a zero or an infinity. */
static struct x87_result scaled(const struct x87_number *y, enum x87_kind logarithm, bool negative) {
    bool zero = y->kind == X87_ZERO || logarithm == X87_ZERO, infinite = y->kind == X87_INFINITE || logarithm == X87_INFINITE;
    if (zero && infinite) return x87_invalid();
    return x87_signed(zero ? X87_ZERO : X87_INFINITE, y->v.sign != negative);
}

static void fyl2x(const struct x87_number *a, struct x87_result *r) {
    const struct x87_number *x = &a[0], *y = &a[1];
    int one = x->kind == X87_FINITE ? compare_to_one(x->v) : 0;
    if (x->v.sign && x->kind != X87_ZERO) {
        *r = x87_invalid();
    } else if (x->kind != X87_FINITE) {
        *r = scaled(y, X87_INFINITE, x->kind == X87_ZERO);
        if (x->kind == X87_ZERO && y->kind == X87_FINITE) r->flags = FSW_ZE;
    } else if (y->kind != X87_FINITE || one == 0) {
        *r = scaled(y, one ? X87_FINITE : X87_ZERO, one < 0);
    } else {
        *r = x87_series(wide_mul(y->v, math_log2(x->v)));
    }
}

static void fyl2xp1(const struct x87_number *a, struct x87_result *r) {
    const struct x87_number *x = &a[0], *y = &a[1];
    if (x->kind == X87_INFINITE && x->v.sign) *r = x87_invalid();
    else if (x->kind != X87_FINITE || y->kind != X87_FINITE) *r = scaled(y, x->kind, x->v.sign);
    else *r = x87_series(x->v.sign && compare_to_one(x->v) >= 0 ? x->v : wide_mul(y->v, math_log2p1(x->v)));
}

/* ---- arctangent ---------------------------------------------------------------------------------------------------------- */

/* In quarters of pi (SDM vol. 2, table "FPATAN Results"); 0: none, or the result is a zero. */
static unsigned special_angle(const struct x87_number *y, const struct x87_number *x) {
    if (y->kind == X87_ZERO) return x->v.sign ? 4 : 0;
    if (y->kind == X87_INFINITE) return x->kind != X87_INFINITE ? 2 : x->v.sign ? 3 : 1;
    if (x->kind == X87_INFINITE) return x->v.sign ? 4 : 0;
    return x->kind == X87_ZERO ? 2 : 0;
}

static void fpatan(const struct x87_number *a, struct x87_result *r) {
    const struct x87_number *x = &a[0], *y = &a[1];
    unsigned quarters = special_angle(y, x);
    if (quarters) *r = x87_series(math_pi_quarters(quarters));
    else if (x->kind == X87_FINITE && y->kind == X87_FINITE) *r = x87_series(math_atan2(y->v, x->v));
    r->n.v.sign = y->v.sign;
}

/* ---- sine, cosine, tangent ----------------------------------------------------------------------------------------------- */

/* The sine in r[0] and the cosine in r[1]; false: r[0] is not that of a computed angle. */
static bool sine_cosine(const struct x87_number *a, struct x87_result *r) {
    struct wide sine, cosine;
    if (a->kind == X87_INFINITE) {
        r[0] = r[1] = x87_invalid();
        return false;
    }
    if (a->kind == X87_ZERO) {
        r[0] = x87_signed(X87_ZERO, a->v.sign), r[1] = x87_one(false);
        return false;
    }
    if (a->v.e >= 63) {
        r[0] = r[1] = (struct x87_result){.flags = FSW_C2, .unchanged = true};
        return false;
    }
    math_sincos(a->v, &sine, &cosine);
    r[0] = x87_series(sine), r[1] = x87_series(cosine);
    return true;
}

static void fsin(const struct x87_number *a, struct x87_result *r) { sine_cosine(a, r); }
static void fcos(const struct x87_number *a, struct x87_result *r) {
    sine_cosine(a, r);
    r[0] = r[1];
}
static void fsincos(const struct x87_number *a, struct x87_result *r) { sine_cosine(a, r); }
static void fptan(const struct x87_number *a, struct x87_result *r) {
    struct wide above = a->v; /* x (1 + x^2/3 ...), when that has more than 128 bits */
    if (!sine_cosine(a, r)) return;
    above.m |= 1;
    r[0] = x87_series(above.e < -62 ? above : wide_div(r[0].n.v, r[1].n.v));
    r[1] = x87_one(false);
}

X87_FUNCTION(f2xm1, X87_ONE, FSW_C1)
X87_FUNCTION(fyl2x, X87_TWO | X87_POPS, FSW_C1)
X87_FUNCTION(fyl2xp1, X87_TWO | X87_POPS, FSW_C1)
X87_FUNCTION(fpatan, X87_TWO | X87_POPS, FSW_C1)
X87_FUNCTION(fptan, X87_ONE | X87_PUSHES, FSW_C1 | FSW_C2)
X87_FUNCTION(fsin, X87_ONE, FSW_C1 | FSW_C2)
X87_FUNCTION(fcos, X87_ONE, FSW_C1 | FSW_C2)
X87_FUNCTION(fsincos, X87_ONE | X87_PUSHES, FSW_C1 | FSW_C2)
