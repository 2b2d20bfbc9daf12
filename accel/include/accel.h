/*
 * accel.h - the public interface of the execution core: a software x86-64 CPU.
 *
 * The core decodes, executes, translates addresses, delivers events and stops. It owns no device, no
 * timer, no thread and no file, and it never calls back: whatever it cannot finish by itself leaves
 * accel_run() as a value (struct accel_exit). Everything between the two cdef marks is also the
 * declaration that Python sees; each declaration exists once.
 *
 * Threads. A machine and its CPUs belong to one thread at a time. Only accel_stop() may be called by
 * others, at any moment.
 *
 * Ticks. `ticks` = instructions retired + REP iterations beyond the first + events delivered. It is the
 * unit of `until`, of virtual time and of positions in history.
 *
 * Errors. A function that can fail returns enum accel_status and leaves its outputs and the machine as
 * they were. No input, however wrong, crashes the host: addresses and sizes are checked without overflow.
 */
#ifndef ACCEL_H
#define ACCEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* cdef begin */

typedef struct accel_machine accel_machine;
typedef struct accel_cpu accel_cpu;

enum accel_status {
    ACCEL_OK = 0,
    ACCEL_EINVAL = 1,   /* an argument is out of its range */
    ACCEL_ENOMEM = 2,   /* the host has no memory for it */
    ACCEL_EFAULT = 3,   /* an address is not mapped (in full) */
    ACCEL_EBUSY = 4,    /* the object is not in a state for it (answers outstanding, slot overlaps) */
    ACCEL_ENOENT = 5,   /* no such object, register or breakpoint */
    ACCEL_EVERSION = 6, /* a saved state has another layout */
    ACCEL_EHOST = 7,    /* the host CPU lacks instructions that this needs */
};

/* ---- machine ---------------------------------------------------------------------------------- */

enum { ACCEL_MAX_CPUS = 64, ACCEL_MAX_SLOTS = 32, ACCEL_PAGE_SIZE = 4096 };

/* Who writes physical memory; reported with watch hits. */
enum accel_origin { ACCEL_ORIGIN_CPU = 0, ACCEL_ORIGIN_WALK = 1, ACCEL_ORIGIN_EVENT = 2, ACCEL_ORIGIN_DMA = 3,
                    ACCEL_ORIGIN_DEBUGGER = 4, ACCEL_ORIGIN_LOADER = 5 };

int accel_machine_new(accel_machine **out);
void accel_machine_free(accel_machine *m);

/* Memory slots: zeroed host memory with inaccessible guard regions before and after. gpa and size are
 * multiples of 4096; slots do not overlap. A ROM slot ignores guest writes. */
enum { ACCEL_SLOT_ROM = 1 };
int accel_slot_add(accel_machine *m, uint64_t gpa, uint64_t size, uint32_t flags);
int accel_slot_remove(accel_machine *m, uint64_t gpa);
int accel_a20(accel_machine *m, int enabled);

/* Physical access by the owner of the machine between runs. Only memory slots are reached; the whole range
 * must be mapped, else EFAULT and nothing is written. Writes invalidate decoded code and count as dirty. */
int accel_phys_read(accel_machine *m, uint64_t gpa, void *data, uint64_t size);
int accel_phys_write(accel_machine *m, uint64_t gpa, const void *data, uint64_t size, int origin);
/* The same by a device, whose number (the caller's choice) watch hits name. They are reported by the CPU that runs next. */
int accel_dma_write(accel_machine *m, uint64_t gpa, const void *data, uint64_t size, uint16_t device);

/* Dirty epochs. Each written page remembers the epoch of its last write. accel_epoch_next() starts a new
 * epoch and returns its number (from 2 on; 1 is the first). accel_pages_changed() lists guest page numbers
 * of pages written in epoch `since` or later, ascending from `from`; returns how many were stored. */
uint64_t accel_epoch_next(accel_machine *m);
size_t accel_pages_changed(accel_machine *m, uint64_t since, uint64_t from, uint64_t *pages, size_t max);

/* ---- CPUs -------------------------------------------------------------------------------------- */

