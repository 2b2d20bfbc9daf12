/*
 * op_x87.c - x87 loads, stores, arithmetic and compares.
 * Names: _ST0 = ST(0) op= ST(i)   _STi = ST(i) op= ST(0)   m32 m64 m80 i16 i32 i64: memory operands.
 * How an instruction executes: x87_host.h. Control instructions and the save layouts: op_x87_control.c; those that do not
 * use the host's unit, because vendors differ in them: op_x87_functions.c, op_x87_scale.c. All in this file are exact and
 * alike on every CPU.
 */
#include "x87_host.h"

void x87_load(const accel_cpu *c, struct x87_image *im) {
    const struct fpu *f = &c->fpu;
    unsigned top = fpu_top(c);
    *im = (struct x87_image){.cw = f->cw, .sw = f->sw & (FSW_CC | FSW_TOP)};
    for (unsigned i = 0; i < 8; i++) {
        if (!((f->tag >> i) & 1)) im->tag |= 3u << (2 * i);
        memcpy(im->st[i], f->st[(top + i) & 7], 10);
    }
}

void x87_commit(accel_cpu *c, const struct op *o, const struct x87_image *im, unsigned cc, unsigned b0) {
    struct fpu *f = &c->fpu;
    unsigned take = FSW_TOP | FSW_FLAGS | FSW_SF | cc;
    if (im->sw & FSW_SF) take |= FSW_C1; /* the direction of a stack fault */
    f->sw = (u16)((f->sw & ~(FSW_TOP | (take & FSW_CC))) | (im->sw & take));
    fpu_find_top(c);
    f->tag = 0;
    unsigned top = fpu_top(c);
    for (unsigned i = 0; i < 8; i++) {
        if (((im->tag >> (2 * i)) & 3) != 3) f->tag |= (u8)(1u << i);
        memcpy(f->st[(top + i) & 7], im->st[i], 10);
    }
    fpu_update_es(c);
    fpu_note(c, o);
    if (im->sw & FSW_ES) {
        unsigned modrm = OP_MEM(o) ? o->vvvv : 0xc0u | (o->reg & 7u) << 3 | (o->rm & 7u);
        f->fop = (u16)((b0 & 7) << 8 | modrm);
    }
}

/* Register forms without a fast path. */
#define EXACT(name, text, cc, b0) \
    SLOW_HANDLER(h_##name##_r) { \
        struct x87_image im; \
        if (!fpu_wait(c)) return false; \
        x87_load(c, &im); \
        X87_RUN(&im, text); \
        x87_commit(c, o, &im, cc, b0); \
        return true; \
    }
