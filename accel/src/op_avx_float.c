/*
 * op_avx_float.c - floating point of AVX, FMA and F16C. As in op_sse_float.c each is the host's own instruction under the
 * guest's MXCSR, twice for 256 bits; the sticky flags are read once, behind both. FMA, F16C and the 32 predicates
 * of VCMPPS need them in the host too (CPU models v3 and max need a host of x86-64-v3).
 */
#pragma GCC target("sse4.2")
#include "avx.h"
#include "fp_range.h"

/* Volatile asm statements keep their order among themselves, so these may be separate. */
#define LOAD_MXCSR(e) __asm__ volatile("ldmxcsr %0" : : "m"((e).run))
#define TAKE_MXCSR(e) __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"((e).after) : "m"((e).host))

/* The instruction on one lane: `text` uses %0 (in: `first`, out: result), %1 (source) and %2 (VEX.vvvv). */
#define LANE(text, r, load, s, p) __asm__ volatile(text : "+x"(r) : "x"(load(s)), "x"(ld16(p)))

/* fast_NAME and slow_NAME. two: whether there is a second lane; stride: bytes of the source that a lane takes; pack: a
 * lane gives 8 bytes. what, lane, bytes: what the results of a lane are (fp_range.h); xyz: a macro that orders the operands. */
#define FP_BODY(first, load, stride, two, text) \
    const u8 *d = c->v[o->reg], *p = c->v[o->vvvv]; \
    (void)d, (void)p; \
    vec r0 = ld16(first), r1 = _mm_setzero_si128(); \
    LANE(text, r0, load, s, p); \
    if (two) { \
        r1 = ld16((first) + 16); \
        LANE(text, r1, load, s + (stride), p + 16); \
    }
#define FP_STORE(pack) \
    u8 *to = c->v[o->reg]; \
    st16(to, pack ? _mm_unpacklo_epi64(r0, r1) : r0); \
    st16(to + 16, pack ? _mm_setzero_si128() : r1);
#define XYZ_PS(d, p, s) p, s, NULL
#define XYZ_S(d, p, s) NULL, s, NULL
#define XYZ_132(d, p, s) d, s, p
#define XYZ_213(d, p, s) p, d, s
#define XYZ_231(d, p, s) p, s, d
#define FP_FUNCTIONS(name, first, load, stride, two, pack, text, what, lane, bytes, xyz) \
    INLINE bool fast_##name(accel_cpu *c, const struct op *o, const u8 *s) { \
        if (unlikely(!c->fp_live)) return false; \
        FP_BODY(first, load, stride, two, text) \
        FP_STORE(pack) \
        return true; \
    } \
    static NOINLINE bool slow_##name(accel_cpu *c, const struct op *o, const u8 *s) { \
        struct fp_env e; \
        fp_begin(c, &e); \
        LOAD_MXCSR(e); \
        FP_BODY(first, load, stride, two, text) \
        TAKE_MXCSR(e); \
        const vec r[2] = {r0, r1}; \
        const struct fp_lanes l[2] = {{what, lane, bytes, xyz(d, p, s)}, {what, lane, bytes, xyz(d + 16, p + 16, s + (stride))}}; \
        fp_range(c, &e, (two) ? 2 : 1, r, l); \
        if (!fp_end(c, &e)) return false; \
        FP_STORE(pack) \
        return true; \
    }
