/*
 * op_system.c - the other instructions that read or change the state of the system: HLT, flags with privilege,
 * model-specific registers, fast system calls, segment bases and XCR0, ports, software interrupts.
 *
 * CPL 0 is checked here and not left to the rows' cpl0 attribute, which only knows CPL 3.
 */
#include "system.h"

static u64 get_native(const accel_cpu *c, const struct op *o, unsigned reg) { return OP_OSZ(o) == SZ64 ? get_64(c, reg) : get_32(c, reg); }
static u64 edx_eax(const accel_cpu *c) { return (u64)get_32(c, R_RDX) << 32 | get_32(c, R_RAX); }
static void put_edx_eax(accel_cpu *c, u64 v) {
    put_32(c, R_RAX, (u32)v);
    put_32(c, R_RDX, (u32)(v >> 32));
}

/* ---- HLT ------------------------------------------------------------------------------------------------------------------ */

HANDLER(h_hlt) {
    if (c->cpl) return raise_err(c, o, EX_GP, 0);
    if (!c->ctl.hlt_exit) c->ctl.activity = ACCEL_HALTED;
    leave_exit_after(c, o, op_next_rip(c, o), ACCEL_EXIT_HLT);
}

/* ---- CLI STI POPF (SDM vol. 3, "Protected-Mode Virtual Interrupts", "8086 Emulation") ------------------------------------------ */

/* VIF takes the place of IF: CR4.VME in virtual-8086 mode, CR4.PVI at CPL 3 in protected mode. */
static bool virtual_interrupts(const accel_cpu *c) {
    return in_vm86(c) ? c->cr4 & CR4_VME : c->cpl == 3 && (c->cr4 & CR4_PVI);
}

SLOW_HANDLER_END(h_cli) {
    (void)o, (void)next;
    if (c->cpl <= iopl_of(c)) c->flags &= ~(u32)F_IF;
    else if (virtual_interrupts(c)) c->flags &= ~(u32)F_VIF;
    else return gp(c, 0);
    return true;
}

SLOW_HANDLER_END(h_sti) {
    (void)o, (void)next;
    if (c->cpl <= iopl_of(c)) {
        if (!(c->flags & F_IF)) c->shadow = SHADOW_STI;
        c->flags |= F_IF;
        return true;
    }
    if (!virtual_interrupts(c) || (c->flags & F_VIP)) return gp(c, 0);
    c->flags |= F_VIF;
    return true;
}

SLOW_HANDLER_END(h_popf) {
    (void)next;
    unsigned size = 1u << OP_OSZ(o);
    u64 mask = stack_mask(c), sp = c->r[R_RSP], lin, image = 0;
    bool vif = in_vm86(c) && iopl_of(c) < 3;
    if (vif && (size != 2 || !(c->cr4 & CR4_VME))) return gp(c, 0);
    if (!seg_linear(c, SEG_SS, sp & mask, size, ACC_R, &lin) || !mem_read(c, o, lin, &image, size)) return false;
    u32 change = F_ARITH | F_TF | F_DF | F_NT;
    if (size > 2) change |= F_AC | F_ID;
    if (vif) {
        if ((image & F_TF) || ((image & F_IF) && (c->flags & F_VIP))) return gp(c, 0);
        image = image & F_IF ? image | F_VIF : image & ~(u64)F_VIF;
        change |= F_VIF;
    } else {
        if (c->cpl <= iopl_of(c)) change |= F_IF;
        if (c->cpl == 0) change |= F_IOPL;
    }
    c->r[R_RSP] = merge_sp(sp, sp + size, mask);
    merge_rflags(c, (u32)image, change);
    update_mode(c);
    return true;
}

/* ---- MSRs ------------------------------------------------------------------------------------------------------------------- */

