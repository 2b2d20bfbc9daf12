/*
 * op_x87_control.c - x87 control instructions and the FSTENV/FSAVE layouts (SDM vol. 1, "x87 FPU Instruction Set", and
 * figures "Protected Mode x87 FPU State Image ..." and "Real Mode ..."). They leave the instruction and operand
 * pointers alone. FN... forms do not wait; an FSTCW and its like is FWAIT and the FN form.
 */
#include "vec.h"
#include "fpu.h"

/* FWAIT: #NM only when both CR0.MP and CR0.TS are set. */
SLOW_HANDLER(h_fwait) {
    (void)o;
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return set_fault(c, EX_NM, false, 0);
    return fpu_wait(c);
}

HANDLER(h_fninit_r) { fpu_init(c); NEXT(c, o); }
HANDLER(h_fnclex_r) {
    c->fpu.sw &= (u16) ~(FSW_FLAGS | FSW_SF | FSW_ES | FSW_B);
    NEXT(c, o);
}
/* FNOP waits; FENI, FDISI and FSETPM of the 8087 and 80287 do nothing. */
SLOW_HANDLER(h_fnop_r) {
    if (!fpu_wait(c)) return false;
    fpu_note(c, o);
    return true;
}
HANDLER(h_fignored_r) { NEXT(c, o); }

SLOW_HANDLER(h_fincstp_r) {
    if (!fpu_wait(c)) return false;
    fpu_set_top(c, fpu_top(c) + 1);
    c->fpu.sw &= (u16)~FSW_C1;
    fpu_note(c, o);
    return true;
}
SLOW_HANDLER(h_fdecstp_r) {
    if (!fpu_wait(c)) return false;
    fpu_set_top(c, fpu_top(c) - 1);
    c->fpu.sw &= (u16)~FSW_C1;
    fpu_note(c, o);
    return true;
}
/* C1 is undefined after FFREE; cleared here. FFREEP (DF C0+i) also pops. */
SLOW_HANDLER(h_ffree_r) {
    if (!fpu_wait(c)) return false;
    c->fpu.tag &= (u8)~(1u << fpu_reg(c, o->rm & 7));
    c->fpu.sw &= (u16)~FSW_C1;
    fpu_note(c, o);
    return true;
}
SLOW_HANDLER(h_ffreep_r) {
    if (!fpu_wait(c)) return false;
    c->fpu.tag &= (u8)~(1u << fpu_reg(c, o->rm & 7));
    c->fpu.sw &= (u16)~FSW_C1;
    fpu_pop(c);
    fpu_note(c, o);
    return true;
}

static void set_cw(accel_cpu *c, u16 v) {
    c->fpu.cw = (v & FCW_WRITABLE) | FCW_ALWAYS;
    fpu_update_es(c);
}

SLOW_HANDLER(h_fldcw_m) {
    u16 v;
    if (!fpu_wait(c) || !rd_16(c, o, &v)) return false;
    set_cw(c, v);
    return true;
}
SLOW_HANDLER(h_fnstcw_m) { return wr_16(c, o, c->fpu.cw); }
SLOW_HANDLER(h_fnstsw_m) { return wr_16(c, o, c->fpu.sw); }
HANDLER(h_fnstsw_AX_r) { put_16(c, R_RAX, c->fpu.sw); NEXT(c, o); }

/* ---- environment ----
 * 14 bytes with 16-bit operand size, else 28; FSAVE has the eight registers in stack order behind it. */

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static unsigned tag_of(const u8 *reg) {
    u64 mantissa = ld8u(reg);
    unsigned exponent = ld2u(reg + 8) & 0x7fff;
    if (!exponent && !mantissa) return TAG_ZERO;
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}
static u16 full_tag(const accel_cpu *c) {
    unsigned t = 0;
    for (unsigned i = 0; i < 8; i++) t |= (c->fpu.tag >> i & 1 ? tag_of(c->fpu.st[i]) : (unsigned)TAG_EMPTY) << (2 * i);
    return (u16)t;
}

static unsigned env_size(const struct op *o) { return OP_OSZ(o) == SZ16 ? 14 : 28; }

/* Linear addresses of the real-mode and VM86 layouts. */
static u32 real_address(u16 sel, u64 offset) { return (u32)(((u32)sel << 4) + (u32)offset); }

