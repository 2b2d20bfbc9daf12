/*
 * op_sse_float.c - floating-point arithmetic, compares and conversions of SSE to SSE4.1 on XMM registers. Each is the
 * host's own instruction under the guest's MXCSR (vec.h), with the operands in the guest's order: that decides which
 * NaN survives and what MIN and MAX give.
 *
 * RCPPS, RSQRTPS and their scalar forms differ between vendors within their error bound of 1.5 * 2^-12: ours are
 * defined here.
 */
#pragma GCC target("sse4.2")
#include "fp_range.h"

/* SDM vol. 1, "SSE and SSE2 SIMD Floating-Point Exceptions": with an unmasked pre-computation exception (IE, DE, ZE) the
 * post-computation ones are not looked at. */
bool fp_end(accel_cpu *c, const struct fp_env *e) {
    u32 raised = e->after & MXCSR_FLAGS, unmasked = ~(c->mxcsr >> 7) & MXCSR_FLAGS;
    u32 early = raised & (MXCSR_IE | MXCSR_DE | MXCSR_ZE);
    if (early & unmasked) raised = early;
    c->mxcsr |= raised;
    if (c->fp_live) mxcsr_to_host(c->mxcsr);
    if (likely(!(raised & unmasked))) return true;
    return set_fault(c, c->cr4 & CR4_OSXMMEXCPT ? EX_XM : EX_UD, false, 0);
}

