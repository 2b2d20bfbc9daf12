/*
 * block.c - the cache of decoded blocks, keyed by physical address and mode, and its invalidation.
 *
 * A block lies in one page, except that an instruction which crosses a page is a block of its own: so a running block
 * never needs a second fetch translation. Killing a block makes entering it unaffordable (COST_DEAD), which every link
 * notices in the budget check it does anyway, and turns its ops into h_stale, which a running copy meets next.
 */
#include "exec.h"
#include "trace.h"

enum { LONG_LIST = 1000 }; /* blocks of a page whose walk takes some microseconds */
const struct block block_none = {.cost = COST_DEAD, .pa2 = ~0ull};
op_fn h_stale, h_break_check, h_fall_through, h_undefined, h_jmp_E_64_r, h_jmp_E_64_f, h_jmp_E_64_x, h_call_E_64_r, h_call_E_64_f, h_call_E_64_x;

static u32 hash_of(const accel_machine *m, u64 pa, u32 key) {
    u64 h = (pa ^ (u64)key << 44 ^ key) * 0x9e3779b97f4a7c15ull;
    return (u32)(h >> 40) & m->hash_mask;
}

struct block *block_find(accel_cpu *c, u64 pa, u32 key) {
    accel_machine *m = c->m;
    for (u32 i = m->hash[hash_of(m, pa, key)]; i; i = m->blocks[i - 1].hash_next)
        if (m->blocks[i - 1].pa == pa && m->blocks[i - 1].key == key) return &m->blocks[i - 1];
    return NULL;
}

void block_flush_all(accel_machine *m) {
    for (u32 i = 0; i < m->cpu_count; i++) trace_keep(m->cpus[i]);
    memset(m->hash, 0, (m->hash_mask + 1) * sizeof *m->hash);
    for (u32 i = 0; i < m->block_count; i++) {
        uint8_t *host;
        for (int k = 0; k < 2; k++) {
            u64 pa = k ? m->blocks[i].pa2 : m->blocks[i].pa;
            struct page *p = pa == ~0ull ? NULL : phys_page(m, pa, &host);
            if (p) p->lines = 0, p->blocks = 0, p->flags &= ~PG_CODE;
        }
    }
    m->block_count = m->op_count = m->bp_blocks = 0;
    for (u32 i = 0; i < m->cpu_count; i++) {
        m->cpus[i]->link_slot = NULL;
        fetch_flush(m->cpus[i]);
        memset(m->cpus[i]->jump, 0, sizeof m->cpus[i]->jump);
        m->cpus[i]->stats.flushes++;
    }
}

/* ---- killing ------------------------------------------------------------------------------------------- */

static u64 lines_of(unsigned first, unsigned size) {
    unsigned a = first >> 6, b = (first + size - 1) >> 6;
    return (b >= 63 ? ~0ull : BIT(b + 1) - 1) & ~(BIT(a) - 1);
}

/* The part of block b in the page at `page`: offset and size there. */
static void part_in_page(const struct block *b, u64 page, unsigned *off, unsigned *size) {
    unsigned start = b->pa & 0xfff, in_first = 4096 - start;
    if ((b->pa & PAGE_MASK) == page) {
        *off = start;
        *size = b->bytes < in_first ? b->bytes : in_first;
    } else {
        *off = 0;
        *size = b->bytes - in_first;
    }
}

/* The link of b in the list of the page that holds pa: its first or its second one. */
static u32 *next_in_page(struct block *b, u64 pa) {
    return (b->pa & PAGE_MASK) == (pa & PAGE_MASK) ? &b->page_next : &b->page2_next;
}

static void unlist(accel_machine *m, u64 pa, u32 number) {
    uint8_t *host;
    struct page *p = phys_page(m, pa, &host);
    if (!p) return;
    u32 *at = &p->blocks;
    while (*at && *at != number) at = next_in_page(&m->blocks[*at - 1], pa);
    if (*at) *at = *next_in_page(&m->blocks[number - 1], pa);
}

