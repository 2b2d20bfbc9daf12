/*
 * op_stack.c - PUSH POP (registers, memory, immediates, segment selectors), PUSHA POPA, PUSHF, ENTER, LEAVE.
 *
 * The stack address has the size that SS.B says (64 bits in 64-bit mode), whatever the operand size. Operands of
 * 64 bits exist only in 64-bit mode, where SS has no base: their handlers try the fast TLB first.
 */
#include "integer.h"

/* sp is cut to the stack size. */
INLINE void set_sp(accel_cpu *c, u64 mask, u64 sp) {
    if (mask == 0xffff) put_16(c, R_RSP, (u16)sp);
    else c->r[R_RSP] = sp;
}

#define STACK_ACCESS(N) \
    static bool push_##N(accel_cpu *c, const struct op *o, U_##N v) { \
        u64 lin, mask = stack_mask(c), sp = (c->r[R_RSP] - sizeof v) & mask; \
        if (!seg_linear(c, SEG_SS, sp, sizeof v, ACC_W, &lin) || !wr_at_##N(c, o, lin, v)) return false; \
        set_sp(c, mask, sp); \
        return true; \
    } \
    /* Reads the top of the stack; the caller moves RSP by drop_N once nothing can fail. */ \
    static bool top_##N(accel_cpu *c, const struct op *o, U_##N *v) { \
        u64 lin; \
        return seg_linear(c, SEG_SS, c->r[R_RSP] & stack_mask(c), sizeof *v, ACC_R, &lin) && rd_at_##N(c, o, lin, v); \
    } \
    static void drop_##N(accel_cpu *c) { \
        u64 mask = stack_mask(c); \
        set_sp(c, mask, (c->r[R_RSP] + sizeof(U_##N)) & mask); \
    }
STACK_ACCESS(16)
STACK_ACCESS(32)
STACK_ACCESS(64)

/* ---- PUSH ---- */

#define PUSH_FAST(name, value, slow) \
    HANDLER(name) { \
        u64 v = value, sp = c->r[R_RSP] - 8; \
        void *p = fast_w(c, sp, 8); \
        if (unlikely(p == NULL)) return slow(c, o); \
        memcpy(p, &v, 8); \
        c->r[R_RSP] = sp; \
        NEXT(c, o); \
    }

SLOW_HANDLER(h_push_Z_16) { return push_16(c, o, get_16(c, o->rm)); }
SLOW_HANDLER(h_push_slow_32) { return push_32(c, o, get_32(c, o->rm)); }
/* A flat 32-bit stack goes through the fast TLB, too. */
#define FLAT_STACK_32(c) (((c)->key & (K_FLAT | K_SS32)) == (K_FLAT | K_SS32))
HANDLER(h_push_Z_32) {
    u64 sp = (u32)(c->r[R_RSP] - 4);
    u32 v = get_32(c, o->rm);
    void *p = fast_w(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_STACK_32(c))) return h_push_slow_32(c, o);
    memcpy(p, &v, 4);
    c->r[R_RSP] = sp;
    NEXT(c, o);
}
SLOW_HANDLER(h_push_slow) { return push_64(c, o, get_64(c, o->rm)); }
PUSH_FAST(h_push_Z_64, c->r[o->rm], h_push_slow)
HANDLER(h_push_16_r) { return h_push_Z_16(c, o); }
HANDLER(h_push_32_r) { return h_push_Z_32(c, o); }
HANDLER(h_push_64_r) { return h_push_Z_64(c, o); }

SLOW_HANDLER(h_push_I_16) { return push_16(c, o, (u16)o->imm); }
SLOW_HANDLER(h_push_I_32) { return push_32(c, o, (u32)o->imm); }
SLOW_HANDLER(h_push_I_slow) { return push_64(c, o, o->imm); }
PUSH_FAST(h_push_I_64, o->imm, h_push_I_slow)

#define PUSH_MEMORY(N) \
    SLOW_HANDLER(h_push_##N##_m) { \
        U_##N v; \
        return rd_##N(c, o, &v) && push_##N(c, o, v); \
    }
PUSH_MEMORY(16)
PUSH_MEMORY(32)
PUSH_MEMORY(64)

/* A selector is pushed zero-extended. (SDM vol. 2, PUSH: with a 32-bit operand some processors leave the upper
 * half of the slot alone; AMD's write it.) */
#define PUSH_SELECTOR(name, N) SLOW_HANDLER(h_push_##name##_##N) { return push_##N(c, o, c->seg[SEG_##name].sel); }
#define PUSH_SEGMENT(name) PUSH_SELECTOR(name, 16) PUSH_SELECTOR(name, 32) PUSH_SELECTOR(name, 64)
PUSH_SEGMENT(ES)
PUSH_SEGMENT(CS)
PUSH_SEGMENT(SS)
PUSH_SEGMENT(DS)
PUSH_SEGMENT(FS)
PUSH_SEGMENT(GS)

/* In virtual-8086 mode below IOPL 3, PUSHF works only with VME and 16-bit operands, and shows VIF as IF with
 * IOPL 3. RF and VM are pushed as zero. (SDM vol. 2, PUSHF) */
static bool flags_image(accel_cpu *c, bool wide, u64 *image) {
    u32 f = get_rflags(c) & ~(u32)(F_VM | F_RF);
    if ((c->flags & F_VM) && (f & F_IOPL) != F_IOPL) {
        if (wide || !(c->cr4 & CR4_VME)) return set_fault(c, EX_GP, true, 0);
        f = (f & ~(u32)F_IF) | F_IOPL | (f & F_VIF ? F_IF : 0);
    }
    *image = f;
    return true;
}
#define PUSHF(N) \
    SLOW_HANDLER(h_pushf_##N) { \
        u64 image = 0; \
        return flags_image(c, N != 16, &image) && push_##N(c, o, (U_##N)image); \
    }
PUSHF(16)
PUSHF(32)
PUSHF(64)

/* ---- POP ---- */

#define POP_REGISTER(name, N) \
    SLOW_HANDLER(name) { \
        U_##N v; \
        if (!top_##N(c, o, &v)) return false; \
        drop_##N(c); \
        put_##N(c, o->rm, v); \
        return true; \
    }
POP_REGISTER(h_pop_Z_16, 16)
POP_REGISTER(h_pop_slow_32, 32)
HANDLER(h_pop_Z_32) {
    u64 sp = (u32)c->r[R_RSP];
    u32 v;
    const void *p = fast_r(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_STACK_32(c))) return h_pop_slow_32(c, o);
    memcpy(&v, p, 4);
    c->r[R_RSP] = (u32)(sp + 4);
    c->r[o->rm] = v;
    NEXT(c, o);
}
POP_REGISTER(h_pop_slow, 64)
HANDLER(h_pop_Z_64) {
    u64 v, sp = c->r[R_RSP];
    const void *p = fast_r(c, sp, 8);
    if (unlikely(p == NULL)) return h_pop_slow(c, o);
    memcpy(&v, p, 8);
    c->r[R_RSP] = sp + 8;
    c->r[o->rm] = v;
    NEXT(c, o);
}
HANDLER(h_pop_16_r) { return h_pop_Z_16(c, o); }
HANDLER(h_pop_32_r) { return h_pop_Z_32(c, o); }
HANDLER(h_pop_64_r) { return h_pop_Z_64(c, o); }

/* The destination's address is computed with the incremented RSP (SDM vol. 2, POP). */
#define POP_MEMORY(N) \
    SLOW_HANDLER(h_pop_##N##_m) { \
        U_##N v; \
        u64 sp = c->r[R_RSP]; \
        if (!top_##N(c, o, &v)) return false; \
        drop_##N(c); \
        if (wr_##N(c, o, v)) return true; \
        c->r[R_RSP] = sp; \
        return false; \
    }
POP_MEMORY(16)
POP_MEMORY(32)
POP_MEMORY(64)

/* ---- PUSHA, POPA: every slot is checked before the first is written. No 64-bit form is ever decoded. ---- */

static bool stack_writable(accel_cpu *c, const struct op *o, u64 sp, unsigned size, u64 *lin) {
    return seg_linear(c, SEG_SS, sp, size, ACC_W, lin) && mem_probe_write(c, o, *lin, size);
}

#define PUSH_ALL(N) \
    SLOW_HANDLER(h_pusha_##N) { \
        u64 lin[8], mask = stack_mask(c), sp = c->r[R_RSP]; \
        for (unsigned i = 0; i < 8; i++) { \
            sp = (sp - sizeof(U_##N)) & mask; \
            if (!stack_writable(c, o, sp, sizeof(U_##N), &lin[i])) return false; \
        } \
        for (unsigned i = 0; i < 8; i++) \
            if (!wr_at_##N(c, o, lin[i], get_##N(c, i))) return false; \
        set_sp(c, mask, sp); \
        return true; \
    } \
    SLOW_HANDLER(h_popa_##N) { \
        U_##N v[8]; \
        u64 lin, mask = stack_mask(c), sp = c->r[R_RSP] & mask; \
        for (unsigned i = 8; i-- > 0; sp = (sp + sizeof v[0]) & mask) { \
            if (i == R_RSP) continue; \
            if (!seg_linear(c, SEG_SS, sp, sizeof v[0], ACC_R, &lin) || !rd_at_##N(c, o, lin, &v[i])) return false; \
        } \
        for (unsigned i = 0; i < 8; i++) \
            if (i != R_RSP) put_##N(c, i, v[i]); \
        set_sp(c, mask, sp); \
        return true; \
    }
PUSH_ALL(16)
PUSH_ALL(32)
PUSH_ALL(64)

/* ---- ENTER, LEAVE ---- */

INLINE bool stack_read(accel_cpu *c, const struct op *o, u64 lin, unsigned size, u64 *v) {
    *v = 0;
    return mem_read(c, o, lin, v, size);
}

/* SDM vol. 2, ENTER. Checks run in program order before the first push; display entries are then copied one by one,
 * because they may lie where the new frame is being written. A device read may repeat this from the start, which
 * writes the same values again. */
static bool enter(accel_cpu *c, const struct op *o, unsigned size) {
    u64 mask = stack_mask(c), bp = c->r[R_RBP], sp = (c->r[R_RSP] - size) & mask, frame = sp;
    u64 to[32], from[32], v, lin;
    unsigned level = (o->imm >> 16) & 31, alloc = o->imm & 0xffff;
    if (!stack_writable(c, o, sp, size, &to[0])) return false;
    for (unsigned i = 1; i <= level; i++) {
        if (i < level) {
            bp = (bp - size) & mask;
            if (!seg_linear(c, SEG_SS, bp, size, ACC_R, &from[i]) || !mem_probe_read(c, from[i], size)) return false;
        }
        sp = (sp - size) & mask;
        if (!stack_writable(c, o, sp, size, &to[i])) return false;
    }
    sp = (sp - alloc) & mask;
    if (!stack_writable(c, o, sp, size, &lin)) return false; /* "a write using the final value of the stack pointer" */
    if (!mem_write(c, o, to[0], &c->r[R_RBP], size)) return false;
    for (unsigned i = 1; i < level; i++)
        if (!stack_read(c, o, from[i], size, &v) || !mem_write(c, o, to[i], &v, size)) return false;
    if (level && !mem_write(c, o, to[level], &frame, size)) return false;
    set_sp(c, mask, sp);
    if (mask == 0xffff || size == 2) put_16(c, R_RBP, (u16)frame);
    else c->r[R_RBP] = frame;
    return true;
}
SLOW_HANDLER(h_enter_16) { return enter(c, o, 2); }
SLOW_HANDLER(h_enter_32) { return enter(c, o, 4); }
SLOW_HANDLER(h_enter_64) { return enter(c, o, 8); }

#define LEAVE(name, N) \
    SLOW_HANDLER(name) { \
        U_##N v; \
        u64 lin, mask = stack_mask(c), sp = c->r[R_RBP] & mask; \
        if (!seg_linear(c, SEG_SS, sp, sizeof v, ACC_R, &lin) || !rd_at_##N(c, o, lin, &v)) return false; \
        set_sp(c, mask, (sp + sizeof v) & mask); \
        put_##N(c, R_RBP, v); \
        return true; \
    }
LEAVE(h_leave_16, 16)
LEAVE(h_leave_32, 32)
LEAVE(h_leave_slow, 64)
HANDLER(h_leave_64) {
    u64 v, sp = c->r[R_RBP];
    const void *p = fast_r(c, sp, 8);
    if (unlikely(p == NULL)) return h_leave_slow(c, o);
    memcpy(&v, p, 8);
    c->r[R_RSP] = sp + 8;
    c->r[R_RBP] = v;
    NEXT(c, o);
}
