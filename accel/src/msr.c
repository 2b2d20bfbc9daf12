/*
 * msr.c - model-specific registers: one row per register or range (SDM vol. 4).
 *
 * Owners. Rows of OWN_CORE are here. OWN_MONITOR ones belong to the monitor's interrupt controllers and timers and
 * leave as RDMSR/WRMSR exits, and so does every MSR without a row: the monitor decides what an unknown one does.
 */
#include <stddef.h>
#include "system.h"

enum owner { OWN_CORE, OWN_MONITOR };

/* What a row's value may be. */
enum check { ANY, READ_ONLY, CANONICAL, LOW32, PAT_VALUE, SPECIAL };

struct msr_row {
    uint32_t first, last;
    uint8_t owner, check;
    int16_t feature;    /* the model must have it, else #GP; -1: always there */
    uint32_t offset;    /* of the field in accel_cpu (8 bytes per register of the range); NO_FIELD: `value`, or special */
    uint64_t value;     /* of a constant */
};
enum { NO_FIELD = ~0u };
#define FIELD(f) ((uint32_t)offsetof(accel_cpu, f))
#define CONSTANT(msr, feature, v) {msr, msr, OWN_CORE, READ_ONLY, feature, NO_FIELD, v}

enum { RDCL_NO = 1 << 0, SKIP_L1DFL_VMENTRY = 1 << 3, SSB_NO = 1 << 4, MDS_NO = 1 << 5, PSCHANGE_MC_NO = 1 << 6, TAA_NO = 1 << 8,
       SBDR_SSDP_NO = 1 << 13, FBSDP_NO = 1 << 14, PSDP_NO = 1 << 15, BHI_NO = 1 << 20, PBRSB_NO = 1 << 24, GDS_NO = 1 << 26,
       RFDS_NO = 1 << 27 };
#define ARCH_CAPABILITIES \
    (RDCL_NO | SKIP_L1DFL_VMENTRY | SSB_NO | MDS_NO | PSCHANGE_MC_NO | TAA_NO | SBDR_SSDP_NO | FBSDP_NO | PSDP_NO | BHI_NO | \
     PBRSB_NO | GDS_NO | RFDS_NO | BIT(62) /* ITS_NO */)

enum { IA32_TSC = 0x10, IA32_TSC_ADJUST = 0x3b, IA32_MISC_ENABLE = 0x1a0, IA32_DEBUGCTL = 0x1d9, IA32_MTRR_FIX = 0x250,
       IA32_MTRR_BASE = 0x200, IA32_MTRR_DEF = 0x2ff };
#define IA32_EFER 0xc0000080u
#define IA32_FS_BASE 0xc0000100u
#define IA32_GS_BASE 0xc0000101u

