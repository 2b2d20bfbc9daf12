/*
 * cpu.h - the state of one CPU and of the machine that holds it, and the functions that the C files share.
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

#include <stdatomic.h>
#include <stdalign.h>
#include <string.h>
#include "accel.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
#define INLINE static inline __attribute__((always_inline))

typedef unsigned __int128 u128;

#define PAGE_MASK (~0xfffull)
#define BIT(n) (1ull << (n))

struct op;
typedef void op_fn(accel_cpu *c, const struct op *o);

/* One decoded instruction: 32 bytes; what a handler reads, it reads from here and from the CPU. */
struct op {
    op_fn *fn;
    uint8_t reg;   /* ModRM.reg (or opcode) register; for a byte operand its byte offset in c->r */
    uint8_t rm;    /* ModRM.rm register, likewise; for memory forms unused */
    uint8_t base, index; /* register numbers in c->r; R_ZERO where absent */
    uint8_t scale; /* 0-3 */
    uint8_t seg;   /* enum seg of the memory operand (DS where none applies) */
    uint8_t len;   /* bytes of the instruction */
    uint8_t idx;   /* ticks of this block before this instruction */
    int32_t disp;
    uint16_t off;  /* offset of the instruction from the start of its block */
    uint8_t vvvv;  /* VEX.vvvv register */
    uint8_t mode;  /* OSZ, ASZ, REP, LOCK, see below */
    uint64_t imm;  /* sign-extended immediate; branch: target offset from the start of the block */
};
_Static_assert(sizeof(struct op) == 32, "op is 32 bytes");

/* op.mode */
enum { SZ8 = 0, SZ16 = 1, SZ32 = 2, SZ64 = 3 };
#define OP_OSZ(o) ((o)->mode & 3)          /* operand size as a shift: 1 << OP_OSZ bytes */
#define OP_ASZ(o) (((o)->mode >> 2) & 3)   /* address size: SZ16, SZ32, SZ64 */
#define OP_REP(o) (((o)->mode >> 4) & 3)   /* 0, REP_F3, REP_F2 */
#define OP_MEM(o) ((o)->mode & 0x40)       /* ModRM names memory */
#define OP_L(o) ((o)->mode & 0x80)         /* VEX.L (256 bits); LOCK in legacy rows */
enum { REP_NONE = 0, REP_F3 = 1, REP_F2 = 2 };

enum { R_RAX, R_RCX, R_RDX, R_RBX, R_RSP, R_RBP, R_RSI, R_RDI, R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15,
       R_ZERO, R_RIP /* rip of the current block's start */, R_4096, R_COUNT };

enum seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT, SEG_NONE = 15 };

/* Access rights as in bits 8-23 of a descriptor's high dword, shifted right by 8 (VMX layout). */
enum { AR_TYPE = 0xf, AR_S = 0x10, AR_DPL = 0x60, AR_P = 0x80, AR_AVL = 0x1000, AR_L = 0x2000, AR_DB = 0x4000,
       AR_G = 0x8000, AR_UNUSABLE = 0x10000 };
#define AR_DPL_OF(ar) (((ar) >> 5) & 3)

struct segment {
    uint64_t base;
    uint32_t limit; /* in bytes, expanded */
    uint32_t ar;
    uint16_t sel;
};

struct table { uint64_t base; uint16_t limit; };

enum { F_CF = 0x1, F_PF = 0x4, F_AF = 0x10, F_ZF = 0x40, F_SF = 0x80, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400,
       F_OF = 0x800, F_IOPL = 0x3000, F_NT = 0x4000, F_RF = 0x10000, F_VM = 0x20000, F_AC = 0x40000,
       F_VIF = 0x80000, F_VIP = 0x100000, F_ID = 0x200000,
       F_ARITH = F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF,
       F_SYS = F_TF | F_IF | F_DF | F_IOPL | F_NT | F_RF | F_VM | F_AC | F_VIF | F_VIP | F_ID };

enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 0x10, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000,
       CR0_NW = 0x20000000, CR0_CD = 0x40000000 };
#define CR0_PG 0x80000000u
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_MCE = 0x40, CR4_PGE = 0x80,
       CR4_PCE = 0x100, CR4_OSFXSR = 0x200, CR4_OSXMMEXCPT = 0x400, CR4_UMIP = 0x800, CR4_LA57 = 0x1000,
       CR4_FSGSBASE = 0x10000, CR4_PCIDE = 0x20000, CR4_OSXSAVE = 0x40000, CR4_SMEP = 0x100000, CR4_SMAP = 0x200000,
       CR4_PKE = 0x400000 };
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };

enum { EX_DE, EX_DB, EX_NMI, EX_BP, EX_OF, EX_BR, EX_UD, EX_NM, EX_DF, EX_CSO, EX_TS, EX_NP, EX_SS, EX_GP, EX_PF,
       EX_MF = 16, EX_AC, EX_MC, EX_XM };

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

/* ---- decoded blocks ------------------------------------------------------------------------------ */

