/*
 * fuzz_program.c - fuzzer of whole programs: random bytes in every mode, run three ways that must end alike.
 *
 *     blocks    as far as each run goes
 *     ticks     one tick at a time
 *     debugged  in runs of random length, with breakpoints, watches, monitor trap, intercepts that are handed back, stop
 *               requests, look-ups, and states saved and loaded in between
 *
 * The three see the same events at the same ticks and the same answers from devices; afterwards the saved states of the
 * CPUs, all memory and everything that left for devices must be equal. Also checked: the accounting of every run, and
 * what the core keeps besides its state (mode key, fast TLB).
 *
 *     input: struct setup | parameters | up to 6 happenings of 6 bytes | the program
 */
#include "board.h"
#include "input.h"
#include "mxcsr.h"

enum variant { BLOCKS, TICKS, DEBUGGED, VARIANTS };
enum { HAPPENINGS = 6, RUNS_PER_TICK = 64, MASKED_HOST_MXCSR = 0x1f80, HOST_MXCSR_FLAGS = 0x3f };

/* What comes from outside at a tick. */
enum { INJECT_INTR, INJECT_EXCEPTION, INJECT_SOFT, NMI, INTR_LINE, A20, DMA, WRITE_REGISTER, ACTIONS };
struct happening { u32 after; u8 action, vector, cpu; u16 value; };

struct plan {
    struct setup setup;
    struct happening list[HAPPENINGS];
    unsigned count;
    u32 length;            /* ticks after the last happening */
    u32 quantum;           /* ticks of one CPU before the other's turn */
    u8 hlt_exit, pause_exit, tpr_threshold;
    u32 pause_cost;
    u64 devices;           /* seed of what devices answer */
    u64 debugger;          /* seed of what the debugger does */
};

struct run {
    struct board *b;
    const struct plan *plan;
    enum variant variant;
    u64 log;               /* hash of what left for devices */
    u64 random;            /* the debugger's */
    u8 vector[BOARD_CPUS]; /* of the asserted interrupt */
    bool ended[BOARD_CPUS];
    bool broken[BOARD_CPUS]; /* ended within an instruction: nothing may happen to it any more */
    u64 trapped_at[BOARD_CPUS]; /* ticks at the last monitor trap */
};

struct outcome { u64 log, memory, ticks[BOARD_CPUS]; u32 kind[BOARD_CPUS]; u8 *state[BOARD_CPUS]; };

/* ---- the plan --------------------------------------------------------------------------------------------------- */

static void take_setup(struct input *in, struct setup *s) {
    s->mode = take8(in) % MODES;
    u8 b = take8(in);
    s->model = b & 3 ? ACCEL_MODEL_MAX : b >> 2 & 3;
    s->cpl = b >> 4 & 1;
    s->cpus = b >> 5 == 7 ? 2 : 1;
    s->cr0 = (u64)take8(in) << 16 | take8(in);
    s->cr0 = (s->cr0 & (CR0_WP | CR0_AM | CR0_TS | CR0_MP)) | (s->cr0 & 0xff0000 ? 0 : s->cr0 & CR0_EM);
    s->cr4 = take32(in) & 0x7fffff;
    s->seed = take32(in);
    s->flags = take32(in);
    s->start = take16(in) & 0x7ff;
    for (int i = 0; i < 3; i++) {
        u16 at = take16(in);
        u8 bit = take8(in);
        s->entry[i].at = at;
        s->entry[i].flip = bit < 64 ? BIT(bit) : 0;
    }
    u8 kinds = take8(in);
    s->dr7 = 0x400;
    for (int i = 0; i < 4; i++) {
        u16 at = take16(in);
        s->dr[i] = at;
        if (kinds >> i & 1) s->dr7 |= 2ull << (2 * i) | (u64)(at & 15) << (16 + 4 * i);
    }
}

