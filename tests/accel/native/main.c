/*
 * main.c - the campaign: cases of every row of a table, executed by the host CPU and by the core, compared; a difference
 * is shrunk and printed as one line.
 *
 *     oracle ROWS SEED CASES LIMIT     ROWS: file of row_spec lines; LIMIT: printed differences per row
 */
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include "accel.h"
#include "oracle.h"

enum { MAX_SPECS = 4096 };
static struct row_spec specs[MAX_SPECS];
static int spec_count;
static int spec_of_row[2][MAX_SPECS]; /* by bits == 32 and core row: index + 1; 0: not a row to be compared */
static struct ring *ring;

/* ---- the table ---------------------------------------------------------------------------------------------- */

static bool read_specs(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return false;
    struct row_spec s;
    unsigned map, opcode, prefix, mod, bits;
    while (spec_count < MAX_SPECS) {
        memset(&s, 0, sizeof s);
        int n = fscanf(f, "%d %u %x %u %c %d %d %u %3s %x %x %u %39[^\n]\n", &s.number, &map, &opcode, &prefix, &s.modrm, &s.ext, &s.rm, &mod,
                       s.imm, &s.attrs, &s.undefined, &bits, s.name);
        if (n != 13) break;
        s.map = (u8)map, s.opcode = (u8)opcode, s.prefix = (u8)prefix, s.mod = (u8)mod, s.bits = (u8)bits;
        if (s.number < 0 || s.number >= MAX_SPECS) break;
        specs[spec_count++] = s;
        spec_of_row[s.bits == 32][s.number] = spec_count;
    }
    bool ok = feof(f) && spec_count > 0;
    fclose(f);
    return ok;
}

/* ---- comparison ------------------------------------------------------------------------------------------------ */

struct text { char s[4096]; size_t n; };

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (t->n < sizeof t->s) {
        int n = vsnprintf(t->s + t->n, sizeof t->s - t->n, format, args);
        if (n > 0) t->n += (size_t)n;
    }
    va_end(args);
}

static void hex(struct text *t, const u8 *p, unsigned n) {
    for (unsigned i = n; i-- > 0;) add(t, "%02x", p[i]);
}

static const char *const GPR[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};

static const struct row_spec *spec_for(const struct oracle_case *k) {
    int row = guest_row(k);
    if (row < 0 || !spec_of_row[k->bits == 32][row]) return NULL;
    return &specs[spec_of_row[k->bits == 32][row] - 1];
}

static void outcome_text(struct text *t, const struct state *s) {
    switch (s->outcome) {
    case STEPPED: add(t, "done"); break;
    case FAULTED: add(t, "#%u(%x) cr2=%llx", s->vector, s->error, (unsigned long long)s->cr2); break;
    case LEFT: add(t, "exit %u", s->vector); break;
    default: add(t, "lost"); break;
    }
}

/* A count of the operand size or above: flags, then the result, are undefined (SDM vol. 2, SHLD and SHRD). */
static bool count_too_large(const struct oracle_case *k) {
    bool opsize = false;
    int i = 0;
    for (; i < k->length && k->bytes[i] != 0x0f; i++) {
        opsize |= k->bytes[i] == 0x66;
        if (k->bits == 64 && (k->bytes[i] & 0xf8) == 0x48) return false;
    }
    if (!opsize || i + 1 >= k->length) return false;
    bool by_cl = k->bytes[i + 1] & 1;
    return ((by_cl ? k->in.gpr[1] : k->bytes[k->length - 1]) & 31) >= 16;
}

/* Two numbers of 80 bits are the same or neighbours. */
static bool neighbours(const u8 *a, const u8 *b) {
    u64 m[2];
    u16 e[2];
    memcpy(&m[0], a, 8), memcpy(&m[1], b, 8);
    memcpy(&e[0], a + 8, 2), memcpy(&e[1], b + 8, 2);
    if (e[0] == e[1]) return m[0] - m[1] + 1 <= 2;
    bool up = e[1] == e[0] + 1, down = e[0] == e[1] + 1;
    return (up && m[0] == ~0ull && m[1] == 1ull << 63) || (down && m[1] == ~0ull && m[0] == 1ull << 63);
}

