/*
 * arch.h - names that the architecture gives: registers, segments, flags, control registers, exceptions; and the few
 * macros that every file of the core uses.
 */
#ifndef ARCH_H
#define ARCH_H

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

#endif
