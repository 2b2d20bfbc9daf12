/*
 * op_far.c - control transfers that load CS: far JMP, CALL and RET, through call gates and task gates too, and IRET.
 * (SDM vol. 2, the instructions' own pages; vol. 3, "Privilege Levels" to "Returning from a Called Procedure".)
 */
#include "system.h"

/* ---- shared steps ------------------------------------------------------------------------------------------ */

static bool is_code64_segment(const accel_cpu *c, u32 ar) { return is_long(c) && (ar & AR_L); }

/* RIP is inside the target segment. */
INLINE bool offset_ok(accel_cpu *c, const struct segment *cs, u64 rip) {
    if (is_code64_segment(c, cs->ar)) return canonical(c, rip) || gp(c, 0);
    return rip <= cs->limit || gp(c, 0);
}

static void set_code(accel_cpu *c, const struct segment *cs, unsigned cpl) {
    put_segment(&c->seg[SEG_CS], cs);
    c->seg[SEG_CS].sel = (u16)((cs->sel & ~3) | cpl);
    c->cpl = (u8)cpl;
}

INLINE void set_sp(accel_cpu *c, u64 sp, u64 mask) { c->r[R_RSP] = merge_sp(c->r[R_RSP], sp, mask); }

/* One element of the current stack, `at` bytes above SP. */
static bool peek(accel_cpu *c, const struct op *o, u64 at, unsigned size, u64 *v) {
    u64 lin;
    *v = 0;
    if (!seg_linear(c, SEG_SS, (c->r[R_RSP] + at) & stack_mask(c), size, ACC_R, &lin)) return false;
    const void *p = fast_r(c, lin, size);
    if (!p) return mem_read(c, o, lin, v, size);
    memcpy(v, p, size);
    return true;
}

static unsigned operand_bytes(const struct op *o) { return 1u << OP_OSZ(o); }

/* A task switch as an instruction. A fault in the new task is no fault of this instruction: it is delivered next. */
static bool switch_task(accel_cpu *c, const struct op *o, u16 sel, enum task_reason why, u64 *next) {
    bool switched;
    bool ok = task_switch(c, sel, why, op_next_rip(c, o), false, 0, 0, &switched);
    if (!ok && (!switched || c->fault.vector == FAULT_EXIT)) return false;
    if (!ok) {
        if (c->fault.vector == EX_PF) c->cr2 = c->fault.cr2;
        c->ctl.inject_valid = INJECTED_BY_CORE;
        c->ctl.inject_type = ACCEL_EV_EXCEPTION;
        c->ctl.inject_vector = (u8)c->fault.vector;
        c->ctl.inject_has_error = c->fault.has_error;
        c->ctl.inject_error = c->fault.error;
    }
    *next = c->rip;
    return true;
}

/* ---- far JMP and CALL ------------------------------------------------------------------------------------------ */

static bool transfer_real(accel_cpu *c, const struct op *o, u16 sel, u64 offset, bool call, u64 *next) {
    struct stack s;
    unsigned size = operand_bytes(o);
    if (call) {
        stack_current(c, &s);
        if (!stack_push(c, &s, c->seg[SEG_CS].sel, size) || !stack_push(c, &s, op_next_rip(c, o), size)) return false;
    }
    if (offset > c->seg[SEG_CS].limit) return gp(c, 0);
    if (call) {
        stack_commit(c, &s);
        set_sp(c, s.sp, s.mask);
    }
    set_segment_real(c, SEG_CS, sel);
    update_mode(c);
    *next = offset;
    return true;
}