enum accel_model { ACCEL_MODEL_V1 = 0, ACCEL_MODEL_V2 = 1, ACCEL_MODEL_V3 = 2, ACCEL_MODEL_MAX = 3 };

/* One CPU in its power-on state. `index` is also the initial APIC id; `count` the CPUs of the machine;
 * `tsc_hz` is announced in CPUID leaf 15H (the TSC counts machine ticks one to one). EHOST: vector instructions run on
 * the host's own, and it lacks SSE4.2, or for V3 and MAX AVX, FMA or F16C. */
int accel_cpu_new(accel_machine *m, uint32_t index, uint32_t count, int model, uint64_t tsc_hz, uint64_t seed,
                  accel_cpu **out);

/* Power-on (init = 0) or INIT (init = 1, keeps x87/SSE state, TSC and most MSRs; SDM vol. 3, "Processor
 * State After Reset"). */
void accel_cpu_reset(accel_cpu *c, int init);

/* Event kinds for injection, numbered as VMX interruption types. */
enum accel_event { ACCEL_EV_HWINTR = 0, ACCEL_EV_NMI = 2, ACCEL_EV_EXCEPTION = 3, ACCEL_EV_SWINTR = 4,
                   ACCEL_EV_PRIV_SW_EXCEPTION = 5, ACCEL_EV_SW_EXCEPTION = 6 };

/* CPU activity: waiting states are states of the CPU, not of the debugger. */
enum accel_activity { ACCEL_ACTIVE = 0, ACCEL_HALTED = 1, ACCEL_SHUTDOWN = 2, ACCEL_WAIT_SIPI = 3 };

/* What MONITOR and MWAIT have set up. A CPU that waits is ACCEL_HALTED as well; a store to its line makes it active, and the CPU
 * that stored leaves with WAKE. WAIT_MASKED: an interrupt ends the wait though IF is clear, and stays pending. */
enum accel_monitor { ACCEL_MONITOR_NONE = 0, ACCEL_MONITOR_ARMED = 1, ACCEL_MONITOR_WAIT = 2, ACCEL_MONITOR_WAIT_MASKED = 3 };

/* The control block: read and written directly by the owner between runs. */
typedef struct {
    /* what makes the CPU leave */
    uint8_t monitor_trap;    /* leave with MTRAP after one tick */
    uint8_t bpt_exit;        /* guest #BP leaves with BPT before delivery */
    uint8_t hlt_exit;        /* HLT leaves with HLT (else it leaves with HLT too, but halted) */
    uint8_t pause_exit;      /* PAUSE leaves with PAUSE; else it adds pause_cost to time_base */
    uint8_t mask_hwintr;     /* maskable interrupts are held back; nothing else is */
    uint8_t irq_window;      /* leave with IRQ_WINDOW as soon as an interrupt could be taken */
    uint8_t nmi_window;      /* leave with NMI_WINDOW as soon as an NMI could be taken */
    uint8_t intr_line;       /* INTR is asserted: leave with IRQ_WINDOW when it can be taken */
    uint8_t nmi_pending;     /* an NMI waits; taken by the core at the next boundary that allows it */
    uint8_t skip_breakpoint; /* this entry passes over a debugger breakpoint at its first boundary */
    uint8_t activity;        /* enum accel_activity */
    uint8_t tpr_threshold;   /* leave with TPR when CR8 falls below it; 0 = off */
    uint8_t step_range;      /* leave with MTRAP when rip leaves [step_start, step_end), after >= 1 tick */
    uint8_t branch_trace;    /* taken branches and events are recorded: accel_branches() */
    uint8_t pass_exception;  /* this entry passes over the EXCEPTION exit that the event in flight led to */
    uint8_t catch_events;    /* enum accel_catch: which events leave with CATCH once they are complete */
    uint8_t catch_mode;      /* enum accel_mode last seen under CATCH_MODE; 0: seen at the next boundary */
    uint8_t monitor_state;   /* enum accel_monitor */
    uint8_t reserved0[2];
    uint32_t exception_exit; /* bit v: exception v leaves with EXCEPTION before delivery; see there */
    uint32_t pause_cost;     /* machine ticks that a PAUSE without exit takes; `until` comes nearer by as much */
    uint64_t step_start, step_end;
    /* event to inject at the next entry; inject_valid 2: the core's own, a fault in the task that was just switched to */
    uint8_t inject_valid, inject_type, inject_vector, inject_has_error;
    uint32_t inject_error;
    uint32_t inject_length;  /* bytes of the soft event's instruction: saved RIP = RIP + length */
    /* The event that was being delivered when an exception left with EXCEPTION (VMX's IDT-vectoring information). The next entry
     * delivers it again, or, with an exception injected, what the two make together: one after the other, #DF, triple fault. */
    uint8_t inflight_valid, inflight_type, inflight_vector, inflight_has_error;
    uint32_t inflight_error, inflight_length;
    uint32_t reserved2;
    /* time: machine ticks = time_base + ticks of this CPU; PAUSE moves it (pause_cost) */
    int64_t time_base;
} accel_control;

