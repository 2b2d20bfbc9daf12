/*
 * op_arith.c - ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT, XADD, CMPXCHG.
 * Forms: EG = r/m,r  GE = r,r/m  EI = r/m,imm  AI = accumulator,imm.
 */
#include "integer.h"

/* Two-operand instructions that write their first operand. */
#define RMW_FAST(name, N, form, ea, value, self) \
    HANDLER(h_##name##_##N##_##form) { \
        u64 lin = ea(c, o); \
        void *p = fast_w(c, lin, sizeof(U_##N)); \
        if (unlikely(p == NULL)) return self(c, o); \
        U_##N a; \
        memcpy(&a, p, sizeof a); \
        a = value; \
        memcpy(p, &a, sizeof a); \
        NEXT(c, o); \
    }
#define RMW(name, N, value_r, value_m) \
    HANDLER(h_##name##_##N##_r) { \
        U_##N a = get_##N(c, o->rm); \
        put_##N(c, o->rm, value_r); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        u64 lin; \
        U_##N a; \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        wr_at_##N(c, o, lin, value_m); \
        return true; \
    } \
    RMW_FAST(name, N, f, ea_f, value_m, h_##name##_##N##_m) \
    RMW_FAST(name, N, x, ea_x, value_m, h_##name##_##N##_m)

#define AI(name, N, statement) HANDLER(h_##name##_##N) { statement; NEXT(c, o); }

#define BINARY(op, N) \
    RMW(op##_EG, N, alu_##op##_##N(c, a, get_##N(c, o->reg)), alu_##op##_##N(c, a, get_##N(c, o->reg))) \
    RMW(op##_EI, N, alu_##op##_##N(c, a, (U_##N)o->imm), alu_##op##_##N(c, a, (U_##N)o->imm)) \
    SOURCE_HOT(op##_GE, N, put_##N(c, o->reg, alu_##op##_##N(c, get_##N(c, o->reg), b))) \
    AI(op##_AI, N, put_##N(c, R_RAX, alu_##op##_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)))
#define BINARY_SIZES(op) BINARY(op, 8) BINARY(op, 16) BINARY(op, 32) BINARY(op, 64)
BINARY_SIZES(add)
BINARY_SIZES(or)
BINARY_SIZES(adc)
BINARY_SIZES(sbb)
BINARY_SIZES(and)
BINARY_SIZES(sub)
BINARY_SIZES(xor)

#define COMPARE(N) \
    SOURCE_HOT(cmp_EG, N, alu_cmp_##N(c, b, get_##N(c, o->reg))) \
    SOURCE_HOT(cmp_GE, N, alu_cmp_##N(c, get_##N(c, o->reg), b)) \
    SOURCE_HOT(cmp_EI, N, alu_cmp_##N(c, b, (U_##N)o->imm)) \
    AI(cmp_AI, N, alu_cmp_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)) \
    SOURCE_HOT(test_EG, N, alu_test_##N(c, b, get_##N(c, o->reg))) \
    SOURCE_HOT(test_EI, N, alu_test_##N(c, b, (U_##N)o->imm)) \
    AI(test_AI, N, alu_test_##N(c, get_##N(c, R_RAX), (U_##N)o->imm))
COMPARE(8)
COMPARE(16)
COMPARE(32)
COMPARE(64)

#define UNARY(N) \
    RMW(inc, N, alu_inc_##N(c, a), alu_inc_##N(c, a)) \
    RMW(dec, N, alu_dec_##N(c, a), alu_dec_##N(c, a)) \
    RMW(neg, N, alu_neg_##N(c, a), alu_neg_##N(c, a)) \
    RMW(not, N, (U_##N)~a, (U_##N)~a)
UNARY(8)
UNARY(16)
UNARY(32)
UNARY(64)

#define EXCHANGE_ADD(N) \
    HANDLER(h_xadd_##N##_r) { \
        U_##N a = get_##N(c, o->rm), b = get_##N(c, o->reg), sum = alu_add_##N(c, a, b); \
        put_##N(c, o->reg, a); \
        put_##N(c, o->rm, sum); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_xadd_##N##_m) { \
        u64 lin; \
        U_##N a; \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        U_##N sum = alu_add_##N(c, a, get_##N(c, o->reg)); \
        wr_at_##N(c, o, lin, sum); \
        put_##N(c, o->reg, a); \
        return true; \
    }
EXCHANGE_ADD(8)
EXCHANGE_ADD(16)
EXCHANGE_ADD(32)
EXCHANGE_ADD(64)

/* CMPXCHG writes its destination in every case (SDM vol. 2, CMPXCHG): the old value when unequal. A 32-bit
 * accumulator is zero-extended only when it is loaded. */
#define COMPARE_EXCHANGE(N) \
    HANDLER(h_cmpxchg_##N##_r) { \
        U_##N a = get_##N(c, o->rm), acc = get_##N(c, R_RAX); \
        alu_cmp_##N(c, acc, a); \
        if (a == acc) put_##N(c, o->rm, get_##N(c, o->reg)); \
        else put_##N(c, R_RAX, a); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_cmpxchg_##N##_m) { \
        u64 lin; \
        U_##N a; \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        U_##N acc = get_##N(c, R_RAX); \
        alu_cmp_##N(c, acc, a); \
        wr_at_##N(c, o, lin, a == acc ? get_##N(c, o->reg) : a); \
        if (a != acc) put_##N(c, R_RAX, a); \
        return true; \
    }
COMPARE_EXCHANGE(8)
COMPARE_EXCHANGE(16)
COMPARE_EXCHANGE(32)
COMPARE_EXCHANGE(64)

/* INC and DEC with the register in the opcode (40+, 48+): 16 and 32 bits only. */
HANDLER(h_inc_16) { return h_inc_16_r(c, o); }
HANDLER(h_inc_32) { return h_inc_32_r(c, o); }
HANDLER(h_inc_64) { return h_inc_64_r(c, o); }
HANDLER(h_dec_16) { return h_dec_16_r(c, o); }
HANDLER(h_dec_32) { return h_dec_32_r(c, o); }
HANDLER(h_dec_64) { return h_dec_64_r(c, o); }
