/*
 * x87_host.h - executing one x87 instruction on the host's x87 unit, for op_x87*.c.
 *
 * Exact path. The whole guest state (control word with its unmasked exceptions, tags, TOP, registers; flags clear) is
 * loaded with FRSTOR, the instruction executes, FNSAVE takes everything back. FNSAVE does not wait, so an unmasked
 * exception is seen as ES in the image and never becomes a host exception; every masked and unmasked response,
 * stack fault and tag is the hardware's own. FNSAVE leaves the unit as the C ABI wants it.
 *
 * Fast path. Only with the default control word (FCW_INIT, which is also the C ABI's: all masked, 64-bit
 * precision, nearest) and no stack fault in sight: operands are loaded, the instruction and FNSTSW execute, and the result
 * counts if the flags seen are a subset of the guest's sticky flags. Otherwise, also when the host's flags are stale,
 * the exact path does it all over and clears the host's flags on the way. Both paths give the same state:
 * condition bits that an instruction leaves undefined keep their values.
 */
#ifndef X87_HOST_H
#define X87_HOST_H

#include "vec.h"
#include "fpu.h"

/* The 32-bit protected-mode layout of FNSAVE, which 64-bit hosts use too. */
struct __attribute__((packed)) x87_image {
    u32 cw, sw, tag, fip, fcs_fop, fdp, fds;
    u8 st[8][10];
};

void x87_load(const accel_cpu *c, struct x87_image *im);
/* Commits the image: registers, tags, TOP, new flags, and of the condition bits those in `cc`. b0: first opcode byte. */
void x87_commit(accel_cpu *c, const struct op *o, const struct x87_image *im, unsigned cc, unsigned b0);

/* A store to memory does not happen when one of its exceptions is unmasked. */
INLINE bool x87_store_blocked(const struct x87_image *im) {
    return im->sw & ~im->cw & (FSW_IE | FSW_OE | FSW_UE);
}

#define X87_CLOBBERS "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
#define X87_RUN(im, text) __asm__ volatile("frstor %0\n\t" text "\n\tfnsave %0" : "+m"(*(im)) : : X87_CLOBBERS)
/* text names the memory operand as %1 */
#define X87_RUN_M(im, text, p) \
    __asm__ volatile("frstor %0\n\t" text "\n\tfnsave %0" : "+m"(*(im)), "+m"(*(u8(*)[16])(p)) : : X87_CLOBBERS)
/* The same instruction with ST(i); b0 and base are strings. */
#define X87_RUN_STI(im, b0, base, i) \
    switch ((i) & 7) { \
    case 0: X87_RUN(im, ".byte " b0 "," base "+0"); break; \
    case 1: X87_RUN(im, ".byte " b0 "," base "+1"); break; \
    case 2: X87_RUN(im, ".byte " b0 "," base "+2"); break; \
    case 3: X87_RUN(im, ".byte " b0 "," base "+3"); break; \
    case 4: X87_RUN(im, ".byte " b0 "," base "+4"); break; \
    case 5: X87_RUN(im, ".byte " b0 "," base "+5"); break; \
    case 6: X87_RUN(im, ".byte " b0 "," base "+6"); break; \
    default: X87_RUN(im, ".byte " b0 "," base "+7"); break; \
    }

INLINE long double x87_ld(const u8 *p) {
    long double v;
    __asm__("fldt %1" : "=t"(v) : "m"(*(const u8(*)[10])p));
    return v;
}
INLINE void x87_st(u8 *p, long double v) { __asm__ volatile("fstpt %0" : "=m"(*(u8(*)[10])p) : "t"(v) : "st"); }

INLINE bool x87_plain(const accel_cpu *c) { return (c->fpu.cw & 0xf3f) == 0x33f; }
INLINE bool x87_clean(const accel_cpu *c, u16 host_sw) { return !(host_sw & FSW_FLAGS & ~c->fpu.sw); }
INLINE void x87_set_c1(accel_cpu *c, u16 host_sw) { c->fpu.sw = (u16)((c->fpu.sw & ~FSW_C1) | (host_sw & FSW_C1)); }

/* `attempt` is the fast path; `_m` is complete. p: the operand in host memory. */
#define X87_MEM_FAST(name, form, ea, width, access, attempt) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        u8 *p = access(c, lin, width); \
        if (unlikely(p == NULL || !(attempt))) return h_##name##_m(c, o); \
        fpu_note_mem(c, o, lin - c->segbase[o->seg]); \
        NEXT(c, o); \
    }
#define X87_LOAD(name, width, b0, attempt, text, cc) \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 p[16]; \
        if (!fpu_wait(c) || !vec_read(c, o, p, width, 1)) return false; \
        if (!(attempt)) { \
            struct x87_image im; \
            x87_load(c, &im); \
            X87_RUN_M(&im, text, p); \
            x87_commit(c, o, &im, cc, b0); \
        } \
        fpu_note_mem(c, o, op_ea(c, o)); \
        return true; \
    } \
    X87_MEM_FAST(name, f, ea_f, width, fast_r, attempt) \
    X87_MEM_FAST(name, x, ea_x, width, fast_r, attempt)
#define X87_STORE(name, width, b0, attempt, text) \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 p[16]; \
        struct x87_image im; \
        u64 lin; \
        /* the address is checked even when an unmasked exception keeps the value back, as hardware does */ \
        if (!fpu_wait(c) || !op_linear(c, o, width, ACC_W, &lin) || !mem_probe_write(c, o, lin, width)) return false; \
        u64 ea = op_ea(c, o); \
        if (x87_plain(c) && (attempt)) { \
            fpu_note_mem(c, o, ea); \
            return mem_write(c, o, lin, p, width); \
        } \
        x87_load(c, &im); \
        X87_RUN_M(&im, text, p); \
        if (!x87_store_blocked(&im) && !mem_write(c, o, lin, p, width)) return false; \
        x87_commit(c, o, &im, FSW_C1, b0); \
        fpu_note_mem(c, o, ea); \
        return true; \
    } \
    X87_MEM_FAST(name, f, ea_f, width, fast_w, attempt) \
    X87_MEM_FAST(name, x, ea_x, width, fast_w, attempt)

#endif