static bool transfer_code(accel_cpu *c, const struct op *o, u16 sel, struct descriptor *d, u64 offset, bool call, u64 *next) {
    u32 ar = desc_ar(d->lo), dpl = AR_DPL_OF(ar), error = sel & 0xfffc;
    if (!ar_is_code(ar)) return gp(c, error);
    if (ar_is_conforming(ar) ? dpl > c->cpl : (sel & 3) > c->cpl || dpl != c->cpl) return gp(c, error);
    if (is_long(c) && (ar & (AR_L | AR_DB)) == (AR_L | AR_DB)) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    struct stack s;
    unsigned size = operand_bytes(o);
    if (call) {
        stack_current(c, &s);
        if (!stack_push(c, &s, c->seg[SEG_CS].sel, size) || !stack_push(c, &s, op_next_rip(c, o), size)) return false;
    }
    struct segment cs = segment_of(sel, d->lo | BIT(40));
    if (!offset_ok(c, &cs, offset) || !mark_accessed(c, d)) return false;
    if (call) {
        stack_commit(c, &s);
        set_sp(c, s.sp, s.mask);
    }
    set_code(c, &cs, c->cpl);
    update_mode(c);
    *next = offset;
    return true;
}

struct call_gate { u16 sel; u64 offset; unsigned size, params; };

/* CALL to a more privileged level: SS:ESP and parameters (SDM vol. 3, "Stack Switching"). */
static bool call_inner(accel_cpu *c, const struct op *o, const struct call_gate *g, struct descriptor *code, unsigned cpl, u64 *next) {
    struct stack s;
    struct segment ss = {.sel = (u16)cpl, .ar = AR_UNUSABLE | cpl << 5}, cs = segment_of(g->sel, code->lo | BIT(40));
    u16 sel;
    u64 sp, param;
    if (is_long(c)) {
        if (!tss_rsp(c, 4 + 8 * cpl, 0, &sp)) return false;
        stack_on_64(c, &s, sp, cpl, 0);
    } else {
        if (!tss_stack(c, cpl, 0, &sel, &sp) || !check_stack_segment(c, sel, cpl, EX_TS, 0, false, &ss)) return false;
        stack_on(c, &s, &ss, sp, cpl, sel & 0xfffc);
    }
    if (!stack_push(c, &s, c->seg[SEG_SS].sel, g->size) || !stack_push(c, &s, c->r[R_RSP], g->size)) return false;
    for (unsigned i = g->params; i-- > 0;)
        if (!peek(c, o, (u64)i * g->size, g->size, &param) || !stack_push(c, &s, param, g->size)) return false;
    if (!stack_push(c, &s, c->seg[SEG_CS].sel, g->size) || !stack_push(c, &s, op_next_rip(c, o), g->size)) return false;
    if (!offset_ok(c, &cs, g->offset) || !mark_accessed(c, code)) return false;
    stack_commit(c, &s);
    set_code(c, &cs, cpl);
    c->seg[SEG_SS] = ss;
    set_sp(c, s.sp, s.mask);
    update_mode(c);
    *next = g->offset;
    return true;
}

static bool same_level(accel_cpu *c, const struct op *o, const struct call_gate *g, struct descriptor *code, bool call, u64 *next) {
    struct stack s;
    struct segment cs = segment_of(g->sel, code->lo | BIT(40));
    if (call) {
        stack_current(c, &s);
        if (!stack_push(c, &s, c->seg[SEG_CS].sel, g->size) || !stack_push(c, &s, op_next_rip(c, o), g->size)) return false;
    }
    if (!offset_ok(c, &cs, g->offset) || !mark_accessed(c, code)) return false;
    if (call) {
        stack_commit(c, &s);
        set_sp(c, s.sp, s.mask);
    }
    set_code(c, &cs, c->cpl);
    update_mode(c);
    *next = g->offset;
    return true;
}