accel_control *accel_cpu_control(accel_cpu *c);

/* Registers by number: rows of regs.def, in its order. `size` must be the row's size in bytes. */
int accel_reg_count(void);
const char *accel_reg_name(int number);
int accel_reg_size(int number);
int accel_reg_find(const char *name); /* -1: no such register */
int accel_reg_get(accel_cpu *c, int number, void *value, size_t size);
/* The values of `count` registers one behind the other. EINVAL unless their sizes add up to `size`. */
int accel_regs_get(accel_cpu *c, const int *numbers, size_t count, void *values, size_t size);
int accel_reg_set(accel_cpu *c, int number, const void *value, size_t size);

/* MSRs as the guest would see them, without privilege checks. ENOENT: nobody here owns it. */
int accel_msr_get(accel_cpu *c, uint32_t msr, uint64_t *value);
int accel_msr_set(accel_cpu *c, uint32_t msr, uint64_t value);

uint64_t accel_ticks(accel_cpu *c);
uint64_t accel_retired(accel_cpu *c);

/* Linear to physical without any effect (no A/D bits, no TLB entry, no fault). level: page size as a shift.
 * EFAULT: not mapped; then *gpa holds the level (5..1) at which the walk ended. */
typedef struct { uint64_t gpa; uint32_t page_shift; uint8_t writable, user, executable, accessed, dirty, global; } accel_walk;
int accel_translate(accel_cpu *c, uint64_t linear, accel_walk *out);
/* Reads memory slots through the page tables, likewise without any effect; how many bytes came before the first that cannot
 * be read. Addresses wrap at 2^64. */
uint64_t accel_linear_read(accel_cpu *c, uint64_t linear, void *data, uint64_t size);

/* ---- running ----------------------------------------------------------------------------------- */

enum accel_exit_kind {
    ACCEL_EXIT_DEADLINE = 0,  /* ticks reached `until` */
    ACCEL_EXIT_KICK,          /* accel_stop() */
    ACCEL_EXIT_INOUT,         /* number = port, size, write, value, string, rep */
    ACCEL_EXIT_MMIO,          /* gpa, size, write, value */
    ACCEL_EXIT_HLT,           /* activity is HALTED now; rip is after the HLT */
    ACCEL_EXIT_PAUSE,
    ACCEL_EXIT_MTRAP,
    ACCEL_EXIT_BPT,           /* source, bpt_length, id, number: accel_break_hits(); rip = address of the breakpoint. The guest's
                               * own: number = enum accel_event as which to inject it again */
    ACCEL_EXIT_DB,            /* reserved for hardware engines */
    ACCEL_EXIT_RDMSR,         /* number = MSR; answer with accel_answer() or inject #GP */
    ACCEL_EXIT_WRMSR,         /* number = MSR, value; accel_answer() accepts it, or inject #GP */
    ACCEL_EXIT_IRQ_WINDOW,
    ACCEL_EXIT_NMI_WINDOW,
    ACCEL_EXIT_EXCEPTION,     /* vector, has_error, error, value = CR2 or DR6 bits; control.inflight_*. Not delivered, CR2 and DR6 not
                               * written. Raised by an instruction: inject it to go on, as number (enum accel_event) with inst_length,
                               * which are those of INT3, INTO and ICEBP where these raised it. Raised by the delivery of another
                               * event: enter with control.pass_exception. INT n does not leave, and INT3 leaves with BPT first. */
    ACCEL_EXIT_TPR,           /* CR8 fell below tpr_threshold */
    ACCEL_EXIT_CR8,           /* CR8 was written; value = new TPR class (0-15); the write has been done */
    ACCEL_EXIT_WATCH,         /* hits: accel_watch_hits() */
    ACCEL_EXIT_TRIPLE_FAULT,  /* activity is SHUTDOWN; chain: accel_fault_chain() */
    ACCEL_EXIT_UNHANDLED,     /* the core cannot do this here (wide access to a device ...) */
    ACCEL_EXIT_UNIMPLEMENTED, /* an instruction that the model has and the core lacks: bytes, inst_length */
    ACCEL_EXIT_WAIT,          /* the CPU is halted, shut down or waits for SIPI, and nothing wakes it */
    ACCEL_EXIT_TSC,           /* IA32_TSC or IA32_TSC_ADJUST was written; the write has been done */
    ACCEL_EXIT_CATCH,         /* an event of catch_events has happened: source = which, gpa = old and value = new CR3, mode
                               * or MSR value; number = the MSR, write. rip is behind it */
    ACCEL_EXIT_WAKE,          /* a store of the last tick made a CPU active that waited in MWAIT */
    ACCEL_EXIT_KINDS
};

