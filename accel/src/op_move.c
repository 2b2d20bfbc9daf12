/*
 * op_move.c - MOV MOVZX MOVSX MOVSXD LEA XCHG BSWAP MOVBE CMOVcc SETcc XLAT, accumulator extensions, LAHF SAHF,
 * single-flag instructions, NOP, CMPXCHG8B CMPXCHG16B.
 * Forms: EG = r/m,r  GE = r,r/m  EI = r/m,imm  ZI = opcode register,imm
 *        AO = accumulator,moffs  OA = moffs,accumulator.
 */
#include "integer.h"

/* ---- stores ---- */

#define STORE_FAST(name, N, form, ea, value) \
    HANDLER(h_##name##_##N##_##form) { \
        void *p = fast_w(c, ea(c, o), sizeof(U_##N)); \
        if (unlikely(p == NULL)) return h_##name##_##N##_m(c, o); \
        U_##N v = value; \
        memcpy(p, &v, sizeof v); \
        NEXT(c, o); \
    }
#define STORE(name, N, value) \
    HANDLER(h_##name##_##N##_r) { \
        put_##N(c, o->rm, value); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { return wr_##N(c, o, value); } \
    STORE_FAST(name, N, f, ea_f, value) \
    STORE_FAST(name, N, x, ea_x, value)

#define STORES(N) \
    STORE(mov_EG, N, get_##N(c, o->reg)) \
    STORE(mov_EI, N, (U_##N)o->imm)
STORES(8)
STORES(16)
STORES(32)
STORES(64)

HANDLER(h_mov_ZI_8) { put_8(c, o->rm, (u8)o->imm); NEXT(c, o); }
HANDLER(h_mov_ZI_16) { put_16(c, o->rm, (u16)o->imm); NEXT(c, o); }
HANDLER(h_mov_ZI_32) { put_32(c, o->rm, (u32)o->imm); NEXT(c, o); }
HANDLER(h_mov_ZI_64) { put_64(c, o->rm, o->imm); NEXT(c, o); }

/* ---- loads ---- */

LOAD(mov_GE, 8, 8, put_8(c, o->reg, b))
LOAD(mov_GE, 16, 16, put_16(c, o->reg, b))
LOAD(mov_GE, 32, 32, put_32(c, o->reg, b))
LOAD(mov_GE, 64, 64, put_64(c, o->reg, b))

#define EXTEND(N, M) \
    LOAD(movzx##M, N, M, put_##N(c, o->reg, (U_##N)b)) \
    LOAD(movsx##M, N, M, put_##N(c, o->reg, (U_##N)(S_##N)(S_##M)b))
EXTEND(16, 8)
EXTEND(32, 8)
EXTEND(64, 8)
EXTEND(16, 16)
EXTEND(32, 16)
EXTEND(64, 16)

/* With a 16-bit operand MOVSXD reads and writes 16 bits (SDM vol. 2, MOVSX/MOVSXD). */
LOAD(movsxd, 16, 16, put_16(c, o->reg, b))
LOAD(movsxd, 32, 32, put_32(c, o->reg, b))
LOAD(movsxd, 64, 32, put_64(c, o->reg, (u64)(s64)(s32)b))

/* ---- absolute addresses ---- */

#define ABSOLUTE(N) \
    SLOW_HANDLER(h_mov_AO_##N) { \
        u64 lin; \
        U_##N b; \
        if (!seg_linear(c, o->seg, cut_address(o, o->imm), sizeof b, ACC_R, &lin) || !rd_at_##N(c, o, lin, &b)) return false; \
        put_##N(c, R_RAX, b); \
        return true; \
    } \
    SLOW_HANDLER(h_mov_OA_##N) { \
        u64 lin; \
        return seg_linear(c, o->seg, cut_address(o, o->imm), sizeof(U_##N), ACC_W, &lin) \
               && wr_at_##N(c, o, lin, get_##N(c, R_RAX)); \
    }
ABSOLUTE(8)
ABSOLUTE(16)
ABSOLUTE(32)
ABSOLUTE(64)

/* XLAT: AL is an unsigned index; the sum wraps at the address size. */
SLOW_HANDLER(h_xlat) {
    u64 lin, ea = cut_address(o, c->r[R_RBX] + get_8(c, 8 * R_RAX));
    u8 b;
    if (!seg_linear(c, o->seg, ea, 1, ACC_R, &lin) || !rd_at_8(c, o, lin, &b)) return false;
    put_8(c, 8 * R_RAX, b);
    return true;
}

/* ---- LEA: the effective address without the segment base ---- */

#define LEA(N) \
    HANDLER(h_lea_##N##_m) { \
        put_##N(c, o->reg, (U_##N)op_ea(c, o)); \
        NEXT(c, o); \
    } \
    HANDLER(h_lea_##N##_f) { \
        put_##N(c, o->reg, (U_##N)ea_f(c, o)); \
        NEXT(c, o); \
    } \
    HANDLER(h_lea_##N##_x) { \
        put_##N(c, o->reg, (U_##N)(c->r[o->base] + (c->r[o->index] << o->scale) + (s64)o->disp)); \
        NEXT(c, o); \
    }
LEA(16)
LEA(32)
LEA(64)

/* ---- exchange, byte order ---- */

#define EXCHANGE(N) \
    HANDLER(h_xchg_##N##_r) { \
        U_##N a = get_##N(c, o->rm), b = get_##N(c, o->reg); \
        put_##N(c, o->rm, b); \
        put_##N(c, o->reg, a); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_xchg_##N##_m) { \
        u64 lin; \
        U_##N a; \
        if (!rmw_##N(c, o, &lin, &a)) return false; \
        wr_at_##N(c, o, lin, get_##N(c, o->reg)); \
        put_##N(c, o->reg, a); \
        return true; \
    }
EXCHANGE(8)
EXCHANGE(16)
EXCHANGE(32)
EXCHANGE(64)

/* 90+r. With RAX itself it is NOP, which leaves the upper half of RAX alone (SDM vol. 2, NOP). */
#define EXCHANGE_ACC(N) \
    HANDLER(h_xchg_A_##N) { \
        if (o->rm != R_RAX) { \
            U_##N a = get_##N(c, R_RAX), b = get_##N(c, o->rm); \
            put_##N(c, R_RAX, b); \
            put_##N(c, o->rm, a); \
        } \
        NEXT(c, o); \
    }
EXCHANGE_ACC(16)
EXCHANGE_ACC(32)
EXCHANGE_ACC(64)

/* BSWAP of a 16-bit register is undefined; Intel and AMD processors clear it. */
HANDLER(h_bswap_16) { put_16(c, o->rm, 0); NEXT(c, o); }
HANDLER(h_bswap_32) { put_32(c, o->rm, __builtin_bswap32(get_32(c, o->rm))); NEXT(c, o); }
HANDLER(h_bswap_64) { put_64(c, o->rm, __builtin_bswap64(get_64(c, o->rm))); NEXT(c, o); }

#define MOVBE(N) \
    SLOW_HANDLER(h_movbe_GE_##N##_m) { \
        U_##N b; \
        if (!rd_##N(c, o, &b)) return false; \
        put_##N(c, o->reg, __builtin_bswap##N(b)); \
        return true; \
    } \
    SLOW_HANDLER(h_movbe_EG_##N##_m) { return wr_##N(c, o, __builtin_bswap##N(get_##N(c, o->reg))); }
MOVBE(16)
MOVBE(32)
MOVBE(64)

/* ---- conditions ---- */

/* CMOVcc reads its source in every case, and a 32-bit destination is zero-extended in every case. */
#define CMOV(cc, name, N) LOAD_PLAIN(cmov##name, N, N, put_##N(c, o->reg, cond(c, cc) ? b : get_##N(c, o->reg)))
#define CONDITION(cc, name) \
    CMOV(cc, name, 16) \
    CMOV(cc, name, 32) \
    CMOV(cc, name, 64) \
    HANDLER(h_set##name##_8_r) { put_8(c, o->rm, cond(c, cc)); NEXT(c, o); } \
    SLOW_HANDLER(h_set##name##_8_m) { return wr_8(c, o, cond(c, cc)); }
CONDITION(0, O)
CONDITION(1, NO)
CONDITION(2, B)
CONDITION(3, AE)
CONDITION(4, E)
CONDITION(5, NE)
CONDITION(6, BE)
CONDITION(7, A)
CONDITION(8, S)
CONDITION(9, NS)
CONDITION(10, P)
CONDITION(11, NP)
CONDITION(12, L)
CONDITION(13, GE)
CONDITION(14, LE)
CONDITION(15, G)

/* ---- accumulator extensions ---- */

HANDLER(h_cbw_16) { put_16(c, R_RAX, (u16)(s8)c->r[R_RAX]); NEXT(c, o); }
HANDLER(h_cbw_32) { put_32(c, R_RAX, (u32)(s16)c->r[R_RAX]); NEXT(c, o); }
HANDLER(h_cbw_64) { put_64(c, R_RAX, (u64)(s32)c->r[R_RAX]); NEXT(c, o); }
HANDLER(h_cwd_16) { put_16(c, R_RDX, (u16)((s16)c->r[R_RAX] >> 15)); NEXT(c, o); }
HANDLER(h_cwd_32) { put_32(c, R_RDX, (u32)((s32)c->r[R_RAX] >> 31)); NEXT(c, o); }
HANDLER(h_cwd_64) { put_64(c, R_RDX, (u64)((s64)c->r[R_RAX] >> 63)); NEXT(c, o); }

/* ---- flags ---- */

#define AH_BITS (F_SF | F_ZF | F_AF | F_PF | F_CF)
#define AH_FIXED 2 /* bit 1 of RFLAGS reads as one */

HANDLER(h_lahf) { put_8(c, 8 * R_RAX + 1, (c->flags_ah & AH_BITS) | AH_FIXED); NEXT(c, o); }
HANDLER(h_sahf) { c->flags_ah = (get_8(c, 8 * R_RAX + 1) & AH_BITS) | AH_FIXED; NEXT(c, o); }
HANDLER(h_clc) { c->flags_ah &= ~F_CF; NEXT(c, o); }
HANDLER(h_stc) { c->flags_ah |= F_CF; NEXT(c, o); }
HANDLER(h_cmc) { c->flags_ah ^= F_CF; NEXT(c, o); }
HANDLER(h_cld) { c->flags &= ~F_DF; NEXT(c, o); }
HANDLER(h_std) { c->flags |= F_DF; NEXT(c, o); }

/* NOP, prefetch and hint forms: a memory operand is not touched. */
HANDLER(h_nop) { NEXT(c, o); }

/* ---- CMPXCHG8B, CMPXCHG16B: write their destination in every case; only ZF changes ---- */

SLOW_HANDLER(h_cmpxchg8b_m) {
    u64 lin, old, expected = get_32(c, R_RAX) | (u64)get_32(c, R_RDX) << 32;
    if (!rmw_64(c, o, &lin, &old)) return false;
    bool equal = old == expected;
    wr_at_64(c, o, lin, equal ? get_32(c, R_RBX) | (u64)get_32(c, R_RCX) << 32 : old);
    if (!equal) {
        put_32(c, R_RAX, (u32)old);
        put_32(c, R_RDX, (u32)(old >> 32));
    }
    set_flags_ah(c, F_ZF, equal ? F_ZF : 0);
    return true;
}

/* Not aligned to 16 bytes: #GP(0) in every mode (SDM vol. 2, CMPXCHG8B/CMPXCHG16B). */
SLOW_HANDLER(h_cmpxchg16b_m) {
    u64 lin, old[2];
    if (!op_linear(c, o, sizeof old, ACC_W, &lin)) return false;
    if (lin & 15) return set_fault(c, EX_GP, true, 0);
    if (!mem_probe_write(c, o, lin, sizeof old) || !mem_read(c, o, lin, old, sizeof old)) return false;
    bool equal = old[0] == c->r[R_RAX] && old[1] == c->r[R_RDX];
    u64 new_value[2] = { equal ? c->r[R_RBX] : old[0], equal ? c->r[R_RCX] : old[1] };
    if (!mem_write(c, o, lin, new_value, sizeof new_value)) return false;
    if (!equal) {
        c->r[R_RAX] = old[0];
        c->r[R_RDX] = old[1];
    }
    set_flags_ah(c, F_ZF, equal ? F_ZF : 0);
    return true;
}
