/*
 * mxcsr.h - whose control and status word the host's MXCSR holds.
 *
 * While the guest masks every SIMD floating-point exception (nearly always), accel_run() keeps the guest's MXCSR in the host's
 * register: rounding, DAZ and FTZ are the guest's and the sticky flags gather there, so an SSE instruction is just
 * that (fp_live). With an unmasked exception the host keeps its own and every instruction goes through the slow path
 * of vec.h. C code in between does no floating point. Outside accel_run() c->mxcsr is complete and the host's is the C ABI's.
 */
#ifndef MXCSR_H
#define MXCSR_H

#include "cpu.h"

enum { MXCSR_IE = 1, MXCSR_DE = 2, MXCSR_ZE = 4, MXCSR_OE = 8, MXCSR_UE = 0x10, MXCSR_PE = 0x20, MXCSR_FLAGS = 0x3f,
       MXCSR_DAZ = 0x40, MXCSR_MASKS = 0x1f80, MXCSR_UM = 0x800, MXCSR_RC = 0x6000, MXCSR_FTZ = 0x8000, MXCSR_MASK = 0xffff };

INLINE uint32_t mxcsr_of_host(void) {
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}
INLINE void mxcsr_to_host(uint32_t v) { __asm__ volatile("ldmxcsr %0" : : "m"(v)); }

/* c->mxcsr has been written (or the run begins): make the host follow. */
INLINE void mxcsr_load(accel_cpu *c) {
    bool live = (c->mxcsr & MXCSR_MASKS) == MXCSR_MASKS;
    if (live) mxcsr_to_host(c->mxcsr);
    else if (c->fp_live) mxcsr_to_host(c->host_mxcsr);
    c->fp_live = live;
}
/* The guest's MXCSR, complete. */
INLINE uint32_t mxcsr_get(accel_cpu *c) {
    if (c->fp_live) c->mxcsr = mxcsr_of_host();
    return c->mxcsr;
}
INLINE void mxcsr_set(accel_cpu *c, uint32_t v) {
    c->mxcsr = v;
    mxcsr_load(c);
}
INLINE void mxcsr_enter(accel_cpu *c) {
    c->host_mxcsr = mxcsr_of_host() & ~(uint32_t)MXCSR_FLAGS;
    mxcsr_load(c);
}
INLINE void mxcsr_leave(accel_cpu *c) {
    mxcsr_get(c);
    if (c->fp_live) mxcsr_to_host(c->host_mxcsr);
    c->fp_live = 0;
}

#endif
