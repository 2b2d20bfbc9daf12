/*
 * op_control.c - control and debug registers, descriptor-table registers, TLB and caches.
 *
 * CPL 0 is checked here and not left to the rows' cpl0 attribute, which only knows CPL 3.
 */
#include "system.h"

/* ---- control registers -------------------------------------------------------------------------------------- */

static bool known_cr(unsigned n) { return n == 0 || n == 2 || n == 3 || n == 4 || n == 8; }

SLOW_HANDLER(h_mov_RC) {
    if (!known_cr(o->reg)) return ud(c);
    if (c->cpl) return gp(c, 0);
    const u64 values[9] = {c->cr0, 0, c->cr2, c->cr3, c->cr4, 0, 0, 0, c->cr8};
    put_64(c, o->rm, is_code64(c) ? values[o->reg] : (u32)values[o->reg]);
    return true;
}

/* The monitor's APIC has to learn a new task priority before the next instruction. */
static bool write_cr8(accel_cpu *c, const struct op *o, u64 v) {
    if (v > 15) return gp(c, 0);
    if (v == c->cr8) return true;
    c->cr8 = v;
    c->exit.kind = ACCEL_EXIT_CR8;
    c->exit.value = v;
    c->exit.inst_length = o->len;
    c->attention |= ATT_EXIT;
    return true;
}

SLOW_HANDLER_END(h_mov_CR) {
    (void)next;
    if (!known_cr(o->reg)) return ud(c);
    if (c->cpl) return gp(c, 0);
    u64 v = is_code64(c) ? get_64(c, o->rm) : get_32(c, o->rm);
    switch (o->reg) {
    case 0: return set_cr0(c, v) || gp(c, 0);
    case 2: c->cr2 = v; return true;
    case 3: {
        u64 old = c->cr3;
        if (!set_cr3(c, v)) return gp(c, 0);
        note_caught(c, ACCEL_CATCH_CR3, 3, true, old, v);
        return true;
    }
    case 4: return set_cr4(c, v) || gp(c, 0);
    default: return write_cr8(c, o, v);
    }
}

SLOW_HANDLER_END(h_clts) {
    (void)o, (void)next;
    if (c->cpl) return gp(c, 0);
    c->cr0 &= ~(u64)CR0_TS;
    update_mode(c);
    return true;
}

/* LMSW loads PE MP EM TS; it sets PE but does not clear it. */
SLOW_HANDLER_END(h_lmsw) {
    (void)next;
    u16 v;
    if (c->cpl) return gp(c, 0);
    if (!OP_MEM(o)) v = get_16(c, o->rm);
    else if (!rd_16(c, o, &v)) return false;
    return set_cr0(c, (c->cr0 & ~0xeull) | (v & 0xf)) || gp(c, 0);
}

SLOW_HANDLER(h_smsw) {
    if ((c->cr4 & CR4_UMIP) && c->cpl) return gp(c, 0);
    if (OP_MEM(o)) return wr_16(c, o, (u16)c->cr0);
    if (OP_OSZ(o) == SZ16) put_16(c, o->rm, (u16)c->cr0);
    else put_native(c, o, o->rm, c->cr0);
    return true;
}

/* ---- debug registers (SDM vol. 3, "Debug Registers") ------------------------------------------------------------ */

void write_dr(accel_cpu *c, unsigned n, u64 v) {
    if (n == 6) v = (v & 0xe00f) | 0xffff0ff0;
    else if (n == 7) v = (v & 0xffff23ff) | 0x400;
    if (c->dr[n] == v) return;
    c->dr[n] = v;
    if (n == 6) return;
    ftlb_flush(c); /* pages with breakpoints leave the fast paths */
    fetch_flush(c);
}

/* The register meant by DR4 and DR5: DR6 and DR7, or #UD under CR4.DE. -1: c->fault is set. */
static int debug_register(accel_cpu *c, const struct op *o) {
    unsigned n = o->reg;
    if (n > 7 || ((n == 4 || n == 5) && (c->cr4 & CR4_DE))) return ud(c) - 1;
    if (c->cpl) return gp(c, 0) - 1;
    if (c->dr[7] & BIT(13)) { /* general detect: a fault with DR6.BD */
        c->pending_dbg |= BIT(13);
        return set_fault(c, EX_DB, false, 0) - 1;
    }
    return n == 4 || n == 5 ? (int)n + 2 : (int)n;
}

