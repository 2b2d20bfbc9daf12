/*
 * generate.c - makes random cases of one row: an encoding, register values at the extremes, operands in the data pages.
 *
 * The memory operand is chosen first and the address registers are solved for it. Some addresses are meant to fault:
 * unmapped, read-only, over a page edge, not canonical.
 */
#include "oracle.h"

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled") */
u64 rng_next(struct rng *r) {
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dull;
}

static u32 below(struct rng *r, u32 n) { return (u32)((rng_next(r) >> 32) * n >> 32); }
static bool chance(struct rng *r, u32 percent) { return below(r, 100) < percent; }

/* ---- values ------------------------------------------------------------------------------------------------ */

static u64 value(struct rng *r) {
    static const u64 edges[] = {0, 1, 2, ~0ull, ~1ull, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
                                0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffff80000000, 0xffffffffffff8000,
                                0xffffffffffffff80, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x8080808080808080, 0x9999999999999999};
    switch (below(r, 6)) {
    case 0: case 1: return edges[below(r, sizeof edges / sizeof *edges)];
    case 2: return 1ull << below(r, 64);
    case 3: return (1ull << below(r, 64)) - 1;
    case 4: return below(r, 256);
    default: return rng_next(r);
    }
}

static u32 float32(struct rng *r) {
    static const u32 edges[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0xffa00000,
                                1, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000,
                                0xdf000000, 0x3f000000, 0x3effffff, 0x40200000, 0x33800000, 0x4b000001};
    if (chance(r, 50)) return edges[below(r, sizeof edges / sizeof *edges)];
    u32 v = (u32)rng_next(r);
    if (chance(r, 20)) return (v & 0xff800000) | (v & 7) << below(r, 21); /* few bits, any magnitude */
    return chance(r, 60) ? (v & 0x807fffff) | (0x70 + below(r, 0x20)) << 23 : v;
}

static u64 float64(struct rng *r) {
    static const u64 edges[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
                                0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000001, 0xfff4000000000000, 1, 0x8000000000000001,
                                0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0xffefffffffffffff, 0x41dfffffffc00000,
                                0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000, 0x43e0000000000000, 0xc3e0000000000000,
                                0x3fe0000000000000, 0x3fdfffffffffffff, 0x4004000000000000, 0x47efffffe0000000, 0x47effffff0000000,
                                0x36a0000000000000, 0x3690000000000000, 0x380fffffffffffff};
    if (chance(r, 50)) return edges[below(r, sizeof edges / sizeof *edges)];
    u64 v = rng_next(r);
    if (chance(r, 20)) return (v & 0xfff0000000000000) | (v & 7) << below(r, 50);
    return chance(r, 60) ? (v & 0x800fffffffffffff) | (u64)(0x3f0 + below(r, 0x20)) << 52 : v;
}

static void float80(struct rng *r, u8 *to) {
    static const u64 mantissas[] = {0x8000000000000000, 0xc000000000000000, 0xffffffffffffffff, 0x8000000000000001, 0xa000000000000000,
                                    0, 1, 0x4000000000000000, 0x7fffffffffffffff, 0xfffffffffffff800, 0xffffffff00000000, 0xc90fdaa22168c235};
    static const u16 exponents[] = {0, 1, 0x3fff, 0x3ffe, 0x4000, 0x7fff, 0x7ffe, 0x401e, 0x403e, 0x403d, 0x3fbf, 0x3c01, 0x43fe, 0x3f81, 0x407e};
    u64 m = chance(r, 60) ? mantissas[below(r, 12)] : rng_next(r) | (chance(r, 90) ? 1ull << 63 : 0);
    u16 e = chance(r, 50) ? exponents[below(r, 15)] : chance(r, 60) ? (u16)(0x3ff0 + below(r, 0x60)) : (u16)(rng_next(r) & 0x7fff);
    if (chance(r, 80)) { /* what an x87 would produce itself */
        if (e == 0) m = chance(r, 50) ? 0 : m & ~(1ull << 63);
        else m |= 1ull << 63;
    }
    if (chance(r, 50)) e |= 0x8000;
    memcpy(to, &m, 8);
    memcpy(to + 8, &e, 2);
}