enum accel_catch { ACCEL_CATCH_CR3 = 1, ACCEL_CATCH_MODE = 2, ACCEL_CATCH_MSR = 4 };
enum accel_mode { ACCEL_MODE_REAL = 1, ACCEL_MODE_V86, ACCEL_MODE_PROTECTED, ACCEL_MODE_PAGED, ACCEL_MODE_COMPAT, ACCEL_MODE_64 };
enum accel_bpt_source { ACCEL_BPT_SET = 0, ACCEL_BPT_GUEST = 1 };

typedef struct {
    uint32_t kind;
    uint32_t inst_length; /* information; 0 for BPT, MTRAP */
    uint64_t rip;         /* what plain re-entry executes next (an offset, not linear) */
    uint64_t gpa;
    uint64_t value;
    uint32_t number;      /* port, MSR, or how many breakpoints were hit */
    uint8_t size, write, string, rep;
    uint8_t vector, has_error, source, bpt_length;
    uint32_t error;
    uint64_t id;          /* of the (first) breakpoint that was hit */
    uint8_t bytes[16];    /* instruction bytes, for UNIMPLEMENTED and UNHANDLED */
} accel_exit;

/* Runs until ticks >= until or something happens. Never blocks. EBUSY: an answer is outstanding and no event is
 * injected in its place. */
int accel_run(accel_cpu *c, uint64_t until, accel_exit *exit);

/* Whose turn it is in a ring of CPUs, since when, and for how long. */
typedef struct {
    uint64_t now;   /* machine tick */
    uint64_t left;  /* ticks until the turn is over */
    uint32_t index; /* of the CPU in the ring */
    uint32_t turns; /* counts those that were used up */
} accel_turns;

/* Runs the CPUs of a ring one after the other, each for its turn of `quantum` ticks (the first for what is left of its
 * own), its time_base made from the machine tick at which it begins. Returns the kind of the exit of the CPU `index`,
 * which has had fewer ticks than were left; or DEADLINE, and nobody has run since, when the next turn would end behind
 * machine tick `bound`; or -1 where accel_run() would refuse, or without a CPU or a quantum. accel_stop() on any CPU
 * ends it within a round. */
int accel_run_turns(accel_cpu *const *ring, uint32_t count, uint64_t quantum, uint64_t bound, accel_turns *turns, accel_exit *exit);

/* Answers the read (IN, MMIO read, RDMSR) or acknowledges the WRMSR of the last exit. The next
 * accel_run() executes the instruction again with all answers so far. */
int accel_answer(accel_cpu *c, uint64_t value);

/* Makes a running accel_run() of this CPU return with KICK soon. Any thread. Sticky until consumed. */
void accel_stop(accel_cpu *c);

