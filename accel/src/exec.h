/*
 * exec.h - how handlers are written.
 *
 * A handler executes one instruction form and ends by calling the next op in tail position:
 *
 *     HANDLER(h_name)              one function for every form (attribute `uni` in insns.def)
 *     HANDLER(h_name_32_r)         sized (.v/.y/.b suffix in insns.def), register form
 *     HANDLER(h_name_32_m)         memory form: complete, may call functions, handles every mode and fault
 *     HANDLER(h_name_32_f)         fast memory form (attribute `hot`): base + disp, 64-bit mode, no segment base
 *     HANDLER(h_name_32_x)         fast memory form: base + index * scale + disp + segment base, 64-bit addresses
 *
 * The fast forms touch memory only where the fast TLB says that a plain host access is right, and otherwise
 * tail-call the _m form, which starts over. So they need no stack frame and no call.
 *
 * A handler that takes the address of a local (every one that uses rd_N and its like) is written as
 *
 *     SLOW_HANDLER(h_name_32_m) { ...; return true; }
 *
 * which puts the body into a function of its own (a live local would make the tail call a real call). The body
 * returns true when the instruction retired and the block goes on, or false when a fault or an exit is set up:
 * `return set_fault(c, EX_GP, true, 0);`, or simply the false that a memory function returned.
 *
 * Order inside a handler: check and translate every operand, read, compute, then commit: memory first with
 * mem_write() (which can fail only before anything is written), then registers and flags. Before the first
 * commit a plain handler may `return raise_err(c, o, EX_GP, 0)` at any time. After the commit:
 *     NEXT(c, o)    register forms and fast forms
 *     return leave_to(c, o, rip)  the instruction ended its block (attribute `end`) and rip is next
 *     END(c, o)     the instruction ended its block and goes on behind itself
 */
#ifndef EXEC_H
#define EXEC_H

#include "cpu.h"

/* restrict: no store of a plain handler reaches its own op, so its fields need no second load. (Ops do change when a
 * block is killed, which only functions called by SLOW_HANDLERs do.) */
#define HANDLER(name) void name(accel_cpu *restrict c, const struct op *restrict o)

