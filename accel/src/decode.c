/*
 * decode.c - from bytes to an op, steered by the rows of insns*.def; no side effects.
 *
 * The maps, prefixes and operand letters are those of SDM vol. 2, chapter 2 and appendix A.
 */
#include "exec.h"

enum { PFX_ANY, PFX_NP, PFX_66, PFX_F3, PFX_F2 };
enum { M_NONE, M_PLUS, M_RM };
enum { IMM_NONE, IMM_B, IMM_W, IMM_Z, IMM_V, IMM_WB, IMM_JB, IMM_JZ, IMM_AP, IMM_O };
enum { SIZE_NONE, SIZE_B, SIZE_V, SIZE_Y, SIZE_W, SIZE_D, SIZE_Q };
enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A, MAP_V1, MAP_V2, MAP_V3 };

struct row {
    const char *name;
    uint32_t attrs;
    uint8_t prefix, modrm;
    int8_t ext;
    uint8_t mod;
    int8_t rm;
    uint8_t reg_byte, rm_byte, imm, size;
    int8_t feature;
    op_fn *fn[4][4];
};

#include "cpu_features.h"
#include "rows.h"

op_fn h_undefined, h_no_device, h_unimplemented, h_gp0;

/* Everything that the bytes said, before it becomes an op. */
struct insn {
    const uint8_t *p;
    unsigned avail, pos;
    unsigned bits;          /* 16, 32, 64: code size */
    bool opsize, adsize, lock, vex;
    uint8_t rep, seg, rex;  /* rex: 0x40 | WRXB, or 0 */
    uint8_t map, opcode, modrm;
    uint8_t vex_l, vvvv, vex_pp;
    bool overrun;           /* more bytes are needed */
};

static uint8_t next_byte(struct insn *i) {
    if (i->pos >= i->avail) {
        i->overrun = true;
        return 0;
    }
    return i->p[i->pos++];
}

static uint64_t next_le(struct insn *i, unsigned n) {
    uint64_t v = 0;
    for (unsigned k = 0; k < n; k++) v |= (uint64_t)next_byte(i) << (8 * k);
    return v;
}

static int64_t next_signed(struct insn *i, unsigned n) {
    uint64_t v = next_le(i, n);
    unsigned shift = 64 - 8 * n;
    return (int64_t)(v << shift) >> shift;
}

static void read_prefixes(struct insn *i) {
    static const uint8_t segs[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS};
    for (;;) {
        uint8_t b = next_byte(i);
        if (i->overrun) return;
        switch (b) {
        case 0x26: case 0x2e: case 0x36: case 0x3e:
            if (i->bits != 64) i->seg = segs[(b >> 3) & 3];
            break;
        case 0x64: i->seg = SEG_FS; break;
        case 0x65: i->seg = SEG_GS; break;
        case 0x66: i->opsize = true; break;
        case 0x67: i->adsize = true; break;
        case 0xf0: i->lock = true; break;
        case 0xf2: i->rep = REP_F2; break;
        case 0xf3: i->rep = REP_F3; break;
        default:
            if (i->bits == 64 && (b & 0xf0) == 0x40) {
                i->rex = b;
                uint8_t after = next_byte(i);
                if (i->overrun) return;
                i->pos--;
                bool prefix = after == 0x26 || after == 0x2e || after == 0x36 || after == 0x3e || (after >= 0x64 && after <= 0x67) ||
                              after == 0xf0 || after == 0xf2 || after == 0xf3 || (after & 0xf0) == 0x40;
                if (!prefix) return; /* a REX that is not last is ignored */
                i->rex = 0;
                break;
            }
            i->pos--;
            return;
        }
    }
}

/* VEX: C5 RvvvvLpp, C4 RXBmmmmm WvvvvLpp. False: #UD. */
static bool read_vex(struct insn *i, bool three) {
    if (i->opsize || i->rep || i->lock || i->rex) return false;
    uint8_t b1 = next_byte(i), b2 = three ? next_byte(i) : b1;
    i->vex = true;
    i->rex = 0x40 | (!(b1 & 0x80)) << 2;
    if (three) {
        i->rex |= (!(b1 & 0x40)) << 1 | !(b1 & 0x20) | (b2 & 0x80 ? 8 : 0);
        i->map = MAP_V1 - 1 + (b1 & 0x1f);
        if ((b1 & 0x1f) < 1 || (b1 & 0x1f) > 3) return false;
    } else {
        i->map = MAP_V1;
    }
    i->vvvv = (~b2 >> 3) & 15;
    i->vex_l = (b2 >> 2) & 1;
    i->vex_pp = b2 & 3;
    if (i->bits != 64) i->rex &= 0x48; /* R, X, B must be clear (inverted ones) or it would not be VEX; W is ignored for GPRs */
    i->opcode = next_byte(i);
    return true;
}

