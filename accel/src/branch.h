/*
 * branch.h - chaining from a branch to its successor, the sixteen conditions, and what the near branches of 64-bit code do
 * (end_FORM, FORM being the name of the handler without h_); for op_branch.c and op_fuse.c.
 *
 * Both are compiled twice: with TRACED defined they give the handlers that record the branches which they take (trace.h),
 * named NAMED(h_FORM).
 */
#ifndef BRANCH_H
#define BRANCH_H

#include "trace.h"

op_fn h_call_slow, h_ret_slow, h_jmp_E_slow, h_call_E_slow;
void go_checked(accel_cpu *c, const struct op *o, u64 target); /* taken, but cannot simply be chained */
void go_next(accel_cpu *c, const struct op *o);               /* likewise not taken */
void jump_unknown(accel_cpu *c, const struct op *o, u64 target); /* canonical, but not in the jump cache */
struct block *new_target(accel_cpu *c, const struct op *o, u64 rip); /* known_block(), remembered at o */

#ifdef TRACED
#define NAMED(name) NAMED_TRACED(name)
#define NAMED_TRACED(name) name##_traced
#define TAKEN(kind, c, o, to) trace_##kind(c, o, to)
#else
#define NAMED(name) name
#define TAKEN(kind, c, o, to) ((void)0)
#endif
#define CHAINING_HANDLER(name) HANDLER(NAMED(name))

INLINE struct link *link_of(const struct op *o) { return (struct link *)(o + 1); }

/* Go on at rip through successor `which` (0 taken, or the only one; 1 fall-through) of o. */
INLINE void go_on(accel_cpu *c, const struct op *o, int which, u64 rip) {
    struct link *l = link_of(o);
    struct block *b = l->to[which];
    c->r[R_RIP] = rip;
    if ((which ? o->vvvv : o->scale) && unlikely((which ? l->gen1 : l->gen) != c->fetch_gen)) return leave_chain(c, l, which);
    if (unlikely((c->budget -= b->cost) < 0)) return leave_over(c, b, l, which);
    c->block = b;
    DISPATCH(c, b->ops);
}

/* The same for a direct branch. */
INLINE void go(accel_cpu *c, const struct op *o, int which, u64 rip) {
    if (which == 0) TAKEN(relative, c, o, rip);
    go_on(c, o, which, rip);
}

#define BE(c) ((c)->flags_ah & (F_CF | F_ZF))
#define LT(c) (sf(c) != of(c))
/* X(name of the jump, its condition), by condition code */
#define CONDITIONS(X) \
    X(jo, of(c)) X(jno, !of(c)) X(jb, cf(c)) X(jnb, !cf(c)) X(jz, zf(c)) X(jnz, !zf(c)) X(jbe, BE(c)) X(jnbe, !BE(c)) \
    X(js, sf(c)) X(jns, !sf(c)) X(jp, pf(c)) X(jnp, !pf(c)) X(jl, LT(c)) X(jnl, !LT(c)) X(jle, zf(c) || LT(c)) \
    X(jnle, !(zf(c) || LT(c)))

#define END_JCC(name, condition) \
    INLINE void end_##name##_64(accel_cpu *c, const struct op *o) { \
        if (condition) go(c, o, 0, c->r[R_RIP] + o->imm); \
        else go(c, o, 1, c->r[R_RIP] + o->off + o->len); \
    }
CONDITIONS(END_JCC)
INLINE void end_jmp_64(accel_cpu *c, const struct op *o) { go(c, o, 0, c->r[R_RIP] + o->imm); }

INLINE void end_call_64(accel_cpu *c, const struct op *o) {
    u64 sp = c->r[R_RSP] - 8;
    void *p = fast_w(c, sp, 8);
    if (unlikely(p == NULL)) return h_call_slow(c, o);
    u64 back = c->r[R_RIP] + o->off + o->len;
    memcpy(p, &back, 8);
    c->r[R_RSP] = sp;
    go(c, o, 0, c->r[R_RIP] + o->imm);
}

/* ---- indirect ---- */

/* The block at rip if the jump cache knows it (then rip is canonical, too), else NULL. */
INLINE struct block *known_block(const accel_cpu *c, u64 rip) {
    unsigned i = jump_index(rip);
    bool hit = c->jump[i].rip == rip && c->jump[i].gen == c->fetch_gen && c->jump[i].key == c->run_key;
    return likely(hit) ? c->jump[i].b : NULL;
}

