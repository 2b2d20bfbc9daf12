/*
 * vec.h - how the SSE handlers are written: operand access, the four forms of a handler, and floating point
 * with the guest's MXCSR.
 *
 * Every form macro takes a statement that computes from `s` (the source: a register or 4-16 readable bytes)
 * into `d` (the destination register, 16 bytes). A legacy SSE instruction leaves the upper half of the YMM
 * register alone, so nothing beyond 16 bytes is ever written here.
 */
#ifndef VEC_H
#define VEC_H

#include <immintrin.h>
#include "exec.h"
#include "mxcsr.h"

typedef __m128i vec;

INLINE vec ld16(const void *p) { return _mm_loadu_si128(p); }
INLINE vec ld8(const void *p) { return _mm_loadl_epi64(p); }
INLINE u32 ld4u(const void *p) { u32 v; memcpy(&v, p, 4); return v; }
INLINE u16 ld2u(const void *p) { u16 v; memcpy(&v, p, 2); return v; }
INLINE u64 ld8u(const void *p) { u64 v; memcpy(&v, p, 8); return v; }
INLINE vec ld4(const void *p) { return _mm_cvtsi32_si128((int)ld4u(p)); }
INLINE void st16(void *p, vec v) { _mm_storeu_si128(p, v); }
INLINE void st8(void *p, vec v) { _mm_storel_epi64(p, v); }
INLINE void st4u(void *p, u32 v) { memcpy(p, &v, 4); }
INLINE void st8u(void *p, u64 v) { memcpy(p, &v, 8); }

/* The ModRM memory operand: `align` is a power of two; a misaligned operand is #GP(0) (SDM vol. 1, "Alignment
 * of Packed and Scalar ... Data"). False: the fault or exit is set up. op_sse_move.c. */
bool vec_read(accel_cpu *c, const struct op *o, void *buf, unsigned size, unsigned align);
bool vec_write(accel_cpu *c, const struct op *o, const void *buf, unsigned size, unsigned align);
/* MASKMOVQ, MASKMOVDQU: the bytes of data whose mask byte is negative, to DS:rDI. */
bool vec_masked_store(accel_cpu *c, const struct op *o, const u8 *data, const u8 *mask, unsigned size);

/* ---- forms ---- */

#define VEC_LOAD_FAST(name, form, ea, width, align, statement) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        const u8 *s = fast_r(c, lin, width); \
        if (unlikely(s == NULL || (lin & ((align) - 1)))) return h_##name##_m(c, o); \
        u8 *d = c->v[o->reg]; \
        statement; \
        NEXT(c, o); \
    }
/* Memory forms only: `s` holds `width` bytes. */
#define VEC_LOAD_M(name, width, align, statement) \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, align)) return false; \
        u8 *d = c->v[o->reg]; \
        statement; \
        return true; \
    }
#define VEC_LOAD_HOT(name, width, align, statement) \
    VEC_LOAD_M(name, width, align, statement) \
    VEC_LOAD_FAST(name, f, ea_f, width, align, statement) \
    VEC_LOAD_FAST(name, x, ea_x, width, align, statement)
#define VEC_REG(name, statement) \
    HANDLER(h_##name##_r) { \
        u8 *d = c->v[o->reg]; \
        const u8 *s = c->v[o->rm]; \
        statement; \
        NEXT(c, o); \
    }
/* All four forms (attribute `hot`). */
#define VEC_FORMS(name, width, align, statement) VEC_REG(name, statement) VEC_LOAD_HOT(name, width, align, statement)
/* a OP b, 16 bytes, memory operand aligned. */
#define VEC_OP(name, value) \
    VEC_FORMS(name, 16, 16, vec a = ld16(d); vec b = ld16(s); (void)a; st16(d, value))