static void relist_lines(accel_machine *m, u64 pa) {
    uint8_t *host;
    struct page *p = phys_page(m, pa, &host);
    if (!p) return;
    p->lines = 0;
    for (u32 i = p->blocks; i;) {
        struct block *b = &m->blocks[i - 1];
        unsigned off, size;
        part_in_page(b, pa & PAGE_MASK, &off, &size);
        p->lines |= lines_of(off, size);
        if (b->pa2 == (pa & PAGE_MASK) && off && b->bytes > size) p->lines |= lines_of(0, b->bytes - size);
        i = *next_in_page(b, pa);
    }
    if (!p->blocks) p->flags &= ~PG_CODE;
}

/* Takes b out of use; the lists of its pages are the caller's. */
static void kill_block(accel_machine *m, struct block *b) {
    u32 number = (u32)(b - m->blocks) + 1;
    u32 *at = &m->hash[hash_of(m, b->pa, b->key)];
    while (*at && *at != number) at = &m->blocks[*at - 1].hash_next;
    if (*at) *at = b->hash_next;
    b->cost = COST_DEAD;
    b->dead = true;
    for (unsigned i = 0; i < b->op_count; i++) b->ops[i].fn = h_stale;
    for (u32 i = 0; i < m->cpu_count; i++) {
        m->cpus[i]->stats.smc_kills++;
        if (m->cpus[i]->block == b) m->cpus[i]->attention |= ATT_SMC;
    }
}

static void drop_from_page(accel_machine *m, u64 pa, const struct block *b) {
    unlist(m, pa, (u32)(b - m->blocks) + 1);
    relist_lines(m, pa);
}

/* Whether b has a byte in [first, first + size) of the page. A block that crosses into an alias of its own page has two parts there. */
static bool block_in_range(const struct block *b, u64 page, unsigned first, unsigned size) {
    unsigned off, n;
    part_in_page(b, page, &off, &n);
    if (first < off + n && off < first + size) return true;
    return b->pa2 == page && (b->pa & PAGE_MASK) == page && off + n == 4096 && first < b->bytes - n;
}

void block_kill_range(accel_machine *m, u64 pa, unsigned size) {
    uint8_t *host;
    struct page *p = phys_page(m, pa, &host);
    if (!p || !(p->lines & lines_of(pa & 0xfff, size))) return;
    u64 page = pa & PAGE_MASK;
    unsigned steps = 0;
    bool any = false;
    for (u32 *at = &p->blocks; *at; steps++) {
        struct block *b = &m->blocks[*at - 1];
        u32 *next = next_in_page(b, pa);
        if (!block_in_range(b, page, pa & 0xfff, size)) {
            at = next;
            continue;
        }
        *at = *next;
        kill_block(m, b);
        u64 other = (b->pa & PAGE_MASK) == page ? b->pa2 : b->pa & PAGE_MASK;
        if (other != ~0ull && other != page) drop_from_page(m, other, b);
        any = true;
    }
    if (any) relist_lines(m, pa);
    if (steps > LONG_LIST) /* a guest can make this the whole of its time: let the run loop see to stop requests */
        for (u32 i = 0; i < m->cpu_count; i++) m->cpus[i]->attention |= ATT_SMC;
}

void block_kill_bp(accel_machine *m) {
    for (u32 i = m->bp_blocks, next; i; i = next) {
        struct block *b = &m->blocks[i - 1];
        next = b->bp_next;
        if (b->dead) continue;
        kill_block(m, b);
        drop_from_page(m, b->pa, b);
        if (b->pa2 != ~0ull) drop_from_page(m, b->pa2, b);
    }
    m->bp_blocks = 0;
    for (u32 i = 0; i < m->cpu_count; i++) fetch_flush(m->cpus[i]);
}

/* ---- making ---------------------------------------------------------------------------------------------- */

