/*
 * fpu.h - the x87 state as its instructions see it (SDM vol. 1, chapter 8, and "MMX/x87 interaction" in chapter 9).
 *
 * c->fpu holds the physical registers R0-R7; ST(i) is R[(TOP + i) & 7], MMi is the mantissa of R[i]. The tag is the
 * abridged one; the full tag word is computed where a layout has it.
 *
 * #MF: an unmasked exception sets ES (and B) and is raised by the next waiting x87 or MMX instruction when CR0.NE
 * is set. With CR0.NE clear hardware signals FERR# and waits for IRQ 13; that wiring is not modelled: such an
 * instruction goes on as with IGNNE# asserted.
 */
#ifndef FPU_H
#define FPU_H

#include "exec.h"

enum { FSW_IE = 1, FSW_DE = 2, FSW_ZE = 4, FSW_OE = 8, FSW_UE = 0x10, FSW_PE = 0x20, FSW_FLAGS = 0x3f, FSW_SF = 0x40,
       FSW_ES = 0x80, FSW_C0 = 0x100, FSW_C1 = 0x200, FSW_C2 = 0x400, FSW_TOP = 0x3800, FSW_C3 = 0x4000, FSW_B = 0x8000,
       FSW_CC = FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3,
       FCW_INIT = 0x37f, FCW_WRITABLE = 0x1f3f, FCW_ALWAYS = 0x40 };

/* Within accel_run(). Whoever writes TOP in c->fpu.sw calls fpu_find_top(). */
INLINE unsigned fpu_top(const accel_cpu *c) { return c->fpu.top; }
INLINE void fpu_find_top(accel_cpu *c) { c->fpu.top = c->fpu.sw >> 11 & 7; }
INLINE unsigned fpu_reg(const accel_cpu *c, unsigned i) { return (fpu_top(c) + i) & 7; }
INLINE u8 *fpu_st(accel_cpu *c, unsigned i) { return c->fpu.st[fpu_reg(c, i)]; }
INLINE bool fpu_used(const accel_cpu *c, unsigned i) { return (c->fpu.tag >> fpu_reg(c, i)) & 1; }
INLINE void fpu_set_top(accel_cpu *c, unsigned top) {
    c->fpu.top = top & 7;
    c->fpu.sw = (u16)((c->fpu.sw & ~FSW_TOP) | (top & 7) << 11);
}
INLINE void fpu_pop(accel_cpu *c) {
    c->fpu.tag &= (u8)~(1u << fpu_top(c));
    fpu_set_top(c, fpu_top(c) + 1);
}
INLINE u8 *fpu_push(accel_cpu *c) { /* the caller has seen that the slot is free */
    fpu_set_top(c, fpu_top(c) - 1);
    c->fpu.tag |= (u8)(1u << fpu_top(c));
    return c->fpu.st[fpu_top(c)];
}

/* ES and B follow the flags and masks. */
INLINE void fpu_update_es(accel_cpu *c) {
    bool es = c->fpu.sw & FSW_FLAGS & ~c->fpu.cw;
    c->fpu.sw = (u16)((c->fpu.sw & ~(FSW_ES | FSW_B)) | (es ? FSW_ES | FSW_B : 0));
}

/* Top of every waiting instruction; false: #MF is set up. */
INLINE bool fpu_wait(accel_cpu *c) {
    if (likely(!(c->fpu.sw & FSW_ES)) || !(c->cr0 & CR0_NE)) return true;
    return set_fault(c, EX_MF, false, 0);
}

/* Instruction and operand pointers of the last non-control instruction (SDM vol. 1, "x87 FPU Instruction and Data
 * (Operand) Pointers"). The opcode is recorded only with an unmasked exception, as by processors since the
 * Pentium 4 with fopcode compatibility off. */
INLINE void fpu_note(accel_cpu *c, const struct op *o) {
    c->fpu.fip = op_rip(c, o);
    c->fpu.fcs = c->seg[SEG_CS].sel;
}
INLINE void fpu_note_mem(accel_cpu *c, const struct op *o, u64 ea) {
    fpu_note(c, o);
    c->fpu.fdp = ea;
    c->fpu.fds = c->seg[o->seg].sel;
}

INLINE void fpu_init(accel_cpu *c) {
    c->fpu.cw = FCW_INIT;
    c->fpu.sw = c->fpu.top = 0;
    c->fpu.tag = 0;
    c->fpu.fop = c->fpu.fcs = c->fpu.fds = 0;
    c->fpu.fip = c->fpu.fdp = 0;
}

/* Every MMX instruction: TOP = 0, all registers in use (SDM vol. 1, "MMX Instructions and the x87 FPU Tag Word"). */
INLINE void fpu_to_mmx(accel_cpu *c) {
    c->fpu.sw &= (u16)~FSW_TOP;
    c->fpu.top = 0;
    c->fpu.tag = 0xff;
}

#endif
