/*
 * board.h - the small machine that random programs run on: memory, tables and CPUs in every mode.
 *
 *     00000 interrupt vector table   00500 real-mode handler    01000 GDT     01200 LDT
 *     01400 TSS (32-bit)             01800 TSS (64-bit)         01C00 second 32-bit TSS     01E00 16-bit TSS
 *     02000 IDT                      03000 handlers             04000 page tables
 *     0B000 stack of ring 0          0C000 stack of ring 3      0D000 data    0E800 the program
 *     10000 data                     20000 ROM                  21000 devices
 *     100000 RAM (where A20 wraps)
 *
 * A handler drops the error code, moves the saved instruction pointer on by one byte and returns: so a program of
 * random bytes goes on behind whatever it does wrong.
 */
#ifndef BOARD_H
#define BOARD_H

#include "system.h"

enum { RAM_SIZE = 0x20000, ROM_BASE = 0x20000, ROM_SIZE = 0x1000, HIGH_BASE = 0x100000, HIGH_SIZE = 0x2000,
       PROGRAM = 0xe800, PROGRAM_MAX = 0x1400, PAGES = (RAM_SIZE + ROM_SIZE + HIGH_SIZE) / 4096, BOARD_CPUS = 2, POINT_IDS = 8 };

enum board_mode { REAL, UNREAL, VM86, PROTECTED16, PROTECTED32, PAGED32, PAGED_PAE, COMPAT16, COMPAT32, LONG4, LONG5, LONG_FLAT_PKU, MODES };

/* How a run starts; all of it comes from the fuzzer's input. */
struct setup {
    uint8_t mode, model, cpl, cpus;
    uint64_t cr0, cr4;      /* bits to be added where the CPU allows them */
    uint64_t seed;          /* of registers and data */
    uint32_t flags;         /* RFLAGS bits to be added */
    uint16_t start;         /* offset of the program in its area */
    struct { uint16_t at; uint64_t flip; } entry[3]; /* page-table entries: number, bits to flip */
    uint64_t dr[4], dr7;
    const uint8_t *program;
    size_t size;
};

struct board { accel_machine *m; accel_cpu *cpu[BOARD_CPUS]; };

/* The machine as `s` says, on memory that holds nothing of an earlier run. */
void board_set_up(struct board *b, const struct setup *s);

/* A hash of all memory. */
uint64_t board_memory_hash(const struct board *b);

#endif
