/*
 * event.c - delivery of interrupts and exceptions through the IVT or IDT, with the rules for faults during delivery.
 * (SDM vol. 3, "Interrupt and Exception Handling" and, for virtual-8086 mode, "8086 Emulation".)
 *
 * One call delivers one event. An attempt either commits as a whole or sets c->fault; the fault then becomes the event of
 * the next attempt, or #DF, or a triple fault. Attempts are a loop of at most a handful of rounds, not recursion.
 */
#include "system.h"

/* What one attempt knows besides the event. */
struct delivery {
    const struct event *e;
    u32 ext;     /* EXT bit of error codes: the program did not ask for this event */
    u32 saved_flags;
    u64 saved_rip;
    bool switched; /* through a task gate, and the new task is the present one: there is no second attempt */
    bool same_mode; /* nothing that the mode key, segment bases or the view of the TLB depend on has changed */
};

/* Subject to the gate's DPL. */
static bool is_soft(u8 type) { return type == ACCEL_EV_SWINTR || type == ACCEL_EV_SW_EXCEPTION; }
/* Asked for by an instruction, behind which it returns. */
static bool is_software(u8 type) { return is_soft(type) || type == ACCEL_EV_PRIV_SW_EXCEPTION; }

/* Faults restart their instruction, so the saved RF keeps its breakpoint from hitting again. An instruction that asks for its event
 * has cleared RF; #DB pushes RF as it is; #DF and #MC are aborts (SDM vol. 3, "Instruction-Breakpoint Exception Condition"). */
static bool sets_rf(const struct event *e) {
    const u32 not_faults = 1u << EX_DB | 1u << EX_NMI | 1u << EX_BP | 1u << EX_OF | 1u << EX_DF | 1u << EX_MC;
    return e->type == ACCEL_EV_EXCEPTION && !(not_faults >> (e->vector & 31) & 1);
}

/* What the CPU records when the event is an exception: CR2, DR6 and what #DB clears. */
static void note_exception(accel_cpu *c, const struct event *e) {
    if (e->type == ACCEL_EV_EXCEPTION && e->vector == EX_PF) c->cr2 = e->cr2;
    if (e->type == ACCEL_EV_EXCEPTION && e->vector == EX_DB) {
        if (c->pending_dbg) write_dr(c, 6, (c->dr[6] & ~0xfull) | c->pending_dbg);
        c->pending_dbg = 0;
    }
    if (e->vector == EX_DB && (e->type == ACCEL_EV_EXCEPTION || e->type == ACCEL_EV_PRIV_SW_EXCEPTION)) {
        c->dr[7] &= ~BIT(13); /* GD */
        c->debugctl = 0;      /* LBR and BTF */
    }
}

/* Rounds are so few that the chain cannot overflow: a benign event, a contributory one, #PF, what makes #DF, #DF, the last. */
static void note_link(accel_cpu *c, const struct event *e) {
    if (c->chain_count == ACCEL_MAX_CHAIN) return;
    u64 cr2 = e->type == ACCEL_EV_EXCEPTION && e->vector == EX_PF ? e->cr2 : c->cr2;
    c->chain[c->chain_count++] = (accel_fault){.rip = c->rip, .cr2 = cr2, .error = e->has_error ? e->error : 0, .vector = e->vector,
                                               .has_error = e->has_error, .type = e->type};
}

/* ---- real mode ---------------------------------------------------------------------------------------------- */

/* Through the interrupt vector table at `table` (real mode: IDTR; redirected INT n in virtual-8086 mode: 0). */
static bool deliver_ivt(accel_cpu *c, struct delivery *d, u64 table, u32 flags_image, u32 clear) {
    u16 entry[2];
    struct stack s;
    if (!sys_read(c, (table + 4u * d->e->vector) & 0xffffffff, entry, 4)) return false;
    stack_current(c, &s);
    if (!stack_push(c, &s, flags_image, 2) || !stack_push(c, &s, c->seg[SEG_CS].sel, 2) || !stack_push(c, &s, d->saved_rip, 2)) return false;
    if (entry[0] > c->seg[SEG_CS].limit) return gp(c, d->ext);
    stack_commit(c, &s);
    c->r[R_RSP] = merge_sp(c->r[R_RSP], s.sp, s.mask);
    set_segment_real(c, SEG_CS, entry[1]);
    c->rip = entry[0];
    c->flags &= ~clear;
    return true;
}