#define FP_HANDLER_FAST(name, form, ea, width, align) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        const u8 *p = fast_r(c, lin, width); \
        if (unlikely(p == NULL || (lin & ((align) - 1)) || !fast_##name(c, c->v[o->reg], ld##width(p)))) return h_##name##_m(c, o); \
        NEXT(c, o); \
    }
#define FP_OP(name, insn, width, align, what, lane, bytes) \
    FP_PAIR(name, insn, what, lane, bytes) \
    SLOW_HANDLER(h_##name##_s) { return slow_##name(c, c->v[o->reg], ld16(c->v[o->rm])); } \
    HANDLER(h_##name##_r) { \
        if (unlikely(!fast_##name(c, c->v[o->reg], ld16(c->v[o->rm])))) return h_##name##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, align)) return false; \
        return fast_##name(c, c->v[o->reg], ld##width(s)) || slow_##name(c, c->v[o->reg], ld##width(s)); \
    } \
    FP_HANDLER_FAST(name, f, ea_f, width, align) \
    FP_HANDLER_FAST(name, x, ea_x, width, align)

/* ---- arithmetic ---- */

#define FP_ALL(name, what) \
    FP_OP(name##ps, #name "ps", 16, 16, what, 4, 16) \
    FP_OP(name##pd, #name "pd", 16, 16, what, 8, 16) \
    FP_OP(name##ss, #name "ss", 4, 1, what, 4, 4) \
    FP_OP(name##sd, #name "sd", 8, 1, what, 8, 8)
FP_ALL(add, FP_ADD)
FP_ALL(sub, FP_SUB)
FP_ALL(mul, FP_MUL)
FP_ALL(div, FP_DIV)
FP_ALL(min, FP_NONE)
FP_ALL(max, FP_NONE)
FP_ALL(sqrt, FP_NONE)

FP_OP(haddps, "haddps", 16, 16, FP_ADD | FP_PAIRS, 4, 16)
FP_OP(haddpd, "haddpd", 16, 16, FP_ADD | FP_PAIRS, 8, 16)
FP_OP(hsubps, "hsubps", 16, 16, FP_SUB | FP_PAIRS, 4, 16)
FP_OP(hsubpd, "hsubpd", 16, 16, FP_SUB | FP_PAIRS, 8, 16)
FP_OP(addsubps, "addsubps", 16, 16, FP_ADD | FP_TURNS, 4, 16)
FP_OP(addsubpd, "addsubpd", 16, 16, FP_ADD | FP_TURNS, 8, 16)

/* ---- conversions between vectors ---- */

FP_OP(cvtps2pd, "cvtps2pd", 8, 1, FP_NONE, 8, 16)
FP_OP(cvtpd2ps, "cvtpd2ps", 16, 16, FP_NARROW, 4, 8)
FP_OP(cvtss2sd, "cvtss2sd", 4, 1, FP_NONE, 8, 16)
FP_OP(cvtsd2ss, "cvtsd2ss", 8, 1, FP_NARROW, 4, 4)
FP_OP(cvtdq2ps, "cvtdq2ps", 16, 16, FP_NONE, 8, 16)
FP_OP(cvtps2dq, "cvtps2dq", 16, 16, FP_NONE, 8, 16)
FP_OP(cvttps2dq, "cvttps2dq", 16, 16, FP_NONE, 8, 16)
FP_OP(cvtdq2pd, "cvtdq2pd", 8, 1, FP_NONE, 8, 16)
FP_OP(cvtpd2dq, "cvtpd2dq", 16, 16, FP_NONE, 8, 16)
FP_OP(cvttpd2dq, "cvttpd2dq", 16, 16, FP_NONE, 8, 16)

/* ---- conversions from and to general registers ---- */

#define CVTSI_FAST(name, N, form, ea) \
    HANDLER(h_##name##_##N##_##form) { \
        const u8 *p = fast_r(c, ea(c, o), N / 8); \
        U_##N v; \
        if (unlikely(p == NULL || (memcpy(&v, p, sizeof v), !fast_##name##_##N(c, c->v[o->reg], v)))) return h_##name##_##N##_m(c, o); \
        NEXT(c, o); \
    }
#define CVTSI(name, N, insn) \
    INLINE bool fast_##name##_##N(accel_cpu *c, u8 *d, U_##N v) { \
        if (unlikely(!c->fp_live)) return false; \
        vec a = ld16(d); \
        FP_FAST(insn " %1,%0", "+x"(a), "r"(v)); \
        st16(d, a); \
        return true; \
    } \
    static NOINLINE bool slow_##name##_##N(accel_cpu *c, u8 *d, U_##N v) { \
        vec a = ld16(d); \
        struct fp_env e; \
        fp_begin(c, &e); \
        FP_SLOW(insn " %2,%0", "+x"(a), "r"(v)); \
        if (!fp_end(c, &e)) return false; \
        st16(d, a); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_##N##_s) { return slow_##name##_##N(c, c->v[o->reg], get_##N(c, o->rm)); } \
    HANDLER(h_##name##_##N##_r) { \
        if (unlikely(!fast_##name##_##N(c, c->v[o->reg], get_##N(c, o->rm)))) return h_##name##_##N##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        U_##N v; \
        if (!rd_##N(c, o, &v)) return false; \
        return fast_##name##_##N(c, c->v[o->reg], v) || slow_##name##_##N(c, c->v[o->reg], v); \
    } \
    CVTSI_FAST(name, N, f, ea_f) \
    CVTSI_FAST(name, N, x, ea_x)
CVTSI(cvtsi2ss, 32, "cvtsi2ssl")
CVTSI(cvtsi2ss, 64, "cvtsi2ssq")
CVTSI(cvtsi2sd, 32, "cvtsi2sdl")
CVTSI(cvtsi2sd, 64, "cvtsi2sdq")

#define CVT_GPR_FAST(name, N, width, form, ea) \
    HANDLER(h_##name##_##N##_##form) { \
        const u8 *p = fast_r(c, ea(c, o), width); \
        if (unlikely(p == NULL || !fast_##name##_##N(c, o->reg, ld##width(p)))) return h_##name##_##N##_m(c, o); \
        NEXT(c, o); \
    }
#define CVT_GPR(name, N, width) \
    INLINE bool fast_##name##_##N(accel_cpu *c, unsigned reg, vec b) { \
        if (unlikely(!c->fp_live)) return false; \
        U_##N v; \
        FP_FAST(#name " %1,%0", "=r"(v), "x"(b)); \
        put_##N(c, reg, v); \
        return true; \
    } \
    static NOINLINE bool slow_##name##_##N(accel_cpu *c, unsigned reg, vec b) { \
        U_##N v; \
        struct fp_env e; \
        fp_begin(c, &e); \
        FP_SLOW(#name " %2,%0", "=r"(v), "x"(b)); \
        if (!fp_end(c, &e)) return false; \
        put_##N(c, reg, v); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_##N##_s) { return slow_##name##_##N(c, o->reg, ld16(c->v[o->rm])); } \
    HANDLER(h_##name##_##N##_r) { \
        if (unlikely(!fast_##name##_##N(c, o->reg, ld16(c->v[o->rm])))) return h_##name##_##N##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, 1)) return false; \
        return fast_##name##_##N(c, o->reg, ld##width(s)) || slow_##name##_##N(c, o->reg, ld##width(s)); \
    } \
    CVT_GPR_FAST(name, N, width, f, ea_f) \
    CVT_GPR_FAST(name, N, width, x, ea_x)
CVT_GPR(cvtss2si, 32, 4)
CVT_GPR(cvtss2si, 64, 4)
CVT_GPR(cvttss2si, 32, 4)
CVT_GPR(cvttss2si, 64, 4)
CVT_GPR(cvtsd2si, 32, 8)
CVT_GPR(cvtsd2si, 64, 8)
CVT_GPR(cvttsd2si, 32, 8)
CVT_GPR(cvttsd2si, 64, 8)

/* ---- compares ---- */

/* COMIS*, UCOMIS*: ZF PF CF from the relation, OF SF AF cleared. */
#define COMIS_FAST(name, form, ea, width) \
    HANDLER(h_##name##_##form) { \
        const u8 *p = fast_r(c, ea(c, o), width); \
        if (unlikely(p == NULL || !fast_##name(c, c->v[o->reg], ld##width(p)))) return h_##name##_m(c, o); \
        NEXT(c, o); \
    }
#define COMIS(name, width) \
    INLINE bool fast_##name(accel_cpu *c, const u8 *d, vec b) { \
        if (unlikely(!c->fp_live)) return false; \
        u16 fl; \
        FP_FAST(#name " %2,%1\n\tlahf\n\tseto %%al", "=&a"(fl), "x"(ld16(d)), "x"(b) : "cc"); \
        c->flags_ax = fl; \
        return true; \
    } \
    static NOINLINE bool slow_##name(accel_cpu *c, const u8 *d, vec b) { \
        u16 fl; \
        struct fp_env e; \
        fp_begin(c, &e); \
        __asm__ volatile("ldmxcsr %4\n\t" #name " %3,%2\n\tlahf\n\tseto %%al\n\tstmxcsr %1\n\tldmxcsr %5" \
                         : "=&a"(fl), "=m"(e.after) : "x"(ld16(d)), "x"(b), "m"(e.run), "m"(e.host) : "cc"); \
        if (!fp_end(c, &e)) return false; \
        c->flags_ax = fl; \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_s) { return slow_##name(c, c->v[o->reg], ld16(c->v[o->rm])); } \
    HANDLER(h_##name##_r) { \
        if (unlikely(!fast_##name(c, c->v[o->reg], ld16(c->v[o->rm])))) return h_##name##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, 1)) return false; \
        return fast_##name(c, c->v[o->reg], ld##width(s)) || slow_##name(c, c->v[o->reg], ld##width(s)); \
    } \
    COMIS_FAST(name, f, ea_f, width) \
    COMIS_FAST(name, x, ea_x, width)
COMIS(comiss, 4)
COMIS(comisd, 8)
COMIS(ucomiss, 4)
COMIS(ucomisd, 8)

/* CMPPS and its like: eight predicates, one host instruction each. */
#define CMP_CASE(kind, insn, n) \
    case n: FP_##kind(insn " $" #n "," FP_SOURCE_##kind ",%0", "+x"(a), "x"(b)); break;
#define CMP_CASES(kind, insn) \
    switch (imm & 7) { \
        CMP_CASE(kind, insn, 0) CMP_CASE(kind, insn, 1) CMP_CASE(kind, insn, 2) CMP_CASE(kind, insn, 3) \
        CMP_CASE(kind, insn, 4) CMP_CASE(kind, insn, 5) CMP_CASE(kind, insn, 6) CMP_CASE(kind, insn, 7) \
    }
#define CMP_FAST(name, form, ea, width, align) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        const u8 *p = fast_r(c, lin, width); \
        if (unlikely(p == NULL || (lin & ((align) - 1)) || !fast_##name(c, c->v[o->reg], ld##width(p), (unsigned)o->imm))) \
            return h_##name##_m(c, o); \
        NEXT(c, o); \
    }
#define CMP(name, width, align) \
    INLINE bool fast_##name(accel_cpu *c, u8 *d, vec b, unsigned imm) { \
        if (unlikely(!c->fp_live)) return false; \
        vec a = ld16(d); \
        CMP_CASES(FAST, #name) \
        st16(d, a); \
        return true; \
    } \
    static NOINLINE bool slow_##name(accel_cpu *c, u8 *d, vec b, unsigned imm) { \
        vec a = ld16(d); \
        struct fp_env e; \
        fp_begin(c, &e); \
        CMP_CASES(SLOW, #name) \
        if (!fp_end(c, &e)) return false; \
        st16(d, a); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_s) { return slow_##name(c, c->v[o->reg], ld16(c->v[o->rm]), (unsigned)o->imm); } \
    HANDLER(h_##name##_r) { \
        if (unlikely(!fast_##name(c, c->v[o->reg], ld16(c->v[o->rm]), (unsigned)o->imm))) return h_##name##_s(c, o); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, align)) return false; \
        return slow_##name(c, c->v[o->reg], ld##width(s), (unsigned)o->imm); \
    } \
    CMP_FAST(name, f, ea_f, width, align) \
    CMP_FAST(name, x, ea_x, width, align)
CMP(cmpps, 16, 16)
CMP(cmppd, 16, 16)
CMP(cmpss, 4, 1)
CMP(cmpsd, 8, 1)

/* ---- SSE4.1: rounding and dot products ---- */

/* The rounding mode of the immediate goes through MXCSR.RC (the host instruction has imm[2] set); imm[3] hides PE. */
#define ROUND(name, width, align) \
    static bool name(accel_cpu *c, u8 *d, vec b, unsigned imm) { \
        vec a = ld16(d); \
        struct fp_env e; \
        fp_begin(c, &e); \
        if (!(imm & 4)) e.run = (e.run & ~(u32)MXCSR_RC) | (imm & 3) << 13; \
        FP_SLOW(#name " $4,%2,%0", "+x"(a), "x"(b)); \
        if (imm & 8) e.after &= ~(u32)MXCSR_PE; \
        if (!fp_end(c, &e)) return false; \
        st16(d, a); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return name(c, c->v[o->reg], ld16(c->v[o->rm]), (unsigned)o->imm); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, width, align)) return false; \
        return name(c, c->v[o->reg], ld##width(s), (unsigned)o->imm); \
    }
ROUND(roundps, 16, 16)
ROUND(roundpd, 16, 16)
ROUND(roundss, 4, 1)
ROUND(roundsd, 8, 1)

/* Products that imm[7:4] leaves out are +0.0 and raise nothing: so are those of zeroed operands. imm[3:0] says where the
 * sum goes. */
INLINE vec lanes_mask(unsigned bits, unsigned lane) {
    u8 m[16];
    for (unsigned i = 0; i < 16; i++) m[i] = bits >> (i / lane) & 1 ? 0xff : 0;
    return ld16(m);
}
#define DOT_STEP(insn, what, used) \
    for (unsigned i = 0; i < n; i++) { \
        vec r = x[i]; \
        if (c->fp_live) { \
            FP_FAST(insn " %1,%0", "+x"(x[i]), "x"(y[i])); \
            continue; \
        } \
        FP_SLOW(insn " %2,%0", "+x"(r), "x"(y[i])); \
        fp_range(c, &e, 1, &r, &(struct fp_lanes){what, element, used, &x[i], &y[i], NULL}); \
        after |= e.after; \
        x[i] = r; \
    } \
    e.after = after; \
    if (!c->fp_live && !fp_end(c, &e)) return false
#define DOT_FOLD(low, high) \
    for (unsigned i = 0; i < n; i++) { \
        y[i] = _mm_and_si128(_mm_shuffle_epi32(x[i], high), keep); \
        x[i] = _mm_and_si128(_mm_shuffle_epi32(x[i], low), keep); \
    }
bool fp_dot(accel_cpu *c, unsigned element, vec *x, vec *y, unsigned n) {
    struct fp_env e = {0, 0, 0};
    vec keep = _mm_set_epi64x(0, -1);
    u32 after = 0;
    if (!c->fp_live) fp_begin(c, &e);
    if (element == 8) {
        DOT_STEP("mulpd", FP_MUL, 16);
        DOT_FOLD(0x44, 0xee)
        DOT_STEP("addpd", FP_ADD, 8);
        return true;
    }
    DOT_STEP("mulps", FP_MUL, 16);
    DOT_FOLD(0x08, 0x0d) /* elements 0 and 2, 1 and 3 */
    DOT_STEP("addps", FP_ADD, 8);
    keep = _mm_set_epi64x(0, 0xffffffff);
    DOT_FOLD(0x00, 0x01)
    DOT_STEP("addps", FP_ADD, 4);
    return true;
}
#define DOT(name, lane, broadcast) \
    static bool name(accel_cpu *c, u8 *d, vec b, unsigned imm) { \
        vec use = lanes_mask(imm >> 4, lane), a = _mm_and_si128(ld16(d), use); \
        b = _mm_and_si128(b, use); \
        if (!fp_dot(c, lane, &a, &b, 1)) return false; \
        st16(d, _mm_and_si128(_mm_shuffle_epi32(a, broadcast), lanes_mask(imm, lane))); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_r) { return name(c, c->v[o->reg], ld16(c->v[o->rm]), (unsigned)o->imm); } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, 16, 16)) return false; \
        return name(c, c->v[o->reg], ld16(s), (unsigned)o->imm); \
    }
DOT(dpps, 4, 0)
DOT(dppd, 8, 0x44)

/* ---- approximations ----
 * The operand's significand is cut to 12 bits and the value taken at the middle of the interval, which keeps the relative
 * error below 2^-12; the result is cut to 24 bits. No exceptions; denormal operands count as zeros and denormal results
 * become zeros (SDM vol. 2, RCPPS). */

/* 1.x of the middle of the interval, times 2^13: odd, in (2^13, 2^14). */
static u32 middle(u32 fraction) { return 1u << 13 | (fraction >> 11) << 1 | 1; }

static u64 root(u64 v) { /* floor of the square root; v < 2^52 */
    u64 r = 0;
    for (u64 bit = 1ull << 25; bit; bit >>= 1)
        if ((r | bit) * (r | bit) <= v) r |= bit;
    return r;
}

u32 sse_rcp(u32 v) {
    u32 sign = v & 0x80000000u, exp = v >> 23 & 0xff, fraction = v & 0x7fffff;
    if (exp == 255) return fraction ? v | 0x400000 : sign;
    if (exp == 0) return sign | 0x7f800000u;
    s32 e = 253 - (s32)exp; /* 1/1.x lies in (1/2, 1) */
    if (e <= 0) return sign;
    return sign | (u32)e << 23 | ((u32)((1ull << 37) / middle(fraction)) & 0x7fffff);
}

u32 sse_rsqrt(u32 v) {
    u32 sign = v & 0x80000000u, exp = v >> 23 & 0xff, fraction = v & 0x7fffff;
    if (exp == 255 && fraction) return v | 0x400000;
    if (exp == 0) return sign | 0x7f800000u;
    if (sign) return 0xffc00000u;
    if (exp == 255) return 0;
    bool odd = !(exp & 1); /* power of two odd: the root of 2 * 1.x */
    s32 half = ((s32)exp - 127 - odd) / 2; /* exact */
    u64 r = root((1ull << 61) / ((u64)middle(fraction) << odd)); /* 2^24 / sqrt, in (2^23, 2^24) */
    return (u32)(126 - half) << 23 | ((u32)r & 0x7fffff);
}

#define APPROXIMATE(name, function) \
    static void name##_lanes(u8 *d, const u8 *s, unsigned n) { \
        for (unsigned i = 0; i < n; i++) st4u(d + 4 * i, function(ld4u(s + 4 * i))); \
    } \
    SLOW_HANDLER(h_##name##ps_r) { name##_lanes(c->v[o->reg], c->v[o->rm], 4); return true; } \
    SLOW_HANDLER(h_##name##ss_r) { name##_lanes(c->v[o->reg], c->v[o->rm], 1); return true; } \
    SLOW_HANDLER(h_##name##ps_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, 16, 16)) return false; \
        name##_lanes(c->v[o->reg], s, 4); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##ss_m) { \
        u8 s[4]; \
        if (!vec_read(c, o, s, 4, 1)) return false; \
        name##_lanes(c->v[o->reg], s, 1); \
        return true; \
    }
APPROXIMATE(rcp, sse_rcp)
APPROXIMATE(rsqrt, sse_rsqrt)
