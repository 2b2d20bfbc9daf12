/*
 * leave.c - how a handler leaves the blocks: the ways to go back to the run loop, with what the block was charged for
 * and did not do given back, and the handlers of ops that do nothing else.
 */
#include "exec.h"

op_fn h_stale, h_break_check, h_undefined, h_no_device, h_unimplemented, h_gp0;

static void refund(accel_cpu *c, const struct op *o, int retired) { c->budget += c->block->n - o->idx - retired; }

u64 ticks_now(const accel_cpu *c, const struct op *o) {
    return c->ticks + (u64)(c->slice - c->budget) - (u64)(c->block->n - o->idx);
}

u64 op_next_rip(const accel_cpu *c, const struct op *o) {
    u64 rip = op_rip(c, o) + o->len;
    return is_code64(c) ? rip : (u32)rip;
}

/* 16-bit code too counts EIP in 32 bits: behind offset FFFF comes 10000, which its segment may have. */
static u64 cut_rip(const accel_cpu *c, u64 rip) { return is_code64(c) ? rip : (u32)rip; }

static void leave(accel_cpu *c, const struct op *o, int why, u64 rip) {
    c->leave = (u8)why;
    c->cur = o;
    c->rip = rip;
#ifdef ACCEL_LOOP_DISPATCH
    c->cur = NULL;
#endif
}

void leave_fault(accel_cpu *c, const struct op *o) {
    refund(c, o, 0);
    leave(c, o, c->fault.vector == FAULT_EXIT ? LEAVE_EXIT : LEAVE_FAULT, cut_rip(c, op_rip(c, o)));
    c->exit.inst_length = o->len;
}

void raise_err(accel_cpu *c, const struct op *o, int vec, u32 error) {
    set_fault(c, vec, true, error);
    leave_fault(c, o);
}

void raise_ex(accel_cpu *c, const struct op *o, int vec) {
    set_fault(c, vec, false, 0);
    leave_fault(c, o);
}

void leave_exit(accel_cpu *c, const struct op *o, int kind) {
    c->fault.vector = FAULT_EXIT;
    c->exit.kind = (u32)kind;
    leave_fault(c, o);
}

void leave_after(accel_cpu *c, const struct op *o) {
    refund(c, o, 1);
    leave(c, o, LEAVE_NEXT, op_next_rip(c, o));
}

void leave_to(accel_cpu *c, const struct op *o, u64 rip) {
    refund(c, o, 1);
    leave(c, o, LEAVE_TO, rip);
}

void leave_rep(accel_cpu *c, const struct op *o) {
    refund(c, o, 1);
    c->extra++;
    leave(c, o, LEAVE_REP, cut_rip(c, op_rip(c, o)));
}

void leave_exit_after(accel_cpu *c, const struct op *o, u64 rip, int kind) {
    c->exit.kind = (u32)kind;
    c->exit.inst_length = o->len;
    c->attention |= ATT_EXIT;
    leave_to(c, o, rip);
}

void leave_chain(accel_cpu *c, struct link *l, int which) {
    c->link_slot = l;
    c->link_which = (u8)which;
    leave(c, NULL, LEAVE_CHAIN, c->r[R_RIP]);
}

void leave_over(accel_cpu *c, const struct block *b, struct link *l, int which) {
    c->budget += b->cost;
    if (b->cost == COST_DEAD) return leave_chain(c, l, which);
    leave(c, NULL, LEAVE_BUDGET, c->r[R_RIP]);
}

HANDLER(h_stale) {
    refund(c, o, 0);
    leave(c, o, LEAVE_STALE, cut_rip(c, op_rip(c, o)));
}
HANDLER(h_break_check) {
    if (!points_stop_here(c, ticks_now(c, o))) NEXT(c, o);
    refund(c, o, 0);
    leave(c, o, LEAVE_BREAK, c->r[R_RIP]);
}
HANDLER(h_undefined) { raise_ex(c, o, EX_UD); }
HANDLER(h_no_device) { raise_ex(c, o, EX_NM); }
HANDLER(h_gp0) { raise_err(c, o, EX_GP, 0); }
HANDLER(h_unimplemented) { leave_exit(c, o, ACCEL_EXIT_UNIMPLEMENTED); }