static void put_env(const accel_cpu *c, const struct op *o, u8 *a) {
    const struct fpu *f = &c->fpu;
    bool real = is_real_or_vm(c);
    u32 ip = real ? real_address(f->fcs, f->fip) : (u32)f->fip, dp = real ? real_address(f->fds, f->fdp) : (u32)f->fdp;
    u32 fop = f->fop & 0x7ff;
    if (OP_OSZ(o) == SZ16) {
        u16 w[7] = {f->cw, f->sw, full_tag(c), (u16)ip, f->fcs, (u16)dp, f->fds};
        if (real) {
            w[4] = (u16)((ip >> 16) << 12 | fop);
            w[6] = (u16)((dp >> 16) << 12);
        }
        memcpy(a, w, sizeof w);
        return;
    }
    u32 d[7] = {f->cw | 0xffff0000u, f->sw | 0xffff0000u, full_tag(c) | 0xffff0000u, ip, f->fcs | fop << 16, dp, f->fds | 0xffff0000u};
    if (real) {
        d[3] = (ip & 0xffff) | 0xffff0000u;
        d[4] = (ip >> 16) << 12 | fop;
        d[5] = (dp & 0xffff) | 0xffff0000u;
        d[6] = (dp >> 16) << 12;
    }
    memcpy(a, d, sizeof d);
}

/* The real-mode layouts hold linear addresses: they come back as offsets from selector 0. */
static void get_env(accel_cpu *c, const struct op *o, const u8 *a) {
    struct fpu *f = &c->fpu;
    bool real = is_real_or_vm(c);
    u16 tag;
    f->fcs = f->fds = 0;
    if (OP_OSZ(o) == SZ16) {
        u16 w[7];
        memcpy(w, a, sizeof w);
        f->sw = w[1], tag = w[2];
        fpu_find_top(c);
        f->fip = w[3], f->fdp = w[5];
        if (real) {
            f->fip |= (u32)(w[4] >> 12) << 16;
            f->fdp |= (u32)(w[6] >> 12) << 16;
            f->fop = w[4] & 0x7ff;
        } else {
            f->fcs = w[4], f->fds = w[6];
        }
        set_cw(c, w[0]);
    } else {
        u32 d[7];
        memcpy(d, a, sizeof d);
        f->sw = (u16)d[1], tag = (u16)d[2];
        fpu_find_top(c);
        if (real) {
            f->fip = (d[3] & 0xffff) | ((d[4] >> 12) & 0xffff) << 16;
            f->fdp = (d[5] & 0xffff) | ((d[6] >> 12) & 0xffff) << 16;
            f->fop = d[4] & 0x7ff;
        } else {
            f->fip = d[3], f->fdp = d[5];
            f->fcs = (u16)d[4], f->fds = (u16)d[6];
            f->fop = d[4] >> 16 & 0x7ff;
        }
        set_cw(c, (u16)d[0]);
    }
    f->tag = 0;
    for (unsigned i = 0; i < 8; i++)
        if ((tag >> (2 * i) & 3) != TAG_EMPTY) f->tag |= (u8)(1u << i);
}

/* The areas are the environment, whose alignment is the one that counts, and twice 40 bytes of registers. */
static unsigned piece(const struct op *o, unsigned at) { return at ? 40 : env_size(o); }

static bool move_out(accel_cpu *c, const struct op *o, const u8 *a, unsigned size) {
    u64 lin;
    if (!op_linear(c, o, size, ACC_W, &lin)) return false;
    for (unsigned at = 0; at < size; at += piece(o, at))
        if (!mem_probe_write(c, o, lin + at, piece(o, at))) return false;
    for (unsigned at = 0; at < size; at += piece(o, at))
        if (!mem_write(c, o, lin + at, a + at, piece(o, at))) return false;
    return true;
}
static bool move_in(accel_cpu *c, const struct op *o, u8 *a, unsigned size) {
    u64 lin;
    if (!op_linear(c, o, size, ACC_R, &lin)) return false;
    for (unsigned at = 0; at < size; at += piece(o, at))
        if (!mem_read(c, o, lin + at, a + at, piece(o, at))) return false;
    return true;
}

SLOW_HANDLER(h_fnstenv_m) {
    u8 a[28];
    put_env(c, o, a);
    if (!move_out(c, o, a, env_size(o))) return false;
    set_cw(c, c->fpu.cw | FSW_FLAGS); /* masks every exception afterwards */
    return true;
}
SLOW_HANDLER(h_fldenv_m) {
    u8 a[28];
    if (!fpu_wait(c) || !move_in(c, o, a, env_size(o))) return false;
    get_env(c, o, a);
    return true;
}
SLOW_HANDLER(h_fnsave_m) {
    u8 a[108];
    unsigned n = env_size(o);
    put_env(c, o, a);
    for (unsigned i = 0; i < 8; i++) memcpy(a + n + 10 * i, fpu_st(c, i), 10);
    if (!move_out(c, o, a, n + 80)) return false;
    fpu_init(c);
    return true;
}
SLOW_HANDLER(h_frstor_m) {
    u8 a[108];
    unsigned n = env_size(o);
    if (!fpu_wait(c) || !move_in(c, o, a, n + 80)) return false;
    get_env(c, o, a);
    for (unsigned i = 0; i < 8; i++) memcpy(fpu_st(c, i), a + n + 10 * i, 10);
    return true;
}

SLOW_HANDLER(h_emms) {
    (void)o;
    if (!fpu_wait(c)) return false;
    fpu_set_top(c, 0);
    c->fpu.tag = 0;
    return true;
}