static bool through_gate(accel_cpu *c, const struct op *o, u16 sel, struct descriptor *d, bool call, u64 *next) {
    u32 type = d->lo >> 40 & 0x1f, gate_error = sel & 0xfffc;
    struct call_gate g = {.sel = (u16)(d->lo >> 16), .offset = (d->lo & 0xffff) | (d->lo >> 32 & 0xffff0000), .params = d->lo >> 32 & 31};
    struct descriptor code;
    g.size = type & 8 ? 4 : 2;
    if (is_long(c)) {
        if (!need_descriptor(c, sel, true, EX_GP, 0, d)) return false;
        if (d->hi >> 40 & 0x1f) return gp(c, gate_error);
        g.offset |= d->hi << 32;
        g.size = 8, g.params = 0;
    }
    if (g.size == 2) g.offset &= 0xffff;
    u32 error = g.sel & 0xfffc;
    if (!error) return gp(c, 0);
    if (!need_descriptor(c, g.sel, false, EX_GP, 0, &code)) return false;
    u32 ar = desc_ar(code.lo), dpl = AR_DPL_OF(ar);
    if (!ar_is_code(ar) || dpl > c->cpl) return gp(c, error);
    if (!call && !ar_is_conforming(ar) && dpl != c->cpl) return gp(c, error);
    if (is_long(c) && (ar & (AR_L | AR_DB)) != AR_L) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (call && !ar_is_conforming(ar) && dpl < c->cpl) return call_inner(c, o, &g, &code, dpl, next);
    return same_level(c, o, &g, &code, call, next);
}

static bool transfer_system(accel_cpu *c, const struct op *o, u16 sel, struct descriptor *d, bool call, u64 *next) {
    u32 ar = desc_ar(d->lo), type = ar & AR_TYPE, dpl = AR_DPL_OF(ar), error = sel & 0xfffc;
    bool gate = type == 12 || (type == 4 && !is_long(c)), task_gate = type == 5 && !is_long(c);
    bool tss = (type == 1 || type == 9) && !is_long(c);
    if (!gate && !task_gate && !tss) return gp(c, error);
    if (dpl < c->cpl || dpl < (sel & 3u)) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (gate) return through_gate(c, o, sel, d, call, next);
    return switch_task(c, o, task_gate ? (u16)(d->lo >> 16) : sel, call ? TASK_CALL : TASK_JUMP, next);
}

static bool far_transfer(accel_cpu *c, const struct op *o, u16 sel, u64 offset, bool call, u64 *next) {
    struct descriptor d;
    if (is_real_or_vm(c)) return transfer_real(c, o, sel, offset, call, next);
    if (!(sel & 0xfffc)) return gp(c, 0);
    if (!need_descriptor(c, sel, false, EX_GP, 0, &d)) return false;
    if (desc_ar(d.lo) & AR_S) return transfer_code(c, o, sel, &d, offset, call, next);
    return transfer_system(c, o, sel, &d, call, next);
}

/* ptr16:16, ptr16:32: offset in the low, selector in the high half of imm. */
static u64 pointer_offset(const struct op *o) { return OP_OSZ(o) == SZ16 ? (u16)o->imm : (u32)o->imm; }
SLOW_HANDLER_END(h_jmpf_A) { return far_transfer(c, o, (u16)(o->imm >> 32), pointer_offset(o), false, next); }
SLOW_HANDLER_END(h_callf_A) { return far_transfer(c, o, (u16)(o->imm >> 32), pointer_offset(o), true, next); }

static bool read_far_pointer(accel_cpu *c, const struct op *o, u16 *sel, u64 *offset) {
    unsigned size = operand_bytes(o);
    u8 pointer[10];
    u64 lin;
    if (!op_linear(c, o, size + 2, ACC_R, &lin) || !mem_read(c, o, lin, pointer, size + 2)) return false;
    *offset = 0;
    memcpy(offset, pointer, size);
    memcpy(sel, pointer + size, 2);
    return true;
}
SLOW_HANDLER_END(h_jmpf_M) {
    u16 sel;
    u64 offset;
    return read_far_pointer(c, o, &sel, &offset) && far_transfer(c, o, sel, offset, false, next);
}
SLOW_HANDLER_END(h_callf_M) {
    u16 sel;
    u64 offset;
    return read_far_pointer(c, o, &sel, &offset) && far_transfer(c, o, sel, offset, true, next);
}

/* ---- far RET and IRET ---------------------------------------------------------------------------------------------- */

/* What a return has popped: `popped` bytes of it, then `release` bytes that RET n drops. */
struct ret {
    u64 rip; u16 cs; u32 flags; bool iret; unsigned size, popped; u32 release;
    const u64 *frame; /* the whole frame of a 64-bit IRET if it lies in plain memory, else NULL */
};