/* ---- debugging --------------------------------------------------------------------------------- */

enum accel_address_space { ACCEL_LINEAR = 0, ACCEL_PHYSICAL = 1 };

/* Execution breakpoints: a set of addresses, not bytes in memory. Several may share an address. */
int accel_break_add(accel_machine *m, uint64_t id, int space, uint64_t address);
int accel_break_remove(accel_machine *m, uint64_t id);
/* Those that the last BPT exit reports; their number is also in accel_exit.number, at most ACCEL_MAX_REPORTED. */
enum { ACCEL_MAX_REPORTED = 64 };
size_t accel_break_hits(accel_cpu *c, uint64_t *ids, size_t max);

/* Watchpoints: [address, address + size), reported after the tick that touches it. WATCH_CHANGED: a write counts only
 * where it leaves another value. Writes by devices count too: for a linear range where some CPU's present page tables lead
 * to it (the first 4096 pages of the range). */
enum accel_watch_kind { ACCEL_WATCH_WRITE = 1, ACCEL_WATCH_READ = 2, ACCEL_WATCH_ACCESS = 3, ACCEL_WATCH_CHANGED = 5 };
int accel_watch_add(accel_machine *m, uint64_t id, int space, uint64_t address, uint64_t size, int kind);
int accel_watch_remove(accel_machine *m, uint64_t id);

typedef struct { uint64_t id, address; uint32_t size; uint8_t write, origin; uint16_t device; uint64_t old_value, new_value; } accel_hit;
size_t accel_watch_hits(accel_cpu *c, accel_hit *hits, size_t max); /* hits of the last WATCH exit */

/* Conditions: postfix code on a stack of 64-bit words; jumps go forward only, so a program ends. accel_insn.op is numbered as
 * in enum accel_op; `value`: a constant; a register's number; bytes of a load (1, 2, 4, 8); bits of an extension (1 to 64);
 * the instruction to jump to; the distance of PICK from the top. Registers of up to 64 bits are read, zero-extended; loads
 * go through the page tables to memory slots, little-endian, with no effect that the guest could notice. Arithmetic is
 * modulo 2^64, DIVIDE and REMAINDER by 0 are errors, and so is an unreadable register or address. Shifts by 64 and more
 * shift everything out. ROTATE: a b c -> c a b, c on top before. END: the top is the result. EINVAL from whoever takes
 * code: it is empty or longer than ACCEL_MAX_CODE, jumps back or out, runs over its end, needs more stack than there is, or
 * meets at one place with stacks of different depths. */
enum { ACCEL_MAX_CODE = 1024, ACCEL_MAX_DEPTH = 64, ACCEL_MAX_PROGRAMS = 64 };
enum accel_op {
    ACCEL_OP_CONSTANT, ACCEL_OP_REGISTER, ACCEL_OP_LOAD, ACCEL_OP_LOAD_SIGNED, ACCEL_OP_SIGN_EXTEND, ACCEL_OP_ZERO_EXTEND,
    ACCEL_OP_ADD, ACCEL_OP_SUB, ACCEL_OP_MULTIPLY, ACCEL_OP_DIVIDE_SIGNED, ACCEL_OP_DIVIDE_UNSIGNED,
    ACCEL_OP_REMAINDER_SIGNED, ACCEL_OP_REMAINDER_UNSIGNED, ACCEL_OP_SHIFT_LEFT, ACCEL_OP_SHIFT_RIGHT_SIGNED,
    ACCEL_OP_SHIFT_RIGHT_UNSIGNED, ACCEL_OP_AND, ACCEL_OP_OR, ACCEL_OP_XOR, ACCEL_OP_INVERT, ACCEL_OP_NOT, ACCEL_OP_EQUAL,
    ACCEL_OP_LESS_SIGNED, ACCEL_OP_LESS_UNSIGNED, ACCEL_OP_JUMP, ACCEL_OP_JUMP_IF, ACCEL_OP_DUPLICATE, ACCEL_OP_POP,
    ACCEL_OP_SWAP, ACCEL_OP_PICK, ACCEL_OP_ROTATE, ACCEL_OP_PRINT /* not here */, ACCEL_OP_END,
};
typedef struct { uint64_t value; uint32_t op, reserved; } accel_insn;
typedef struct { const accel_insn *code; size_t count; } accel_program;

