/*
 * trace.c - the ring of taken branches.
 *
 * While the trace is on, blocks of their own (K_TRACE) begin with an op that records how they were entered: the CPU came by
 * a branch unless the block stands where the one before it ended. A block that ends with an unconditional branch says that it
 * ends nowhere (TRACE_NOWHERE), so its successor always came by a branch. What leaves a block in the middle (a fault, a stop, an
 * attention) settles the account in trace_settle(): it goes on where it stands. So the cost is one op per block, none when off.
 *
 * A conditional branch to the instruction behind itself cannot be told by the addresses: it has an op before it that asks the
 * condition.
 */
#include <stdlib.h>
#include "exec.h"

#define TRACE_NOWHERE BIT(63) /* added to an address: none that execution can go on at */
enum { TRACE_MAX = 1 << 20 };

INLINE void put(accel_cpu *c, u64 from, u64 to) { c->trace.ring[c->trace.count++ & c->trace.mask] = (accel_branch){from, to}; }

/* ---- ops: disp is where the last instruction of the block begins, imm where the block ends, TRACE_NOWHERE inside ---- */

static HANDLER(h_trace_64) {
    u64 rip = c->r[R_RIP];
    if (c->trace.next != rip) put(c, c->trace.from, rip);
    c->trace.from = rip + (u64)(s64)o->disp;
    c->trace.next = rip + o->imm;
    NEXT(c, o);
}

static HANDLER(h_trace_segmented) {
    u64 base = c->seg[SEG_CS].base, rip = c->r[R_RIP];
    if (c->trace.next != (u32)(rip + base)) put(c, c->trace.from, (u32)(rip + base));
    c->trace.from = (u32)(rip + base + (u32)o->disp);
    c->trace.next = (u32)(rip + base + o->imm) | (o->imm & TRACE_NOWHERE);
    NEXT(c, o);
}

struct op trace_entry(u32 key) {
    bool code64 = (key & K_CODE) == K_CODE64;
    return (struct op){.fn = code64 ? h_trace_64 : h_trace_segmented, .base = R_ZERO, .index = R_ZERO};
}

void trace_close(struct op *entry, const struct block *b, unsigned last, bool always) {
    entry->disp = (s32)last;
    entry->imm = b->bytes | (always ? TRACE_NOWHERE : 0);
}

/* imm: the condition, as in struct decoded. LOOP and JrCXZ look at the count register of their address size. */
static bool taken(const accel_cpu *c, const struct op *o) {
    if (o->imm < TRACE_LOOP) return cond(c, (unsigned)o->imm);
    u64 mask = OP_ASZ(o) == SZ64 ? ~0ull : OP_ASZ(o) == SZ32 ? 0xffffffffull : 0xffffull, count = c->r[R_RCX] & mask;
    switch (o->imm - TRACE_LOOP) {
    case 0: return count != 1 && !zf(c);
    case 1: return count != 1 && zf(c);
    case 2: return count != 1;
    default: return count == 0;
    }
}

static HANDLER(h_trace_twin) {
    if (taken(c, o)) c->trace.next ^= TRACE_NOWHERE;
    NEXT(c, o);
}

bool trace_twin(const struct decoded *d, struct op *out) {
    if (!d->relative || d->always || d->op.imm != (u64)(d->op.off + d->op.len)) return false;
    *out = d->op;
    out->fn = h_trace_twin;
    out->imm = d->cc;
    return true;
}

/* ---- between blocks -------------------------------------------------------------------------------------------------- */

void trace_settle(accel_cpu *c, int why) {
    u64 lin = linear_rip(c);
    bool ended = why == LEAVE_CHAIN || why == LEAVE_BUDGET || why == LEAVE_TO || why == LEAVE_BREAK || why == LEAVE_FETCH;
    if (ended && c->trace.next != lin) put(c, c->trace.from, lin);
    c->trace.next = lin;
}

void trace_event(accel_cpu *c, u64 from) {
    u64 lin = linear_rip(c);
    put(c, from, lin);
    c->trace.next = lin;
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
    c->trace.mask = size - 1;
    c->trace.count = 0;
    return ACCEL_OK;
}

size_t accel_branches(accel_cpu *c, accel_branch *branches, size_t max) {
    const struct trace *t = &c->trace;
    u64 n = t->count <= t->mask ? t->count : t->mask + 1;
    if (n > max) n = max;
    for (u64 i = 0; i < n; i++) branches[i] = t->ring[(t->count - 1 - i) & t->mask];
    return n;
}

uint64_t accel_branch_count(accel_cpu *c) { return c->trace.count; }