/* Makes equal what undefined.py lets differ; true: nothing is left to compare. */
static bool tolerate(u32 what, const struct oracle_case *k, const struct state *a, struct state *b) {
    bool both_faulted = a->outcome == FAULTED && b->outcome == FAULTED;
    if (what & TOL_MASKED && a->outcome == FAULTED && a->vector >= 12) {
        if (b->outcome == STEPPED) return true;
        if (b->outcome == FAULTED && b->vector >= 12) b->cr2 = a->cr2, b->vector = a->vector, b->error = a->error;
    }
    for (unsigned i = 0; what & TOL_ULP && i < 8; i++)
        if (neighbours(a->st[i], b->st[i])) memcpy(b->st[i], a->st[i], 10);
    if (what & TOL_WIDER && a->outcome == FAULTED && a->vector >= 12 && memchr(k->bytes, 0x66, (size_t)k->length)) return true;
    if (what & TOL_EFLAGS && a->fsw & 0x80) b->flags = a->flags;
    if (what & TOL_MISALIGNED && b->outcome == FAULTED && b->vector == 13 && b->error == 0) return true;
    /* a trap that is pending is delivered in place of the fault of a later element (SDM vol. 2, VGATHERDPS) */
    if (what & TOL_GATHER && a->outcome == STEPPED && a->rip == k->in.rip && b->outcome == FAULTED) return true;
    if (what & TOL_GATHER && both_faulted) memcpy(b->ymm, a->ymm, sizeof b->ymm);
    if (what & TOL_COUNT && count_too_large(k)) return true;
    /* MXCSR bit 17 is AMD's own (misaligned SSE operands) */
    if (what & TOL_MXCSR && a->outcome == STEPPED && a->mxcsr >> 16) return true;
    if (both_faulted && what & TOL_PAGE && !((a->cr2 ^ b->cr2) & ~0xfffull)) b->cr2 = a->cr2;
    if (both_faulted && what & TOL_ALIGNED && a->vector == 13 && b->vector == 12) b->vector = 13;
    if (both_faulted && what & TOL_MMX && a->vector >= 12) {
        b->ftw = a->ftw, b->fsw = a->fsw;
        memcpy(b->st, a->st, sizeof b->st);
    }
    if (both_faulted && what & TOL_PARTIAL)
        for (int i = 0; i < 8; i++)
            if (i != 4) b->gpr[i] = a->gpr[i];
    if (both_faulted && what & TOL_ORDER && a->vector >= 12 && b->vector >= 12)
        b->cr2 = a->cr2, b->vector = a->vector, b->error = a->error;
    if (both_faulted && what & AT_SAVE && a->vector >= 12 && b->vector >= 12)
        b->cr2 = a->cr2, b->vector = a->vector, b->error = a->error;
    /* which of #UD and a fault of the fetch comes first depends on how far the decoder looks */
    if (both_faulted && b->vector == 6 && a->vector == 14 && a->error & 0x10) return true;
    /* the last page of user addresses is the host kernel's business */
    if (both_faulted && a->cr2 >> 12 == 0x7ffffffff) b->error = a->error;
    return false;
}