static bool deliver_real(accel_cpu *c, struct delivery *d) {
    if (4u * d->e->vector + 3 > c->idtr.limit) return gp(c, 8u * d->e->vector + 2 + d->ext);
    return deliver_ivt(c, d, c->idtr.base, d->saved_flags, F_IF | F_TF | F_AC | F_RF);
}

/* ---- virtual-8086 extensions (SDM vol. 3, "Software Interrupt Handling Methods While Operating in Virtual-8086 Mode") */

/* The redirection bitmap lies in the 32 bytes before the I/O map; a clear bit sends INT n to the program's own table.
 * -1: c->fault is set. */
static int redirected(accel_cpu *c, u8 vector) {
    const struct segment *tr = &c->seg[SEG_TR];
    u16 map;
    u8 bits;
    if (!(c->cr4 & CR4_VME) || !(tr->ar & 8) || tr->limit < 103) return 0;
    if (!sys_read(c, tr->base + 102, &map, 2)) return -1;
    if (map < 32 || map - 32u + vector / 8 > tr->limit) return 0;
    if (!sys_read(c, tr->base + map - 32 + vector / 8, &bits, 1)) return -1;
    return !(bits >> (vector & 7) & 1);
}

static bool deliver_redirected(accel_cpu *c, struct delivery *d) {
    u32 image = d->saved_flags, clear = F_TF | F_AC | F_RF;
    if (iopl_of(c) == 3) {
        clear |= F_IF;
    } else { /* the program sees VIF as IF and IOPL 3 */
        image = (image & ~(u32)F_IF) | F_IOPL | (image & F_VIF ? F_IF : 0);
        clear |= F_VIF;
    }
    return deliver_ivt(c, d, 0, image, clear);
}

/* ---- protected mode ------------------------------------------------------------------------------------------- */

struct gate { u64 lo, hi; u32 type, dpl; bool present, trap; u16 sel; u64 offset; unsigned size; };

static bool read_gate(accel_cpu *c, struct delivery *d, struct gate *g) {
    unsigned entry = is_long(c) ? 16 : 8;
    u32 error = 8u * d->e->vector + 2 + d->ext;
    u64 raw[2] = {0, 0};
    if (entry * d->e->vector + entry - 1 > c->idtr.limit) return gp(c, error);
    u64 lin = c->idtr.base + entry * d->e->vector;
    if (!is_long(c)) lin &= 0xffffffff;
    if (!(is_long(c) ? sys_read_fixed(c, lin, raw, 16) : sys_read_fixed(c, lin, raw, 8))) return false;
    g->lo = raw[0], g->hi = raw[1];
    g->type = raw[0] >> 40 & 0x1f;
    g->dpl = raw[0] >> 45 & 3;
    g->present = raw[0] >> 47 & 1;
    g->trap = g->type & 1;
    g->sel = (u16)(raw[0] >> 16);
    g->offset = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000);
    g->size = g->type & 8 ? 4 : 2;
    bool known = g->type == 14 || g->type == 15;
    if (is_long(c)) g->offset |= raw[1] << 32, g->size = 8;
    else known |= g->type >= 5 && g->type <= 7;
    if (g->type == 5) g->offset = 0;
    else if (g->size == 2) g->offset &= 0xffff;
    if (!known || (is_soft(d->e->type) && g->dpl < c->cpl)) return gp(c, error);
    if (!g->present) return set_fault(c, EX_NP, true, error);
    return true;
}

