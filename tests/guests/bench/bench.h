/* What the guest image, the native program and the kernels share. */
#ifndef BENCH_H
#define BENCH_H

/* The window of the paging kernels: one PML4 slot of its own, 16 pages. */
#define WINDOW_BASE 0x8000000000
#define WINDOW_PAGES 16
#define PAGE_SIZE 4096

#define PTE_PRESENT_WRITABLE 0x003
#define MOVE_BYTES 0x100000

/* Where a started processor begins: a page below 1 MiB, its number is the SIPI vector. */
#define TRAMPOLINE 0x8000
#define MAX_PROCESSORS 16

#ifndef __ASSEMBLER__

#include <stdint.h>

typedef uint64_t kernel_function(uint64_t iterations);

/* One benchmark. `prepare` sets up its data outside the timed part and says whether the kernel can
 * run here; it may be null. */
struct kernel {
    const char *name;
    kernel_function *run;
    const char *(*prepare)(void); /* null, or why it cannot run */
};

/* kernels.S: the same instructions everywhere. */
kernel_function kernel_alu, kernel_ldst, kernel_call, kernel_indirect, kernel_sse2, kernel_avx2, kernel_x87,
    kernel_movsb, kernel_patch;
extern uint64_t ldst_data[], move_source[], move_target[];
extern uint8_t *patch_code;

/* sha256.c, mix.c: the same C, compiled with the same options. */
kernel_function kernel_sha256, kernel_mix;

/* common.c */
extern const struct kernel common_kernels[];
const char *prepare_ldst(void);

/* Each program's own. */
const char *prepare_avx2(void);
const char *prepare_patch(void);

/* common.c: runs the words of `line`. Returns 0, or 1 after a line that says what is wrong. */
int bench_run(const char *line, const struct kernel *own_kernels);
void put_char(char c);

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

#endif
#endif