#ifdef ACCEL_LOOP_DISPATCH /* builds without sibling calls: a loop in slice.c drives the same handlers */
#define DISPATCH(c, o) do { (c)->cur = (o); return; } while (0)
#else
/* The empty statement makes the next op the one pointer that is worked with: `add $32, op; jmp *(op)`. */
#define DISPATCH(c, o) do { const struct op *next_op = (o); __asm__("" : "+r"(next_op)); return next_op->fn((c), next_op); } while (0)
#endif
#define NEXT(c, o) DISPATCH(c, (o) + 1)
#define SLOW_HANDLER(name) \
    static NOINLINE bool name##_body(accel_cpu *c, const struct op *o); \
    void name(accel_cpu *c, const struct op *o) { \
        if (unlikely(!name##_body(c, o))) return leave_fault(c, o); \
        if (unlikely(c->attention)) return leave_after(c, o); \
        NEXT(c, o); \
    } \
    static bool name##_body(accel_cpu *c, const struct op *o)
/* The same for an instruction that ends its block: the body sets *next (preset to the instruction behind). */
#define SLOW_HANDLER_END(name) \
    static NOINLINE bool name##_body(accel_cpu *c, const struct op *o, u64 *next); \
    void name(accel_cpu *c, const struct op *o) { \
        u64 next = op_next_rip(c, o); \
        if (unlikely(!name##_body(c, o, &next))) return leave_fault(c, o); \
        return leave_to(c, o, next); \
    } \
    static bool name##_body(accel_cpu *c, const struct op *o, u64 *next)
#define END(c, o) return leave_to(c, o, op_next_rip(c, o))

/* ---- registers ---- */

typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
#define U_8 u8
#define U_16 u16
#define U_32 u32
#define U_64 u64
#define S_8 s8
#define S_16 s16
#define S_32 s32
#define S_64 s64

/* get_N(c, n) / put_N(c, n, v): n is an op field; 32-bit writes clear the upper half. */
INLINE u8 get_8(const accel_cpu *c, unsigned n) { return ((const u8 *)c->r)[n]; }
INLINE u16 get_16(const accel_cpu *c, unsigned n) { return (u16)c->r[n]; }
INLINE u32 get_32(const accel_cpu *c, unsigned n) { return (u32)c->r[n]; }
INLINE u64 get_64(const accel_cpu *c, unsigned n) { return c->r[n]; }
INLINE void put_8(accel_cpu *c, unsigned n, u8 v) { ((u8 *)c->r)[n] = v; }
INLINE void put_16(accel_cpu *c, unsigned n, u16 v) { memcpy(&c->r[n], &v, 2); }
INLINE void put_32(accel_cpu *c, unsigned n, u32 v) { c->r[n] = v; }
INLINE void put_64(accel_cpu *c, unsigned n, u64 v) { c->r[n] = v; }

/* ---- memory ---- */

INLINE u64 ea_f(const accel_cpu *c, const struct op *o) { return c->r[o->base] + (s64)o->disp; }
INLINE u64 ea_x(const accel_cpu *c, const struct op *o) {
    return c->segbase[o->seg] + c->r[o->base] + (c->r[o->index] << o->scale) + (s64)o->disp;
}

/* Host address for a plain access of `size` bytes at lin through a view of the fast TLB, or NULL: not plain. */
INLINE void *view_r(const struct ftlb_entry *view, u64 lin, unsigned size) {
    const struct ftlb_entry *e = &view[ftlb_index(lin)];
    if (unlikely(((lin + size - 1) & PAGE_MASK) != e->rtag)) return NULL;
    void *p = (void *)(lin + e->addend);
    if (p == NULL) __builtin_unreachable(); /* spares the caller's test */
    return p;
}
INLINE void *view_w(const struct ftlb_entry *view, u64 lin, unsigned size) {
    const struct ftlb_entry *e = &view[ftlb_index(lin)];
    if (unlikely(((lin + size - 1) & PAGE_MASK) != e->wtag)) return NULL;
    void *p = (void *)(lin + e->addend);
    if (p == NULL) __builtin_unreachable(); /* spares the caller's test */
    return p;
}

/* The same for the instruction's own accesses. */
INLINE void *fast_r(const accel_cpu *c, u64 lin, unsigned size) { return view_r(c->ft, lin, size); }
INLINE void *fast_w(const accel_cpu *c, u64 lin, unsigned size) { return view_w(c->ft, lin, size); }

/* rd_N(c, o, &v) / wr_N(c, o, v): the ModRM memory operand of o, in full. False: leave_fault(c, o).
 * (SLOW_HANDLER bodies `return false`.) rmw_N(c, o, &lin, &v): reads for a later wr_at_N(c, o, lin, v), which cannot fault any more. */
#define MEM_ACCESS(N) \
    INLINE bool rd_at_##N(accel_cpu *c, const struct op *o, u64 lin, U_##N *v) { \
        const void *p = fast_r(c, lin, sizeof *v); \
        if (likely(p != NULL)) { memcpy(v, p, sizeof *v); return true; } \
        return mem_read(c, o, lin, v, sizeof *v); \
    } \
    INLINE bool wr_at_##N(accel_cpu *c, const struct op *o, u64 lin, U_##N v) { \
        void *p = fast_w(c, lin, sizeof v); \
        if (likely(p != NULL)) { memcpy(p, &v, sizeof v); return true; } \
        return mem_write(c, o, lin, &v, sizeof v); \
    } \
    INLINE bool rd_##N(accel_cpu *c, const struct op *o, U_##N *v) { \
        u64 lin; \
        return op_linear(c, o, sizeof *v, ACC_R, &lin) && rd_at_##N(c, o, lin, v); \
    } \
    INLINE bool wr_##N(accel_cpu *c, const struct op *o, U_##N v) { \
        u64 lin; \
        return op_linear(c, o, sizeof v, ACC_W, &lin) && wr_at_##N(c, o, lin, v); \
    } \
    INLINE bool rmw_##N(accel_cpu *c, const struct op *o, u64 *lin, U_##N *v) { \
        return op_linear(c, o, sizeof *v, ACC_W, lin) && mem_probe_write(c, o, *lin, sizeof *v) && rd_at_##N(c, o, *lin, v); \
    }
MEM_ACCESS(8)
MEM_ACCESS(16)
MEM_ACCESS(32)
MEM_ACCESS(64)

/* Bits 63-47 (63-56 with 5-level paging) are alike (SDM vol. 1, "Canonical Addressing"). */
INLINE bool canonical(const accel_cpu *c, u64 lin) {
    unsigned shift = c->cr4 & CR4_LA57 ? 7 : 16;
    return (u64)((s64)(lin << shift) >> shift) == lin;
}

/* The slot of a linear rip in c->jump. */
INLINE unsigned jump_index(u64 rip) { return (unsigned)(rip ^ rip >> 12) & 4095; }

/* ---- flags ---- */

INLINE bool cf(const accel_cpu *c) { return c->flags_ah & F_CF; }
INLINE bool zf(const accel_cpu *c) { return c->flags_ah & F_ZF; }
INLINE bool sf(const accel_cpu *c) { return c->flags_ah & F_SF; }
INLINE bool pf(const accel_cpu *c) { return c->flags_ah & F_PF; }
INLINE bool of(const accel_cpu *c) { return c->flags_of; }

