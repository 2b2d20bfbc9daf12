/*
 * debug.c - breakpoint and watch sets of the debugger, and the guest's own DR0-7.
 *
 * (SDM vol. 3, "Debug Registers".) Guest data breakpoints and debugger watchpoints take their pages off the fast
 * path, nothing else. A hit is reported after the instruction: as ATT_WATCH to the owner, as a pending #DB to the guest.
 */
#include <stdlib.h>
#include "exec.h"

static bool dr_enabled(const accel_cpu *c, int i) { return (c->dr[7] >> (2 * i)) & 3; }
static unsigned dr_type(const accel_cpu *c, int i) { return (c->dr[7] >> (16 + 4 * i)) & 3; }
static unsigned dr_length(const accel_cpu *c, int i) {
    static const u8 length[] = {1, 2, 8, 4};
    return length[(c->dr[7] >> (18 + 4 * i)) & 3];
}

static bool overlap(u64 a, u64 a_size, u64 b, u64 b_size) { return a - b < b_size || b - a < a_size; }

/* ---- execution ------------------------------------------------------------------------------------------------ */

bool debug_cut_at(const accel_cpu *c, u64 lin, u64 pa) {
    for (u32 i = 0; i < c->m->break_count; i++) /* aliases share blocks: compare the offset in the page only */
        if ((c->m->breaks[i].address & 0xfff) == (pa & 0xfff)) return true;
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && dr_type(c, i) == 0 && (c->dr[i] & 0xfff) == (lin & 0xfff)) return true;
    return false;
}

bool debug_page_has_break(const accel_cpu *c, u64 lin, u64 pa) {
    for (u32 i = 0; i < c->m->break_count; i++) {
        const struct breakpoint *b = &c->m->breaks[i];
        if (((b->space == ACCEL_LINEAR ? lin : pa) ^ b->address) < 4096) return true;
    }
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && dr_type(c, i) == 0 && (c->dr[i] ^ lin) < 4096) return true;
    return false;
}

const struct breakpoint *debug_break_at(const accel_machine *m, u64 lin, u64 pa) {
    for (u32 i = 0; i < m->break_count; i++)
        if (m->breaks[i].address == (m->breaks[i].space == ACCEL_LINEAR ? lin : pa)) return &m->breaks[i];
    return NULL;
}

u32 debug_dr_execute(const accel_cpu *c, u64 lin) {
    u32 hit = 0;
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && dr_type(c, i) == 0 && c->dr[i] == lin) hit |= 1u << i;
    return hit;
}

u32 debug_dr_io(const accel_cpu *c, uint16_t port, unsigned size) {
    u32 hit = 0;
    for (int i = 0; i < 4; i++) {
        u64 length = dr_length(c, i);
        if (dr_enabled(c, i) && dr_type(c, i) == 2 && (c->cr4 & CR4_DE) && overlap(port, size, c->dr[i] & ~(length - 1), length))
            hit |= 1u << i;
    }
    return hit;
}

void debug_dr_changed(accel_cpu *c) {
    block_kill_bp(c->m);
    ftlb_flush(c);
}

int accel_break_add(accel_machine *m, uint64_t id, int space, uint64_t address) {
    if (space != ACCEL_LINEAR && space != ACCEL_PHYSICAL) return ACCEL_EINVAL;
    for (u32 i = 0; i < m->break_count; i++)
        if (m->breaks[i].id == id) return ACCEL_EBUSY;
    if (m->break_count == m->break_cap) {
        u32 cap = m->break_cap ? m->break_cap * 2 : 16;
        struct breakpoint *b = realloc(m->breaks, cap * sizeof *b);
        if (!b) return ACCEL_ENOMEM;
        m->breaks = b;
        m->break_cap = cap;
    }
    m->breaks[m->break_count++] = (struct breakpoint){.id = id, .address = address, .space = (u8)space};
    block_kill_bp(m);
    return ACCEL_OK;
}

int accel_break_remove(accel_machine *m, uint64_t id) {
    for (u32 i = 0; i < m->break_count; i++) {
        if (m->breaks[i].id != id) continue;
        m->breaks[i] = m->breaks[--m->break_count];
        block_kill_bp(m);
        return ACCEL_OK;
    }
    return ACCEL_ENOENT;
}

/* ---- data ---------------------------------------------------------------------------------------------------------- */

