/*
 * op_sse_int.c - integer and bitwise SSE2, SSSE3, SSE4.1 and SSE4.2 instructions on XMM registers, and the shuffles
 * (also of floating-point lanes, which are moves). Each is the host's own instruction.
 */
#pragma GCC target("sse4.2")
#include "vec_int.h"

/* ---- lanes that AVX shares ---- */

#define LANE(name, value) VEC_OP(name, value)
#define SHIFT(name, intrinsic) \
    VEC_OP(name, intrinsic(a, b)) \
    HANDLER(h_##name##_I_r) { \
        u8 *d = c->v[o->rm]; \
        st16(d, intrinsic(ld16(d), _mm_cvtsi32_si128((u8)o->imm))); \
        NEXT(c, o); \
    }
#define EXTEND(name, width, load, intrinsic) VEC_FORMS(name, width, 1, st16(d, intrinsic(load(s))))
#include "vec_int.def"
VEC_OP(phminposuw, _mm_minpos_epu16(b))

/* PTEST: ZF = no common bit, CF = source within destination; the other flags are cleared. */
INLINE void ptest(accel_cpu *c, vec a, vec b) {
    u8 ah = 2;
    if (_mm_testz_si128(a, b)) ah |= F_ZF;
    if (_mm_testc_si128(a, b)) ah |= F_CF;
    c->flags_ah = ah;
    c->flags_of = 0;
}
VEC_FORMS(ptest, 16, 16, ptest(c, ld16(d), ld16(s)))

/* ---- shifts of bytes ---- */

HANDLER(h_pslldq_I_r) {
    unsigned n = (u8)o->imm;
    byte_window(c->v[o->rm], zeros, c->v[o->rm], n > 15 ? 32 : n ? 16 - n : 16);
    NEXT(c, o);
}
HANDLER(h_psrldq_I_r) { byte_window(c->v[o->rm], c->v[o->rm], zeros, (u8)o->imm); NEXT(c, o); }
VEC_FORMS(palignr, 16, 16, byte_window(d, s, d, (u8)o->imm))

/* ---- shuffles ---- */

VEC_FORMS(pshufd, 16, 16, shuffle_dwords(d, s, s, (unsigned)o->imm))
VEC_FORMS(pshuflw, 16, 16, u64 lo = shuffle_words(s, (unsigned)o->imm); u64 hi = ld8u(s + 8);
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))
VEC_FORMS(pshufhw, 16, 16, u64 hi = shuffle_words(s + 8, (unsigned)o->imm); u64 lo = ld8u(s);
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))
VEC_FORMS(shufps, 16, 16, shuffle_dwords(d, d, s, (unsigned)o->imm))
VEC_FORMS(shufpd, 16, 16, u64 lo = ld8u(d + (o->imm & 1 ? 8 : 0)); u64 hi = ld8u(s + (o->imm & 2 ? 8 : 0));
          st16(d, _mm_set_epi64x((s64)hi, (s64)lo)))

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

VEC_FORMS(mpsadbw, 16, 16, st16(d, mpsadbw_lane(ld16(d), ld16(s), (unsigned)o->imm)))
