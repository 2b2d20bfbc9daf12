/*
 * debug.c - the guest's own DR0-7; the debugger's points are in points.c, and neither knows of the other.
 *
 * (SDM vol. 3, "Debug Registers".) Guest data breakpoints and debugger watchpoints take their pages off the fast
 * path, nothing else. A hit is reported after the instruction: as ATT_WATCH to the owner, as a pending #DB to the guest.
 */
#include "exec.h"

static bool dr_enabled(const accel_cpu *c, int i) { return (c->dr[7] >> (2 * i)) & 3; }
static unsigned dr_type(const accel_cpu *c, int i) { return (c->dr[7] >> (16 + 4 * i)) & 3; }
static unsigned dr_length(const accel_cpu *c, int i) {
    static const u8 length[] = {1, 2, 8, 4};
    return length[(c->dr[7] >> (18 + 4 * i)) & 3];
}

static bool overlap(u64 a, u64 a_size, u64 b, u64 b_size) { return a - b < b_size || b - a < a_size; }

/* ---- execution ------------------------------------------------------------------------------------------------ */

bool debug_dr_at_offset(const accel_cpu *c, u64 lin) {
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && dr_type(c, i) == 0 && (c->dr[i] & 0xfff) == (lin & 0xfff)) return true;
    return false;
}

bool debug_page_has_dr(const accel_cpu *c, u64 lin) {
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && dr_type(c, i) == 0 && (c->dr[i] ^ lin) < 4096) return true;
    return false;
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

/* ---- data ---------------------------------------------------------------------------------------------------------- */

bool debug_page_watched(const accel_cpu *c, u64 lin, u64 pa) {
    if (points_watch_page(c, lin, pa)) return true;
    for (int i = 0; i < 4; i++)
        if (dr_enabled(c, i) && (dr_type(c, i) & 1) && overlap(lin & PAGE_MASK, 4096, c->dr[i], dr_length(c, i))) return true;
    return false;
}

void debug_access(accel_cpu *c, u64 lin, u64 pa, unsigned size, bool write, const u8 *was, const u8 *is) {
    if (c->m->watch_count) points_access(c, lin, pa, size, write, was, is);
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

size_t accel_fault_chain(accel_cpu *c, accel_fault *chain, size_t max) {
    size_t n = c->chain_count < max ? c->chain_count : max;
    memcpy(chain, c->chain, n * sizeof *chain);
    return n;
}