/* Data segments that the outer level may not use become null (SDM vol. 3, "Returning from a Called Procedure"). */
static void drop_inner_segments(accel_cpu *c) {
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof data; i++) {
        u32 ar = c->seg[data[i]].ar;
        if ((ar & AR_UNUSABLE) || ar_is_conforming(ar) || AR_DPL_OF(ar) >= c->cpl) continue;
        set_null_segment(c, data[i], 0);
    }
}

/* Flags that IRET may change at the privilege it is executed with. */
static u32 iret_mask(const accel_cpu *c, unsigned size) {
    u32 mask = F_ARITH | F_TF | F_DF | F_NT;
    if (c->cpl <= iopl_of(c)) mask |= F_IF;
    if (c->cpl == 0) mask |= F_IOPL;
    if (size > 2) mask |= F_RF | F_AC | F_ID;
    if (size > 2 && c->cpl == 0) mask |= F_VIF | F_VIP;
    return mask;
}

static bool return_protected(accel_cpu *c, const struct op *o, const struct ret *r, u64 *next) {
    struct descriptor d;
    struct segment ss;
    u32 error = r->cs & 0xfffc, rpl = r->cs & 3;
    u64 sp = 0, ss_sel;
    if (!error) return gp(c, 0);
    if (!need_segment(c, r->cs, EX_GP, 0, &d)) return false;
    u32 ar = desc_ar(d.lo), dpl = AR_DPL_OF(ar);
    if (!ar_is_code(ar) || rpl < c->cpl || (ar_is_conforming(ar) ? dpl > rpl : dpl != rpl)) return gp(c, error);
    if (is_long(c) && (ar & (AR_L | AR_DB)) == (AR_L | AR_DB)) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    struct segment cs = segment_of(r->cs, d.lo | BIT(40));
    bool to64 = is_code64_segment(c, ar), outer = rpl > c->cpl, stack = outer || (r->iret && is_code64(c));
    if (stack) {
        u64 at = r->popped + (u64)r->release;
        if (r->frame) sp = r->frame[3], ss_sel = r->frame[4];
        else if (!peek(c, o, at, r->size, &sp) || !peek(c, o, at + r->size, r->size, &ss_sel)) return false;
        if (!check_stack_segment(c, (u16)ss_sel, rpl, EX_GP, 0, to64 && rpl != 3, &ss)) return false;
    }
    if (!offset_ok(c, &cs, r->rip) || !mark_accessed(c, &d)) return false;

    u64 mask = stack_mask(c);
    bool same_mode = to64 && is_code64(c) && !outer; /* see update_mode(): with the same EFLAGS.AC there is nothing to do */
    u32 flags = c->flags;
    if (stack) {
        put_segment(&c->seg[SEG_SS], &ss);
        mask = to64 ? ~0ull : ss.ar & AR_DB ? 0xffffffffull : 0xffffull;
        set_sp(c, sp + r->release, mask);
    } else {
        set_sp(c, c->r[R_RSP] + r->popped + r->release, mask);
    }
    if (r->iret) merge_rflags(c, r->flags, iret_mask(c, r->size));
    set_code(c, &cs, rpl);
    if (outer) drop_inner_segments(c);
    if (!same_mode || ((flags ^ c->flags) & F_AC)) update_mode(c);
    *next = r->rip;
    return true;
}

static bool pop_ret(accel_cpu *c, const struct op *o, bool iret, u32 release, struct ret *r) {
    unsigned size = operand_bytes(o);
    u64 cs, flags = 0;
    *r = (struct ret){.iret = iret, .size = size, .popped = size * (iret ? 3 : 2), .release = release};
    r->frame = iret && size == 8 && is_code64(c) ? fast_r(c, c->r[R_RSP], 40) : NULL;
    if (r->frame) {
        r->rip = r->frame[0], r->cs = (u16)r->frame[1], r->flags = (u32)r->frame[2];
        return true;
    }
    if (!peek(c, o, 0, size, &r->rip) || !peek(c, o, size, size, &cs)) return false;
    if (iret && !peek(c, o, 2 * size, size, &flags)) return false;
    r->cs = (u16)cs;
    r->flags = (u32)flags;
    return true;
}

