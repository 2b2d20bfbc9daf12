/*
 * run.c - the loop: boundary checks in their order, block dispatch, accounting of ticks, exits.
 *
 * A slice is a stretch of execution with nothing to check but the budget. Within it blocks chain to each other
 * directly; they come back here when a link is not resolved (LEAVE_CHAIN), the budget ends, or something has happened.
 */
#include "branch.h"
#include "fpu.h"
#include "mxcsr.h"
#include "predicate.h"

enum { SLICE_MAX = 1 << 14 }; /* ticks between two looks at the stop word; the slowest instructions take a microsecond or two */
op_fn h_stale, h_break_check, h_undefined, h_no_device, h_unimplemented, h_gp0;

/* ---- leaving handlers ------------------------------------------------------------------------------------ */

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

/* ---- fetch --------------------------------------------------------------------------------------------------- */

/* The linear and physical address of c->rip. False: c->fault. */
static bool fetch_address(accel_cpu *c, u64 *lin, u64 *pa) {
    if (is_code64(c)) {
        *lin = c->rip;
        if (unlikely(!canonical(c, *lin))) return set_fault(c, EX_GP, true, 0);
    } else {
        if (unlikely(c->rip > c->seg[SEG_CS].limit)) return set_fault(c, EX_GP, true, 0);
        *lin = (c->rip + c->seg[SEG_CS].base) & 0xffffffff;
    }
    return mmu_fetch(c, *lin, pa);
}

/* The second page of an instruction that crosses is translated at every execution, as its fetch would be. */
static bool second_page_same(accel_cpu *c, const struct block *b, u64 lin, bool *fault) {
    u64 pa, next = (lin | 0xfff) + 1;
    if (!is_code64(c)) next &= 0xffffffff;
    *fault = !mmu_fetch(c, next, &pa);
    return !*fault && (pa & PAGE_MASK) == b->pa2;
}

/* The block at c->rip for c->run_key; NULL: c->fault. `guess` is the block that was here under other translations:
 * the usual case after a TLB flush, and cheaper to verify than to search. */
static struct block *block_at_rip(accel_cpu *c, struct block *guess) {
    u64 lin = 0, pa = 0;
    if (!fetch_address(c, &lin, &pa)) return NULL;
    u32 key = c->run_key;
    if (unlikely(c->m->break_count || (c->dr[7] & 0xff)) && points_break_page(c, lin, pa)) key |= K_BP;
    struct block *b = guess;
    if (!b || b->pa != pa || b->key != key || b->cost == COST_DEAD) {
        c->stats.block_lookups++;
        b = block_find(c, pa, key);
    }
    if (b && unlikely(b->pa2 != ~0ull)) {
        bool fault;
        if (!second_page_same(c, b, lin, &fault)) {
            if (fault) return NULL;
            block_kill_range(c->m, pa, 1);
            b = NULL;
        }
    }
    if (!b && !(b = block_make(c, lin, pa, key))) return NULL;
    if (unlikely(!(c->key & K_FLAT)) && !is_code64(c) && c->rip + b->bytes - 1 > c->seg[SEG_CS].limit) {
        if (b->n == 1) {
            set_fault(c, EX_GP, true, 0);
            return NULL;
        }
        c->run_key |= K_SINGLE;
        return block_at_rip(c, NULL);
    }
    return b;
}

/* ---- one slice ------------------------------------------------------------------------------------------------ */

static void enter(accel_cpu *c, struct block *b) {
    c->r[R_RIP] = c->rip;
    c->block = b;
    c->budget -= b->cost;
    c->leave = LEAVE_NONE;
#ifdef ACCEL_LOOP_DISPATCH
    const struct op *o = b->ops;
    while (c->leave == LEAVE_NONE) {
        c->cur = NULL;
        o->fn(c, o);
        if (c->leave == LEAVE_NONE) o = c->cur;
    }
#else
    b->ops->fn(c, b->ops);
#endif
}

static void remember(accel_cpu *c, struct link *l, int which, struct block *b) {
    if (b->pa2 != ~0ull) return;
    if (l) {
        l->to[which] = b;
        *(which ? &l->gen1 : &l->gen) = c->fetch_gen;
        return;
    }
    unsigned i = jump_index(c->rip);
    c->jump[i].rip = c->rip;
    c->jump[i].b = b;
    c->jump[i].gen = c->fetch_gen;
    c->jump[i].key = c->run_key;
}

static bool in_range(const accel_cpu *c) { return c->rip >= c->ctl.step_start && c->rip < c->ctl.step_end; }