/* An MSR of the monitor: leaves with RDMSR or WRMSR and comes back with the answer. */
static bool ask_owner(accel_cpu *c, u8 kind, u32 msr, u64 *value) {
    if (c->answer_used < c->answer_count) {
        const struct answer *a = &c->answers[c->answer_used++];
        if (a->kind == kind && a->addr == msr) {
            if (kind == ACCEL_EXIT_RDMSR) *value = a->value;
            return true;
        }
        c->exit.kind = ACCEL_EXIT_UNHANDLED;
    } else {
        c->exit.kind = kind;
        c->exit.number = msr;
        c->exit.gpa = msr;
        c->exit.value = *value;
        c->exit.size = 8;
        c->exit.write = kind == ACCEL_EXIT_WRMSR;
        c->answer_wanted = 1;
    }
    c->fault.vector = FAULT_EXIT;
    return false;
}

SLOW_HANDLER(h_rdmsr) {
    u64 v = 0;
    u32 msr = get_32(c, R_RCX);
    if (c->cpl) return gp(c, 0);
    enum msr_result r = msr_read(c, msr, &v, o);
    if (r == MSR_GP) return gp(c, 0);
    if (r == MSR_EXIT && !ask_owner(c, ACCEL_EXIT_RDMSR, msr, &v)) return false;
    note_caught(c, ACCEL_CATCH_MSR, msr, false, v, v);
    put_edx_eax(c, v);
    return true;
}

SLOW_HANDLER_END(h_wrmsr) {
    (void)next;
    u64 v = edx_eax(c);
    u32 msr = get_32(c, R_RCX);
    if (c->cpl) return gp(c, 0);
    enum msr_result r = msr_write(c, msr, v, o);
    if (r == MSR_GP) return gp(c, 0);
    if (r == MSR_EXIT && !ask_owner(c, ACCEL_EXIT_WRMSR, msr, &v)) return false;
    note_caught(c, ACCEL_CATCH_MSR, msr, true, 0, v);
    if (msr == 0x1b) c->apic_base = v; /* CPUID shows its enable bit */
    return true;
}

/* ---- fast system calls --------------------------------------------------------------------------------------------------------- */

static void flat_code(accel_cpu *c, u16 sel, unsigned cpl, bool code64) {
    u32 ar = AR_P | AR_S | 0xb | AR_G | (code64 ? AR_L : AR_DB) | cpl << 5;
    c->seg[SEG_CS] = (struct segment){.limit = 0xffffffff, .ar = ar, .sel = sel};
    c->cpl = (u8)cpl;
}
static void flat_stack(accel_cpu *c, u16 sel, unsigned cpl) {
    c->seg[SEG_SS] = (struct segment){.limit = 0xffffffff, .ar = AR_P | AR_S | 3 | AR_G | AR_DB | cpl << 5, .sel = sel};
}

/* As on Intel processors, only in 64-bit mode. */
SLOW_HANDLER_END(h_syscall) {
    (void)o;
    if (!is_code64(c) || !(c->efer & EFER_SCE)) return ud(c);
    u16 sel = (u16)(c->star >> 32);
    c->r[R_RCX] = *next;
    c->r[R_R11] = get_rflags(c) & ~(u32)F_RF;
    c->tf_after = 1;
    merge_rflags(c, 0, (u32)c->fmask | F_RF);
    flat_code(c, sel & 0xfffc, 0, true);
    flat_stack(c, (u16)(sel + 8), 0);
    update_mode(c);
    *next = c->lstar;
    return true;
}

SLOW_HANDLER_END(h_sysret) {
    if (!is_code64(c) || !(c->efer & EFER_SCE)) return ud(c);
    bool to64 = OP_OSZ(o) == SZ64;
    u16 sel = (u16)(c->star >> 48);
    if (c->cpl || (to64 && !canonical(c, c->r[R_RCX]))) return gp(c, 0);
    set_rflags(c, (u32)c->r[R_R11] & (F_ARITH | F_SYS) & ~(u32)(F_RF | F_VM));
    c->tf_after = 1;
    flat_code(c, (u16)((to64 ? sel + 16 : sel) | 3), 3, to64);
    flat_stack(c, (u16)((sel + 8) | 3), 3);
    update_mode(c);
    *next = to64 ? c->r[R_RCX] : (u32)c->r[R_RCX];
    return true;
}

