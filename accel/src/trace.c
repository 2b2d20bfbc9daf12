/*
 * trace.c - the ring of taken branches.
 *
 * While the trace is on, blocks of their own (K_TRACE) end with twins of the handlers that chain (op_branch.c, op_fuse.c),
 * which record each branch as it is taken; those of relative branches leave it to the reader to find where the branch stands
 * (trace_relative()). Branches that go through the run loop are recorded there (trace_settle()), those of 16-bit and of
 * segmented code by go_checked(), events by their delivery. So the cost is a few stores per taken branch, none when off.
 */
#include <stdlib.h>
#include "trace.h"

enum { TRACE_MAX = 1 << 20 };

static void record(accel_cpu *c, u64 from, u64 to) { trace_branch(c, from ^ TRACE_ADDRESS, to); }

static u64 size_of(const struct trace *t) { return t->mask + 1; }

static u64 count_of(const struct trace *t) { return t->wrapped + size_of(t) + (u64)(t->at / 2); }

/* Where the branch of entry i stands: the address itself, or it is told by where the relative branch has gone. */
static u64 source(const struct trace *t, u64 i) {
    u64 by = t->ring[i].from, to = t->ring[i].to;
    if ((by >> 62 ^ by >> 63) & 1) return by ^ TRACE_ADDRESS;
    const struct op *o = (const struct op *)by;
    u64 from = to - o->imm + o->off;
    return OP_OSZ(o) == SZ32 ? (u32)from : from;
}

void trace_keep(accel_cpu *c) {
    struct trace *t = &c->trace;
    u64 count = count_of(t), n = count < size_of(t) ? count : size_of(t);
    for (u64 i = 0; i < n; i++) t->ring[i].from = source(t, i) ^ TRACE_ADDRESS;
}

void trace_reset(accel_cpu *c) {
    c->trace.wrapped = 0;
    c->trace.at = -2 * (s64)size_of(&c->trace);
}

/* ---- between blocks -------------------------------------------------------------------------------------------------- */

void trace_begin(accel_cpu *c) { c->trace.base = is_code64(c) ? 0 : c->seg[SEG_CS].base; }

void trace_settle(accel_cpu *c, u32 key) {
    const struct block *b = c->block;
    u64 start = c->r[R_RIP] + c->trace.base, from = start + b->last, next = start + b->bytes, to = linear_rip(c);
    if ((key & K_CODE) != K_CODE64) from = (u32)from, next = (u32)next;
    if (b->always || next != to) record(c, from, to);
}

void trace_event(accel_cpu *c, u64 from) { record(c, from, linear_rip(c)); }

void trace_checked(accel_cpu *c, const struct op *o, u64 target) {
    u64 base = is_code64(c) ? 0 : c->seg[SEG_CS].base, mask = is_code64(c) ? ~0ull : 0xffffffff;
    record(c, (op_rip(c, o) + base) & mask, (target + base) & mask);
}

/* ---- the owner's side -------------------------------------------------------------------------------------------------- */

int accel_branch_ring(accel_cpu *c, size_t entries) {
    if (entries == 0 || entries > TRACE_MAX) return ACCEL_EINVAL;
    size_t size = TRACE_DEFAULT;
    while (size < entries) size *= 2;
    accel_branch *ring = size == TRACE_DEFAULT ? c->trace.recent : malloc(size * sizeof *ring);
    if (!ring) return ACCEL_ENOMEM;
    if (c->trace.ring != c->trace.recent) free(c->trace.ring);
    c->trace.ring = ring;
    c->trace.end = (u64 *)(ring + size);
    c->trace.mask = size - 1;
    trace_reset(c);
    return ACCEL_OK;
}

size_t accel_branches(accel_cpu *c, accel_branch *branches, size_t max) {
    const struct trace *t = &c->trace;
    u64 count = count_of(t), n = count < size_of(t) ? count : size_of(t);
    if (n > max) n = max;
    for (u64 i = 0; i < n; i++) {
        u64 at = (count - 1 - i) & t->mask;
        branches[i] = (accel_branch){source(t, at), t->ring[at].to};
    }
    return n;
}

uint64_t accel_branch_count(accel_cpu *c) { return count_of(&c->trace); }
