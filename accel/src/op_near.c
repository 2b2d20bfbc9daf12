/*
 * op_near.c - near jumps, calls and returns the long way: segmented and 16-bit code, accesses that are not plain, targets
 * that are not known. What chains at once is in op_branch.c.
 */
#include "branch.h"

/* A branch whose target cannot simply be chained to: 16-bit code, segmented code. */
COLD void go_checked(accel_cpu *c, const struct op *o, u64 target) {
    if (OP_OSZ(o) == SZ16) target &= 0xffff;
    if (is_code64(c) ? !canonical(c, target) : target > c->seg[SEG_CS].limit) return raise_err(c, o, EX_GP, 0);
    if (c->run_key & K_TRACE) trace_checked(c, o, target);
    c->r[R_RIP] = target;
    leave_chain(c, NULL, 0);
}
COLD void go_next(accel_cpu *c, const struct op *o) {
    c->r[R_RIP] = op_next_rip(c, o);
    leave_chain(c, NULL, 0);
}

HANDLER(h_jmp_16) { go_checked(c, o, c->r[R_RIP] + o->imm); }
#define JCC_16(name, condition) \
    HANDLER(h_##name##_16) { \
        if (condition) go_checked(c, o, c->r[R_RIP] + o->imm); \
        else go_next(c, o); \
    }
CONDITIONS(JCC_16)

/* Not in the jump cache: the loop finds the block. A target that the cache knows needs no check. */
COLD void jump_unknown(accel_cpu *c, const struct op *o, u64 target) {
    if (c->run_key & K_TRACE) trace_checked(c, o, target);
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

SLOW_HANDLER_END(h_ret_slow) {
    if (!pop_target(c, o, next)) return false;
    drop_stack(c, (1u << OP_OSZ(o)) + (u16)o->imm);
    return true;
}

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

HANDLER(h_call_16) { h_call_slow(c, o); }
HANDLER(h_ret_16) { h_ret_slow(c, o); }
#define INDIRECT_SLOW(name, form) HANDLER(h_##name##_E_##form) { h_##name##_E_slow(c, o); }
#define INDIRECT_SLOW_SIZE(name, N) \
    INDIRECT_SLOW(name, N##_r) INDIRECT_SLOW(name, N##_m) INDIRECT_SLOW(name, N##_f) INDIRECT_SLOW(name, N##_x)
INDIRECT_SLOW_SIZE(jmp, 16)
INDIRECT_SLOW_SIZE(jmp, 32)
INDIRECT_SLOW(jmp, 64_m)
INDIRECT_SLOW_SIZE(call, 16)
INDIRECT_SLOW_SIZE(call, 32)
INDIRECT_SLOW(call, 64_m)
