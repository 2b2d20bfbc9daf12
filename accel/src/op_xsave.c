/*
 * op_xsave.c - FXSAVE FXRSTOR XSAVE XSAVEOPT XSAVEC XRSTOR (SDM vol. 1, chapter 13 and "Operation of FXSAVE").
 *
 * Legacy region:  0 FCW  2 FSW  4 FTW (abridged)  6 FOP  8 FIP  16 FDP  24 MXCSR  28 MXCSR_MASK  32 ST/MM  160 XMM
 *                 (FIP and FDP: 64 bits with REX.W, else 32 bits and the selector behind them)
 * Header at 512:  0 XSTATE_BV  8 XCOMP_BV
 * Behind it:      576 upper halves of YMM (component 2, 256 bytes), 2688 PKRU (component 9, 8 bytes); in the compacted
 *                 form the components follow each other from 576 on.
 *
 * Choices that the manual leaves open: XINUSE of a component is whether its value differs from the initial one;
 * XSAVEOPT uses that and never the "modified" optimisation; FXSAVE and FXRSTOR move XMM and MXCSR whatever CR4.OSFXSR says.
 * Stores of an instruction are all probed before the first is made.
 */
#include "vec.h"
#include "fpu.h"
#include "cpu_features.h"

enum { XC_X87 = 1, XC_SSE = 2, XC_AVX = 4, XC_PKRU = 0x200, XC_BEHIND = XC_AVX | XC_PKRU };
enum { HEADER = 512, EXTENDED = 576, PKRU_OFFSET = 2688, AREA_MAX = 2696 };
#define COMPACTED BIT(63)

/* ---- memory: an area moved in pieces of at most 64 bytes that do not cross pages when 64-byte aligned ---- */

static bool area_probe(accel_cpu *c, const struct op *o, u64 lin, unsigned from, unsigned to) {
    for (unsigned at = from; at < to; at += 64) {
        unsigned n = to - at < 64 ? to - at : 64;
        if (!mem_probe_write(c, o, lin + at, n)) return false;
    }
    return true;
}
static bool area_write(accel_cpu *c, const struct op *o, u64 lin, const u8 *area, unsigned from, unsigned to) {
    for (unsigned at = from; at < to; at += 64) {
        unsigned n = to - at < 64 ? to - at : 64;
        if (!mem_write(c, o, lin + at, area + at, n)) return false;
    }
    return true;
}
static bool area_read(accel_cpu *c, const struct op *o, u64 lin, u8 *area, unsigned from, unsigned to) {
    for (unsigned at = from; at < to; at += 64) {
        unsigned n = to - at < 64 ? to - at : 64;
        if (!mem_read(c, o, lin + at, area + at, n)) return false;
    }
    return true;
}

/* XMM8-15 are reached in 64-bit mode only. */
static unsigned xmm_end(const accel_cpu *c) { return is_code64(c) ? 416 : 288; }

/* ---- the legacy region ---- */

static void put_x87(const accel_cpu *c, u8 *a, bool wide) {
    const struct fpu *f = &c->fpu;
    u16 head[4] = {f->cw, f->sw, f->tag, f->fop & 0x7ff};
    memcpy(a, head, 8);
    if (wide) {
        st8u(a + 8, f->fip);
        st8u(a + 16, f->fdp);
    } else {
        st8u(a + 8, (u32)f->fip | (u64)f->fcs << 32);
        st8u(a + 16, (u32)f->fdp | (u64)f->fds << 32);
    }
    for (unsigned i = 0; i < 8; i++) {
        memset(a + 32 + 16 * i, 0, 16);
        memcpy(a + 32 + 16 * i, f->st[(((f->sw >> 11) & 7) + i) & 7], 10);
    }
}
static void get_x87(accel_cpu *c, const u8 *a, bool wide) {
    struct fpu *f = &c->fpu;
    f->cw = (ld2u(a) & FCW_WRITABLE) | FCW_ALWAYS;
    f->sw = ld2u(a + 2);
    fpu_find_top(c);
    f->tag = a[4];
    f->fop = ld2u(a + 6) & 0x7ff;
    f->fip = wide ? ld8u(a + 8) : ld4u(a + 8);
    f->fdp = wide ? ld8u(a + 16) : ld4u(a + 16);
    f->fcs = wide ? 0 : ld2u(a + 12);
    f->fds = wide ? 0 : ld2u(a + 20);
    for (unsigned i = 0; i < 8; i++) memcpy(fpu_st(c, i), a + 32 + 16 * i, 10);
    fpu_update_es(c);
}
static void put_mxcsr(accel_cpu *c, u8 *a) {
    st4u(a + 24, mxcsr_get(c));
    st4u(a + 28, MXCSR_MASK);
}
static void put_xmm(const accel_cpu *c, u8 *a) {
    for (unsigned i = 0; i < 16; i++) memcpy(a + 160 + 16 * i, c->v[i], 16);
}
static void get_xmm(accel_cpu *c, const u8 *a) {
    unsigned n = is_code64(c) ? 16 : 8;
    for (unsigned i = 0; i < n; i++) memcpy(c->v[i], a + 160 + 16 * i, 16);
}