/* Elements of one kind side by side. */
static void fill(struct rng *r, u8 *to, unsigned size) {
    unsigned kind = below(r, 9);
    for (unsigned at = 0; at < size;) {
        u64 v = value(r);
        unsigned step = 8;
        u8 ten[16] = {0};
        memcpy(ten, &v, 8);
        switch (kind) {
        case 0: step = 1; break;
        case 1: step = 2; break;
        case 2: step = 4; break;
        case 3: case 4: step = 4, v = float32(r), memcpy(ten, &v, 8); break;
        case 5: case 6: v = float64(r), memcpy(ten, &v, 8); break;
        case 7: step = 10, float80(r, ten); break;
        default: break;
        }
        unsigned n = step < size - at ? step : size - at;
        memcpy(to + at, ten, n);
        at += n;
    }
}

/* ---- state ---------------------------------------------------------------------------------------------------- */

static void fill_x87(struct rng *r, struct state *s) {
    s->fcw = chance(r, 40) ? 0x37f : (u16)((rng_next(r) & 0xf00) | 0x40 | (chance(r, 85) ? 0x3f : rng_next(r) & 0x3f));
    s->fsw = (u16)(below(r, 8) << 11 | (rng_next(r) & 0x4700));
    if (chance(r, 30)) s->fsw |= rng_next(r) & 0x7f;
    bool pending = s->fsw & ~s->fcw & 0x3f;
    if (pending && chance(r, 80)) s->fsw &= ~0x3f, pending = false;
    if (pending) s->fsw |= 0x8080;
    s->ftw = chance(r, 50) ? 0xff : chance(r, 50) ? (u8)rng_next(r) : 0;
    for (int i = 0; i < 8; i++) float80(r, s->st[i]);
}

static void fill_state(struct rng *r, const struct row_spec *spec, struct state *s) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 16; i++) s->gpr[i] = value(r);
    s->flags = (rng_next(r) & FL_ARITH) | (chance(r, 15) ? FL_DF : 0) | (chance(r, 5) ? FL_AC : 0);
    s->mxcsr = 0x1f80;
    s->fcw = 0x37f;
    if (spec->attrs & AT_VEC) {
        if (chance(r, 50)) s->mxcsr = (u32)(rng_next(r) & 0xe07f) | 0x1f80;
        if (chance(r, 20)) s->mxcsr = (u32)(rng_next(r) & 0xffff);
    }
    if (spec->attrs & (AT_VEC | AT_MMX | AT_SAVE))
        for (int i = 0; i < 16; i++) fill(r, s->ymm[i], 32);
    if (spec->attrs & (AT_X87 | AT_MMX | AT_SAVE)) fill_x87(r, s);
}

/* ---- addresses -------------------------------------------------------------------------------------------------- */

/* Where an operand goes: mostly inside the data pages. */
static u64 target(struct rng *r, const struct row_spec *spec, u8 bits) {
    u32 edge = below(r, 72);
    switch (below(r, 40)) {
    case 0: return DATA_AT + PAGE - edge;         /* over the edge between the pages */
    case 1: return RONLY_AT - edge;               /* into the read-only page */
    case 2: return DATA_AT - edge;                /* from unmapped into mapped */
    case 3: return RONLY_AT + PAGE - edge;        /* out of everything */
    case 4: return RONLY_AT + 64 * below(r, 63);
    case 5: return bits == 64 && chance(r, 40) ? (rng_next(r) >> 1) | 1ull << 62 : DATA_AT + 0x8000 + below(r, PAGE);
    case 6: case 7: case 8: case 9: return DATA_AT + 64 + below(r, DATA_SIZE - 256);
    default: return DATA_AT + 64 * (1 + below(r, (spec->attrs & AT_SAVE) ? 64 : 120));
    }
}

static void patch_at(struct rng *r, struct oracle_case *k, int n, u64 linear) {
    u64 at = linear - DATA_AT - 16;
    if (linear < DATA_AT + 16 || at >= DATA_SIZE - sizeof k->patch[n].bytes) return;
    k->patch[n].at = (u16)at;
    k->patch[n].size = sizeof k->patch[n].bytes;
    fill(r, k->patch[n].bytes, 16);
    fill(r, k->patch[n].bytes + 16, sizeof k->patch[n].bytes - 16);
}

/* ---- encodings ---------------------------------------------------------------------------------------------------- */

struct writer { u8 *p; unsigned n; };
static void put(struct writer *w, u64 v, unsigned size) {
    for (unsigned i = 0; i < size; i++) w->p[w->n++] = (u8)(v >> (8 * i));
}

