/*
 * Runs the kernels that the command line names and prints a line before and after each. Both
 * programs share it, so that the markers cost the same everywhere.
 *
 *     run=NAME iters=N [run=NAME iters=N ...]        other words are ignored
 *
 *     bench begin NAME N
 *     bench end NAME RESULT TSC      the checksum in hexadecimal, TSC counts from begin to end
 *     bench skip NAME REASON         the processor or the program lacks something
 *     bench error TEXT               nothing more follows
 *     bench done
 */
#include "bench.h"

#define LDST_WORDS 4128
#define MAX_NAME 16

uint64_t ldst_data[LDST_WORDS] __attribute__((aligned(64)));
uint64_t move_source[MOVE_BYTES / 8] __attribute__((aligned(4096)));
uint64_t move_target[MOVE_BYTES / 8] __attribute__((aligned(4096)));
uint8_t *patch_code;

const char *prepare_ldst(void)
{
    for (uint32_t i = 0; i < LDST_WORDS; i++)
        ldst_data[i] = i;
    return 0;
}

static const char *prepare_movsb(void)
{
    for (uint32_t i = 0; i < MOVE_BYTES / 8; i++) {
        move_source[i] = i * 0x9E3779B97F4A7C15;
        move_target[i] = 0;
    }
    return 0;
}

const struct kernel common_kernels[] = {
    {"alu", kernel_alu, 0},
    {"ldst", kernel_ldst, prepare_ldst},
    {"call", kernel_call, 0},
    {"indirect", kernel_indirect, 0},
    {"sha256", kernel_sha256, 0},
    {"mix", kernel_mix, 0},
    {"sse2", kernel_sse2, 0},
    {"avx2", kernel_avx2, prepare_avx2},
    {"x87", kernel_x87, 0},
    {"movsb", kernel_movsb, prepare_movsb},
    {"patch", kernel_patch, prepare_patch},
    {0, 0, 0},
};

static void put_string(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_number(uint64_t value, uint64_t base)
{
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = 0;
    do {
        *--first = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_string(first);
}

static int same_text(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* If `word` starts with `prefix`, what follows it, else null. */
static const char *after(const char *word, const char *prefix)
{
    while (*prefix)
        if (*word++ != *prefix++)
            return 0;
    return word;
}

static const struct kernel *find(const struct kernel *table, const char *name)
{
    for (; table->name; table++)
        if (same_text(table->name, name))
            return table;
    return 0;
}

static int complain(const char *text, const char *detail)
{
    put_string("bench error ");
    put_string(text);
    put_string(detail);
    put_char('\n');
    return 1;
}

static void run_one(const struct kernel *kernel, uint64_t iterations)
{
    const char *reason = kernel->prepare ? kernel->prepare() : 0;
    if (reason) {
        put_string("bench skip ");
        put_string(kernel->name);
        put_char(' ');
        put_string(reason);
        put_char('\n');
        return;
    }
    put_string("bench begin ");
    put_string(kernel->name);
    put_char(' ');
    put_number(iterations, 10);
    put_char('\n');
    uint64_t start = read_tsc();
    uint64_t result = kernel->run(iterations);
    uint64_t counts = read_tsc() - start;
    put_string("bench end ");
    put_string(kernel->name);
    put_char(' ');
    put_number(result, 16);
    put_char(' ');
    put_number(counts, 10);
    put_char('\n');
}

/* Up to the next space into `name`, shortened when it is too long to be one of ours. */
static void copy_word(char *name, const char *word)
{
    int i = 0;
    for (; i < MAX_NAME - 1 && word[i] && word[i] != ' '; i++)
        name[i] = word[i];
    name[i] = 0;
}

int bench_run(const char *line, const struct kernel *own_kernels)
{
    char name[MAX_NAME] = "";
    while (*line) {
        const char *value;
        if ((value = after(line, "run="))) {
            copy_word(name, value);
        } else if ((value = after(line, "iters="))) {
            uint64_t iterations = 0;
            for (; *value >= '0' && *value <= '9'; value++)
                iterations = iterations * 10 + (uint64_t)(*value - '0');
            const struct kernel *kernel = find(common_kernels, name);
            if (!kernel)
                kernel = find(own_kernels, name);
            if (!kernel)
                return complain("no kernel ", name);
            if (!iterations)
                return complain("no iterations for ", name);
            run_one(kernel, iterations);
        }
        while (*line && *line != ' ')
            line++;
        while (*line == ' ')
            line++;
    }
    if (!name[0])
        return complain("nothing to run: run=NAME iters=N", "");
    put_string("bench done\n");
    return 0;
}