enum { BLOCK_MAX = 64, BLOCK_OPS = BLOCK_MAX + 2 /* with those of a breakpoint and of the end */ };

struct block {
    uint64_t pa;        /* physical address of its first byte */
    struct op *ops;
    uint32_t key;       /* mode key */
    int32_t cost;       /* what entering charges: n, or COST_DEAD once the block is killed */
    uint16_t n;         /* ticks when run to its end */
    uint16_t bytes;
    uint16_t op_count;  /* instruction ops (and the check op of a breakpoint block) */
    uint32_t hash_next; /* index + 1 */
    uint32_t page_next; /* index + 1, list of the first page */
    uint32_t page2_next;/* list of the second page (an instruction that crosses) */
    uint64_t pa2;       /* physical address of the second page, or ~0 */
    bool dead;
    bool always;        /* ends with a branch that is taken whenever it retires */
    uint16_t last;      /* offset of its last instruction */
    uint32_t bp_next;
};

enum { COST_DEAD = 0x7fffffff };
extern const struct block block_none; /* target of a link that is not resolved: always over budget */

/* The op slot after a branch op: where it may go directly. */
struct link {
    struct block *to[2]; /* 0: taken / only successor; 1: fall-through */
    uint64_t gen;        /* c->fetch_gen for which cross-page links hold (0: none) */
    uint64_t gen1;
};
_Static_assert(sizeof(struct link) == 32, "link fits an op slot");

/* The op slots after an indirect branch: where it went lately. A comparison with each of them leaves the way to the next
 * block to the host's branch prediction, where a look-up in c->jump would put it behind the load of the target. */
enum { TARGETS = 7 };
struct targets {
    uint64_t gen;        /* c->fetch_gen for which they hold (0: none) */
    uint64_t next;       /* entry to be replaced next */
    struct { uint64_t rip; struct block *b; } to[TARGETS];
};
enum { TARGET_SLOTS = sizeof(struct targets) / sizeof(struct op) };
_Static_assert(sizeof(struct targets) % sizeof(struct op) == 0, "targets fill op slots");

/* Tables by which a new block's handlers are replaced; a machine has both hashed by the handlers looked for. */
struct lean { op_fn *full, *lean; int use; };                /* use: enum flag_use of body.h */
enum { FUSE_MAX = 4 };
struct fusion { op_fn *ops[FUSE_MAX], *fused; };             /* ops: NULL behind the last */
enum { LEAN_HASH = 2048, FUSE_HASH = 4096 };

/* Mode key: everything that decoding or the choice of handlers depends on. */
enum { K_CODE16 = 0, K_CODE32 = 1, K_CODE64 = 2, K_CODE = 3, K_SS32 = 4, K_CPL3 = 8, K_PE = 0x10, K_VM = 0x20, K_FLAT = 0x40,
       K_EM = 0x100 /* x87: CR0.EM */, K_SSE = 0x200 /* SSE usable */, K_AVX = 0x400,
       K_SINGLE = 0x1000 /* one instruction per block */, K_BP = 0x2000 /* page with debugger breakpoints */,
       K_AC = 0x4000 /* alignment checks on */, K_TS = 0x8000, K_MP = 0x10000, K_CPL0 = 0x20000, K_TRACE = 0x40000 /* records branches */,
       K_RANGE = 0x80000 /* a range step: does not chain */,
       K_MODEL_SHIFT = 20 };

enum { MAX_HITS = ACCEL_MAX_REPORTED };

/* ---- machine -------------------------------------------------------------------------------------- */

enum { PG_CODE = 1, PG_WATCH = 2, PG_CLEAN = 4, PG_MONITOR = 8 /* may hold a line that some CPU monitors */ };

struct page {
    uint64_t lines;  /* 64-byte lines that hold decoded code */
    uint32_t blocks; /* list head, index + 1 */
    uint32_t epoch;  /* of the last write; 0 = never */
    uint8_t flags;
};

struct slot {
    uint64_t gpa, size;
    uint8_t *host;      /* first byte */
    void *map; size_t map_size; /* with guards */
    struct page *pages;
    uint32_t flags;
};

/* What narrows a point down (accel_limits), and its count. */
struct limits { uint32_t flags, cpl, cpu, program_count; uint64_t cr3, ignore, hits; accel_program *programs; };
/* next, next_page: index + 1 of the next one with the same offset in its page, with the same hash of its page */
struct breakpoint { uint64_t id, address; struct limits limits; uint32_t next, next_page; uint8_t space; };
struct watch { uint64_t id, address, size; struct limits limits; uint8_t space, kind; };

/* Page numbers by their hash: a page that is not in it has no point. */
enum { PAGE_SET_WORDS = 64 };
struct page_set { uint64_t words[PAGE_SET_WORDS]; };

