/*
 * op_sse_move.c - SSE to SSE4.1 moves, blends of registers with memory, insert/extract, masked and non-temporal
 * stores (which are plain stores here), MXCSR.
 * Forms: VW = xmm, xmm/mem   WV = xmm/mem, xmm.
 */
#pragma GCC target("sse4.2")
#include "vec.h"

bool vec_read(accel_cpu *c, const struct op *o, void *buf, unsigned size, unsigned align) {
    u64 lin;
    if (!op_linear(c, o, size, ACC_R, &lin)) return false;
    if (lin & (align - 1)) return set_fault(c, EX_GP, true, 0);
    return mem_read(c, o, lin, buf, size);
}

bool vec_write(accel_cpu *c, const struct op *o, const void *buf, unsigned size, unsigned align) {
    u64 lin;
    if (!op_linear(c, o, size, ACC_W, &lin)) return false;
    if (lin & (align - 1)) return set_fault(c, EX_GP, true, 0);
    return mem_write(c, o, lin, buf, size);
}

/* ---- whole registers ---- */

VEC_FORMS(mova_VW, 16, 16, st16(d, ld16(s)))
VEC_FORMS(movu_VW, 16, 1, st16(d, ld16(s)))
HANDLER(h_mova_WV_r) { st16(c->v[o->rm], ld16(c->v[o->reg])); NEXT(c, o); }
VEC_STORE_HOT(mova_WV, 16, 16)
HANDLER(h_movu_WV_r) { st16(c->v[o->rm], ld16(c->v[o->reg])); NEXT(c, o); }
VEC_STORE_HOT(movu_WV, 16, 1)

/* ---- scalars: the register form merges, the load clears the rest ---- */

VEC_REG(movss_VW, st4u(d, ld4u(s)))
VEC_LOAD_HOT(movss_VW, 4, 1, st16(d, ld4(s)))
HANDLER(h_movss_WV_r) { st4u(c->v[o->rm], ld4u(c->v[o->reg])); NEXT(c, o); }
VEC_STORE_HOT(movss_WV, 4, 1)
VEC_REG(movsd_VW, st8u(d, ld8u(s)))
VEC_LOAD_HOT(movsd_VW, 8, 1, st16(d, ld8(s)))
HANDLER(h_movsd_WV_r) { st8u(c->v[o->rm], ld8u(c->v[o->reg])); NEXT(c, o); }
VEC_STORE_HOT(movsd_WV, 8, 1)

/* MOVQ clears the upper half in every form. */
VEC_FORMS(movq_VW, 8, 1, st16(d, ld8(s)))
HANDLER(h_movq_WV_r) { st16(c->v[o->rm], ld8(c->v[o->reg])); NEXT(c, o); }
VEC_STORE_HOT(movq_WV, 8, 1)

/* ---- halves ---- */

VEC_REG(movhlps, st8u(d, ld8u(s + 8)))
VEC_REG(movlhps, st8u(d + 8, ld8u(s)))
VEC_LOAD_HOT(movlp_VM, 8, 1, st8u(d, ld8u(s)))
VEC_LOAD_HOT(movhp_VM, 8, 1, st8u(d + 8, ld8u(s)))
VEC_STORE_HOT(movlp_MV, 8, 1)

#define MOVHP_FAST(form, ea) \
    HANDLER(h_movhp_MV_##form) { \
        u8 *p = fast_w(c, ea(c, o), 8); \
        if (unlikely(p == NULL)) return h_movhp_MV_m(c, o); \
        memcpy(p, c->v[o->reg] + 8, 8); \
        NEXT(c, o); \
    }
SLOW_HANDLER(h_movhp_MV_m) { return vec_write(c, o, c->v[o->reg] + 8, 8, 1); }
MOVHP_FAST(f, ea_f)
MOVHP_FAST(x, ea_x)

VEC_FORMS(movddup, 8, 1, vec b = ld8(s); st16(d, _mm_unpacklo_epi64(b, b)))
VEC_FORMS(movsldup, 16, 16, st16(d, _mm_shuffle_epi32(ld16(s), 0xa0)))
VEC_FORMS(movshdup, 16, 16, st16(d, _mm_shuffle_epi32(ld16(s), 0xf5)))

