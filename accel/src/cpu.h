/*
 * cpu.h - the state of one CPU, and the functions that the C files share.
 *
 * Flags. The six arithmetic flags are kept as the host's own LAHF byte and SETO byte (`flags_ah`, `flags_of`):
 * an ALU handler executes the host instruction and stores both, so results are exact by construction and
 * cost one 16-bit store; a later JIT keeps them in host EFLAGS and spills to the same two bytes.
 *
 * TLB. The architectural half (itlb, dtlb) is state: filled by walks, left only by guest-defined
 * flushes and by eviction in its fixed geometry, saved with the CPU. The fast half (ftlb) holds host
 * pointers for accesses that need no check at all; any entry may be dropped at any time.
 */
#ifndef CPU_H
#define CPU_H

#include "machine.h"

/* ---- TLB ---------------------------------------------------------------------------------------- */

enum { ITLB_SIZE = 512, DTLB_SIZE = 1024, FTLB_SIZE = 512 };

/* Architectural entry, always of 4 KiB grain; a larger page is held in pieces. */
struct tlb_entry {
    uint64_t vpn;   /* linear >> 12 */
    uint64_t pfn;   /* physical >> 12 */
    uint32_t gen;   /* valid while equal to c->tlb_gen[pcid], or to c->tlb_ggen if TLB_GLOBAL */
    uint16_t flags; /* TLB_* */
    uint16_t pcid;
};
enum { TLB_VALID = 1, TLB_W = 2, TLB_U = 4, TLB_NX = 8, TLB_D = 0x10, TLB_GLOBAL = 0x20, TLB_LARGE = 0x40, TLB_HUGE = 0x80,
       TLB_PKEY_SHIFT = 12 };

/* Fast entry: rtag/wtag hold the linear page where a plain host access is right, else an odd number. */
struct ftlb_entry { uint64_t rtag, wtag, addend, pad; };
#define FTLB_NONE 1ull
/* Pages a power of two apart (a copy between two buffers) get different entries. Neighbouring pages, and the last and the
 * first, must: an access that crosses is recognised by the tag of its last byte under the index of its first. Hence a sum. */
INLINE unsigned ftlb_index(uint64_t lin) { return (unsigned)((lin >> 12) + (lin >> 21)) & (FTLB_SIZE - 1); }

/* Privilege views of the fast half. */
enum { FT_SUPER, FT_USER, FT_SUPER_SMAP /* supervisor that may not touch user pages now */, FT_NONE /* never filled: alignment checks on */, FT_VIEWS };

/* ---- CPU -------------------------------------------------------------------------------------------- */

/* Why handlers returned to the run loop. */
enum leave {
    LEAVE_NONE = 0,
    LEAVE_CHAIN,  /* block done; c->rip is next; c->link_slot may be filled; nothing but rip has changed */
    LEAVE_BUDGET, /* the next block does not fit the budget; c->rip is its start; nothing charged */
    LEAVE_TO,     /* block done; c->rip is next; anything may have changed */
    LEAVE_NEXT,   /* instruction `cur` retired, block not finished; c->rip is next */
    LEAVE_BREAK,  /* a block with a breakpoint at its start: compare */
    LEAVE_FAULT,  /* `cur` raised c->fault; nothing of it happened */
    LEAVE_FETCH,  /* fetching the next instruction raised c->fault */
    LEAVE_EXIT,   /* `cur` cannot go on without the owner; c->exit is filled; nothing of it happened */
    LEAVE_REP,    /* `cur` did some iterations and must go on later; rip stays */
    LEAVE_STALE,  /* the block was killed; c->rip is the instruction to go on with */
};

/* c->attention: work to do after the current instruction retired. */
enum { ATT_IO = 1 /* queued device writes */, ATT_WATCH = 2, ATT_SMC = 4, ATT_DB = 8, ATT_EXIT = 16 /* c->exit is filled, reported next */,
       ATT_CATCH = 32 /* leave the block: c->caught says why */, ATT_WAKE = 64 /* leave with WAKE */ };

/* What an instruction raised. vector FAULT_EXIT: not a fault; the owner must act first (c->exit is filled). soft: an
 * ACCEL_EV_* type when the instruction asked for the event (INT n, INT3, INTO, ICEBP); length: its bytes. */
struct fault { uint16_t vector; uint8_t has_error, soft, length; uint32_t error; uint64_t cr2; };
enum { FAULT_EXIT = 0x100 };

enum { MAX_ANSWERS = 16, MAX_IO_WRITES = 16 };

