/*
 * operand.c - how instructions reach memory and ports: segmentation, effective addresses, linear accesses that may
 * cross pages, devices with answered re-execution, and the implicit accesses of the system.
 *
 * Device reads. The first execution finds no answer, fills c->exit and gives up; the owner answers and the
 * instruction runs again, taking the answers in order. Device writes are queued and reported after the instruction
 * retired, so neither happens twice. (Each device access is at most 8 bytes and does not cross a page; others
 * are UNHANDLED.)
 */
#include "exec.h"

u64 stack_mask(const accel_cpu *c) {
    if (is_code64(c)) return ~0ull;
    return c->key & K_SS32 ? 0xffffffffull : 0xffffull;
}

static u64 address_mask(const struct op *o) {
    return OP_ASZ(o) == SZ64 ? ~0ull : OP_ASZ(o) == SZ32 ? 0xffffffffull : 0xffffull;
}

u64 op_ea(accel_cpu *c, const struct op *o) {
    return (c->r[o->base] + (c->r[o->index] << o->scale) + (s64)o->disp) & address_mask(o);
}

static bool segment_fault(accel_cpu *c, int seg) { return set_fault(c, seg == SEG_SS ? EX_SS : EX_GP, true, 0); }

bool seg_linear(accel_cpu *c, int seg, u64 ea, unsigned size, int acc, u64 *lin) {
    if (is_code64(c)) {
        *lin = ea + c->segbase[seg];
        if (!canonical(c, *lin) || !canonical(c, *lin + size - 1)) return segment_fault(c, seg);
        return true;
    }
    const struct segment *s = &c->seg[seg];
    ea &= 0xffffffff;
    *lin = (s->base + ea) & 0xffffffff;
    if ((c->key & K_FLAT) && seg <= SEG_DS && !(seg == SEG_CS && acc == ACC_W)) {
        if (unlikely(ea + size - 1 > 0xffffffffull)) return segment_fault(c, seg);
        return true;
    }
    if ((c->cr0 & CR0_PE) && !(c->flags & F_VM)) {
        bool code = s->ar & 8, rw = s->ar & 2;
        if ((s->ar & AR_UNUSABLE) || (acc == ACC_W && (code || !rw)) || (acc == ACC_R && code && !rw)) return segment_fault(c, seg);
    }
    u64 last = ea + size - 1;
    if ((s->ar & 0xc) == 4) { /* expand-down data (SDM vol. 3, "Limit Checking") */
        u64 top = s->ar & AR_DB ? 0xffffffffull : 0xffffull;
        if (ea <= s->limit || last > top) return segment_fault(c, seg);
    } else if (last > s->limit) {
        return segment_fault(c, seg);
    }
    return true;
}

bool op_linear(accel_cpu *c, const struct op *o, unsigned size, int acc, u64 *lin) {
    return seg_linear(c, o->seg, op_ea(c, o), size, acc, lin);
}

/* ---- linear accesses of instructions ------------------------------------------------------------------- */

/* SDM vol. 3, "Alignment Check Exception (#AC)", its table of data types. Unaligned forms of 16 and 32 bytes are left to
 * the implementation; AMD's hardware wants 16 for both. */
static unsigned natural_alignment(unsigned size) {
    switch (size) {
    case 2: case 4: case 8: case 16: return size;
    case 32: return 16;
    case 10: return 8;            /* 80-bit values */
    case 14: case 94: return 2;   /* 16-bit x87 environment, state */
    case 28: case 108: return 4;
    default: return 1;
    }
}

static bool alignment_ok(accel_cpu *c, u64 lin, unsigned size) {
    if (likely(!(c->key & K_AC)) || !(lin & (natural_alignment(size) - 1))) return true;
    return set_fault(c, EX_AC, true, 0);
}

static bool leave_device(accel_cpu *c, int kind) {
    c->fault.vector = FAULT_EXIT;
    c->exit.kind = (u32)kind;
    return false;
}

