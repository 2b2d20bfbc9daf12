/*
 * run.c - accel_run(): boundaries (boundary.c) and slices (slice.c) in turn, accounting of ticks, what ends a slice;
 * turns of several CPUs.
 */
#include "fpu.h"
#include "mxcsr.h"
#include "predicate.h"
#include "run.h"

enum { SLICE_MAX = 1 << 14 }; /* ticks between two looks at the stop word; the slowest instructions take a microsecond or two */

static void copy_bytes(accel_cpu *c) {
    memset(c->exit.bytes, 0, sizeof c->exit.bytes);
    for (unsigned i = 0; i < 15; i++) {
        accel_walk w;
        u64 lin = is_code64(c) ? c->rip + i : (c->rip + i + c->seg[SEG_CS].base) & 0xffffffff;
        if (accel_translate(c, lin, &w) || accel_phys_read(c->m, w.gpa, &c->exit.bytes[i], 1)) return;
    }
}

/* The check op of a block left it: for the guest's instruction breakpoints, or for the debugger's. */
static int check_break(accel_cpu *c) {
    if (c->break_dr) {
        c->pending_dbg |= c->break_dr;
        return take_trap(c); /* a fault: RIP at the instruction */
    }
    c->exit.source = ACCEL_BPT_SET;
    c->exit.bpt_length = 0;
    c->exit.inst_length = 0;
    c->exit.id = c->break_ids[0];
    c->exit.number = c->break_count;
    return finish_exit(c, ACCEL_EXIT_BPT);
}

/* A fault of the fetch at c->rip; an instruction breakpoint there comes first (SDM vol. 3, "Priority Among Concurrent Events"). */
static int take_fetch_fault(accel_cpu *c) {
    u64 lin = is_code64(c) ? c->rip : (c->rip + c->seg[SEG_CS].base) & 0xffffffff;
    u32 hit = (c->dr[7] & 0xff) && !(c->flags & F_RF) ? debug_dr_execute(c, lin) : 0;
    c->pending_dbg |= hit;
    return hit ? take_trap(c) : take_fault(c);
}

/* Whether TF traps after the slice; `branched`: its instruction was a taken branch, without which there is no trap under
 * DEBUGCTL.BTF (SDM vol. 3, "Single-Stepping on Branches"). SYSCALL and SYSRET go by TF as they leave it, MOV SS and POP SS hold
 * the trap back for good (SDM vol. 3, "Masking Exceptions and Interrupts When Switching Stacks"). */
static bool step_trap(accel_cpu *c, bool tf, bool branched) {
    bool after = c->tf_after;
    c->tf_after = 0;
    if (after) return c->flags & F_TF;
    return tf && c->shadow != SHADOW_SS && (!(c->debugctl & 2) || branched);
}

/* Runs one slice and settles its accounts. -1: go on; else an exit kind. */
static int execute(accel_cpu *c) {
    bool tf = c->flags & F_TF, rf = c->flags & F_RF;
    /* an instruction that is being answered runs alone: its answers must not reach the next one */
    bool single = tf || rf || c->shadow || c->answer_count || c->ctl.monitor_trap || c->m->woken;
    u64 left = c->until - c->ticks;
    c->slice = single ? 1 : left > SLICE_MAX ? SLICE_MAX : (s64)left;
    c->budget = c->slice;
    u8 shadow = c->shadow;
    c->shadow = 0;
    c->flags &= ~(u32)F_RF;
    c->rf_now = rf;
    c->slice_fuel = SLICE_FUEL;
    bool branch_step = unlikely(branch_stepping(c));
    u64 branches = branch_step ? accel_branch_count(c) : 0;
    if (unlikely(tracing(c))) trace_begin(c);
    int why = run_slice(c, single);
    if (unlikely(c->run_key & K_TRACE) && why == LEAVE_TO) trace_settle(c, c->run_key);
    s64 used = c->slice - c->budget;
    c->ticks += (u64)used;
    if (!used && why != LEAVE_TO) {
        c->shadow = shadow;
        if (rf) c->flags |= F_RF;
    }
    if (used) {
        if (unlikely(c->m->woken)) c->attention |= ATT_WAKE;
        c->skip_now = 0;
        tick_event(c);
        if (unlikely(tf || c->tf_after) && step_trap(c, tf, branch_step && accel_branch_count(c) != branches)) c->pending_dbg |= BIT(14);
    }
    switch (why) {
    case LEAVE_FAULT:
        points_forget_unretired(c);
        c->answer_count = c->answer_used = 0;
        return take_fault(c);
    case LEAVE_FETCH:
        c->answer_count = c->answer_used = 0;
        return take_fetch_fault(c);
    case LEAVE_EXIT:
        points_forget_unretired(c);
        c->answer_used = 0;
        if (c->exit.kind == ACCEL_EXIT_UNHANDLED || c->exit.kind == ACCEL_EXIT_UNIMPLEMENTED) copy_bytes(c);
        return (int)c->exit.kind;
    case LEAVE_BREAK: return check_break(c);
    default:
        if (why == LEAVE_BUDGET && !used) return -1; /* a stop request came first: what is answered is not done yet */
        c->answer_count = c->answer_used = 0;
        return -1;
    }
}

