/*
 * op_lean.c - handlers that leave the flags alone, for instructions whose flags nobody can see.
 *
 * The flags of an instruction are dead when a later instruction of its block overwrites all six without reading any, and
 * everything from the one to the other neither reads flags nor can leave the block (no memory access, no fault). Runs are
 * never cut inside a block (short budgets, stepping and breakpoints use blocks of their own), so nothing observes the
 * difference: the pass below runs backwards over a new block and swaps handlers.
 */
#include "exec.h"

#define REG_FORMS(X, N) \
    X(h_add_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) + get_##N(c, o->reg))) \
    X(h_sub_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) - get_##N(c, o->reg))) \
    X(h_and_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) & get_##N(c, o->reg))) \
    X(h_or_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) | get_##N(c, o->reg))) \
    X(h_xor_EG_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) ^ get_##N(c, o->reg))) \
    X(h_add_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) + get_##N(c, o->rm))) \
    X(h_sub_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) - get_##N(c, o->rm))) \
    X(h_and_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) & get_##N(c, o->rm))) \
    X(h_or_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) | get_##N(c, o->rm))) \
    X(h_xor_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) ^ get_##N(c, o->rm))) \
    X(h_add_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) + (U_##N)o->imm)) \
    X(h_sub_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) - (U_##N)o->imm)) \
    X(h_and_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) & (U_##N)o->imm)) \
    X(h_or_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) | (U_##N)o->imm)) \
    X(h_xor_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) ^ (U_##N)o->imm)) \
    X(h_add_AI_##N, put_##N(c, R_RAX, get_##N(c, R_RAX) + (U_##N)o->imm)) \
    X(h_sub_AI_##N, put_##N(c, R_RAX, get_##N(c, R_RAX) - (U_##N)o->imm)) \
    X(h_and_AI_##N, put_##N(c, R_RAX, get_##N(c, R_RAX) & (U_##N)o->imm)) \
    X(h_neg_##N##_r, put_##N(c, o->rm, (U_##N)-get_##N(c, o->rm)))
/* These write only some flags, or keep some, in their full form: they do not make the flags before them dead. */
#define PARTIAL_FORMS(X, N) \
    X(h_inc_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) + 1)) \
    X(h_dec_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) - 1)) \
    X(h_shl_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) << (o->imm & (N - 1)))) \
    X(h_shl_E1_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) << 1)) \
    X(h_shr_EI_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) >> (o->imm & (N - 1)))) \
    X(h_shr_E1_##N##_r, put_##N(c, o->rm, get_##N(c, o->rm) >> 1)) \
    X(h_sar_EI_##N##_r, put_##N(c, o->rm, (U_##N)((S_##N)get_##N(c, o->rm) >> (o->imm & (N - 1))))) \
    X(h_sar_E1_##N##_r, put_##N(c, o->rm, (U_##N)((S_##N)get_##N(c, o->rm) >> 1))) \
    X(h_rol_EI_##N##_r, ROTATE(N, o->imm, -o->imm)) \
    X(h_ror_EI_##N##_r, ROTATE(N, -o->imm, o->imm)) \
    X(h_imul_GE_##N##_r, put_##N(c, o->reg, get_##N(c, o->reg) * get_##N(c, o->rm))) \
    X(h_imul_GEI_##N##_r, put_##N(c, o->reg, get_##N(c, o->rm) * (U_##N)o->imm))
#define ROTATE(N, left, right) \
    U_##N v = get_##N(c, o->rm); \
    put_##N(c, o->rm, (U_##N)(v << ((left) & (N - 1)) | v >> ((right) & (N - 1))))
/* Loads may still fault, so what lies before them keeps its flags; their own may be dead all the same. */
#define LOAD_FORMS(X, N) \
    LOAD_FORM(X, N, add, +, f) LOAD_FORM(X, N, add, +, x) LOAD_FORM(X, N, sub, -, f) LOAD_FORM(X, N, sub, -, x) \
    LOAD_FORM(X, N, and, &, f) LOAD_FORM(X, N, and, &, x) LOAD_FORM(X, N, or, |, f) LOAD_FORM(X, N, or, |, x) \
    LOAD_FORM(X, N, xor, ^, f) LOAD_FORM(X, N, xor, ^, x)
#define LOAD_FORM(X, N, op, sign, form) \
    X(h_##op##_GE_##N##_##form, LOADED(N, form, h_##op##_GE_##N##_m, get_##N(c, o->reg) sign b))
#define LOADED(N, form, slow, value) \
    U_##N b; \
    const void *p = fast_r(c, ea_##form(c, o), sizeof b); \
    if (unlikely(p == NULL)) return slow(c, o); \
    memcpy(&b, p, sizeof b); \
    put_##N(c, o->reg, value)

/* Write all six flags, read none, cannot leave, and have nothing but flags to give: no lean form. */
#define FLAG_WRITERS(X, N) \
    X(h_cmp_EG_##N##_r) X(h_cmp_GE_##N##_r) X(h_cmp_EI_##N##_r) X(h_cmp_AI_##N) X(h_test_EG_##N##_r) X(h_test_EI_##N##_r) X(h_test_AI_##N)
/* Neither read nor write flags, and cannot leave. */
#define NEUTRALS(X, N) \
    X(h_mov_EG_##N##_r) X(h_mov_GE_##N##_r) X(h_mov_EI_##N##_r) X(h_mov_ZI_##N) X(h_lea_##N##_f) X(h_lea_##N##_x) \
    X(h_movzx8_##N##_r) X(h_movzx16_##N##_r) X(h_movsx8_##N##_r) X(h_movsx16_##N##_r) X(h_movsxd_##N##_r) X(h_not_##N##_r) X(h_bswap_##N)

#define DECLARE(N) \
    op_fn h_add_GE_##N##_m, h_sub_GE_##N##_m, h_and_GE_##N##_m, h_or_GE_##N##_m, h_xor_GE_##N##_m;
DECLARE(32)
DECLARE(64)
#define DEFINE(full, ...) \
    op_fn full; \
    static HANDLER(full##_lean) { \
        __VA_ARGS__; \
        NEXT(c, o); \
    }
#define DECLARE_ONLY(fn) op_fn fn;
#define ALL(X, N) REG_FORMS(X, N) PARTIAL_FORMS(X, N) LOAD_FORMS(X, N)
ALL(DEFINE, 32)
ALL(DEFINE, 64)
FLAG_WRITERS(DECLARE_ONLY, 8)
FLAG_WRITERS(DECLARE_ONLY, 32)
FLAG_WRITERS(DECLARE_ONLY, 64)
NEUTRALS(DECLARE_ONLY, 32)
NEUTRALS(DECLARE_ONLY, 64)

enum kind { WRITES_ALL, PARTIAL, MAY_LEAVE, NEUTRAL };
struct entry { op_fn *full, *lean; enum kind kind; };
#define ROW_ALL(full, ...) {full, full##_lean, WRITES_ALL},
#define ROW_PARTIAL(full, ...) {full, full##_lean, PARTIAL},
#define ROW_LOAD(full, ...) {full, full##_lean, MAY_LEAVE},
#define ROW_WRITER(fn) {fn, NULL, WRITES_ALL},
#define ROW_NEUTRAL(fn) {fn, NULL, NEUTRAL},
static const struct entry table[] = {
    REG_FORMS(ROW_ALL, 32) REG_FORMS(ROW_ALL, 64) PARTIAL_FORMS(ROW_PARTIAL, 32) PARTIAL_FORMS(ROW_PARTIAL, 64)
    LOAD_FORMS(ROW_LOAD, 32) LOAD_FORMS(ROW_LOAD, 64) FLAG_WRITERS(ROW_WRITER, 8) FLAG_WRITERS(ROW_WRITER, 32)
    FLAG_WRITERS(ROW_WRITER, 64) NEUTRALS(ROW_NEUTRAL, 32) NEUTRALS(ROW_NEUTRAL, 64)
};

static const struct entry *find(op_fn *fn) {
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].full == fn) return &table[i];
    return NULL;
}

void lean_pass(struct op *ops, unsigned count) {
    bool dead = false;
    while (count--) {
        const struct entry *e = find(ops[count].fn);
        if (!e) {
            dead = false;
            continue;
        }
        if (dead && e->lean) {
            ops[count].fn = e->lean;
            dead = e->kind != MAY_LEAVE;
        } else if (e->kind == WRITES_ALL) {
            dead = true;
        } else if (e->kind != NEUTRAL) {
            dead = false;
        }
    }
}
