/*
 * regs.c - registers by number and name: regs.def turned into tables, with what a write has to keep consistent.
 *
 * A setter returns false for a value that the register cannot hold; then nothing has changed. Every change of
 * something that the mode or a cache depends on ends in update_mode() and the flush that hardware would need.
 */
#include "system.h"

#define PLAIN(name, expression, largest) \
    static u64 get_##name(accel_cpu *c, u32 arg) { (void)arg; return (u64)(expression); } \
    static bool set_##name(accel_cpu *c, u32 arg, u64 v) { \
        (void)arg; \
        if (v > (largest)) return false; \
        (expression) = (__typeof__(expression))v; \
        return true; \
    }
#define DERIVED(name, expression) \
    static u64 get_##name(accel_cpu *c, u32 arg) { (void)arg; return (u64)(expression); }

PLAIN(gpr, c->r[arg], ~0ull)
PLAIN(fctrl, c->fpu.cw, 0xffff)
PLAIN(fstat, c->fpu.sw, 0xffff)
PLAIN(fiseg, c->fpu.fcs, 0xffff)
PLAIN(fioff, c->fpu.fip, 0xffffffff)
PLAIN(foseg, c->fpu.fds, 0xffff)
PLAIN(fooff, c->fpu.fdp, 0xffffffff)
PLAIN(fop, c->fpu.fop, 0x7ff)
PLAIN(mxcsr, c->mxcsr, 0xffff)
PLAIN(gdtr_limit, c->gdtr.limit, 0xffff)
PLAIN(idtr_limit, c->idtr.limit, 0xffff)
PLAIN(apic_base, c->apic_base, ~PHYS_RESERVED)
PLAIN(tsc_adjust, c->tsc_adjust, ~0ull)
PLAIN(tsc_aux, c->tsc_aux, 0xffffffff)
PLAIN(activity, c->ctl.activity, ACCEL_WAIT_SIPI)
PLAIN(shadow, c->shadow, SHADOW_STI | SHADOW_SS)
PLAIN(nmi_blocked, c->nmi_blocked, 1)
PLAIN(pending_dbg, c->pending_dbg, 0x1ffff)
DERIVED(ticks, c->ticks)
DERIVED(retired, accel_retired(c))

static bool set_none(accel_cpu *c, u32 arg, u64 v) {
    (void)c, (void)arg, (void)v;
    return false;
}

/* ---- instruction pointer, flags, privilege ---- */

DERIVED(rip, c->rip)
DERIVED(linear_pc, is_code64(c) ? c->rip : (c->seg[SEG_CS].base + c->rip) & 0xffffffff)
DERIVED(eflags, get_rflags(c))
DERIVED(cpl, c->cpl)

static bool set_rip(accel_cpu *c, u32 arg, u64 v) {
    (void)arg;
    if (is_code64(c) ? !canonical(c, v) : v >> 32 != 0) return false;
    c->rip = v;
    return true;
}

/* VM changes only by the instructions that change everything that goes with it. */
static bool set_eflags(accel_cpu *c, u32 arg, u64 v) {
    (void)arg;
    if ((v ^ c->flags) & F_VM) return false;
    set_rflags(c, (u32)v & (F_ARITH | F_SYS));
    update_mode(c);
    return true;
}

static bool set_cpl(accel_cpu *c, u32 arg, u64 v) {
    (void)arg;
    if (v > 3 || (!(c->cr0 & CR0_PE) && v != 0) || (in_vm86(c) && v != 3)) return false;
    c->cpl = (u8)v;
    update_mode(c);
    return true;
}

/* real, vm86, protected16, protected32, compatibility16, compatibility32, long64 */
static u64 get_mode(accel_cpu *c, u32 arg) {
    (void)arg;
    if (!(c->cr0 & CR0_PE)) return 0;
    if (in_vm86(c)) return 1;
    u32 code = c->key & K_CODE;
    if (code == K_CODE64) return 6;
    return (is_long(c) ? 4 : 2) + (code == K_CODE32);
}

/* ---- segments and tables ---- */