static void take_plan(struct input *in, struct plan *p) {
    memset(p, 0, sizeof *p);
    take_setup(in, &p->setup);
    u8 b = take8(in);
    p->count = (b & 7) % (HAPPENINGS + 1);
    p->hlt_exit = b >> 3 & 1, p->pause_exit = b >> 4 & 1;
    p->tpr_threshold = b >> 5 == 5 ? 8 : 0;
    p->pause_cost = take8(in) & 0x3f;
    p->length = 16 + take8(in) * 2u;
    p->quantum = 1 + take8(in);
    p->devices = take16(in);
    p->debugger = take32(in);
    for (unsigned i = 0; i < p->count; i++) {
        struct happening *h = &p->list[i];
        h->after = take8(in);
        h->action = take8(in) % ACTIONS;
        h->vector = take8(in);
        h->cpu = take8(in) % p->setup.cpus;
        h->value = take16(in);
    }
    p->setup.program = in->at;
    p->setup.size = in->left;
}

/* ---- devices and events ------------------------------------------------------------------------------------------- */

/* FUZZ_TRACE in the environment: every run is printed, and all that counts as output. */
static bool printing(void) {
    static int on = -1;
    if (on < 0) on = getenv("FUZZ_TRACE") != NULL;
    return on;
}

static void note(struct run *r, accel_cpu *c, u64 a, u64 b) {
    if (printing()) fprintf(stderr, "%d/%u tick %llu note %llx %llx\n", r->variant, c->index, (unsigned long long)c->ticks, (unsigned long long)a, (unsigned long long)b);
    r->log = mix(r->log ^ mix(a ^ mix(b ^ mix(accel_ticks(c) ^ c->index))));
}

static void inject(accel_cpu *c, u8 type, u8 vector, bool has_error, u32 error, u32 length) {
    accel_control *k = &c->ctl;
    k->inject_type = type, k->inject_vector = vector, k->inject_has_error = has_error;
    k->inject_error = error, k->inject_length = length;
    k->inject_valid = 1;
}

/* An answer depends on what is asked and when, so it is the same however the run is cut. */
static void answer(struct run *r, accel_cpu *c, const accel_exit *e, u64 address) {
    u64 v = mix(r->plan->devices ^ mix(address ^ accel_ticks(c) << 16 ^ (u64)c->answer_count << 8 ^ e->size));
    if (e->kind == ACCEL_EXIT_RDMSR || e->kind == ACCEL_EXIT_WRMSR) {
        note(r, c, e->number, e->kind == ACCEL_EXIT_WRMSR ? e->value : 0);
        if (v & 1) {
            inject(c, ACCEL_EV_EXCEPTION, EX_GP, true, 0, 0);
            return;
        }
    }
    CHECK(accel_answer(c, v) == ACCEL_OK, "answer refused");
}

static void io(struct run *r, accel_cpu *c, const accel_exit *e) {
    u64 address = e->kind == ACCEL_EXIT_INOUT ? e->number : e->gpa;
    CHECK(e->size >= 1 && e->size <= 8, "a device access of %u bytes", e->size);
    note(r, c, address ^ (u64)e->kind << 56, e->write ? e->value : e->size);
    if (!e->write) answer(r, c, e, address);
}

static void hand_back(accel_cpu *c, const accel_exit *e) {
    if (e->vector == EX_PF) c->cr2 = e->value;
    inject(c, (u8)e->number, e->vector, e->has_error, e->error, e->inst_length);
}

/* The CPU cannot go on by itself. */
static void end(struct run *r, accel_cpu *c, struct outcome *out, u32 kind) {
    note(r, c, kind, 0);
    r->ended[c->index] = true;
    r->broken[c->index] = kind == ACCEL_EXIT_UNHANDLED || kind == ACCEL_EXIT_UNIMPLEMENTED;
    out->kind[c->index] = kind;
}