#define VEC_STORE_FAST(name, form, ea, width, align) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        u8 *p = fast_w(c, lin, width); \
        if (unlikely(p == NULL || (lin & ((align) - 1)))) return h_##name##_m(c, o); \
        memcpy(p, c->v[o->reg], width); \
        NEXT(c, o); \
    }
/* Stores the low `width` bytes of the register operand. */
#define VEC_STORE_HOT(name, width, align) \
    SLOW_HANDLER(h_##name##_m) { return vec_write(c, o, c->v[o->reg], width, align); } \
    VEC_STORE_FAST(name, f, ea_f, width, align) \
    VEC_STORE_FAST(name, x, ea_x, width, align)

/* ---- floating point ----
 *
 * Fast path: while the host's MXCSR is the guest's (mxcsr.h) the host instruction is all there is to do.
 * Slow path (an exception is unmasked, or the rounding is not MXCSR's): the guest's rounding, DAZ and FTZ are loaded with
 * all exceptions masked and all flags clear, and the flags looked at before anything is committed.
 */
struct fp_env { u32 host, run, after; };
INLINE void fp_begin(accel_cpu *c, struct fp_env *e) {
    e->host = mxcsr_of_host() & ~(u32)MXCSR_FLAGS;
    if (c->fp_live) mxcsr_get(c);
    e->run = (c->mxcsr & ~(u32)MXCSR_FLAGS) | MXCSR_MASKS;
    /* FTZ has no effect while underflow is unmasked (SDM vol. 1, "Flush-To-Zero"). */
    if (!(c->mxcsr & MXCSR_UM)) e->run &= ~(u32)MXCSR_FTZ;
}
/* Accumulates the flags; false: #XM (or #UD) is set up. op_sse_float.c. */
bool fp_end(accel_cpu *c, const struct fp_env *e);

#define FP_FAST(text, outputs, ...) __asm__ volatile(text : outputs : __VA_ARGS__)
#define FP_SOURCE_FAST "%1" /* how the text names its first input */
#define FP_SOURCE_SLOW "%2"
#define FP_SLOW(text, outputs, ...) \
    __asm__ volatile("ldmxcsr %[run]\n\t" text "\n\tstmxcsr %1\n\tldmxcsr %[host]" \
                     : outputs, "=m"(e.after) : __VA_ARGS__, [run] "m"(e.run), [host] "m"(e.host))

/* fast_NAME and slow_NAME: d = d INSN b. Nothing is changed when they return false; slow: then #XM is set up.
 * what, lane, bytes: the kind of the results, their size and that of all are (fp_range.h). */
#define FP_PAIR(name, insn, what, lane, bytes) \
    INLINE bool fast_##name(accel_cpu *c, u8 *d, vec b) { \
        if (unlikely(!c->fp_live)) return false; \
        vec a = ld16(d); \
        FP_FAST(insn " %1,%0", "+x"(a), "x"(b)); \
        st16(d, a); \
        return true; \
    } \
    static NOINLINE bool slow_##name(accel_cpu *c, u8 *d, vec b) { \
        vec a = ld16(d); \
        struct fp_env e; \
        fp_begin(c, &e); \
        FP_SLOW(insn " %2,%0", "+x"(a), "x"(b)); \
        fp_range(c, &e, 1, &a, &(struct fp_lanes){what, lane, bytes, d, &b, NULL}); \
        if (!fp_end(c, &e)) return false; \
        st16(d, a); \
        return true; \
    }

/* DPPS and DPPD (element 4 or 8) of n operand pairs as products and sums in the manual's order, each with its exceptions: so which
 * of several NaNs survives does not depend on the host. The sum is the lowest element of x; y is used up. False: #XM is set up.
 * op_sse_float.c. */
bool fp_dot(accel_cpu *c, unsigned element, vec *x, vec *y, unsigned n);

/* RCPSS and RSQRTSS of one element, by bits. op_sse_float.c. */
u32 sse_rcp(u32 v);
u32 sse_rsqrt(u32 v);

#endif
