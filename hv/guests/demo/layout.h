/* Numbers that the assembly and the C files share. */
#ifndef DEMO_LAYOUT_H
#define DEMO_LAYOUT_H

#define MAX_CPUS 16
#define STACK_SIZE 8192

/* Segment selectors: rows of `gdt` in boot.S. */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18

/* Where a started processor begins: a page below 1 MiB, its number is the SIPI vector. */
#define TRAMPOLINE 0x8000

/* The demand-paged region: one 2 MiB window per processor, far above RAM. */
#define DEMAND_BASE 0x8000000000
#define DEMAND_WINDOW 0x200000

/* Interrupt vectors. */
#define VECTOR_PIC 0x20 /* 0x20-0x2F: the 8259 pair, all masked */
#define VECTOR_PIT 0x30
#define VECTOR_APIC_TIMER 0x31
#define VECTOR_SERIAL 0x34
#define VECTOR_SPURIOUS 0xFF

#define TICK_HZ 100

#endif
