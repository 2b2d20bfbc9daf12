/*
 * op_shift.c - ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD.
 * Forms: EI = by immediate  E1 = by one  EC = by CL.
 *
 * The count is taken modulo 32 (64 with a 64-bit operand); a count of zero changes no flag. What SDM vol. 2 leaves undefined:
 * OF after a count other than one follows the same formula as for one (as on Intel and AMD processors); AF is cleared by
 * shifts; CF after a shift by more than the width is the last bit shifted out of the operand extended by zeros (SHL, SHR) or by its sign (SAR).
 */
#include "shift.h"

/* A count of zero still reads and writes its operand: it zero-extends a 32-bit register and faults on read-only memory. */
#define SHIFT_FORM(op, N, form, count) \
    HANDLER(h_##op##_##form##_##N##_r) { \
        unsigned n = (count) & COUNT_MASK(N); \
        U_##N a = get_##N(c, o->rm); \
        put_##N(c, o->rm, likely(n) ? shift_##op##_##N(c, a, n) : a); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##op##_##form##_##N##_m) { \
        u64 lin; \
        U_##N a; \
        unsigned n = (count) & COUNT_MASK(N); \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        wr_at_##N(c, o, lin, n ? shift_##op##_##N(c, a, n) : a); \
        return true; \
    }
#define SHIFT_SIZE(op, N) \
    SHIFT_FORM(op, N, EI, (unsigned)o->imm) \
    SHIFT_FORM(op, N, E1, 1u) \
    SHIFT_FORM(op, N, EC, (unsigned)c->r[R_RCX])
#define SHIFT(op) SHIFT_SIZE(op, 8) SHIFT_SIZE(op, 16) SHIFT_SIZE(op, 32) SHIFT_SIZE(op, 64)
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

/* ---- SHLD, SHRD: 16-bit operands may be shifted by up to 31. The result is undefined above 16; Intel processors go on
 * with the destination's own bits behind the source (AMD's repeat the source). ---- */

INLINE u16 shift_shld_16(accel_cpu *c, u16 a, u16 b, unsigned n) {
    u64 wide = (u64)a << 32 | (u64)b << 16 | a;
    u16 v = (u16)((wide << n) >> 32);
    bool carry = (wide >> (48 - n)) & 1;
    result_flags_16(c, v, carry, TOP(16, v) != carry);
    return v;
}

INLINE u16 shift_shrd_16(accel_cpu *c, u16 a, u16 b, unsigned n) {
    u64 wide = (u64)a << 32 | (u64)b << 16 | a;
    u16 v = (u16)(wide >> n);
    result_flags_16(c, v, (wide >> (n - 1)) & 1, TOP(16, v) != SECOND(16, v));
    return v;
}

#define DOUBLE_SHIFTS(N) \
    INLINE U_##N shift_shld_##N(accel_cpu *c, U_##N a, U_##N b, unsigned n) { \
        U_##N v = a << n | b >> (N - n); \
        bool carry = (a >> (N - n)) & 1; \
        result_flags_##N(c, v, carry, TOP(N, v) != carry); \
        return v; \
    } \
    INLINE U_##N shift_shrd_##N(accel_cpu *c, U_##N a, U_##N b, unsigned n) { \
        U_##N v = a >> n | b << (N - n); \
        result_flags_##N(c, v, (a >> (n - 1)) & 1, TOP(N, v) != SECOND(N, v)); \
        return v; \
    }
DOUBLE_SHIFTS(32)
DOUBLE_SHIFTS(64)

#define DOUBLE_FORM(op, N, form, count) \
    HANDLER(h_##op##_##form##_##N##_r) { \
        unsigned n = (count) & COUNT_MASK(N); \
        U_##N a = get_##N(c, o->rm); \
        put_##N(c, o->rm, n ? shift_##op##_##N(c, a, get_##N(c, o->reg), n) : a); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##op##_##form##_##N##_m) { \
        u64 lin; \
        U_##N a; \
        unsigned n = (count) & COUNT_MASK(N); \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        wr_at_##N(c, o, lin, n ? shift_##op##_##N(c, a, get_##N(c, o->reg), n) : a); \
        return true; \
    }
#define DOUBLE_SIZE(op, N) DOUBLE_FORM(op, N, EI, (unsigned)o->imm) DOUBLE_FORM(op, N, EC, (unsigned)c->r[R_RCX])
#define DOUBLE_SHIFT(op) DOUBLE_SIZE(op, 16) DOUBLE_SIZE(op, 32) DOUBLE_SIZE(op, 64)
DOUBLE_SHIFT(shld)
DOUBLE_SHIFT(shrd)