/* The handler's code segment. *cpl: the privilege it runs with. */
static bool handler_code(accel_cpu *c, struct delivery *d, const struct gate *g, struct segment *cs, unsigned *cpl) {
    struct descriptor code;
    u32 error = (g->sel & 0xfffc) | d->ext;
    if (!(g->sel & 0xfffc)) return gp(c, d->ext);
    if (!need_segment(c, g->sel, EX_GP, d->ext, &code)) return false;
    u32 ar = desc_ar(code.lo), dpl = AR_DPL_OF(ar);
    if (!ar_is_code(ar) || dpl > c->cpl) return gp(c, error);
    if (is_long(c) && (ar & (AR_L | AR_DB)) != AR_L) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    *cpl = ar_is_conforming(ar) ? c->cpl : dpl;
    if (in_vm86(c) && *cpl != 0) return gp(c, error);
    if (!mark_accessed(c, &code)) return false;
    *cs = segment_of((u16)((g->sel & ~3) | *cpl), code.lo);
    return true;
}

static bool push_error(accel_cpu *c, struct delivery *d, struct stack *s, unsigned size) {
    return !d->e->has_error || stack_push(c, s, d->e->error, size);
}

static bool push_return(accel_cpu *c, struct delivery *d, struct stack *s, unsigned size) {
    return stack_push(c, s, d->saved_flags, size) && stack_push(c, s, c->seg[SEG_CS].sel, size) &&
           stack_push(c, s, d->saved_rip, size) && push_error(c, d, s, size);
}

static void enter_handler(accel_cpu *c, const struct gate *g, const struct segment *cs, unsigned cpl) {
    put_segment(&c->seg[SEG_CS], cs);
    c->cpl = (u8)cpl;
    c->rip = g->offset;
    c->flags &= ~(u32)(F_TF | F_NT | F_VM | F_RF);
    if (!g->trap) c->flags &= ~(u32)F_IF;
}

/* Pushes the frame of 64-bit mode (from the top SS RSP RFLAGS CS RIP, error code) at rsp, which is aligned. plain: where it goes in one piece once nothing can fail, else NULL and it is in *s. */
static bool push_frame(accel_cpu *c, struct delivery *d, u64 rsp, unsigned cpl, void **plain, struct stack *s) {
    *plain = d->e->has_error ? view_w(c->ftlb[cpl == 3 ? FT_USER : system_view(c)], rsp - 48, 48)
                            : view_w(c->ftlb[cpl == 3 ? FT_USER : system_view(c)], rsp - 40, 40);
    if (likely(*plain != NULL)) return true;
    stack_on_64(c, s, rsp, cpl, d->ext);
    return stack_push(c, s, c->seg[SEG_SS].sel, 8) && stack_push(c, s, c->r[R_RSP], 8) && push_return(c, d, s, 8);
}

static void commit_frame(accel_cpu *c, struct delivery *d, u64 rsp, void *plain, struct stack *s) {
    if (likely(plain != NULL)) {
        u64 *to = plain;
        if (d->e->has_error) *to++ = d->e->error;
        to[0] = d->saved_rip, to[1] = c->seg[SEG_CS].sel, to[2] = d->saved_flags, to[3] = c->r[R_RSP], to[4] = c->seg[SEG_SS].sel;
    } else {
        stack_commit(c, s);
    }
    c->r[R_RSP] = rsp - (d->e->has_error ? 48 : 40);
}

static bool deliver_long(accel_cpu *c, struct delivery *d, const struct gate *g) {
    struct segment cs;
    struct stack s;
    void *plain;
    unsigned cpl, ist = g->lo >> 32 & 7;
    u64 rsp = c->r[R_RSP];
    if (!handler_code(c, d, g, &cs, &cpl)) return false;
    bool inner = cpl != c->cpl;
    if (ist && !tss_rsp(c, 36 + 8 * (ist - 1), d->ext, &rsp)) return false;
    if (!ist && inner && !tss_rsp(c, 4 + 8 * cpl, d->ext, &rsp)) return false;
    if (!canonical(c, rsp)) return set_fault(c, EX_SS, true, d->ext);
    rsp &= ~0xfull;
    if (!push_frame(c, d, rsp, cpl, &plain, &s)) return false;
    if (!canonical(c, g->offset)) return gp(c, d->ext);
    commit_frame(c, d, rsp, plain, &s);
    d->same_mode = is_code64(c) && !inner;
    if (inner) set_null_segment(c, SEG_SS, (u16)cpl), c->seg[SEG_SS].ar |= cpl << 5;
    enter_handler(c, g, &cs, cpl);
    return true;
}