static bool read_opcode(struct insn *i) {
    uint8_t b = next_byte(i);
    if (b == 0xc4 || b == 0xc5) {
        uint8_t peek = next_byte(i);
        if (i->overrun) return true;
        i->pos--;
        if (i->bits == 64 || (peek & 0xc0) == 0xc0) return read_vex(i, b == 0xc4);
    }
    i->map = MAP_1;
    if (b == 0x0f) {
        b = next_byte(i);
        i->map = MAP_0F;
        if (b == 0x38 || b == 0x3a) {
            i->map = b == 0x38 ? MAP_0F38 : MAP_0F3A;
            b = next_byte(i);
        }
    }
    i->opcode = b;
    return true;
}

static bool prefix_matches(const struct insn *i, const struct row *r) {
    if (i->vex) {
        static const uint8_t want[] = {PFX_NP, PFX_66, PFX_F3, PFX_F2};
        return r->prefix == PFX_ANY || r->prefix == want[i->vex_pp];
    }
    switch (r->prefix) {
    case PFX_NP: return !i->rep && !i->opsize;
    case PFX_66: return i->opsize && !i->rep;
    case PFX_F3: return i->rep == REP_F3;
    case PFX_F2: return i->rep == REP_F2;
    default: return true;
    }
}

static bool row_matches(const struct insn *i, const struct row *r, int model, uint32_t key) {
    if (!prefix_matches(i, r)) return false;
    if (r->feature >= 0 && features[r->feature].model > model) return false;
    if ((r->attrs & A_NO64) && i->bits == 64) return false;
    if ((r->attrs & A_O64) && i->bits != 64) return false;
    if ((r->attrs & A_PM) && (!(key & K_PE) || (key & K_VM))) return false;
    if (((r->attrs & A_W0) && (i->rex & 8)) || ((r->attrs & A_W1) && !(i->rex & 8))) return false;
    if (((r->attrs & A_L0) && i->vex_l) || ((r->attrs & A_L1) && !i->vex_l)) return false;
    if (i->vex && !(r->attrs & A_VVVV) && i->vvvv) return false;
    if (r->modrm != M_RM) return true;
    bool reg = i->modrm >= 0xc0 || (r->attrs & A_ANYMOD);
    if ((r->mod == 1 && reg) || (r->mod == 2 && !reg)) return false;
    if (r->ext >= 0 && ((i->modrm >> 3) & 7) != r->ext) return false;
    return r->rm < 0 || (i->modrm & 7) == r->rm;
}

/* The row of map/opcode/prefix/ModRM, or NULL: #UD. Reads the ModRM byte if any candidate has one. */
static const struct row *find_row(struct insn *i, int model, uint32_t key) {
    unsigned first = row_index[i->map][i->opcode].first, count = row_index[i->map][i->opcode].count;
    bool read = false;
    for (unsigned k = 0; k < count; k++) {
        const struct row *r = &rows[candidates[first + k]];
        if (r->modrm == M_RM && !read) {
            i->modrm = next_byte(i);
            if (i->overrun) return NULL;
            /* MOV to and from CR and DR: "the 2 bits in the mod field are ignored" (SDM vol. 2, MOV) */
            if (i->map == MAP_0F && (i->opcode & 0xfc) == 0x20) i->modrm |= 0xc0;
            read = true;
        }
        if (row_matches(i, r, model, key)) {
            if (r->modrm != M_RM && read) i->pos--;
            return r;
        }
    }
    return NULL;
}

static void memory16(struct insn *i, struct op *o) {
    static const uint8_t base[] = {R_RBX, R_RBX, R_RBP, R_RBP, R_RSI, R_RDI, R_RBP, R_RBX};
    static const uint8_t index[] = {R_RSI, R_RDI, R_RSI, R_RDI, R_ZERO, R_ZERO, R_ZERO, R_ZERO};
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    o->base = base[rm], o->index = index[rm];
    o->seg = rm == 2 || rm == 3 || (rm == 6 && mod) ? SEG_SS : SEG_DS;
    if (mod == 0 && rm == 6) o->base = R_ZERO, o->disp = (int32_t)next_le(i, 2);
    else if (mod == 1) o->disp = (int32_t)next_signed(i, 1);
    else if (mod == 2) o->disp = (int32_t)next_signed(i, 2);
}

