/*
 * fuzz_api.c - fuzzer of accel.h: calls in any order, with any argument, on a table of handles.
 *
 *     input: calls of one byte each, followed by their arguments
 *
 * Handles that a call needs and that are not there are made or the call is left out: a dangling pointer is no input. The
 * shim keeps a list of the slots, so it knows what every call on memory must answer; buffers have exactly the size
 * that is announced; the control block is filled with any bytes, states are loaded with any bytes changed.
 */
#include "accel.h"
#include "input.h"

enum { MACHINES = 2, CPUS = 3, CALLS_MAX = 96, BUFFER_MAX = 1 << 16, TICKS_MAX = 2000 };
#define SLOT_MAX (1ull << 24) /* the largest that stays mapped: more would only make the machine slow */
#define GPA_LIMIT (1ull << 52)

struct span { uint64_t gpa, size; uint32_t flags; };
struct machine {
    accel_machine *m;
    accel_cpu *cpu[CPUS];
    unsigned cpus, slots;
    struct span slot[ACCEL_MAX_SLOTS];
};
struct shim { struct machine list[MACHINES]; struct input in; uint8_t *state; };

static void open_machine(struct machine *h) {
    memset(h, 0, sizeof *h);
    CHECK(accel_machine_new(&h->m) == ACCEL_OK, "no machine");
}

static void close_machine(struct machine *h) {
    accel_machine_free(h->m);
    memset(h, 0, sizeof *h);
}