static void mark_code(accel_machine *m, u64 pa, unsigned size) {
    uint8_t *host;
    struct page *p = phys_page(m, pa, &host);
    if (!(p->flags & PG_CODE)) {
        p->flags |= PG_CODE;
        page_revoke(m, pa);
    }
    p->lines |= lines_of(pa & 0xfff, size);
}

/* The bytes of an instruction that crosses into the next page. */
struct fetch { u8 bytes[16]; unsigned avail; u64 pa2; };

static bool fetch_cross(accel_cpu *c, u64 lin, u64 pa, struct fetch *f) {
    unsigned here = 4096 - (pa & 0xfff);
    u64 next = lin + here;
    if (!is_code64(c)) next &= 0xffffffff;
    if (!mmu_fetch(c, next, &f->pa2)) return false;
    u8 *host;
    phys_page(c->m, pa, &host);
    memcpy(f->bytes, host + (pa & 0xfff), here);
    if (phys_page(c->m, f->pa2, &host)) memcpy(f->bytes + here, host, 15 - here);
    else memset(f->bytes + here, 0xff, 15 - here);
    f->avail = 15;
    return true;
}

static struct block *new_block(accel_cpu *c) {
    accel_machine *m = c->m;
    if (m->block_count == m->block_max || m->op_count + BLOCK_OPS + 1 + TARGET_SLOTS > m->op_max) block_flush_all(m);
    struct block *b = &m->blocks[m->block_count++];
    *b = (struct block){.ops = &m->ops[m->op_count], .pa2 = ~0ull};
    return b;
}

/* Displacements that count from the instruction now count from the start of the block. False: they do not fit. */
static bool rebase(struct decoded *d, unsigned off) {
    unsigned next = off + d->op.len;
    if (d->relative) d->op.imm += next;
    if (d->op.base != R_RIP) return true;
    int64_t disp = (int64_t)d->op.disp + next;
    if (disp > INT32_MAX) {
        if (d->op.index != R_ZERO) return false;
        d->op.index = R_4096;
        disp -= 4096;
        d->op.fn = decode_slow_form(d);
    }
    d->op.disp = (int32_t)disp;
    return true;
}

static void put_op(accel_machine *m, struct block *b, struct op op, u16 row) {
    m->op_rows[m->op_count] = row;
    m->ops[m->op_count++] = op;
    b->op_count++;
}

static void put_link(accel_machine *m) {
    struct link l = {.to = {(struct block *)&block_none, (struct block *)&block_none}};
    memcpy(&m->ops[m->op_count++], &l, sizeof l);
}

static void put_targets(accel_machine *m) {
    struct targets t = {.gen = 0};
    memcpy(&m->ops[m->op_count], &t, sizeof t);
    m->op_count += TARGET_SLOTS;
}

static bool is_indirect(op_fn *fn) {
    static op_fn *const fast[] = {h_jmp_E_64_r, h_jmp_E_64_f, h_jmp_E_64_x, h_call_E_64_r, h_call_E_64_f, h_call_E_64_x};
    for (unsigned i = 0; i < sizeof fast / sizeof *fast; i++)
        if (fast[i] == fn) return true;
    return false;
}

/* Branch ops learn here whether their successors lie in another page (o->scale, o->vvvv), and the last op may need a
 * hand-over to the code behind it. */
static void finish_block(accel_machine *m, struct block *b, const struct decoded *d) {
    struct op *last = &m->ops[m->op_count - 1];
    unsigned start = b->pa & 0xfff;
    bool indirect = d->ends && is_indirect(last->fn);
    if (!d->ends) {
        struct op fall = {.fn = h_fall_through, .idx = (u8)b->n, .off = b->bytes, .imm = b->bytes, .base = R_ZERO, .index = R_ZERO};
        fall.scale = start + b->bytes > 0xfff;
        put_op(m, b, fall, 0xffff);
        last++;
    } else if (d->relative) {
        last->scale = (u64)(start + last->imm) > 0xfff;
        last->vvvv = start + b->bytes > 0xfff;
    }
    if (b->key & K_TRACE) last->fn = trace_recording(last->fn);
    lean_pass(m->lean, b->ops, b->op_count);
    if ((b->key & K_CODE) == K_CODE64) fuse_pass(m->fusions, b->ops, b->op_count);
    if (indirect) put_targets(m);
    else put_link(m);
}

