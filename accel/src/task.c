/*
 * task.c - the hardware task switch with 32-bit and 16-bit TSSs (SDM vol. 3, "Task Management").
 *
 * What can be refused is refused before anything is written. Behind that point the new task is current: a fault while its
 * segments are loaded belongs to the new task and is reported with *switched set and c->rip in the new task.
 */
#include "system.h"

enum { TSS32_SIZE = 104, TSS16_SIZE = 44 };

/* A TSS image, whatever its width. */
struct tss { u16 link, ldt, trap; u64 cr3; u32 ip, flags, r[8]; u16 seg[6]; };

static u32 field32(const u8 *p, unsigned at) {
    u32 v;
    memcpy(&v, p + at, 4);
    return v;
}
static u16 field16(const u8 *p, unsigned at) {
    u16 v;
    memcpy(&v, p + at, 2);
    return v;
}

/* 32-bit: CR3 1CH, EIP 20H, EFLAGS 24H, EAX.. 28H, ES CS SS DS FS GS 48H, LDT 60H, T 64H.
 * 16-bit: IP EH, FLAGS 10H, AX.. 12H, ES CS SS DS 22H, LDT 2AH. */
static void unpack(const u8 *p, bool wide, struct tss *t) {
    memset(t, 0, sizeof *t);
    t->link = field16(p, 0);
    for (unsigned i = 0; i < 8; i++) t->r[i] = wide ? field32(p, 0x28 + 4 * i) : 0xffff0000u | field16(p, 0x12 + 2 * i);
    for (unsigned i = 0; i < (wide ? 6 : 4); i++) t->seg[i] = wide ? field16(p, 0x48 + 4 * i) : field16(p, 0x22 + 2 * i);
    t->ip = wide ? field32(p, 0x20) : field16(p, 0x0e);
    t->flags = wide ? field32(p, 0x24) : field16(p, 0x10);
    t->ldt = wide ? field16(p, 0x60) : field16(p, 0x2a);
    t->cr3 = wide ? field32(p, 0x1c) : 0;
    t->trap = wide ? field16(p, 0x64) & 1 : 0;
}

/* The part that a switch writes: from EIP to GS, or from IP to DS. Returns its size; *at: where it starts. */
static unsigned pack(const accel_cpu *c, bool wide, u64 ip, u32 flags, u8 *p, unsigned *at) {
    if (wide) {
        u32 words[16] = {(u32)ip, flags};
        for (int i = 0; i < 8; i++) words[2 + i] = (u32)c->r[i];
        for (int i = 0; i < 6; i++) words[10 + i] = c->seg[i].sel;
        memcpy(p, words, sizeof words);
        *at = 0x20;
        return sizeof words;
    }
    u16 words[14] = {(u16)ip, (u16)flags};
    for (int i = 0; i < 8; i++) words[2 + i] = (u16)c->r[i];
    for (int i = 0; i < 4; i++) words[10 + i] = c->seg[i].sel;
    memcpy(p, words, sizeof words);
    *at = 0x0e;
    return sizeof words;
}

