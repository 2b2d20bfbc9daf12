/*
 * op_misc.c - PAUSE, MONITOR MWAIT, CPUID, time stamp and performance counters, random numbers, cache line
 * instructions, BOUND, SALC, UD0 UD1 UD2.
 */
#include "integer.h"

HANDLER(h_ud) { raise_ex(c, o, EX_UD); }

/* The owner may want to run another CPU meanwhile; if there is none, a loop that waits sees time pass all the same. */
INLINE void pause(accel_cpu *c, const struct op *o) {
    if (c->ctl.pause_exit) return leave_exit_after(c, o, op_next_rip(c, o), ACCEL_EXIT_PAUSE);
    c->ctl.time_base += c->ctl.pause_cost;
    c->until = c->until > c->ctl.pause_cost ? c->until - c->ctl.pause_cost : 0;
    END(c, o);
}

/* F3 90+r. Only the register RAX makes it PAUSE; F3 is ignored before the other exchanges (F3 with REX.B 90 among them). */
#define PAUSE(N) \
    HANDLER(h_pause_##N) { \
        if (likely(o->rm == R_RAX)) return pause(c, o); \
        U_##N a = get_##N(c, R_RAX), b = get_##N(c, o->rm); \
        put_##N(c, R_RAX, b); \
        put_##N(c, o->rm, a); \
        END(c, o); \
    }
PAUSE(16)
PAUSE(32)
PAUSE(64)

/* ---- MONITOR, MWAIT (SDM vol. 2) ---- */

SLOW_HANDLER(h_monitor) {
    u64 lin, pa;
    if (c->cpl) return set_fault(c, EX_UD, false, 0);
    if (get_32(c, R_RCX)) return set_fault(c, EX_GP, true, 0);
    if (!seg_linear(c, o->seg, cut_address(o, c->r[R_RAX]), 1, ACC_R, &lin) || !mmu_translate(c, lin, ACC_R, false, &pa)) return false;
    c->monitor_addr = pa & c->m->a20_mask;
    c->ctl.monitor_state = monitor_arm(c) ? ACCEL_MONITOR_ARMED : ACCEL_MONITOR_NONE;
    return true;
}

/* Waits until a store to the monitored line, an interrupt that is taken or, with ECX bit 0, one that is masked, an NMI or INIT.
 * Goes on at once if the monitor is not armed (any more). Hints in EAX are ignored: there is one way to wait. */
HANDLER(h_mwait) {
    if (c->cpl) return raise_ex(c, o, EX_UD);
    if (get_32(c, R_RCX) & ~1u) return raise_err(c, o, EX_GP, 0);
    bool armed = c->ctl.monitor_state == ACCEL_MONITOR_ARMED;
    c->ctl.monitor_state = ACCEL_MONITOR_NONE;
    if (!armed) END(c, o);
    if (!c->ctl.hlt_exit) {
        c->ctl.activity = ACCEL_HALTED;
        c->ctl.monitor_state = get_32(c, R_RCX) & 1 ? ACCEL_MONITOR_WAIT_MASKED : ACCEL_MONITOR_WAIT;
    }
    return leave_exit_after(c, o, op_next_rip(c, o), ACCEL_EXIT_HLT);
}

/* ---- identification and counters ---- */

SLOW_HANDLER(h_cpuid) {
    u32 out[4];
    cpuid(c, get_32(c, R_RAX), get_32(c, R_RCX), out);
    put_32(c, R_RAX, out[0]);
    put_32(c, R_RBX, out[1]);
    put_32(c, R_RCX, out[2]);
    put_32(c, R_RDX, out[3]);
    (void)o;
    return true;
}

/* The TSC counts machine ticks. */
INLINE void read_tsc(accel_cpu *c, const struct op *o) {
    u64 tsc = (u64)c->ctl.time_base + ticks_now(c, o) + c->tsc_offset + c->tsc_adjust;
    put_32(c, R_RAX, (u32)tsc);
    put_32(c, R_RDX, (u32)(tsc >> 32));
}

HANDLER(h_rdtsc) {
    if (unlikely((c->cr4 & CR4_TSD) && c->cpl)) return raise_err(c, o, EX_GP, 0);
    read_tsc(c, o);
    NEXT(c, o);
}

HANDLER(h_rdtscp) {
    if (unlikely((c->cr4 & CR4_TSD) && c->cpl)) return raise_err(c, o, EX_GP, 0);
    read_tsc(c, o);
    put_32(c, R_RCX, (u32)c->tsc_aux);
    NEXT(c, o);
}

HANDLER(h_rdpid) {
    c->r[o->rm] = (u32)c->tsc_aux;
    NEXT(c, o);
}

/* There are no performance counters, so no number in ECX is valid. */
HANDLER(h_rdpmc) { raise_err(c, o, EX_GP, 0); }

/* ---- RDRAND, RDSEED: a SplitMix64 sequence from the CPU's seed, which never runs dry ---- */

static u64 next_random(accel_cpu *c) {
    u64 z = c->rng += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* CF set, the other five clear. */
#define RANDOM(N) \
    HANDLER(h_rdrand_##N##_r) { \
        put_##N(c, o->rm, (U_##N)next_random(c)); \
        c->flags_ah = 2 | F_CF; \
        c->flags_of = 0; \
        NEXT(c, o); \
    }
RANDOM(16)
RANDOM(32)
RANDOM(64)

/* ---- CLFLUSH, CLFLUSHOPT, CLWB: faults of a byte read, and nothing else, since there is no cache ---- */

SLOW_HANDLER(h_clflush_m) {
    u64 lin;
    return op_linear(c, o, 1, ACC_R, &lin) && mem_probe_read(c, lin, 1);
}

/* ---- BOUND, SALC: not in 64-bit mode ---- */

#define BOUND(N) \
    SLOW_HANDLER(h_bound_##N##_m) { \
        u64 lin; \
        U_##N low, high; \
        S_##N index = (S_##N)get_##N(c, o->reg); \
        if (!op_linear(c, o, 2 * sizeof low, ACC_R, &lin)) return false; \
        if (!rd_at_##N(c, o, lin, &low) || !rd_at_##N(c, o, (u32)(lin + sizeof low), &high)) return false; \
        if (index < (S_##N)low || index > (S_##N)high) return set_fault(c, EX_BR, false, 0); \
        return true; \
    }
BOUND(16)
BOUND(32)
BOUND(64)

HANDLER(h_salc) {
    put_8(c, 8 * R_RAX, cf(c) ? 0xff : 0);
    NEXT(c, o);
}