bool debug_page_watched(const accel_cpu *c, u64 lin, u64 pa) {
    for (u32 i = 0; i < c->m->watch_count; i++) {
        const struct watch *w = &c->m->watches[i];
        if (overlap(w->space == ACCEL_LINEAR ? lin & PAGE_MASK : pa & PAGE_MASK, 4096, w->address, w->size)) return true;
    }
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && (dr_type(c, i) & 1) && overlap(lin & PAGE_MASK, 4096, c->dr[i], dr_length(c, i))) return true;
    return false;
}

static void report(accel_cpu *c, const struct watch *w, u64 at, unsigned size, bool write, u64 old_v, u64 new_v) {
    if (!(c->attention & ATT_WATCH)) c->hit_count = 0;
    c->attention |= ATT_WATCH;
    if (c->hit_count == MAX_HITS) return;
    u64 first = at > w->address ? at : w->address;
    u64 skip = first - at;
    u64 keep = size - skip;
    if (w->address + w->size - first < keep) keep = w->address + w->size - first;
    if (skip < 8) old_v >>= 8 * skip, new_v >>= 8 * skip;
    if (keep < 8) old_v &= BIT(8 * keep) - 1, new_v &= BIT(8 * keep) - 1;
    c->hits[c->hit_count++] = (accel_hit){.id = w->id, .address = first, .size = (u32)keep, .write = write, .origin = c->origin,
                                          .old_value = old_v, .new_value = new_v};
}

void debug_access(accel_cpu *c, u64 lin, u64 pa, unsigned size, bool write, u64 old_v, u64 new_v) {
    for (u32 i = 0; i < c->m->watch_count; i++) {
        const struct watch *w = &c->m->watches[i];
        u64 at = w->space == ACCEL_LINEAR ? lin : pa;
        if ((w->space == ACCEL_LINEAR && lin == ~0ull) || !(w->kind & (write ? ACCEL_WATCH_WRITE : ACCEL_WATCH_READ))) continue;
        if (overlap(at, size, w->address, w->size)) report(c, w, at, size, write, old_v, new_v);
    }
    if (lin == ~0ull || c->origin != ACCEL_ORIGIN_CPU) return;
    for (int i = 0; i < 4; i++) {
        unsigned type = dr_type(c, i);
        if (!dr_enabled(c, i) || !(type & 1) || (type == 1 && !write)) continue;
        u64 len = dr_length(c, i);
        if (!overlap(lin, size, c->dr[i] & ~(len - 1), len)) continue;
        c->pending_dbg |= 1u << i;
        c->attention |= ATT_DB;
    }
}

static void watches_changed(accel_machine *m) {
    for (u32 i = 0; i < m->cpu_count; i++) ftlb_flush(m->cpus[i]);
}

int accel_watch_add(accel_machine *m, uint64_t id, int space, uint64_t address, uint64_t size, int kind) {
    if ((space != ACCEL_LINEAR && space != ACCEL_PHYSICAL) || !size || address + size - 1 < address || kind < 1 || kind > 3) return ACCEL_EINVAL;
    for (u32 i = 0; i < m->watch_count; i++)
        if (m->watches[i].id == id) return ACCEL_EBUSY;
    if (m->watch_count == m->watch_cap) {
        u32 cap = m->watch_cap ? m->watch_cap * 2 : 16;
        struct watch *w = realloc(m->watches, cap * sizeof *w);
        if (!w) return ACCEL_ENOMEM;
        m->watches = w;
        m->watch_cap = cap;
    }
    m->watches[m->watch_count++] = (struct watch){.id = id, .address = address, .size = size, .space = (u8)space, .kind = (u8)kind};
    watches_changed(m);
    return ACCEL_OK;
}

int accel_watch_remove(accel_machine *m, uint64_t id) {
    for (u32 i = 0; i < m->watch_count; i++) {
        if (m->watches[i].id != id) continue;
        m->watches[i] = m->watches[--m->watch_count];
        watches_changed(m);
        return ACCEL_OK;
    }
    return ACCEL_ENOENT;
}

size_t accel_watch_hits(accel_cpu *c, accel_hit *hits, size_t max) {
    size_t n = c->hit_count < max ? c->hit_count : max;
    memcpy(hits, c->hits, n * sizeof *hits);
    return n;
}

size_t accel_fault_chain(accel_cpu *c, accel_fault *chain, size_t max) {
    size_t n = c->chain_count < max ? c->chain_count : max;
    memcpy(chain, c->chain, n * sizeof *chain);
    return n;
}