struct memory { bool present, rip_relative; unsigned base, index, scale, disp_size, disp_at; u64 goal, segment; bool has_base, has_index; s64 disp; };

static unsigned immediate_size(const struct row_spec *spec, bool opsize16, bool wide, unsigned asz) {
    switch (spec->imm[0]) {
    case 'b': case 'j': return 1;
    case 'w': return 2;
    case 'z': case 'J': return opsize16 && !((spec->attrs & AT_F64) && spec->bits == 64) ? 2 : 4;
    case 'v': return wide ? 8 : opsize16 ? 2 : 4;
    case 'B': return 3;
    case 'A': return opsize16 ? 4 : 6;
    case 'O': return asz;
    default: return 0;
    }
}

/* ModRM, SIB and displacement of a memory operand; which registers it needs is kept in m. */
static void put_memory(struct rng *r, const struct row_spec *spec, struct writer *w, unsigned reg, u8 rex, u8 bits, struct memory *m) {
    bool wide = bits == 64;
    unsigned mod = below(r, 3), rm = below(r, 8);
    if (spec->attrs & AT_VSIB) rm = 4;
    u8 modrm = (u8)(mod << 6 | (reg & 7) << 3 | rm);
    put(w, modrm, 1);
    m->present = true;
    m->disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        u8 sib = (u8)rng_next(r);
        put(w, sib, 1);
        m->scale = sib >> 6;
        m->index = ((sib >> 3) & 7) | (rex & 2 ? 8 : 0);
        m->has_index = m->index != 4 || (spec->attrs & AT_VSIB);
        m->base = (sib & 7) | (rex & 1 ? 8 : 0);
        m->has_base = !((sib & 7) == 5 && mod == 0);
        if (!m->has_base) m->disp_size = 4;
    } else if (rm == 5 && mod == 0) {
        m->disp_size = 4;
        m->rip_relative = wide;
    } else {
        m->has_base = true;
        m->base = rm | (rex & 1 ? 8 : 0);
    }
    m->disp_at = w->n;
    m->disp = m->disp_size == 1 ? (s64)(int8_t)rng_next(r) : (s64)(int32_t)(chance(r, 50) ? rng_next(r) : below(r, 512));
    if (!m->disp_size) m->disp = 0;
    w->n += m->disp_size;
}

/* Chooses register values (and the displacement where it must be) so that the operand lies at m->goal. */
static void solve(struct rng *r, struct oracle_case *k, struct memory *m, u64 next_rip, bool vsib) {
    u64 *g = k->in.gpr;
    u64 goal = m->goal - m->segment;
    if (m->rip_relative) {
        m->disp = (s64)(goal - next_rip);
        if (m->disp != (int32_t)m->disp) m->disp = (s64)(DATA_AT - next_rip);
        return;
    }
    bool index = m->has_index && !vsib;
    if (index && m->has_base && m->base == m->index) {
        g[m->base] = (goal - (u64)m->disp) / (1 + (1ull << m->scale));
        return;
    }
    if (m->has_base) {
        u64 part = index ? g[m->index] << m->scale : 0;
        g[m->base] = goal - part - (u64)m->disp;
        return;
    }
    if (index) {
        g[m->index] = chance(r, 50) ? below(r, 256) : (u64)-(s64)below(r, 256);
        m->disp = (s64)(goal - (g[m->index] << m->scale));
    } else {
        m->disp = (s64)goal;
    }
    if (m->disp != (int32_t)m->disp) m->disp = (s64)DATA_AT;
}

static bool named(const struct row_spec *spec, const char *const *names) {
    size_t n = strcspn(spec->name, " ");
    for (; *names; names++)
        if (strlen(*names) == n && !memcmp(*names, spec->name, n)) return true;
    return false;
}

/* Registers that an instruction uses as addresses without naming them in ModRM. */
static void implicit(struct rng *r, const struct row_spec *spec, struct oracle_case *k, const struct memory *m) {
    static const char *const strings[] = {"MOVS", "CMPS", "SCAS", "LODS", "STOS", "MASKMOVQ", "MASKMOVDQU", "VMASKMOVDQU", NULL};
    static const char *const frames[] = {"LEAVE", "ENTER", NULL};
    u64 *g = k->in.gpr;
    bool rsp_taken = (m->has_base && m->base == 4), rbp_taken = (m->has_base && m->base == 5) || (m->has_index && m->index == 5);
    if (named(spec, strings)) {
        g[6] = target(r, spec, 64);
        g[7] = chance(r, 20) ? g[6] + below(r, 17) - 8 : target(r, spec, 64);
        if (chance(r, 80)) g[1] = below(r, 4);
        patch_at(r, k, 0, g[6]);
        patch_at(r, k, 1, g[7]);
    }
    if (!strncmp(spec->name, "XLAT", 4)) g[3] = target(r, spec, 64) - (g[0] & 0xff);
    if (!rsp_taken && chance(r, 95)) {
        g[4] = target(r, spec, k->bits);
        patch_at(r, k, 2, g[4]);
    }
    if (!rbp_taken && named(spec, frames)) g[5] = target(r, spec, k->bits);
}

