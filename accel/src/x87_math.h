/*
 * x87_math.h - the transcendental functions of the x87 on numbers with 128 significant bits.
 *
 * Integer arithmetic only: the results do not depend on the host. Every function is right to a relative error below 2^-116, so that
 * rounding its result to the 64 bits of an x87 register gives the correctly rounded one in all but one of about 2^50 cases
 * and never errs by more than 0.5001 units in the last place; tests/accel/test_x87_math.py measures it. Trigonometric
 * functions are those of the argument reduced by the 66-bit value of pi that x87 units use (SDM vol. 1, "Approximation of Pi"):
 * C90FDAA2_2168C234_CH.
 */
#ifndef X87_MATH_H
#define X87_MATH_H

#include "exec.h"

/* (-1)^sign * m * 2^(e - 127); bit 127 of m is set, or m is 0 and the number is 0. Products and quotients are cut. */
struct wide { bool sign; s32 e; u128 m; };

struct wide wide_mul(struct wide a, struct wide b);
struct wide wide_div(struct wide a, struct wide b); /* b is not 0 */
struct wide wide_add(struct wide a, struct wide b);

struct wide math_exp2m1(struct wide x);                    /* 2^x - 1; |x| <= 1, not 0 */
struct wide math_log2(struct wide x);                      /* x > 0 */
struct wide math_log2p1(struct wide x);                    /* log2(1 + x); x > -1, not 0 */
struct wide math_atan2(struct wide y, struct wide x);      /* neither is 0; the angle of (x, y) */
struct wide math_pi_quarters(unsigned quarters);           /* 1 to 4 */

/* |x| < 2^63, not 0, at most 64 significant bits. */
void math_sincos(struct wide x, struct wide *sine, struct wide *cosine);

#endif
