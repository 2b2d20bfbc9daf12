/*
 * run.h - what the parts of the run loop share: boundary.c, slice.c and run.c. Exit kinds are enum accel_exit_kind.
 */
#ifndef RUN_H
#define RUN_H

#include "exec.h"

/* Everything between two instructions, in the order of the contract, except that the deadline and the stop word come before
 * whatever takes a tick of its own: a run never exceeds `until`, so a step over an instruction that traps stops behind it,
 * with the trap pending (as with VMX's monitor trap flag). -1: go on; -2: look again; else an exit kind. */
int boundary(accel_cpu *c);
/* Runs blocks until the slice's budget is used up or a handler leaves for a reason. Returns enum leave. During a range step
 * nothing is remembered, so that every block comes back here: those inside run whole, the others one instruction at a time. */
int run_slice(accel_cpu *c, bool single);
/* c->fault, or a #DB for c->pending_dbg, is delivered or leaves: -1, or an exit kind. */
int take_fault(accel_cpu *c);
int take_trap(accel_cpu *c);

INLINE int finish_exit(accel_cpu *c, int kind) {
    c->exit.kind = (u32)kind;
    return kind;
}

/* A tick has passed: the monitor trap is due. */
INLINE void tick_event(accel_cpu *c) {
    if (c->ctl.monitor_trap || c->ctl.step_range) c->mtrap_due = 1;
}

INLINE bool in_range(const accel_cpu *c) { return c->rip >= c->ctl.step_start && c->rip < c->ctl.step_end; }

#endif
