/*
 * op_fuse.c - a flag-setting instruction and the conditional jump behind it in one handler.
 *
 * The pair stays two ops with their own ticks and offsets; only the handler of the first is replaced by one that does
 * both. So a stop, a fault or a breakpoint between the two works as if nothing were fused. 64-bit code only.
 */
#include "branch.h"

/* FIRST(X): X(handler of the first op, what it does; operands a and b are read where it says so). */
#define FUSE_COMPARE(X, N) \
    X(h_cmp_EG_##N##_r, alu_cmp_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))) \
    X(h_cmp_GE_##N##_r, alu_cmp_##N(c, get_##N(c, o->reg), get_##N(c, o->rm))) \
    X(h_cmp_EI_##N##_r, alu_cmp_##N(c, get_##N(c, o->rm), (U_##N)o->imm)) \
    X(h_cmp_AI_##N, alu_cmp_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)) \
    X(h_test_EG_##N##_r, alu_test_##N(c, get_##N(c, o->rm), get_##N(c, o->reg))) \
    X(h_test_EI_##N##_r, alu_test_##N(c, get_##N(c, o->rm), (U_##N)o->imm)) \
    X(h_test_AI_##N, alu_test_##N(c, get_##N(c, R_RAX), (U_##N)o->imm)) \
    X(h_cmp_EI_##N##_f, FUSE_LOAD(N, h_cmp_EI_##N##_m, alu_cmp_##N(c, v, (U_##N)o->imm))) \
    X(h_cmp_EG_##N##_f, FUSE_LOAD(N, h_cmp_EG_##N##_m, alu_cmp_##N(c, v, get_##N(c, o->reg)))) \
    X(h_cmp_GE_##N##_f, FUSE_LOAD(N, h_cmp_GE_##N##_m, alu_cmp_##N(c, get_##N(c, o->reg), v))) \
    X(h_test_EI_##N##_f, FUSE_LOAD(N, h_test_EI_##N##_m, alu_test_##N(c, v, (U_##N)o->imm)))
#define FUSE_UPDATE(X, N) \
    X(h_add_EG_##N##_r, put_##N(c, o->rm, alu_add_##N(c, get_##N(c, o->rm), get_##N(c, o->reg)))) \
    X(h_add_EI_##N##_r, put_##N(c, o->rm, alu_add_##N(c, get_##N(c, o->rm), (U_##N)o->imm))) \
    X(h_sub_EG_##N##_r, put_##N(c, o->rm, alu_sub_##N(c, get_##N(c, o->rm), get_##N(c, o->reg)))) \
    X(h_sub_EI_##N##_r, put_##N(c, o->rm, alu_sub_##N(c, get_##N(c, o->rm), (U_##N)o->imm))) \
    X(h_and_EI_##N##_r, put_##N(c, o->rm, alu_and_##N(c, get_##N(c, o->rm), (U_##N)o->imm))) \
    X(h_dec_##N##_r, put_##N(c, o->rm, alu_dec_##N(c, get_##N(c, o->rm))))
#define FUSE_LOAD(N, slow, statement) \
    U_##N v; \
    const void *p = fast_r(c, ea_f(c, o), sizeof v); \
    if (unlikely(p == NULL)) return slow(c, o); \
    memcpy(&v, p, sizeof v); \
    statement
#define FIRST(X) FUSE_COMPARE(X, 8) FUSE_COMPARE(X, 32) FUSE_COMPARE(X, 64) FUSE_UPDATE(X, 32) FUSE_UPDATE(X, 64)

#define DECLARE_SLOW(N) op_fn h_cmp_EI_##N##_m, h_cmp_EG_##N##_m, h_cmp_GE_##N##_m, h_test_EI_##N##_m;
DECLARE_SLOW(8)
DECLARE_SLOW(32)
DECLARE_SLOW(64)

#define FUSED(first, statement, jump, condition) \
    static HANDLER(first##_##jump) { \
        statement; \
        o++; \
        if (condition) go(c, o, 0, c->r[R_RIP] + o->imm); \
        else go(c, o, 1, c->r[R_RIP] + o->off + o->len); \
    }
#define FUSED_ALL(first, ...) \
    op_fn first; \
    FUSED_ROW(first, (__VA_ARGS__))
#define UNWRAP(...) __VA_ARGS__
#define FUSED_ROW(first, body) \
    FUSED(first, UNWRAP body, jo, of(c)) FUSED(first, UNWRAP body, jno, !of(c)) \
    FUSED(first, UNWRAP body, jb, cf(c)) FUSED(first, UNWRAP body, jnb, !cf(c)) \
    FUSED(first, UNWRAP body, jz, zf(c)) FUSED(first, UNWRAP body, jnz, !zf(c)) \
    FUSED(first, UNWRAP body, jbe, BE(c)) FUSED(first, UNWRAP body, jnbe, !BE(c)) \
    FUSED(first, UNWRAP body, js, sf(c)) FUSED(first, UNWRAP body, jns, !sf(c)) \
    FUSED(first, UNWRAP body, jp, pf(c)) FUSED(first, UNWRAP body, jnp, !pf(c)) \
    FUSED(first, UNWRAP body, jl, LT(c)) FUSED(first, UNWRAP body, jnl, !LT(c)) \
    FUSED(first, UNWRAP body, jle, zf(c) || LT(c)) FUSED(first, UNWRAP body, jnle, !(zf(c) || LT(c)))
FIRST(FUSED_ALL)

#define JUMP_NAME(name, condition) h_##name##_64,
#define DECLARE_JUMP(name, condition) op_fn h_##name##_64;
CONDITIONS(DECLARE_JUMP)
static op_fn *const jumps[16] = {CONDITIONS(JUMP_NAME)};

#define FUSED_NAMES(first, ...) \
    {first, {first##_jo, first##_jno, first##_jb, first##_jnb, first##_jz, first##_jnz, first##_jbe, first##_jnbe, first##_js, \
             first##_jns, first##_jp, first##_jnp, first##_jl, first##_jnl, first##_jle, first##_jnle}},
static const struct { op_fn *first; op_fn *fused[16]; } pairs[] = {FIRST(FUSED_NAMES)};

op_fn *fuse(op_fn *first, op_fn *second) {
    int condition = -1;
    for (int i = 0; i < 16; i++)
        if (jumps[i] == second) condition = i;
    if (condition < 0) return NULL;
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i].first == first) return pairs[i].fused[condition];
    return NULL;
}
