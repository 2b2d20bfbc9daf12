/*
 * op_sse_int.c - integer and bitwise SSE2, SSSE3, SSE4.1 and SSE4.2 instructions on XMM registers, and the shuffles
 * (also of floating-point lanes, which are moves). Each is the host's own instruction.
 */
#pragma GCC target("sse4.2")
#include "vec.h"

/* ---- arithmetic ---- */

VEC_OP(paddb, _mm_add_epi8(a, b))
VEC_OP(paddw, _mm_add_epi16(a, b))
VEC_OP(paddd, _mm_add_epi32(a, b))
VEC_OP(paddq, _mm_add_epi64(a, b))
VEC_OP(paddsb, _mm_adds_epi8(a, b))
VEC_OP(paddsw, _mm_adds_epi16(a, b))
VEC_OP(paddusb, _mm_adds_epu8(a, b))
VEC_OP(paddusw, _mm_adds_epu16(a, b))
VEC_OP(psubb, _mm_sub_epi8(a, b))
VEC_OP(psubw, _mm_sub_epi16(a, b))
VEC_OP(psubd, _mm_sub_epi32(a, b))
VEC_OP(psubq, _mm_sub_epi64(a, b))
VEC_OP(psubsb, _mm_subs_epi8(a, b))
VEC_OP(psubsw, _mm_subs_epi16(a, b))
VEC_OP(psubusb, _mm_subs_epu8(a, b))
VEC_OP(psubusw, _mm_subs_epu16(a, b))
VEC_OP(pavgb, _mm_avg_epu8(a, b))
VEC_OP(pavgw, _mm_avg_epu16(a, b))
VEC_OP(pminub, _mm_min_epu8(a, b))
VEC_OP(pminsw, _mm_min_epi16(a, b))
VEC_OP(pmaxub, _mm_max_epu8(a, b))
VEC_OP(pmaxsw, _mm_max_epi16(a, b))
VEC_OP(pminsb, _mm_min_epi8(a, b))
VEC_OP(pminsd, _mm_min_epi32(a, b))
VEC_OP(pminuw, _mm_min_epu16(a, b))
VEC_OP(pminud, _mm_min_epu32(a, b))
VEC_OP(pmaxsb, _mm_max_epi8(a, b))
VEC_OP(pmaxsd, _mm_max_epi32(a, b))
VEC_OP(pmaxuw, _mm_max_epu16(a, b))
VEC_OP(pmaxud, _mm_max_epu32(a, b))
VEC_OP(pmullw, _mm_mullo_epi16(a, b))
VEC_OP(pmulhw, _mm_mulhi_epi16(a, b))
VEC_OP(pmulhuw, _mm_mulhi_epu16(a, b))
VEC_OP(pmuludq, _mm_mul_epu32(a, b))
VEC_OP(pmuldq, _mm_mul_epi32(a, b))
VEC_OP(pmulld, _mm_mullo_epi32(a, b))
VEC_OP(pmaddwd, _mm_madd_epi16(a, b))
VEC_OP(psadbw, _mm_sad_epu8(a, b))
VEC_OP(pmaddubsw, _mm_maddubs_epi16(a, b))
VEC_OP(pmulhrsw, _mm_mulhrs_epi16(a, b))
VEC_OP(phaddw, _mm_hadd_epi16(a, b))
VEC_OP(phaddd, _mm_hadd_epi32(a, b))
VEC_OP(phaddsw, _mm_hadds_epi16(a, b))
VEC_OP(phsubw, _mm_hsub_epi16(a, b))
VEC_OP(phsubd, _mm_hsub_epi32(a, b))
VEC_OP(phsubsw, _mm_hsubs_epi16(a, b))
VEC_OP(psignb, _mm_sign_epi8(a, b))
VEC_OP(psignw, _mm_sign_epi16(a, b))
VEC_OP(psignd, _mm_sign_epi32(a, b))
VEC_OP(pabsb, _mm_abs_epi8(b))
VEC_OP(pabsw, _mm_abs_epi16(b))
VEC_OP(pabsd, _mm_abs_epi32(b))
VEC_OP(phminposuw, _mm_minpos_epu16(b))

/* ---- logic and compares ---- */

VEC_OP(pand, _mm_and_si128(a, b))
VEC_OP(pandn, _mm_andnot_si128(a, b))
VEC_OP(por, _mm_or_si128(a, b))
VEC_OP(pxor, _mm_xor_si128(a, b))
VEC_OP(pcmpeqb, _mm_cmpeq_epi8(a, b))
VEC_OP(pcmpeqw, _mm_cmpeq_epi16(a, b))
VEC_OP(pcmpeqd, _mm_cmpeq_epi32(a, b))
VEC_OP(pcmpeqq, _mm_cmpeq_epi64(a, b))
VEC_OP(pcmpgtb, _mm_cmpgt_epi8(a, b))
VEC_OP(pcmpgtw, _mm_cmpgt_epi16(a, b))
VEC_OP(pcmpgtd, _mm_cmpgt_epi32(a, b))
VEC_OP(pcmpgtq, _mm_cmpgt_epi64(a, b))