/* ---- general registers ---- */

#define MOVD_LOAD_FAST(N, form, ea) \
    HANDLER(h_movd_VE_##N##_##form) { \
        const u8 *p = fast_r(c, ea(c, o), N / 8); \
        if (unlikely(p == NULL)) return h_movd_VE_##N##_m(c, o); \
        U_##N v; \
        memcpy(&v, p, sizeof v); \
        st16(c->v[o->reg], _mm_cvtsi64_si128((s64)(u64)v)); \
        NEXT(c, o); \
    }
#define MOVD_STORE_FAST(N, form, ea) \
    HANDLER(h_movd_EV_##N##_##form) { \
        u8 *p = fast_w(c, ea(c, o), N / 8); \
        if (unlikely(p == NULL)) return h_movd_EV_##N##_m(c, o); \
        memcpy(p, c->v[o->reg], N / 8); \
        NEXT(c, o); \
    }
#define MOVD(N) \
    HANDLER(h_movd_VE_##N##_r) { \
        st16(c->v[o->reg], _mm_cvtsi64_si128((s64)(u64)get_##N(c, o->rm))); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_movd_VE_##N##_m) { \
        U_##N v; \
        if (!rd_##N(c, o, &v)) return false; \
        st16(c->v[o->reg], _mm_cvtsi64_si128((s64)(u64)v)); \
        return true; \
    } \
    MOVD_LOAD_FAST(N, f, ea_f) \
    MOVD_LOAD_FAST(N, x, ea_x) \
    HANDLER(h_movd_EV_##N##_r) { put_##N(c, o->rm, (U_##N)ld8u(c->v[o->reg])); NEXT(c, o); } \
    SLOW_HANDLER(h_movd_EV_##N##_m) { return vec_write(c, o, c->v[o->reg], N / 8, 1); } \
    MOVD_STORE_FAST(N, f, ea_f) \
    MOVD_STORE_FAST(N, x, ea_x)
MOVD(32)
MOVD(64)

HANDLER(h_movmskps_r) {
    put_64(c, o->reg, (u32)_mm_movemask_ps(_mm_castsi128_ps(ld16(c->v[o->rm]))));
    NEXT(c, o);
}
HANDLER(h_movmskpd_r) {
    put_64(c, o->reg, (u32)_mm_movemask_pd(_mm_castsi128_pd(ld16(c->v[o->rm]))));
    NEXT(c, o);
}
HANDLER(h_pmovmskb_r) {
    put_64(c, o->reg, (u32)_mm_movemask_epi8(ld16(c->v[o->rm])));
    NEXT(c, o);
}

/* ---- insert and extract ---- */

HANDLER(h_pinsrw_r) {
    u16 v = (u16)c->r[o->rm];
    memcpy(c->v[o->reg] + 2 * (o->imm & 7), &v, 2);
    NEXT(c, o);
}
SLOW_HANDLER(h_pinsrw_m) {
    u16 v;
    if (!rd_16(c, o, &v)) return false;
    memcpy(c->v[o->reg] + 2 * (o->imm & 7), &v, 2);
    return true;
}
HANDLER(h_pinsrb_r) { c->v[o->reg][o->imm & 15] = (u8)c->r[o->rm]; NEXT(c, o); }
SLOW_HANDLER(h_pinsrb_m) {
    u8 v;
    if (!rd_8(c, o, &v)) return false;
    c->v[o->reg][o->imm & 15] = v;
    return true;
}
#define PINSR(N) \
    HANDLER(h_pinsr_##N##_r) { \
        U_##N v = get_##N(c, o->rm); \
        memcpy(c->v[o->reg] + ((o->imm * (N / 8)) & 15), &v, N / 8); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_pinsr_##N##_m) { \
        U_##N v; \
        if (!rd_##N(c, o, &v)) return false; \
        memcpy(c->v[o->reg] + ((o->imm * (N / 8)) & 15), &v, N / 8); \
        return true; \
    }
PINSR(32)
PINSR(64)

/* PEXTRW of SSE2 (0F C5) names its source with ModRM.rm, the SSE4.1 one (0F 3A 15) its destination. */
HANDLER(h_pextrw_GU_r) { put_64(c, o->reg, ld2u(c->v[o->rm] + 2 * (o->imm & 7))); NEXT(c, o); }
HANDLER(h_pextrw_r) { put_64(c, o->rm, ld2u(c->v[o->reg] + 2 * (o->imm & 7))); NEXT(c, o); }
SLOW_HANDLER(h_pextrw_m) { return vec_write(c, o, c->v[o->reg] + 2 * (o->imm & 7), 2, 1); }
HANDLER(h_pextrb_r) { put_64(c, o->rm, c->v[o->reg][o->imm & 15]); NEXT(c, o); }
SLOW_HANDLER(h_pextrb_m) { return vec_write(c, o, c->v[o->reg] + (o->imm & 15), 1, 1); }
HANDLER(h_pextr_32_r) { put_64(c, o->rm, ld4u(c->v[o->reg] + 4 * (o->imm & 3))); NEXT(c, o); }
SLOW_HANDLER(h_pextr_32_m) { return vec_write(c, o, c->v[o->reg] + 4 * (o->imm & 3), 4, 1); }
HANDLER(h_pextr_64_r) { put_64(c, o->rm, ld8u(c->v[o->reg] + 8 * (o->imm & 1))); NEXT(c, o); }
SLOW_HANDLER(h_pextr_64_m) { return vec_write(c, o, c->v[o->reg] + 8 * (o->imm & 1), 8, 1); }

/* INSERTPS: source lane imm[7:6] (register form), destination lane imm[5:4], lanes in imm[3:0] cleared. */
static void insert_ps(u8 *d, u32 v, unsigned imm) {
    st4u(d + 4 * ((imm >> 4) & 3), v);
    for (unsigned i = 0; i < 4; i++)
        if (imm & (1u << i)) st4u(d + 4 * i, 0);
}
HANDLER(h_insertps_r) {
    insert_ps(c->v[o->reg], ld4u(c->v[o->rm] + 4 * ((o->imm >> 6) & 3)), (unsigned)o->imm);
    NEXT(c, o);
}
SLOW_HANDLER(h_insertps_m) {
    u32 v;
    if (!rd_32(c, o, &v)) return false;
    insert_ps(c->v[o->reg], v, (unsigned)o->imm);
    return true;
}

/* ---- masked store ----
 * Bytes with a clear mask bit are neither written nor translated (SDM vol. 2, MASKMOVDQU leaves faults of an all-zero
 * mask to the implementation). The destination is DS:rDI with a segment override; nothing is written before every
 * byte has been probed. Full 8-byte halves go out as one access, so that a device sees at most 14 of them. */
bool vec_masked_store(accel_cpu *c, const struct op *o, const u8 *data, const u8 *mask, unsigned size) {
    u64 lin[16], m = OP_ASZ(o) == SZ64 ? ~0ull : OP_ASZ(o) == SZ32 ? 0xffffffffull : 0xffffull;
    for (unsigned i = 0; i < size; i++) {
        if (!(mask[i] & 0x80)) continue;
        if (!seg_linear(c, o->seg, (c->r[R_RDI] + i) & m, 1, ACC_W, &lin[i])) return false;
        if (!mem_probe_write(c, o, lin[i], 1)) return false;
    }
    for (unsigned i = 0; i < size;) {
        bool whole = !(i & 7) && (ld8u(mask + i) & 0x8080808080808080ull) == 0x8080808080808080ull && lin[i + 7] == lin[i] + 7 &&
                     !((c->key & K_AC) && (lin[i] & 7));
        unsigned n = whole ? 8 : 1;
        if ((mask[i] & 0x80) && !mem_write(c, o, lin[i], data + i, n)) return false;
        i += n;
    }
    return true;
}
SLOW_HANDLER(h_maskmovdqu_r) { return vec_masked_store(c, o, c->v[o->reg], c->v[o->rm], 16); }

/* ---- MXCSR ---- */

SLOW_HANDLER(h_ldmxcsr_m) {
    u32 v;
    if (!rd_32(c, o, &v)) return false;
    if (v & ~(u32)MXCSR_MASK) return set_fault(c, EX_GP, true, 0);
    mxcsr_set(c, v);
    return true;
}
SLOW_HANDLER(h_stmxcsr_m) { return wr_32(c, o, mxcsr_get(c)); }