struct accel_machine {
    struct slot slots[ACCEL_MAX_SLOTS];
    uint32_t slot_count;
    accel_cpu *cpus[ACCEL_MAX_CPUS];
    uint32_t cpu_count;
    uint64_t a20_mask;
    uint32_t epoch;
    uint64_t gen_counter; /* source of unique fetch generations */
    bool woken;           /* a store from outside has ended an MWAIT, and no CPU has told yet */
    /* block cache */
    struct block *blocks; uint32_t block_count, block_max;
    struct op *ops; uint16_t *op_rows; uint32_t op_count, op_max;
    uint32_t *hash; uint32_t hash_mask;
    uint32_t bp_blocks; /* list of K_BP blocks */
    const struct lean *lean[LEAN_HASH];
    const struct fusion *fusions[FUSE_HASH];
    /* debug sets */
    struct breakpoint *breaks; uint32_t break_count, break_cap;
    uint64_t break_offsets[64]; uint32_t break_at[4096]; /* by offset in the page: set, and lists (index + 1) */
    uint32_t break_page_at[4096]; /* by hash of the page: lists */
    struct watch *watches; uint32_t watch_count, watch_cap;
    struct page_set watch_pages;
    accel_hit dma_hits[MAX_HITS]; uint32_t dma_count; /* reported by the CPU that runs next */
};

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

/* ---- run.c: leaving a handler ------------------------------------------------------------------------- */

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
/* The current instruction did what the owner may want to see (`which`: enum accel_catch). */
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

/* ---- phys.c ---------------------------------------------------------------------------------------------- */

struct slot *phys_slot(accel_machine *m, uint64_t pa);
struct page *phys_page(accel_machine *m, uint64_t pa, uint8_t **host); /* host: start of the page; NULL: no slot */
void phys_store(accel_cpu *c, uint64_t pa, const void *buf, unsigned size, uint64_t lin); /* in one page, in a slot: all flags honoured */
uint64_t walk_read(accel_cpu *c, uint64_t pa, unsigned size);   /* page-walk access, all ones outside slots */
void walk_write(accel_cpu *c, uint64_t pa, uint64_t v, unsigned size);
bool monitor_arm(accel_cpu *c);                                /* stores to c->monitor_addr are noticed; false: it is no memory */
void page_revoke(accel_machine *m, uint64_t pa);                /* no fast writes to this page in any TLB */

/* ---- block.c, decode.c ------------------------------------------------------------------------------------- */

struct block *block_find(accel_cpu *c, uint64_t pa, uint32_t key);
struct block *block_make(accel_cpu *c, uint64_t lin, uint64_t pa, uint32_t key); /* NULL: c->fault is set (fetch fault) */
void block_kill_range(accel_machine *m, uint64_t pa, unsigned size);
void block_flush_all(accel_machine *m);
void block_kill_bp(accel_machine *m);

struct decoded {
    struct op op;
    uint16_t row;
    uint8_t length;
    bool ends;     /* no further instruction may follow in the block */
    bool relative; /* op.imm is a displacement from the next instruction */
    bool always;   /* a branch that is taken whenever it retires */
};
op_fn *decode_slow_form(const struct decoded *d);
/* Decodes from bytes[0..avail). Returns the length, 0 for #UD, -1 when more bytes are needed, -2 over 15 bytes.
 * Handlers are chosen for `key`. */
int decode(const uint8_t *bytes, unsigned avail, uint32_t key, int model, struct decoded *out);

/* ---- op_lean.c ---- Swaps in handlers without flags where the flags are dead. */
void lean_pass(const struct lean *const *table, struct op *ops, unsigned count);
void lean_table(const struct lean **table); /* fills LEAN_HASH empty places */

/* ---- op_fuse.c ---- Swaps in handlers that do several ops, as few as possible. */
void fuse_pass(const struct fusion *const *table, struct op *ops, unsigned count);
void fuse_table(const struct fusion **table), fuse_table_traced(const struct fusion **table); /* fill FUSE_HASH empty places */

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

/* ---- points.c: the debugger's breakpoints and watchpoints ------------------------------------------------------- */

bool points_break_page(const accel_cpu *c, uint64_t lin, uint64_t pa); /* any on this page, DR0-3 included */
bool points_cut_at(const accel_cpu *c, uint64_t lin, uint64_t pa);     /* a block of this page must start here */
/* The check op of a block that is entered at tick `now`: whether to leave it. c->break_dr, c->break_ids. */
bool points_stop_here(accel_cpu *c, uint64_t now);
bool points_watch_page(const accel_cpu *c, uint64_t lin, uint64_t pa);
void points_access(accel_cpu *c, uint64_t lin, uint64_t pa, unsigned size, bool write, const uint8_t *was, const uint8_t *is);
void points_dma(accel_machine *m, uint64_t pa, unsigned size, uint16_t device, const uint8_t *was, const uint8_t *is);
void points_take_dma(accel_cpu *c);                                    /* takes over what devices hit */
void points_forget_unretired(accel_cpu *c);                            /* the instruction came to nothing: its accesses too */
bool points_watch_counts(accel_cpu *c);                                /* whether a hit of c->hits is left to report */
void points_free(accel_machine *m);

#endif
