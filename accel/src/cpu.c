/*
 * cpu.c - the state of a CPU: creation and reset, the mode key, the control registers.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdlib.h>
#include "system.h"

/* ---- mode ------------------------------------------------------------------------------------------- */

bool model_has(const accel_cpu *c, int feature) {
    return features[feature].implemented && features[feature].model <= c->model;
}

static bool flat_data(const struct segment *s) {
    return s->base == 0 && s->limit == 0xffffffff && (s->ar & (AR_UNUSABLE | AR_P | AR_S | 8 | 4 | 2)) == (AR_P | AR_S | 2);
}

/* All accesses through ES, CS, SS and DS pass every check, whatever they are (FS and GS are not covered). */
static bool all_flat(const accel_cpu *c) {
    const struct segment *cs = &c->seg[SEG_CS];
    bool code = cs->base == 0 && cs->limit == 0xffffffff && (cs->ar & (AR_P | AR_S | 8 | 2)) == (AR_P | AR_S | 8 | 2);
    return code && flat_data(&c->seg[SEG_DS]) && flat_data(&c->seg[SEG_ES]) && flat_data(&c->seg[SEG_SS]);
}

static uint32_t code_key(const accel_cpu *c) {
    if (is_long(c) && (c->seg[SEG_CS].ar & AR_L)) return K_CODE64 | K_FLAT;
    uint32_t key = c->seg[SEG_CS].ar & AR_DB ? K_CODE32 : K_CODE16;
    if (c->seg[SEG_SS].ar & AR_DB) key |= K_SS32;
    if (protected_mode(c) && all_flat(c)) key |= K_FLAT;
    return key;
}

void update_mode(accel_cpu *c) {
    uint32_t key = code_key(c);
    bool ac = c->cpl == 3 && (c->cr0 & CR0_AM) && (c->flags & F_AC);
    if (c->cpl == 3) key |= K_CPL3;
    if (c->cpl == 0) key |= K_CPL0;
    if (c->cr0 & CR0_PE) key |= K_PE;
    if (c->flags & F_VM) key |= K_VM;
    if (c->cr0 & CR0_EM) key |= K_EM;
    if (c->cr0 & CR0_TS) key |= K_TS;
    if (c->cr0 & CR0_MP) key |= K_MP;
    if ((c->cr4 & CR4_OSFXSR) && !(c->cr0 & CR0_EM)) key |= K_SSE;
    if ((c->cr4 & CR4_OSXSAVE) && (c->xcr0 & 6) == 6) key |= K_AVX;
    if (ac) key |= K_AC;
    c->key = key | (uint32_t)c->model << K_MODEL_SHIFT;

    bool code64 = (key & K_CODE) == K_CODE64;
    for (int s = SEG_ES; s <= SEG_GS; s++) c->segbase[s] = code64 && s < SEG_FS ? 0 : c->seg[s].base;

    bool smap = (c->cr4 & CR4_SMAP) && !(c->flags & F_AC);
    int view = ac ? FT_NONE : c->cpl == 3 ? FT_USER : smap ? FT_SUPER_SMAP : FT_SUPER;
    c->ft = c->ftlb[view];
}

/* ---- control registers (SDM vol. 3, "Control Registers") ----------------------------------------------- */

/* The four PDPTEs of PAE paging are registers, loaded when CR3 or the paging mode is written
 * (SDM vol. 3, "PDPTE Registers"). False: a present one has a reserved bit. */
static bool read_pdptes(accel_cpu *c, uint64_t cr3, uint64_t out[4]) {
    for (int i = 0; i < 4; i++) {
        out[i] = walk_read(c, (cr3 & 0xffffffe0) + 8 * (unsigned)i, 8);
        if ((out[i] & 1) && (out[i] & (PHYS_RESERVED | 0x1e6))) return false;
    }
    return true;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer) {
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static void flush_everything(accel_cpu *c) {
    tlb_flush(c, true);
    fetch_flush(c);
}

static bool long_mode_may_start(const accel_cpu *c) {
    uint32_t tr = c->seg[SEG_TR].ar;
    bool tss16 = !(tr & AR_UNUSABLE) && ((tr & 0x1d) == 1);
    return (c->cr4 & CR4_PAE) && !(c->seg[SEG_CS].ar & AR_L) && !tss16;
}

bool set_cr0(accel_cpu *c, uint64_t v) {
    const uint64_t known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    if (v >> 32) return false;
    v = (v & known) | CR0_ET; /* the other low bits ignore writes */
    if (((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD))) return false;
    uint64_t changed = v ^ c->cr0, efer = c->efer & ~(uint64_t)EFER_LMA;
    if (v & CR0_PG) {
        if (c->efer & EFER_LME) {
            if ((changed & CR0_PG) && !long_mode_may_start(c)) return false;
            efer |= EFER_LMA;
        }
    } else if ((c->cr4 & CR4_PCIDE) || is_code64(c)) {
        return false;
    }
    uint64_t pdpte[4];
    bool load = pae_paging(v, c->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW));
    if (load && !read_pdptes(c, c->cr3, pdpte)) return false;
    if (load) memcpy(c->pdpte, pdpte, sizeof pdpte);
    c->cr0 = v;
    c->efer = efer;
    if (!(v & CR0_PE)) c->cpl = 0;
    if (changed & (CR0_PG | CR0_PE)) flush_everything(c);
    else if (changed & CR0_WP) ftlb_flush(c);
    update_mode(c);
    return true;
}