/* PTEST: ZF = no common bit, CF = source within destination; the other flags are cleared. */
INLINE void ptest(accel_cpu *c, vec a, vec b) {
    u8 ah = 2;
    if (_mm_testz_si128(a, b)) ah |= F_ZF;
    if (_mm_testc_si128(a, b)) ah |= F_CF;
    c->flags_ah = ah;
    c->flags_of = 0;
}
VEC_FORMS(ptest, 16, 16, ptest(c, ld16(d), ld16(s)))

/* ---- shifts ---- */

VEC_OP(psllw, _mm_sll_epi16(a, b))
VEC_OP(pslld, _mm_sll_epi32(a, b))
VEC_OP(psllq, _mm_sll_epi64(a, b))
VEC_OP(psrlw, _mm_srl_epi16(a, b))
VEC_OP(psrld, _mm_srl_epi32(a, b))
VEC_OP(psrlq, _mm_srl_epi64(a, b))
VEC_OP(psraw, _mm_sra_epi16(a, b))
VEC_OP(psrad, _mm_sra_epi32(a, b))

#define SHIFT_IMM(name, intrinsic) \
    HANDLER(h_##name##_I_r) { \
        u8 *d = c->v[o->rm]; \
        st16(d, intrinsic(ld16(d), _mm_cvtsi32_si128((u8)o->imm))); \
        NEXT(c, o); \
    }
SHIFT_IMM(psllw, _mm_sll_epi16)
SHIFT_IMM(pslld, _mm_sll_epi32)
SHIFT_IMM(psllq, _mm_sll_epi64)
SHIFT_IMM(psrlw, _mm_srl_epi16)
SHIFT_IMM(psrld, _mm_srl_epi32)
SHIFT_IMM(psrlq, _mm_srl_epi64)
SHIFT_IMM(psraw, _mm_sra_epi16)
SHIFT_IMM(psrad, _mm_sra_epi32)

/* A window of 16 bytes into zeros, the value, zeros: byte shifts by a variable count. */
INLINE void byte_window(u8 *d, const u8 *low, const u8 *high, unsigned from) {
    u128 lo, hi, r = 0;
    memcpy(&lo, low, 16);
    memcpy(&hi, high, 16);
    if (from == 0) r = lo;
    else if (from < 16) r = lo >> (8 * from) | hi << (128 - 8 * from);
    else if (from < 32) r = hi >> (8 * (from - 16));
    memcpy(d, &r, 16);
}
static const u8 zeros[16];
HANDLER(h_pslldq_I_r) {
    unsigned n = (u8)o->imm;
    byte_window(c->v[o->rm], zeros, c->v[o->rm], n > 15 ? 32 : n ? 16 - n : 16);
    NEXT(c, o);
}
HANDLER(h_psrldq_I_r) { byte_window(c->v[o->rm], c->v[o->rm], zeros, (u8)o->imm); NEXT(c, o); }
VEC_FORMS(palignr, 16, 16, byte_window(d, s, d, (u8)o->imm))

/* ---- pack, unpack, extend ---- */

VEC_OP(packsswb, _mm_packs_epi16(a, b))
VEC_OP(packssdw, _mm_packs_epi32(a, b))
VEC_OP(packuswb, _mm_packus_epi16(a, b))
VEC_OP(packusdw, _mm_packus_epi32(a, b))
VEC_OP(punpcklbw, _mm_unpacklo_epi8(a, b))
VEC_OP(punpcklwd, _mm_unpacklo_epi16(a, b))
VEC_OP(punpckldq, _mm_unpacklo_epi32(a, b))
VEC_OP(punpcklqdq, _mm_unpacklo_epi64(a, b))
VEC_OP(punpckhbw, _mm_unpackhi_epi8(a, b))
VEC_OP(punpckhwd, _mm_unpackhi_epi16(a, b))
VEC_OP(punpckhdq, _mm_unpackhi_epi32(a, b))
VEC_OP(punpckhqdq, _mm_unpackhi_epi64(a, b))