struct answer { uint64_t value, addr; uint8_t kind, size; };      /* kind: accel_exit_kind */
struct io_write { uint64_t addr, value; uint8_t kind, size; };

/* The branch ring (trace.c), as 64-bit words behind one another. `at` counts up to 0 at its end, two by two. */
enum { TRACE_DEFAULT = 32 };
struct trace {
    int64_t at;
    uint64_t *end, mask;
    uint64_t wrapped;   /* branches recorded before the ring last began anew */
    uint64_t base;      /* of the code under way: the CS base, 0 in 64-bit code */
    accel_branch *ring; /* `from` is what trace_branch() is given */
    accel_branch recent[TRACE_DEFAULT];
};

struct fpu {
    uint8_t st[8][16];  /* physical registers R0-R7, 10 bytes used */
    uint16_t cw, sw;    /* sw with TOP inside */
    uint8_t tag;        /* abridged: bit i = physical register i in use */
    uint8_t top;        /* TOP once more, within accel_run(): to find a register need not wait for the last result's C1 */
    uint16_t fop, fcs, fds;
    uint64_t fip, fdp;
};

struct accel_cpu {
    /* hot: every handler; the first 128 bytes have short addresses */
    struct ftlb_entry *ft; /* current privilege view of the fast TLB */
    int64_t budget;        /* ticks left in this slice */
    struct block *block;
    uint64_t fetch_gen;
    uint32_t run_key;      /* key with K_SINGLE as the run loop wants it */
    uint32_t key;          /* current mode key, without K_SINGLE and K_BP */
    union { uint16_t flags_ax; struct { uint8_t flags_of, flags_ah; }; }; /* SETO byte, LAHF byte */
    uint8_t attention;
    uint8_t fp_live;       /* the host's MXCSR is the guest's, sticky flags included (mxcsr.h); only within accel_run() */
    uint8_t leave;
    uint32_t flags;        /* F_SYS bits of RFLAGS */
    uint64_t r[R_COUNT + 1];
    uint64_t segbase[16];  /* base per segment number for address forms; 0 for flat ones in 64-bit mode */
    const struct op *cur;  /* the op that left; in loop-dispatch builds: the op to run next */
    struct link *link_slot; uint8_t link_which;
    uint64_t rip;          /* valid outside handlers */

    /* scratch of the current instruction */
    uint64_t ldval;
    struct fault fault;

    /* architectural state */
    alignas(32) uint8_t v[16][32];   /* YMM; XMM in the low half */
    uint32_t mxcsr;        /* while fp_live the flags are in the host's register: mxcsr_get() */
    uint32_t host_mxcsr;   /* of the C ABI, while fp_live */
    struct fpu fpu;
    struct segment seg[SEG_COUNT];
    struct table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t pdpte[4];
    uint64_t dr[8];
    uint8_t cpl;
    uint8_t shadow;        /* interrupt shadow: 0, SHADOW_STI, SHADOW_SS */
    uint8_t nmi_blocked;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, pat, tsc_aux, apic_base,
        misc_enable, debugctl, mtrr_def, mtrr_fix[11], mtrr_base[8], mtrr_mask[8], spec_ctrl, tsc_adjust;
    uint64_t tsc_offset;
    uint32_t pkru;
    uint64_t rng;          /* seeded generator of RDRAND/RDSEED */
    uint64_t monitor_addr; /* physical; of control.monitor_state */
    uint64_t pending_dbg;  /* DR6 bits of a #DB trap to deliver at the next boundary */
    uint64_t ticks, extra; /* extra: ticks that are not retired instructions */

    /* identity and model */
    accel_machine *m;
    uint32_t index, count;
    int model;
    uint64_t tsc_hz;

    /* run state */
    accel_control ctl;
    accel_exit exit;
    atomic_uint stop;
    uint64_t until;        /* of the present accel_run() */
    int64_t slice;         /* budget at the start of the slice; ticks so far = ticks + slice - budget */
    struct answer answers[MAX_ANSWERS]; uint8_t answer_count, answer_used, answer_wanted;
    struct io_write io[MAX_IO_WRITES]; uint8_t io_count;
    accel_hit hits[MAX_HITS]; uint8_t hit_count;
    accel_fault chain[ACCEL_MAX_CHAIN]; uint8_t chain_count;
    struct { uint64_t old_value, new_value; uint32_t number; uint8_t which, write; } caught; /* event to report; which 0: none */
    uint8_t origin;        /* enum accel_origin of writes under way */
    uint8_t mtrap_due;     /* a tick has passed under the monitor trap and is not reported yet */
    uint8_t tf_after;      /* the instruction traps by TF as it leaves it (SYSCALL, SYSRET) */
    uint8_t skip_now;      /* pass over debugger breakpoints at this boundary */
    uint8_t rf_now;        /* RF was set at this boundary */
    uint32_t break_dr;     /* DR6 bits of the instruction breakpoints met by the check op that left, or 0 and then ... */
    uint64_t break_ids[MAX_HITS]; uint32_t break_count; /* ... the debugger's that are hit */
    int64_t slice_fuel;    /* what conditions may still spend before the stop word is looked at */
    uint8_t pass_now;      /* enum pass, of this entry */
    accel_stats stats;
    struct trace trace;