static bool deliver_same(accel_cpu *c, struct delivery *d, const struct gate *g, const struct segment *cs) {
    struct stack s;
    stack_current(c, &s);
    s.error = d->ext;
    if (!push_return(c, d, &s, g->size)) return false;
    if (g->offset > cs->limit) return gp(c, d->ext);
    stack_commit(c, &s);
    c->r[R_RSP] = merge_sp(c->r[R_RSP], s.sp, s.mask);
    enter_handler(c, g, cs, c->cpl);
    return true;
}

static bool deliver_inner(accel_cpu *c, struct delivery *d, const struct gate *g, const struct segment *cs, unsigned cpl) {
    static const u8 v86_order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    struct segment ss;
    struct stack s;
    u16 sel;
    u64 sp;
    bool v86 = in_vm86(c);
    if (!tss_stack(c, cpl, d->ext, &sel, &sp)) return false;
    if (!check_stack_segment(c, sel, cpl, EX_TS, d->ext, false, &ss)) return false;
    stack_on(c, &s, &ss, sp, cpl, (sel & 0xfffc) | d->ext);
    for (unsigned i = 0; v86 && i < sizeof v86_order; i++)
        if (!stack_push(c, &s, c->seg[v86_order[i]].sel, g->size)) return false;
    if (!stack_push(c, &s, c->seg[SEG_SS].sel, g->size) || !stack_push(c, &s, c->r[R_RSP], g->size)) return false;
    if (!push_return(c, d, &s, g->size)) return false;
    if (g->offset > cs->limit) return gp(c, d->ext);
    stack_commit(c, &s);
    for (unsigned i = 0; v86 && i < sizeof v86_order; i++) set_null_segment(c, v86_order[i], 0);
    c->seg[SEG_SS] = ss;
    c->r[R_RSP] = merge_sp(c->r[R_RSP], s.sp, s.mask);
    enter_handler(c, g, cs, cpl);
    return true;
}

static bool deliver_protected(accel_cpu *c, struct delivery *d) {
    struct gate g;
    struct segment cs;
    unsigned cpl;
    if (in_vm86(c) && d->e->type == ACCEL_EV_SWINTR) {
        int own = redirected(c, d->e->vector);
        if (own) return own > 0 && deliver_redirected(c, d);
        if (iopl_of(c) < 3) return gp(c, 0);
    }
    if (!read_gate(c, d, &g)) return false;
    if (is_long(c)) return deliver_long(c, d, &g);
    if (g.type == 5) {
        c->flags = (c->flags & ~(u32)F_RF) | (d->saved_flags & F_RF);
        return task_switch(c, g.sel, TASK_EVENT, d->saved_rip, d->e->has_error, d->e->error, d->ext, &d->switched);
    }
    if (!handler_code(c, d, &g, &cs, &cpl)) return false;
    return cpl == c->cpl && !in_vm86(c) ? deliver_same(c, d, &g, &cs) : deliver_inner(c, d, &g, &cs, cpl);
}

/* ---- nested faults ----------------------------------------------------------------------------------------------- */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

/* SDM vol. 3, "Interrupt and Exception Classes"; what is not an exception is benign whatever its vector. */
static enum fault_class class_of(const struct event *e) {
    if (e->type != ACCEL_EV_EXCEPTION) return BENIGN;
    switch (e->vector) {
    case EX_DE: case EX_TS: case EX_NP: case EX_SS: case EX_GP: return CONTRIBUTORY;
    case EX_PF: case 20: return PAGE_FAULT;
    case EX_DF: return DOUBLE_FAULT;
    default: return BENIGN;
    }
}

