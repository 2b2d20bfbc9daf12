/*
 * op_branch.c - near jumps, calls and returns, and how blocks are chained.
 *
 * A direct branch has a link slot behind its op. In 64-bit code (and flat 32-bit code) it enters the linked block
 * at once; a link into another page holds only while fetch_gen is the one it was made under. Indirect branches look
 * the target up in the jump cache. Everything else goes through the run loop.
 */
#include "branch.h"

#define TARGET_64(c, o, delta) ((c)->r[R_RIP] + (delta))
#define TARGET_32(c, o, delta) ((u64)(u32)((c)->r[R_RIP] + (delta)))
#define CHAINS_64(c) true
#define CHAINS_32(c) ((c)->key & K_FLAT)

CHAINING_HANDLER(h_fall_through) {
    u64 rip = c->r[R_RIP] + o->imm;
    if (likely(is_code64(c))) go_on(c, o, 0, rip);
    else if (c->key & K_FLAT && (c->key & K_CODE) == K_CODE32) go_on(c, o, 0, (u32)rip);
    else {
        c->r[R_RIP] = (u32)rip;
        leave_chain(c, NULL, 0);
    }
}

#define JUMP(N) \
    CHAINING_HANDLER(h_jmp_##N) { \
        if (CHAINS_##N(c)) go(c, o, 0, TARGET_##N(c, o, o->imm)); \
        else go_checked(c, o, TARGET_##N(c, o, o->imm)); \
    }
JUMP(64)
JUMP(32)

#define JCC_SIZE(name, condition, N) \
    CHAINING_HANDLER(h_##name##_##N) { \
        if (CHAINS_##N(c)) { \
            if (condition) go(c, o, 0, TARGET_##N(c, o, o->imm)); \
            else go(c, o, 1, TARGET_##N(c, o, (u64)o->off + o->len)); \
        } else if (condition) { \
            go_checked(c, o, TARGET_##N(c, o, o->imm)); \
        } else { \
            go_next(c, o); \
        } \
    }
#define JCC(name, condition) JCC_SIZE(name, condition, 64) JCC_SIZE(name, condition, 32)
CONDITIONS(JCC)

/* LOOPNE LOOPE LOOP JrCXZ: the count register has the address size. */
static u64 count_register(const accel_cpu *c, const struct op *o) {
    return OP_ASZ(o) == SZ64 ? c->r[R_RCX] : OP_ASZ(o) == SZ32 ? (u32)c->r[R_RCX] : (u16)c->r[R_RCX];
}

static void count_down(accel_cpu *c, const struct op *o) {
    u64 n = c->r[R_RCX] - 1;
    if (OP_ASZ(o) == SZ16) put_16(c, R_RCX, (u16)n);
    else c->r[R_RCX] = OP_ASZ(o) == SZ32 ? (u32)n : n;
}

static void loop_to(accel_cpu *c, const struct op *o, bool taken, bool count) {
    u64 target = c->r[R_RIP] + o->imm, next = op_next_rip(c, o);
    if (OP_OSZ(o) == SZ16) target &= 0xffff;
    else if (OP_OSZ(o) == SZ32) target = (u32)target;
    if (taken && (is_code64(c) ? !canonical(c, target) : target > c->seg[SEG_CS].limit)) return raise_err(c, o, EX_GP, 0);
    if (count) count_down(c, o);
    if (is_code64(c)) go(c, o, !taken, taken ? target : next);
    else if (taken) go_checked(c, o, target);
    else go_next(c, o);
}

CHAINING_HANDLER(h_loop) { loop_to(c, o, count_register(c, o) != 1, true); }
CHAINING_HANDLER(h_loope) { loop_to(c, o, count_register(c, o) != 1 && zf(c), true); }
CHAINING_HANDLER(h_loopne) { loop_to(c, o, count_register(c, o) != 1 && !zf(c), true); }
CHAINING_HANDLER(h_jcxz) { loop_to(c, o, count_register(c, o) == 0, false); }

/* ---- indirect --------------------------------------------------------------------------------------------------- */

CHAINING_HANDLER(h_call_64) { end_call_64(c, o); }
/* Flat 32-bit code on a flat 32-bit stack. */
#define FLAT_32(c) (((c)->key & (K_FLAT | K_SS32)) == (K_FLAT | K_SS32))
CHAINING_HANDLER(h_call_32) {
    u64 sp = (u32)(c->r[R_RSP] - 4);
    void *p = fast_w(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_32(c))) return h_call_slow(c, o);
    u32 back = (u32)(c->r[R_RIP] + o->off + o->len);
    memcpy(p, &back, 4);
    c->r[R_RSP] = sp;
    go(c, o, 0, TARGET_32(c, o, o->imm));
}
CHAINING_HANDLER(h_ret_64) { end_ret_64(c, o); }
CHAINING_HANDLER(h_ret_32) {
    u64 sp = (u32)c->r[R_RSP];
    u32 target;
    const void *p = fast_r(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_32(c))) return h_ret_slow(c, o);
    memcpy(&target, p, 4);
    c->r[R_RSP] = (u32)(sp + 4 + (u16)o->imm);
    struct block *b = known_block(c, target);
    if (unlikely(b == NULL)) return jump_unknown(c, o, target);
    go_block(c, o, b, target);
}

CHAINING_HANDLER(h_jmp_E_64_r) { end_jmp_E_64_r(c, o); }
CHAINING_HANDLER(h_jmp_E_64_f) { end_jmp_E_64_f(c, o); }
CHAINING_HANDLER(h_jmp_E_64_x) { end_jmp_E_64_x(c, o); }
CHAINING_HANDLER(h_call_E_64_r) { end_call_E_64_r(c, o); }
CHAINING_HANDLER(h_call_E_64_f) { end_call_E_64_f(c, o); }
CHAINING_HANDLER(h_call_E_64_x) { end_call_E_64_x(c, o); }
