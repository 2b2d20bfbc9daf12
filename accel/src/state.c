/*
 * state.c - the canonical state of a CPU as flat bytes: accel_cpu_save() and accel_cpu_load().
 *
 *     magic u32 | version u32 | index u32 | count u32 | model u32 | tsc_hz u64 | fields in the order of visit()
 *
 * One function visits every field for both directions, so they cannot differ. Integers are little-endian, nothing
 * is padded. The same guest-visible state gives the same bytes: flags are materialised, a TLB entry is saved in
 * place of its slot and only while valid (else zeros), generations are not saved. Not state: statistics, the fast
 * TLB, decoded code, debug controls, requests of the owner (deadline, windows, INTR line, time base), answers.
 */
#include "system.h"

enum { MAGIC = 0x55504341 /* "ACPU" */, VERSION = 2, HEADER = 5 * 4 + 8 };

struct cursor {
    u8 *to;         /* save: where to write; NULL: only count */
    const u8 *from; /* load */
    size_t at;
};

static void bytes(struct cursor *k, void *field, size_t size) {
    if (k->to) memcpy(k->to + k->at, field, size);
    if (k->from) memcpy(field, k->from + k->at, size);
    k->at += size;
}
#define V(field) bytes(k, &(field), sizeof(field))

static void visit_segments(struct cursor *k, accel_cpu *c) {
    for (int i = 0; i < SEG_COUNT; i++) V(c->seg[i].base), V(c->seg[i].limit), V(c->seg[i].ar), V(c->seg[i].sel);
    V(c->gdtr.base), V(c->gdtr.limit), V(c->idtr.base), V(c->idtr.limit);
}

static void visit_fpu(struct cursor *k, accel_cpu *c) {
    struct fpu *f = &c->fpu;
    for (int i = 0; i < 8; i++) bytes(k, f->st[i], 10);
    V(f->cw), V(f->sw), V(f->tag), V(f->fop), V(f->fcs), V(f->fds), V(f->fip), V(f->fdp);
    V(c->v), V(c->mxcsr);
}

static void visit_msrs(struct cursor *k, accel_cpu *c) {
    V(c->star), V(c->lstar), V(c->cstar), V(c->fmask), V(c->kernel_gs_base);
    V(c->sysenter_cs), V(c->sysenter_esp), V(c->sysenter_eip);
    V(c->pat), V(c->tsc_aux), V(c->apic_base), V(c->misc_enable), V(c->debugctl);
    V(c->mtrr_def), V(c->mtrr_fix), V(c->mtrr_base), V(c->mtrr_mask);
    V(c->spec_ctrl), V(c->tsc_adjust), V(c->tsc_offset), V(c->pkru);
}

static void visit_events(struct cursor *k, accel_cpu *c) {
    accel_control *t = &c->ctl;
    V(c->shadow), V(c->nmi_blocked), V(c->pending_dbg), V(c->monitor_addr), V(t->monitor_state);
    V(t->inflight_valid), V(t->inflight_type), V(t->inflight_vector), V(t->inflight_has_error);
    V(t->inflight_error), V(t->inflight_length);
    V(t->activity), V(t->nmi_pending), V(t->inject_valid), V(t->inject_type), V(t->inject_vector), V(t->inject_has_error);
    V(t->inject_error), V(t->inject_length);
    V(c->ticks), V(c->extra), V(c->rng);
}

static bool entry_valid(const accel_cpu *c, const struct tlb_entry *t) {
    return (t->flags & TLB_VALID) && t->gen == (t->flags & TLB_GLOBAL ? c->tlb_ggen : c->tlb_gen[t->pcid & 4095]);
}

static void visit_tlb(struct cursor *k, accel_cpu *c, struct tlb_entry *set, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct tlb_entry e = {0};
        if (!k->from && entry_valid(c, &set[i])) e = set[i];
        V(e.vpn), V(e.pfn), V(e.flags), V(e.pcid);
        if (!k->from) continue;
        e.pcid &= 4095;
        e.gen = e.flags & TLB_GLOBAL ? c->tlb_ggen : c->tlb_gen[e.pcid];
        if (e.flags & (TLB_LARGE | TLB_HUGE)) tlb_note_large(c, e.vpn, e.flags & TLB_HUGE);
        set[i] = e;
    }
}