SLOW_HANDLER_END(h_sysenter) {
    (void)o;
    u16 sel = (u16)c->sysenter_cs & 0xfffc;
    if (!(c->cr0 & CR0_PE) || !sel) return gp(c, 0);
    bool wide = is_long(c);
    c->flags &= ~(u32)(F_VM | F_IF | F_RF);
    flat_code(c, sel, 0, wide);
    flat_stack(c, (u16)(sel + 8), 0);
    c->r[R_RSP] = wide ? c->sysenter_esp : (u32)c->sysenter_esp;
    update_mode(c);
    *next = wide ? c->sysenter_eip : (u32)c->sysenter_eip;
    return true;
}

SLOW_HANDLER_END(h_sysexit) {
    u16 sel = (u16)c->sysenter_cs & 0xfffc;
    bool to64 = OP_OSZ(o) == SZ64;
    u64 rsp = c->r[R_RCX], rip = c->r[R_RDX];
    if (!(c->cr0 & CR0_PE) || !sel || c->cpl) return gp(c, 0);
    if (to64 && (!canonical(c, rsp) || !canonical(c, rip))) return gp(c, 0);
    unsigned step = to64 ? 32 : 16;
    flat_code(c, (u16)((sel + step) | 3), 3, to64);
    flat_stack(c, (u16)((sel + step + 8) | 3), 3);
    c->r[R_RSP] = to64 ? rsp : (u32)rsp;
    update_mode(c);
    *next = to64 ? rip : (u32)rip;
    return true;
}

/* ---- segment bases, protection keys, XCR0, AC ------------------------------------------------------------------------------------- */

HANDLER(h_swapgs) {
    if (c->cpl) return raise_err(c, o, EX_GP, 0);
    u64 base = c->seg[SEG_GS].base;
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->segbase[SEG_GS] = c->kernel_gs_base;
    c->kernel_gs_base = base;
    NEXT(c, o);
}

static bool read_base(accel_cpu *c, const struct op *o, int seg) {
    if (!(c->cr4 & CR4_FSGSBASE)) return ud(c);
    put_native(c, o, o->rm, c->seg[seg].base);
    return true;
}
static bool write_base(accel_cpu *c, const struct op *o, int seg) {
    u64 v = get_native(c, o, o->rm);
    if (!(c->cr4 & CR4_FSGSBASE)) return ud(c);
    if (!canonical(c, v)) return gp(c, 0);
    c->seg[seg].base = c->segbase[seg] = v;
    return true;
}
SLOW_HANDLER(h_rdfsbase) { return read_base(c, o, SEG_FS); }
SLOW_HANDLER(h_rdgsbase) { return read_base(c, o, SEG_GS); }
SLOW_HANDLER(h_wrfsbase) { return write_base(c, o, SEG_FS); }
SLOW_HANDLER(h_wrgsbase) { return write_base(c, o, SEG_GS); }

SLOW_HANDLER(h_rdpkru) {
    (void)o;
    if (!(c->cr4 & CR4_PKE)) return ud(c);
    if (get_32(c, R_RCX)) return gp(c, 0);
    put_edx_eax(c, c->pkru);
    return true;
}

SLOW_HANDLER(h_wrpkru) {
    (void)o;
    if (!(c->cr4 & CR4_PKE)) return ud(c);
    if (get_32(c, R_RCX) || get_32(c, R_RDX)) return gp(c, 0);
    c->pkru = get_32(c, R_RAX);
    ftlb_flush(c);
    return true;
}

SLOW_HANDLER(h_xgetbv) {
    (void)o;
    if (!(c->cr4 & CR4_OSXSAVE)) return ud(c);
    if (get_32(c, R_RCX)) return gp(c, 0);
    put_edx_eax(c, c->xcr0);
    return true;
}

bool write_xcr0(accel_cpu *c, u64 v) {
    if (!(v & 1) || (v & ~xcr0_supported(c)) || ((v & 4) && !(v & 2))) return false;
    c->xcr0 = v;
    update_mode(c);
    return true;
}

SLOW_HANDLER_END(h_xsetbv) {
    (void)o, (void)next;
    if (!(c->cr4 & CR4_OSXSAVE)) return ud(c);
    if (c->cpl || get_32(c, R_RCX) || !write_xcr0(c, edx_eax(c))) return gp(c, 0);
    return true;
}

