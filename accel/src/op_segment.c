/*
 * op_segment.c - descriptors and the segment registers: MOV/POP Sreg, LDS LES LFS LGS LSS, LLDT LTR SLDT STR, LAR LSL
 * VERR VERW, ARPL. (SDM vol. 3, "Protected-Mode Memory Management" and "Protection".)
 */
#include "system.h"

/* ---- descriptors --------------------------------------------------------------------------------------- */

enum lookup lookup_descriptor(accel_cpu *c, u16 sel, bool wide, struct descriptor *d) {
    const struct segment *ldt = &c->seg[SEG_LDTR];
    u64 base = c->gdtr.base, limit = c->gdtr.limit;
    if (sel & 4) {
        if (ldt->ar & AR_UNUSABLE) return LOOKUP_LIMIT;
        base = ldt->base, limit = ldt->limit;
    } else if (!(sel & 0xfff8)) {
        return LOOKUP_LIMIT;
    }
    unsigned size = wide ? 16 : 8;
    u32 at = sel & 0xfff8;
    if (at + size - 1 > limit) return LOOKUP_LIMIT;
    d->lin = base + at;
    if (!is_long(c)) d->lin &= 0xffffffff;
    d->hi = 0;
    bool ok = wide ? sys_read(c, d->lin, &d->lo, 16) : sys_read_fixed(c, d->lin, &d->lo, 8);
    return ok ? LOOKUP_OK : LOOKUP_FAULT;
}

bool need_descriptor(accel_cpu *c, u16 sel, bool wide, int vec, u32 ext, struct descriptor *d) {
    switch (lookup_descriptor(c, sel, wide, d)) {
    case LOOKUP_OK: return true;
    case LOOKUP_FAULT: return false;
    default: return set_fault(c, vec, true, (sel & 0xfffc) | ext);
    }
}

bool read_descriptor(accel_cpu *c, uint16_t sel, uint64_t *lo, uint64_t *hi, int vec) {
    struct descriptor d;
    if (!need_descriptor(c, sel, hi != NULL, vec, 0, &d)) return false;
    *lo = d.lo;
    if (hi) *hi = d.hi;
    return true;
}

bool write_accessed(accel_cpu *c, struct descriptor *d) {
    d->lo |= BIT(40);
    u8 type = (u8)(d->lo >> 40);
    return sys_write(c, d->lin + 5, &type, 1);
}

void set_null_segment(accel_cpu *c, int seg, u16 sel) { c->seg[seg] = (struct segment){.sel = sel, .ar = AR_UNUSABLE}; }

/* Real mode keeps limit and access rights as protected mode left them; virtual-8086 mode fixes them. */
void set_segment_real(accel_cpu *c, int seg, uint16_t sel) {
    struct segment *s = &c->seg[seg];
    s->sel = sel;
    s->base = (u32)sel << 4;
    if (in_vm86(c)) {
        s->limit = 0xffff;
        s->ar = 0xf3;
    }
}

bool check_stack_segment(accel_cpu *c, u16 sel, unsigned cpl, int vec, u32 ext, bool null_ok, struct segment *out) {
    struct descriptor d;
    u32 error = (sel & 0xfffc) | ext;
    if (!(sel & 0xfffc)) {
        if (!null_ok || (sel & 3) != cpl) return set_fault(c, vec, true, ext);
        *out = (struct segment){.sel = sel, .ar = AR_UNUSABLE | cpl << 5};
        return true;
    }
    if ((sel & 3) != cpl) return set_fault(c, vec, true, error);
    if (!need_segment(c, sel, vec, ext, &d)) return false;
    u32 ar = desc_ar(d.lo);
    if (!ar_is_writable_data(ar) || AR_DPL_OF(ar) != cpl) return set_fault(c, vec, true, error);
    if (!(ar & AR_P)) return set_fault(c, EX_SS, true, error);
    if (!mark_accessed(c, &d)) return false;
    *out = segment_of(sel, d.lo);
    return true;
}