/* True when want (host) and got (core) agree; else t, when given, says where they do not. */
static bool compare(const struct oracle_case *k, struct result *want, struct result *got, struct text *t) {
    static struct text scratch;
    if (!t) t = &scratch;
    t->n = 0;
    t->s[0] = 0;
    struct state *a = &want->s, *b = &got->s;
    const struct row_spec *spec = spec_for(k);
    /* Linux tells a process that every kernel address is present (arch/x86/mm/fault.c, set_signal_archinfo). */
    if (b->outcome == FAULTED && b->vector == 14 && b->cr2 >> 63) b->error |= 1;
    u32 tolerated = spec ? spec->attrs : 0;
    if (tolerate(tolerated, k, a, b)) return true;
    if (a->outcome != b->outcome || a->vector != b->vector || a->error != b->error || a->cr2 != b->cr2) {
        add(t, " outcome: ");
        outcome_text(t, a);
        add(t, " | ");
        outcome_text(t, b);
    }
    if (a->outcome == LOST) return t->n == 0;
    bool wide = k->bits == 64;
    for (int i = 0; i < (wide ? 16 : 8); i++) {
        u64 mask = wide ? ~0ull : 0xffffffff;
        if ((a->gpr[i] ^ b->gpr[i]) & mask)
            add(t, " %s: %llx | %llx", GPR[i], (unsigned long long)(a->gpr[i] & mask), (unsigned long long)(b->gpr[i] & mask));
    }
    if (a->rip != b->rip) add(t, " rip: %llx | %llx", (unsigned long long)a->rip, (unsigned long long)b->rip);
    u64 flags = (FL_ARITH | FL_DF | FL_AC | FL_NT | FL_ID) & ~(u64)(spec && a->outcome == STEPPED ? spec->undefined : 0);
    if ((a->flags ^ b->flags) & flags) add(t, " flags: %llx | %llx", (unsigned long long)(a->flags & flags), (unsigned long long)(b->flags & flags));
    if (a->fs_base != b->fs_base) add(t, " fs_base: %llx | %llx", (unsigned long long)a->fs_base, (unsigned long long)b->fs_base);
    if (a->gs_base != b->gs_base) add(t, " gs_base: %llx | %llx", (unsigned long long)a->gs_base, (unsigned long long)b->gs_base);
    for (int i = 0; i < 16; i++)
        if (memcmp(a->ymm[i], b->ymm[i], 32)) {
            add(t, " ymm%d: ", i);
            hex(t, a->ymm[i], 32);
            add(t, " | ");
            hex(t, b->ymm[i], 32);
        }
    if (a->mxcsr != b->mxcsr) add(t, " mxcsr: %x | %x", a->mxcsr, b->mxcsr);
    if (a->fcw != b->fcw) add(t, " fcw: %x | %x", a->fcw, b->fcw);
    u32 codes = spec && a->outcome == STEPPED ? spec->undefined >> 16 : 0;
    if ((a->fsw ^ b->fsw) & ~codes) add(t, " fsw: %x | %x", a->fsw, b->fsw);
    if (a->ftw != b->ftw) add(t, " ftw: %x | %x", a->ftw, b->ftw);
    for (int i = 0; i < 8; i++)
        if (memcmp(a->st[i], b->st[i], 10)) {
            add(t, " st%d: ", i);
            hex(t, a->st[i], 10);
            add(t, " | ");
            hex(t, b->st[i], 10);
        }
    /* the pushed image has the TF that single-stepping needs */
    if (spec && !strncmp(spec->name, "PUSHF", 5) && a->outcome == STEPPED && a->gpr[4] - DATA_AT < DATA_SIZE - 1)
        want->data[a->gpr[4] - DATA_AT + 1] &= ~1;
    /* AMD's MXCSR_MASK (bytes 28-31 of a save area that is aligned to 16) has bit 17 */
    if (tolerated & AT_SAVE)
        for (unsigned at = 14; at < DATA_SIZE; at += 16)
            if (want->data[at] == 2 && got->data[at] == 0) want->data[at] = 0;
    bool partial = tolerated & TOL_PARTIAL && a->outcome == FAULTED;
    if (!partial && memcmp(want->data, got->data, DATA_SIZE)) {
        unsigned from = 0, to = DATA_SIZE;
        while (want->data[from] == got->data[from]) from++;
        while (want->data[to - 1] == got->data[to - 1]) to--;
        if (to - from > 64) to = from + 64;
        add(t, " [%llx]: ", (unsigned long long)(DATA_AT + from));
        hex(t, want->data + from, to - from);
        add(t, " | ");
        hex(t, got->data + from, to - from);
    }
    return t->n == 0;
}

/* ---- shrinking -------------------------------------------------------------------------------------------------- */

static bool differs(const struct oracle_case *k, struct text *t) {
    static struct result got;
    ring->cases[0] = *k;
    ring->count = 1;
    native_post();
    guest_run(k, &got);
    native_wait();
    return !compare(k, &ring->results[0], &got, t);
}