    /* TLB */
    struct tlb_entry itlb[ITLB_SIZE], dtlb[DTLB_SIZE];
    uint32_t tlb_ggen;
    uint32_t tlb_gen[4096];
    uint64_t large_filter[8]; /* bit hash(page) is set while pieces of such a large page may be cached */
    struct ftlb_entry ftlb[FT_VIEWS][FTLB_SIZE];
    uint16_t ftlb_used[FT_VIEWS][FTLB_SIZE]; uint16_t ftlb_used_count[FT_VIEWS];
    struct { uint64_t rip; struct block *b; uint64_t gen; uint32_t key; uint32_t pad; } jump[4096];
};
enum { SHADOW_STI = 1, SHADOW_SS = 2 };

/* ---- leave.c ----------------------------------------------------------------------------------------- */

/* Raise exception `vec` at instruction o: nothing of it has happened. Handlers: `return raise(...)`. */
void raise_ex(accel_cpu *c, const struct op *o, int vec);
void raise_err(accel_cpu *c, const struct op *o, int vec, uint32_t error);
void leave_fault(accel_cpu *c, const struct op *o);  /* c->fault is set already (by a memory function) */
void leave_after(accel_cpu *c, const struct op *o);  /* o retired; attention wants the run loop */
void leave_to(accel_cpu *c, const struct op *o, uint64_t rip); /* o retired and ended its block; rip is next */
void leave_rep(accel_cpu *c, const struct op *o);    /* o did at least one iteration and is not finished; rip stays. Also the answer
                                                      * to a fault after the first iteration: re-entry meets it again, first. */
void leave_exit(accel_cpu *c, const struct op *o, int kind);   /* o did not retire; c->exit payload filled by caller */
void leave_exit_after(accel_cpu *c, const struct op *o, uint64_t rip, int kind); /* o retired; rip is next; then the exit */
void leave_chain(accel_cpu *c, struct link *l, int which);     /* slow way to the next block at c->r[R_RIP] */
void leave_over(accel_cpu *c, const struct block *b, struct link *l, int which); /* b (already charged) is dead or too long */
uint64_t ticks_now(const accel_cpu *c, const struct op *o); /* ticks before instruction o */
INLINE uint64_t op_rip(const accel_cpu *c, const struct op *o) { return c->r[R_RIP] + o->off; }
uint64_t op_next_rip(const accel_cpu *c, const struct op *o); /* wraps by code size */

/* Set c->fault; return false, so that memory functions can `return set_fault(...)`. */
bool set_fault(accel_cpu *c, int vec, bool has_error, uint32_t error);
/* boundary.c. The current instruction did what the owner may want to see (`which`: enum accel_catch). */
void note_caught(accel_cpu *c, unsigned which, uint32_t number, bool write, uint64_t old_value, uint64_t new_value);

/* ---- cpu.c ---------------------------------------------------------------------------------------------- */