static bool load_data_segment(accel_cpu *c, int seg, u16 sel) {
    struct descriptor d;
    u32 error = sel & 0xfffc;
    if (!error) {
        set_null_segment(c, seg, sel);
        return true;
    }
    if (!need_segment(c, sel, EX_GP, 0, &d)) return false;
    u32 ar = desc_ar(d.lo);
    if (!ar_is_readable(ar)) return gp(c, error);
    if (!ar_is_conforming(ar) && ((sel & 3) > (int)AR_DPL_OF(ar) || c->cpl > AR_DPL_OF(ar))) return gp(c, error);
    if (!(ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (!mark_accessed(c, &d)) return false;
    c->seg[seg] = segment_of(sel, d.lo);
    return true;
}

bool load_segment(accel_cpu *c, int seg, uint16_t sel) {
    if (is_real_or_vm(c)) {
        set_segment_real(c, seg, sel);
    } else if (seg == SEG_SS) {
        bool null_ok = is_code64(c) && c->cpl != 3;
        if (!check_stack_segment(c, sel, c->cpl, EX_GP, 0, null_ok, &c->seg[SEG_SS])) return false;
    } else if (!load_data_segment(c, seg, sel)) {
        return false;
    }
    update_mode(c);
    return true;
}

/* ---- MOV and POP ------------------------------------------------------------------------------------------- */

static bool read_word(accel_cpu *c, const struct op *o, u16 *v) {
    if (OP_MEM(o)) return rd_16(c, o, v);
    *v = get_16(c, o->rm);
    return true;
}

static bool write_word(accel_cpu *c, const struct op *o, u16 v) {
    if (OP_MEM(o)) return wr_16(c, o, v);
    put_16(c, o->rm, v);
    return true;
}

/* A selector or a status word: zero-extended to the operand size in a register, 16 bits in memory. */
static bool store_word(accel_cpu *c, const struct op *o, u64 v) {
    if (OP_MEM(o)) return wr_16(c, o, (u16)v);
    if (OP_OSZ(o) == SZ16) put_16(c, o->rm, (u16)v);
    else put_64(c, o->rm, v);
    return true;
}

SLOW_HANDLER_END(h_mov_SE) {
    (void)next;
    u16 sel;
    int seg = o->reg & 7;
    if (seg == SEG_CS || seg > SEG_GS) return set_fault(c, EX_UD, false, 0);
    if (!read_word(c, o, &sel) || !load_segment(c, seg, sel)) return false;
    if (seg == SEG_SS) c->shadow = SHADOW_SS;
    return true;
}

SLOW_HANDLER(h_mov_ES) {
    int seg = o->reg & 7;
    if (seg > SEG_GS) return set_fault(c, EX_UD, false, 0);
    return store_word(c, o, c->seg[seg].sel);
}

static bool pop_segment(accel_cpu *c, const struct op *o, int seg) {
    u64 mask = stack_mask(c), sp = c->r[R_RSP], lin;
    unsigned size = 1u << OP_OSZ(o);
    u16 sel;
    if (!seg_linear(c, SEG_SS, sp & mask, size, ACC_R, &lin) || !mem_read(c, o, lin, &sel, 2)) return false;
    if (!load_segment(c, seg, sel)) return false;
    c->r[R_RSP] = merge_sp(sp, (sp + size) & mask, mask);
    if (seg == SEG_SS) c->shadow = SHADOW_SS;
    return true;
}
#define POP_SEGMENT(name, seg) SLOW_HANDLER_END(h_pop_##name) { (void)next; return pop_segment(c, o, seg); }
POP_SEGMENT(es, SEG_ES)
POP_SEGMENT(ss, SEG_SS)
POP_SEGMENT(ds, SEG_DS)
POP_SEGMENT(fs, SEG_FS)
POP_SEGMENT(gs, SEG_GS)

/* LDS LES LFS LGS LSS: offset, then selector. */
static bool load_pointer(accel_cpu *c, const struct op *o, int seg) {
    unsigned size = 1u << OP_OSZ(o);
    u8 pointer[10];
    u64 lin, offset = 0;
    u16 sel;
    if (!op_linear(c, o, size + 2, ACC_R, &lin) || !mem_read(c, o, lin, pointer, size + 2)) return false;
    memcpy(&offset, pointer, size);
    memcpy(&sel, pointer + size, 2);
    if (!load_segment(c, seg, sel)) return false;
    if (size == 2) put_16(c, o->reg, (u16)offset);
    else put_64(c, o->reg, offset);
    return true;
}
#define LOAD_POINTER(name, seg) SLOW_HANDLER_END(h_##name) { (void)next; return load_pointer(c, o, seg); }
LOAD_POINTER(les, SEG_ES)
LOAD_POINTER(lds, SEG_DS)
LOAD_POINTER(lss, SEG_SS)
LOAD_POINTER(lfs, SEG_FS)
LOAD_POINTER(lgs, SEG_GS)

/* ---- LDTR and TR ------------------------------------------------------------------------------------------- */

static bool umip_refuses(const accel_cpu *c) { return (c->cr4 & CR4_UMIP) && c->cpl > 0; }

SLOW_HANDLER(h_sldt) { return umip_refuses(c) ? gp(c, 0) : store_word(c, o, c->seg[SEG_LDTR].sel); }
SLOW_HANDLER(h_str) { return umip_refuses(c) ? gp(c, 0) : store_word(c, o, c->seg[SEG_TR].sel); }

/* The base of a system segment: 64 bits in IA-32e mode. The upper half of its descriptor must look like none. */
static bool system_base(accel_cpu *c, const struct descriptor *d, int vec, u32 error, u64 *base) {
    *base = desc_base(d->lo);
    if (!is_long(c)) return true;
    *base |= d->hi << 32;
    if ((d->hi >> 40 & 0x1f) || !canonical(c, *base)) return set_fault(c, vec, true, error);
    return true;
}

bool load_ldtr(accel_cpu *c, u16 sel, int vec, u32 ext) {
    struct descriptor d;
    u32 error = (sel & 0xfffc) | ext;
    if (!(sel & 0xfffc)) {
        set_null_segment(c, SEG_LDTR, sel);
        return true;
    }
    if (sel & 4) return set_fault(c, vec, true, error);
    if (!need_descriptor(c, sel, is_long(c), vec, ext, &d)) return false;
    struct segment s = segment_of(sel, d.lo);
    if ((s.ar & (AR_S | AR_TYPE)) != 2) return set_fault(c, vec, true, error);
    if (!(s.ar & AR_P)) return set_fault(c, vec == EX_TS ? EX_TS : EX_NP, true, error);
    if (!system_base(c, &d, vec, error, &s.base)) return false;
    c->seg[SEG_LDTR] = s;
    return true;
}

SLOW_HANDLER_END(h_lldt) {
    (void)next;
    u16 sel;
    return read_word(c, o, &sel) && load_ldtr(c, sel, EX_GP, 0);
}

SLOW_HANDLER_END(h_ltr) {
    (void)next;
    struct descriptor d;
    u16 sel;
    if (!read_word(c, o, &sel)) return false;
    u32 error = sel & 0xfffc;
    if (!error || (sel & 4)) return gp(c, error);
    if (!need_descriptor(c, sel, is_long(c), EX_GP, 0, &d)) return false;
    struct segment s = segment_of(sel, d.lo);
    u32 type = s.ar & (AR_S | AR_TYPE);
    if (type != 9 && (type != 1 || is_long(c))) return gp(c, error);
    if (!(s.ar & AR_P)) return set_fault(c, EX_NP, true, error);
    if (!system_base(c, &d, EX_GP, error, &s.base)) return false;
    s.ar |= 2; /* busy, in the table too */
    u8 byte = (u8)s.ar;
    if (!sys_write(c, d.lin + 5, &byte, 1)) return false;
    c->seg[SEG_TR] = s;
    return true;
}

/* ---- LAR LSL VERR VERW ARPL ---------------------------------------------------------------------------------- */

static void set_zf(accel_cpu *c, bool value) { set_flags_ah(c, F_ZF, value ? F_ZF : 0); }

/* Code and data of the selector can be reached from CPL and RPL (conforming code always). */
static bool privilege_ok(const accel_cpu *c, u16 sel, u32 ar) {
    return ar_is_conforming(ar) || (AR_DPL_OF(ar) >= c->cpl && AR_DPL_OF(ar) >= (sel & 3u));
}

/* The selector names something that LAR or LSL may tell about. system_types: bit t = system type t is valid.
 * -1: c->fault is set. */
static int visible_descriptor(accel_cpu *c, u16 sel, u32 system_types, struct descriptor *d) {
    if (!(sel & 0xfffc)) return 0;
    enum lookup found = lookup_descriptor(c, sel, false, d);
    if (found != LOOKUP_OK) return found == LOOKUP_FAULT ? -1 : 0;
    u32 ar = desc_ar(d->lo);
    if (!(ar & AR_S)) {
        if (!(system_types >> (ar & AR_TYPE) & 1)) return 0;
        if (is_long(c)) { /* 16 bytes, type 0 in the upper half */
            found = lookup_descriptor(c, sel, true, d);
            if (found != LOOKUP_OK) return found == LOOKUP_FAULT ? -1 : 0;
            if (d->hi >> 40 & 0x1f) return 0;
        }
    }
    return privilege_ok(c, sel, ar);
}

static void put_sized(accel_cpu *c, const struct op *o, u32 v) {
    if (OP_OSZ(o) == SZ16) put_16(c, o->reg, (u16)v);
    else put_64(c, o->reg, v);
}

SLOW_HANDLER(h_lar) {
    struct descriptor d;
    u16 sel;
    u32 types = is_long(c) ? 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12 : 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    if (!read_word(c, o, &sel)) return false;
    int ok = visible_descriptor(c, sel, types, &d);
    if (ok < 0) return false;
    if (ok) put_sized(c, o, (u32)(d.lo >> 32) & 0x00f0ff00);
    set_zf(c, ok);
    return true;
}

SLOW_HANDLER(h_lsl) {
    struct descriptor d;
    u16 sel;
    u32 types = is_long(c) ? 1 << 2 | 1 << 9 | 1 << 11 : 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    if (!read_word(c, o, &sel)) return false;
    int ok = visible_descriptor(c, sel, types, &d);
    if (ok < 0) return false;
    if (ok) put_sized(c, o, desc_limit(d.lo));
    set_zf(c, ok);
    return true;
}

static bool verify(accel_cpu *c, const struct op *o, bool write) {
    struct descriptor d;
    u16 sel;
    if (!read_word(c, o, &sel)) return false;
    int ok = visible_descriptor(c, sel, 0, &d);
    if (ok < 0) return false;
    if (ok) ok = write ? ar_is_writable_data(desc_ar(d.lo)) : ar_is_readable(desc_ar(d.lo));
    set_zf(c, ok);
    return true;
}
SLOW_HANDLER(h_verr) { return verify(c, o, false); }
SLOW_HANDLER(h_verw) { return verify(c, o, true); }

SLOW_HANDLER(h_arpl) {
    u16 sel, rpl = get_16(c, o->reg) & 3;
    if (!read_word(c, o, &sel)) return false;
    bool raise = (sel & 3) < rpl;
    if (raise) sel = (u16)((sel & ~3) | rpl);
    if (raise && !write_word(c, o, sel)) return false; /* memory need not be writable otherwise */
    set_zf(c, raise);
    return true;
}
