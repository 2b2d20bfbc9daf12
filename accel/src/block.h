/*
 * block.h - decoded instructions, blocks of them, and what finds, makes and rewrites blocks.
 */
#ifndef BLOCK_H
#define BLOCK_H

#include "arch.h"

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

#endif