static void visit(struct cursor *k, accel_cpu *c) {
    u32 rflags = get_rflags(c);
    bytes(k, c->r, 16 * sizeof c->r[0]);
    V(c->rip), V(rflags);
    if (k->from) set_rflags(c, rflags);
    visit_segments(k, c);
    V(c->cr0), V(c->cr2), V(c->cr3), V(c->cr4), V(c->cr8), V(c->efer), V(c->xcr0), V(c->pdpte), V(c->dr), V(c->cpl);
    visit_fpu(k, c);
    visit_msrs(k, c);
    visit_events(k, c);
    visit_tlb(k, c, c->itlb, ITLB_SIZE);
    visit_tlb(k, c, c->dtlb, DTLB_SIZE);
}

static void header(struct cursor *k, const accel_cpu *c) {
    u32 words[5] = {MAGIC, VERSION, c->index, c->count, (u32)c->model};
    u64 hz = c->tsc_hz;
    V(words), V(hz);
}

size_t accel_cpu_save_size(void) {
    enum { FIXED = HEADER + 16 * 8 + 8 + 4 + SEG_COUNT * 18 + 20 + 7 * 8 + 4 * 8 + 8 * 8 + 1,
           FPU = 80 + 2 + 2 + 1 + 6 + 16 + 16 * 32 + 4,
           MSRS = 13 * 8 + 8 + 11 * 8 + 8 * 8 + 8 * 8 + 3 * 8 + 4,
           EVENTS = 2 + 8 + 8 + 1 + 4 + 8 + 6 + 8 + 3 * 8,
           TLB = (ITLB_SIZE + DTLB_SIZE) * 20 };
    return FIXED + FPU + MSRS + EVENTS + TLB;
}

int accel_cpu_save(accel_cpu *c, void *data, size_t size) {
    if (size != accel_cpu_save_size()) return ACCEL_EINVAL;
    if (c->answer_count || c->answer_wanted || c->io_count) return ACCEL_EBUSY; /* an instruction is half done */
    struct cursor k = {.to = data};
    header(&k, c);
    visit(&k, c);
    return k.at == size ? ACCEL_OK : ACCEL_EVERSION;
}

/* A state that was not saved by accel_cpu_save() must not break the host: what indexes or shifts is cut to its range. */
static void sanitise(accel_cpu *c) {
    c->cpl &= 3;
    c->cr8 &= 15;
    c->shadow &= SHADOW_STI | SHADOW_SS;
    c->nmi_blocked &= 1;
    c->mxcsr &= 0xffff;
    if (c->ctl.monitor_state > ACCEL_MONITOR_WAIT_MASKED || (c->ctl.monitor_state && !monitor_arm(c))) c->ctl.monitor_state = 0;
    if (c->ctl.activity > ACCEL_WAIT_SIPI) c->ctl.activity = ACCEL_SHUTDOWN;
    if (c->ctl.inject_type > ACCEL_EV_SW_EXCEPTION) clear_injection(c);
    if (c->ctl.inflight_type > ACCEL_EV_SW_EXCEPTION) clear_inflight(c);
    for (int i = 0; i < SEG_COUNT; i++) c->seg[i].ar &= 0x1f0ff;
}

int accel_cpu_load(accel_cpu *c, const void *data, size_t size) {
    u8 expected[HEADER];
    struct cursor k = {.to = expected};
    header(&k, c);
    if (size < 8 || memcmp(data, expected, 8)) return ACCEL_EVERSION;
    if (size != accel_cpu_save_size() || memcmp(data, expected, HEADER)) return ACCEL_EINVAL;
    tlb_flush(c, true); /* a generation of its own for what comes */
    k.to = NULL;
    k.from = data;
    visit(&k, c);
    sanitise(c);
    c->answer_count = c->answer_used = c->answer_wanted = 0;
    c->io_count = c->hit_count = c->chain_count = 0;
    c->attention = 0;
    trace_reset(c);
    ftlb_flush(c);
    fetch_flush(c);
    update_mode(c);
    return ACCEL_OK;
}