/* Register forms with ST(i): `attempt` is the fast path, _e the exact one. */
#define STI_EXACT(name, b0, base, cc) \
    SLOW_HANDLER(h_##name##_e) { \
        struct x87_image im; \
        if (!fpu_wait(c)) return false; \
        x87_load(c, &im); \
        X87_RUN_STI(&im, #b0, #base, o->rm); \
        x87_commit(c, o, &im, cc, b0); \
        return true; \
    }
#define STI(name, b0, base, cc, attempt) \
    STI_EXACT(name, b0, base, cc) \
    HANDLER(h_##name##_r) { \
        if (unlikely((c->fpu.sw & FSW_ES) || !(attempt))) return h_##name##_e(c, o); \
        fpu_note(c, o); \
        NEXT(c, o); \
    }

/* ---- loads ---- */

INLINE bool push_value(accel_cpu *c, long double v, u16 host_sw) {
    if (unlikely(!x87_plain(c) || fpu_used(c, 7) || !x87_clean(c, host_sw))) return false;
    x87_st(fpu_push(c), v);
    c->fpu.sw &= (u16)~FSW_C1;
    return true;
}
#define FLD_MEMORY(name, width, b0, text) \
    INLINE bool fast_##name(accel_cpu *c, const u8 *p) { \
        long double v; \
        u16 sw; \
        __asm__ volatile(text " %2\n\tfnstsw %1" : "=t"(v), "=a"(sw) : "m"(*(const u8(*)[width])p)); \
        return push_value(c, v, sw); \
    } \
    X87_LOAD(name, width, b0, fast_##name(c, p), text " %1", FSW_C1)
FLD_MEMORY(fld_m32, 4, 0xd9, "flds")
FLD_MEMORY(fld_m64, 8, 0xdd, "fldl")
FLD_MEMORY(fld_m80, 10, 0xdb, "fldt")
FLD_MEMORY(fild_i16, 2, 0xdf, "filds")
FLD_MEMORY(fild_i32, 4, 0xdb, "fildl")
FLD_MEMORY(fild_i64, 8, 0xdf, "fildll")

/* 18 digits and a sign. The manual leaves digits above 9 undefined: here they count as what they are. */
SLOW_HANDLER(h_fbld_m) {
    alignas(16) u8 p[16];
    struct x87_image im;
    u64 v = 0;
    if (!fpu_wait(c) || !vec_read(c, o, p, 10, 1)) return false;
    u8 sign = p[9] & 0x80;
    for (unsigned i = 9; i-- > 0;) v = v * 100 + (p[i] >> 4) * 10u + (p[i] & 15);
    memcpy(p, &v, 8);
    x87_load(c, &im);
    X87_RUN_M(&im, "fildll %1", p);
    if (!(im.sw & FSW_IE)) im.st[0][9] |= sign;
    x87_commit(c, o, &im, FSW_C1, 0xdf);
    fpu_note_mem(c, o, op_ea(c, o));
    return true;
}

INLINE bool copy_to_top(accel_cpu *c, unsigned i) {
    if (unlikely(fpu_used(c, 7) || !fpu_used(c, i))) return false;
    const u8 *from = fpu_st(c, i);
    memcpy(fpu_push(c), from, 10);
    c->fpu.sw &= (u16)~FSW_C1;
    return true;
}
STI(fld_STi, 0xd9, 0xc0, FSW_C1, copy_to_top(c, o->rm & 7))

INLINE bool exchange(accel_cpu *c, unsigned i) {
    if (unlikely(!fpu_used(c, 0) || !fpu_used(c, i))) return false;
    u8 *a = fpu_st(c, 0), *b = fpu_st(c, i);
    u64 lo = ld8u(a), lo2 = ld8u(b);
    u16 hi = ld2u(a + 8), hi2 = ld2u(b + 8);
    memcpy(a, &lo2, 8), memcpy(a + 8, &hi2, 2);
    memcpy(b, &lo, 8), memcpy(b + 8, &hi, 2);
    c->fpu.sw &= (u16)~FSW_C1;
    return true;
}
STI(fxch, 0xd9, 0xc8, FSW_C1, exchange(c, o->rm & 7))

/* ---- stores ---- */

#define FST_MEMORY(name, width, b0, text, pops) \
    INLINE bool fast_##name(accel_cpu *c, u8 *p) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0))) return false; \
        u16 sw; \
        __asm__ volatile(text " %1\n\tfnstsw %0" : "=a"(sw), "=m"(*(u8(*)[width])&c->ldval) : "t"(x87_ld(fpu_st(c, 0)))); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        memcpy(p, &c->ldval, width); \
        x87_set_c1(c, sw); \
        if (pops) fpu_pop(c); \
        return true; \
    }
FST_MEMORY(fst_m32, 4, 0xd9, "fsts", false)
X87_STORE(fst_m32, 4, 0xd9, fast_fst_m32(c, p), "fsts %1")
FST_MEMORY(fstp_m32, 4, 0xd9, "fsts", true)
X87_STORE(fstp_m32, 4, 0xd9, fast_fstp_m32(c, p), "fstps %1")
FST_MEMORY(fst_m64, 8, 0xdd, "fstl", false)
X87_STORE(fst_m64, 8, 0xdd, fast_fst_m64(c, p), "fstl %1")
FST_MEMORY(fstp_m64, 8, 0xdd, "fstl", true)
X87_STORE(fstp_m64, 8, 0xdd, fast_fstp_m64(c, p), "fstpl %1")
FST_MEMORY(fist_i16, 2, 0xdf, "fists", false)
X87_STORE(fist_i16, 2, 0xdf, fast_fist_i16(c, p), "fists %1")
FST_MEMORY(fistp_i16, 2, 0xdf, "fists", true)
X87_STORE(fistp_i16, 2, 0xdf, fast_fistp_i16(c, p), "fistps %1")
FST_MEMORY(fist_i32, 4, 0xdb, "fistl", false)
X87_STORE(fist_i32, 4, 0xdb, fast_fist_i32(c, p), "fistl %1")
FST_MEMORY(fistp_i32, 4, 0xdb, "fistl", true)
X87_STORE(fistp_i32, 4, 0xdb, fast_fistp_i32(c, p), "fistpl %1")