static void memory32(struct insn *i, struct op *o, bool vsib) {
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    o->index = R_ZERO;
    if (rm == 4) {
        uint8_t sib = next_byte(i);
        unsigned index = ((sib >> 3) & 7) | (i->rex & 2 ? 8 : 0);
        o->scale = sib >> 6;
        if (index != 4 || vsib) o->index = (uint8_t)index;
        rm = sib & 7;
        o->base = rm | (i->rex & 1 ? 8 : 0);
        if (rm == 5 && mod == 0) o->base = R_ZERO, o->disp = (int32_t)next_signed(i, 4);
    } else {
        o->base = rm | (i->rex & 1 ? 8 : 0);
        if (rm == 5 && mod == 0) {
            o->base = i->bits == 64 ? R_RIP : R_ZERO;
            o->disp = (int32_t)next_signed(i, 4);
        }
    }
    if (mod == 1) o->disp = (int32_t)next_signed(i, 1);
    else if (mod == 2) o->disp = (int32_t)next_signed(i, 4);
    o->seg = o->base == R_RSP || o->base == R_RBP ? SEG_SS : SEG_DS;
}

/* A byte register operand as an offset into c->r: AH CH DH BH exist only without REX. */
static uint8_t byte_register(const struct insn *i, unsigned n) {
    return (uint8_t)(!i->rex && n >= 4 && n < 8 ? (n - 4) * 8 + 1 : n * 8);
}

static unsigned operand_size(const struct insn *i, const struct row *r) {
    if (i->bits == 64) {
        if (r->attrs & A_F64) return SZ64;
        if (i->rex & 8) return SZ64;
        bool small = i->opsize && r->prefix != PFX_66;
        if (r->attrs & A_D64) return small ? SZ16 : SZ64;
        return small ? SZ16 : SZ32;
    }
    return (i->bits == 32) != (i->opsize && r->prefix != PFX_66) ? SZ32 : SZ16;
}

static void read_immediate(struct insn *i, const struct row *r, struct op *o, unsigned osz, unsigned asz) {
    switch (r->imm) {
    case IMM_B: case IMM_JB: o->imm = (uint64_t)next_signed(i, 1); break;
    case IMM_W: o->imm = (uint64_t)next_signed(i, 2); break;
    case IMM_Z: case IMM_JZ: o->imm = (uint64_t)next_signed(i, osz == SZ16 ? 2 : 4); break;
    case IMM_V: o->imm = (uint64_t)next_signed(i, 1u << osz); break;
    case IMM_WB: o->imm = next_le(i, 3); break;
    case IMM_AP: {
        uint64_t offset = next_le(i, osz == SZ16 ? 2 : 4);
        o->imm = offset | next_le(i, 2) << 32;
        break;
    }
    case IMM_O:
        o->imm = next_le(i, 1u << asz);
        o->base = o->index = R_ZERO;
        o->seg = SEG_DS;
        o->mode |= 0x40;
        break;
    default: break;
    }
}

/* The handler when the state that the row needs is not there; NULL: it is. */
static op_fn *unavailable(const struct row *r, uint32_t key) {
    if (r->attrs & A_X87) return key & (K_EM | K_TS) ? h_no_device : NULL;
    if (r->attrs & A_MMX) return key & K_EM ? h_undefined : key & K_TS ? h_no_device : NULL;
    if (r->attrs & A_SSE) return !(key & K_SSE) ? h_undefined : key & K_TS ? h_no_device : NULL;
    if (r->attrs & A_AVX) return !(key & K_AVX) || !(key & K_PE) || (key & K_VM) ? h_undefined : key & K_TS ? h_no_device : NULL;
    return NULL;
}

static op_fn *choose_handler(const struct row *r, const struct op *o, uint32_t key, bool reg) {
    op_fn *fault = unavailable(r, key);
    if (fault) return fault;
    if ((r->attrs & A_CPL0) && !(key & K_CPL0)) return h_gp0;
    unsigned size = 0;
    switch (r->size) {
    case SIZE_V: size = OP_OSZ(o); break;
    case SIZE_Y: size = OP_OSZ(o) == SZ64 ? SZ64 : SZ32; break;
    case SIZE_W: size = SZ16; break;
    case SIZE_D: size = SZ32; break;
    case SIZE_Q: size = SZ64; break;
    default: break;
    }
    op_fn *const *fn = r->fn[size];
    if (r->modrm != M_RM || reg) return fn[0] ? fn[0] : h_unimplemented;
    op_fn *slow = fn[1] ? fn[1] : h_unimplemented;
    if (!fn[2]) return slow;
    bool plain = o->index == R_ZERO && o->seg < SEG_FS;
    if ((key & K_CODE) == K_CODE64) return OP_ASZ(o) != SZ64 ? slow : plain ? fn[2] : fn[3];
    /* Flat 32-bit code: a sum that does not wrap at 2^32 as it should matches no page of the fast TLB. */
    bool flat = (key & K_CODE) == K_CODE32 && (key & K_FLAT) && OP_ASZ(o) == SZ32 && o->seg < SEG_FS && o->seg != SEG_CS;
    return !flat ? slow : plain ? fn[2] : fn[3];
}

