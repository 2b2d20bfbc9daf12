/*
 * system.h - what the system part of the CPU shares among its own files: control-register and descriptor helpers,
 * stacks that are not in SS yet, and the hardware task switch. (op_control.c, op_system.c, op_segment.c, op_far.c, task.c, event.c)
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include "exec.h"
#include "cpu_features.h"

enum { MAXPHYADDR = 48 };
#define PHYS_RESERVED (~0ull << MAXPHYADDR)

INLINE unsigned iopl_of(const accel_cpu *c) { return (c->flags >> 12) & 3; }
INLINE bool in_vm86(const accel_cpu *c) { return c->flags & F_VM; }
INLINE bool protected_mode(const accel_cpu *c) { return (c->cr0 & CR0_PE) && !(c->flags & F_VM); }

INLINE bool gp(accel_cpu *c, u32 error) { return set_fault(c, EX_GP, true, error); }
INLINE bool ud(accel_cpu *c) { return set_fault(c, EX_UD, false, 0); }

/* sys_read() of a size known to the compiler. */
INLINE bool sys_read_fixed(accel_cpu *c, u64 lin, void *buf, unsigned size) {
    const void *p = view_r(c->ftlb[system_view(c)], lin, size);
    if (unlikely(p == NULL)) return sys_read(c, lin, buf, size);
    memcpy(buf, p, size);
    return true;
}

/* A register operand of 32 or 64 bits. */
INLINE void put_native(accel_cpu *c, const struct op *o, unsigned reg, u64 v) {
    if (OP_OSZ(o) == SZ64) put_64(c, reg, v);
    else put_32(c, reg, (u32)v);
}

/* RFLAGS := (old & ~mask) | (value & mask); F_ARITH bits included. Reserved bits are never in mask. */
INLINE void merge_rflags(accel_cpu *c, u32 value, u32 mask) { set_rflags(c, (get_rflags(c) & ~mask) | (value & mask)); }


/* cpuid.c: bits that XCR0 may have under this model (x87 and SSE always). */
u64 xcr0_supported(const accel_cpu *c);

/* ---- op_control.c, op_system.c ---------------------------------------------------------------------------------------- */

void write_dr(accel_cpu *c, unsigned n, u64 v); /* n: 0-3, 6, 7; forces the fixed bits */
bool write_xcr0(accel_cpu *c, u64 v);           /* false: a combination that XSETBV refuses */

/* ---- descriptors (op_segment.c) ------------------------------------------------------------------------ */

/* An 8-byte descriptor as read from a table; lin: where it lies (for the accessed and busy bits). */
struct descriptor { u64 lo, hi, lin; };

INLINE u32 desc_ar(u64 lo) { return (u32)(lo >> 40) & 0xf0ff; }
INLINE u64 desc_base(u64 lo) { return ((lo >> 16) & 0xffffff) | ((lo >> 32) & 0xff000000); }
INLINE u32 desc_limit(u64 lo) {
    u32 limit = (u32)((lo & 0xffff) | ((lo >> 32) & 0xf0000));
    return lo & BIT(55) ? limit << 12 | 0xfff : limit;
}
INLINE bool ar_is_code(u32 ar) { return (ar & (AR_S | 8)) == (AR_S | 8); }
INLINE bool ar_is_conforming(u32 ar) { return ar_is_code(ar) && (ar & 4); }
INLINE bool ar_is_writable_data(u32 ar) { return (ar & (AR_S | 8 | 2)) == (AR_S | 2); }
INLINE bool ar_is_readable(u32 ar) { return (ar & AR_S) && (!(ar & 8) || (ar & 2)); }

