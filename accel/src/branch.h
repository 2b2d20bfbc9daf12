/*
 * branch.h - chaining from a direct branch to its successor, and the sixteen conditions; for op_branch.c and op_fuse.c.
 */
#ifndef BRANCH_H
#define BRANCH_H

#include "exec.h"

INLINE struct link *link_of(const struct op *o) { return (struct link *)(o + 1); }

/* Go on at rip through successor `which` (0 taken, 1 fall-through) of the direct branch o. */
INLINE void go(accel_cpu *c, const struct op *o, int which, u64 rip) {
    struct link *l = link_of(o);
    struct block *b = l->to[which];
    c->r[R_RIP] = rip;
    if ((which ? o->vvvv : o->scale) && unlikely((which ? l->gen1 : l->gen) != c->fetch_gen)) return leave_chain(c, l, which);
    if (unlikely((c->budget -= b->cost) < 0)) return leave_over(c, b, l, which);
    c->block = b;
    DISPATCH(c, b->ops);
}

#define BE(c) ((c)->flags_ah & (F_CF | F_ZF))
#define LT(c) (sf(c) != of(c))
/* X(name of the jump, its condition), by condition code */
#define CONDITIONS(X) \
    X(jo, of(c)) X(jno, !of(c)) X(jb, cf(c)) X(jnb, !cf(c)) X(jz, zf(c)) X(jnz, !zf(c)) X(jbe, BE(c)) X(jnbe, !BE(c)) \
    X(js, sf(c)) X(jns, !sf(c)) X(jp, pf(c)) X(jnp, !pf(c)) X(jl, LT(c)) X(jnl, !LT(c)) X(jle, zf(c) || LT(c)) \
    X(jnle, !(zf(c) || LT(c)))

#endif
