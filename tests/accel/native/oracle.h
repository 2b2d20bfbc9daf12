/*
 * oracle.h - one instruction, its input and its outcome, as the native executor and the core both see them.
 *
 * Both sides use the same linear addresses: two code pages that may be read and executed, two data pages, one
 * read-only page; everything around them is unmapped.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

enum { PAGE = 4096 };
#define CODE_AT 0x10000000ull  /* two pages */
#define DATA_AT 0x10010000ull  /* two pages, then the read-only one */
#define RONLY_AT (DATA_AT + 2 * PAGE)
enum { CODE_SIZE = 2 * PAGE, DATA_SIZE = 2 * PAGE };

enum { FL_CF = 1, FL_PF = 4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_TF = 0x100, FL_IF = 0x200, FL_DF = 0x400,
       FL_OF = 0x800, FL_NT = 0x4000, FL_ID = 0x200000, FL_AC = 0x40000, FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF };

/* How the attempt ended. STEPPED: the instruction (or one REP iteration) is done. */
enum outcome { STEPPED, FAULTED, LEFT /* the core left for another reason: vector = exit kind */, LOST /* the child died */ };

struct state {
    u64 gpr[16]; /* in the order of ModRM numbers */
    u64 rip, flags, fs_base, gs_base;
    u8 ymm[16][32];
    u32 mxcsr;
    u16 fcw, fsw;
    u8 ftw;         /* abridged, by physical register */
    u8 st[8][10];   /* in stack order */
    u8 outcome, vector;
    u32 error;
    u64 cr2;
};

struct patch { u16 at, size; u8 bytes[96]; };

struct oracle_case {
    u32 row;           /* the row asked for; decoding may find another one */
    u8 bits, length;   /* 32 or 64; bytes that matter of `bytes` */
    u8 bytes[24];
    struct patch patch[3]; /* over the base contents of the data pages */
    struct state in;
};

struct result { struct state s; u8 data[DATA_SIZE]; };

enum { BATCH = 64 };

/* Shared between the tool and the executing child. */
struct ring {
    u32 count, first;  /* cases in this batch; the first that is still to do */
    volatile u32 done; /* how many the child has finished */
    u8 base[DATA_SIZE], ronly[PAGE];
    struct oracle_case cases[BATCH];
    struct result results[BATCH];
};

/* native.c: executes ring->cases on the host CPU. post starts the child on a batch, wait fills ring->results; a case
 * that kills the child is LOST. */
int native_start(struct ring **ring);
void native_post(void);
void native_wait(void);
void native_end(void);

/* guest.c: the same through the core. */
int guest_start(int model);
void guest_base(const u8 *base, const u8 *ronly);
void guest_run(const struct oracle_case *k, struct result *out);
int guest_row(const struct oracle_case *k); /* the row that the core decodes; -1: #UD */
const char *guest_row_name(int row);
int guest_row_count(void);

/* generate.c */
struct row_spec {
    int number;         /* row of the core's table */
    u8 map;             /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A, 4-6: VEX maps 1-3 */
    u8 opcode, prefix;  /* prefix: 0 any, 1 none, 2 66, 3 F3, 4 F2 */
    char modrm;         /* '-', '+', '/' */
    int ext, rm;        /* -1: any */
    u8 mod;             /* 0 any, 1 memory, 2 register */
    char imm[4];        /* - b w z v B(ENTER) j J A O */
    u32 attrs;          /* AT_* */
    u32 undefined;      /* arithmetic flags, and x87 condition codes << 16, that are not compared */
    u8 bits;            /* 32 or 64 */
    char name[40];
};
enum { AT_LOCK = 1, AT_REP = 2, AT_D64 = 4, AT_F64 = 8, AT_X87 = 0x10, AT_MMX = 0x20, AT_VVVV = 0x40, AT_L0 = 0x80, AT_L1 = 0x100,
       AT_W0 = 0x200, AT_W1 = 0x400, AT_VSIB = 0x800, AT_VEC = 0x1000, AT_SAVE = 0x2000 /* XSAVE family */,
       /* what may differ, see undefined.py */
       TOL_MASKED = 0x10000, TOL_PARTIAL = 0x20000, TOL_PAGE = 0x40000, TOL_ALIGNED = 0x80000, TOL_MMX = 0x100000, TOL_COUNT = 0x200000,
       TOL_MXCSR = 0x400000, TOL_ORDER = 0x800000, TOL_GATHER = 0x1000000, TOL_EFLAGS = 0x2000000,
       TOL_MISALIGNED = 0x4000000, TOL_ULP = 0x8000000, TOL_WIDER = 0x10000000 };
struct rng { u64 s; };
u64 rng_next(struct rng *r);
void generate(struct rng *r, const struct row_spec *spec, struct oracle_case *k);

#endif
