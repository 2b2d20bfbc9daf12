/*
 * op_avx_int.c - integer, bitwise and shuffle instructions of AVX and AVX2.
 */
#pragma GCC target("sse4.2")
#include "avx.h"
#include "vec_int.h"

/* ---- lanes that SSE shares; the count of all shifts is the low quadword of the source, and an extension's source is a
 * part of the destination's size ---- */

#define LANE(name, value) AVX_OP(v##name, value)
#define SHIFT(name, intrinsic) \
    AVX_WHOLE(v##name, vec count = ld8(s); vec hi = ld16(p + 16); st16(d, intrinsic(ld16(p), count)); \
              st16(d + 16, OP_L(o) ? intrinsic(hi, count) : _mm_setzero_si128())) \
    AVX_REG(v##name) \
    AVX_HOT(v##name, 16, 1) \
    HANDLER(h_v##name##_I_r) { \
        u8 *d = c->v[o->vvvv]; \
        const u8 *s = c->v[o->rm]; \
        vec count = _mm_cvtsi32_si128((u8)o->imm), hi = ld16(s + 16); \
        st16(d, intrinsic(ld16(s), count)); \
        st16(d + 16, OP_L(o) ? intrinsic(hi, count) : _mm_setzero_si128()); \
        NEXT(c, o); \
    }
#define EXTEND(name, width, load, intrinsic) \
    AVX_WHOLE(v##name, vec lo = intrinsic(load(s)); vec hi = OP_L(o) ? intrinsic(load(s + (width))) : _mm_setzero_si128(); \
              st16(d, lo); st16(d + 16, hi)) \
    AVX_REG(v##name) \
    AVX_HOT(v##name, OP_L(o) ? 2 * (width) : (width), 1)
#include "vec_int.def"
AVX_WHOLE(vphminposuw, st16z(d, _mm_minpos_epu16(ld16(s))))
AVX_REG(vphminposuw)
AVX_HOT(vphminposuw, 16, 1)

/* ---- shifts of bytes, and by counts per element ---- */

AVX_FORMS(vpalignr, byte_window(d, s, p, (u8)o->imm))
#define SHIFT_BYTES(name, low, high, from) \
    HANDLER(h_##name##_I_r) { \
        u8 *d = c->v[o->vvvv]; \
        const u8 *s = c->v[o->rm]; \
        unsigned n = (u8)o->imm > 15 ? 16 : (u8)o->imm; \
        byte_window(d, low, high, from); \
        if (OP_L(o)) { \
            d += 16, s += 16; \
            byte_window(d, low, high, from); \
        } else { \
            clear_high(d); \
        } \
        NEXT(c, o); \
    }
SHIFT_BYTES(vpslldq, zeros, s, n == 16 ? 32 : 16 - n)
SHIFT_BYTES(vpsrldq, s, zeros, n)

/* Counts per element; too large ones give zeros or sign bits. */
#define VARIABLE(name, type, unsigned_type, bits, value) \
    AVX_FORMS(name, for (unsigned i = 0; i < 128 / bits; i++) { \
        type v; unsigned_type n; \
        memcpy(&v, p + i * sizeof v, sizeof v); \
        memcpy(&n, s + i * sizeof n, sizeof n); \
        v = value; \
        memcpy(d + i * sizeof v, &v, sizeof v); \
    })
VARIABLE(vpsllvd, u32, u32, 32, n < 32 ? v << n : 0)
VARIABLE(vpsllvq, u64, u64, 64, n < 64 ? v << n : 0)
VARIABLE(vpsrlvd, u32, u32, 32, n < 32 ? v >> n : 0)
VARIABLE(vpsrlvq, u64, u64, 64, n < 64 ? v >> n : 0)
VARIABLE(vpsravd, s32, u32, 32, v >> (n < 32 ? n : 31))

/* ---- shuffles within lanes ---- */

AVX_FORMS(vpshufd, shuffle_dwords(d, s, s, (unsigned)o->imm))
AVX_FORMS(vpshuflw, two_quads(d, shuffle_words(s, (unsigned)o->imm), ld8u(s + 8)))
AVX_FORMS(vpshufhw, two_quads(d, ld8u(s), shuffle_words(s + 8, (unsigned)o->imm)))
AVX_FORMS(vshufps, shuffle_dwords(d, p, s, (unsigned)o->imm))
/* The immediate has two bits per lane. */
INLINE unsigned lane_bits(const accel_cpu *c, const struct op *o, const u8 *d, unsigned bits) {
    return (unsigned)o->imm >> (d == c->v[o->reg] ? 0 : bits);
}
AVX_FORMS(vshufpd, unsigned imm = lane_bits(c, o, d, 2); two_quads(d, ld8u(p + (imm & 1 ? 8 : 0)), ld8u(s + (imm & 2 ? 8 : 0))))
AVX_FORMS(vpermilps_I, shuffle_dwords(d, s, s, (unsigned)o->imm))
AVX_FORMS(vpermilpd_I, unsigned imm = lane_bits(c, o, d, 2); two_quads(d, ld8u(s + (imm & 1 ? 8 : 0)), ld8u(s + (imm & 2 ? 8 : 0))))
AVX_FORMS(vpermilps, u32 r0 = ld4u(p + 4 * (s[0] & 3)); u32 r1 = ld4u(p + 4 * (s[4] & 3)); u32 r2 = ld4u(p + 4 * (s[8] & 3));
          u32 r3 = ld4u(p + 4 * (s[12] & 3)); two_quads(d, r0 | (u64)r1 << 32, r2 | (u64)r3 << 32))
AVX_FORMS(vpermilpd, two_quads(d, ld8u(p + (s[0] & 2 ? 8 : 0)), ld8u(p + (s[8] & 2 ? 8 : 0))))

INLINE void blend(u8 *d, const u8 *p, const u8 *s, unsigned element, unsigned imm) {
    u8 r[16];
    for (unsigned i = 0; i < 16; i++) r[i] = imm >> (i / element) & 1 ? s[i] : p[i];
    memcpy(d, r, 16);
}
AVX_RUN(vblendps, blend(d, p, s, 4, lane_bits(c, o, d, 4)))
AVX_RUN(vblendpd, blend(d, p, s, 8, lane_bits(c, o, d, 2)))
AVX_RUN(vpblendw, blend(d, p, s, 2, (unsigned)o->imm))
AVX_RUN(vpblendd, blend(d, p, s, 4, lane_bits(c, o, d, 4)))
AVX_RUN(vmpsadbw, st16(d, mpsadbw_lane(ld16(p), ld16(s), lane_bits(c, o, d, 3))))
#define SLOW_FORMS(name) \
    SLOW_HANDLER(h_##name##_r) { run_##name(c, o, c->v[o->rm]); return true; } \
    AVX_M(name, avx_width(o), 1)
SLOW_FORMS(vblendps)
SLOW_FORMS(vblendpd)
SLOW_FORMS(vpblendw)
SLOW_FORMS(vpblendd)
SLOW_FORMS(vmpsadbw)

/* The fourth operand, a register, is in imm[7:4]. */
INLINE vec fourth(accel_cpu *c, const struct op *o, const u8 *d) {
    return ld16(c->v[(o->imm >> 4) & (is_code64(c) ? 15 : 7)] + (d == c->v[o->reg] ? 0 : 16));
}
AVX_FORMS(vpblendvb, st16(d, _mm_blendv_epi8(ld16(p), ld16(s), fourth(c, o, d))))
AVX_FORMS(vblendvps, st16(d, _mm_castps_si128(_mm_blendv_ps(_mm_castsi128_ps(ld16(p)), _mm_castsi128_ps(ld16(s)),
                                                            _mm_castsi128_ps(fourth(c, o, d))))))
AVX_FORMS(vblendvpd, st16(d, _mm_castpd_si128(_mm_blendv_pd(_mm_castsi128_pd(ld16(p)), _mm_castsi128_pd(ld16(s)),
                                                            _mm_castsi128_pd(fourth(c, o, d))))))

/* ---- tests: ZF = no common bit, CF = source within destination, of the bits in `mask` ---- */

INLINE void test(accel_cpu *c, const struct op *o, const u8 *s, vec mask) {
    const u8 *d = c->v[o->reg];
    vec both = _mm_and_si128(ld16(d), ld16(s)), outside = _mm_andnot_si128(ld16(d), ld16(s));
    if (OP_L(o)) {
        both = _mm_or_si128(both, _mm_and_si128(ld16(d + 16), ld16(s + 16)));
        outside = _mm_or_si128(outside, _mm_andnot_si128(ld16(d + 16), ld16(s + 16)));
    }
    c->flags_ah = (u8)(2 | (_mm_testz_si128(both, mask) ? F_ZF : 0) | (_mm_testz_si128(outside, mask) ? F_CF : 0));
    c->flags_of = 0;
}
AVX_WHOLE(vptest, test(c, o, s, _mm_set1_epi32(-1)))
AVX_WHOLE(vtestps, test(c, o, s, _mm_set1_epi32((int)0x80000000)))
AVX_WHOLE(vtestpd, test(c, o, s, _mm_set1_epi64x((s64)0x8000000000000000ull)))
AVX_REG(vptest)
AVX_HOT(vptest, avx_width(o), 1)
AVX_REG(vtestps)
AVX_HOT(vtestps, avx_width(o), 1)
AVX_REG(vtestpd)
AVX_HOT(vtestpd, avx_width(o), 1)

/* ---- across lanes ---- */

INLINE void permute_dwords(u8 *d, const u8 *values, const u8 *index) {
    u8 r[32];
    for (unsigned i = 0; i < 8; i++) st4u(r + 4 * i, ld4u(values + 4 * (index[4 * i] & 7)));
    memcpy(d, r, 32);
}
INLINE void permute_quads(u8 *d, const u8 *s, unsigned imm) {
    u64 a = ld8u(s + 8 * (imm & 3)), b = ld8u(s + 8 * (imm >> 2 & 3)), e = ld8u(s + 8 * (imm >> 4 & 3)), f = ld8u(s + 8 * (imm >> 6 & 3));
    two_quads(d, a, b);
    two_quads(d + 16, e, f);
}
INLINE vec half(const u8 *p, const u8 *s, unsigned select) {
    return select & 8 ? _mm_setzero_si128() : ld16((select & 2 ? s : p) + (select & 1 ? 16 : 0));
}
AVX_WHOLE(vpermd, permute_dwords(d, s, p))
AVX_WHOLE(vpermq, permute_quads(d, s, (unsigned)o->imm))
AVX_WHOLE(vperm2x128, vec lo = half(p, s, (unsigned)o->imm); vec hi = half(p, s, (unsigned)o->imm >> 4); st16(d, lo); st16(d + 16, hi))
AVX_WHOLE(vinsertx128, vec v = ld16(s); vec lo = ld16(p); vec hi = ld16(p + 16); st16(d, o->imm & 1 ? lo : v); st16(d + 16, o->imm & 1 ? v : hi))
SLOW_FORMS(vpermd)
AVX_REG(vpermq)
AVX_HOT(vpermq, 32, 1)
AVX_REG(vperm2x128)
AVX_HOT(vperm2x128, 32, 1)
AVX_REG(vinsertx128)
AVX_HOT(vinsertx128, 16, 1)
HANDLER(h_vextractx128_r) { st16z(c->v[o->rm], ld16(c->v[o->reg] + (o->imm & 1 ? 16 : 0))); NEXT(c, o); }
SLOW_HANDLER(h_vextractx128_m) { return vec_write(c, o, c->v[o->reg] + (o->imm & 1 ? 16 : 0), 16, 1); }

#define BROADCAST(name, width, value) \
    AVX_WHOLE(name, vec v = value; st16(d, v); st16(d + 16, OP_L(o) ? v : _mm_setzero_si128())) \
    AVX_REG(name) \
    AVX_HOT(name, width, 1)
BROADCAST(vbroadcast8, 1, _mm_set1_epi8((char)s[0]))
BROADCAST(vbroadcast16, 2, _mm_set1_epi16((s16)ld2u(s)))
BROADCAST(vbroadcast32, 4, _mm_set1_epi32((int)ld4u(s)))
BROADCAST(vbroadcast64, 8, _mm_set1_epi64x((s64)ld8u(s)))
BROADCAST(vbroadcast128, 16, ld16(s))