enum { LAHF_BITS = F_CF | F_PF | F_AF | F_ZF | F_SF };
INLINE uint32_t get_rflags(const accel_cpu *c) {
    return (c->flags & F_SYS) | 2 | (c->flags_ah & LAHF_BITS) | (c->flags_of ? F_OF : 0);
}
/* Six arithmetic flags from RFLAGS bits. */
INLINE void set_arith(accel_cpu *c, uint32_t f) {
    c->flags_ah = (uint8_t)((f & LAHF_BITS) | 2);
    c->flags_of = !!(f & F_OF);
}
/* Everything; the caller masks what may change. */
INLINE void set_rflags(accel_cpu *c, uint32_t f) {
    set_arith(c, f);
    c->flags = f & F_SYS;
}
void update_mode(accel_cpu *c);  /* after any change of CR0/CR4/EFER/CS/SS/DS/ES/CPL/RFLAGS.VM/AC/XCR0: key, segbase, ft */
bool set_cr0(accel_cpu *c, uint64_t v); /* false: #GP(0) is due (c->fault not set) */
bool set_cr3(accel_cpu *c, uint64_t v);
bool set_cr4(accel_cpu *c, uint64_t v);
bool set_efer(accel_cpu *c, uint64_t v);
bool model_has(const accel_cpu *c, int feature);        /* FEAT_* of the generated table */
void cpuid(accel_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);
/* All fields: they are saved, and what has been delivered is no state. */
INLINE void clear_injection(accel_cpu *c) {
    accel_control *k = &c->ctl;
    k->inject_valid = k->inject_type = k->inject_vector = k->inject_has_error = 0;
    k->inject_error = k->inject_length = 0;
}
/* accel_control.inject_valid. What the core leaves there waits behind the deadline, as whatever takes a tick of its own. */
enum { INJECTED_BY_OWNER = 1, INJECTED_BY_CORE = 2 };
INLINE void clear_inflight(accel_cpu *c) {
    accel_control *k = &c->ctl;
    k->inflight_valid = k->inflight_type = k->inflight_vector = k->inflight_has_error = 0;
    k->inflight_error = k->inflight_length = 0;
}
INLINE bool is_long(const accel_cpu *c) { return c->efer & EFER_LMA; }
INLINE bool is_code64(const accel_cpu *c) { return (c->key & K_CODE) == K_CODE64; }
INLINE bool is_real_or_vm(const accel_cpu *c) { return !(c->cr0 & CR0_PE) || (c->flags & F_VM); }
enum msr_result { MSR_OK, MSR_GP, MSR_EXIT };
enum msr_result msr_read(accel_cpu *c, uint32_t msr, uint64_t *v, const struct op *o);
enum msr_result msr_write(accel_cpu *c, uint32_t msr, uint64_t v, const struct op *o);

/* ---- regs.c ---- The value of a register of up to 64 bits; false: there is none of that number. */
bool reg_value(accel_cpu *c, uint64_t number, uint64_t *value);

/* ---- mmu.c ---------------------------------------------------------------------------------------------- */

enum { ACC_R = 0, ACC_W = 1, ACC_X = 2 };
/* Translates with all architectural effects, through the TLB. On a fault sets c->fault and returns false.
 * user: the access has user privilege. */
bool mmu_translate(accel_cpu *c, uint64_t lin, int acc, bool user, uint64_t *pa);
/* The same for an implicit supervisor access (descriptor tables, TSS): EFLAGS.AC does not lift SMAP. */
bool mmu_fetch(accel_cpu *c, uint64_t lin, uint64_t *pa); /* the same for a fetch at the current privilege */
/* The view of the fast TLB that implicit supervisor accesses may use: under SMAP the one without user pages. */
INLINE int system_view(const accel_cpu *c) { return c->cr4 & CR4_SMAP ? FT_SUPER_SMAP : FT_SUPER; }
bool mmu_translate_system(accel_cpu *c, uint64_t lin, int acc, uint64_t *pa);
void tlb_flush(accel_cpu *c, bool global);        /* current address space, or everything */
void tlb_flush_pcid(accel_cpu *c, uint32_t pcid);
void tlb_invlpg(accel_cpu *c, uint64_t lin);
void tlb_note_large(accel_cpu *c, uint64_t vpn, bool huge); /* a piece of a large page is in the TLB now */
void ftlb_flush(accel_cpu *c);                    /* fast half only */
void fetch_flush(accel_cpu *c);                   /* cross-page links and the jump cache: new fetch_gen */

/* ---- memory access of handlers (operand.c). Everything returns false with c->fault or the exit set up; the handler
 * then does `return leave_fault(c, o)`, which knows the difference. Sizes 1-64 bytes, any alignment and any page. --- */