static bool device_read(accel_cpu *c, u64 pa, void *buf, unsigned size, int kind) {
    if (c->answer_used < c->answer_count) {
        const struct answer *a = &c->answers[c->answer_used++];
        if (a->addr != pa || a->size != size || a->kind != kind) return leave_device(c, ACCEL_EXIT_UNHANDLED);
        memcpy(buf, &a->value, size);
        return true;
    }
    if (c->answer_count == MAX_ANSWERS || size > 8) return leave_device(c, ACCEL_EXIT_UNHANDLED);
    c->exit.gpa = pa;
    c->exit.number = (u32)pa;
    c->exit.size = (u8)size;
    c->exit.write = 0;
    c->answer_wanted = 1;
    return leave_device(c, kind);
}

static void device_write(accel_cpu *c, u64 pa, const void *buf, unsigned size, int kind) {
    struct io_write *w = &c->io[c->io_count++];
    *w = (struct io_write){.addr = pa, .kind = (u8)kind, .size = (u8)size};
    memcpy(&w->value, buf, size);
    c->attention |= ATT_IO;
}

static bool user_access(const accel_cpu *c) { return c->cpl == 3; }

/* Translates both pages of an access before anything happens. */
static bool translate2(accel_cpu *c, u64 lin, unsigned size, int acc, bool user, u64 pa[2], unsigned *first) {
    unsigned in_page = 4096 - (lin & 0xfff);
    *first = size < in_page ? size : in_page;
    if (!mmu_translate(c, lin, acc, user, &pa[0])) return false;
    if (*first == size) return true;
    u64 next = lin + *first;
    if (!is_code64(c)) next &= 0xffffffff;
    return mmu_translate(c, next, acc, user, &pa[1]);
}

static void watch_read(accel_cpu *c, u64 lin, u64 pa, const u8 *host, unsigned size) {
    if (likely(!c->m->watch_count && !(c->dr[7] & 0xff))) return;
    debug_access(c, lin, pa, size, false, host, host);
}

static bool read_piece(accel_cpu *c, u64 lin, u64 pa, u8 *to, unsigned size) {
    u8 *host;
    if (unlikely(!phys_page(c->m, pa, &host))) return device_read(c, pa, to, size, ACCEL_EXIT_MMIO);
    memcpy(to, host + (pa & 0xfff), size);
    watch_read(c, lin, pa, to, size);
    return true;
}

bool mem_read(accel_cpu *c, const struct op *o, u64 lin, void *buf, unsigned size) {
    (void)o;
    u64 pa[2];
    unsigned first;
    if (!alignment_ok(c, lin, size) || !translate2(c, lin, size, ACC_R, user_access(c), pa, &first)) return false;
    if (!read_piece(c, lin, pa[0], buf, first)) return false;
    return first == size || read_piece(c, lin + first, pa[1], (u8 *)buf + first, size - first);
}

static bool writable_piece(accel_cpu *c, u64 pa, unsigned size) {
    if (phys_slot(c->m, pa)) return true;
    if (size > 8 || c->io_count + 2 > MAX_IO_WRITES) return leave_device(c, ACCEL_EXIT_UNHANDLED);
    return true;
}

static void write_piece(accel_cpu *c, u64 lin, u64 pa, const u8 *from, unsigned size) {
    if (unlikely(!phys_slot(c->m, pa))) device_write(c, pa, from, size, ACCEL_EXIT_MMIO);
    else phys_store(c, pa, from, size, lin);
}

bool mem_write(accel_cpu *c, const struct op *o, u64 lin, const void *buf, unsigned size) {
    (void)o;
    u64 pa[2];
    unsigned first;
    if (!alignment_ok(c, lin, size) || !translate2(c, lin, size, ACC_W, user_access(c), pa, &first)) return false;
    if (!writable_piece(c, pa[0], first) || (first != size && !writable_piece(c, pa[1], size - first))) return false;
    write_piece(c, lin, pa[0], buf, first);
    if (first != size) write_piece(c, lin + first, pa[1], (const u8 *)buf + first, size - first);
    return true;
}

bool mem_probe_write(accel_cpu *c, const struct op *o, u64 lin, unsigned size) {
    (void)o;
    if (likely(fast_w(c, lin, size) != NULL)) return true;
    u64 pa[2];
    unsigned first;
    if (!alignment_ok(c, lin, size) || !translate2(c, lin, size, ACC_W, user_access(c), pa, &first)) return false;
    return writable_piece(c, pa[0], first) && (first == size || writable_piece(c, pa[1], size - first));
}

/* ---- implicit supervisor accesses ------------------------------------------------------------------------ */

