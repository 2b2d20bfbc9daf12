/*
 * avx.h - how VEX-encoded handlers are written.
 *
 * An instruction works on one or two lanes of 16 bytes (VEX.L). A lane function computes `d` from `p` (VEX.vvvv) and
 * `s` (ModRM.rm); lanes are independent, so 256 bits are two host operations of 128 bits and no host YMM register
 * is ever dirty. The destination beyond the operation is cleared. Memory operands need no alignment
 * except where a row says so (SDM vol. 1, "Memory Alignment" of AVX).
 */
#ifndef AVX_H
#define AVX_H

#include "vec.h"

INLINE void clear_high(u8 *d) { st16(d + 16, _mm_setzero_si128()); }
INLINE unsigned avx_width(const struct op *o) { return OP_L(o) ? 32 : 16; }

/* Zero-extends a 16-byte result. */
INLINE void st16z(u8 *d, vec v) {
    st16(d, v);
    clear_high(d);
}

#define AVX_FAST(name, form, ea, width, align) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        const u8 *s = fast_r(c, lin, width); \
        if (unlikely(s == NULL || (lin & ((align) - 1)))) return h_##name##_m(c, o); \
        run_##name(c, o, s); \
        NEXT(c, o); \
    }
#define AVX_REG(name) \
    HANDLER(h_##name##_r) { \
        run_##name(c, o, c->v[o->rm]); \
        NEXT(c, o); \
    }
#define AVX_M(name, width, align) \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(32) u8 s[32]; \
        if (!vec_read(c, o, s, width, align)) return false; \
        run_##name(c, o, s); \
        return true; \
    }
#define AVX_HOT(name, width, align) \
    AVX_M(name, width, align) \
    AVX_FAST(name, f, ea_f, width, align) \
    AVX_FAST(name, x, ea_x, width, align)

/* run_NAME from a statement about one lane. */
#define AVX_RUN(name, statement) \
    INLINE void lane_##name(accel_cpu *c, const struct op *o, u8 *d, const u8 *p, const u8 *s) { \
        (void)c, (void)o, (void)p; \
        statement; \
    } \
    INLINE void run_##name(accel_cpu *c, const struct op *o, const u8 *s) { \
        u8 *d = c->v[o->reg]; \
        const u8 *p = c->v[o->vvvv]; \
        lane_##name(c, o, d, p, s); \
        if (OP_L(o)) lane_##name(c, o, d + 16, p + 16, s + 16); \
        else clear_high(d); \
    }
/* run_NAME from a statement about the whole instruction. */
#define AVX_WHOLE(name, statement) \
    INLINE void run_##name(accel_cpu *c, const struct op *o, const u8 *s) { \
        u8 *d = c->v[o->reg]; \
        const u8 *p = c->v[o->vvvv]; \
        (void)d, (void)p; \
        statement; \
    }
#define AVX_FORMS(name, statement) AVX_RUN(name, statement) AVX_REG(name) AVX_HOT(name, avx_width(o), 1)
#define AVX_OP(name, value) AVX_FORMS(name, vec a = ld16(p); vec b = ld16(s); (void)a; st16(d, value))

#endif
