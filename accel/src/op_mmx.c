/*
 * op_mmx.c - MMX instructions, and those of SSE to SSSE3 that have MMX operands. MMi is the mantissa of the physical x87
 * register Ri; writing it sets the exponent to all ones, and every instruction except EMMS puts TOP to 0
 * and all registers in use (SDM vol. 3, "MMX Instruction Set and the x87 FPU"). A pending x87 exception is raised first.
 * The operations are the host's SSE ones on the low halves of XMM registers.
 */
#pragma GCC target("sse4.2")
#include "fp_range.h"
#include "fpu.h"

INLINE u8 *mm(accel_cpu *c, unsigned n) { return c->fpu.st[n & 7]; }
INLINE void put_mm(accel_cpu *c, unsigned n, vec v) {
    u16 ones = 0xffff;
    st8(mm(c, n), v);
    memcpy(mm(c, n) + 8, &ones, 2);
}

/* d = f(a, b): a is the destination, b the source. The memory operand is `width` bytes and never needs alignment. */
#define MMX_OP(name, width, value) \
    SLOW_HANDLER(h_mm_##name##_r) { \
        if (!fpu_wait(c)) return false; \
        vec a = ld8(mm(c, o->reg)), b = ld8(mm(c, o->rm)); \
        (void)a; \
        fpu_to_mmx(c); \
        put_mm(c, o->reg, value); \
        return true; \
    } \
    SLOW_HANDLER(h_mm_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!fpu_wait(c) || !vec_read(c, o, s, width, 1)) return false; \
        vec a = ld8(mm(c, o->reg)), b = ld##width(s); \
        (void)a; \
        fpu_to_mmx(c); \
        put_mm(c, o->reg, value); \
        return true; \
    }

/* ---- moves ---- */