bool set_cr3(accel_cpu *c, uint64_t v) {
    bool keep = false;
    if (is_long(c)) {
        if (c->cr4 & CR4_PCIDE) {
            keep = v >> 63;
            v &= ~BIT(63);
        }
        if (v & PHYS_RESERVED) return false;
    }
    if (pae_paging(c->cr0, c->cr4, c->efer)) {
        uint64_t pdpte[4];
        if (!read_pdptes(c, v, pdpte)) return false;
        memcpy(c->pdpte, pdpte, sizeof pdpte);
    }
    c->cr3 = v;
    if (!keep) tlb_flush(c, false);
    else ftlb_flush(c);
    fetch_flush(c);
    return true;
}

static uint64_t cr4_allowed(const accel_cpu *c) {
    static const struct { uint32_t bits; int feature; } rows[] = {
        {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC}, {CR4_DE, FEAT_DE}, {CR4_PSE, FEAT_PSE}, {CR4_PAE, FEAT_PAE},
        {CR4_MCE, FEAT_MCE}, {CR4_PGE, FEAT_PGE}, {CR4_OSFXSR, FEAT_FXSR}, {CR4_OSXMMEXCPT, FEAT_SSE}, {CR4_UMIP, FEAT_UMIP},
        {CR4_LA57, FEAT_LA57}, {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID}, {CR4_OSXSAVE, FEAT_XSAVE},
        {CR4_SMEP, FEAT_SMEP}, {CR4_SMAP, FEAT_SMAP}, {CR4_PKE, FEAT_PKU},
    };
    uint64_t mask = CR4_PCE;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (model_has(c, rows[i].feature)) mask |= rows[i].bits;
    return mask;
}

bool set_cr4(accel_cpu *c, uint64_t v) {
    uint64_t changed = v ^ c->cr4, set = v & changed;
    if (v & ~cr4_allowed(c)) return false;
    if (is_long(c) && (!(v & CR4_PAE) || (changed & CR4_LA57))) return false;
    if ((set & CR4_PCIDE) && (!is_long(c) || (c->cr3 & 0xfff))) return false;
    uint64_t pdpte[4];
    bool load = pae_paging(c->cr0, v, c->efer) && (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP));
    if (load && !read_pdptes(c, c->cr3, pdpte)) return false;
    if (load) memcpy(c->pdpte, pdpte, sizeof pdpte);
    c->cr4 = v;
    bool all = (changed & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57)) || (set & CR4_SMEP) || (changed & ~v & CR4_PCIDE);
    if (all) flush_everything(c);
    else if (changed & (CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PCIDE)) ftlb_flush(c), fetch_flush(c);
    update_mode(c);
    return true;
}

/* LMA follows from LME and CR0.PG; a written LMA is ignored, as Intel processors do. */
bool set_efer(accel_cpu *c, uint64_t v) {
    uint64_t allowed = EFER_LMA;
    if (model_has(c, FEAT_SYSCALL)) allowed |= EFER_SCE;
    if (model_has(c, FEAT_LM)) allowed |= EFER_LME;
    if (model_has(c, FEAT_NX)) allowed |= EFER_NXE;
    if (v & ~allowed) return false;
    uint64_t changed = v ^ c->efer;
    if ((changed & EFER_LME) && (c->cr0 & CR0_PG)) return false;
    c->efer = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    if (changed & EFER_NXE) flush_everything(c);
    update_mode(c);
    return true;
}

/* ---- creation and reset (SDM vol. 3, "Processor State After Reset") ---------------------------------------- */

static const struct segment RESET_DATA = {.base = 0, .limit = 0xffff, .ar = 0x93, .sel = 0};

static void reset_segments(accel_cpu *c) {
    for (int s = SEG_ES; s <= SEG_GS; s++) c->seg[s] = RESET_DATA;
    c->seg[SEG_CS] = (struct segment){.base = 0xffff0000, .limit = 0xffff, .ar = 0x93, .sel = 0xf000};
    c->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .ar = 0x82};
    c->seg[SEG_TR] = (struct segment){.limit = 0xffff, .ar = 0x8b};
    c->gdtr = c->idtr = (struct table){.base = 0, .limit = 0xffff};
}