static const struct msr_row rows[] = {
    {IA32_TSC, IA32_TSC, OWN_CORE, SPECIAL, FEAT_TSC, NO_FIELD, 0},
    CONSTANT(0x17, -1, 0), /* IA32_PLATFORM_ID */
    {0x1b, 0x1b, OWN_MONITOR, SPECIAL, FEAT_APIC, NO_FIELD, 0}, /* IA32_APIC_BASE */
    {IA32_TSC_ADJUST, IA32_TSC_ADJUST, OWN_CORE, SPECIAL, FEAT_TSC_ADJUST, NO_FIELD, 0},
    {0x8b, 0x8b, OWN_CORE, ANY, -1, NO_FIELD, 0}, /* IA32_BIOS_SIGN_ID: no microcode; guests write 0 before CPUID */
    CONSTANT(0xfe, FEAT_MTRR, 0x508), /* IA32_MTRRCAP: write combining, fixed ranges, 8 variable ranges */
    CONSTANT(0x10a, -1, ARCH_CAPABILITIES),
    {0x174, 0x174, OWN_CORE, LOW32, FEAT_SEP, FIELD(sysenter_cs), 0},
    {0x175, 0x175, OWN_CORE, CANONICAL, FEAT_SEP, FIELD(sysenter_esp), 0},
    {0x176, 0x176, OWN_CORE, CANONICAL, FEAT_SEP, FIELD(sysenter_eip), 0},
    CONSTANT(0x179, FEAT_MCA, 0), /* IA32_MCG_CAP: no banks */
    {0x17a, 0x17a, OWN_CORE, ANY, FEAT_MCA, NO_FIELD, 0}, /* IA32_MCG_STATUS: never anything */
    {IA32_MISC_ENABLE, IA32_MISC_ENABLE, OWN_CORE, SPECIAL, -1, FIELD(misc_enable), 0},
    {IA32_DEBUGCTL, IA32_DEBUGCTL, OWN_CORE, SPECIAL, -1, FIELD(debugctl), 0},
    {IA32_MTRR_BASE, IA32_MTRR_BASE + 15, OWN_CORE, SPECIAL, FEAT_MTRR, NO_FIELD, 0},
    {IA32_MTRR_FIX, IA32_MTRR_FIX, OWN_CORE, SPECIAL, FEAT_MTRR, FIELD(mtrr_fix[0]), 0},
    {0x258, 0x259, OWN_CORE, SPECIAL, FEAT_MTRR, FIELD(mtrr_fix[1]), 0},
    {0x268, 0x26f, OWN_CORE, SPECIAL, FEAT_MTRR, FIELD(mtrr_fix[3]), 0},
    {0x277, 0x277, OWN_CORE, PAT_VALUE, FEAT_PAT, FIELD(pat), 0},
    {IA32_MTRR_DEF, IA32_MTRR_DEF, OWN_CORE, SPECIAL, FEAT_MTRR, FIELD(mtrr_def), 0},
    {0x6e0, 0x6e0, OWN_MONITOR, SPECIAL, FEAT_TSC_DEADLINE, NO_FIELD, 0},
    {0x800, 0x8ff, OWN_MONITOR, SPECIAL, FEAT_X2APIC, NO_FIELD, 0},
    {IA32_EFER, IA32_EFER, OWN_CORE, SPECIAL, -1, FIELD(efer), 0},
    {0xc0000081, 0xc0000081, OWN_CORE, ANY, FEAT_SYSCALL, FIELD(star), 0},
    {0xc0000082, 0xc0000082, OWN_CORE, CANONICAL, FEAT_LM, FIELD(lstar), 0},
    {0xc0000083, 0xc0000083, OWN_CORE, CANONICAL, FEAT_LM, FIELD(cstar), 0},
    {0xc0000084, 0xc0000084, OWN_CORE, LOW32, FEAT_SYSCALL, FIELD(fmask), 0},
    {IA32_FS_BASE, IA32_FS_BASE, OWN_CORE, CANONICAL, FEAT_LM, FIELD(seg[SEG_FS].base), 0},
    {IA32_GS_BASE, IA32_GS_BASE, OWN_CORE, CANONICAL, FEAT_LM, FIELD(seg[SEG_GS].base), 0},
    {0xc0000102, 0xc0000102, OWN_CORE, CANONICAL, FEAT_LM, FIELD(kernel_gs_base), 0},
    {0xc0000103, 0xc0000103, OWN_CORE, LOW32, FEAT_RDTSCP, FIELD(tsc_aux), 0},
};

static const struct msr_row *find(uint32_t msr) {
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (msr >= rows[i].first && msr <= rows[i].last) return &rows[i];
    return NULL;
}

static uint64_t *field(accel_cpu *c, const struct msr_row *row, uint32_t msr) {
    if (row->first == IA32_MTRR_BASE) return msr & 1 ? &c->mtrr_mask[(msr - row->first) / 2] : &c->mtrr_base[(msr - row->first) / 2];
    if (row->offset == NO_FIELD) return NULL;
    return (uint64_t *)((char *)c + row->offset) + (msr - row->first);
}

static uint64_t tsc(accel_cpu *c, const struct op *o) {
    uint64_t ticks = o ? ticks_now(c, o) : c->ticks;
    return (uint64_t)c->ctl.time_base + ticks + c->tsc_offset + c->tsc_adjust;
}