static bool gp(accel_cpu *c) { return set_fault(c, EX_GP, true, 0); }

static bool fxsave(accel_cpu *c, const struct op *o, bool wide) {
    alignas(16) u8 a[512];
    u64 lin;
    if (!op_linear(c, o, 512, ACC_W, &lin)) return false;
    if (lin & 15) return gp(c);
    unsigned end = xmm_end(c);
    if (!area_probe(c, o, lin, 0, end)) return false;
    put_x87(c, a, wide);
    put_mxcsr(c, a);
    put_xmm(c, a);
    return area_write(c, o, lin, a, 0, end);
}
SLOW_HANDLER(h_fxsave_32_m) { return fxsave(c, o, false); }
SLOW_HANDLER(h_fxsave_64_m) { return fxsave(c, o, true); }

static bool fxrstor(accel_cpu *c, const struct op *o, bool wide) {
    alignas(16) u8 a[512];
    u64 lin;
    if (!op_linear(c, o, 512, ACC_R, &lin)) return false;
    if (lin & 15) return gp(c);
    if (!area_read(c, o, lin, a, 0, xmm_end(c))) return false;
    if (ld4u(a + 24) & ~(u32)MXCSR_MASK) return gp(c);
    get_x87(c, a, wide);
    mxcsr_set(c, ld4u(a + 24));
    get_xmm(c, a);
    return true;
}
SLOW_HANDLER(h_fxrstor_32_m) { return fxrstor(c, o, false); }
SLOW_HANDLER(h_fxrstor_64_m) { return fxrstor(c, o, true); }

/* ---- XSAVE family ---- */

static bool all_zero(const void *p, unsigned size) {
    const u8 *b = p;
    u8 any = 0;
    for (unsigned i = 0; i < size; i++) any |= b[i];
    return !any;
}

static u64 in_use(const accel_cpu *c) {
    u64 v = 0;
    const struct fpu *f = &c->fpu;
    bool init = f->cw == FCW_INIT && !f->sw && !f->tag && !f->fop && !f->fcs && !f->fds && !f->fip && !f->fdp;
    for (unsigned i = 0; i < 8; i++) init = init && all_zero(f->st[i], 10);
    if (!init) v |= XC_X87;
    for (unsigned i = 0; i < 16; i++) {
        if (!all_zero(c->v[i], 16)) v |= XC_SSE;
        if (!all_zero(c->v[i] + 16, 16)) v |= XC_AVX;
    }
    if (c->pkru) v |= XC_PKRU;
    return v;
}

/* Common checks: #UD without CR4.OSXSAVE, #NM with CR0.TS, alignment. rfbm: the components asked for. */
static bool xsave_begin(accel_cpu *c, const struct op *o, unsigned size, int acc, u64 *lin, u64 *rfbm) {
    if (!(c->cr4 & CR4_OSXSAVE)) return set_fault(c, EX_UD, false, 0);
    if (c->cr0 & CR0_TS) return set_fault(c, EX_NM, false, 0);
    *rfbm = c->xcr0 & ((u64)(u32)c->r[R_RDX] << 32 | (u32)c->r[R_RAX]);
    if (!op_linear(c, o, size, acc, lin)) return false;
    return !(*lin & 63) || gp(c);
}