/* Runs a program on the CPU as it stands between two runs. EINVAL: it is none; EFAULT: it met an error. */
int accel_evaluate(accel_cpu *c, const accel_insn *code, size_t count, uint64_t *result);

/* What narrows a breakpoint or watchpoint down. A hit counts where the limits in `flags` are met and, with programs, one
 * of them gives a result other than 0, meets an error or finds no fuel left (some milliseconds of evaluation per
 * instruction). The first `ignore` hits that count are counted and not reported. cr3: its address bits are compared. */
enum accel_limit { ACCEL_LIMIT_CR3 = 1, ACCEL_LIMIT_CPL = 2, ACCEL_LIMIT_CPU = 4 };
typedef struct {
    uint32_t flags, cpl, cpu, program_count;
    uint64_t cr3, ignore;
    const accel_program *programs; /* copied */
} accel_limits;
/* Replaces the limits of breakpoint `id`, or of watchpoint `id` if no breakpoint has that id. */
int accel_point_limit(accel_machine *m, uint64_t id, const accel_limits *limits);
/* Hits of it that counted, since it was added. */
int accel_point_hits(accel_machine *m, uint64_t id, uint64_t *hits);

/* How a TRIPLE_FAULT or a nested EXCEPTION came about, oldest first: the event whose delivery failed (type: enum accel_event),
 * each exception that its delivery and theirs raised, #DF in its place, and last the one that could not be delivered or left.
 * cr2: as it was when the entry was made, for a #PF its own address. */
enum { ACCEL_MAX_CHAIN = 8 };
typedef struct { uint64_t rip, cr2; uint32_t error; uint8_t vector, has_error, type, reserved; } accel_fault;
size_t accel_fault_chain(accel_cpu *c, accel_fault *chain, size_t max);

/* The way that the CPU took, recorded while control.branch_trace is set: every taken branch and every delivered event, as
 * linear addresses. from: the branch (an event: the instruction that caused or asked for it, else the one it came before);
 * to: where execution went. The newest 32 are kept, or as many as accel_branch_ring() was asked for (up to 2^20; rounded up to
 * a power of two, at least 32; the ring is empty then. EINVAL, ENOMEM). accel_branches() copies at most `max` of them, newest
 * first, and returns how many; accel_branch_count() counts all since the ring was last emptied, so a reader knows what is new
 * and what it has missed. The straight stretches between branches (the blocks of BTS) are [to of one, from of the next newer
 * one]; the last ends at the present instruction. Debug state: the guest does not see it, it is not saved, accel_cpu_load()
 * empties it. Guests that single-step on branches (DEBUGCTL.BTF) are recorded without being asked for. */
typedef struct { uint64_t from, to; } accel_branch;
int accel_branch_ring(accel_cpu *c, size_t entries);
size_t accel_branches(accel_cpu *c, accel_branch *branches, size_t max);
uint64_t accel_branch_count(accel_cpu *c);

/* ---- state and statistics ----------------------------------------------------------------------- */

/* The canonical state of a CPU without its caches: the same guest-visible state gives the same bytes. */
size_t accel_cpu_save_size(void);
int accel_cpu_save(accel_cpu *c, void *data, size_t size);
int accel_cpu_load(accel_cpu *c, const void *data, size_t size);

typedef struct {
    uint64_t runs, blocks_decoded, block_lookups, flushes, page_walks, tlb_misses, smc_kills, faults, events;
    uint64_t off_slot_reads, off_slot_writes;
} accel_stats;
void accel_stats_get(accel_cpu *c, accel_stats *out);

/* Decodes one instruction: its length, or 0 (illegal) or a negative number (more than `size` bytes needed).
 * bits: 16, 32 or 64. row: its number in insns.def. For tests and tools. */
int accel_decode(const uint8_t *bytes, size_t size, int bits, int model, int *row);
const char *accel_row_name(int row);
int accel_row_count(void);

/* cdef end */

#endif