static int finish(struct insn *i, struct decoded *out, op_fn *fn, int row) {
    out->op.fn = fn;
    out->op.len = (uint8_t)i->pos;
    out->length = (uint8_t)i->pos;
    out->row = (uint16_t)row;
    out->ends = true;
    return (int)i->pos;
}

enum { NO_ROW = 0xffff };

int decode(const uint8_t *bytes, unsigned avail, uint32_t key, int model, struct decoded *out) {
    unsigned code = key & K_CODE;
    struct insn i = {.p = bytes, .avail = avail > 15 ? 15 : avail, .bits = code == K_CODE64 ? 64 : code == K_CODE32 ? 32 : 16, .seg = SEG_NONE};
    *out = (struct decoded){0};
    struct op *o = &out->op;
    o->base = o->index = R_ZERO;
    o->seg = SEG_DS;
    read_prefixes(&i);
    bool ok = !i.overrun && read_opcode(&i);
    const struct row *r = ok && !i.overrun ? find_row(&i, model, key) : NULL;
    if (i.overrun) return avail >= 15 ? -2 : -1;
    if (!r) {
        finish(&i, out, h_undefined, NO_ROW);
        return 0;
    }
    unsigned osz = operand_size(&i, r);
    unsigned asz = i.bits == 64 ? (i.adsize ? SZ32 : SZ64) : (i.bits == 32) != i.adsize ? SZ32 : SZ16;
    o->mode = (uint8_t)(osz | asz << 2 | i.rep << 4 | (i.vex_l ? 0x80 : 0));
    o->vvvv = !i.vex ? i.modrm /* x87 wants it for FOP */ : i.bits == 64 ? i.vvvv : i.vvvv & 7;
    bool reg = true;
    if (r->modrm == M_PLUS) {
        unsigned n = (i.opcode & 7) | (i.rex & 1 ? 8 : 0);
        o->rm = r->rm_byte ? byte_register(&i, n) : (uint8_t)n;
        o->reg = (uint8_t)n;
    } else if (r->modrm == M_RM) {
        unsigned n = ((i.modrm >> 3) & 7) | (i.rex & 4 ? 8 : 0);
        o->reg = r->reg_byte ? byte_register(&i, n) : (uint8_t)n;
        reg = i.modrm >= 0xc0 || (r->attrs & A_ANYMOD);
        if (reg) {
            n = (i.modrm & 7) | (i.rex & 1 ? 8 : 0);
            o->rm = r->rm_byte ? byte_register(&i, n) : (uint8_t)n;
        } else {
            o->mode |= 0x40;
            if (asz == SZ16) memory16(&i, o);
            else memory32(&i, o, r->attrs & A_VSIB);
        }
    }
    read_immediate(&i, r, o, osz, asz);
    if (i.overrun) return avail >= 15 ? -2 : -1;
    if (i.seg != SEG_NONE) o->seg = i.seg;
    if (i.lock && (!(r->attrs & A_LOCK) || reg)) {
        finish(&i, out, h_undefined, NO_ROW);
        return 0;
    }
    op_fn *fn = choose_handler(r, o, key, reg);
    finish(&i, out, fn, (int)(r - rows));
    out->relative = r->imm == IMM_JB || r->imm == IMM_JZ;
    out->always = r->attrs & A_BR;
    out->ends = (r->attrs & A_END) || fn == h_no_device || fn == h_undefined || fn == h_gp0 || fn == h_unimplemented;
    return (int)i.pos;
}

/* The complete memory form of the row, for an op whose fast form cannot be used. */
op_fn *decode_slow_form(const struct decoded *d) {
    const struct row *r = &rows[d->row];
    for (int size = 0; size < 4; size++)
        for (int form = 2; form < 4; form++)
            if (r->fn[size][form] == d->op.fn) return r->fn[size][1];
    return d->op.fn;
}

int accel_decode(const uint8_t *bytes, size_t size, int bits, int model, int *row) {
    uint32_t key = (bits == 64 ? K_CODE64 : bits == 32 ? K_CODE32 : K_CODE16) | K_PE | K_CPL0 | K_FLAT | K_SSE | K_AVX;
    struct decoded d;
    int n = decode(bytes, size > 15 ? 15 : (unsigned)size, key, model, &d);
    *row = d.row == NO_ROW || n <= 0 ? -1 : d.row;
    return n == -2 ? 0 : n;
}

const char *accel_row_name(int row) { return row >= 0 && row < ROW_COUNT ? rows[row].name : NULL; }
int accel_row_count(void) { return ROW_COUNT; }
