/*
 * vec_int.h - lanes of integers: what the SSE and AVX handlers of integer instructions compute alike, beyond the rows
 * of vec_int.def.
 */
#ifndef VEC_INT_H
#define VEC_INT_H

#include "vec.h"

INLINE vec ld2(const void *p) { return _mm_cvtsi32_si128(ld2u(p)); }
INLINE void two_quads(u8 *d, u64 lo, u64 hi) { st16(d, _mm_set_epi64x((s64)hi, (s64)lo)); }

/* Bytes [from, from + 16) of low, high, zeros. */
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

INLINE void shuffle_dwords(u8 *d, const u8 *low, const u8 *high, unsigned imm) {
    u32 a = ld4u(low + 4 * (imm & 3)), b = ld4u(low + 4 * ((imm >> 2) & 3));
    u32 e = ld4u(high + 4 * ((imm >> 4) & 3)), f = ld4u(high + 4 * ((imm >> 6) & 3));
    st16(d, _mm_set_epi64x((s64)((u64)f << 32 | e), (s64)((u64)b << 32 | a)));
}
INLINE u64 shuffle_words(const u8 *s, unsigned imm) {
    return ld2u(s + 2 * (imm & 3)) | (u64)ld2u(s + 2 * ((imm >> 2) & 3)) << 16 | (u64)ld2u(s + 2 * ((imm >> 4) & 3)) << 32 |
           (u64)ld2u(s + 2 * ((imm >> 6) & 3)) << 48;
}

/* MPSADBW: eight sums of absolute differences of four bytes; imm[2] moves the window of `a` by four bytes,
 * imm[1:0] selects the four bytes of `b`. */
INLINE vec mpsadbw_lane(vec a, vec b, unsigned imm) {
    switch (imm & 7) {
    case 0: return _mm_mpsadbw_epu8(a, b, 0);
    case 1: return _mm_mpsadbw_epu8(a, b, 1);
    case 2: return _mm_mpsadbw_epu8(a, b, 2);
    case 3: return _mm_mpsadbw_epu8(a, b, 3);
    case 4: return _mm_mpsadbw_epu8(a, b, 4);
    case 5: return _mm_mpsadbw_epu8(a, b, 5);
    case 6: return _mm_mpsadbw_epu8(a, b, 6);
    default: return _mm_mpsadbw_epu8(a, b, 7);
    }
}

#endif
