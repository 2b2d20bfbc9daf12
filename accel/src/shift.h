/*
 * shift.h - shifts and rotates of one operand with their flags: shift_OP_N(c, a, n), 1 <= n <= COUNT_MASK(N).
 * What is undefined and what we chose stands in op_shift.c.
 */
#ifndef SHIFT_H
#define SHIFT_H

#include "integer.h"

#define TOP(N, v) ((bool)((v) >> (N - 1)))        /* most significant bit */
#define SECOND(N, v) ((bool)(((v) >> (N - 2)) & 1))
#define COUNT_MASK(N) (N == 64 ? 63 : 31)

#define SHIFTS(N) \
    INLINE U_##N shift_shl_##N(accel_cpu *c, U_##N a, unsigned n) { \
        U_##N v = (U_##N)((u64)a << n); \
        bool carry = N == 64 ? ((u64)a >> (64 - n)) & 1 : (((u64)a << n) >> (N & 63)) & 1; \
        result_flags_##N(c, v, carry, TOP(N, v) != carry); \
        return v; \
    } \
    INLINE U_##N shift_shr_##N(accel_cpu *c, U_##N a, unsigned n) { \
        U_##N v = (U_##N)((u64)a >> n); \
        bool carry = ((u64)a >> (n - 1)) & 1; \
        result_flags_##N(c, v, carry, TOP(N, v) != SECOND(N, v)); \
        return v; \
    } \
    INLINE U_##N shift_sar_##N(accel_cpu *c, U_##N a, unsigned n) { \
        s64 wide = (S_##N)a; \
        U_##N v = (U_##N)(wide >> n); \
        result_flags_##N(c, v, (wide >> (n - 1)) & 1, false); \
        return v; \
    } \
    INLINE U_##N shift_rol_##N(accel_cpu *c, U_##N a, unsigned n) { \
        U_##N v = (U_##N)(a << (n & (N - 1)) | a >> (-n & (N - 1))); \
        carry_flags(c, v & 1, TOP(N, v) != (v & 1)); \
        return v; \
    } \
    INLINE U_##N shift_ror_##N(accel_cpu *c, U_##N a, unsigned n) { \
        U_##N v = (U_##N)(a >> (n & (N - 1)) | a << (-n & (N - 1))); \
        carry_flags(c, TOP(N, v), TOP(N, v) != SECOND(N, v)); \
        return v; \
    } \
    /* Rotation of N + 1 bits. A count that is a multiple of it changes nothing but OF. */ \
    INLINE U_##N shift_rcl_##N(accel_cpu *c, U_##N a, unsigned n) { \
        if (N < 32) n %= N + 1; \
        u128 wide = (u128)a | (u128)cf(c) << N; \
        wide = wide << n | wide >> (N + 1 - n); \
        U_##N v = (U_##N)wide; \
        bool carry = (wide >> N) & 1; \
        carry_flags(c, carry, TOP(N, v) != carry); \
        return v; \
    } \
    INLINE U_##N shift_rcr_##N(accel_cpu *c, U_##N a, unsigned n) { \
        if (N < 32) n %= N + 1; \
        u128 wide = (u128)a | (u128)cf(c) << N; \
        wide = wide >> n | wide << (N + 1 - n); \
        U_##N v = (U_##N)wide; \
        carry_flags(c, (wide >> N) & 1, TOP(N, v) != SECOND(N, v)); \
        return v; \
    }
SHIFTS(8)
SHIFTS(16)
SHIFTS(32)
SHIFTS(64)

#endif