MMX_OP(movq_PQ, 8, b)
SLOW_HANDLER(h_mm_movq_QP_r) {
    if (!fpu_wait(c)) return false;
    fpu_to_mmx(c);
    put_mm(c, o->rm, ld8(mm(c, o->reg)));
    return true;
}
SLOW_HANDLER(h_mm_movq_QP_m) {
    if (!fpu_wait(c) || !vec_write(c, o, mm(c, o->reg), 8, 1)) return false;
    fpu_to_mmx(c);
    return true;
}
#define MMX_MOVD(N) \
    SLOW_HANDLER(h_mm_movd_PE_##N##_r) { \
        if (!fpu_wait(c)) return false; \
        fpu_to_mmx(c); \
        put_mm(c, o->reg, _mm_cvtsi64_si128((s64)(u64)get_##N(c, o->rm))); \
        return true; \
    } \
    SLOW_HANDLER(h_mm_movd_PE_##N##_m) { \
        U_##N v; \
        if (!fpu_wait(c) || !rd_##N(c, o, &v)) return false; \
        fpu_to_mmx(c); \
        put_mm(c, o->reg, _mm_cvtsi64_si128((s64)(u64)v)); \
        return true; \
    } \
    SLOW_HANDLER(h_mm_movd_EP_##N##_r) { \
        if (!fpu_wait(c)) return false; \
        fpu_to_mmx(c); \
        put_##N(c, o->rm, (U_##N)ld8u(mm(c, o->reg))); \
        return true; \
    } \
    SLOW_HANDLER(h_mm_movd_EP_##N##_m) { \
        if (!fpu_wait(c) || !vec_write(c, o, mm(c, o->reg), N / 8, 1)) return false; \
        fpu_to_mmx(c); \
        return true; \
    }
MMX_MOVD(32)
MMX_MOVD(64)

SLOW_HANDLER(h_movq2dq_r) {
    if (!fpu_wait(c)) return false;
    fpu_to_mmx(c);
    st16(c->v[o->reg], ld8(mm(c, o->rm)));
    return true;
}
SLOW_HANDLER(h_movdq2q_r) {
    if (!fpu_wait(c)) return false;
    fpu_to_mmx(c);
    put_mm(c, o->reg, ld8(c->v[o->rm]));
    return true;
}
SLOW_HANDLER(h_mm_pmovmskb_r) {
    if (!fpu_wait(c)) return false;
    fpu_to_mmx(c);
    put_64(c, o->reg, (u32)_mm_movemask_epi8(ld8(mm(c, o->rm))));
    return true;
}
SLOW_HANDLER(h_maskmovq_r) {
    if (!fpu_wait(c) || !vec_masked_store(c, o, mm(c, o->reg), mm(c, o->rm), 8)) return false;
    fpu_to_mmx(c);
    return true;
}
SLOW_HANDLER(h_mm_pextrw_r) {
    if (!fpu_wait(c)) return false;
    fpu_to_mmx(c);
    put_64(c, o->reg, ld2u(mm(c, o->rm) + 2 * (o->imm & 3)));
    return true;
}
static void insert_word(accel_cpu *c, const struct op *o, u16 v) {
    u8 t[8];
    st8u(t, ld8u(mm(c, o->reg)));
    memcpy(t + 2 * (o->imm & 3), &v, 2);
    fpu_to_mmx(c);
    put_mm(c, o->reg, ld8(t));
}
SLOW_HANDLER(h_mm_pinsrw_r) {
    if (!fpu_wait(c)) return false;
    insert_word(c, o, (u16)c->r[o->rm]);
    return true;
}
SLOW_HANDLER(h_mm_pinsrw_m) {
    u16 v;
    if (!fpu_wait(c) || !rd_16(c, o, &v)) return false;
    insert_word(c, o, v);
    return true;
}

/* ---- element by element: the low half of the SSE operation ---- */

MMX_OP(paddb, 8, _mm_add_epi8(a, b))
MMX_OP(paddw, 8, _mm_add_epi16(a, b))
MMX_OP(paddd, 8, _mm_add_epi32(a, b))
MMX_OP(paddq, 8, _mm_add_epi64(a, b))
MMX_OP(paddsb, 8, _mm_adds_epi8(a, b))
MMX_OP(paddsw, 8, _mm_adds_epi16(a, b))
MMX_OP(paddusb, 8, _mm_adds_epu8(a, b))
MMX_OP(paddusw, 8, _mm_adds_epu16(a, b))
MMX_OP(psubb, 8, _mm_sub_epi8(a, b))
MMX_OP(psubw, 8, _mm_sub_epi16(a, b))
MMX_OP(psubd, 8, _mm_sub_epi32(a, b))
MMX_OP(psubq, 8, _mm_sub_epi64(a, b))
MMX_OP(psubsb, 8, _mm_subs_epi8(a, b))
MMX_OP(psubsw, 8, _mm_subs_epi16(a, b))
MMX_OP(psubusb, 8, _mm_subs_epu8(a, b))
MMX_OP(psubusw, 8, _mm_subs_epu16(a, b))
MMX_OP(pmullw, 8, _mm_mullo_epi16(a, b))
MMX_OP(pmulhw, 8, _mm_mulhi_epi16(a, b))
MMX_OP(pmulhuw, 8, _mm_mulhi_epu16(a, b))
MMX_OP(pmuludq, 8, _mm_mul_epu32(a, b))
MMX_OP(pmaddwd, 8, _mm_madd_epi16(a, b))
MMX_OP(psadbw, 8, _mm_sad_epu8(a, b))
MMX_OP(pavgb, 8, _mm_avg_epu8(a, b))
MMX_OP(pavgw, 8, _mm_avg_epu16(a, b))
MMX_OP(pminub, 8, _mm_min_epu8(a, b))
MMX_OP(pmaxub, 8, _mm_max_epu8(a, b))
MMX_OP(pminsw, 8, _mm_min_epi16(a, b))
MMX_OP(pmaxsw, 8, _mm_max_epi16(a, b))
MMX_OP(pand, 8, _mm_and_si128(a, b))
MMX_OP(pandn, 8, _mm_andnot_si128(a, b))
MMX_OP(por, 8, _mm_or_si128(a, b))
MMX_OP(pxor, 8, _mm_xor_si128(a, b))
MMX_OP(pcmpeqb, 8, _mm_cmpeq_epi8(a, b))
MMX_OP(pcmpeqw, 8, _mm_cmpeq_epi16(a, b))
MMX_OP(pcmpeqd, 8, _mm_cmpeq_epi32(a, b))
MMX_OP(pcmpgtb, 8, _mm_cmpgt_epi8(a, b))
MMX_OP(pcmpgtw, 8, _mm_cmpgt_epi16(a, b))
MMX_OP(pcmpgtd, 8, _mm_cmpgt_epi32(a, b))
MMX_OP(psllw, 8, _mm_sll_epi16(a, b))
MMX_OP(pslld, 8, _mm_sll_epi32(a, b))
MMX_OP(psllq, 8, _mm_sll_epi64(a, b))
MMX_OP(psrlw, 8, _mm_srl_epi16(a, b))
MMX_OP(psrld, 8, _mm_srl_epi32(a, b))
MMX_OP(psrlq, 8, _mm_srl_epi64(a, b))
MMX_OP(psraw, 8, _mm_sra_epi16(a, b))
MMX_OP(psrad, 8, _mm_sra_epi32(a, b))
MMX_OP(pmaddubsw, 8, _mm_maddubs_epi16(a, b))
MMX_OP(pmulhrsw, 8, _mm_mulhrs_epi16(a, b))
MMX_OP(psignb, 8, _mm_sign_epi8(a, b))
MMX_OP(psignw, 8, _mm_sign_epi16(a, b))
MMX_OP(psignd, 8, _mm_sign_epi32(a, b))
MMX_OP(pabsb, 8, _mm_abs_epi8(b))
MMX_OP(pabsw, 8, _mm_abs_epi16(b))
MMX_OP(pabsd, 8, _mm_abs_epi32(b))

#define MMX_SHIFT_IMM(name, intrinsic) \
    SLOW_HANDLER(h_mm_##name##_I_r) { \
        if (!fpu_wait(c)) return false; \
        fpu_to_mmx(c); \
        put_mm(c, o->rm, intrinsic(ld8(mm(c, o->rm)), _mm_cvtsi32_si128((u8)o->imm))); \
        return true; \
    }
MMX_SHIFT_IMM(psllw, _mm_sll_epi16)
MMX_SHIFT_IMM(pslld, _mm_sll_epi32)
MMX_SHIFT_IMM(psllq, _mm_sll_epi64)
MMX_SHIFT_IMM(psrlw, _mm_srl_epi16)
MMX_SHIFT_IMM(psrld, _mm_srl_epi32)
MMX_SHIFT_IMM(psrlq, _mm_srl_epi64)
MMX_SHIFT_IMM(psraw, _mm_sra_epi16)
MMX_SHIFT_IMM(psrad, _mm_sra_epi32)

/* ---- across the register: on destination and source side by side ---- */

#define BOTH _mm_unpacklo_epi64(a, b)
#define HIGH(v) _mm_unpackhi_epi64(v, v)
MMX_OP(packsswb, 8, _mm_packs_epi16(BOTH, BOTH))
MMX_OP(packssdw, 8, _mm_packs_epi32(BOTH, BOTH))
MMX_OP(packuswb, 8, _mm_packus_epi16(BOTH, BOTH))
MMX_OP(phaddw, 8, _mm_hadd_epi16(BOTH, BOTH))
MMX_OP(phaddd, 8, _mm_hadd_epi32(BOTH, BOTH))
MMX_OP(phaddsw, 8, _mm_hadds_epi16(BOTH, BOTH))
MMX_OP(phsubw, 8, _mm_hsub_epi16(BOTH, BOTH))
MMX_OP(phsubd, 8, _mm_hsub_epi32(BOTH, BOTH))
MMX_OP(phsubsw, 8, _mm_hsubs_epi16(BOTH, BOTH))
/* The memory operand of PUNPCKL is 32 bits wide. */
MMX_OP(punpcklbw, 4, _mm_unpacklo_epi8(a, b))
MMX_OP(punpcklwd, 4, _mm_unpacklo_epi16(a, b))
MMX_OP(punpckldq, 4, _mm_unpacklo_epi32(a, b))
MMX_OP(punpckhbw, 8, HIGH(_mm_unpacklo_epi8(a, b)))
MMX_OP(punpckhwd, 8, HIGH(_mm_unpacklo_epi16(a, b)))
MMX_OP(punpckhdq, 8, HIGH(_mm_unpacklo_epi32(a, b)))
MMX_OP(pshufb, 8, _mm_shuffle_epi8(a, _mm_and_si128(b, _mm_set1_epi8((char)0x87))))

static vec shuffle_word(vec b, unsigned imm) {
    u8 s[16], d[8];
    st16(s, b);
    for (unsigned i = 0; i < 4; i++) memcpy(d + 2 * i, s + 2 * (imm >> (2 * i) & 3), 2);
    return ld8(d);
}
MMX_OP(pshufw, 8, shuffle_word(b, (unsigned)o->imm))

static vec align_right(vec a, vec b, unsigned n) {
    u8 window[32] = {0};
    st8(window, b);
    st8(window + 8, a);
    return ld8(window + (n > 16 ? 16 : n));
}
MMX_OP(palignr, 8, align_right(a, b, (u8)o->imm))

/* ---- conversions ----
 * CVTPI2PS and CVTPI2PD touch the x87 state only when their source is an MMX register. The lanes that a packed SSE
 * conversion has in excess are zeros, which raise nothing. */

FP_PAIR(cvtpi2ps, "cvtdq2ps", FP_NONE, 4, 16)
FP_PAIR(cvtpi2pd, "cvtdq2pd", FP_NONE, 8, 16)
FP_PAIR(cvtps2pi, "cvtps2dq", FP_NONE, 4, 16)
FP_PAIR(cvttps2pi, "cvttps2dq", FP_NONE, 4, 16)
FP_PAIR(cvtpd2pi, "cvtpd2dq", FP_NONE, 4, 16)
FP_PAIR(cvttpd2pi, "cvttpd2dq", FP_NONE, 4, 16)

#define FROM_MMX(name, bytes) \
    static bool name(accel_cpu *c, const struct op *o, vec b) { \
        u8 r[16]; \
        st16(r, _mm_setzero_si128()); \
        if (!fast_##name(c, r, b) && !slow_##name(c, r, b)) return false; \
        memcpy(c->v[o->reg], r, bytes); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { \
        if (!fpu_wait(c)) return false; \
        fpu_to_mmx(c); \
        return name(c, o, ld8(mm(c, o->rm))); \
    } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        return vec_read(c, o, s, 8, 1) && name(c, o, ld8(s)); \
    }
FROM_MMX(cvtpi2ps, 8)
FROM_MMX(cvtpi2pd, 16)

#define TO_MMX(name, width, align) \
    static bool name(accel_cpu *c, const struct op *o, vec b) { \
        u8 r[16]; \
        st16(r, _mm_setzero_si128()); \
        if (!fast_##name(c, r, b) && !slow_##name(c, r, b)) return false; \
        fpu_to_mmx(c); \
        put_mm(c, o->reg, ld8(r)); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return fpu_wait(c) && name(c, o, ld##width(c->v[o->rm])); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        return fpu_wait(c) && vec_read(c, o, s, width, align) && name(c, o, ld##width(s)); \
    }
TO_MMX(cvtps2pi, 8, 1)
TO_MMX(cvttps2pi, 8, 1)
TO_MMX(cvtpd2pi, 16, 16)
TO_MMX(cvttpd2pi, 16, 16)
