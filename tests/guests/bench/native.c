/* The kernels as a Linux program: ./native run=NAME iters=N. For the native figures. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define LINE_SIZE 4096

const char *prepare_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? 0 : "the processor has no AVX2";
}

const char *prepare_patch(void)
{
    void *page = mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return "the system gives no page that is writable and executable";
    patch_code = page;
    return 0;
}

void put_char(char c)
{
    putchar(c);
}

int main(int argc, char **argv)
{
    static const struct kernel none[] = {{0, 0, 0}};
    char line[LINE_SIZE] = "";
    size_t used = 0;
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        size_t length = strlen(argv[i]);
        if (used + length + 2 > sizeof line) {
            fputs("the arguments are too long\n", stderr);
            return 1;
        }
        memcpy(line + used, argv[i], length);
        used += length;
        line[used++] = ' ';
    }
    return bench_run(line, none);
}
