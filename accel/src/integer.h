/* integer.h - what the integer instruction files share beside exec.h. */
#ifndef INTEGER_H
#define INTEGER_H

#include "exec.h"

INLINE u64 cut_address(const struct op *o, u64 ea) {
    return OP_ASZ(o) == SZ64 ? ea : OP_ASZ(o) == SZ32 ? (u32)ea : (u16)ea;
}

/* A read of [lin, lin + size) with size <= 8 would not page-fault. For instructions that must know this before a device is
 * read or memory is written. */
INLINE bool mem_probe_read(accel_cpu *c, u64 lin, unsigned size) {
    u64 pa, last = lin + size - 1;
    if (likely(fast_r(c, lin, size) != NULL)) return true;
    if (!is_code64(c)) last = (u32)last;
    bool user = c->cpl == 3;
    return mmu_translate(c, lin, ACC_R, user, &pa) && (!((lin ^ last) & PAGE_MASK) || mmu_translate(c, last & PAGE_MASK, ACC_R, user, &pa));
}

#endif