DERIVED(sel, c->seg[arg].sel)
DERIVED(base, c->seg[arg].base)
DERIVED(limit, c->seg[arg].limit)
DERIVED(attr, c->seg[arg].ar)
DERIVED(gdtr_base, c->gdtr.base)
DERIVED(idtr_base, c->idtr.base)

/* In real and virtual-8086 mode a selector is its base as well; in protected mode the hidden part has names of its own. */
static bool set_sel(accel_cpu *c, u32 arg, u64 v) {
    if (v > 0xffff) return false;
    if (is_real_or_vm(c) && arg <= SEG_GS) set_segment_real(c, (int)arg, (u16)v);
    else c->seg[arg].sel = (u16)v;
    update_mode(c);
    return true;
}

static bool set_base(accel_cpu *c, u32 arg, u64 v) {
    bool wide = arg >= SEG_FS; /* FS, GS, LDTR, TR */
    if (wide ? !canonical(c, v) : v >> 32 != 0) return false;
    c->seg[arg].base = v;
    update_mode(c);
    return true;
}

static bool set_limit(accel_cpu *c, u32 arg, u64 v) {
    if (v >> 32) return false;
    c->seg[arg].limit = (u32)v;
    update_mode(c);
    return true;
}

static bool set_attr(accel_cpu *c, u32 arg, u64 v) {
    if (v & ~0x1f0ffull) return false;
    c->seg[arg].ar = (u32)v;
    update_mode(c);
    return true;
}

static bool set_table_base(accel_cpu *c, struct table *t, u64 v) {
    if (!canonical(c, v)) return false;
    t->base = v;
    return true;
}
static bool set_gdtr_base(accel_cpu *c, u32 arg, u64 v) { (void)arg; return set_table_base(c, &c->gdtr, v); }
static bool set_idtr_base(accel_cpu *c, u32 arg, u64 v) { (void)arg; return set_table_base(c, &c->idtr, v); }

/* ---- control, debug and model-specific registers ---- */

static u64 get_cr(accel_cpu *c, u32 arg) {
    switch (arg) {
    case 0: return c->cr0;
    case 2: return c->cr2;
    case 3: return c->cr3;
    case 4: return c->cr4;
    default: return c->cr8;
    }
}

static bool set_cr(accel_cpu *c, u32 arg, u64 v) {
    switch (arg) {
    case 0: return set_cr0(c, v);
    case 2: c->cr2 = v; return true;
    case 3: return set_cr3(c, v);
    case 4: return set_cr4(c, v);
    default:
        if (v > 15) return false;
        c->cr8 = v;
        return true;
    }
}

DERIVED(dr, c->dr[arg])

static bool set_dr(accel_cpu *c, u32 arg, u64 v) {
    if (arg >= 6 && v >> 32) return false;
    write_dr(c, arg, v);
    return true;
}

DERIVED(xcr0, c->xcr0)
static bool set_xcr0(accel_cpu *c, u32 arg, u64 v) { (void)arg; return write_xcr0(c, v); }

DERIVED(pkru, c->pkru)
static bool set_pkru(accel_cpu *c, u32 arg, u64 v) {
    (void)arg;
    if (v >> 32) return false;
    c->pkru = (u32)v;
    ftlb_flush(c);
    return true;
}

/* An MSR that the model lacks reads as zero and takes nothing. */
static u64 get_msr(accel_cpu *c, u32 arg) {
    u64 v = 0;
    return msr_read(c, arg, &v, NULL) == MSR_OK ? v : 0;
}
static bool set_msr(accel_cpu *c, u32 arg, u64 v) { return msr_write(c, arg, v, NULL) == MSR_OK; }

/* ---- x87 and vectors ---- */