enum msr_result msr_read(accel_cpu *c, uint32_t msr, uint64_t *v, const struct op *o) {
    const struct msr_row *row = find(msr);
    if (!row) return MSR_EXIT;
    if (row->feature >= 0 && !model_has(c, row->feature)) return MSR_GP;
    if (row->owner == OWN_MONITOR) return MSR_EXIT;
    const uint64_t *f = field(c, row, msr);
    if (msr == IA32_TSC) *v = tsc(c, o);
    else if (msr == IA32_TSC_ADJUST) *v = c->tsc_adjust;
    else *v = f ? *f : row->value;
    return MSR_OK;
}

static bool memory_type(uint64_t t) { return t == 0 || t == 1 || (t >= 4 && t <= 6); }

static bool all_bytes(uint64_t v, bool pat) {
    for (int i = 0; i < 64; i += 8)
        if (!memory_type(v >> i & 0xff) && !(pat && (v >> i & 0xff) == 7)) return false;
    return true;
}

static bool mtrr_valid(uint32_t msr, uint64_t v) {
    if (msr == IA32_MTRR_DEF) return !(v & ~0xcffull) && memory_type(v & 0xff);
    if (msr >= IA32_MTRR_FIX) return all_bytes(v, false);
    if (v & PHYS_RESERVED) return false;
    return msr & 1 ? !(v & 0x7ff) : !(v & 0xf00) && memory_type(v & 0xff);
}

/* Timers of the monitor that wait for a value of the TSC have to learn of the guest's write before the next instruction. */
static bool move_tsc(accel_cpu *c, const struct op *o, uint64_t adjust) {
    if (o && c->tsc_adjust != adjust) {
        c->exit.kind = ACCEL_EXIT_TSC;
        c->exit.inst_length = o->len;
        c->attention |= ATT_EXIT;
    }
    c->tsc_adjust = adjust;
    return true;
}

/* The registers whose write does more than store a checked value. */
static bool write_special(accel_cpu *c, uint32_t msr, uint64_t v, uint64_t *f, const struct op *o) {
    switch (msr) {
    case IA32_TSC: return move_tsc(c, o, c->tsc_adjust + v - tsc(c, o)); /* SDM vol. 3, "IA32_TSC_ADJUST Support" */
    case IA32_TSC_ADJUST: return move_tsc(c, o, v);
    case IA32_EFER: return set_efer(c, v);
    case IA32_MISC_ENABLE: /* fast strings may be turned off; nothing else can change */
        if ((v ^ *f) & ~1ull) return false;
        break;
    case IA32_DEBUGCTL: /* LBR and BTF */
        if (v & ~3ull) return false;
        break;
    default: /* MTRRs */
        if (!mtrr_valid(msr, v)) return false;
    }
    *f = v;
    return true;
}

enum msr_result msr_write(accel_cpu *c, uint32_t msr, uint64_t v, const struct op *o) {
    const struct msr_row *row = find(msr);
    if (!row) return MSR_EXIT;
    if (row->feature >= 0 && !model_has(c, row->feature)) return MSR_GP;
    if (row->owner == OWN_MONITOR) return MSR_EXIT;
    uint64_t *f = field(c, row, msr);
    switch ((enum check)row->check) {
    case ANY: break;
    case READ_ONLY: return MSR_GP;
    case CANONICAL:
        if (!canonical(c, v)) return MSR_GP;
        break;
    case LOW32:
        if (v >> 32) return MSR_GP;
        break;
    case PAT_VALUE:
        if (!all_bytes(v, true)) return MSR_GP;
        break;
    case SPECIAL: return write_special(c, msr, v, f, o) ? MSR_OK : MSR_GP;
    }
    if (f) *f = v;
    if (msr == IA32_FS_BASE || msr == IA32_GS_BASE) update_mode(c);
    return MSR_OK;
}

int accel_msr_get(accel_cpu *c, uint32_t msr, uint64_t *value) {
    uint64_t v;
    if (msr_read(c, msr, &v, NULL) != MSR_OK) return ACCEL_ENOENT;
    *value = v;
    return ACCEL_OK;
}

int accel_msr_set(accel_cpu *c, uint32_t msr, uint64_t value) {
    switch (msr_write(c, msr, value, NULL)) {
    case MSR_OK: return ACCEL_OK;
    case MSR_GP: return ACCEL_EINVAL;
    default: return ACCEL_ENOENT;
    }
}
