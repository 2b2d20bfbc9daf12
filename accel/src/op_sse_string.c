/*
 * op_sse_string.c - SSE4.2 string compares PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM (SDM vol. 2, "Imm8 Control Byte
 * Operation for PCMPESTRI ..."). imm: [0] words  [1] signed  [3:2] any, ranges, each, ordered
 * [4] negate  [5] only where the second operand is valid  [6] last index / expanded mask.
 * The first operand is the register, the second register or memory (no alignment needed).
 */
#include "vec.h"

enum { AGG_ANY, AGG_RANGES, AGG_EACH, AGG_ORDERED };

/* Elements as numbers, how many are valid, and how many fit. */
struct text { s32 e[16]; unsigned valid, n; };

static void elements(struct text *t, const u8 *p, unsigned imm) {
    t->n = imm & 1 ? 8 : 16;
    for (unsigned i = 0; i < t->n; i++) {
        if (imm & 1) t->e[i] = imm & 2 ? (s16)ld2u(p + 2 * i) : ld2u(p + 2 * i);
        else t->e[i] = imm & 2 ? (s8)p[i] : p[i];
    }
}
static void until_null(struct text *t) {
    t->valid = 0;
    while (t->valid < t->n && t->e[t->valid]) t->valid++;
}
/* Explicit length: the magnitude of EAX/EDX (RAX/RDX with REX.W), saturated. */
static void explicit_length(struct text *t, u64 reg, bool wide) {
    s64 v = wide ? (s64)reg : (s32)reg;
    u64 m = v < 0 ? -(u64)v : (u64)v;
    t->valid = m < t->n ? (unsigned)m : t->n;
}

static bool any_of(const struct text *a, s32 v) {
    for (unsigned i = 0; i < a->valid; i++)
        if (a->e[i] == v) return true;
    return false;
}
static bool in_ranges(const struct text *a, s32 v) {
    for (unsigned i = 0; i + 1 < a->valid; i += 2)
        if (a->e[i] <= v && v <= a->e[i + 1]) return true;
    return false;
}
static bool each_equal(const struct text *a, const struct text *b, unsigned j) {
    bool va = j < a->valid, vb = j < b->valid;
    return va && vb ? a->e[j] == b->e[j] : va == vb;
}
/* The valid part of `a` begins at b[j], as far as the register reaches. */
static bool begins_at(const struct text *a, const struct text *b, unsigned j) {
    for (unsigned i = 0; i < a->valid && i + j < a->n; i++)
        if (i + j >= b->valid || a->e[i] != b->e[i + j]) return false;
    return true;
}

static unsigned aggregate(const struct text *a, const struct text *b, unsigned imm) {
    unsigned r = 0;
    for (unsigned j = 0; j < b->n; j++) {
        bool hit;
        switch (imm >> 2 & 3) {
        case AGG_ANY: hit = j < b->valid && any_of(a, b->e[j]); break;
        case AGG_RANGES: hit = j < b->valid && in_ranges(a, b->e[j]); break;
        case AGG_EACH: hit = each_equal(a, b, j); break;
        default: hit = begins_at(a, b, j); break;
        }
        bool negate = (imm & 0x10) && (!(imm & 0x20) || j < b->valid);
        if (hit != negate) r |= 1u << j;
    }
    return r;
}

static void give_index(accel_cpu *c, unsigned r, unsigned n, unsigned imm) {
    unsigned index = !r ? n : imm & 0x40 ? 31u - (unsigned)__builtin_clz(r) : (unsigned)__builtin_ctz(r);
    put_32(c, R_RCX, index);
}
static void give_mask(accel_cpu *c, unsigned r, unsigned n, unsigned imm) {
    u8 m[16] = {(u8)r, (u8)(r >> 8)};
    if (imm & 0x40)
        for (unsigned i = 0; i < 16; i++) m[i] = r >> (i / (16 / n)) & 1 ? 0xff : 0;
    memcpy(c->v[0], m, 16);
}

enum result { RESULT_INDEX, RESULT_MASK, RESULT_MASK_VEX /* clears the upper half of YMM0 */ };

static void compare(accel_cpu *c, const struct op *o, const u8 *s, bool explicit, enum result result) {
    unsigned imm = (u8)o->imm;
    struct text a, b;
    elements(&a, c->v[o->reg], imm);
    elements(&b, s, imm);
    if (explicit) {
        bool wide = OP_OSZ(o) == SZ64;
        explicit_length(&a, c->r[R_RAX], wide);
        explicit_length(&b, c->r[R_RDX], wide);
    } else {
        until_null(&a);
        until_null(&b);
    }
    unsigned r = aggregate(&a, &b, imm);
    if (result == RESULT_INDEX) give_index(c, r, a.n, imm);
    else give_mask(c, r, a.n, imm);
    if (result == RESULT_MASK_VEX) memset(c->v[0] + 16, 0, 16);
    c->flags_ah = (u8)(2 | (r ? F_CF : 0) | (b.valid < b.n ? F_ZF : 0) | (a.valid < a.n ? F_SF : 0));
    c->flags_of = r & 1;
}

#define STRING(name, explicit, result) \
    SLOW_HANDLER(h_##name##_r) { compare(c, o, c->v[o->rm], explicit, result); return true; } \
    SLOW_HANDLER(h_##name##_m) { \
        u8 s[16]; \
        if (!vec_read(c, o, s, 16, 1)) return false; \
        compare(c, o, s, explicit, result); \
        return true; \
    }
STRING(pcmpestri, true, RESULT_INDEX)
STRING(pcmpestrm, true, RESULT_MASK)
STRING(pcmpistri, false, RESULT_INDEX)
STRING(pcmpistrm, false, RESULT_MASK)
STRING(vpcmpestrm, true, RESULT_MASK_VEX)
STRING(vpcmpistrm, false, RESULT_MASK_VEX)