bool mem_read(accel_cpu *c, const struct op *o, uint64_t lin, void *buf, unsigned size);
bool mem_write(accel_cpu *c, const struct op *o, uint64_t lin, const void *buf, unsigned size);
bool mem_probe_write(accel_cpu *c, const struct op *o, uint64_t lin, unsigned size); /* a write would not fault */
/* Implicit supervisor accesses (descriptors, TSS, event frames): memory slots only. */
bool sys_read(accel_cpu *c, uint64_t lin, void *buf, unsigned size);
bool sys_write(accel_cpu *c, uint64_t lin, const void *buf, unsigned size);
bool sys_probe_write(accel_cpu *c, uint64_t lin, unsigned size);
/* Segmented to linear, with all checks for [ea, ea + size) and acc; ea already cut to the address size. */
bool seg_linear(accel_cpu *c, int seg, uint64_t ea, unsigned size, int acc, uint64_t *lin);
uint64_t op_ea(accel_cpu *c, const struct op *o);                    /* effective address, cut to the address size */
bool op_linear(accel_cpu *c, const struct op *o, unsigned size, int acc, uint64_t *lin); /* op_ea + seg_linear */
/* Device ports: in returns false until the answer is there. */
bool port_in(accel_cpu *c, const struct op *o, uint16_t port, unsigned size, uint64_t *value);
void port_out(accel_cpu *c, const struct op *o, uint16_t port, unsigned size, uint64_t value);
bool port_allowed(accel_cpu *c, uint16_t port, unsigned size); /* IOPL and TSS bitmap; else c->fault = #GP(0) */
/* Stack: c->r[R_RSP] by stack size. `push_*` family works on a struct so that multi-push instructions commit once. */
uint64_t stack_mask(const accel_cpu *c); /* 0xffff, 0xffffffff or ~0 */

/* ---- trace.c ---- Recording of taken branches; the protocol is described there. */
INLINE uint64_t linear_rip(const accel_cpu *c) {
    return is_code64(c) ? c->rip : (c->rip + c->seg[SEG_CS].base) & 0xffffffff;
}
void trace_begin(accel_cpu *c);                /* a slice begins */
void trace_settle(accel_cpu *c, uint32_t key); /* it ended with LEAVE_TO; key: of its code */
void trace_event(accel_cpu *c, uint64_t from); /* an event was delivered */
void trace_checked(accel_cpu *c, const struct op *o, uint64_t target); /* the near branch o is taken */
void trace_keep(accel_cpu *c);                 /* all blocks are about to go */
void trace_reset(accel_cpu *c);                /* nothing recorded */
INLINE bool branch_stepping(const accel_cpu *c) { return (c->flags & F_TF) && (c->debugctl & 2); }
INLINE bool tracing(const accel_cpu *c) { return c->ctl.branch_trace || branch_stepping(c); }

/* ---- event.c ------------------------------------------------------------------------------------------------ */

struct event { uint8_t type, vector, has_error; uint32_t error, length; uint64_t cr2; };
enum delivery_end { DELIVERED, DELIVERY_TRIPLE_FAULT, DELIVERY_EXIT };
/* Delivers through the IDT/IVT at c->rip, with nested-fault rules; one tick. `nested`: e has been tried and raised this.
 * pass: of the exceptions that e itself raises, none leaves, or all but #DF, or each. Not DELIVERED: c->exit is filled;
 * DELIVERY_EXIT took no tick, and the event is in flight. */
enum pass { PASS_NONE, PASS_SECOND, PASS_DOUBLE };
enum delivery_end deliver_event(accel_cpu *c, struct event *e, const struct fault *nested, enum pass pass);
/* Whether the owner wants to see f first; then c->exit is filled. */
bool exception_leaves(accel_cpu *c, const struct fault *f);

/* ---- op_segment.c -------------------------------------------------------------------------------------------- */

bool load_segment(accel_cpu *c, int seg, uint16_t sel); /* MOV/POP/Lxx to ES SS DS FS GS; false: c->fault set */
void set_segment_real(accel_cpu *c, int seg, uint16_t sel);
bool read_descriptor(accel_cpu *c, uint16_t sel, uint64_t *lo, uint64_t *hi, int vec); /* hi: for 16-byte system ones */

/* ---- debug.c -------------------------------------------------------------------------------------------------- */

uint32_t debug_dr_execute(const accel_cpu *c, uint64_t lin);              /* DR6 bits of matching instruction breakpoints */
void debug_dr_changed(accel_cpu *c);                                      /* after a write to DR0-3 or DR7 */
uint32_t debug_dr_io(const accel_cpu *c, uint16_t port, unsigned size);   /* DR6 bits of matching I/O breakpoints (CR4.DE) */
bool debug_page_watched(const accel_cpu *c, uint64_t lin, uint64_t pa);
bool debug_page_has_dr(const accel_cpu *c, uint64_t lin);                 /* an instruction breakpoint of DR0-3 on this page */
bool debug_dr_at_offset(const accel_cpu *c, uint64_t lin);                /* one with the same offset in its page */
/* An access was made: `size` bytes in one page, was -> is. lin ~0: by none of the CPU's own linear addresses. */
void debug_access(accel_cpu *c, uint64_t lin, uint64_t pa, unsigned size, bool write, const uint8_t *was, const uint8_t *is);

#endif
