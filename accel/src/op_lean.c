/*
 * op_lean.c - handlers that leave the flags alone, for instructions whose flags nobody can see.
 *
 * The flags of an instruction are dead when a later instruction of its block overwrites all six without reading any, and
 * everything from the one to the other neither reads flags nor can leave the block (no memory access, no fault). Runs are
 * never cut inside a block (short budgets, stepping and breakpoints use blocks of their own), so nothing observes the
 * difference: the pass below runs backwards over a new block and swaps handlers.
 */
#include "body.h"

#define LEAN_HANDLER(use, form, full, lean) \
    HANDLER(h_##form##_lean) { \
        if (unlikely(!do_##form##_lean(c, o))) return h_##form(c, o); \
        NEXT(c, o); \
    }
BODIES_WITH_FLAGS(LEAN_HANDLER, 16)
BODIES_WITH_FLAGS(LEAN_HANDLER, 32)
BODIES_WITH_FLAGS(LEAN_HANDLER, 64)

#define ROW_BOTH(use, form, full, lean) {h_##form, h_##form##_lean, use},
#define ROW_PLAIN(use, form, ...) {h_##form, NULL, use},
static const struct lean rows[] = {
    BODIES_WITH_FLAGS(ROW_BOTH, 16) BODIES_WITH_FLAGS(ROW_BOTH, 32) BODIES_WITH_FLAGS(ROW_BOTH, 64) BODIES_PLAIN(ROW_PLAIN)
};
enum { ROWS = sizeof rows / sizeof *rows };
_Static_assert(ROWS < LEAN_HASH / 2, "the table has room");

static unsigned slot_of(op_fn *fn) { return (unsigned)((uintptr_t)fn * 0x9e3779b97f4a7c15ull >> 40) & (LEAN_HASH - 1); }

void lean_table(const struct lean **table) {
    for (unsigned i = 0; i < ROWS; i++) {
        unsigned at = slot_of(rows[i].full);
        while (table[at]) at = (at + 1) & (LEAN_HASH - 1);
        table[at] = &rows[i];
    }
}

static const struct lean *find(const struct lean *const *table, op_fn *fn) {
    unsigned at = slot_of(fn);
    while (table[at] && table[at]->full != fn) at = (at + 1) & (LEAN_HASH - 1);
    return table[at];
}

static bool overwrites_all(const struct lean *e, const struct op *o) {
    return e->use == WRITES_ALL || (e->use == SHIFTS && ((unsigned)o->imm & (OP_OSZ(o) == SZ64 ? 63 : 31)));
}

void lean_pass(const struct lean *const *table, struct op *ops, unsigned count) {
    bool dead = false;
    while (count--) {
        const struct lean *e = find(table, ops[count].fn);
        if (!e) {
            dead = false;
            continue;
        }
        if (dead && e->lean) {
            ops[count].fn = e->lean;
            dead = e->use != MAY_LEAVE;
        } else if (overwrites_all(e, &ops[count])) {
            dead = true;
        } else if (e->use != NEUTRAL) {
            dead = false;
        }
    }
}
