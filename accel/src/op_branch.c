/*
 * op_branch.c - near jumps, calls and returns, and how blocks are chained.
 *
 * A direct branch has a link slot behind its op. In 64-bit code (and flat 32-bit code) it enters the linked block
 * at once; a link into another page holds only while fetch_gen is the one it was made under. Indirect branches look
 * the target up in the jump cache. Everything else goes through the run loop.
 */
#include "branch.h"

op_fn h_fall_through;

/* A branch whose target cannot simply be chained to: 16-bit code, segmented code. */
static COLD void go_checked(accel_cpu *c, const struct op *o, u64 target) {
    if (OP_OSZ(o) == SZ16) target &= 0xffff;
    if (is_code64(c) ? !canonical(c, target) : target > c->seg[SEG_CS].limit) return raise_err(c, o, EX_GP, 0);
    c->r[R_RIP] = target;
    leave_chain(c, NULL, 0);
}
static COLD void go_next(accel_cpu *c, const struct op *o) {
    c->r[R_RIP] = op_next_rip(c, o);
    leave_chain(c, NULL, 0);
}

#define TARGET_64(c, o, delta) ((c)->r[R_RIP] + (delta))
#define TARGET_32(c, o, delta) ((u64)(u32)((c)->r[R_RIP] + (delta)))
#define CHAINS_64(c) true
#define CHAINS_32(c) ((c)->key & K_FLAT)

HANDLER(h_fall_through) {
    u64 rip = c->r[R_RIP] + o->imm;
    if (likely(is_code64(c))) go(c, o, 0, rip);
    else if (c->key & K_FLAT && (c->key & K_CODE) == K_CODE32) go(c, o, 0, (u32)rip);
    else {
        c->r[R_RIP] = (u32)rip;
        leave_chain(c, NULL, 0);
    }
}

