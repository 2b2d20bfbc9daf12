/*
 * trace.h - how a taken branch is recorded (trace.c).
 */
#ifndef TRACE_H
#define TRACE_H

#include "exec.h"

/* Added to an address, which is canonical: then no pointer to an op looks like it. */
#define TRACE_ADDRESS BIT(62)

op_fn *trace_recording(op_fn *fn); /* the twin of a handler that chains, or itself */

/* by: the linear address of the branch ^ TRACE_ADDRESS, or its op if it is relative: so its address is to - o->imm + o->off. */
INLINE void trace_branch(accel_cpu *c, u64 by, u64 to) {
    struct trace *t = &c->trace;
    s64 at = t->at;
    bool full;
    t->end[at] = by;
    t->end[at + 1] = to;
    __asm__("addq $2, %0" : "+m"(t->at), "=@ccz"(full)); /* the compiler would keep the sum in a register */
    if (unlikely(full)) {
        t->at = -2 * (s64)(t->mask + 1);
        t->wrapped += t->mask + 1;
    }
}
INLINE void trace_relative(accel_cpu *c, const struct op *o, u64 to) { trace_branch(c, (uintptr_t)o, to); }
INLINE void trace_indirect(accel_cpu *c, const struct op *o, u64 to) { trace_branch(c, op_rip(c, o) ^ TRACE_ADDRESS, to); }

#endif
