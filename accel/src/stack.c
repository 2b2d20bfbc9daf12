/*
 * stack.c - pushes of far transfers and event delivery: to the current stack or to that of another privilege level.
 *
 * A frame is first checked push by push (segment limit, canonical address, page), then written at once, so a fault leaves
 * nothing behind. The pushes reach memory slots only. (SDM vol. 3, "Stack Switching".)
 */
#include "system.h"

static u64 mask_of(u32 ar) { return ar & AR_DB ? 0xffffffffull : 0xffffull; }

void stack_on(accel_cpu *c, struct stack *s, const struct segment *ss, u64 sp, unsigned cpl, u32 error) {
    (void)c;
    s->ss = *ss;
    s->mask = mask_of(ss->ar);
    s->sp = sp & 0xffffffff;
    s->flat = false;
    s->user = cpl == 3;
    s->error = error;
    s->count = 0;
}

void stack_on_64(accel_cpu *c, struct stack *s, u64 sp, unsigned cpl, u32 error) {
    (void)c;
    s->ss = (struct segment){0};
    s->mask = ~0ull;
    s->sp = sp;
    s->flat = true;
    s->user = cpl == 3;
    s->error = error;
    s->count = 0;
}

void stack_current(accel_cpu *c, struct stack *s) {
    if (is_code64(c)) stack_on_64(c, s, c->r[R_RSP], c->cpl, 0);
    else stack_on(c, s, &c->seg[SEG_SS], c->r[R_RSP], c->cpl, 0);
}

u64 merge_sp(u64 old, u64 sp, u64 mask) { return mask == 0xffff ? (old & ~mask) | (sp & mask) : sp & mask; }

/* [offset, offset + size) of a stack segment (SDM vol. 3, "Limit Checking"). */
static bool inside(const struct stack *s, u64 offset, unsigned size) {
    u64 last = offset + size - 1;
    if ((s->ss.ar & 0xc) == 4) return offset > s->ss.limit && last <= s->mask;
    return last <= s->ss.limit;
}

bool stack_push(accel_cpu *c, struct stack *s, u64 value, unsigned size) {
    u64 offset = (s->sp - size) & s->mask, lin;
    if (s->flat) {
        lin = offset;
        if (!canonical(c, lin) || !canonical(c, lin + size - 1)) return set_fault(c, EX_SS, true, s->error);
    } else {
        bool checked = protected_mode(c);
        if (checked && (s->ss.ar & AR_UNUSABLE)) return set_fault(c, EX_SS, true, s->error);
        if (!inside(s, offset, size)) return set_fault(c, EX_SS, true, s->error);
        lin = (s->ss.base + offset) & 0xffffffff;
    }
    if (s->count == sizeof s->push / sizeof *s->push) return set_fault(c, EX_SS, true, s->error);
    unsigned room = 4096 - (lin & 0xfff), first = size < room ? size : room;
    u64 next = lin + first;
    if (!s->flat) next &= 0xffffffff;
    u64 pa[2] = {0, 0};
    u8 *host = view_w(c->ftlb[s->user ? FT_USER : system_view(c)], lin, size);
    if (!host && !mmu_translate(c, lin, ACC_W, s->user, &pa[0])) return false;
    if (!host && first != size && !mmu_translate(c, next, ACC_W, s->user, &pa[1])) return false;
    s->push[s->count].lin = lin;
    s->push[s->count].value = value;
    s->push[s->count].host = host;
    s->push[s->count].pa[0] = pa[0];
    s->push[s->count].pa[1] = pa[1];
    s->push[s->count].size = (u8)size;
    s->push[s->count].first = (u8)first;
    s->count++;
    s->sp = merge_sp(s->sp, offset, s->mask);
    return true;
}

void stack_commit(accel_cpu *c, struct stack *s) {
    for (unsigned i = 0; i < s->count; i++) {
        const u8 *from = (const u8 *)&s->push[i].value;
        unsigned size = s->push[i].size, first = s->push[i].first;
        if (likely(s->push[i].host != NULL)) {
            memcpy(s->push[i].host, from, size);
            continue;
        }
        phys_store(c, s->push[i].pa[0], from, first, s->push[i].lin);
        if (first != size) phys_store(c, s->push[i].pa[1], from + first, size - first, s->push[i].lin + first);
    }
}

/* ---- stack pointers in the TSS (SDM vol. 3, "Task-State Segment (TSS)") ------------------------------------ */

static bool tss_read(accel_cpu *c, unsigned offset, void *to, unsigned size, u32 ext) {
    const struct segment *tr = &c->seg[SEG_TR];
    if ((tr->ar & AR_UNUSABLE) || offset + size - 1 > tr->limit) return set_fault(c, EX_TS, true, (tr->sel & 0xfffc) | ext);
    return size == 8 ? sys_read_fixed(c, tr->base + offset, to, 8) : sys_read(c, tr->base + offset, to, size);
}

bool tss_rsp(accel_cpu *c, unsigned offset, u32 ext, u64 *rsp) { return tss_read(c, offset, rsp, 8, ext); }

bool tss_stack(accel_cpu *c, unsigned cpl, u32 ext, u16 *ss, u64 *sp) {
    u32 sp32;
    u16 sp16;
    if (c->seg[SEG_TR].ar & 8) { /* 32-bit */
        if (!tss_read(c, 4 + 8 * cpl, &sp32, 4, ext) || !tss_read(c, 8 + 8 * cpl, ss, 2, ext)) return false;
        *sp = sp32;
    } else {
        if (!tss_read(c, 2 + 4 * cpl, &sp16, 2, ext) || !tss_read(c, 4 + 4 * cpl, ss, 2, ext)) return false;
        *sp = sp16;
    }
    return true;
}