static bool addresses(const struct memory *m, unsigned n) { return (m->has_base && m->base == n) || (m->has_index && m->index == n); }

/* Comparands that are equal now and then. */
static void relate(struct rng *r, const struct row_spec *spec, struct oracle_case *k, const struct memory *m, bool wide) {
    static const char *const pairs[] = {"CMPXCHG8B", "CMPXCHG16B", NULL};
    static const char *const exchange[] = {"CMPXCHG", NULL};
    static const char *const bits[] = {"BT", "BTS", "BTR", "BTC", NULL};
    u64 *g = k->in.gpr;
    u64 seen[2] = {0, 0};
    if (k->patch[0].size) memcpy(seen, k->patch[0].bytes + 16, 16);
    if (named(spec, pairs) && chance(r, 50) && !addresses(m, 0) && !addresses(m, 2)) {
        g[0] = wide ? seen[0] : (u32)seen[0];
        g[2] = wide ? seen[1] : seen[0] >> 32;
    }
    if (named(spec, exchange) && chance(r, 50) && !addresses(m, 0)) g[0] = seen[0];
    if (named(spec, bits) && m->present && spec->ext < 0) {
        /* the bit number reaches beyond the operand: keep it within the pages */
        for (int i = 0; i < 16; i++)
            if (!addresses(m, (unsigned)i) && i != 4 && chance(r, 85))
                g[i] = chance(r, 50) ? below(r, 128) : (u64)(s64)((int)below(r, 8192) - 4096);
    }
}