static struct event event_of(const struct fault *f) {
    return (struct event){.type = ACCEL_EV_EXCEPTION, .vector = (u8)f->vector, .has_error = f->has_error, .error = f->error, .cr2 = f->cr2};
}

/* Whether a fault while delivering `first` makes #DF of both. */
static bool doubles(const struct event *first, const struct event *second) {
    enum fault_class a = class_of(first), b = class_of(second);
    return (a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN);
}

/* *d: what delivering has come to. */
static bool attempt(accel_cpu *c, const struct event *e, struct delivery *d) {
    *d = (struct delivery){.e = e, .ext = !is_soft(e->type), .saved_flags = get_rflags(c), .saved_rip = c->rip};
    if (is_software(e->type)) {
        d->saved_rip += e->length;
        if (!is_code64(c)) d->saved_rip &= 0xffffffff;
    }
    if (sets_rf(e)) d->saved_flags |= F_RF;
    else if (is_software(e->type)) d->saved_flags &= ~(u32)F_RF;
    return c->cr0 & CR0_PE ? deliver_protected(c, d) : deliver_real(c, d);
}

static void triple_fault(accel_cpu *c, const struct fault *f) {
    c->ctl.activity = ACCEL_SHUTDOWN;
    c->exit.kind = ACCEL_EXIT_TRIPLE_FAULT;
    c->exit.vector = f->vector;
    c->exit.has_error = f->has_error;
    c->exit.error = f->has_error ? f->error : 0;
    c->exit.inst_length = 0;
}

/* What `fault` during the delivery of *e leads to: the next event in *e, or the end. */
static enum delivery_end nest(accel_cpu *c, struct event *e, const struct fault *fault, enum pass pass) {
    struct event second = event_of(fault);
    note_link(c, &second);
    if (pass < PASS_SECOND && exception_leaves(c, fault)) return DELIVERY_EXIT;
    /* even if it is never delivered (SDM vol. 3, "Page-Fault Exception", note on CR2) */
    if (second.vector == EX_PF) c->cr2 = second.cr2;
    if (class_of(e) == DOUBLE_FAULT) {
        triple_fault(c, fault);
        return DELIVERY_TRIPLE_FAULT;
    }
    if (doubles(e, &second)) {
        const struct fault both = {.vector = EX_DF, .has_error = true};
        second = event_of(&both);
        note_link(c, &second);
        if (pass < PASS_DOUBLE && exception_leaves(c, &both)) return DELIVERY_EXIT;
    }
    *e = second;
    return DELIVERED;
}

static void keep_in_flight(accel_cpu *c, const struct event *e) {
    accel_control *k = &c->ctl;
    k->inflight_valid = 1;
    k->inflight_type = e->type, k->inflight_vector = e->vector, k->inflight_has_error = e->has_error;
    k->inflight_error = e->error, k->inflight_length = e->length;
    c->ticks--, c->extra--;
}

enum delivery_end deliver_event(accel_cpu *c, struct event *e, const struct fault *nested, enum pass pass) {
    u8 origin = c->origin;
    struct delivery d;
    u64 from = linear_rip(c);
    enum delivery_end end = DELIVERED;
    c->origin = ACCEL_ORIGIN_EVENT;
    c->chain_count = 0;
    c->ticks++;
    c->extra++;
    note_link(c, e);
    for (;;) {
        d.switched = d.same_mode = false;
        note_exception(c, e);
        if (!nested && attempt(c, e, &d)) break;
        const struct event tried = *e;
        end = nest(c, e, nested ? nested : &c->fault, d.switched ? PASS_DOUBLE : pass);
        if (end == DELIVERY_EXIT) keep_in_flight(c, &tried);
        if (end != DELIVERED) break;
        nested = NULL, pass = PASS_NONE;
    }
    c->origin = origin;
    c->shadow = 0;
    if (!d.same_mode) update_mode(c);
    if (end == DELIVERED && c->ctl.branch_trace) trace_event(c, from);
    return end;
}