/* Condition 0-15 as in Jcc/SETcc/CMOVcc (SDM vol. 2, "EFLAGS Condition Codes"). */
INLINE bool cond(const accel_cpu *c, unsigned cc) {
    bool v;
    switch (cc >> 1) {
    case 0: v = of(c); break;
    case 1: v = cf(c); break;
    case 2: v = zf(c); break;
    case 3: v = c->flags_ah & (F_CF | F_ZF); break;
    case 4: v = sf(c); break;
    case 5: v = pf(c); break;
    case 6: v = sf(c) != of(c); break;
    default: v = zf(c) || sf(c) != of(c); break;
    }
    return v != (cc & 1);
}

INLINE void set_flags_ah(accel_cpu *c, u8 mask, u8 value) { c->flags_ah = (u8)((c->flags_ah & ~mask) | (value & mask)); }

/* ALU helpers: the host instruction, its flags stored. alu_OP_N(c, a, b) -> a OP b.
 * AF is undefined after AND/OR/XOR/TEST; we clear it (as both vendors' hardware does). */
#define ALU_OP(name, N, sfx, q) \
    INLINE U_##N alu_##name##_##N(accel_cpu *c, U_##N a, U_##N b) { \
        u16 fl; \
        __asm__(#name sfx " %2,%0\n\tlahf\n\tseto %%al" : "+" q(a), "=&a"(fl) : q(b) : "cc"); \
        c->flags_ax = fl; \
        return a; \
    }
#define ALU_CARRY(name, N, sfx, q) \
    INLINE U_##N alu_##name##_##N(accel_cpu *c, U_##N a, U_##N b) { \
        u16 fl = c->flags_ax; \
        __asm__("btw $8,%w1\n\t" #name sfx " %2,%0\n\tlahf\n\tseto %%al" : "+" q(a), "+&a"(fl) : q(b) : "cc"); \
        c->flags_ax = fl; \
        return a; \
    }
#define ALU_LOGIC(name, N, sfx, q) \
    INLINE U_##N alu_##name##_##N(accel_cpu *c, U_##N a, U_##N b) { \
        u16 fl; \
        __asm__(#name sfx " %2,%0\n\tlahf\n\tseto %%al" : "+" q(a), "=&a"(fl) : q(b) : "cc"); \
        c->flags_ax = fl & ~(F_AF << 8); \
        return a; \
    }
#define ALU_KEEP_CF(name, N, sfx, q) \
    INLINE U_##N alu_##name##_##N(accel_cpu *c, U_##N a) { \
        u16 fl = c->flags_ax; \
        __asm__("btw $8,%w1\n\t" #name sfx " %0\n\tlahf\n\tseto %%al" : "+" q(a), "+&a"(fl) : : "cc"); \
        c->flags_ax = fl; \
        return a; \
    }
#define ALU_SIZE(N, sfx, q) \
    ALU_OP(add, N, sfx, q) ALU_OP(sub, N, sfx, q) ALU_CARRY(adc, N, sfx, q) ALU_CARRY(sbb, N, sfx, q) \
    ALU_LOGIC(and, N, sfx, q) ALU_LOGIC(or, N, sfx, q) ALU_LOGIC(xor, N, sfx, q) \
    ALU_KEEP_CF(inc, N, sfx, q) ALU_KEEP_CF(dec, N, sfx, q) \
    INLINE void alu_cmp_##N(accel_cpu *c, U_##N a, U_##N b) { \
        u16 fl; \
        __asm__("cmp" sfx " %2,%1\n\tlahf\n\tseto %%al" : "=&a"(fl) : q(a), q(b) : "cc"); \
        c->flags_ax = fl; \
    } \
    INLINE void alu_test_##N(accel_cpu *c, U_##N a, U_##N b) { \
        u16 fl; \
        __asm__("test" sfx " %2,%1\n\tlahf\n\tseto %%al" : "=&a"(fl) : q(a), q(b) : "cc"); \
        c->flags_ax = fl & ~(F_AF << 8); \
    } \
    INLINE U_##N alu_neg_##N(accel_cpu *c, U_##N a) { \
        u16 fl; \
        __asm__("neg" sfx " %0\n\tlahf\n\tseto %%al" : "+" q(a), "=&a"(fl) : : "cc"); \
        c->flags_ax = fl; \
        return a; \
    }
ALU_SIZE(8, "b", "q")
ALU_SIZE(16, "w", "r")
ALU_SIZE(32, "l", "r")
ALU_SIZE(64, "q", "r")

#endif
