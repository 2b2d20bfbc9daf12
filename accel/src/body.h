/*
 * body.h - what the commonest instruction forms do, for handlers without flags (op_lean.c) and handlers of several
 * instructions (op_fuse.c). 32- and 64-bit operands, and what compiled code has of 8 and 16 bits.
 *
 * Each form is an inline function do_FORM(c, o), FORM being the name of its handler without h_. It returns false when the
 * access is not plain, with nothing done: then h_FORM() executes the instruction alone. Statements that touch memory are
 * written with LOADED() and STORED(), in which b and p are the operand and its place.
 */
#ifndef BODY_H
#define BODY_H

#include "shift.h"

/* How a form deals with the flags, for op_lean.c. */
enum flag_use {
    WRITES_ALL, /* writes all six, reads none, cannot leave the block */
    SHIFTS,     /* likewise if the count in the immediate is not zero, else it leaves the flags alone */
    PARTIAL,    /* cannot leave, but keeps or reads some */
    NEUTRAL,    /* has nothing to do with flags and cannot leave */
    MAY_LEAVE,  /* may fault or exit, so the flags before it are seen */
};

#define LOADED(N, form, statement) \
    U_##N b; \
    const void *p = fast_r(c, ea_##form(c, o), sizeof b); \
    if (unlikely(p == NULL)) return false; \
    memcpy(&b, p, sizeof b); \
    statement
#define STORED(N, form, value) \
    void *p = fast_w(c, ea_##form(c, o), sizeof(U_##N)); \
    if (unlikely(p == NULL)) return false; \
    U_##N b = value; \
    memcpy(p, &b, sizeof b)

/* ---- forms that have flags to give: X(use, form, in full, without flags) ---- */

#define BODY_ALU(X, N, op, sign) \
    X(WRITES_ALL, op##_EG_##N##_r, put_##N(c, o->rm, alu_##op##_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))), \
      put_##N(c, o->rm, (U_##N)(get_##N(c, o->rm) sign get_##N(c, o->reg)))) \
    X(WRITES_ALL, op##_GE_##N##_r, put_##N(c, o->reg, alu_##op##_##N(c, get_##N(c, o->reg), get_##N(c, o->rm))), \
      put_##N(c, o->reg, (U_##N)(get_##N(c, o->reg) sign get_##N(c, o->rm)))) \
    X(WRITES_ALL, op##_EI_##N##_r, put_##N(c, o->rm, alu_##op##_##N(c, get_##N(c, o->rm), (U_##N)o->imm)), \
      put_##N(c, o->rm, (U_##N)(get_##N(c, o->rm) sign (U_##N)o->imm))) \
    X(WRITES_ALL, op##_AI_##N, put_##N(c, R_RAX, alu_##op##_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)), \
      put_##N(c, R_RAX, (U_##N)(get_##N(c, R_RAX) sign (U_##N)o->imm))) \
    BODY_ALU_LOAD(X, N, op, sign, f) BODY_ALU_LOAD(X, N, op, sign, x)
#define BODY_ALU_LOAD(X, N, op, sign, form) \
    X(MAY_LEAVE, op##_GE_##N##_##form, LOADED(N, form, put_##N(c, o->reg, alu_##op##_##N(c, get_##N(c, o->reg), b))), \
      LOADED(N, form, put_##N(c, o->reg, (U_##N)(get_##N(c, o->reg) sign b))))

#define SHIFT_COUNT(N) ((unsigned)o->imm & COUNT_MASK(N))
/* Two instructions of one op with statements of their own: by immediate and by one. */
#define BODY_SHIFT(X, N, op, value, value1) \
    X(SHIFTS, op##_EI_##N##_r, U_##N a = get_##N(c, o->rm); unsigned n = SHIFT_COUNT(N); \
      put_##N(c, o->rm, likely(n) ? shift_##op##_##N(c, a, n) : a), \
      U_##N a = get_##N(c, o->rm); unsigned n = SHIFT_COUNT(N); put_##N(c, o->rm, (U_##N)(value))) \
    X(WRITES_ALL, op##_E1_##N##_r, put_##N(c, o->rm, shift_##op##_##N(c, get_##N(c, o->rm), 1)), \
      U_##N a = get_##N(c, o->rm); put_##N(c, o->rm, (U_##N)(value1)))
#define BODY_ROTATE(X, N, op, left, right) \
    X(PARTIAL, op##_EI_##N##_r, U_##N a = get_##N(c, o->rm); unsigned n = SHIFT_COUNT(N); \
      put_##N(c, o->rm, likely(n) ? shift_##op##_##N(c, a, n) : a), \
      U_##N a = get_##N(c, o->rm); put_##N(c, o->rm, (U_##N)(a << ((left) & (N - 1)) | a >> ((right) & (N - 1)))))

#define BODIES_WITH_FLAGS(X, N) \
    BODY_ALU(X, N, add, +) BODY_ALU(X, N, sub, -) BODY_ALU(X, N, and, &) BODY_ALU(X, N, or, |) BODY_ALU(X, N, xor, ^) \
    X(WRITES_ALL, neg_##N##_r, put_##N(c, o->rm, alu_neg_##N(c, get_##N(c, o->rm))), \
      put_##N(c, o->rm, (U_##N)-get_##N(c, o->rm))) \
    X(PARTIAL, inc_##N##_r, put_##N(c, o->rm, alu_inc_##N(c, get_##N(c, o->rm))), \
      put_##N(c, o->rm, (U_##N)(get_##N(c, o->rm) + 1))) \
    X(PARTIAL, dec_##N##_r, put_##N(c, o->rm, alu_dec_##N(c, get_##N(c, o->rm))), \
      put_##N(c, o->rm, (U_##N)(get_##N(c, o->rm) - 1))) \
    BODY_SHIFT(X, N, shl, (u64)a << n, (u64)a << 1) \
    BODY_SHIFT(X, N, shr, (u64)a >> n, (u64)a >> 1) \
    BODY_SHIFT(X, N, sar, (s64)(S_##N)a >> n, (s64)(S_##N)a >> 1) \
    BODY_ROTATE(X, N, rol, o->imm, -o->imm) BODY_ROTATE(X, N, ror, -o->imm, o->imm) \
    X(PARTIAL, imul_GE_##N##_r, imul_into_##N(c, o->reg, get_##N(c, o->reg), get_##N(c, o->rm)), \
      put_##N(c, o->reg, (U_##N)((u64)get_##N(c, o->reg) * get_##N(c, o->rm)))) \
    X(PARTIAL, imul_GEI_##N##_r, imul_into_##N(c, o->reg, get_##N(c, o->rm), (U_##N)o->imm), \
      put_##N(c, o->reg, (U_##N)(get_##N(c, o->rm) * o->imm)))

/* ---- the others: X(use, form, statement) ---- */

#define BODIES_COMPARE(X, N) \
    X(WRITES_ALL, cmp_EG_##N##_r, alu_cmp_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))) \
    X(WRITES_ALL, cmp_GE_##N##_r, alu_cmp_##N(c, get_##N(c, o->reg), get_##N(c, o->rm))) \
    X(WRITES_ALL, cmp_EI_##N##_r, alu_cmp_##N(c, get_##N(c, o->rm), (U_##N)o->imm)) \
    X(WRITES_ALL, cmp_AI_##N, alu_cmp_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)) \
    X(WRITES_ALL, test_EG_##N##_r, alu_test_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))) \
    X(WRITES_ALL, test_EI_##N##_r, alu_test_##N(c, get_##N(c, o->rm), (U_##N)o->imm)) \
    X(WRITES_ALL, test_AI_##N, alu_test_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)) \
    BODIES_COMPARE_MEMORY(X, N, f) BODIES_COMPARE_MEMORY(X, N, x)
#define BODIES_COMPARE_MEMORY(X, N, form) \
    X(MAY_LEAVE, cmp_EI_##N##_##form, LOADED(N, form, alu_cmp_##N(c, b, (U_##N)o->imm))) \
    X(MAY_LEAVE, cmp_EG_##N##_##form, LOADED(N, form, alu_cmp_##N(c, b, get_##N(c, o->reg)))) \
    X(MAY_LEAVE, cmp_GE_##N##_##form, LOADED(N, form, alu_cmp_##N(c, get_##N(c, o->reg), b))) \
    X(MAY_LEAVE, test_EI_##N##_##form, LOADED(N, form, alu_test_##N(c, b, (U_##N)o->imm)))
#define BODIES_STORE(X, N, form) \
    X(MAY_LEAVE, mov_EG_##N##_##form, STORED(N, form, get_##N(c, o->reg))) \
    X(MAY_LEAVE, mov_EI_##N##_##form, STORED(N, form, (U_##N)o->imm))
#define BODIES_LOAD(X, form) \
    X(MAY_LEAVE, mov_GE_32_##form, LOADED(32, form, put_32(c, o->reg, b))) \
    X(MAY_LEAVE, mov_GE_64_##form, LOADED(64, form, put_64(c, o->reg, b))) \
    X(MAY_LEAVE, movzx8_32_##form, LOADED(8, form, put_32(c, o->reg, b))) \
    X(MAY_LEAVE, movzx16_32_##form, LOADED(16, form, put_32(c, o->reg, b))) \
    X(MAY_LEAVE, movsx8_32_##form, LOADED(8, form, put_32(c, o->reg, (u32)(s8)b))) \
    X(MAY_LEAVE, movsx16_32_##form, LOADED(16, form, put_32(c, o->reg, (u32)(s16)b))) \
    X(MAY_LEAVE, movsxd_64_##form, LOADED(32, form, put_64(c, o->reg, (u64)(s32)b)))
#define BODIES_MOVE(X, N) \
    X(NEUTRAL, mov_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->reg))) \
    X(NEUTRAL, mov_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->rm))) \
    X(NEUTRAL, mov_EI_##N##_r, put_##N(c, o->rm, (U_##N)o->imm)) \
    X(NEUTRAL, mov_ZI_##N, put_##N(c, o->rm, (U_##N)o->imm)) \
    X(NEUTRAL, not_##N##_r, put_##N(c, o->rm, (U_##N)~get_##N(c, o->rm))) \
    BODIES_STORE(X, N, f) BODIES_STORE(X, N, x)
#define BODIES_WIDE(X, N) \
    X(NEUTRAL, lea_##N##_f, put_##N(c, o->reg, (U_##N)ea_f(c, o))) \
    X(NEUTRAL, lea_##N##_x, put_##N(c, o->reg, (U_##N)(c->r[o->base] + (c->r[o->index] << o->scale) + (u64)(s64)o->disp))) \
    X(NEUTRAL, movzx8_##N##_r, put_##N(c, o->reg, get_8(c, o->rm))) \
    X(NEUTRAL, movzx16_##N##_r, put_##N(c, o->reg, get_16(c, o->rm))) \
    X(NEUTRAL, movsx8_##N##_r, put_##N(c, o->reg, (U_##N)(s8)get_8(c, o->rm))) \
    X(NEUTRAL, movsx16_##N##_r, put_##N(c, o->reg, (U_##N)(s16)get_16(c, o->rm))) \
    X(NEUTRAL, bswap_##N, put_##N(c, o->rm, __builtin_bswap##N(get_##N(c, o->rm)))) \
    X(PARTIAL, adc_EG_##N##_r, put_##N(c, o->rm, alu_adc_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))))
#define BODIES_CONDITION(X, cc, name) \
    X(PARTIAL, set##name##_8_r, put_8(c, o->rm, cond(c, cc))) \
    X(PARTIAL, cmov##name##_32_r, put_32(c, o->reg, cond(c, cc) ? get_32(c, o->rm) : get_32(c, o->reg))) \
    X(PARTIAL, cmov##name##_64_r, put_64(c, o->reg, cond(c, cc) ? get_64(c, o->rm) : get_64(c, o->reg)))
#define BODIES_STACK(X) \
    X(MAY_LEAVE, push_Z_64, \
      u64 b = c->r[o->rm], sp = c->r[R_RSP] - 8; \
      void *p = fast_w(c, sp, 8); \
      if (unlikely(p == NULL)) return false; \
      memcpy(p, &b, 8); \
      c->r[R_RSP] = sp) \
    X(MAY_LEAVE, pop_Z_64, \
      u64 b, sp = c->r[R_RSP]; \
      const void *p = fast_r(c, sp, 8); \
      if (unlikely(p == NULL)) return false; \
      memcpy(&b, p, 8); \
      c->r[R_RSP] = sp + 8; \
      c->r[o->rm] = b)
#define BODIES_PLAIN(X) \
    BODIES_COMPARE(X, 8) BODIES_COMPARE(X, 16) BODIES_COMPARE(X, 32) BODIES_COMPARE(X, 64) \
    BODIES_MOVE(X, 8) BODIES_MOVE(X, 16) BODIES_MOVE(X, 32) BODIES_MOVE(X, 64) BODIES_LOAD(X, f) BODIES_LOAD(X, x) \
    BODIES_WIDE(X, 32) BODIES_WIDE(X, 64) BODIES_STACK(X) \
    X(NEUTRAL, movsxd_64_r, put_64(c, o->reg, (u64)(s32)get_32(c, o->rm))) \
    X(NEUTRAL, nop, (void)c; (void)o) \
    BODIES_CONDITION(X, 0, O) BODIES_CONDITION(X, 1, NO) BODIES_CONDITION(X, 2, B) BODIES_CONDITION(X, 3, AE) \
    BODIES_CONDITION(X, 4, E) BODIES_CONDITION(X, 5, NE) BODIES_CONDITION(X, 6, BE) BODIES_CONDITION(X, 7, A) \
    BODIES_CONDITION(X, 8, S) BODIES_CONDITION(X, 9, NS) BODIES_CONDITION(X, 10, P) BODIES_CONDITION(X, 11, NP) \
    BODIES_CONDITION(X, 12, L) BODIES_CONDITION(X, 13, GE) BODIES_CONDITION(X, 14, LE) BODIES_CONDITION(X, 15, G)

#define BODY(form, ...) \
    INLINE bool do_##form(accel_cpu *c, const struct op *o) { \
        __VA_ARGS__; \
        return true; \
    } \
    op_fn h_##form;
#define BODY_BOTH(use, form, full, lean) BODY(form, full) BODY(form##_lean, lean)
#define BODY_PLAIN(use, form, ...) BODY(form, __VA_ARGS__)
BODIES_WITH_FLAGS(BODY_BOTH, 16)
BODIES_WITH_FLAGS(BODY_BOTH, 32)
BODIES_WITH_FLAGS(BODY_BOTH, 64)
BODIES_PLAIN(BODY_PLAIN)

#endif