static void try_zero(struct oracle_case *k, void *field, size_t size) {
    u8 kept[128];
    bool zero = true;
    for (size_t i = 0; i < size; i++) zero &= ((u8 *)field)[i] == 0;
    if (zero) return;
    memcpy(kept, field, size);
    memset(field, 0, size);
    if (!differs(k, NULL)) memcpy(field, kept, size);
}

static void shrink(struct oracle_case *k) {
    struct state *s = &k->in;
    struct oracle_case before = *k;
    s->mxcsr = 0x1f80;
    if (!differs(k, NULL)) *k = before;
    before = *k;
    s->fcw = 0x37f, s->fsw = 0;
    if (!differs(k, NULL)) *k = before;
    for (int i = 0; i < 16; i++) try_zero(k, &s->gpr[i], 8);
    for (int i = 0; i < 16; i++) {
        u64 whole = s->gpr[i];
        for (int bit = 63; bit >= 0 && whole; bit--) {
            if (!(s->gpr[i] >> bit & 1)) continue;
            u64 now = s->gpr[i];
            s->gpr[i] &= ~(1ull << bit);
            if (!differs(k, NULL)) s->gpr[i] = now;
        }
    }
    for (u64 bit = 1; bit <= FL_AC; bit <<= 1) {
        u64 now = s->flags;
        s->flags &= ~bit;
        if (now != s->flags && !differs(k, NULL)) s->flags = now;
    }
    try_zero(k, &s->fs_base, 8);
    try_zero(k, &s->gs_base, 8);
    try_zero(k, &s->ftw, 1);
    for (int i = 0; i < 8; i++) try_zero(k, s->st[i], 10);
    for (int i = 0; i < 16; i++) {
        try_zero(k, s->ymm[i], 32);
        for (int at = 0; at < 32; at += 4) try_zero(k, s->ymm[i] + at, 4);
    }
    for (int i = 0; i < 3; i++) {
        try_zero(k, k->patch[i].bytes, 96);
        for (int at = 0; at < 96; at += 8) try_zero(k, k->patch[i].bytes + at, 8);
    }
}

static void input_text(struct text *t, const struct oracle_case *k) {
    const struct state *s = &k->in;
    add(t, "rip=%llx flags=%llx", (unsigned long long)s->rip, (unsigned long long)s->flags);
    for (int i = 0; i < 16; i++)
        if (s->gpr[i]) add(t, " %s=%llx", GPR[i], (unsigned long long)s->gpr[i]);
    if (s->fs_base) add(t, " fs_base=%llx", (unsigned long long)s->fs_base);
    if (s->gs_base) add(t, " gs_base=%llx", (unsigned long long)s->gs_base);
    static const u8 zero[128];
    for (int i = 0; i < 16; i++)
        if (memcmp(s->ymm[i], zero, 32)) {
            add(t, " ymm%d=", i);
            hex(t, s->ymm[i], 32);
        }
    if (s->mxcsr != 0x1f80) add(t, " mxcsr=%x", s->mxcsr);
    if (s->fcw != 0x37f || s->fsw || s->ftw) add(t, " fcw=%x fsw=%x ftw=%x", s->fcw, s->fsw, s->ftw);
    for (int i = 0; i < 8; i++)
        if (memcmp(s->st[i], zero, 10)) {
            add(t, " st%d=", i);
            hex(t, s->st[i], 10);
        }
    for (int i = 0; i < 3; i++) {
        const struct patch *p = &k->patch[i];
        for (unsigned at = 0; at + 8 <= p->size; at += 8) {
            u64 v;
            memcpy(&v, p->bytes + at, 8);
            if (v) add(t, " [%llx]=%016llx", (unsigned long long)(DATA_AT + p->at + at), (unsigned long long)v);
        }
    }
}

