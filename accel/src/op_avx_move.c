/*
 * op_avx_move.c - moves, inserts, masked moves, gathers and string compares of AVX and AVX2.
 * Forms: VW = register from r/m   WV = r/m from register   VHW, VHM: with a second source in VEX.vvvv.
 */
#pragma GCC target("sse4.2")
#include "avx.h"

/* ---- whole registers ---- */

AVX_RUN(vmova_VW, st16(d, ld16(s)))
AVX_REG(vmova_VW)
AVX_HOT(vmova_VW, avx_width(o), avx_width(o))
AVX_FORMS(vmovu_VW, st16(d, ld16(s)))

#define AVX_STORE_FAST(name, form, ea, align) \
    HANDLER(h_##name##_##form) { \
        u64 lin = ea(c, o); \
        u8 *p = fast_w(c, lin, avx_width(o)); \
        if (unlikely(p == NULL || (lin & ((align) - 1)))) return h_##name##_m(c, o); \
        const u8 *s = c->v[o->reg]; \
        st16(p, ld16(s)); \
        if (OP_L(o)) st16(p + 16, ld16(s + 16)); \
        NEXT(c, o); \
    }
#define AVX_STORE(name, align) \
    HANDLER(h_##name##_r) { \
        u8 *d = c->v[o->rm]; \
        const u8 *s = c->v[o->reg]; \
        vec lo = ld16(s), hi = OP_L(o) ? ld16(s + 16) : _mm_setzero_si128(); \
        st16(d, lo); \
        st16(d + 16, hi); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_m) { return vec_write(c, o, c->v[o->reg], avx_width(o), align); } \
    AVX_STORE_FAST(name, f, ea_f, align) \
    AVX_STORE_FAST(name, x, ea_x, align)
AVX_STORE(vmova_WV, avx_width(o))
AVX_STORE(vmovu_WV, 1)

/* ---- scalars and halves ---- */