/* A number that is often near a limit of something. */
static uint64_t number(struct input *in) {
    static const uint64_t bases[] = {0, 0x1000, 0x2000, 0x10000, 0x100000, 0x400000, 1ull << 32, 1ull << 48, 1ull << 52, 0 - 0x1000ull, ~0ull, 1ull << 63};
    uint8_t kind = take8(in);
    uint64_t base = bases[kind % (sizeof bases / sizeof *bases)];
    switch (kind >> 6) {
    case 0: return base;
    case 1: return base + (uint64_t)(int8_t)take8(in);
    case 2: return base + ((uint64_t)take8(in) << 12);
    default: return take64(in);
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int expected_add(const struct machine *h, uint64_t gpa, uint64_t size, uint32_t flags) {
    if (!size || gpa % 4096 || size % 4096 || size > GPA_LIMIT || gpa > GPA_LIMIT - size || flags > ACCEL_SLOT_ROM) return ACCEL_EINVAL;
    if (h->slots == ACCEL_MAX_SLOTS) return ACCEL_EBUSY;
    for (unsigned i = 0; i < h->slots; i++)
        if (gpa < h->slot[i].gpa + h->slot[i].size && h->slot[i].gpa < gpa + size) return ACCEL_EBUSY;
    return ACCEL_OK;
}

static void add_slot(struct machine *h, struct input *in) {
    uint64_t gpa = number(in), size = number(in);
    uint32_t flags = take8(in) & 3;
    int expected = expected_add(h, gpa, size, flags), status = accel_slot_add(h->m, gpa, size, flags);
    CHECK(status == expected || (expected == ACCEL_OK && status == ACCEL_ENOMEM), "%d, not %d", status, expected);
    if (status != ACCEL_OK) return;
    if (size > SLOT_MAX) CHECK(accel_slot_remove(h->m, gpa) == ACCEL_OK, "cannot remove");
    else h->slot[h->slots++] = (struct span){gpa, size, flags};
}

static void remove_slot(struct machine *h, struct input *in) {
    uint8_t which = take8(in);
    uint64_t gpa = which < h->slots ? h->slot[which].gpa : number(in);
    unsigned i = 0;
    while (i < h->slots && h->slot[i].gpa != gpa) i++;
    int status = accel_slot_remove(h->m, gpa);
    CHECK(status == (i < h->slots ? ACCEL_OK : ACCEL_ENOENT), "%d", status);
    if (i < h->slots) h->slot[i] = h->slot[--h->slots];
}

static bool mapped(const struct machine *h, uint64_t gpa, uint64_t size) {
    if (size > GPA_LIMIT || gpa > GPA_LIMIT - size) return false;
    while (size) {
        unsigned i = 0;
        while (i < h->slots && gpa - h->slot[i].gpa >= h->slot[i].size) i++;
        if (i == h->slots) return false;
        uint64_t n = h->slot[i].gpa + h->slot[i].size - gpa;
        if (n >= size) return true;
        gpa += n, size -= n;
    }
    return true;
}

static uint64_t place(const struct machine *h, struct input *in) {
    uint8_t which = take8(in);
    if (which >= h->slots) return number(in);
    const struct span *s = &h->slot[which];
    uint16_t at = take16(in);
    return at & 1 ? s->gpa + s->size - (at & 0xff) : s->gpa + (at & 0xffff) % s->size;
}

/* Sizes beyond the buffer are announced only where nothing may be touched. */
static void access(struct machine *h, struct input *in) {
    uint64_t gpa = place(h, in), size = number(in);
    uint8_t kind = take8(in);
    bool ok = mapped(h, gpa, size);
    if (ok && size > BUFFER_MAX) size = size % BUFFER_MAX;
    size_t real = size <= BUFFER_MAX ? size : 1;
    uint8_t *buffer = malloc(real ? real : 1);
    memset(buffer, kind, real);
    if (kind & 1) {
        int origin = (int)(kind >> 1 & 7) - 1, status = accel_phys_write(h->m, gpa, buffer, size, origin);
        int expected = origin < 0 || origin > ACCEL_ORIGIN_LOADER ? ACCEL_EINVAL : ok ? ACCEL_OK : ACCEL_EFAULT;
        CHECK(status == expected, "write: %d, not %d", status, expected);
    } else {
        int status = accel_phys_read(h->m, gpa, buffer, size);
        CHECK(status == (ok ? ACCEL_OK : ACCEL_EFAULT), "read: %d", status);
    }
    free(buffer);
}

/* Code for the CPUs to run: the rest of the call's bytes. */
static void load_code(struct machine *h, struct input *in) {
    uint64_t gpa = place(h, in);
    size_t size = take8(in);
    if (size > in->left) size = in->left;
    accel_phys_write(h->m, gpa, in->at, size, ACCEL_ORIGIN_LOADER);
    in->at += size, in->left -= size;
}

static void epochs(struct machine *h, struct input *in) {
    uint64_t since = number(in), from = number(in);
    size_t max = take8(in);
    uint64_t *pages = malloc(max ? max * sizeof *pages : 1);
    if (since & 1) accel_epoch_next(h->m);
    size_t n = accel_pages_changed(h->m, since, from, pages, max);
    CHECK(n <= max, "%zu of %zu", n, max);
    for (size_t i = 0; i < n; i++) {
        CHECK(pages[i] >= from && (!i || pages[i] > pages[i - 1]), "page %llx", (unsigned long long)pages[i]);
        CHECK(mapped(h, pages[i] << 12, 4096), "page %llx is in no slot", (unsigned long long)pages[i]);
    }
    free(pages);
}

/* ---- CPUs ---------------------------------------------------------------------------------------------------------- */

static void add_cpu(struct machine *h, struct input *in) {
    uint8_t a = take8(in), b = take8(in);
    uint32_t index = a & 7, count = a >> 3 & 7;
    int model = (int)(b & 7) - 1;
    accel_cpu *c = NULL;
    if (h->cpus == CPUS) return;
    int status = accel_cpu_new(h->m, index, b & 0x80 ? take32(in) : count, model, b & 8 ? 0 : 1000000000, b, &c);
    CHECK(status == ACCEL_OK || status == ACCEL_EINVAL || status == ACCEL_EBUSY, "%d", status);
    CHECK((status == ACCEL_OK) == (c != NULL), "status %d", status);
    if (c) h->cpu[h->cpus++] = c;
}

static void registers(accel_cpu *c, struct input *in) {
    int row = (int16_t)take16(in);
    if (row >= 0) row %= accel_reg_count() + 2;
    size_t size = (size_t)accel_reg_size(row), other = take8(in);
    if (other & 1) size = other >> 1;
    uint8_t *value = calloc(size ? size : 1, 1);
    int status = accel_reg_get(c, row, value, size);
    bool known = row >= 0 && row < accel_reg_count();
    CHECK(status == (!known ? ACCEL_ENOENT : size != (size_t)accel_reg_size(row) ? ACCEL_EINVAL : ACCEL_OK), "get: %d", status);
    for (size_t i = 0; i < size; i++) value[i] ^= take8(in);
    int set = accel_reg_set(c, row, value, size);
    CHECK(set == status || (status == ACCEL_OK && (set == ACCEL_EINVAL || set == ACCEL_EBUSY)), "set: %d", set);
    CHECK((accel_reg_name(row) != NULL) == known, "name");
    free(value);
}

static void msrs(accel_cpu *c, struct input *in) {
    static const uint32_t known[] = {0x10, 0x1b, 0x3b, 0x174, 0x1a0, 0x1d9, 0x200, 0x20f, 0x250, 0x277, 0x2ff, 0xc0000080, 0xc0000100, 0xc0000103};
    uint8_t which = take8(in);
    uint32_t msr = which < sizeof known / sizeof *known ? known[which] : take32(in);
    uint64_t value;
    accel_msr_get(c, msr, &value);
    accel_msr_set(c, msr, number(in));
}

static void control(accel_cpu *c, struct input *in) {
    accel_control *k = accel_cpu_control(c);
    uint8_t at = take8(in), size = 1 + (take8(in) & 15);
    if (at & 0x80) {
        k->inject_valid = 1, k->inject_type = at & 7, k->inject_vector = size ^ take8(in), k->inject_has_error = at >> 3 & 1;
        return;
    }
    for (unsigned i = 0; i < size; i++) ((uint8_t *)k)[(at + i) % sizeof *k] = take8(in);
}

static void run(accel_cpu *c, struct input *in) {
    uint8_t kind = take8(in);
    uint64_t ticks = accel_ticks(c), until = ticks + (kind & 1 ? take16(in) % TICKS_MAX : kind >> 4);
    if (kind & 2) accel_stop(c);
    if (kind & 4) until = number(in);
    if (until > ticks + TICKS_MAX) accel_stop(c); /* returns at once */
    /* an event of the owner's and one in flight are delivered in any case, with a tick each */
    uint64_t events = !!accel_cpu_control(c)->inject_valid + !!accel_cpu_control(c)->inflight_valid;
    accel_exit e;
    int status = accel_run(c, until, &e);
    CHECK(status == ACCEL_OK || status == ACCEL_EBUSY, "%d", status);
    if (status == ACCEL_EBUSY) return;
    CHECK(e.kind < ACCEL_EXIT_KINDS && e.kind != ACCEL_EXIT_DB, "exit %u", e.kind);
    CHECK(accel_ticks(c) - ticks <= TICKS_MAX + 1u && (accel_ticks(c) <= until || accel_ticks(c) <= ticks + events), "%llu ticks",
          (unsigned long long)(accel_ticks(c) - ticks));
    accel_hit hits[4];
    accel_fault chain[2];
    CHECK(accel_watch_hits(c, hits, kind & 3) <= 3 && accel_fault_chain(c, chain, kind >> 2 & 1) <= 1, "too many");
    if (kind & 8) accel_answer(c, take64(in));
}

/* All CPUs in turn, for a few turns. The control blocks stay as they were filled. */
static void turns(struct machine *h, struct input *in) {
    uint8_t kind = take8(in);
    accel_turns t = {.now = kind & 1 ? number(in) : 0, .left = kind & 2 ? 0 : take8(in), .index = kind >> 2 & 3};
    uint64_t quantum = kind >> 4, begin = t.now, bound = kind & 0x80 ? number(in) : begin + take8(in);
    if (bound > begin + TICKS_MAX && h->cpus) accel_stop(h->cpu[0]); /* returns within a round */
    accel_exit e;
    int status = accel_run_turns(h->cpu, h->cpus, quantum, bound, &t, &e);
    CHECK(status >= -1 && status < ACCEL_EXIT_KINDS, "%d", status);
    CHECK(status != -1 || t.turns || (t.now == begin && t.index == (kind >> 2 & 3)), "moved though refused");
    CHECK(!t.turns || (t.index < h->cpus && t.now <= bound), "turn of %u at %llu", t.index, (unsigned long long)t.now);
}

/* Saved states with some bytes changed, the size announced rightly or not. */
static void states(struct shim *s, accel_cpu *c) {
    struct input *in = &s->in;
    size_t size = accel_cpu_save_size();
    uint8_t kind = take8(in);
    if (kind & 1) {
        CHECK(accel_cpu_save(c, s->state, size - 1) == ACCEL_EINVAL, "size");
        int status = accel_cpu_save(c, s->state, size);
        CHECK(status == ACCEL_OK || status == ACCEL_EBUSY, "%d", status);
    }
    for (unsigned i = 0; i < kind >> 4; i++) {
        size_t at = take16(in) % size;
        if (kind & 8) at %= 1600; /* what is not TLB */
        s->state[at] ^= take8(in);
    }
    size_t said = kind & 2 ? take16(in) % (size + 1) : size;
    uint8_t *copy = malloc(said ? said : 1);
    memcpy(copy, s->state, said);
    int status = accel_cpu_load(c, copy, said);
    CHECK(status == ACCEL_OK || status == ACCEL_EINVAL || status == ACCEL_EVERSION, "%d", status);
    CHECK(status != ACCEL_OK || accel_cpu_save(c, s->state, size) == ACCEL_OK, "no state after a load");
    free(copy);
}

static void points(struct machine *h, struct input *in) {
    uint8_t kind = take8(in);
    uint64_t id = take8(in) & 15, address = place(h, in);
    switch (kind & 3) {
    case 0: accel_break_add(h->m, id, (int)(kind >> 2 & 3) - 1, address); break;
    case 1: accel_break_remove(h->m, id); break;
    case 2: accel_watch_add(h->m, id, (int)(kind >> 2 & 3) - 1, address, number(in), (int)(kind >> 4 & 7) - 1); break;
    default: accel_watch_remove(h->m, id); break;
    }
}

/* Code for conditions: mostly of known operations with small operands. */
static size_t take_code(struct input *in, accel_insn *code, size_t max) {
    size_t count = take8(in) % (max + 1);
    for (size_t i = 0; i < count; i++) {
        uint8_t op = take8(in);
        code[i] = (accel_insn){.op = op % (ACCEL_OP_END + 2), .value = op & 0x80 ? number(in) : take8(in)};
    }
    return count;
}

static void conditions(struct machine *h, struct input *in) {
    accel_insn code[24];
    accel_program program = {.code = code};
    uint8_t kind = take8(in);
    uint64_t result, ids[4], hits;
    program.count = take_code(in, code, sizeof code / sizeof *code);
    if (kind & 1) {
        accel_limits limits = {.flags = kind >> 1 & 15, .cpl = take8(in), .cpu = take8(in), .cr3 = number(in), .ignore = kind >> 6,
                               .programs = &program, .program_count = kind >> 5 & 1};
        accel_point_limit(h->m, take8(in) & 15, &limits);
        accel_point_hits(h->m, take8(in) & 15, &hits);
    } else if (h->cpus) {
        int status = accel_evaluate(h->cpu[0], code, program.count, &result);
        CHECK(status == ACCEL_OK || status == ACCEL_EINVAL || status == ACCEL_EFAULT, "%d", status);
        CHECK(accel_break_hits(h->cpu[0], ids, kind >> 6) <= kind >> 6u, "too many");
    }
}

static void branches(accel_cpu *c, struct input *in) {
    uint8_t kind = take8(in);
    if (kind & 1) {
        size_t entries = kind & 2 ? number(in) : kind;
        int status = accel_branch_ring(c, entries);
        CHECK(status == ACCEL_OK || status == (!entries || entries > 1u << 20 ? ACCEL_EINVAL : ACCEL_ENOMEM), "%d for %zu", status, entries);
    }
    accel_cpu_control(c)->branch_trace = kind >> 2 & 1;
    accel_branch *list = malloc((kind + 1u) * sizeof *list);
    size_t n = accel_branches(c, list, kind);
    CHECK(n <= kind && n <= accel_branch_count(c), "%zu branches", n);
    free(list);
}

static void several_registers(accel_cpu *c, struct input *in) {
    int rows[8];
    size_t count = take8(in) & 7, size = 0;
    for (size_t i = 0; i < count; i++) rows[i] = (int8_t)take8(in), size += (size_t)accel_reg_size(rows[i]);
    if (take8(in) & 1) size = take8(in);
    uint8_t *values = malloc(size ? size : 1);
    accel_regs_get(c, rows, count, values, size);
    free(values);
}

static void linear(accel_cpu *c, struct input *in) {
    uint64_t at = number(in), size = take16(in);
    uint8_t *data = malloc(size ? size : 1);
    uint64_t n = accel_linear_read(c, at, data, size);
    CHECK(n <= size, "%llu of %llu", (unsigned long long)n, (unsigned long long)size);
    free(data);
}

static void look(accel_cpu *c, struct input *in) {
    accel_walk w;
    accel_stats stats;
    int status = accel_translate(c, number(in), &w);
    CHECK(status == ACCEL_OK || status == ACCEL_EFAULT, "%d", status);
    accel_stats_get(c, &stats);
    CHECK(accel_retired(c) <= accel_ticks(c) || stats.runs < ~0ull, "retired");
}

static void names(struct input *in) {
    char name[8] = {0};
    for (unsigned i = 0; i + 1 < sizeof name; i++) name[i] = (char)take8(in);
    int row = accel_reg_find(name);
    CHECK(row < accel_reg_count() && (row < 0 || !strcmp(accel_reg_name(row), name)), "row %d", row);
    CHECK(!accel_row_name((int)take32(in) | 1 << 30), "a row without end");
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

enum { ADD_SLOT, REMOVE_SLOT, ACCESS, CODE, EPOCHS, ADD_CPU, A20, POINTS, NAMES, CONDITIONS, TURNS, FREE, FIRST_CPU_CALL,
       REGISTERS = FIRST_CPU_CALL, MSRS, CONTROL, RUN, RUN_AGAIN, STATES, LOOK, RESET, ANSWER, BRANCHES, SEVERAL, LINEAR, CALLS };

static void machine_call(struct machine *h, struct input *in, unsigned call) {
    switch (call) {
    case ADD_SLOT: add_slot(h, in); break;
    case REMOVE_SLOT: remove_slot(h, in); break;
    case ACCESS: access(h, in); break;
    case CODE: load_code(h, in); break;
    case EPOCHS: epochs(h, in); break;
    case ADD_CPU: add_cpu(h, in); break;
    case A20: accel_a20(h->m, take8(in)); break;
    case POINTS: points(h, in); break;
    case NAMES: names(in); break;
    case CONDITIONS: conditions(h, in); break;
    case TURNS: turns(h, in); break;
    default: close_machine(h); break;
    }
}

static void cpu_call(struct shim *s, accel_cpu *c, unsigned call) {
    struct input *in = &s->in;
    switch (call) {
    case REGISTERS: registers(c, in); break;
    case MSRS: msrs(c, in); break;
    case CONTROL: control(c, in); break;
    case RUN: case RUN_AGAIN: run(c, in); break;
    case STATES: states(s, c); break;
    case LOOK: look(c, in); break;
    case BRANCHES: branches(c, in); break;
    case SEVERAL: several_registers(c, in); break;
    case LINEAR: linear(c, in); break;
    case RESET: accel_cpu_reset(c, take8(in) & 1); break;
    default: accel_answer(c, take64(in)); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct shim s = {.in = {data, size}};
    s.state = calloc(1, accel_cpu_save_size());
    for (unsigned calls = 0; s.in.left && calls < CALLS_MAX; calls++) {
        uint8_t call = take8(&s.in), which = call / CALLS;
        struct machine *h = &s.list[which & 1];
        call %= CALLS;
        if (!h->m) open_machine(h);
        if (call < FIRST_CPU_CALL) machine_call(h, &s.in, call);
        else if (h->cpus) cpu_call(&s, h->cpu[(which >> 1) % h->cpus], call);
    }
    for (unsigned i = 0; i < MACHINES; i++) close_machine(&s.list[i]);
    free(s.state);
    return 0;
}