#define EXTEND(name, width, load, intrinsic) VEC_FORMS(name, width, 1, st16(d, intrinsic(load(s))))
INLINE vec ld2(const void *p) { return _mm_cvtsi32_si128(ld2u(p)); }
EXTEND(pmovsxbw, 8, ld8, _mm_cvtepi8_epi16)
EXTEND(pmovsxbd, 4, ld4, _mm_cvtepi8_epi32)
EXTEND(pmovsxbq, 2, ld2, _mm_cvtepi8_epi64)
EXTEND(pmovsxwd, 8, ld8, _mm_cvtepi16_epi32)
EXTEND(pmovsxwq, 4, ld4, _mm_cvtepi16_epi64)
EXTEND(pmovsxdq, 8, ld8, _mm_cvtepi32_epi64)
EXTEND(pmovzxbw, 8, ld8, _mm_cvtepu8_epi16)
EXTEND(pmovzxbd, 4, ld4, _mm_cvtepu8_epi32)
EXTEND(pmovzxbq, 2, ld2, _mm_cvtepu8_epi64)
EXTEND(pmovzxwd, 8, ld8, _mm_cvtepu16_epi32)
EXTEND(pmovzxwq, 4, ld4, _mm_cvtepu16_epi64)
EXTEND(pmovzxdq, 8, ld8, _mm_cvtepu32_epi64)

/* ---- shuffles ---- */

INLINE void shuffle_dwords(u8 *d, const u8 *low, const u8 *high, unsigned imm) {
    u32 a = ld4u(low + 4 * (imm & 3)), b = ld4u(low + 4 * ((imm >> 2) & 3));
    u32 e = ld4u(high + 4 * ((imm >> 4) & 3)), f = ld4u(high + 4 * ((imm >> 6) & 3));
    st16(d, _mm_set_epi64x((s64)((u64)f << 32 | e), (s64)((u64)b << 32 | a)));
}
INLINE u64 shuffle_words(const u8 *s, unsigned imm) {
    return ld2u(s + 2 * (imm & 3)) | (u64)ld2u(s + 2 * ((imm >> 2) & 3)) << 16 | (u64)ld2u(s + 2 * ((imm >> 4) & 3)) << 32 |
           (u64)ld2u(s + 2 * ((imm >> 6) & 3)) << 48;
}
VEC_FORMS(pshufd, 16, 16, shuffle_dwords(d, s, s, (unsigned)o->imm))
VEC_FORMS(pshuflw, 16, 16, u64 lo = shuffle_words(s, (unsigned)o->imm); u64 hi = ld8u(s + 8);
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))
VEC_FORMS(pshufhw, 16, 16, u64 hi = shuffle_words(s + 8, (unsigned)o->imm); u64 lo = ld8u(s);
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))
VEC_FORMS(shufps, 16, 16, shuffle_dwords(d, d, s, (unsigned)o->imm))
VEC_FORMS(shufpd, 16, 16, u64 lo = ld8u(d + (o->imm & 1 ? 8 : 0)); u64 hi = ld8u(s + (o->imm & 2 ? 8 : 0));
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))
VEC_OP(pshufb, _mm_shuffle_epi8(a, b))

/* ---- blends: lane from the source where the mask's sign bit is set ---- */

INLINE void blend_lanes(u8 *d, const u8 *s, unsigned lane, unsigned imm) {
    for (unsigned i = 0; i < 16 / lane; i++)
        if (imm & (1u << i)) memcpy(d + i * lane, s + i * lane, lane);
}
VEC_FORMS(blendps, 16, 16, blend_lanes(d, s, 4, (unsigned)o->imm))
VEC_FORMS(blendpd, 16, 16, blend_lanes(d, s, 8, (unsigned)o->imm))
VEC_FORMS(pblendw, 16, 16, blend_lanes(d, s, 2, (unsigned)o->imm))
VEC_OP(pblendvb, _mm_blendv_epi8(a, b, ld16(c->v[0])))
VEC_OP(blendvps, _mm_castps_si128(_mm_blendv_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _mm_castsi128_ps(ld16(c->v[0])))))
VEC_OP(blendvpd, _mm_castpd_si128(_mm_blendv_pd(_mm_castsi128_pd(a), _mm_castsi128_pd(b), _mm_castsi128_pd(ld16(c->v[0])))))

/* MPSADBW: eight sums of absolute differences of four bytes; imm[2] moves the window of the destination by four
 * bytes, imm[1:0] selects the four bytes of the source. */
INLINE void mpsadbw(u8 *d, const u8 *s, unsigned imm) {
    vec a = ld16(d), b = ld16(s);
    switch (imm & 7) {
    case 0: a = _mm_mpsadbw_epu8(a, b, 0); break;
    case 1: a = _mm_mpsadbw_epu8(a, b, 1); break;
    case 2: a = _mm_mpsadbw_epu8(a, b, 2); break;
    case 3: a = _mm_mpsadbw_epu8(a, b, 3); break;
    case 4: a = _mm_mpsadbw_epu8(a, b, 4); break;
    case 5: a = _mm_mpsadbw_epu8(a, b, 5); break;
    case 6: a = _mm_mpsadbw_epu8(a, b, 6); break;
    default: a = _mm_mpsadbw_epu8(a, b, 7); break;
    }
    st16(d, a);
}
VEC_FORMS(mpsadbw, 16, 16, mpsadbw(d, s, (unsigned)o->imm))