static bool far_return(accel_cpu *c, const struct op *o, u32 release, u64 *next) {
    struct ret r;
    if (!pop_ret(c, o, false, release, &r)) return false;
    if (!is_real_or_vm(c)) return return_protected(c, o, &r, next);
    if (r.rip > c->seg[SEG_CS].limit) return gp(c, 0);
    set_sp(c, c->r[R_RSP] + r.popped + release, stack_mask(c));
    set_segment_real(c, SEG_CS, r.cs);
    update_mode(c);
    *next = r.rip;
    return true;
}
SLOW_HANDLER_END(h_retf) { return far_return(c, o, 0, next); }
SLOW_HANDLER_END(h_retf_I) { return far_return(c, o, (u16)o->imm, next); }

static bool iret_real(accel_cpu *c, const struct op *o, u64 *next) {
    struct ret r;
    u32 mask = F_ARITH | F_TF | F_IF | F_DF | F_NT;
    if (!pop_ret(c, o, true, 0, &r)) return false;
    if (r.rip > c->seg[SEG_CS].limit) return gp(c, 0);
    if (r.size > 2) mask |= F_RF | F_AC | F_ID;
    if (!in_vm86(c)) {
        mask |= F_IOPL;
    } else if (iopl_of(c) < 3) { /* CR4.VME: IF of the image is VIF (SDM vol. 3, "8086 Emulation") */
        if ((r.flags & F_TF) || ((r.flags & F_IF) && (c->flags & F_VIP))) return gp(c, 0);
        r.flags = r.flags & F_IF ? r.flags | F_VIF : r.flags & ~(u32)F_VIF;
        mask = (mask & ~(u32)F_IF) | F_VIF;
    }
    set_sp(c, c->r[R_RSP] + r.popped, stack_mask(c));
    set_segment_real(c, SEG_CS, r.cs);
    merge_rflags(c, r.flags, mask);
    update_mode(c);
    *next = r.rip;
    return true;
}

/* From CPL 0 to a virtual-8086 task: EIP CS EFLAGS ESP SS ES DS FS GS. */
static bool iret_to_vm86(accel_cpu *c, const struct op *o, const struct ret *r, u64 *next) {
    static const u8 order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u64 sp, sel[5];
    if (!peek(c, o, 12, 4, &sp)) return false;
    for (unsigned i = 0; i < 5; i++)
        if (!peek(c, o, 16 + 4 * i, 4, &sel[i])) return false;
    if (r->rip > 0xffff) return gp(c, 0);
    set_rflags(c, r->flags & (F_ARITH | F_SYS));
    c->cpl = 3;
    set_segment_real(c, SEG_CS, r->cs);
    for (unsigned i = 0; i < 5; i++) set_segment_real(c, order[i], (u16)sel[i]);
    c->r[R_RSP] = sp;
    update_mode(c);
    *next = r->rip;
    return true;
}

static bool iret_task(accel_cpu *c, const struct op *o, u64 *next) {
    u16 link;
    if (is_long(c)) return gp(c, 0);
    return sys_read(c, c->seg[SEG_TR].base, &link, 2) && switch_task(c, o, link, TASK_IRET, next);
}

SLOW_HANDLER_END(h_iret) {
    struct ret r;
    if (in_vm86(c) && iopl_of(c) < 3 && !((c->cr4 & CR4_VME) && OP_OSZ(o) == SZ16)) return gp(c, 0);
    c->nmi_blocked = 0; /* also when the IRET faults further on */
    if (is_real_or_vm(c)) return iret_real(c, o, next);
    if (c->flags & F_NT) return iret_task(c, o, next);
    if (!pop_ret(c, o, true, 0, &r)) return false;
    if ((r.flags & F_VM) && c->cpl == 0 && r.size == 4 && !is_long(c)) return iret_to_vm86(c, o, &r, next);
    return return_protected(c, o, &r, next);
}