/* The next instruction goes into b. False: none fits, or (*fault) fetching the first one faults. `last`: the one before. */
static bool decode_next(accel_cpu *c, struct block *b, u64 lin, const u8 *page, struct decoded *last, bool *fault) {
    accel_machine *m = c->m;
    u64 pa = b->pa;
    u32 key = b->key;
    unsigned at = (unsigned)(pa & 0xfff) + b->bytes;
    if (at > 0xfff || (b->n && ((key & K_SINGLE) || ((key & K_BP) && points_cut_at(c, lin + b->bytes, pa + b->bytes))))) return false;
    struct decoded d;
    int n = decode(page + at, 4096 - at, key, c->model, &d);
    if (n == -1 && b->n) return false; /* crosses: a block of its own */
    if (n == -1) {
        struct fetch f;
        *fault = !fetch_cross(c, lin, pa, &f);
        if (*fault) return false;
        n = decode(f.bytes, f.avail, key, c->model, &d);
        b->pa2 = f.pa2 & PAGE_MASK;
    }
    if (n == -2) {
        *fault = !b->n;
        if (*fault) set_fault(c, EX_GP, true, 0); /* over 15 bytes */
        return false;
    }
    if (!rebase(&d, b->bytes) && b->n) return false;
    d.op.off = b->bytes;
    d.op.idx = (u8)b->n;
    put_op(m, b, d.op, d.row);
    b->last = b->bytes;
    b->n++;
    b->bytes += d.length;
    b->always = d.always;
    *last = d;
    return true;
}

/* Enters b into the lists by which it is found. */
static void list_block(accel_machine *m, struct block *b) {
    u32 number = (u32)(b - m->blocks) + 1, *head = &m->hash[hash_of(m, b->pa, b->key)];
    b->hash_next = *head;
    *head = number;
    u8 *host;
    struct page *p = phys_page(m, b->pa, &host);
    b->page_next = p->blocks;
    p->blocks = number;
    unsigned in_first = 4096 - (b->pa & 0xfff);
    mark_code(m, b->pa, b->bytes < in_first ? b->bytes : in_first);
    if (b->pa2 != ~0ull && b->bytes > in_first && (p = phys_page(m, b->pa2, &host))) {
        if (b->pa2 != (b->pa & PAGE_MASK)) {
            b->page2_next = p->blocks;
            p->blocks = number;
        }
        mark_code(m, b->pa2, b->bytes - in_first);
    }
    if (b->key & K_BP) {
        b->bp_next = m->bp_blocks;
        m->bp_blocks = number;
    }
}

struct block *block_make(accel_cpu *c, u64 lin, u64 pa, u32 key) {
    accel_machine *m = c->m;
    u8 *host;
    if (!phys_page(m, pa, &host)) {
        set_fault(c, EX_UD, false, 0); /* all ones: FF /7 */
        c->stats.off_slot_reads++;
        return NULL;
    }
    struct block *b = new_block(c);
    b->pa = pa, b->key = key;
    if ((key & K_BP) && points_cut_at(c, lin, pa)) put_op(m, b, (struct op){.fn = h_break_check, .base = R_ZERO, .index = R_ZERO}, 0xffff);
    struct decoded last = {.ends = false};
    bool fault = false;
    while (!last.ends && b->n < BLOCK_MAX && b->pa2 == ~0ull && decode_next(c, b, lin, host, &last, &fault)) {}
    if (fault) {
        m->block_count--;
        m->op_count = (u32)(b->ops - m->ops);
        return NULL;
    }
    finish_block(m, b, &last);
    b->cost = b->n;
    list_block(m, b);
    c->stats.blocks_decoded++;
    return b;
}