static void report(struct oracle_case k, u64 seed, u64 number) {
    static struct text in, out;
    const struct row_spec *asked = NULL;
    for (int i = 0; i < spec_count; i++)
        if (specs[i].number == (int)k.row && specs[i].bits == k.bits) asked = &specs[i];
    bool stable = differs(&k, NULL);
    if (stable) shrink(&k);
    differs(&k, &out);
    in.n = 0;
    input_text(&in, &k);
    printf("DIFF %s | %u-bit | ", asked ? asked->name : "?", k.bits);
    for (int i = 0; i < k.length; i++) printf("%02x", k.bytes[i]);
    printf(" | in: %s | host | core:%s%s | seed %llu case %llu\n", in.s, stable ? "" : " (not again)", out.s, (unsigned long long)seed,
           (unsigned long long)number);
    fflush(stdout);
}

/* ---- campaign ------------------------------------------------------------------------------------------------------ */

static u64 differences[MAX_SPECS], compared[MAX_SPECS], faults, skipped;

static u64 campaign(u64 seed, u64 cases, u64 limit) {
    static struct result got[BATCH];
    static struct oracle_case kept[BATCH];
    static int from[BATCH];
    u64 total = 0;
    struct rng r = {seed * 0x9e3779b97f4a7c15ull + 0x1234567};
    for (u64 done = 0; done < cases;) {
        u32 n = 0;
        if (done % (BATCH * 64) == 0) {
            for (unsigned i = 0; i < DATA_SIZE; i += 8) {
                u64 v = rng_next(&r);
                memcpy(ring->base + i, &v, 8);
                memcpy(ring->ronly + i % PAGE, &v, 8);
            }
            guest_base(ring->base, ring->ronly);
        }
        for (u32 i = 0; i < BATCH && done + i < cases; i++) {
            int spec = (int)((done + i) % (u64)spec_count);
            generate(&r, &specs[spec], &ring->cases[n]);
            int row = guest_row(&ring->cases[n]);
            if (row >= 0 && !spec_of_row[specs[spec].bits == 32][row]) {
                skipped++;
                continue;
            }
            from[n++] = spec;
        }
        ring->count = n;
        native_post();
        for (u32 i = 0; i < n; i++) guest_run(&ring->cases[i], &got[i]);
        native_wait();
        memcpy(kept, ring->cases, n * sizeof *kept);
        bool bad[BATCH];
        for (u32 i = 0; i < n; i++) {
            bad[i] = !compare(&kept[i], &ring->results[i], &got[i], NULL);
            compared[from[i]]++;
            faults += ring->results[i].s.outcome == FAULTED;
        }
        for (u32 i = 0; i < n; i++) {
            if (!bad[i]) continue;
            total++;
            if (differences[from[i]]++ < limit) report(kept[i], seed, done + i);
        }
        done += BATCH;
    }
    return total;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: oracle ROWS SEED CASES LIMIT\n");
        return 2;
    }
    if (!read_specs(argv[1])) {
        fprintf(stderr, "oracle: cannot read %s\n", argv[1]);
        return 2;
    }
    u64 seed = strtoull(argv[2], NULL, 0), cases = strtoull(argv[3], NULL, 0), limit = strtoull(argv[4], NULL, 0);
    if (guest_start(ACCEL_MODEL_MAX) || native_start(&ring)) {
        fprintf(stderr, "oracle: cannot start\n");
        return 2;
    }
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    u64 total = campaign(seed, cases, limit), sum = 0;
    clock_gettime(CLOCK_MONOTONIC, &b);
    native_end();
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    int rows = 0;
    for (int i = 0; i < spec_count; i++) {
        rows += compared[i] > 0;
        sum += compared[i];
        if (differences[i]) printf("ROW %s | %u-bit | %llu of %llu differ\n", specs[i].name, specs[i].bits, (unsigned long long)differences[i],
                                   (unsigned long long)compared[i]);
    }
    printf("TOTAL rows %d cases %llu faults %llu skipped %llu differences %llu seed %llu seconds %.2f rate %.0f\n", rows, (unsigned long long)sum,
           (unsigned long long)faults, (unsigned long long)skipped, (unsigned long long)total, (unsigned long long)seed, seconds,
           (double)sum / seconds);
    return total ? 1 : 0;
}