static void handle(struct run *r, accel_cpu *c, const accel_exit *e, struct outcome *out) {
    accel_control *k = &c->ctl;
    switch (e->kind) {
    case ACCEL_EXIT_INOUT: case ACCEL_EXIT_MMIO: io(r, c, e); break;
    case ACCEL_EXIT_RDMSR: case ACCEL_EXIT_WRMSR: answer(r, c, e, e->number); break;
    case ACCEL_EXIT_CR8: note(r, c, e->kind, e->value); break;
    case ACCEL_EXIT_HLT: case ACCEL_EXIT_PAUSE: case ACCEL_EXIT_TSC: note(r, c, e->kind, 0); break;
    case ACCEL_EXIT_TPR: note(r, c, e->kind, 0), k->tpr_threshold = 0; break;
    case ACCEL_EXIT_BPT:
        if (e->source == ACCEL_BPT_SET) k->skip_breakpoint = 1;
        else inject(c, ACCEL_EV_SW_EXCEPTION, EX_BP, false, 0, e->bpt_length);
        break;
    case ACCEL_EXIT_EXCEPTION: hand_back(c, e); break;
    case ACCEL_EXIT_IRQ_WINDOW:
        if (k->irq_window) {
            k->irq_window = 0;
            break;
        }
        note(r, c, e->kind, 0);
        k->intr_line = 0;
        inject(c, ACCEL_EV_HWINTR, r->vector[c->index], false, 0, 0);
        break;
    case ACCEL_EXIT_NMI_WINDOW: k->nmi_window = 0; break;
    case ACCEL_EXIT_WAIT: case ACCEL_EXIT_TRIPLE_FAULT: case ACCEL_EXIT_UNHANDLED: case ACCEL_EXIT_UNIMPLEMENTED: end(r, c, out, e->kind); break;
    case ACCEL_EXIT_DEADLINE: case ACCEL_EXIT_KICK: case ACCEL_EXIT_MTRAP: case ACCEL_EXIT_WATCH: break;
    default: CHECK(false, "exit %u", e->kind);
    }
}

static void happen(struct run *r, const struct happening *h) {
    accel_cpu *c = r->b->cpu[h->cpu];
    if (r->broken[h->cpu]) return;
    r->ended[h->cpu] = false;
    switch (h->action) {
    case INJECT_INTR: inject(c, ACCEL_EV_HWINTR, h->vector, false, 0, 0); break;
    case INJECT_EXCEPTION: inject(c, ACCEL_EV_EXCEPTION, h->vector & 31, h->value & 1, h->value >> 1, 0); break;
    case INJECT_SOFT: inject(c, h->value & 1 ? ACCEL_EV_SWINTR : ACCEL_EV_PRIV_SW_EXCEPTION, h->vector, false, 0, h->value >> 8 & 15); break;
    case NMI: c->ctl.nmi_pending = 1; break;
    case INTR_LINE: c->ctl.intr_line = 1, r->vector[h->cpu] = h->vector; break;
    case A20: accel_a20(r->b->m, h->value & 1); break;
    case DMA: accel_phys_write(r->b->m, PROGRAM + (h->value & 0xfff), h, sizeof *h, ACCEL_ORIGIN_DMA); break;
    default: {
        u64 v = mix(h->value);
        int row = h->vector % accel_reg_count(), size = accel_reg_size(row);
        u8 bytes[32];
        for (int i = 0; i < 32; i++) bytes[i] = (u8)(v >> (8 * (i & 7)));
        if (h->value & 0x8000) memset(bytes + 1, 0, sizeof bytes - 1);
        accel_reg_set(c, row, bytes, (size_t)size);
    }
    }
}

/* ---- the debugger ---------------------------------------------------------------------------------------------------- */

static bool chance(struct run *r, unsigned one_in) { return draw(&r->random) % one_in == 0; }

static void save_and_load(accel_cpu *c) {
    size_t size = accel_cpu_save_size();
    u8 *state = malloc(size), *again = malloc(size);
    int status = accel_cpu_save(c, state, size);
    CHECK(status == ACCEL_OK, "save: %d", status);
    CHECK(accel_cpu_load(c, state, size) == ACCEL_OK, "a saved state is refused");
    CHECK(accel_cpu_save(c, again, size) == ACCEL_OK && !memcmp(state, again, size), "a loaded state is another one");
    free(state);
    free(again);
}

