/* integer.h - what the integer instruction files share beside exec.h. */
#ifndef INTEGER_H
#define INTEGER_H

#include "exec.h"

INLINE u64 cut_address(const struct op *o, u64 ea) {
    return OP_ASZ(o) == SZ64 ? ea : OP_ASZ(o) == SZ32 ? (u32)ea : (u16)ea;
}

/* A read of [lin, lin + size), size 1, 2, 4 or 8, would not fault. For instructions that must know this before a device is
 * read or memory is written. */
INLINE bool mem_probe_read(accel_cpu *c, u64 lin, unsigned size) {
    u64 pa, last = lin + size - 1;
    if (likely(fast_r(c, lin, size) != NULL)) return true;
    if (unlikely(c->key & K_AC) && (lin & (size - 1))) return set_fault(c, EX_AC, true, 0);
    if (!is_code64(c)) last = (u32)last;
    bool user = c->cpl == 3;
    return mmu_translate(c, lin, ACC_R, user, &pa) && (!((lin ^ last) & PAGE_MASK) || mmu_translate(c, last & PAGE_MASK, ACC_R, user, &pa));
}

/* ---- flags ---- */

/* result_flags_N(c, v, carry, overflow): SF, ZF and PF of v, AF clear. The low byte of a flags word is OF, see cpu.h. */
#define RESULT_FLAGS(N, sfx, q) \
    INLINE void result_flags_##N(accel_cpu *c, U_##N v, bool carry, bool overflow) { \
        u16 fl; \
        __asm__("test" sfx " %1,%1\n\tlahf" : "=&a"(fl) : q(v) : "cc"); \
        c->flags_ax = (u16)((fl & 0xff00 & ~(F_AF << 8)) | carry << 8 | overflow); \
    }
RESULT_FLAGS(8, "b", "q")
RESULT_FLAGS(16, "w", "r")
RESULT_FLAGS(32, "l", "r")
RESULT_FLAGS(64, "q", "r")

/* CF and OF alone. */
INLINE void carry_flags(accel_cpu *c, bool carry, bool overflow) {
    c->flags_ah = (u8)((c->flags_ah & ~F_CF) | carry);
    c->flags_of = overflow;
}

/* ---- products ---- */

INLINE void product_flags(accel_cpu *c, bool wide) { carry_flags(c, wide, wide); }

/* A signed product into a register; CF and OF tell that it does not fit. */
#define PRODUCT(N) \
    INLINE void imul_into_##N(accel_cpu *c, unsigned reg, U_##N a, U_##N b) { \
        S_##N p; \
        bool wide = __builtin_mul_overflow((S_##N)a, (S_##N)b, &p); \
        put_##N(c, reg, (U_##N)p); \
        product_flags(c, wide); \
    }
PRODUCT(16)
PRODUCT(32)
PRODUCT(64)

/* ---- instructions that only read their r/m operand: M bits of it are b, N is the operand size in the name ---- */

#define LOAD_FAST(name, N, M, form, ea, statement) \
    HANDLER(h_##name##_##N##_##form) { \
        const void *p = fast_r(c, ea(c, o), sizeof(U_##M)); \
        if (unlikely(p == NULL)) return h_##name##_##N##_m(c, o); \
        U_##M b; \
        memcpy(&b, p, sizeof b); \
        statement; \
        NEXT(c, o); \
    }
#define LOAD_PLAIN(name, N, M, statement) \
    HANDLER(h_##name##_##N##_r) { \
        U_##M b = get_##M(c, o->rm); \
        statement; \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        U_##M b; \
        if (!rd_##M(c, o, &b)) return false; \
        statement; \
        return true; \
    }
/* All four forms (attribute `hot`). */
#define LOAD(name, N, M, statement) \
    LOAD_PLAIN(name, N, M, statement) \
    LOAD_FAST(name, N, M, f, ea_f, statement) \
    LOAD_FAST(name, N, M, x, ea_x, statement)

/* The same with an operand of the size in the name. */
#define SOURCE(name, N, statement) LOAD_PLAIN(name, N, N, statement)
#define SOURCE_HOT(name, N, statement) LOAD(name, N, N, statement)

#endif
