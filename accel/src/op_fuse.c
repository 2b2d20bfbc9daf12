/*
 * op_fuse.c - handlers of several instructions in a row.
 *
 * The instructions stay ops of their own with their own ticks, offsets and handlers; only the handler of the first is
 * replaced by one that does the whole sequence. So a stop, a fault or a breakpoint between two of them works as if
 * nothing were fused: an access that is not plain goes to its own instruction's handler, which goes on from there. 64-bit
 * code only. Comparisons are fused with any conditional jump; the other sequences are those that are frequent in the
 * Linux kernel, its user programs and compiled kernels (fuse.def).
 */
#include "body.h"
#include "branch.h"

#define STEP(form, k) if (unlikely(!do_##form(c, o + k))) return h_##form(c, o + k)

/* ---- a flag-setting instruction and a conditional jump ---- */

#define FIRST_COMPARE(X, N) \
    X(cmp_EG_##N##_r) X(cmp_GE_##N##_r) X(cmp_EI_##N##_r) X(cmp_AI_##N) X(test_EG_##N##_r) X(test_EI_##N##_r) X(test_AI_##N) \
    X(cmp_EI_##N##_f) X(cmp_EG_##N##_f) X(cmp_GE_##N##_f) X(test_EI_##N##_f)
#define FIRST_UPDATE(X, N) X(add_EG_##N##_r) X(add_EI_##N##_r) X(sub_EG_##N##_r) X(sub_EI_##N##_r) X(and_EI_##N##_r) X(dec_##N##_r)
#define FIRST(X) FIRST_COMPARE(X, 8) FIRST_COMPARE(X, 32) FIRST_COMPARE(X, 64) FIRST_UPDATE(X, 32) FIRST_UPDATE(X, 64)

#define JUMPS(X, ...) \
    X(jo_64, __VA_ARGS__) X(jno_64, __VA_ARGS__) X(jb_64, __VA_ARGS__) X(jnb_64, __VA_ARGS__) X(jz_64, __VA_ARGS__) \
    X(jnz_64, __VA_ARGS__) X(jbe_64, __VA_ARGS__) X(jnbe_64, __VA_ARGS__) X(js_64, __VA_ARGS__) X(jns_64, __VA_ARGS__) \
    X(jp_64, __VA_ARGS__) X(jnp_64, __VA_ARGS__) X(jl_64, __VA_ARGS__) X(jnl_64, __VA_ARGS__) X(jle_64, __VA_ARGS__) \
    X(jnle_64, __VA_ARGS__)

#define COMPARE_JUMP(jump, first) \
    static HANDLER(f_##first##__##jump) { \
        STEP(first, 0); \
        end_##jump(c, o + 1); \
    }
#define COMPARE_JUMPS(first) JUMPS(COMPARE_JUMP, first)
FIRST(COMPARE_JUMPS)

/* ---- sequences: S for straight ones, J for those that end in a branch ---- */

#ifdef TRACED /* the straight ones are op_fuse.c's */
#define S2(...)
#define S3(...)
#define S4(...)
#else
#define S2(a, b_) \
    static HANDLER(f_##a##__##b_) { STEP(a, 0); STEP(b_, 1); DISPATCH(c, o + 2); }
#define S3(a, b_, d) \
    static HANDLER(f_##a##__##b_##__##d) { STEP(a, 0); STEP(b_, 1); STEP(d, 2); DISPATCH(c, o + 3); }
#define S4(a, b_, d, e) \
    static HANDLER(f_##a##__##b_##__##d##__##e) { STEP(a, 0); STEP(b_, 1); STEP(d, 2); STEP(e, 3); DISPATCH(c, o + 4); }
#endif
#define J2(a, b_) \
    static HANDLER(f_##a##__##b_) { STEP(a, 0); end_##b_(c, o + 1); }
#define J3(a, b_, d) \
    static HANDLER(f_##a##__##b_##__##d) { STEP(a, 0); STEP(b_, 1); end_##d(c, o + 2); }
#define J4(a, b_, d, e) \
    static HANDLER(f_##a##__##b_##__##d##__##e) { STEP(a, 0); STEP(b_, 1); STEP(d, 2); end_##e(c, o + 3); }
#include "fuse.def"
#undef S2
#undef S3
#undef S4
#undef J2
#undef J3
#undef J4

/* ---- the table ---- */

#define ROW_2(a, b) {{h_##a, h_##b}, f_##a##__##b},
#define ROW_3(a, b, d) {{h_##a, h_##b, h_##d}, f_##a##__##b##__##d},
#define ROW_4(a, b, d, e) {{h_##a, h_##b, h_##d, h_##e}, f_##a##__##b##__##d##__##e},
#define ROW_J2(a, b) {{h_##a, NAMED(h_##b)}, f_##a##__##b},
#define ROW_J3(a, b, d) {{h_##a, h_##b, NAMED(h_##d)}, f_##a##__##b##__##d},
#define ROW_J4(a, b, d, e) {{h_##a, h_##b, h_##d, NAMED(h_##e)}, f_##a##__##b##__##d##__##e},
#define ROW_JUMP(jump, first) ROW_J2(first, jump)
#define ROW_JUMPS(first) JUMPS(ROW_JUMP, first)
#ifdef TRACED
#define S2(...)
#define S3(...)
#define S4(...)
#else
#define S2(...) ROW_2(__VA_ARGS__)
#define S3(...) ROW_3(__VA_ARGS__)
#define S4(...) ROW_4(__VA_ARGS__)
#endif
#define J2(...) ROW_J2(__VA_ARGS__)
#define J3(...) ROW_J3(__VA_ARGS__)
#define J4(...) ROW_J4(__VA_ARGS__)
static const struct fusion rows[] = {
    FIRST(ROW_JUMPS)
#include "fuse.def"
};
enum { ROWS = sizeof rows / sizeof *rows };
_Static_assert(ROWS < FUSE_HASH * 3 / 8, "the table has room, for both compilations");

static u64 add_to_hash(u64 hash, op_fn *fn) { return (hash ^ (uintptr_t)fn) * 0x9e3779b97f4a7c15ull; }
static unsigned slot_of(u64 hash) { return (unsigned)(hash >> 40) & (FUSE_HASH - 1); }

void NAMED(fuse_table)(const struct fusion **table) {
    for (unsigned i = 0; i < ROWS; i++) {
        u64 hash = 0;
        for (unsigned k = 0; k < FUSE_MAX && rows[i].ops[k]; k++) hash = add_to_hash(hash, rows[i].ops[k]);
        unsigned at = slot_of(hash);
        while (table[at]) at = (at + 1) & (FUSE_HASH - 1);
        table[at] = &rows[i];
    }
}

#ifndef TRACED

static bool same(const struct fusion *f, const struct op *ops, unsigned n) {
    for (unsigned k = 0; k < n; k++)
        if (f->ops[k] != ops[k].fn) return false;
    return n == FUSE_MAX || !f->ops[n];
}

static op_fn *find(const struct fusion *const *table, u64 hash, const struct op *ops, unsigned n) {
    for (unsigned at = slot_of(hash); table[at]; at = (at + 1) & (FUSE_HASH - 1))
        if (same(table[at], ops, n)) return table[at]->fused;
    return NULL;
}

/* Backwards: cost[i] is the least number of handlers from op i to the end, taken[i] and fused[i] how. */
void fuse_pass(const struct fusion *const *table, struct op *ops, unsigned count) {
    u8 cost[BLOCK_OPS + 1], taken[BLOCK_OPS];
    op_fn *fused[BLOCK_OPS];
    cost[count] = 0;
    for (unsigned i = count; i-- > 0;) {
        u64 hash = add_to_hash(0, ops[i].fn);
        cost[i] = cost[i + 1] + 1, taken[i] = 1, fused[i] = ops[i].fn;
        for (unsigned n = 2; n <= FUSE_MAX && i + n <= count; n++) {
            hash = add_to_hash(hash, ops[i + n - 1].fn);
            if (cost[i + n] + 1 >= cost[i]) continue;
            op_fn *fn = find(table, hash, &ops[i], n);
            if (fn) cost[i] = cost[i + n] + 1, taken[i] = (u8)n, fused[i] = fn;
        }
    }
    for (unsigned i = 0; i < count; i += taken[i]) ops[i].fn = fused[i];
}

#endif