INLINE void go_block(accel_cpu *c, const struct op *o, struct block *b, u64 rip) {
    (void)o;
    TAKEN(indirect, c, o, rip);
    c->r[R_RIP] = rip;
    if (unlikely((c->budget -= b->cost) < 0)) return leave_over(c, b, NULL, 0);
    c->block = b;
    DISPATCH(c, b->ops);
}

INLINE void end_ret_64(accel_cpu *c, const struct op *o) {
    u64 sp = c->r[R_RSP], target;
    const void *p = fast_r(c, sp, 8);
    if (unlikely(p == NULL)) return h_ret_slow(c, o);
    memcpy(&target, p, 8);
    struct block *b = known_block(c, target);
    if (unlikely(b == NULL)) {
        if (unlikely(!canonical(c, target))) return h_ret_slow(c, o);
        c->r[R_RSP] = sp + 8 + (u16)o->imm;
        return jump_unknown(c, o, target);
    }
    c->r[R_RSP] = sp + 8 + (u16)o->imm;
    go_block(c, o, b, target);
}

INLINE struct targets *targets_of(const struct op *o) { return (struct targets *)(o + 1); }

/* The block at rip if branch o went there lately, else as known_block(). */
INLINE struct block *known_target(accel_cpu *c, const struct op *o, u64 rip) {
    struct targets *t = targets_of(o);
    if (likely(t->gen == c->fetch_gen)) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < TARGETS; i++)
            if (t->to[i].rip == rip) return t->to[i].b;
    }
    return new_target(c, o, rip);
}

INLINE void go_target(accel_cpu *c, const struct op *o, struct block *b, u64 rip) {
    TAKEN(indirect, c, o, rip);
    c->r[R_RIP] = rip;
    if (unlikely((c->budget -= b->cost) < 0)) {
        targets_of(o)->gen = 0;
        return leave_over(c, b, NULL, 0);
    }
    c->block = b;
    DISPATCH(c, b->ops);
}

INLINE void jmp_fast(accel_cpu *c, const struct op *o, u64 target) {
    struct block *b = known_target(c, o, target);
    if (likely(b != NULL)) go_target(c, o, b, target);
    else if (canonical(c, target)) jump_unknown(c, o, target);
    else h_jmp_E_slow(c, o);
}

INLINE void call_fast(accel_cpu *c, const struct op *o, u64 target) {
    u64 sp = c->r[R_RSP] - 8, back = c->r[R_RIP] + o->off + o->len;
    struct block *b = known_target(c, o, target);
    void *p = fast_w(c, sp, 8);
    if (unlikely(p == NULL || (b == NULL && !canonical(c, target)))) return h_call_E_slow(c, o);
    memcpy(p, &back, 8);
    c->r[R_RSP] = sp;
    if (likely(b != NULL)) go_target(c, o, b, target);
    else jump_unknown(c, o, target);
}

INLINE void end_jmp_E_64_r(accel_cpu *c, const struct op *o) { jmp_fast(c, o, c->r[o->rm]); }
INLINE void end_call_E_64_r(accel_cpu *c, const struct op *o) { call_fast(c, o, c->r[o->rm]); }
#define END_MEMORY(name, form) \
    INLINE void end_##name##_E_64_##form(accel_cpu *c, const struct op *o) { \
        u64 target; \
        const void *p = fast_r(c, ea_##form(c, o), 8); \
        if (unlikely(p == NULL)) return h_##name##_E_slow(c, o); \
        memcpy(&target, p, 8); \
        name##_fast(c, o, target); \
    }
END_MEMORY(jmp, f)
END_MEMORY(jmp, x)
END_MEMORY(call, f)
END_MEMORY(call, x)

/* ---- the handlers that chain: X(FORM) ---- */

#define CHAINING(X) \
    X(fall_through) X(jmp_64) X(jmp_32) X(loop) X(loope) X(loopne) X(jcxz) X(call_64) X(call_32) X(ret_64) X(ret_32) \
    X(jmp_E_64_r) X(jmp_E_64_f) X(jmp_E_64_x) X(call_E_64_r) X(call_E_64_f) X(call_E_64_x)
#define DECLARE_CHAINING(form) op_fn h_##form, h_##form##_traced;
#define DECLARE_JUMP(name, condition) DECLARE_CHAINING(name##_64) DECLARE_CHAINING(name##_32)
CHAINING(DECLARE_CHAINING)
CONDITIONS(DECLARE_JUMP)

#endif
