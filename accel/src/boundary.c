/*
 * boundary.c - what comes between two instructions, in its order: exits that are due, events, the deadline and the
 * stop word, interrupts.
 */
#include "run.h"

/* ---- events ------------------------------------------------------------------------------------------------------ */

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

int take_fault(accel_cpu *c) {
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

int take_trap(accel_cpu *c) {
    c->fault = (struct fault){.vector = EX_DB};
    return take_fault(c);
}

int boundary(accel_cpu *c) {
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