/* The descriptor of the new task: GDT, TSS, (not) busy, present, large enough. */
static bool check_tss(accel_cpu *c, u16 sel, enum task_reason why, u32 ext, struct descriptor *d, struct segment *s) {
    int vec = why == TASK_IRET ? EX_TS : EX_GP;
    u32 error = (sel & 0xfffc) | ext;
    if (!(sel & 0xfffc) || (sel & 4)) return set_fault(c, vec, true, error);
    if (!need_descriptor(c, sel, false, vec, ext, d)) return false;
    *s = segment_of(sel, d->lo);
    u32 type = s->ar & (AR_S | AR_TYPE), wanted = why == TASK_IRET ? 3 : 1;
    if ((type & ~8u) != wanted) return set_fault(c, vec, true, error);
    if (!(s->ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (s->limit < (type & 8 ? TSS32_SIZE : TSS16_SIZE) - 1u) return set_fault(c, EX_TS, true, error);
    return true;
}

/* Sets or clears the busy bit of a TSS descriptor in the GDT. */
static bool set_busy(accel_cpu *c, u16 sel, bool busy) {
    u8 type;
    u64 lin = (c->gdtr.base + (sel & 0xfff8) + 5) & 0xffffffff;
    if (!sys_read(c, lin, &type, 1)) return false;
    type = busy ? type | 2 : type & ~2;
    return sys_write(c, lin, &type, 1);
}

static bool check_code(accel_cpu *c, u16 sel, u32 ext) {
    struct descriptor d;
    u32 error = (sel & 0xfffc) | ext, rpl = sel & 3;
    if (!(sel & 0xfffc)) return set_fault(c, EX_TS, true, ext);
    if (!need_descriptor(c, sel, false, EX_TS, ext, &d)) return false;
    u32 ar = desc_ar(d.lo), dpl = AR_DPL_OF(ar);
    if (!ar_is_code(ar) || (ar_is_conforming(ar) ? dpl > rpl : dpl != rpl)) return set_fault(c, EX_TS, true, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (!mark_accessed(c, &d)) return false;
    c->seg[SEG_CS] = segment_of(sel, d.lo);
    return true;
}

static bool check_data(accel_cpu *c, int seg, u16 sel, u32 ext) {
    struct descriptor d;
    u32 error = (sel & 0xfffc) | ext;
    if (!(sel & 0xfffc)) return true;
    if (!need_descriptor(c, sel, false, EX_TS, ext, &d)) return false;
    u32 ar = desc_ar(d.lo), dpl = AR_DPL_OF(ar);
    if (!ar_is_readable(ar) || (!ar_is_conforming(ar) && (dpl < c->cpl || dpl < (sel & 3u)))) return set_fault(c, EX_TS, true, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (!mark_accessed(c, &d)) return false;
    c->seg[seg] = segment_of(sel, d.lo);
    return true;
}

/* Loads LDTR and the segment registers of the new task, in its context. */
static bool load_segments(accel_cpu *c, const struct tss *t, u32 ext) {
    static const u8 data[] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};
    for (int i = 0; i < 6; i++) set_null_segment(c, i, t->seg[i]);
    set_null_segment(c, SEG_LDTR, t->ldt);
    c->cpl = t->flags & F_VM ? 3 : t->seg[SEG_CS] & 3;
    if (!load_ldtr(c, t->ldt, EX_TS, ext)) return false;
    if (t->flags & F_VM) {
        for (int i = 0; i < 6; i++) set_segment_real(c, i, t->seg[i]);
        return true;
    }
    if (!check_code(c, t->seg[SEG_CS], ext)) return false;
    if (!check_stack_segment(c, t->seg[SEG_SS], c->cpl, EX_TS, ext, false, &c->seg[SEG_SS])) return false;
    for (unsigned i = 0; i < sizeof data; i++)
        if (!check_data(c, data[i], t->seg[data[i]], ext)) return false;
    return true;
}

static bool push_error_code(accel_cpu *c, bool wide, u32 error) {
    struct stack s;
    update_mode(c);
    stack_current(c, &s);
    if (!stack_push(c, &s, error, wide ? 4 : 2)) return false;
    stack_commit(c, &s);
    c->r[R_RSP] = merge_sp(c->r[R_RSP], s.sp, s.mask);
    return true;
}

/* Everything that the old task keeps, written to its TSS; then the descriptors' busy bits. */
static bool leave_old(accel_cpu *c, u16 sel, enum task_reason why, u64 next_rip, const struct segment *to) {
    const struct segment *old = &c->seg[SEG_TR];
    u8 image[64];
    unsigned at;
    u32 flags = get_rflags(c);
    if (why == TASK_IRET) flags &= ~(u32)F_NT;
    unsigned size = pack(c, old->ar & 8, next_rip, flags, image, &at);
    u16 link = old->sel;
    bool nested = why == TASK_CALL || why == TASK_EVENT;
    if (!sys_probe_write(c, old->base + at, size) || (nested && !sys_probe_write(c, to->base, 2))) return false;
    if (why != TASK_IRET && !set_busy(c, sel, true)) return false;
    if (!nested && !set_busy(c, old->sel, false)) return false;
    if (!sys_write(c, old->base + at, image, size)) return false;
    return !nested || sys_write(c, to->base, &link, 2);
}

bool task_switch(accel_cpu *c, u16 sel, enum task_reason why, u64 next_rip, bool has_error, u32 error, u32 ext, bool *switched) {
    struct descriptor d;
    struct segment to;
    struct tss t;
    u8 image[TSS32_SIZE];
    *switched = false;
    if (!check_tss(c, sel, why, ext, &d, &to)) return false;
    const struct segment *old = &c->seg[SEG_TR];
    if ((old->ar & AR_UNUSABLE) || old->limit < (old->ar & 8 ? 0x5fu : 0x29u)) return set_fault(c, EX_TS, true, (old->sel & 0xfffc) | ext);
    bool wide = to.ar & 8;
    for (unsigned at = 0; at < (wide ? TSS32_SIZE : TSS16_SIZE); at += 4)
        if (!sys_read(c, to.base + at, image + at, 4)) return false;
    unpack(image, wide, &t);
    if (!leave_old(c, sel, why, next_rip, &to)) return false;

    *switched = true;
    to.ar |= 2;
    c->seg[SEG_TR] = to;
    c->cr0 |= CR0_TS;
    c->dr[7] &= ~0x155ull; /* L0-L3, LE */
    bool ok = true;
    if (wide && (c->cr0 & CR0_PG)) {
        u64 old = c->cr3;
        ok = set_cr3(c, t.cr3) || set_fault(c, EX_TS, true, (sel & 0xfffc) | ext);
        if (ok) note_caught(c, ACCEL_CATCH_CR3, 3, true, old, t.cr3);
    }
    for (int i = 0; i < 8; i++) c->r[i] = t.r[i];
    if (why == TASK_CALL || why == TASK_EVENT) t.flags |= F_NT;
    set_rflags(c, t.flags & (F_ARITH | F_SYS));
    c->rip = t.ip;
    ok = ok && load_segments(c, &t, ext);
    if (ok && c->rip > c->seg[SEG_CS].limit) ok = gp(c, ext);
    if (ok && has_error) ok = push_error_code(c, wide, error);
    if (ok && t.trap) c->pending_dbg |= BIT(15); /* BT */
    update_mode(c);
    return ok;
}