/* Tag word: 2 bits per physical register: 0 valid, 1 zero, 2 special, 3 empty (SDM vol. 1, "x87 FPU Tag Word"). */
static u64 get_ftag(accel_cpu *c, u32 arg) {
    (void)arg;
    u64 tags = 0;
    for (int i = 0; i < 8; i++) {
        u64 mantissa, tag = 3;
        u16 exponent;
        memcpy(&mantissa, c->fpu.st[i], 8);
        memcpy(&exponent, c->fpu.st[i] + 8, 2);
        exponent &= 0x7fff;
        if (c->fpu.tag >> i & 1) tag = exponent == 0 && mantissa == 0 ? 1 : exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
        tags |= tag << (2 * i);
    }
    return tags;
}

static bool set_ftag(accel_cpu *c, u32 arg, u64 v) {
    (void)arg;
    if (v > 0xffff) return false;
    c->fpu.tag = 0;
    for (int i = 0; i < 8; i++)
        if ((v >> (2 * i) & 3) != 3) c->fpu.tag |= (u8)(1 << i);
    return true;
}

static u8 *at_st(accel_cpu *c, u32 n) { return c->fpu.st[((c->fpu.sw >> 11) + n) & 7]; }
static u8 *at_vec(accel_cpu *c, u32 n) { return c->v[n]; }
static u8 *at_vech(accel_cpu *c, u32 n) { return c->v[n] + 16; }

/* ---- the table ---- */

struct reg_row {
    const char *name;
    u64 (*get)(accel_cpu *, u32);
    bool (*set)(accel_cpu *, u32, u64);
    u8 *(*at)(accel_cpu *, u32);
    u32 arg;
    u8 size;
};

static const struct reg_row rows[] = {
#define VALUE(name, size, g, s, arg) {#name, get_##g, set_##s, NULL, arg, size},
#define BYTES(name, size, a, arg) {#name, NULL, NULL, at_##a, arg, size},
#include "regs.def"
#undef VALUE
#undef BYTES
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct reg_row *row_of(int number) { return number >= 0 && number < ROWS ? &rows[number] : NULL; }

int accel_reg_count(void) { return ROWS; }
const char *accel_reg_name(int number) { return row_of(number) ? rows[number].name : NULL; }
int accel_reg_size(int number) { return row_of(number) ? rows[number].size : 0; }

int accel_reg_find(const char *name) {
    for (int i = 0; name && i < ROWS; i++)
        if (!strcmp(rows[i].name, name)) return i;
    return -1;
}

int accel_reg_get(accel_cpu *c, int number, void *value, size_t size) {
    const struct reg_row *row = row_of(number);
    if (!row) return ACCEL_ENOENT;
    if (size != row->size) return ACCEL_EINVAL;
    if (row->at) {
        memcpy(value, row->at(c, row->arg), size);
    } else {
        u64 v = row->get(c, row->arg);
        memcpy(value, &v, size);
    }
    return ACCEL_OK;
}

int accel_regs_get(accel_cpu *c, const int *numbers, size_t count, void *values, size_t size) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const struct reg_row *row = row_of(numbers[i]);
        if (!row) return ACCEL_ENOENT;
        if (row->size > size - total) return ACCEL_EINVAL;
        total += row->size;
    }
    if (total != size) return ACCEL_EINVAL;
    uint8_t *to = values;
    for (size_t i = 0; i < count; i++) {
        const struct reg_row *row = row_of(numbers[i]);
        accel_reg_get(c, numbers[i], to, row->size);
        to += row->size;
    }
    return ACCEL_OK;
}

bool reg_value(accel_cpu *c, u64 number, u64 *value) {
    if (number >= ROWS || rows[number].at) return false;
    *value = rows[number].get(c, rows[number].arg);
    return true;
}

int accel_reg_set(accel_cpu *c, int number, const void *value, size_t size) {
    const struct reg_row *row = row_of(number);
    if (!row) return ACCEL_ENOENT;
    if (size != row->size) return ACCEL_EINVAL;
    if (c->answer_count || c->answer_wanted) return ACCEL_EBUSY; /* an instruction is half done */
    if (row->at) {
        memcpy(row->at(c, row->arg), value, size);
        return ACCEL_OK;
    }
    u64 v = 0;
    memcpy(&v, value, size);
    return row->set(c, row->arg, v) ? ACCEL_OK : ACCEL_EINVAL;
}