/* Where component `bit` lies; compacted: behind the smaller ones that `map` holds. */
static unsigned offset_of(u64 bit, u64 map, bool compacted) {
    if (!compacted) return bit == XC_AVX ? EXTENDED : PKRU_OFFSET;
    return bit == XC_PKRU && (map & XC_AVX) ? EXTENDED + 256 : EXTENDED;
}
static unsigned size_of_area(u64 map, bool compacted) {
    if (map & XC_PKRU) return offset_of(XC_PKRU, map, compacted) + 8;
    return map & XC_AVX ? EXTENDED + 256 : EXTENDED;
}

static void put_extended(const accel_cpu *c, u8 *a, u64 which, u64 map, bool compacted) {
    if (which & XC_AVX)
        for (unsigned i = 0; i < 16; i++) memcpy(a + offset_of(XC_AVX, map, compacted) + 16 * i, c->v[i] + 16, 16);
    if (which & XC_PKRU) st8u(a + offset_of(XC_PKRU, map, compacted), c->pkru);
}

/* The byte ranges that saving writes, as pairs from/to. */
struct ranges { unsigned n, from[8], to[8]; };
static void add_range(struct ranges *r, unsigned from, unsigned to) {
    r->from[r->n] = from;
    r->to[r->n++] = to;
}

enum save_kind { SAVE_ALL, SAVE_OPT, SAVE_COMPACT };

static bool xsave(accel_cpu *c, const struct op *o, bool wide, enum save_kind kind) {
    alignas(64) u8 a[AREA_MAX];
    u64 lin, rfbm, bv = 0;
    bool compacted = kind == SAVE_COMPACT;
    u64 asked = c->xcr0 & ((u64)(u32)c->r[R_RDX] << 32 | (u32)c->r[R_RAX]);
    if (!xsave_begin(c, o, size_of_area(asked, compacted), ACC_W, &lin, &rfbm)) return false;
    u64 used = in_use(c);
    if (compacted && mxcsr_get(c) != 0x1f80) used |= XC_SSE;
    u64 save = kind == SAVE_ALL ? rfbm : rfbm & used;
    bool mxcsr = compacted ? save & XC_SSE : rfbm & (XC_SSE | XC_AVX);
    struct ranges r = {0};
    if (save & XC_X87) {
        add_range(&r, 0, 24);
        add_range(&r, 32, 160);
    }
    if (mxcsr) add_range(&r, 24, 32);
    if (save & XC_SSE) add_range(&r, 160, xmm_end(c));
    add_range(&r, HEADER, HEADER + (compacted ? 16 : 8));
    if (save & XC_AVX) add_range(&r, offset_of(XC_AVX, rfbm, compacted), offset_of(XC_AVX, rfbm, compacted) + 256);
    if (save & XC_PKRU) add_range(&r, offset_of(XC_PKRU, rfbm, compacted), offset_of(XC_PKRU, rfbm, compacted) + 8);
    for (unsigned i = 0; i < r.n; i++)
        if (!area_probe(c, o, lin, r.from[i], r.to[i])) return false;
    if (!compacted && !mem_read(c, o, lin + HEADER, &bv, 8)) return false;
    put_x87(c, a, wide);
    put_mxcsr(c, a);
    put_xmm(c, a);
    st8u(a + HEADER, (bv & ~rfbm) | (used & rfbm));
    st8u(a + HEADER + 8, rfbm | COMPACTED);
    put_extended(c, a, save, rfbm, compacted);
    for (unsigned i = 0; i < r.n; i++)
        if (!area_write(c, o, lin, a, r.from[i], r.to[i])) return false;
    return true;
}
SLOW_HANDLER(h_xsave_32_m) { return xsave(c, o, false, SAVE_ALL); }
SLOW_HANDLER(h_xsave_64_m) { return xsave(c, o, true, SAVE_ALL); }
SLOW_HANDLER(h_xsaveopt_32_m) { return xsave(c, o, false, SAVE_OPT); }
SLOW_HANDLER(h_xsaveopt_64_m) { return xsave(c, o, true, SAVE_OPT); }
SLOW_HANDLER(h_xsavec_32_m) { return xsave(c, o, false, SAVE_COMPACT); }
SLOW_HANDLER(h_xsavec_64_m) { return xsave(c, o, true, SAVE_COMPACT); }