static bool set_ac(accel_cpu *c, u32 value) {
    if (c->cpl) return ud(c);
    c->flags = (c->flags & ~(u32)F_AC) | value;
    update_mode(c);
    return true;
}
SLOW_HANDLER_END(h_clac) { (void)o, (void)next; return set_ac(c, 0); }
SLOW_HANDLER_END(h_stac) { (void)o, (void)next; return set_ac(c, F_AC); }

/* ---- ports ---------------------------------------------------------------------------------------------------------------------------- */

static unsigned port_size(const struct op *o) { return OP_OSZ(o) == SZ16 ? 2 : 4; }

static bool in(accel_cpu *c, const struct op *o, u16 port, unsigned size) {
    u64 v;
    if (!port_allowed(c, port, size) || !port_in(c, o, port, size, &v)) return false;
    if (size == 1) put_8(c, 0, (u8)v);
    else if (size == 2) put_16(c, R_RAX, (u16)v);
    else put_32(c, R_RAX, (u32)v);
    return true;
}
static bool out(accel_cpu *c, const struct op *o, u16 port, unsigned size) {
    if (!port_allowed(c, port, size)) return false;
    port_out(c, o, port, size, size == 1 ? get_8(c, 0) : size == 2 ? get_16(c, R_RAX) : get_32(c, R_RAX));
    return true;
}
SLOW_HANDLER(h_in_I_b) { return in(c, o, (u8)o->imm, 1); }
SLOW_HANDLER(h_in_I) { return in(c, o, (u8)o->imm, port_size(o)); }
SLOW_HANDLER(h_in_D_b) { return in(c, o, get_16(c, R_RDX), 1); }
SLOW_HANDLER(h_in_D) { return in(c, o, get_16(c, R_RDX), port_size(o)); }
SLOW_HANDLER(h_out_I_b) { return out(c, o, (u8)o->imm, 1); }
SLOW_HANDLER(h_out_I) { return out(c, o, (u8)o->imm, port_size(o)); }
SLOW_HANDLER(h_out_D_b) { return out(c, o, get_16(c, R_RDX), 1); }
SLOW_HANDLER(h_out_D) { return out(c, o, get_16(c, R_RDX), port_size(o)); }

/* ---- software interrupts ----------------------------------------------------------------------------------------------------------------- */

/* The event is asked for like a fault; the run loop delivers it with the return address behind the instruction. */
static bool soft_event(accel_cpu *c, const struct op *o, u8 type, u8 vector) {
    set_fault(c, vector, false, 0);
    c->fault.soft = type;
    c->fault.length = o->len;
    return false;
}

/* A breakpoint of the guest's own that the owner wants to see first; RIP stays at the instruction. */
static bool report_breakpoint(accel_cpu *c, const struct op *o, u8 type) {
    c->fault.vector = FAULT_EXIT;
    c->exit.kind = ACCEL_EXIT_BPT;
    c->exit.source = ACCEL_BPT_GUEST;
    c->exit.bpt_length = o->len;
    c->exit.number = type;
    c->exit.id = 0;
    return false;
}

SLOW_HANDLER_END(h_int3) {
    (void)next;
    if (c->ctl.bpt_exit) return report_breakpoint(c, o, ACCEL_EV_SW_EXCEPTION);
    return soft_event(c, o, ACCEL_EV_SW_EXCEPTION, EX_BP);
}
SLOW_HANDLER_END(h_int) {
    (void)next;
    u8 vector = (u8)o->imm;
    if (vector == EX_BP && c->ctl.bpt_exit) return report_breakpoint(c, o, ACCEL_EV_SWINTR);
    return soft_event(c, o, ACCEL_EV_SWINTR, vector);
}
SLOW_HANDLER_END(h_into) {
    (void)next;
    return !of(c) || soft_event(c, o, ACCEL_EV_SW_EXCEPTION, EX_OF);
}
SLOW_HANDLER_END(h_icebp) {
    (void)next;
    return soft_event(c, o, ACCEL_EV_PRIV_SW_EXCEPTION, EX_DB);
}