/* What power-on sets and INIT leaves alone. */
static void reset_power_on(accel_cpu *c) {
    memset(c->v, 0, sizeof c->v);
    memset(&c->fpu, 0, sizeof c->fpu);
    c->fpu.cw = 0x40;
    c->fpu.tag = 0xff; /* tag word 5555H: every register holds a valid zero */
    c->mxcsr = 0x1f80;
    c->xcr0 = 1;
    c->pkru = 0;
    c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = 0;
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->pat = 0x0007040600070406ull;
    c->tsc_aux = 0;
    c->apic_base = c->index == 0 ? 0xfee00900 : 0xfee00800;
    c->misc_enable = 0x1801; /* fast strings; no BTS, no PEBS */
    c->mtrr_def = 0;
    memset(c->mtrr_fix, 0, sizeof c->mtrr_fix);
    memset(c->mtrr_base, 0, sizeof c->mtrr_base);
    memset(c->mtrr_mask, 0, sizeof c->mtrr_mask);
    c->spec_ctrl = 0;
    c->tsc_adjust = 0; /* the TSC goes on with the machine: all CPUs agree after any mix of resets */
    c->tsc_offset = 0;
}

void accel_cpu_reset(accel_cpu *c, int init) {
    uint32_t id[4];
    uint64_t keep_cr0 = init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
    memset(c->r, 0, sizeof c->r);
    c->r[R_4096] = 4096;
    if (!init) reset_power_on(c);
    reset_segments(c);
    set_rflags(c, 2);
    c->rip = 0xfff0;
    c->cr0 = keep_cr0 | CR0_ET;
    c->cr2 = c->cr3 = c->cr4 = c->cr8 = 0;
    c->efer = 0;
    memset(c->pdpte, 0, sizeof c->pdpte);
    memset(c->dr, 0, sizeof c->dr);
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    c->debugctl = 0;
    c->cpl = c->shadow = c->nmi_blocked = 0;
    c->pending_dbg = 0;
    c->monitor_addr = 0;
    c->ctl.monitor_state = ACCEL_MONITOR_NONE;
    clear_injection(c);
    clear_inflight(c);
    c->ctl.catch_mode = 0;
    c->caught.which = 0;
    c->ctl.nmi_pending = 0;
    c->ctl.intr_line = 0;
    bool boot_cpu = c->apic_base & 0x100;
    c->ctl.activity = boot_cpu ? ACCEL_ACTIVE : ACCEL_WAIT_SIPI;
    c->answer_count = c->answer_used = c->answer_wanted = 0;
    c->io_count = c->hit_count = c->chain_count = 0;
    c->attention = 0;
    flush_everything(c);
    update_mode(c);
    cpuid(c, 1, 0, id);
    c->r[R_RDX] = id[0]; /* the processor signature */
}

static bool index_taken(const accel_machine *m, uint32_t index) {
    for (uint32_t i = 0; i < m->cpu_count; i++)
        if (m->cpus[i]->index == index) return true;
    return false;
}

/* The one place that asks the host what it is: it decides whether the core can run, never what the guest sees. */
static bool host_can(int model) {
    unsigned a, b, c1 = 0, d;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2")) return false;
    bool f16c = __get_cpuid(1, &a, &b, &c1, &d) && (c1 & bit_F16C); /* not every compiler's builtin knows it */
    return model < ACCEL_MODEL_V3 || (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c);
}

int accel_cpu_new(accel_machine *m, uint32_t index, uint32_t count, int model, uint64_t tsc_hz, uint64_t seed, accel_cpu **out) {
    if (!m || !out || count == 0 || count > ACCEL_MAX_CPUS || index >= count) return ACCEL_EINVAL;
    if (model < ACCEL_MODEL_V1 || model > ACCEL_MODEL_MAX || tsc_hz == 0) return ACCEL_EINVAL;
    if (m->cpu_count == ACCEL_MAX_CPUS || index_taken(m, index)) return ACCEL_EBUSY;
    if (!host_can(model)) return ACCEL_EHOST;
    accel_cpu *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    if (!c) return ACCEL_ENOMEM;
    memset(c, 0, sizeof *c);
    c->m = m;
    c->index = index;
    c->count = count;
    c->model = model;
    c->tsc_hz = tsc_hz;
    c->rng = seed ^ (index * 0x9e3779b97f4a7c15ull);
    for (int view = 0; view < FT_VIEWS; view++)
        for (int i = 0; i < FTLB_SIZE; i++) c->ftlb[view][i].rtag = c->ftlb[view][i].wtag = FTLB_NONE;
    c->trace.ring = c->trace.recent;
    accel_branch_ring(c, TRACE_DEFAULT);
    accel_cpu_reset(c, 0);
    m->cpus[m->cpu_count++] = c;
    *out = c;
    return ACCEL_OK;
}
