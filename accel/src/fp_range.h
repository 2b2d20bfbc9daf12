/*
 * fp_range.h - the flags of an SSE or AVX operation that overflows or underflows while that is unmasked.
 *
 * Masked, such a result is inexact when the infinity, the denormal number or the zero that is stored differs from the exact
 * value. Unmasked, nothing is stored, and PE says whether the exact value, rounded as if the exponent had no bounds, is
 * inexact (SDM vol. 1, "Numeric Overflow Exception", "Numeric Underflow Exception" and the appendix on SIMD handlers). A host
 * instruction with all exceptions masked tells the former only.
 */
#ifndef FP_RANGE_H
#define FP_RANGE_H

#include "vec.h"

/* What a lane computes from its operands x, y and z. */
enum fp_op {
    FP_NONE,         /* cannot overflow or underflow */
    FP_ADD,          /* x + y */
    FP_MUL,          /* x * y */
    FP_DIV,          /* x / y */
    FP_FMA,          /* x * y + z */
    FP_NARROW,       /* y as a float */
    FP_HALF,         /* y as a half */
    FP_KIND = 7,
    FP_MINUS = 8,    /* the addend is subtracted */
    FP_NEGATED = 16, /* the product is */
    FP_TURNS = 32,   /* in lanes 0, 2 ... the sign of the addend is the other one */
    FP_PAIRS = 64,   /* x and y are neighbours: those of the first operand, then those of the second */
    FP_SUB = FP_ADD | FP_MINUS,
};

/* Up to 16 bytes of results: op is an fp_op, lane the size of a result, `bytes` that of all. x, y, z: operands, or NULL. */
struct fp_lanes { unsigned op, lane, bytes; const void *x, *y, *z; };

/* Replaces e->after, which n host instructions with `results` left, where the masks of c->mxcsr make a difference. */
void fp_range(const accel_cpu *c, struct fp_env *e, unsigned n, const vec *results, const struct fp_lanes *l);

#endif