#define JUMP(N) \
    HANDLER(h_jmp_##N) { \
        if (CHAINS_##N(c)) go(c, o, 0, TARGET_##N(c, o, o->imm)); \
        else go_checked(c, o, TARGET_##N(c, o, o->imm)); \
    }
JUMP(64)
JUMP(32)
HANDLER(h_jmp_16) { go_checked(c, o, c->r[R_RIP] + o->imm); }

#define JCC_SIZE(name, condition, N) \
    HANDLER(h_##name##_##N) { \
        if (CHAINS_##N(c)) { \
            if (condition) go(c, o, 0, TARGET_##N(c, o, o->imm)); \
            else go(c, o, 1, TARGET_##N(c, o, (u64)o->off + o->len)); \
        } else if (condition) { \
            go_checked(c, o, TARGET_##N(c, o, o->imm)); \
        } else { \
            go_next(c, o); \
        } \
    }
#define JCC(name, condition) \
    JCC_SIZE(name, condition, 64) \
    JCC_SIZE(name, condition, 32) \
    HANDLER(h_##name##_16) { \
        if (condition) go_checked(c, o, c->r[R_RIP] + o->imm); \
        else go_next(c, o); \
    }
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
    else leave_to(c, o, taken ? target : next);
}

HANDLER(h_loop) { loop_to(c, o, count_register(c, o) != 1, true); }
HANDLER(h_loope) { loop_to(c, o, count_register(c, o) != 1 && zf(c), true); }
HANDLER(h_loopne) { loop_to(c, o, count_register(c, o) != 1 && !zf(c), true); }
HANDLER(h_jcxz) { loop_to(c, o, count_register(c, o) == 0, false); }

/* ---- indirect --------------------------------------------------------------------------------------------------- */

/* Not in the jump cache: the loop finds the block. A target that the cache knows needs no check. */
COLD void jump_unknown(accel_cpu *c, u64 target) {
    c->r[R_RIP] = target;
    leave_chain(c, NULL, 0);
}

NOINLINE struct block *new_target(accel_cpu *c, const struct op *o, u64 rip) {
    struct targets *t = targets_of(o);
    struct block *b = known_block(c, rip);
    if (b == NULL) return NULL;
    if (t->gen != c->fetch_gen) *t = (struct targets){.gen = c->fetch_gen};
    for (unsigned i = 0; i < TARGETS && !t->to[0].b; i++) t->to[i].rip = rip, t->to[i].b = b; /* no entry is free: rip 0 is an address */
    t->to[t->next].rip = rip;
    t->to[t->next].b = b;
    t->next = (t->next + 1) % TARGETS;
    return b;
}

static bool target_ok(accel_cpu *c, u64 target) {
    if (is_code64(c) ? canonical(c, target) : target <= c->seg[SEG_CS].limit) return true;
    return set_fault(c, EX_GP, true, 0);
}

/* Push a return address of the operand size. */
static bool push_return(accel_cpu *c, const struct op *o, u64 value) {
    unsigned size = 1u << OP_OSZ(o);
    u64 mask = stack_mask(c), sp = (c->r[R_RSP] - size) & mask, lin;
    if (!seg_linear(c, SEG_SS, sp, size, ACC_W, &lin) || !mem_write(c, o, lin, &value, size)) return false;
    c->r[R_RSP] = mask == 0xffff ? (c->r[R_RSP] & ~mask) | sp : sp;
    return true;
}

static bool pop_target(accel_cpu *c, const struct op *o, u64 *target) {
    unsigned size = 1u << OP_OSZ(o);
    u64 mask = stack_mask(c), lin;
    *target = 0;
    return seg_linear(c, SEG_SS, c->r[R_RSP] & mask, size, ACC_R, &lin) && mem_read(c, o, lin, target, size) && target_ok(c, *target);
}

static void drop_stack(accel_cpu *c, u64 bytes) {
    u64 mask = stack_mask(c), sp = (c->r[R_RSP] + bytes) & mask;
    c->r[R_RSP] = mask == 0xffff ? (c->r[R_RSP] & ~mask) | sp : sp;
}

static u64 cut_target(const struct op *o, u64 target) {
    return OP_OSZ(o) == SZ16 ? (u16)target : OP_OSZ(o) == SZ32 ? (u32)target : target;
}

SLOW_HANDLER_END(h_call_slow) {
    u64 target = cut_target(o, c->r[R_RIP] + o->imm);
    if (!target_ok(c, target) || !push_return(c, o, op_next_rip(c, o))) return false;
    *next = target;
    return true;
}

HANDLER(h_call_64) { end_call_64(c, o); }
/* Flat 32-bit code on a flat 32-bit stack. */
#define FLAT_32(c) (((c)->key & (K_FLAT | K_SS32)) == (K_FLAT | K_SS32))
HANDLER(h_call_32) {
    u64 sp = (u32)(c->r[R_RSP] - 4);
    void *p = fast_w(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_32(c))) return h_call_slow(c, o);
    u32 back = (u32)(c->r[R_RIP] + o->off + o->len);
    memcpy(p, &back, 4);
    c->r[R_RSP] = sp;
    go(c, o, 0, TARGET_32(c, o, o->imm));
}
HANDLER(h_call_16) { h_call_slow(c, o); }

SLOW_HANDLER_END(h_ret_slow) {
    if (!pop_target(c, o, next)) return false;
    drop_stack(c, (1u << OP_OSZ(o)) + (u16)o->imm);
    return true;
}

HANDLER(h_ret_64) { end_ret_64(c, o); }
HANDLER(h_ret_32) {
    u64 sp = (u32)c->r[R_RSP];
    u32 target;
    const void *p = fast_r(c, sp, 4);
    if (unlikely(p == NULL || !FLAT_32(c))) return h_ret_slow(c, o);
    memcpy(&target, p, 4);
    c->r[R_RSP] = (u32)(sp + 4 + (u16)o->imm);
    struct block *b = known_block(c, target);
    if (unlikely(b == NULL)) return jump_unknown(c, target);
    go_block(c, b, target);
}
HANDLER(h_ret_16) { h_ret_slow(c, o); }

/* JMP r/m, CALL r/m: 64-bit register and plain memory forms are fast; the rest goes one way. */
static bool operand_target(accel_cpu *c, const struct op *o, u64 *target) {
    *target = 0;
    if (!OP_MEM(o)) {
        *target = cut_target(o, c->r[o->rm]);
        return target_ok(c, *target);
    }
    u64 lin;
    unsigned size = 1u << OP_OSZ(o);
    return op_linear(c, o, size, ACC_R, &lin) && mem_read(c, o, lin, target, size) && target_ok(c, *target);
}

SLOW_HANDLER_END(h_jmp_E_slow) { return operand_target(c, o, next); }
SLOW_HANDLER_END(h_call_E_slow) {
    u64 target;
    if (!operand_target(c, o, &target) || !push_return(c, o, op_next_rip(c, o))) return false;
    *next = target;
    return true;
}

HANDLER(h_jmp_E_64_r) { end_jmp_E_64_r(c, o); }
HANDLER(h_jmp_E_64_f) { end_jmp_E_64_f(c, o); }
HANDLER(h_jmp_E_64_x) { end_jmp_E_64_x(c, o); }
HANDLER(h_call_E_64_r) { end_call_E_64_r(c, o); }
HANDLER(h_call_E_64_f) { end_call_E_64_f(c, o); }
HANDLER(h_call_E_64_x) { end_call_E_64_x(c, o); }
#define INDIRECT_SLOW(name, form) HANDLER(h_##name##_E_##form) { h_##name##_E_slow(c, o); }
#define INDIRECT_SLOW_SIZE(name, N) \
    INDIRECT_SLOW(name, N##_r) INDIRECT_SLOW(name, N##_m) INDIRECT_SLOW(name, N##_f) INDIRECT_SLOW(name, N##_x)
INDIRECT_SLOW_SIZE(jmp, 16)
INDIRECT_SLOW_SIZE(jmp, 32)
INDIRECT_SLOW(jmp, 64_m)
INDIRECT_SLOW_SIZE(call, 16)
INDIRECT_SLOW_SIZE(call, 32)
INDIRECT_SLOW(call, 64_m)