#define FP_HANDLER_FAST(name, form, ea, width) \
    HANDLER(h_##name##_##form) { \
        const u8 *s = fast_r(c, ea(c, o), width); \
        if (unlikely(s == NULL || !fast_##name(c, o, s))) return h_##name##_m(c, o); \
        NEXT(c, o); \
    }
#define FP_HANDLERS(name, width) \
    SLOW_HANDLER(h_##name##_s) { return slow_##name(c, o, c->v[o->rm]); } \
    HANDLER(h_##name##_r) { \
        if (unlikely(!fast_##name(c, o, c->v[o->rm]))) return h_##name##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(32) u8 s[32]; \
        return vec_read(c, o, s, width, 1) && (fast_##name(c, o, s) || slow_##name(c, o, s)); \
    } \
    FP_HANDLER_FAST(name, f, ea_f, width) \
    FP_HANDLER_FAST(name, x, ea_x, width)

#define PACKED(name, first, text, what, lane, xyz) \
    FP_FUNCTIONS(name, first, ld16, 16, OP_L(o), 0, text, what, lane, 16, xyz) \
    FP_HANDLERS(name, avx_width(o))
#define SCALAR(name, first, size, text, what, xyz) \
    FP_FUNCTIONS(name, first, ld##size, 16, 0, 0, text, what, size, size, xyz) \
    FP_HANDLERS(name, size)

/* ---- arithmetic: the first source is VEX.vvvv ---- */

#define ALL(name, what) \
    PACKED(v##name##ps, p, #name "ps %1,%0", what, 4, XYZ_PS) \
    PACKED(v##name##pd, p, #name "pd %1,%0", what, 8, XYZ_PS) \
    SCALAR(v##name##ss, p, 4, #name "ss %1,%0", what, XYZ_PS) \
    SCALAR(v##name##sd, p, 8, #name "sd %1,%0", what, XYZ_PS)
ALL(add, FP_ADD)
ALL(sub, FP_SUB)
ALL(mul, FP_MUL)
ALL(div, FP_DIV)
ALL(min, FP_NONE)
ALL(max, FP_NONE)
ALL(sqrt, FP_NONE)
PACKED(vhaddps, p, "haddps %1,%0", FP_ADD | FP_PAIRS, 4, XYZ_PS)
PACKED(vhaddpd, p, "haddpd %1,%0", FP_ADD | FP_PAIRS, 8, XYZ_PS)
PACKED(vhsubps, p, "hsubps %1,%0", FP_SUB | FP_PAIRS, 4, XYZ_PS)
PACKED(vhsubpd, p, "hsubpd %1,%0", FP_SUB | FP_PAIRS, 8, XYZ_PS)
PACKED(vaddsubps, p, "addsubps %1,%0", FP_ADD | FP_TURNS, 4, XYZ_PS)
PACKED(vaddsubpd, p, "addsubpd %1,%0", FP_ADD | FP_TURNS, 8, XYZ_PS)

/* ---- conversions ---- */

#define WIDENING(name, text) \
    FP_FUNCTIONS(name, p, ld8, 8, OP_L(o), 0, text, FP_NONE, 8, 16, XYZ_S) \
    FP_HANDLERS(name, avx_width(o) / 2)
#define NARROWING(name, text, what) \
    FP_FUNCTIONS(name, p, ld16, 16, OP_L(o), 1, text, what, 4, 8, XYZ_S) \
    FP_HANDLERS(name, avx_width(o))
WIDENING(vcvtps2pd, "cvtps2pd %1,%0")
WIDENING(vcvtdq2pd, "cvtdq2pd %1,%0")
WIDENING(vcvtph2ps, "vcvtph2ps %1,%0")
NARROWING(vcvtpd2ps, "cvtpd2ps %1,%0", FP_NARROW)
NARROWING(vcvtpd2dq, "cvtpd2dq %1,%0", FP_NONE)
NARROWING(vcvttpd2dq, "cvttpd2dq %1,%0", FP_NONE)
PACKED(vcvtdq2ps, p, "cvtdq2ps %1,%0", FP_NONE, 4, XYZ_S)
PACKED(vcvtps2dq, p, "cvtps2dq %1,%0", FP_NONE, 4, XYZ_S)
PACKED(vcvttps2dq, p, "cvttps2dq %1,%0", FP_NONE, 4, XYZ_S)
SCALAR(vcvtss2sd, p, 4, "cvtss2sd %1,%0", FP_NONE, XYZ_S)
FP_FUNCTIONS(vcvtsd2ss, p, ld8, 16, 0, 0, "cvtsd2ss %1,%0", FP_NARROW, 4, 4, XYZ_S)
FP_HANDLERS(vcvtsd2ss, 8)

#define FROM_GPR(name, N, insn) \
    static bool name##_##N(accel_cpu *c, const struct op *o, U_##N v) { \
        struct fp_env e; \
        vec r = ld16(c->v[o->vvvv]); \
        fp_begin(c, &e); \
        LOAD_MXCSR(e); \
        __asm__ volatile(insn " %1,%0" : "+x"(r) : "r"(v)); \
        TAKE_MXCSR(e); \
        if (!fp_end(c, &e)) return false; \
        st16z(c->v[o->reg], r); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_##N##_r) { return name##_##N(c, o, get_##N(c, o->rm)); } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        U_##N v; \
        return rd_##N(c, o, &v) && name##_##N(c, o, v); \
    }
FROM_GPR(vcvtsi2ss, 32, "cvtsi2ssl")
FROM_GPR(vcvtsi2ss, 64, "cvtsi2ssq")
FROM_GPR(vcvtsi2sd, 32, "cvtsi2sdl")
FROM_GPR(vcvtsi2sd, 64, "cvtsi2sdq")

/* VCVTPS2PH: imm[2] takes the rounding mode from MXCSR, else it is imm[1:0]; the host's instruction always takes it from
 * there. The destination is ModRM.rm, half as long as the source. */
static bool to_half(accel_cpu *c, const struct op *o, u8 *out) {
    const u8 *s = c->v[o->reg];
    struct fp_env e;
    vec r0, r1 = _mm_setzero_si128();
    fp_begin(c, &e);
    if (!(o->imm & 4)) e.run = (e.run & ~(u32)MXCSR_RC) | (u32)(o->imm & 3) << 13;
    LOAD_MXCSR(e);
    __asm__ volatile("vcvtps2ph $4,%1,%0" : "=x"(r0) : "x"(ld16(s)));
    if (OP_L(o)) __asm__ volatile("vcvtps2ph $4,%1,%0" : "=x"(r1) : "x"(ld16(s + 16)));
    TAKE_MXCSR(e);
    st16(out, _mm_unpacklo_epi64(r0, r1));
    const vec r[2] = {r0, r1};
    const struct fp_lanes l[2] = {{FP_HALF, 2, 8, NULL, s, NULL}, {FP_HALF, 2, 8, NULL, s + 16, NULL}};
    fp_range(c, &e, OP_L(o) ? 2 : 1, r, l);
    return fp_end(c, &e);
}
SLOW_HANDLER(h_vcvtps2ph_r) {
    u8 r[16];
    if (!to_half(c, o, r)) return false;
    st16z(c->v[o->rm], ld16(r));
    return true;
}
SLOW_HANDLER(h_vcvtps2ph_m) {
    u8 r[16];
    u64 lin;
    unsigned n = avx_width(o) / 2;
    if (!op_linear(c, o, n, ACC_W, &lin) || !mem_probe_write(c, o, lin, n)) return false;
    return to_half(c, o, r) && mem_write(c, o, lin, r, n);
}

/* ---- fused multiply-add: the destination is also a source ---- */

#define FMA_ORDER(name, order, what) \
    PACKED(v##name##order##ps, d, "v" #name #order "ps %1,%2,%0", what, 4, XYZ_##order) \
    PACKED(v##name##order##pd, d, "v" #name #order "pd %1,%2,%0", what, 8, XYZ_##order)
#define FMA_SCALAR(name, order, what) \
    SCALAR(v##name##order##ss, d, 4, "v" #name #order "ss %1,%2,%0", what, XYZ_##order) \
    SCALAR(v##name##order##sd, d, 8, "v" #name #order "sd %1,%2,%0", what, XYZ_##order)
#define FMA_PACKED(name, what) FMA_ORDER(name, 132, what) FMA_ORDER(name, 213, what) FMA_ORDER(name, 231, what)
#define FMA(name, what) \
    FMA_PACKED(name, what) FMA_SCALAR(name, 132, what) FMA_SCALAR(name, 213, what) FMA_SCALAR(name, 231, what)
FMA(fmadd, FP_FMA)
FMA(fmsub, FP_FMA | FP_MINUS)
FMA(fnmadd, FP_FMA | FP_NEGATED)
FMA(fnmsub, FP_FMA | FP_NEGATED | FP_MINUS)
FMA_PACKED(fmaddsub, FP_FMA | FP_TURNS)
FMA_PACKED(fmsubadd, FP_FMA | FP_TURNS | FP_MINUS)

/* ---- compares: 32 predicates ---- */

#define CMP_CASE(insn, n) \
    case n: __asm__ volatile(insn " $" #n ",%1,%2,%0" : "=x"(r) : "x"(b), "x"(a)); break;
#define CMP_EIGHT(insn, a, b, c, d, e, f, g, h) \
    CMP_CASE(insn, a) CMP_CASE(insn, b) CMP_CASE(insn, c) CMP_CASE(insn, d) \
    CMP_CASE(insn, e) CMP_CASE(insn, f) CMP_CASE(insn, g) CMP_CASE(insn, h)
#define COMPARE(name, width, two, load) \
    static NOINLINE vec name##_lane(vec a, vec b, unsigned predicate) { \
        vec r = a; \
        switch (predicate & 31) { \
            CMP_EIGHT(#name, 0, 1, 2, 3, 4, 5, 6, 7) \
            CMP_EIGHT(#name, 8, 9, 10, 11, 12, 13, 14, 15) \
            CMP_EIGHT(#name, 16, 17, 18, 19, 20, 21, 22, 23) \
            CMP_EIGHT(#name, 24, 25, 26, 27, 28, 29, 30, 31) \
        } \
        return r; \
    } \
    static bool name(accel_cpu *c, const struct op *o, const u8 *s) { \
        const u8 *p = c->v[o->vvvv]; \
        struct fp_env e; \
        vec r0, r1 = _mm_setzero_si128(); \
        fp_begin(c, &e); \
        LOAD_MXCSR(e); \
        r0 = name##_lane(ld16(p), load(s), (unsigned)o->imm); \
        if (two) r1 = name##_lane(ld16(p + 16), load(s + 16), (unsigned)o->imm); \
        TAKE_MXCSR(e); \
        if (!fp_end(c, &e)) return false; \
        FP_STORE(0) \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return name(c, o, c->v[o->rm]); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(32) u8 s[32]; \
        return vec_read(c, o, s, width, 1) && name(c, o, s); \
    }
COMPARE(vcmpps, avx_width(o), OP_L(o), ld16)
COMPARE(vcmppd, avx_width(o), OP_L(o), ld16)
COMPARE(vcmpss, 4, false, ld4)
COMPARE(vcmpsd, 8, false, ld8)

/* ---- rounding, dot products, approximations (see op_sse_float.c) ---- */

#define ROUND(name, text, width, two, load) \
    static bool name(accel_cpu *c, const struct op *o, const u8 *s) { \
        struct fp_env e; \
        fp_begin(c, &e); \
        if (!(o->imm & 4)) e.run = (e.run & ~(u32)MXCSR_RC) | (u32)(o->imm & 3) << 13; \
        LOAD_MXCSR(e); \
        FP_BODY(p, load, 16, two, text) \
        TAKE_MXCSR(e); \
        if (o->imm & 8) e.after &= ~(u32)MXCSR_PE; \
        if (!fp_end(c, &e)) return false; \
        FP_STORE(0) \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return name(c, o, c->v[o->rm]); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(32) u8 s[32]; \
        return vec_read(c, o, s, width, 1) && name(c, o, s); \
    }
ROUND(vroundps, "roundps $4,%1,%0", avx_width(o), OP_L(o), ld16)
ROUND(vroundpd, "roundpd $4,%1,%0", avx_width(o), OP_L(o), ld16)
ROUND(vroundss, "roundss $4,%1,%0", 4, false, ld4)
ROUND(vroundsd, "roundsd $4,%1,%0", 8, false, ld8)

static vec lanes_mask(unsigned bits, unsigned element) {
    u8 m[16];
    for (unsigned i = 0; i < 16; i++) m[i] = bits >> (i / element) & 1 ? 0xff : 0;
    return ld16(m);
}
#define DOT(name, element, broadcast, two) \
    static bool name(accel_cpu *c, const struct op *o, const u8 *s) { \
        const u8 *p = c->v[o->vvvv]; \
        vec use = lanes_mask((unsigned)o->imm >> 4, element), keep = lanes_mask((unsigned)o->imm, element); \
        vec r1 = _mm_setzero_si128(); \
        vec x[2] = {_mm_and_si128(ld16(p), use), _mm_and_si128(ld16(p + 16), use)}; \
        vec y[2] = {_mm_and_si128(ld16(s), use), (two) ? _mm_and_si128(ld16(s + 16), use) : use}; \
        if (!fp_dot(c, element, x, y, (two) ? 2 : 1)) return false; \
        vec r0 = _mm_and_si128(_mm_shuffle_epi32(x[0], broadcast), keep); \
        if (two) r1 = _mm_and_si128(_mm_shuffle_epi32(x[1], broadcast), keep); \
        FP_STORE(0) \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return name(c, o, c->v[o->rm]); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(32) u8 s[32]; \
        return vec_read(c, o, s, avx_width(o), 1) && name(c, o, s); \
    }
DOT(vdpps, 4, 0, OP_L(o))
DOT(vdppd, 8, 0x44, false)

#define APPROXIMATE(name, function) \
    static void name##ps(accel_cpu *c, const struct op *o, const u8 *s) { \
        u8 r[32] = {0}; \
        for (unsigned i = 0; i < avx_width(o); i += 4) st4u(r + i, function(ld4u(s + i))); \
        memcpy(c->v[o->reg], r, 32); \
    } \
    static void name##ss(accel_cpu *c, const struct op *o, const u8 *s) { \
        u32 v = function(ld4u(s)); \
        st16z(c->v[o->reg], ld16(c->v[o->vvvv])); \
        st4u(c->v[o->reg], v); \
    } \
    SLOW_HANDLER(h_##name##ps_r) { name##ps(c, o, c->v[o->rm]); return true; } \
    SLOW_HANDLER(h_##name##ss_r) { name##ss(c, o, c->v[o->rm]); return true; } \
    SLOW_HANDLER(h_##name##ps_m) { \
        alignas(32) u8 s[32]; \
        if (!vec_read(c, o, s, avx_width(o), 1)) return false; \
        name##ps(c, o, s); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##ss_m) { \
        u8 s[4]; \
        if (!vec_read(c, o, s, 4, 1)) return false; \
        name##ss(c, o, s); \
        return true; \
    }
APPROXIMATE(vrcp, sse_rcp)
APPROXIMATE(vrsqrt, sse_rsqrt)