/* A condition that looks at the guest, and limits. */
static int narrow(struct run *r, u64 id) {
    u64 v = draw(&r->random);
    const accel_insn code[] = {
        {.op = ACCEL_OP_REGISTER, .value = v >> 8 & 7}, {.op = ACCEL_OP_LOAD, .value = 1u << (v >> 16 & 3)},
        {.op = ACCEL_OP_CONSTANT, .value = v >> 20 & 1}, {.op = ACCEL_OP_AND}, {.op = ACCEL_OP_END},
    };
    const accel_program program = {.code = code, .count = sizeof code / sizeof *code};
    const accel_limits limits = {.flags = v & 7, .cpl = v >> 32 & 3, .cpu = v >> 34 & 1, .cr3 = 0x5000, .ignore = v >> 40 & 3, .programs = &program,
                                 .program_count = v >> 50 & 1};
    return accel_point_limit(r->b->m, id, &limits);
}

static void change_points(struct run *r, accel_cpu *c) {
    u64 v = draw(&r->random), at = v & 1 ? PROGRAM + (v >> 8 & 0xfff) : v >> 8 & 0x21fff;
    if (v >> 60 & 1) at = c->rip + (v >> 8 & 15);
    switch (v >> 61) {
    case 0: case 1: case 2: accel_break_add(r->b->m, v >> 32 & (POINT_IDS - 1), v >> 2 & 1, at); break;
    case 3: chance(r, 2) ? narrow(r, v >> 32 & (POINT_IDS - 1)) : accel_break_remove(r->b->m, v >> 32 & (POINT_IDS - 1)); break;
    case 4: case 5: accel_watch_add(r->b->m, v >> 32 & (POINT_IDS - 1), v >> 2 & 1, at, 1 + (v >> 40 & 63), 1 + (int)((v >> 50) % 3)); break;
    case 6: accel_watch_remove(r->b->m, v >> 32 & (POINT_IDS - 1)); break;
    default: accel_epoch_next(r->b->m); break;
    }
}

static void look_around(struct run *r, accel_cpu *c) {
    accel_walk w;
    u8 bytes[64];
    u64 lin = draw(&r->random) & 0x4fffff, pages[8];
    if (accel_translate(c, lin, &w) == ACCEL_OK) accel_phys_read(r->b->m, w.gpa, bytes, 1 + lin % sizeof bytes);
    accel_pages_changed(r->b->m, 1, lin >> 16, pages, 8);
    accel_linear_read(c, lin, bytes, 1 + lin % sizeof bytes);
    for (int i = 0; i < accel_reg_count(); i++) CHECK(accel_reg_get(c, i, bytes, (size_t)accel_reg_size(i)) == ACCEL_OK, "register %d", i);
}