enum lookup { LOOKUP_OK, LOOKUP_LIMIT /* null or outside its table */, LOOKUP_FAULT /* c->fault is set */ };
/* Reads a descriptor of 8 bytes, or of 16 when wide. */
enum lookup lookup_descriptor(accel_cpu *c, u16 sel, bool wide, struct descriptor *d);
/* The same for code that faults with `vec` and the selector in every case. ext: EXT bit of the error code. */
bool need_descriptor(accel_cpu *c, u16 sel, bool wide, int vec, u32 ext, struct descriptor *d);
/* The same for 8 bytes, which mostly lie in the GDT and there in plain memory. */
INLINE bool need_segment(accel_cpu *c, u16 sel, int vec, u32 ext, struct descriptor *d) {
    u32 at = sel & 0xfff8;
    u64 lin = c->gdtr.base + at;
    if (!is_long(c)) lin &= 0xffffffff;
    const void *p = view_r(c->ftlb[system_view(c)], lin, 8);
    if (unlikely((sel & 4) || !at || at + 7 > c->gdtr.limit || !p)) return need_descriptor(c, sel, false, vec, ext, d);
    memcpy(&d->lo, p, 8);
    d->hi = 0;
    d->lin = lin;
    return true;
}
INLINE struct segment segment_of(u16 sel, u64 lo) {
    return (struct segment){.base = desc_base(lo), .limit = desc_limit(lo), .ar = desc_ar(lo), .sel = sel};
}
/* *to = *from by its fields, as they were stored: the compiler would load two of them at once and wait for both stores. */
INLINE void put_segment(struct segment *to, const struct segment *from) {
    u64 base = from->base;
    u32 limit = from->limit, ar = from->ar;
    __asm__("" : "+r"(base), "+r"(limit), "+r"(ar));
    *to = (struct segment){.base = base, .limit = limit, .ar = ar, .sel = from->sel};
}
/* Sets the accessed bit in the table; false: page fault. */
bool write_accessed(accel_cpu *c, struct descriptor *d);
INLINE bool mark_accessed(accel_cpu *c, struct descriptor *d) { return likely(d->lo & BIT(40)) || write_accessed(c, d); }
void set_null_segment(accel_cpu *c, int seg, u16 sel);
/* SS for code of privilege cpl. vec: EX_GP, or EX_TS where the selector comes from a TSS. Reads the descriptor, checks it and
 * returns it; the caller commits. Null is refused unless null_ok. */
bool check_stack_segment(accel_cpu *c, u16 sel, unsigned cpl, int vec, u32 ext, bool null_ok, struct segment *out);
/* LLDT and the LDTR part of a task switch. */
bool load_ldtr(accel_cpu *c, u16 sel, int vec, u32 ext);

/* ---- stacks (stack.c) ----------------------------------------------------------------------------------- */

/* Pushes to a stack that need not be the current one: all are checked before any is done. */
struct stack {
    struct segment ss;
    u64 sp, mask;
    bool flat;     /* 64-bit: no segmentation, canonical addresses */
    bool user;     /* accesses have user privilege */
    u32 error;     /* of #SS */
    unsigned count;
    struct { u64 lin, value, pa[2]; u8 *host; u8 size, first; } push[40]; /* host: plain memory, else NULL */
};
void stack_current(accel_cpu *c, struct stack *s);
void stack_on(accel_cpu *c, struct stack *s, const struct segment *ss, u64 sp, unsigned cpl, u32 error);
void stack_on_64(accel_cpu *c, struct stack *s, u64 sp, unsigned cpl, u32 error);
bool stack_push(accel_cpu *c, struct stack *s, u64 value, unsigned size);
void stack_commit(accel_cpu *c, struct stack *s); /* does the pushes; SP is the caller's */
u64 merge_sp(u64 old, u64 sp, u64 mask);

/* SS:ESP (or RSP) for privilege `cpl` from the current TSS. */
bool tss_stack(accel_cpu *c, unsigned cpl, u32 ext, u16 *ss, u64 *sp);
bool tss_rsp(accel_cpu *c, unsigned slot_offset, u32 ext, u64 *rsp);

/* ---- task.c ------------------------------------------------------------------------------------------------ */

enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };
/* Switches to the TSS `sel`. next_rip is saved in the old task; afterwards c->rip is the new task's. has_error/error: pushed
 * on the new stack (TASK_EVENT). False: c->fault is set, either before anything happened or, with *switched, in the new task. */
bool task_switch(accel_cpu *c, u16 sel, enum task_reason why, u64 next_rip, bool has_error, u32 error, u32 ext, bool *switched);

#endif