/* Instructions of which the host has the popping form only. */
#define FSTP_MEMORY(name, width, b0, text) \
    INLINE bool fast_##name(accel_cpu *c, u8 *p) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0))) return false; \
        u16 sw; \
        __asm__ volatile(text " %1\n\tfnstsw %0" : "=a"(sw), "=m"(*(u8(*)[width])&c->ldval) : "t"(x87_ld(fpu_st(c, 0))) : "st"); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        memcpy(p, &c->ldval, width); \
        x87_set_c1(c, sw); \
        fpu_pop(c); \
        return true; \
    } \
    X87_STORE(name, width, b0, fast_##name(c, p), text " %1")
FSTP_MEMORY(fistp_i64, 8, 0xdf, "fistpll")
FSTP_MEMORY(fisttp_i16, 2, 0xdf, "fisttps")
FSTP_MEMORY(fisttp_i32, 4, 0xdb, "fisttpl")
FSTP_MEMORY(fisttp_i64, 8, 0xdd, "fisttpll")

INLINE bool fast_fstp_m80(accel_cpu *c, u8 *p) {
    if (unlikely(!fpu_used(c, 0) || (c->fpu.sw & FSW_ES))) return false;
    memcpy(p, fpu_st(c, 0), 10);
    c->fpu.sw &= (u16)~FSW_C1;
    fpu_pop(c);
    return true;
}
X87_STORE(fstp_m80, 10, 0xdb, fast_fstp_m80(c, p), "fstpt %1")

SLOW_HANDLER(h_fbstp_m) {
    alignas(16) u8 p[16];
    struct x87_image im;
    u64 ea = op_ea(c, o), lin;
    if (!fpu_wait(c) || !op_linear(c, o, 10, ACC_W, &lin) || !mem_probe_write(c, o, lin, 10)) return false;
    x87_load(c, &im);
    X87_RUN_M(&im, "fbstp %1", p);
    if (!x87_store_blocked(&im) && !mem_write(c, o, lin, p, 10)) return false;
    x87_commit(c, o, &im, FSW_C1, 0xdf);
    fpu_note_mem(c, o, ea);
    return true;
}

/* FST ST(i): the destination may be empty. */
INLINE bool copy_from_top(accel_cpu *c, unsigned i, bool pops) {
    if (unlikely(!fpu_used(c, 0))) return false;
    memmove(fpu_st(c, i), fpu_st(c, 0), 10);
    c->fpu.tag |= (u8)(1u << fpu_reg(c, i));
    c->fpu.sw &= (u16)~FSW_C1;
    if (pops) fpu_pop(c);
    return true;
}
STI(fst_STi, 0xdd, 0xd0, FSW_C1, copy_from_top(c, o->rm & 7, false))
STI(fstp_STi, 0xdd, 0xd8, FSW_C1, copy_from_top(c, o->rm & 7, true))

/* D9 D8+i, FSTPNCE: an empty ST(0) is no stack fault, it is only popped. */
SLOW_HANDLER(h_fstpnce_r) {
    if (!fpu_wait(c)) return false;
    if (!copy_from_top(c, o->rm & 7, true)) {
        c->fpu.sw &= (u16)~FSW_C1;
        fpu_pop(c);
    }
    fpu_note(c, o);
    return true;
}

/* ---- arithmetic ---- */

#define FAST_REGISTERS(op) \
    INLINE bool fast_##op(accel_cpu *c, unsigned dst, unsigned src) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, dst) || !fpu_used(c, src))) return false; \
        long double b = x87_ld(fpu_st(c, src)), a = x87_ld(fpu_st(c, dst)); \
        u16 sw; \
        __asm__ volatile(#op " %%st(1),%%st\n\tfnstsw %1" : "+t"(a), "=a"(sw) : "u"(b)); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        x87_st(fpu_st(c, dst), a); \
        x87_set_c1(c, sw); \
        return true; \
    } \
    INLINE bool fast_##op##_pop(accel_cpu *c, unsigned dst) { \
        if (unlikely(!fast_##op(c, dst, 0))) return false; \
        fpu_pop(c); \
        return true; \
    }
#define FAST_MEMORY(op, kind, width, text) \
    INLINE bool fast_##op##_##kind(accel_cpu *c, const u8 *p) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0))) return false; \
        long double a = x87_ld(fpu_st(c, 0)); \
        u16 sw; \
        __asm__ volatile(text " %2\n\tfnstsw %1" : "+t"(a), "=a"(sw) : "m"(*(const u8(*)[width])p)); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        x87_st(fpu_st(c, 0), a); \
        x87_set_c1(c, sw); \
        return true; \
    }
/* st0: opcode byte of the D8 form; sti: of the DC and DE forms. */
#define ARITHMETIC(op, iop, st0, sti) \
    FAST_REGISTERS(op) \
    STI(op##_ST0, 0xd8, st0, FSW_C1, fast_##op(c, 0, o->rm & 7)) \
    STI(op##_STi, 0xdc, sti, FSW_C1, fast_##op(c, o->rm & 7, 0)) \
    STI(op##p, 0xde, sti, FSW_C1, fast_##op##_pop(c, o->rm & 7)) \
    FAST_MEMORY(op, m32, 4, #op "s") \
    X87_LOAD(op##_m32, 4, 0xd8, fast_##op##_m32(c, p), #op "s %1", FSW_C1) \
    FAST_MEMORY(op, m64, 8, #op "l") \
    X87_LOAD(op##_m64, 8, 0xdc, fast_##op##_m64(c, p), #op "l %1", FSW_C1) \
    FAST_MEMORY(op, i32, 4, #iop "l") \
    X87_LOAD(op##_i32, 4, 0xda, fast_##op##_i32(c, p), #iop "l %1", FSW_C1) \
    FAST_MEMORY(op, i16, 2, #iop "s") \
    X87_LOAD(op##_i16, 2, 0xde, fast_##op##_i16(c, p), #iop "s %1", FSW_C1)
ARITHMETIC(fadd, fiadd, 0xc0, 0xc0)
ARITHMETIC(fmul, fimul, 0xc8, 0xc8)
ARITHMETIC(fsub, fisub, 0xe0, 0xe8)
ARITHMETIC(fsubr, fisubr, 0xe8, 0xe0)
ARITHMETIC(fdiv, fidiv, 0xf0, 0xf8)
ARITHMETIC(fdivr, fidivr, 0xf8, 0xf0)

/* FCHS, FABS: the sign bit alone, NaNs too. */
#define SIGN(name, text, statement) \
    EXACT(name##_e, text, FSW_C1, 0xd9) \
    HANDLER(h_##name##_r) { \
        if (unlikely((c->fpu.sw & FSW_ES) || !fpu_used(c, 0))) return h_##name##_e_r(c, o); \
        u8 *top = &fpu_st(c, 0)[9]; \
        statement; \
        c->fpu.sw &= (u16)~FSW_C1; \
        fpu_note(c, o); \
        NEXT(c, o); \
    }
SIGN(fchs, "fchs", *top ^= 0x80)
SIGN(fabs, "fabs", *top &= 0x7f)

#define UNARY(name) \
    INLINE bool fast_##name(accel_cpu *c) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0))) return false; \
        long double a = x87_ld(fpu_st(c, 0)); \
        u16 sw; \
        __asm__ volatile(#name "\n\tfnstsw %1" : "+t"(a), "=a"(sw)); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        x87_st(fpu_st(c, 0), a); \
        x87_set_c1(c, sw); \
        return true; \
    } \
    EXACT(name##_e, #name, FSW_C1, 0xd9) \
    HANDLER(h_##name##_r) { \
        if (unlikely((c->fpu.sw & FSW_ES) || !fast_##name(c))) return h_##name##_e_r(c, o); \
        fpu_note(c, o); \
        NEXT(c, o); \
    }
UNARY(fsqrt)
UNARY(frndint)
EXACT(fxam, "fxam", FSW_CC, 0xd9)
EXACT(ftst, "ftst", FSW_CC, 0xd9)

#define CONSTANT(name, value) \
    EXACT(name##_e, #name, FSW_C1, 0xd9) \
    HANDLER(h_##name##_r) { \
        if (unlikely((c->fpu.sw & FSW_ES) || !push_value(c, value, 0))) return h_##name##_e_r(c, o); \
        fpu_note(c, o); \
        NEXT(c, o); \
    }
CONSTANT(fld1, 1.0L)
CONSTANT(fldz, 0.0L)
/* The others are rounded by the control word. */
EXACT(fldl2t, "fldl2t", FSW_C1, 0xd9)
EXACT(fldl2e, "fldl2e", FSW_C1, 0xd9)
EXACT(fldpi, "fldpi", FSW_C1, 0xd9)
EXACT(fldlg2, "fldlg2", FSW_C1, 0xd9)
EXACT(fldln2, "fldln2", FSW_C1, 0xd9)

/* ---- compares ---- */

INLINE bool compared(accel_cpu *c, u16 host_sw, unsigned pops) {
    if (unlikely(!x87_clean(c, host_sw))) return false;
    c->fpu.sw = (u16)((c->fpu.sw & ~FSW_CC) | (host_sw & (FSW_C0 | FSW_C2 | FSW_C3)));
    for (unsigned i = 0; i < pops; i++) fpu_pop(c);
    return true;
}
#define COMPARE_REGISTERS(op) \
    INLINE bool fast_##op(accel_cpu *c, unsigned src, unsigned pops) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0) || !fpu_used(c, src))) return false; \
        u16 sw; \
        __asm__ volatile(#op " %%st(1)\n\tfnstsw %0" : "=a"(sw) : "t"(x87_ld(fpu_st(c, 0))), "u"(x87_ld(fpu_st(c, src)))); \
        return compared(c, sw, pops); \
    }
COMPARE_REGISTERS(fcom)
COMPARE_REGISTERS(fucom)
STI(fcom, 0xd8, 0xd0, FSW_CC, fast_fcom(c, o->rm & 7, 0))
STI(fcomp, 0xd8, 0xd8, FSW_CC, fast_fcom(c, o->rm & 7, 1))
STI(fcompp, 0xde, 0xd8, FSW_CC, fast_fcom(c, 1, 2))
STI(fucom, 0xdd, 0xe0, FSW_CC, fast_fucom(c, o->rm & 7, 0))
STI(fucomp, 0xdd, 0xe8, FSW_CC, fast_fucom(c, o->rm & 7, 1))
STI(fucompp, 0xda, 0xe8, FSW_CC, fast_fucom(c, 1, 2))

#define COMPARE_MEMORY(kind, width, b0, text, ptext) \
    INLINE bool fast_fcom_##kind(accel_cpu *c, const u8 *p, unsigned pops) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0))) return false; \
        u16 sw; \
        __asm__ volatile(text " %2\n\tfnstsw %0" : "=a"(sw) : "t"(x87_ld(fpu_st(c, 0))), "m"(*(const u8(*)[width])p)); \
        return compared(c, sw, pops); \
    } \
    X87_LOAD(fcom_##kind, width, b0, fast_fcom_##kind(c, p, 0), text " %1", FSW_CC) \
    X87_LOAD(fcomp_##kind, width, b0, fast_fcom_##kind(c, p, 1), ptext " %1", FSW_CC)
COMPARE_MEMORY(m32, 4, 0xd8, "fcoms", "fcomps")
COMPARE_MEMORY(m64, 8, 0xdc, "fcoml", "fcompl")
COMPARE_MEMORY(i32, 4, 0xda, "ficoml", "ficompl")
COMPARE_MEMORY(i16, 2, 0xde, "ficoms", "ficomps")

/* FCOMI and its like set ZF, PF and CF and clear OF, SF and AF; C1 is cleared, the other condition bits stay (SDM vol. 2). An
 * unmasked invalid operand leaves EFLAGS alone. */
#define COMPARE_FLAGS(name, op, b0, base, pops) \
    INLINE bool fast_##name(accel_cpu *c, unsigned src) { \
        if (unlikely(!x87_plain(c) || !fpu_used(c, 0) || !fpu_used(c, src))) return false; \
        u16 sw, fl; \
        __asm__ volatile(op " %%st(1),%%st\n\tlahf\n\tseto %%al\n\tmovw %%ax,%1\n\tfnstsw %0" \
                         : "=&a"(sw), "=&r"(fl) : "t"(x87_ld(fpu_st(c, 0))), "u"(x87_ld(fpu_st(c, src))) : "cc"); \
        if (unlikely(!x87_clean(c, sw))) return false; \
        c->flags_ax = fl & ~((F_SF | F_AF) << 8 | 0xff); \
        c->fpu.sw &= (u16)~FSW_C1; \
        if (pops) fpu_pop(c); \
        return true; \
    } \
    SLOW_HANDLER(h_##name##_e) { \
        struct x87_image im; \
        if (!fpu_wait(c)) return false; \
        x87_load(c, &im); \
        im.sw &= ~(u32)FSW_C1; \
        u8 ah = compare_flags_##name(&im, o->rm & 7); \
        x87_commit(c, o, &im, FSW_C1, b0); \
        if (!(im.sw & FSW_ES)) { \
            c->flags_ah = ah & (u8)~(F_SF | F_AF); \
            c->flags_of = 0; \
        } \
        return true; \
    } \
    HANDLER(h_##name##_r) { \
        if (unlikely((c->fpu.sw & FSW_ES) || !fast_##name(c, o->rm & 7))) return h_##name##_e(c, o); \
        fpu_note(c, o); \
        NEXT(c, o); \
    }
#define FLAGS_CASE(n, b0, base) \
    case n: \
        __asm__ volatile("frstor %0\n\t.byte " b0 "," base "+" #n "\n\tlahf\n\tmovb %%ah,%1\n\tfnsave %0" \
                         : "+m"(*im), "=m"(ah) : : "rax", X87_CLOBBERS); \
        break;
#define FLAGS_EXACT(name, b0, base) \
    static NOINLINE u8 compare_flags_##name(struct x87_image *im, unsigned i) { \
        u8 ah = 2; \
        switch (i) { \
            FLAGS_CASE(0, b0, base) FLAGS_CASE(1, b0, base) FLAGS_CASE(2, b0, base) FLAGS_CASE(3, b0, base) \
            FLAGS_CASE(4, b0, base) FLAGS_CASE(5, b0, base) FLAGS_CASE(6, b0, base) FLAGS_CASE(7, b0, base) \
        } \
        return ah; \
    }
FLAGS_EXACT(fcomi, "0xdb", "0xf0")
FLAGS_EXACT(fucomi, "0xdb", "0xe8")
FLAGS_EXACT(fcomip, "0xdf", "0xf0")
FLAGS_EXACT(fucomip, "0xdf", "0xe8")
COMPARE_FLAGS(fcomi, "fcomi", 0xdb, 0xf0, false)
COMPARE_FLAGS(fucomi, "fucomi", 0xdb, 0xe8, false)
COMPARE_FLAGS(fcomip, "fcomi", 0xdf, 0xf0, true)
COMPARE_FLAGS(fucomip, "fucomi", 0xdf, 0xe8, true)

/* ---- conditional moves: an empty register is a stack fault whether the condition holds or not ---- */

static const u8 indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};

/* Stack underflow with ST(0) as the destination. */
static void underflow_top(accel_cpu *c) {
    c->fpu.sw = (u16)((c->fpu.sw & ~FSW_C1) | FSW_IE | FSW_SF);
    if (c->fpu.cw & FSW_IE) {
        memcpy(fpu_st(c, 0), indefinite, 10);
        c->fpu.tag |= (u8)(1u << fpu_top(c));
    }
    fpu_update_es(c);
}
static bool fcmov(accel_cpu *c, const struct op *o, unsigned b0, bool holds) {
    unsigned i = o->rm & 7;
    fpu_note(c, o);
    if (unlikely(!fpu_used(c, 0) || !fpu_used(c, i))) {
        underflow_top(c);
        if (c->fpu.sw & FSW_ES) c->fpu.fop = (u16)((b0 & 7) << 8 | 0xc0 | (o->reg & 7u) << 3 | i);
    } else if (holds) {
        memmove(fpu_st(c, 0), fpu_st(c, i), 10);
    }
    return true;
}
#define FCMOV(name, b0, holds) \
    SLOW_HANDLER(h_##name##_r) { return fpu_wait(c) && fcmov(c, o, b0, holds); }
FCMOV(fcmovb, 0xda, cf(c))
FCMOV(fcmove, 0xda, zf(c))
FCMOV(fcmovbe, 0xda, cf(c) || zf(c))
FCMOV(fcmovu, 0xda, pf(c))
FCMOV(fcmovnb, 0xdb, !cf(c))
FCMOV(fcmovne, 0xdb, !zf(c))
FCMOV(fcmovnbe, 0xdb, !cf(c) && !zf(c))
FCMOV(fcmovnu, 0xdb, !pf(c))