/* Before a run: what must not change it. */
static void debug(struct run *r, accel_cpu *c) {
    accel_control *k = &c->ctl;
    if (chance(r, 4)) k->monitor_trap = chance(r, 3);
    if (chance(r, 8)) k->step_range = chance(r, 2), k->step_start = c->rip, k->step_end = c->rip + (draw(&r->random) & 31);
    if (chance(r, 8)) k->bpt_exit = chance(r, 2), k->exception_exit = chance(r, 2) ? (u32)draw(&r->random) : 0;
    if (chance(r, 16)) k->branch_trace = chance(r, 2);
    if (chance(r, 8)) k->irq_window = 1;
    if (chance(r, 8)) k->nmi_window = 1;
    if (chance(r, 6)) change_points(r, c);
    if (chance(r, 12)) look_around(r, c);
    if (chance(r, 30)) save_and_load(c);
    if (chance(r, 16)) accel_stop(c);
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

/* What follows from the state is as if it had just been worked out. */
static void check_derived(accel_cpu *c) {
    u32 key = c->key;
    struct ftlb_entry *view = c->ft;
    update_mode(c);
    CHECK(c->key == key, "mode key %x, should be %x", key, c->key);
    CHECK(c->ft == view, "view %d of the fast TLB", (int)((view - c->ftlb[0]) / FTLB_SIZE));
    CHECK(c->r[R_ZERO] == 0 && c->r[R_4096] == 4096, "constants");
    CHECK(!(c->flags & F_VM) || (c->cpl == 3 && (c->cr0 & CR0_PE)), "VM with CPL %u", c->cpl);
    CHECK((c->cr0 & CR0_PE) || c->cpl == 0, "CPL %u without protection", c->cpl);
    CHECK(is_code64(c) || c->rip >> 32 == 0, "rip %llx outside 64-bit code", (unsigned long long)c->rip);
    CHECK((mxcsr_of_host() & ~(u32)HOST_MXCSR_FLAGS) == MASKED_HOST_MXCSR && !c->fp_live, "the host's MXCSR is %x", mxcsr_of_host());
}

/* An entry of the fast half stands for a live entry of the architectural half. */
static void check_fast_tlb(const accel_cpu *c) {
    for (int view = 0; view < FT_VIEWS; view++)
        for (unsigned i = 0; i < FTLB_SIZE; i++) {
            const struct ftlb_entry *e = &c->ftlb[view][i];
            u64 lin = e->rtag != FTLB_NONE ? e->rtag : e->wtag;
            if (lin == FTLB_NONE) continue;
            u8 *host = NULL;
            bool found = false;
            u64 vpn = lin >> 12;
            for (unsigned k = 0; k < DTLB_SIZE && !found; k++) {
                const struct tlb_entry *t = &c->dtlb[k];
                bool live = (t->flags & TLB_VALID) && t->gen == (t->flags & TLB_GLOBAL ? c->tlb_ggen : c->tlb_gen[t->pcid]);
                found = live && t->vpn == vpn && phys_page(c->m, t->pfn << 12 & c->m->a20_mask, &host) && (u8 *)(lin + e->addend) == host;
            }
            CHECK(found || !(c->cr0 & CR0_PG), "view %d holds %llx", view, (unsigned long long)lin);
        }
}

static void check_run(const accel_cpu *c, const accel_exit *e, u64 before, u64 until, bool injected, u64 retired) {
    u64 now = c->ticks, limit = (until > before ? until : before) + injected;
    CHECK(now >= before && now <= limit, "%llu ticks, then %llu, until %llu, exit %u", (unsigned long long)before, (unsigned long long)now,
          (unsigned long long)until, e->kind);
    CHECK(accel_retired((accel_cpu *)c) >= retired && accel_retired((accel_cpu *)c) - retired <= now - before, "retired");
    CHECK(e->kind < ACCEL_EXIT_KINDS && e->rip == c->rip, "exit %u at %llx", e->kind, (unsigned long long)e->rip);
    CHECK(e->kind != ACCEL_EXIT_DEADLINE || now >= c->until, "deadline at %llu of %llu", (unsigned long long)now, (unsigned long long)c->until);
}

/* A monitor trap tells of a tick since the last one. (A device write of that tick is reported first, by a run of its own.) */
static void check_trap(struct run *r, const accel_cpu *c, const accel_exit *e) {
    if (e->kind != ACCEL_EXIT_MTRAP) return;
    CHECK(c->ticks > r->trapped_at[c->index], "MTRAP without a tick");
    r->trapped_at[c->index] = c->ticks;
}

/* The instruction under way has been answered, or not all that it wrote has left: nothing else may happen. */
static bool half_done(const accel_cpu *c) { return c->answer_count || c->answer_wanted || c->io_count; }

static void print_run(const struct run *r, const accel_cpu *c, const accel_exit *e) {
    fprintf(stderr, "%d/%u tick %llu exit %u rip %llx cs %x flags %x rax %llx rcx %llx rsp %llx number %x\n", r->variant, c->index,
            (unsigned long long)c->ticks, e->kind, (unsigned long long)e->rip, c->seg[SEG_CS].sel, get_rflags(c), (unsigned long long)c->r[0],
            (unsigned long long)c->r[1], (unsigned long long)c->r[4], e->number);
}

static void run_to(struct run *r, accel_cpu *c, u64 end, struct outcome *out) {
    u64 start = c->ticks;
    unsigned runs = 0;
    while ((c->ticks < end || half_done(c)) && !r->ended[c->index]) {
        u64 until = r->variant == BLOCKS ? end : r->variant == TICKS ? c->ticks + 1 : c->ticks + draw(&r->random) % 40;
        if (until > end) until = end;
        if (half_done(c)) until = c->ticks + 1;
        else if (r->variant == DEBUGGED) debug(r, c);
        u64 before = c->ticks, retired = accel_retired(c);
        bool injected = c->ctl.inject_valid;
        accel_exit e;
        int status = accel_run(c, until, &e);
        CHECK(status == ACCEL_OK, "status %d", status);
        if (printing()) print_run(r, c, &e);
        check_run(c, &e, before, until, injected, retired);
        check_trap(r, c, &e);
        check_derived(c);
        handle(r, c, &e, out);
        CHECK(++runs < RUNS_PER_TICK * (end - start + 2), "no progress at exit %u", e.kind);
    }
}

static void settle(accel_cpu *c) {
    accel_control *k = &c->ctl;
    k->monitor_trap = k->step_range = k->bpt_exit = k->branch_trace = k->irq_window = k->nmi_window = 0;
    k->exception_exit = 0;
    atomic_store(&c->stop, 0);
    check_fast_tlb(c);
}

/* Both CPUs in turn, up to `ticks` more. */
static void run_for(struct run *r, u64 ticks, struct outcome *out) {
    u64 end[BOARD_CPUS];
    for (unsigned i = 0; i < r->plan->setup.cpus; i++) end[i] = r->b->cpu[i]->ticks + ticks;
    for (u64 done = 0; done < ticks; done += r->plan->quantum)
        for (unsigned i = 0; i < r->plan->setup.cpus; i++) {
            u64 to = r->b->cpu[i]->ticks + r->plan->quantum;
            run_to(r, r->b->cpu[i], to < end[i] ? to : end[i], out);
        }
}

static void run_variant(struct board *b, const struct plan *p, enum variant variant, struct outcome *out) {
    struct run r = {.b = b, .plan = p, .variant = variant, .random = p->debugger};
    memset(out, 0, sizeof *out);
    board_set_up(b, &p->setup);
    for (unsigned i = 0; i < p->setup.cpus; i++) {
        accel_control *k = &b->cpu[i]->ctl;
        k->hlt_exit = p->hlt_exit, k->pause_exit = p->pause_exit, k->tpr_threshold = p->tpr_threshold, k->pause_cost = p->pause_cost;
    }
    for (unsigned i = 0; i < p->count; i++) {
        run_for(&r, p->list[i].after, out);
        happen(&r, &p->list[i]);
    }
    run_for(&r, p->length, out);
    out->log = r.log;
    for (unsigned i = 0; i < p->setup.cpus; i++) {
        settle(b->cpu[i]);
        size_t size = accel_cpu_save_size();
        out->state[i] = malloc(size);
        out->ticks[i] = b->cpu[i]->ticks;
        int status = accel_cpu_save(b->cpu[i], out->state[i], size);
        if (status == ACCEL_EBUSY) memset(out->state[i], 0, size);
        CHECK(status == ACCEL_OK || r.ended[i], "save: %d", status);
    }
    out->memory = board_memory_hash(b);
}

static void compare(const struct plan *p, const struct outcome *a, const struct outcome *b, int variant) {
    size_t size = accel_cpu_save_size();
    for (unsigned i = 0; i < p->setup.cpus; i++) {
        CHECK(a->ticks[i] == b->ticks[i] && a->kind[i] == b->kind[i], "variant %d: CPU %u ends with %u at tick %llu, with %u at %llu", variant, i,
              a->kind[i], (unsigned long long)a->ticks[i], b->kind[i], (unsigned long long)b->ticks[i]);
        size_t at = 0;
        while (at < size && a->state[i][at] == b->state[i][at]) at++;
        CHECK(at == size, "variant %d: the state of CPU %u differs at %zu: %x and %x", variant, i, at, a->state[i][at], b->state[i][at]);
    }
    CHECK(a->memory == b->memory, "variant %d: memory differs", variant);
    CHECK(a->log == b->log, "variant %d: what devices saw differs", variant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct board board;
    struct input in = {data, size};
    struct plan plan;
    struct outcome outcome[VARIANTS];
    take_plan(&in, &plan);
    for (int v = 0; v < VARIANTS; v++) run_variant(&board, &plan, v, &outcome[v]);
    for (int v = 1; v < VARIANTS; v++) compare(&plan, &outcome[0], &outcome[v], v);
    for (int v = 0; v < VARIANTS; v++)
        for (unsigned i = 0; i < plan.setup.cpus; i++) free(outcome[v].state[i]);
    return 0;
}