static bool translate_system(accel_cpu *c, u64 lin, unsigned size, int acc, u64 pa[2], unsigned *first) {
    unsigned in_page = 4096 - (lin & 0xfff);
    *first = size < in_page ? size : in_page;
    if (!mmu_translate_system(c, lin, acc, &pa[0])) return false;
    u64 next = lin + *first;
    if (!is_long(c)) next &= 0xffffffff;
    return *first == size || mmu_translate_system(c, next, acc, &pa[1]);
}

bool sys_read(accel_cpu *c, u64 lin, void *buf, unsigned size) {
    u64 pa[2];
    unsigned first;
    u8 *host = view_r(c->ftlb[system_view(c)], lin, size);
    if (likely(host != NULL)) {
        memcpy(buf, host, size);
        return true;
    }
    if (!translate_system(c, lin, size, ACC_R, pa, &first)) return false;
    for (int i = 0; i < (first == size ? 1 : 2); i++) {
        u8 *to = (u8 *)buf + (i ? first : 0);
        unsigned n = i ? size - first : first;
        if (phys_page(c->m, pa[i], &host)) {
            memcpy(to, host + (pa[i] & 0xfff), n);
        } else {
            memset(to, 0xff, n);
            c->stats.off_slot_reads++;
        }
    }
    return true;
}

bool sys_probe_write(accel_cpu *c, u64 lin, unsigned size) {
    u64 pa[2];
    unsigned first;
    return view_w(c->ftlb[system_view(c)], lin, size) || translate_system(c, lin, size, ACC_W, pa, &first);
}

bool sys_write(accel_cpu *c, u64 lin, const void *buf, unsigned size) {
    u64 pa[2];
    unsigned first;
    u8 *host = view_w(c->ftlb[system_view(c)], lin, size);
    if (likely(host != NULL)) {
        memcpy(host, buf, size);
        return true;
    }
    if (!translate_system(c, lin, size, ACC_W, pa, &first)) return false;
    u8 origin = c->origin;
    c->origin = ACCEL_ORIGIN_EVENT;
    phys_store(c, pa[0], buf, first, lin);
    if (first != size) phys_store(c, pa[1], (const u8 *)buf + first, size - first, lin + first);
    c->origin = origin;
    return true;
}

/* ---- ports --------------------------------------------------------------------------------------------------- */

/* SDM vol. 1, "I/O Permission Bit Map". */
bool port_allowed(accel_cpu *c, uint16_t port, unsigned size) {
    unsigned iopl = (c->flags >> 12) & 3;
    if (!(c->cr0 & CR0_PE) || (c->cpl <= iopl && !(c->flags & F_VM))) return true;
    const struct segment *tr = &c->seg[SEG_TR];
    bool tss32 = !(tr->ar & AR_UNUSABLE) && ((tr->ar & AR_TYPE) == 9 || (tr->ar & AR_TYPE) == 11);
    u16 map, bits;
    if (!tss32 || tr->limit < 103) return set_fault(c, EX_GP, true, 0);
    if (!sys_read(c, tr->base + 102, &map, 2)) return false;
    if ((u32)map + port / 8 + 1 > tr->limit) return set_fault(c, EX_GP, true, 0);
    if (!sys_read(c, tr->base + map + port / 8, &bits, 2)) return false;
    if ((bits >> (port & 7)) & ((1u << size) - 1)) return set_fault(c, EX_GP, true, 0);
    return true;
}

static void io_breakpoint(accel_cpu *c, uint16_t port, unsigned size) {
    u32 hit = c->dr[7] & 0xff ? debug_dr_io(c, port, size) : 0;
    if (!hit) return;
    c->pending_dbg |= hit;
    c->attention |= ATT_DB;
}

bool port_in(accel_cpu *c, const struct op *o, uint16_t port, unsigned size, uint64_t *value) {
    (void)o;
    *value = 0;
    if (!device_read(c, port, value, size, ACCEL_EXIT_INOUT)) return false;
    io_breakpoint(c, port, size);
    return true;
}

void port_out(accel_cpu *c, const struct op *o, uint16_t port, unsigned size, uint64_t value) {
    (void)o;
    device_write(c, port, &value, size, ACCEL_EXIT_INOUT);
    io_breakpoint(c, port, size);
}
