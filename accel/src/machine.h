/*
 * machine.h - what the CPUs of a machine share: memory, the cache of blocks, the debugger's points.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include "block.h"

enum { MAX_HITS = ACCEL_MAX_REPORTED };

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

/* ---- phys.c ---------------------------------------------------------------------------------------------- */

struct slot *phys_slot(accel_machine *m, uint64_t pa);
struct page *phys_page(accel_machine *m, uint64_t pa, uint8_t **host); /* host: start of the page; NULL: no slot */
void phys_store(accel_cpu *c, uint64_t pa, const void *buf, unsigned size, uint64_t lin); /* in one page, in a slot: all flags honoured */
uint64_t walk_read(accel_cpu *c, uint64_t pa, unsigned size);   /* page-walk access, all ones outside slots */
void walk_write(accel_cpu *c, uint64_t pa, uint64_t v, unsigned size);
bool monitor_arm(accel_cpu *c);                                /* stores to c->monitor_addr are noticed; false: it is no memory */
void page_revoke(accel_machine *m, uint64_t pa);                /* no fast writes to this page in any TLB */

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