#define WHOLE_M(name, width, statement) AVX_WHOLE(name, statement) AVX_HOT(name, width, 1)
#define WHOLE_R(name, statement) AVX_WHOLE(name##_reg, statement) \
    HANDLER(h_##name##_r) { run_##name##_reg(c, o, c->v[o->rm]); NEXT(c, o); }

WHOLE_R(vmovss_VHW, u32 v = ld4u(s); st16z(d, ld16(p)); st4u(d, v))
WHOLE_M(vmovss_VHW, 4, st16z(d, ld4(s)))
WHOLE_R(vmovsd_VHW, u64 v = ld8u(s); st16z(d, ld16(p)); st8u(d, v))
WHOLE_M(vmovsd_VHW, 8, st16z(d, ld8(s)))
/* The store form between registers has its destination in ModRM.rm. */
HANDLER(h_vmovss_WHV_r) {
    u32 v = ld4u(c->v[o->reg]);
    st16z(c->v[o->rm], ld16(c->v[o->vvvv]));
    st4u(c->v[o->rm], v);
    NEXT(c, o);
}
HANDLER(h_vmovsd_WHV_r) {
    u64 v = ld8u(c->v[o->reg]);
    st16z(c->v[o->rm], ld16(c->v[o->vvvv]));
    st8u(c->v[o->rm], v);
    NEXT(c, o);
}
WHOLE_R(vmovq_VW, st16z(d, ld8(s)))
WHOLE_M(vmovq_VW, 8, st16z(d, ld8(s)))
HANDLER(h_vmovq_WV_r) { st16z(c->v[o->rm], ld8(c->v[o->reg])); NEXT(c, o); }

WHOLE_R(vmovhlps, u64 v = ld8u(s + 8); st16z(d, ld16(p)); st8u(d, v))
WHOLE_R(vmovlhps, u64 v = ld8u(s); st16z(d, ld16(p)); st8u(d + 8, v))
WHOLE_M(vmovlp_VHM, 8, u64 v = ld8u(s); st16z(d, ld16(p)); st8u(d, v))
WHOLE_M(vmovhp_VHM, 8, u64 v = ld8u(s); st16z(d, ld16(p)); st8u(d + 8, v))

AVX_WHOLE(vmovddup, vec lo = ld8(s); vec hi = OP_L(o) ? ld8(s + 16) : _mm_setzero_si128();
          st16(d, _mm_unpacklo_epi64(lo, lo)); st16(d + 16, _mm_unpacklo_epi64(hi, hi)))
AVX_REG(vmovddup)
AVX_HOT(vmovddup, OP_L(o) ? 32 : 8, 1)
AVX_FORMS(vmovsldup, st16(d, _mm_shuffle_epi32(ld16(s), 0xa0)))
AVX_FORMS(vmovshdup, st16(d, _mm_shuffle_epi32(ld16(s), 0xf5)))

/* ---- general registers ---- */

#define VMOVD(N) \
    HANDLER(h_vmovd_VE_##N##_r) { \
        st16z(c->v[o->reg], _mm_cvtsi64_si128((s64)(u64)get_##N(c, o->rm))); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_vmovd_VE_##N##_m) { \
        U_##N v; \
        if (!rd_##N(c, o, &v)) return false; \
        st16z(c->v[o->reg], _mm_cvtsi64_si128((s64)(u64)v)); \
        return true; \
    }
VMOVD(32)
VMOVD(64)

#define SIGNS(name, low, high, shift) \
    HANDLER(h_##name##_r) { \
        const u8 *s = c->v[o->rm]; \
        u32 v = (u32)(low); \
        if (OP_L(o)) v |= (u32)(high) << (shift); \
        put_64(c, o->reg, v); \
        NEXT(c, o); \
    }
SIGNS(vmovmskps, _mm_movemask_ps(_mm_castsi128_ps(ld16(s))), _mm_movemask_ps(_mm_castsi128_ps(ld16(s + 16))), 4)
SIGNS(vmovmskpd, _mm_movemask_pd(_mm_castsi128_pd(ld16(s))), _mm_movemask_pd(_mm_castsi128_pd(ld16(s + 16))), 2)
SIGNS(vpmovmskb, _mm_movemask_epi8(ld16(s)), _mm_movemask_epi8(ld16(s + 16)), 16)

static void insert(accel_cpu *c, const struct op *o, u64 v, unsigned size) {
    u8 *d = c->v[o->reg];
    st16z(d, ld16(c->v[o->vvvv]));
    memcpy(d + (o->imm * size & 15), &v, size);
}
#define VPINSR(name, N) \
    SLOW_HANDLER(h_##name##_r) { insert(c, o, c->r[o->rm], N / 8); return true; } \
    SLOW_HANDLER(h_##name##_m) { \
        U_##N v; \
        if (!rd_##N(c, o, &v)) return false; \
        insert(c, o, v, N / 8); \
        return true; \
    }
VPINSR(vpinsrb, 8)
VPINSR(vpinsrw, 16)
VPINSR(vpinsr_32, 32)
VPINSR(vpinsr_64, 64)

static void insert_ps(accel_cpu *c, const struct op *o, u32 v) {
    u8 *d = c->v[o->reg];
    st16z(d, ld16(c->v[o->vvvv]));
    st4u(d + (o->imm >> 4 & 3) * 4, v);
    for (unsigned i = 0; i < 4; i++)
        if (o->imm >> i & 1) st4u(d + 4 * i, 0);
}
SLOW_HANDLER(h_vinsertps_r) { insert_ps(c, o, ld4u(c->v[o->rm] + (o->imm >> 6 & 3) * 4)); return true; }
SLOW_HANDLER(h_vinsertps_m) {
    u32 v;
    if (!rd_32(c, o, &v)) return false;
    insert_ps(c, o, v);
    return true;
}

/* ---- VZEROUPPER, VZEROALL: registers 0-7 outside 64-bit mode ---- */

SLOW_HANDLER(h_vzero) {
    for (unsigned i = 0; i < (is_code64(c) ? 16u : 8u); i++) {
        if (OP_L(o)) memset(c->v[i], 0, 32);
        else clear_high(c->v[i]);
    }
    return true;
}

/* ---- masked moves: an element takes part when the sign bit of its mask is set; the others are not translated ---- */

static bool element_set(const u8 *mask, unsigned i, unsigned size) { return mask[(i + 1) * size - 1] & 0x80; }

static bool element_linear(accel_cpu *c, const struct op *o, u64 ea, unsigned size, int acc, u64 *lin) {
    u64 m = OP_ASZ(o) == SZ64 ? ~0ull : OP_ASZ(o) == SZ32 ? 0xffffffffull : 0xffffull;
    return seg_linear(c, o->seg, ea & m, size, acc, lin);
}

/* Masked moves and gathers never raise #AC (SDM vol. 2, exception class 6; VGATHERDPS, "This instruction does not
 * perform AC checks"). */
#define WITHOUT_AC(access) ({ \
    u32 key = c->key; \
    c->key &= ~(u32)K_AC; \
    bool ok_ = (access); \
    c->key = key; \
    ok_; })
static bool element_read(accel_cpu *c, const struct op *o, u64 lin, u8 *to, unsigned size) {
    return WITHOUT_AC(mem_read(c, o, lin, to, size));
}
static bool element_probe(accel_cpu *c, const struct op *o, u64 lin, unsigned size) {
    return WITHOUT_AC(mem_probe_write(c, o, lin, size));
}
static bool element_write(accel_cpu *c, const struct op *o, u64 lin, const u8 *from, unsigned size) {
    return WITHOUT_AC(mem_write(c, o, lin, from, size));
}

static bool masked_load(accel_cpu *c, const struct op *o, unsigned size) {
    u8 r[32] = {0};
    const u8 *mask = c->v[o->vvvv];
    u64 ea = op_ea(c, o), lin;
    for (unsigned i = 0; i < avx_width(o) / size; i++) {
        if (!element_set(mask, i, size)) continue;
        if (!element_linear(c, o, ea + i * size, size, ACC_R, &lin) || !element_read(c, o, lin, r + i * size, size)) return false;
    }
    memcpy(c->v[o->reg], r, 32);
    return true;
}
static bool masked_store(accel_cpu *c, const struct op *o, unsigned size) {
    const u8 *mask = c->v[o->vvvv], *s = c->v[o->reg];
    u64 ea = op_ea(c, o), lin[8];
    unsigned n = avx_width(o) / size;
    for (unsigned i = 0; i < n; i++) {
        if (!element_set(mask, i, size)) continue;
        if (!element_linear(c, o, ea + i * size, size, ACC_W, &lin[i]) || !element_probe(c, o, lin[i], size)) return false;
    }
    for (unsigned i = 0; i < n; i++)
        if (element_set(mask, i, size) && !element_write(c, o, lin[i], s + i * size, size)) return false;
    return true;
}
SLOW_HANDLER(h_vmaskmov32_VM_m) { return masked_load(c, o, 4); }
SLOW_HANDLER(h_vmaskmov64_VM_m) { return masked_load(c, o, 8); }
SLOW_HANDLER(h_vmaskmov32_MV_m) { return masked_store(c, o, 4); }
SLOW_HANDLER(h_vmaskmov64_MV_m) { return masked_store(c, o, 8); }

/* ---- gathers ----
 * Elements are loaded from the lowest on. A fault leaves the elements before it loaded with their mask bits clear (SDM
 * vol. 2, VGATHERDPS). The index register is o->index; the base register and displacement are plain. */

static bool gather(accel_cpu *c, const struct op *o, unsigned index_size, unsigned size) {
    u8 *d = c->v[o->reg], *mask = c->v[o->vvvv];
    u8 r[32], m[32];
    if (o->index > 15 || OP_ASZ(o) == SZ16) return set_fault(c, EX_UD, false, 0); /* no VSIB */
    if (o->reg == o->vvvv || o->reg == o->index || o->vvvv == o->index) return set_fault(c, EX_UD, false, 0);
    unsigned n = avx_width(o) / (index_size > size ? index_size : size), used = n * size, i;
    memcpy(r, d, 32);
    for (i = 0; i < 32; i++) m[i] = i < used && element_set(mask, i / size, size) ? 0xff : 0;
    bool ok = true;
    for (i = 0; i < n && ok; i++) {
        if (!m[i * size]) continue;
        const u8 *at = c->v[o->index] + i * index_size;
        u64 index = index_size == 4 ? (u64)(s64)(s32)ld4u(at) : ld8u(at), lin;
        u64 ea = c->r[o->base] + (index << o->scale) + (u64)(s64)o->disp;
        ok = element_linear(c, o, ea, size, ACC_R, &lin) && element_read(c, o, lin, r + i * size, size);
        if (ok) memset(m + i * size, 0, size);
    }
    if (!ok && c->fault.vector == FAULT_EXIT) return false;
    if (ok && used < 32) memset(r + used, 0, 32 - used);
    memcpy(d, r, 32);
    memcpy(mask, m, 32);
    return ok;
}
SLOW_HANDLER(h_vgather_d32_m) { return gather(c, o, 4, 4); }
SLOW_HANDLER(h_vgather_d64_m) { return gather(c, o, 4, 8); }
SLOW_HANDLER(h_vgather_q32_m) { return gather(c, o, 8, 4); }
SLOW_HANDLER(h_vgather_q64_m) { return gather(c, o, 8, 8); }