void generate(struct rng *r, const struct row_spec *spec, struct oracle_case *k) {
    memset(k, 0, sizeof *k);
    k->row = (u32)spec->number;
    k->bits = spec->bits;
    bool wide_mode = spec->bits == 64;
    fill_state(r, spec, &k->in);
    struct writer w = {k->bytes, 0};
    struct memory m = {0};
    bool vex = spec->map >= 4;
    bool memory = spec->modrm == '/' && (spec->mod == 1 || (spec->mod == 0 && chance(r, 60)));
    /* near branches with 66 in 64-bit mode: Intel ignores it, AMD does not */
    bool no_opsize = wide_mode && (spec->attrs & AT_F64);
    bool opsize = !vex && (spec->prefix == 2 || (spec->prefix == 0 && !no_opsize && chance(r, 22)));
    bool adsize = (memory || (spec->attrs & AT_REP) || spec->imm[0] == 'O') ? chance(r, wide_mode ? 7 : 0) : chance(r, 1);
    u8 rex = 0;
    if (wide_mode && chance(r, vex ? 100 : 55)) rex = 0x40 | (rng_next(r) & 15);
    if (spec->attrs & AT_W0) rex &= ~8;
    if (spec->attrs & AT_W1) rex |= 0x48;
    bool use_seg = memory ? chance(r, 8) : chance(r, 1);
    if (use_seg) {
        static const u8 segs[] = {0x64, 0x65, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e};
        u8 seg = segs[below(r, wide_mode ? 8 : 0) + (wide_mode ? 0 : 4 + below(r, 4))];
        put(&w, seg, 1);
        if (wide_mode) {
            k->in.fs_base = chance(r, 80) ? DATA_AT - below(r, 4096) : rng_next(r) >> 18;
            k->in.gs_base = chance(r, 80) ? DATA_AT + below(r, 4096) : rng_next(r) >> 18;
            m.segment = seg == 0x64 ? k->in.fs_base : seg == 0x65 ? k->in.gs_base : 0;
        }
    }
    if (opsize) put(&w, 0x66, 1);
    if (adsize) put(&w, 0x67, 1);
    if (spec->prefix == 3 && !vex) put(&w, 0xf3, 1);
    if (spec->prefix == 4 && !vex) put(&w, 0xf2, 1);
    if (spec->prefix == 0 && (spec->attrs & AT_REP) && chance(r, 50)) put(&w, 0xf2 + below(r, 2), 1);
    if ((spec->attrs & AT_LOCK) && memory ? chance(r, 20) : chance(r, 1)) put(&w, 0xf0, 1);
    unsigned reg = spec->ext >= 0 ? (unsigned)spec->ext : below(r, 8);
    if (vex) {
        unsigned pp = spec->prefix == 2 ? 1 : spec->prefix == 3 ? 2 : spec->prefix == 4 ? 3 : 0;
        unsigned vvvv = spec->attrs & AT_VVVV ? below(r, 16) : chance(r, 2) ? below(r, 16) : 0;
        unsigned l = spec->attrs & AT_L0 ? 0 : spec->attrs & AT_L1 ? 1 : below(r, 2);
        if (!wide_mode) rex &= 8, vvvv &= 7;
        u8 tail = (u8)((~vvvv & 15) << 3 | l << 2 | pp);
        if (spec->map == 4 && !(rex & 0xb) && chance(r, 60)) {
            put(&w, 0xc5, 1);
            put(&w, (rex & 4 ? 0 : 0x80) | tail, 1);
        } else {
            put(&w, 0xc4, 1);
            put(&w, (u8)((~rex & 7) << 5 | (spec->map - 3)), 1);
            put(&w, (u8)((rex & 8) << 4 | tail), 1);
        }
    } else {
        if (rex) put(&w, rex, 1);
        if (spec->map >= 1) put(&w, 0x0f, 1);
        if (spec->map == 2) put(&w, 0x38, 1);
        if (spec->map == 3) put(&w, 0x3a, 1);
    }
    put(&w, spec->modrm == '+' ? (u8)(spec->opcode | below(r, 8)) : spec->opcode, 1);
    if (memory) put_memory(r, spec, &w, reg, rex, spec->bits, &m);
    else if (spec->modrm == '/') put(&w, 0xc0 | reg << 3 | (spec->rm >= 0 ? (unsigned)spec->rm : below(r, 8)), 1);
    unsigned imm = immediate_size(spec, opsize && spec->prefix != 2 && !((rex & 8) && spec->imm[0] != 'A'), rex & 8,
                                  wide_mode ? (adsize ? 4 : 8) : adsize ? 2 : 4);
    if (spec->attrs & AT_SAVE) /* components that both sides have */
        k->in.gpr[0] &= 7, k->in.gpr[2] = 0;
    m.goal = target(r, spec, adsize ? 32 : spec->bits);
    u64 imm_value = value(r);
    if (spec->imm[0] == 'O') imm_value = m.goal;
    if (spec->imm[0] == 'j' || spec->imm[0] == 'J') imm_value = chance(r, 60) ? below(r, 256) : value(r);
    if (spec->imm[0] == 'b' && chance(r, 40)) imm_value = below(r, 72);
    if (spec->imm[0] == 'B' && chance(r, 80)) imm_value = below(r, 64) | below(r, 4) << 16;
    put(&w, imm_value, imm);
    k->length = (u8)w.n;
    u64 at = CODE_AT + 0x100 + below(r, 0x1800);
    if (chance(r, 3)) at = CODE_AT + PAGE - below(r, w.n + 1);
    if (chance(r, 1)) at = CODE_AT + CODE_SIZE - below(r, w.n + 1);
    k->in.rip = at;
    implicit(r, spec, k, &m);
    if (m.present) {
        if (spec->attrs & AT_VSIB) /* indices that stay near */
            for (int i = 0; i < 32; i += 4)
                if (chance(r, 90)) {
                    u32 near = (i & 4) && chance(r, 50) ? 0 : below(r, 512);
                    memcpy(k->in.ymm[m.index] + i, &near, 4);
                }
        solve(r, k, &m, at + w.n, spec->attrs & AT_VSIB);
        for (unsigned i = 0; i < m.disp_size; i++) k->bytes[m.disp_at + i] = (u8)((u64)m.disp >> (8 * i));
        patch_at(r, k, 0, m.goal);
        relate(r, spec, k, &m, rex & 8);
    } else if (spec->imm[0] == 'O') {
        patch_at(r, k, 0, m.goal);
    }
    if (!wide_mode)
        for (int i = 0; i < 16; i++) k->in.gpr[i] = i < 8 ? (u32)k->in.gpr[i] : 0;
}