/* An exception with which the owner refused an instruction is the instruction's own: it can be intercepted as such. */
static int intercept_refusal(accel_cpu *c) {
    accel_control *k = &c->ctl;
    if (k->inject_type != ACCEL_EV_EXCEPTION || !(k->exception_exit >> (k->inject_vector & 31) & 1)) return -1;
    c->exit.vector = k->inject_vector;
    c->exit.has_error = k->inject_has_error;
    c->exit.error = k->inject_error;
    c->exit.number = ACCEL_EV_EXCEPTION;
    clear_injection(c);
    return finish_exit(c, ACCEL_EXIT_EXCEPTION);
}

int accel_run(accel_cpu *c, uint64_t until, accel_exit *exit) {
    if (c->answer_wanted && !c->ctl.inject_valid) return ACCEL_EBUSY;
    bool refused = c->answer_wanted; /* the event takes the instruction's place */
    if (refused) c->answer_wanted = c->answer_count = 0;
    c->stats.runs++;
    c->until = until;
    c->skip_now = c->ctl.skip_breakpoint;
    c->ctl.skip_breakpoint = 0;
    bool doubled = c->exit.kind == ACCEL_EXIT_EXCEPTION && c->exit.vector == EX_DF;
    c->pass_now = !c->ctl.pass_exception ? PASS_NONE : doubled ? PASS_DOUBLE : PASS_SECOND;
    c->ctl.pass_exception = 0;
    if (!c->attention) memset(&c->exit, 0, sizeof c->exit);
    int kind = refused ? intercept_refusal(c) : -1;
    mxcsr_enter(c);
    fpu_find_top(c);
    while (kind < 0) {
        kind = boundary(c);
        if (kind == -1) kind = execute(c);
    }
    mxcsr_leave(c);
    c->exit.kind = (u32)kind;
    c->exit.rip = c->rip;
    *exit = c->exit;
    return ACCEL_OK;
}

int accel_run_turns(accel_cpu *const *ring, uint32_t count, uint64_t quantum, uint64_t bound, accel_turns *turns, accel_exit *exit) {
    accel_turns t = *turns;
    int kind = t.index < count && quantum ? ACCEL_EXIT_DEADLINE : -1;
    while (kind == ACCEL_EXIT_DEADLINE && t.now <= bound && t.left <= bound - t.now) {
        accel_cpu *c = ring[t.index];
        c->ctl.time_base = (s64)(t.now - c->ticks);
        u64 room = ~0ull - c->ticks;
        kind = accel_run(c, c->ticks + (t.left < room ? t.left : room), exit) == ACCEL_OK ? (int)exit->kind : -1;
        if (kind != ACCEL_EXIT_DEADLINE) break;
        t.now += t.left;
        t.left = quantum;
        t.index = (t.index + 1) % count;
        t.turns++;
    }
    *turns = t;
    return kind;
}

int accel_answer(accel_cpu *c, uint64_t value) {
    if (!c->answer_wanted) return ACCEL_EINVAL;
    struct answer *a = &c->answers[c->answer_count++];
    *a = (struct answer){.value = value, .addr = c->exit.kind == ACCEL_EXIT_MMIO ? c->exit.gpa : c->exit.number, .kind = (u8)c->exit.kind,
                         .size = c->exit.size};
    c->answer_wanted = 0;
    return ACCEL_OK;
}

void accel_stop(accel_cpu *c) { atomic_store(&c->stop, 1); }
accel_control *accel_cpu_control(accel_cpu *c) { return &c->ctl; }
uint64_t accel_ticks(accel_cpu *c) { return c->ticks; }
uint64_t accel_retired(accel_cpu *c) { return c->ticks - c->extra; }
void accel_stats_get(accel_cpu *c, accel_stats *out) { *out = c->stats; }