/* Whether all of b, at c->rip, lies in the step range. */
static bool range_holds(const accel_cpu *c, const struct block *b) { return in_range(c) && b->bytes <= c->ctl.step_end - c->rip; }

/* Runs blocks until the slice's budget is used up or a handler leaves for a reason. Returns enum leave. During a range step
 * nothing is remembered, so that every block comes back here: those inside run whole, the others one instruction at a time. */
static int run_slice(accel_cpu *c, bool single) {
    struct link *link = NULL;
    int which = 0;
    bool range = c->ctl.step_range && !single;
    bool more = (u64)c->slice < c->until - c->ticks; /* a slice need not be filled to its last tick: there will be another */
    c->run_key = c->key | (single ? K_SINGLE : 0) | (tracing(c) ? K_TRACE : 0) | (range ? K_RANGE : 0);
    for (;;) {
        if (unlikely(atomic_load_explicit(&c->stop, memory_order_relaxed))) return LEAVE_BUDGET; /* decoding takes its time */
        c->link_slot = link; /* block_flush_all() clears it */
        struct block *b = link || !is_code64(c) ? NULL : known_block(c, c->rip);
        if (b == NULL || b->cost == COST_DEAD) {
            b = block_at_rip(c, link ? link->to[which] : c->jump[jump_index(c->rip)].b);
            if (unlikely(!b)) return LEAVE_FETCH;
            if (unlikely(range)) c->link_slot = NULL;
            else if (link == NULL || c->link_slot) remember(c, c->link_slot, which, b);
        }
        if (unlikely(b->cost > c->budget) || (unlikely(range) && !(c->run_key & K_SINGLE) && !range_holds(c, b))) {
            if (c->budget == 0 || (more && b->cost > c->budget)) return LEAVE_BUDGET;
            c->run_key |= K_SINGLE;
            link = NULL;
            continue;
        }
        enter(c, b);
        link = NULL;
        switch (c->leave) {
        case LEAVE_CHAIN:
            if (c->budget == 0) return LEAVE_BUDGET;
            if (unlikely(range)) {
                if (!in_range(c)) return LEAVE_CHAIN;
                c->run_key &= ~(u32)K_SINGLE;
                break;
            }
            link = c->link_slot, which = c->link_which;
            break;
        case LEAVE_BUDGET:
            if (c->budget == 0 || more) return LEAVE_BUDGET;
            c->run_key |= K_SINGLE;
            break;
        case LEAVE_STALE: break;
        default: return c->leave;
        }
    }
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static int finish_exit(accel_cpu *c, int kind) {
    c->exit.kind = (u32)kind;
    return kind;
}

static void copy_bytes(accel_cpu *c) {
    memset(c->exit.bytes, 0, sizeof c->exit.bytes);
    for (unsigned i = 0; i < 15; i++) {
        accel_walk w;
        u64 lin = is_code64(c) ? c->rip + i : (c->rip + i + c->seg[SEG_CS].base) & 0xffffffff;
        if (accel_translate(c, lin, &w) || accel_phys_read(c->m, w.gpa, &c->exit.bytes[i], 1)) return;
    }
}

static void tick_event(accel_cpu *c) {
    if (c->ctl.monitor_trap || c->ctl.step_range) c->mtrap_due = 1;
}

static void wake(accel_cpu *c) {
    c->ctl.activity = ACCEL_ACTIVE;
    if (c->ctl.monitor_state >= ACCEL_MONITOR_WAIT) c->ctl.monitor_state = ACCEL_MONITOR_NONE;
}

/* Deliver e (`nested`: it has been tried and raised this); -1, or the exit kind that stops the run. */
static int deliver(accel_cpu *c, struct event *e, const struct fault *nested, enum pass pass) {
    c->shadow = 0;
    if (c->ctl.activity == ACCEL_HALTED) wake(c);
    c->stats.events++;
    if (e->type == ACCEL_EV_NMI) c->nmi_blocked = 1;
    enum delivery_end end = deliver_event(c, e, nested, pass);
    if (end == DELIVERY_EXIT) return finish_exit(c, ACCEL_EXIT_EXCEPTION);
    tick_event(c);
    return end == DELIVERED ? -1 : finish_exit(c, ACCEL_EXIT_TRIPLE_FAULT);
}

/* INT3, INTO and ICEBP raise exceptions, INT n does not, whatever n is (SDM vol. 3, "Other Causes of VM Exits"). */
bool exception_leaves(accel_cpu *c, const struct fault *f) {
    if (f->soft == ACCEL_EV_SWINTR || f->vector >= 32 || !(c->ctl.exception_exit & (1u << f->vector))) return false;
    c->exit.vector = (u8)f->vector;
    c->exit.has_error = f->has_error;
    c->exit.error = f->error;
    c->exit.value = f->vector == EX_PF ? f->cr2 : f->vector == EX_DB && !f->soft ? c->pending_dbg : 0;
    c->exit.number = f->soft ? f->soft : ACCEL_EV_EXCEPTION;
    c->exit.inst_length = f->soft ? f->length : 0;
    return true;
}

static int take_fault(accel_cpu *c) {
    const struct fault *f = &c->fault;
    if (exception_leaves(c, f)) return finish_exit(c, ACCEL_EXIT_EXCEPTION);
    struct event e = {.type = f->soft ? f->soft : ACCEL_EV_EXCEPTION, .vector = (u8)f->vector, .has_error = f->has_error,
                      .error = f->error, .length = f->length, .cr2 = f->cr2};
    return deliver(c, &e, NULL, PASS_NONE);
}

static int take_injected(accel_cpu *c) {
    accel_control *k = &c->ctl;
    struct event e = {.type = k->inject_type, .vector = k->inject_vector, .has_error = k->inject_has_error, .error = k->inject_error,
                      .length = k->inject_length, .cr2 = c->cr2};
    clear_injection(c);
    return deliver(c, &e, NULL, PASS_NONE);
}

/* The event in flight comes before anything else; an exception injected meanwhile is one that its delivery raised. */
static int take_in_flight(accel_cpu *c) {
    accel_control *k = &c->ctl;
    struct event e = {.type = k->inflight_type, .vector = k->inflight_vector, .has_error = k->inflight_has_error,
                      .error = k->inflight_error, .length = k->inflight_length, .cr2 = c->cr2};
    struct fault f = {.vector = k->inject_vector, .has_error = k->inject_has_error, .error = k->inject_error, .cr2 = c->cr2};
    bool nested = k->inject_valid && k->inject_type == ACCEL_EV_EXCEPTION;
    enum pass pass = !nested ? c->pass_now : f.vector == EX_DF ? PASS_DOUBLE : PASS_SECOND;
    if (nested) clear_injection(c);
    c->pass_now = PASS_NONE;
    clear_inflight(c);
    return deliver(c, &e, nested ? &f : NULL, pass);
}

/* A fault that came up while an instruction switched to another task: it belongs to the new task and takes a tick of its own. */
static int take_task_fault(accel_cpu *c) {
    c->fault = (struct fault){.vector = c->ctl.inject_vector, .has_error = c->ctl.inject_has_error, .error = c->ctl.inject_error, .cr2 = c->cr2};
    clear_injection(c);
    return take_fault(c);
}

/* ---- boundary ------------------------------------------------------------------------------------------------------ */

static int report_io(accel_cpu *c) {
    struct io_write w = c->io[0];
    memmove(c->io, c->io + 1, --c->io_count * sizeof w);
    if (!c->io_count) c->attention &= ~ATT_IO;
    c->exit.gpa = w.addr;
    c->exit.number = (u32)w.addr;
    c->exit.value = w.value;
    c->exit.size = w.size;
    c->exit.write = 1;
    return finish_exit(c, w.kind);
}

/* What the last instruction left behind. */
static int after_instruction(accel_cpu *c) {
    if (c->attention & ATT_IO) return report_io(c);
    if (c->attention & ATT_EXIT) {
        c->attention &= ~ATT_EXIT;
        return (int)c->exit.kind;
    }
    c->attention &= ATT_WATCH | ATT_WAKE;
    if (!c->attention || c->answer_count) return -1; /* an instruction that is being answered comes first */
    if (c->attention & ATT_WAKE) {
        c->attention &= (u8)~ATT_WAKE;
        c->m->woken = false;
        return finish_exit(c, ACCEL_EXIT_WAKE);
    }
    c->attention = 0;
    return points_watch_counts(c) ? finish_exit(c, ACCEL_EXIT_WATCH) : -1;
}

/* ---- events that the owner wants to see ---------------------------------------------------------------------------- */

void note_caught(accel_cpu *c, unsigned which, uint32_t number, bool write, uint64_t old_value, uint64_t new_value) {
    if (!(c->ctl.catch_events & which)) return;
    c->caught.which = (u8)which;
    c->caught.number = number;
    c->caught.write = write;
    c->caught.old_value = old_value;
    c->caught.new_value = new_value;
    c->attention |= ATT_CATCH;
}

static u8 mode_now(const accel_cpu *c) {
    if (!(c->cr0 & CR0_PE)) return ACCEL_MODE_REAL;
    if (c->flags & F_VM) return ACCEL_MODE_V86;
    if (is_long(c)) return is_code64(c) ? ACCEL_MODE_64 : ACCEL_MODE_COMPAT;
    return c->cr0 & CR0_PG ? ACCEL_MODE_PAGED : ACCEL_MODE_PROTECTED;
}

static COLD int report_caught(accel_cpu *c) {
    u8 mode = mode_now(c), before = c->ctl.catch_mode;
    if (!c->caught.which && mode != before) {
        c->ctl.catch_mode = mode;
        if (before && (c->ctl.catch_events & ACCEL_CATCH_MODE)) note_caught(c, ACCEL_CATCH_MODE, 0, true, before, mode);
    }
    unsigned which = c->caught.which;
    c->attention &= (u8)~ATT_CATCH;
    c->caught.which = 0;
    if (!(which & c->ctl.catch_events)) return -1;
    c->exit.source = (u8)which;
    c->exit.number = c->caught.number;
    c->exit.write = c->caught.write;
    c->exit.gpa = c->caught.old_value;
    c->exit.value = c->caught.new_value;
    return finish_exit(c, ACCEL_EXIT_CATCH);
}

static bool interruptible(const accel_cpu *c) { return (c->flags & F_IF) && !c->shadow; }

static int monitor_trap(accel_cpu *c) {
    if (!c->mtrap_due) return -1;
    c->mtrap_due = 0;
    if (!c->ctl.monitor_trap && (!c->ctl.step_range || in_range(c))) return -1;
    return finish_exit(c, ACCEL_EXIT_MTRAP);
}

static int take_trap(accel_cpu *c) {
    c->fault = (struct fault){.vector = EX_DB};
    return take_fault(c);
}

/* Everything between two instructions, in the order of the contract, except that the deadline and the stop word come before
 * whatever takes a tick of its own: a run never exceeds `until`, so a step over an instruction that traps stops behind it,
 * with the trap pending (as with VMX's monitor trap flag). -1: go on; -2: look again; else an exit kind. */
static int boundary(accel_cpu *c) {
    accel_control *k = &c->ctl;
    int r;
    if (unlikely(c->m->dma_count)) points_take_dma(c);
    if (c->attention && (r = after_instruction(c)) >= 0) return r;
    if (unlikely(k->catch_events) && (r = report_caught(c)) >= 0) return r;
    if (k->inflight_valid) return (r = take_in_flight(c)) >= 0 ? r : -2;
    if (k->inject_valid == INJECTED_BY_OWNER) return (r = take_injected(c)) >= 0 ? r : -2;
    if (c->mtrap_due && (r = monitor_trap(c)) >= 0) return r;
    if (c->ticks >= c->until) return finish_exit(c, ACCEL_EXIT_DEADLINE);
    if (atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        atomic_store(&c->stop, 0);
        return finish_exit(c, ACCEL_EXIT_KICK);
    }
    if (unlikely(k->inject_valid)) return (r = take_task_fault(c)) >= 0 ? r : -2;
    if (unlikely(c->pending_dbg) && c->shadow != SHADOW_SS) return (r = take_trap(c)) >= 0 ? r : -2;
    if (k->tpr_threshold && c->cr8 < k->tpr_threshold) return finish_exit(c, ACCEL_EXIT_TPR);
    bool asleep = k->activity == ACCEL_SHUTDOWN || k->activity == ACCEL_WAIT_SIPI;
    if (!asleep && (k->nmi_pending || k->nmi_window) && !c->nmi_blocked && !c->shadow) {
        if (k->nmi_window) return finish_exit(c, ACCEL_EXIT_NMI_WINDOW);
        k->nmi_pending = 0;
        return (r = deliver(c, &(struct event){.type = ACCEL_EV_NMI, .vector = 2, .cr2 = c->cr2}, NULL, PASS_NONE)) >= 0 ? r : -2;
    }
    if (!asleep && (k->irq_window || (k->intr_line && !k->mask_hwintr)) && interruptible(c)) return finish_exit(c, ACCEL_EXIT_IRQ_WINDOW);
    if (k->activity == ACCEL_ACTIVE) return -1;
    bool masked = k->intr_line && !k->mask_hwintr && k->monitor_state == ACCEL_MONITOR_WAIT_MASKED;
    if (k->activity != ACCEL_HALTED || !masked) return finish_exit(c, ACCEL_EXIT_WAIT);
    wake(c);
    return -1;
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
