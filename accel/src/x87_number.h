/*
 * x87_number.h - operands and results of the x87 instructions that are computed here and not by the host's unit.
 *
 * An instruction is a pure function from the numbers in ST(0) and ST(1) to one or two results. Everything around it is common:
 * stack faults, formats that are not supported and NaNs before it, rounding, unmasked exceptions, pop and push behind it
 * (SDM vol. 1, "x87 FPU Floating-Point Exception Handling" and "Floating-Point Exception Priority").
 */
#ifndef X87_NUMBER_H
#define X87_NUMBER_H

#include "fpu.h"
#include "x87_math.h"

enum x87_kind { X87_ZERO, X87_FINITE, X87_INFINITE, X87_INDEFINITE /* results only */ };

/* The sign is v.sign for all kinds; the rest of v is for X87_FINITE. */
struct x87_number { enum x87_kind kind; bool denormal; struct wide v; };

/* flags: IE or ZE, and condition bits. inexact: v has more bits than it shows, as those of a series. unchanged: no register is
 * written, popped or pushed. */
struct x87_result { struct x87_number n; unsigned flags; bool inexact, unchanged; };

enum x87_shape {
    X87_ONE = 1, X87_TWO = 2, X87_OPERANDS = 3,
    X87_POPS = 4,   /* the result replaces both operands */
    X87_PUSHES = 8, /* there is a second result */
};

/* a[0] is ST(0). False: the instruction is done, a stack fault or a NaN has decided. defined: the condition bits it defines. */
bool x87_fetch(accel_cpu *c, const struct op *o, unsigned shape, unsigned defined, struct x87_number *a);
void x87_deliver(accel_cpu *c, const struct op *o, unsigned shape, unsigned defined, const struct x87_number *a,
                 const struct x87_result *r);

/* The handler of `name`, a function of the operands (2) and the results (2, zeroed). */
#define X87_FUNCTION(name, shape, defined) \
    SLOW_HANDLER(h_##name##_r) { \
        struct x87_number a[2] = {0}; \
        struct x87_result r[2] = {0}; \
        if (!fpu_wait(c)) return false; \
        if (!x87_fetch(c, o, shape, defined, a)) return true; \
        name(a, r); \
        x87_deliver(c, o, shape, defined, a, r); \
        return true; \
    }

/* ---- results ---- */

INLINE struct x87_result x87_signed(enum x87_kind kind, bool sign) {
    return (struct x87_result){.n = {.kind = kind, .v = {.sign = sign}}};
}
INLINE struct x87_result x87_invalid(void) { return (struct x87_result){.n = {.kind = X87_INDEFINITE}, .flags = FSW_IE}; }
INLINE struct x87_result x87_exact(struct wide v) {
    return (struct x87_result){.n = {.kind = v.m ? X87_FINITE : X87_ZERO, .v = v}};
}
INLINE struct x87_result x87_series(struct wide v) {
    return (struct x87_result){.n = {.kind = X87_FINITE, .v = v}, .inexact = true};
}
INLINE struct x87_result x87_one(bool sign) { return x87_exact((struct wide){.sign = sign, .m = (u128)1 << 127}); }

#endif