SLOW_HANDLER_END(h_mov_RD) {
    (void)next;
    int n = debug_register(c, o);
    if (n < 0) return false;
    put_64(c, o->rm, is_code64(c) ? c->dr[n] : (u32)c->dr[n]);
    return true;
}

SLOW_HANDLER_END(h_mov_DR) {
    (void)next;
    int n = debug_register(c, o);
    if (n < 0) return false;
    u64 v = is_code64(c) ? get_64(c, o->rm) : get_32(c, o->rm);
    if (n >= 6 && v >> 32) return gp(c, 0);
    write_dr(c, (unsigned)n, v);
    return true;
}

/* ---- descriptor-table registers ------------------------------------------------------------------------------------ */

static bool load_table(accel_cpu *c, const struct op *o, struct table *t) {
    unsigned size = is_code64(c) ? 10 : 6;
    u8 raw[10];
    u64 lin, base = 0;
    u16 limit;
    if (c->cpl) return gp(c, 0);
    if (!op_linear(c, o, size, ACC_R, &lin) || !mem_read(c, o, lin, raw, size)) return false;
    memcpy(&limit, raw, 2);
    memcpy(&base, raw + 2, size - 2);
    if (size == 10 && !canonical(c, base)) return gp(c, 0);
    if (size == 6 && OP_OSZ(o) == SZ16) base &= 0xffffff;
    *t = (struct table){.base = base, .limit = limit};
    return true;
}

static bool store_table(accel_cpu *c, const struct op *o, const struct table *t) {
    unsigned size = is_code64(c) ? 10 : 6;
    u8 raw[10];
    u64 lin;
    if ((c->cr4 & CR4_UMIP) && c->cpl) return gp(c, 0);
    memcpy(raw, &t->limit, 2);
    memcpy(raw + 2, &t->base, 8);
    return op_linear(c, o, size, ACC_W, &lin) && mem_write(c, o, lin, raw, size);
}

SLOW_HANDLER_END(h_lgdt) { (void)next; return load_table(c, o, &c->gdtr); }
SLOW_HANDLER_END(h_lidt) { (void)next; return load_table(c, o, &c->idtr); }
SLOW_HANDLER(h_sgdt) { return store_table(c, o, &c->gdtr); }
SLOW_HANDLER(h_sidt) { return store_table(c, o, &c->idtr); }

/* ---- TLB and caches ---------------------------------------------------------------------------------------------------- */

/* Any address is accepted: no limit, no rights, nothing for a non-canonical one. */
SLOW_HANDLER_END(h_invlpg) {
    (void)next;
    if (c->cpl) return gp(c, 0);
    u64 lin = op_ea(c, o) + c->segbase[o->seg];
    if (!is_code64(c)) lin &= 0xffffffff;
    if (!is_code64(c) || canonical(c, lin)) tlb_invlpg(c, lin);
    return true;
}

/* Types 0 and 3 may drop more than they are asked for (SDM vol. 3, "Operations that Invalidate TLBs"). */
SLOW_HANDLER_END(h_invpcid) {
    (void)next;
    u64 lin, type, desc[2];
    if (c->cpl) return gp(c, 0);
    if (!op_linear(c, o, 16, ACC_R, &lin) || !mem_read(c, o, lin, desc, 16)) return false;
    type = is_code64(c) ? get_64(c, o->reg) : get_32(c, o->reg);
    if (type > 3 || desc[0] >> 12) return gp(c, 0);
    if (type <= 1 && !(c->cr4 & CR4_PCIDE) && desc[0]) return gp(c, 0);
    if (type == 0 && !canonical(c, desc[1])) return gp(c, 0);
    if (type == 0) tlb_invlpg(c, desc[1]);
    else if (type == 1) tlb_flush_pcid(c, (u32)desc[0]);
    else tlb_flush(c, true);
    return true;
}

/* Caches are not modelled. */
HANDLER(h_wbinvd) {
    if (c->cpl) return raise_err(c, o, EX_GP, 0);
    NEXT(c, o);
}