/* #GP rules of the header (SDM vol. 1, "Standard Form of XRSTOR", "Compacted Form of XRSTOR"). */
static bool header_valid(const accel_cpu *c, const u8 *a) {
    u64 bv = ld8u(a + HEADER), comp = ld8u(a + HEADER + 8);
    if (comp & COMPACTED) {
        u64 map = comp & ~COMPACTED;
        return model_has(c, FEAT_XSAVEC) && !(map & ~c->xcr0) && !(bv & ~map) && all_zero(a + HEADER + 16, 48);
    }
    return !(bv & ~c->xcr0) && all_zero(a + HEADER + 8, 16);
}

static void restore_x87(accel_cpu *c, const u8 *a, bool load, bool wide) {
    if (load) {
        get_x87(c, a, wide);
        return;
    }
    fpu_init(c);
    memset(c->fpu.st, 0, sizeof c->fpu.st);
}
static void restore_extended(accel_cpu *c, const u8 *a, u64 rfbm, u64 load, u64 map, bool compacted) {
    if (rfbm & XC_AVX) {
        unsigned n = is_code64(c) ? 16 : 8;
        const u8 *from = a + offset_of(XC_AVX, map, compacted);
        for (unsigned i = 0; i < n; i++) {
            if (load & XC_AVX) memcpy(c->v[i] + 16, from + 16 * i, 16);
            else memset(c->v[i] + 16, 0, 16);
        }
    }
    if (rfbm & XC_PKRU) {
        c->pkru = load & XC_PKRU ? ld4u(a + offset_of(XC_PKRU, map, compacted)) : 0;
        ftlb_flush(c); /* filled under the old rights */
    }
}

static bool xrstor(accel_cpu *c, const struct op *o, bool wide) {
    alignas(64) u8 a[AREA_MAX];
    u64 lin, rfbm;
    if (!xsave_begin(c, o, EXTENDED, ACC_R, &lin, &rfbm)) return false;
    if (!area_read(c, o, lin, a, HEADER, EXTENDED)) return false;
    if (!header_valid(c, a)) return gp(c);
    u64 comp = ld8u(a + HEADER + 8), load = ld8u(a + HEADER) & rfbm;
    bool compacted = comp & COMPACTED;
    u64 map = compacted ? comp & ~COMPACTED : load;
    bool mxcsr = compacted ? load & XC_SSE : rfbm & (XC_SSE | XC_AVX);
    if (load & XC_BEHIND) {
        unsigned end = size_of_area(load & XC_PKRU ? map : map & ~(u64)XC_PKRU, compacted);
        if (!op_linear(c, o, end, ACC_R, &lin) || !area_read(c, o, lin, a, EXTENDED, end)) return false;
    }
    if ((load & XC_X87) && (!area_read(c, o, lin, a, 0, 24) || !area_read(c, o, lin, a, 32, 160))) return false;
    if ((load & XC_SSE) && !area_read(c, o, lin, a, 160, xmm_end(c))) return false;
    if (mxcsr) {
        if (!area_read(c, o, lin, a, 24, 28)) return false;
        if (ld4u(a + 24) & ~(u32)MXCSR_MASK) return gp(c);
    }
    if (rfbm & XC_X87) restore_x87(c, a, load & XC_X87, wide);
    if (mxcsr) mxcsr_set(c, ld4u(a + 24));
    else if (compacted && (rfbm & XC_SSE)) mxcsr_set(c, 0x1f80);
    if (load & XC_SSE) get_xmm(c, a);
    else if (rfbm & XC_SSE)
        for (unsigned i = 0; i < (is_code64(c) ? 16u : 8u); i++) memset(c->v[i], 0, 16);
    restore_extended(c, a, rfbm, load, map, compacted);
    return true;
}
SLOW_HANDLER_END(h_xrstor_32_m) { (void)next; return xrstor(c, o, false); }
SLOW_HANDLER_END(h_xrstor_64_m) { (void)next; return xrstor(c, o, true); }
