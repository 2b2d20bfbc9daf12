/*
 * points.c - the debugger's breakpoints and watchpoints: sets of addresses that the guest cannot see.
 *
 * A page with a breakpoint has its blocks cut at every offset that some breakpoint has in its page (aliases share blocks), and
 * a check op there asks points_stop_here(). A page with a watchpoint stays out of the fast TLB. Other pages pay nothing.
 * Watched accesses are noted as they happen and judged after the instruction, when conditions see what it did.
 */
#include <stdlib.h>
#include "exec.h"
#include "predicate.h"

enum { WIDE_WATCH_PAGES = 64,    /* a longer range counts as everywhere in the set of pages */
       DMA_PAGES = 4096 };       /* of a linear range that are looked at for a write by a device */
#define CR3_ADDRESS 0x000fffffffffffe0ull
#define CR3_ADDRESS_LONG 0x000ffffffffff000ull

static bool overlap(u64 a, u64 a_size, u64 b, u64 b_size) { return a - b < b_size || b - a < a_size; }

static unsigned page_hash(u64 address) { return (unsigned)((address >> 12) * 0x9e3779b97f4a7c15ull >> 52); }

static u64 page_bit(u64 address, unsigned *word) {
    unsigned h = page_hash(address);
    *word = h >> 6;
    return BIT(h & 63);
}

static bool page_in(const struct page_set *s, u64 address) {
    unsigned word;
    u64 bit = page_bit(address, &word);
    return s->words[word] & bit;
}

static void page_put(struct page_set *s, u64 address) {
    unsigned word;
    u64 bit = page_bit(address, &word);
    s->words[word] |= bit;
}

/* ---- limits ---------------------------------------------------------------------------------------------- */

static bool limits_met(const accel_cpu *c, const struct limits *l) {
    if (likely(!l->flags)) return true;
    u64 mask = is_long(c) ? CR3_ADDRESS_LONG : CR3_ADDRESS;
    if ((l->flags & ACCEL_LIMIT_CR3) && ((c->cr3 ^ l->cr3) & mask)) return false;
    if ((l->flags & ACCEL_LIMIT_CPL) && c->cpl != l->cpl) return false;
    return !(l->flags & ACCEL_LIMIT_CPU) || c->index == l->cpu;
}

/* A hit within the limits: whether the condition lets it count, and the count whether it is reported. */
static bool hit_counts(accel_cpu *c, struct limits *l, s64 *fuel) {
    bool holds = !l->program_count;
    for (u32 i = 0; i < l->program_count && !holds; i++) {
        u64 result = 0;
        holds = !predicate_run(c, l->programs[i].code, fuel, &result) || result;
    }
    if (!holds) return false;
    l->hits++;
    if (!l->ignore) return true;
    l->ignore--;
    return false;
}

/* One allocation: the programs, then their code. */
static int programs_copy(const accel_limits *from, accel_program **out) {
    *out = NULL;
    if (!from->program_count) return ACCEL_OK;
    if (from->program_count > ACCEL_MAX_PROGRAMS || !from->programs) return ACCEL_EINVAL;
    size_t count = 0;
    for (u32 i = 0; i < from->program_count; i++) {
        if (!predicate_verify(from->programs[i].code, from->programs[i].count)) return ACCEL_EINVAL;
        count += from->programs[i].count;
    }
    accel_program *programs = malloc(from->program_count * sizeof *programs + count * sizeof(accel_insn));
    if (!programs) return ACCEL_ENOMEM;
    accel_insn *code = (accel_insn *)(programs + from->program_count);
    for (u32 i = 0; i < from->program_count; i++) {
        programs[i] = (accel_program){.code = code, .count = from->programs[i].count};
        memcpy(code, from->programs[i].code, programs[i].count * sizeof *code);
        code += programs[i].count;
    }
    *out = programs;
    return ACCEL_OK;
}

static struct limits *limits_of(accel_machine *m, u64 id) {
    for (u32 i = 0; i < m->break_count; i++)
        if (m->breaks[i].id == id) return &m->breaks[i].limits;
    for (u32 i = 0; i < m->watch_count; i++)
        if (m->watches[i].id == id) return &m->watches[i].limits;
    return NULL;
}

int accel_point_limit(accel_machine *m, uint64_t id, const accel_limits *limits) {
    struct limits *l = limits_of(m, id);
    if (!l) return ACCEL_ENOENT;
    if (limits->flags & ~(u32)(ACCEL_LIMIT_CR3 | ACCEL_LIMIT_CPL | ACCEL_LIMIT_CPU) || limits->cpl > 3) return ACCEL_EINVAL;
    accel_program *programs;
    int status = programs_copy(limits, &programs);
    if (status) return status;
    free(l->programs);
    *l = (struct limits){.flags = limits->flags, .cpl = limits->cpl, .cpu = limits->cpu, .cr3 = limits->cr3, .ignore = limits->ignore,
                         .hits = l->hits, .program_count = limits->program_count, .programs = programs};
    return ACCEL_OK;
}

int accel_point_hits(accel_machine *m, uint64_t id, uint64_t *hits) {
    const struct limits *l = limits_of(m, id);
    if (!l) return ACCEL_ENOENT;
    *hits = l->hits;
    return ACCEL_OK;
}

/* Room for one more element; NULL: the host has no memory. */
static void *room(void *array, u32 count, u32 *cap, size_t size) {
    if (count < *cap) return array;
    u32 more = *cap ? *cap * 2 : 16;
    void *grown = realloc(array, more * size);
    if (grown) *cap = more;
    return grown;
}

void points_free(accel_machine *m) {
    for (u32 i = 0; i < m->break_count; i++) free(m->breaks[i].limits.programs);
    for (u32 i = 0; i < m->watch_count; i++) free(m->watches[i].limits.programs);
    free(m->breaks);
    free(m->watches);
}

/* ---- breakpoints ------------------------------------------------------------------------------------------ */

static bool break_on_page(const accel_machine *m, int space, u64 address) {
    for (u32 i = m->break_page_at[page_hash(address)]; i; i = m->breaks[i - 1].next_page)
        if (m->breaks[i - 1].space == space && (m->breaks[i - 1].address ^ address) < 4096) return true;
    return false;
}

bool points_break_page(const accel_cpu *c, u64 lin, u64 pa) {
    const accel_machine *m = c->m;
    if (m->break_count && (break_on_page(m, ACCEL_LINEAR, lin) || break_on_page(m, ACCEL_PHYSICAL, pa))) return true;
    return (c->dr[7] & 0xff) && debug_page_has_dr(c, lin);
}

bool points_cut_at(const accel_cpu *c, u64 lin, u64 pa) {
    return (c->m->break_offsets[pa >> 6 & 63] >> (pa & 63) & 1) || debug_dr_at_offset(c, lin);
}

/* The debugger's breakpoints at lin or pa that are hit, into c->break_ids. */
static void collect(accel_cpu *c, u64 lin, u64 pa) {
    accel_machine *m = c->m;
    s64 fuel = BOUNDARY_FUEL;
    for (u32 i = m->break_at[pa & 0xfff]; i; i = m->breaks[i - 1].next) {
        struct breakpoint *b = &m->breaks[i - 1];
        if (b->address != (b->space == ACCEL_LINEAR ? lin : pa) || !limits_met(c, &b->limits)) continue;
        if (hit_counts(c, &b->limits, &fuel) && c->break_count < MAX_HITS) c->break_ids[c->break_count++] = b->id;
    }
    c->slice_fuel -= BOUNDARY_FUEL - fuel;
}

bool points_stop_here(accel_cpu *c, u64 now) {
    bool first = now == c->ticks; /* at the boundary where the slice began */
    c->break_dr = 0;
    c->break_count = 0;
    if (c->answer_count) return false; /* the instruction began long ago: its reads are being answered */
    u64 rip = c->r[R_RIP], lin = is_code64(c) ? rip : (rip + c->seg[SEG_CS].base) & 0xffffffff, pa = c->block->pa;
    if ((c->dr[7] & 0xff) && !(first && c->rf_now)) c->break_dr = debug_dr_execute(c, lin);
    if (c->break_dr) return true;
    if (first && c->skip_now) return false;
    u64 ticks = c->ticks;
    c->ticks = now; /* what conditions may read */
    c->rip = rip;
    collect(c, lin, pa);
    c->ticks = ticks;
    if (unlikely(c->slice_fuel < 0)) { /* the slice ends behind this block */
        c->slice -= c->budget;
        c->budget = 0;
    }
    return c->break_count;
}

/* Everything that is derived from the set of breakpoints, and code that was cut by it. */
static void breaks_changed(accel_machine *m) {
    memset(m->break_offsets, 0, sizeof m->break_offsets);
    memset(m->break_at, 0, sizeof m->break_at);
    memset(m->break_page_at, 0, sizeof m->break_page_at);
    for (u32 i = m->break_count; i-- > 0;) { /* lists in the order of the array */
        struct breakpoint *b = &m->breaks[i];
        unsigned offset = b->address & 0xfff;
        u32 *at = &m->break_at[offset], *page = &m->break_page_at[page_hash(b->address)];
        m->break_offsets[offset >> 6] |= BIT(offset & 63);
        b->next = *at;
        b->next_page = *page;
        *at = *page = i + 1;
    }
    block_kill_bp(m);
}

int accel_break_add(accel_machine *m, uint64_t id, int space, uint64_t address) {
    if (space != ACCEL_LINEAR && space != ACCEL_PHYSICAL) return ACCEL_EINVAL;
    for (u32 i = 0; i < m->break_count; i++)
        if (m->breaks[i].id == id) return ACCEL_EBUSY;
    void *breaks = room(m->breaks, m->break_count, &m->break_cap, sizeof *m->breaks);
    if (!breaks) return ACCEL_ENOMEM;
    m->breaks = breaks;
    m->breaks[m->break_count++] = (struct breakpoint){.id = id, .address = address, .space = (u8)space};
    breaks_changed(m);
    return ACCEL_OK;
}

int accel_break_remove(accel_machine *m, uint64_t id) {
    for (u32 i = 0; i < m->break_count; i++) {
        if (m->breaks[i].id != id) continue;
        free(m->breaks[i].limits.programs);
        m->breaks[i] = m->breaks[--m->break_count];
        breaks_changed(m);
        return ACCEL_OK;
    }
    return ACCEL_ENOENT;
}

size_t accel_break_hits(accel_cpu *c, uint64_t *ids, size_t max) {
    size_t n = c->break_count < max ? c->break_count : max;
    memcpy(ids, c->break_ids, n * sizeof *ids);
    return n;
}

/* ---- watchpoints ------------------------------------------------------------------------------------------- */

bool points_watch_page(const accel_cpu *c, u64 lin, u64 pa) {
    const accel_machine *m = c->m;
    if (!m->watch_count || !(page_in(&m->watch_pages, lin) || page_in(&m->watch_pages, pa))) return false;
    for (u32 i = 0; i < m->watch_count; i++) {
        const struct watch *w = &m->watches[i];
        if (overlap(w->space == ACCEL_LINEAR ? lin & PAGE_MASK : pa & PAGE_MASK, 4096, w->address, w->size)) return true;
    }
    return false;
}

/* The part of an access to [at, at + size) that lies in w; false: there is none that w wants. */
static bool part_watched(const struct watch *w, u64 at, unsigned size, bool write, const u8 *was, const u8 *is, accel_hit *hit) {
    if (!(w->kind & (write ? ACCEL_WATCH_WRITE : ACCEL_WATCH_READ)) || !overlap(at, size, w->address, w->size)) return false;
    u64 skip = at - w->address < w->size ? 0 : w->address - at;
    u64 keep = size - skip, behind = w->size - (at + skip - w->address);
    if (behind < keep) keep = behind;
    if (w->kind == ACCEL_WATCH_CHANGED && !memcmp(was + skip, is + skip, keep)) return false;
    *hit = (accel_hit){.id = w->id, .address = at + skip, .size = (u32)keep, .write = write};
    memcpy(&hit->old_value, was + skip, keep < 8 ? keep : 8);
    memcpy(&hit->new_value, is + skip, keep < 8 ? keep : 8);
    return true;
}

static void note(accel_cpu *c, const accel_hit *hit) {
    if (!(c->attention & ATT_WATCH)) c->hit_count = 0;
    c->attention |= ATT_WATCH;
    if (c->hit_count < MAX_HITS) c->hits[c->hit_count++] = *hit;
}

void points_access(accel_cpu *c, u64 lin, u64 pa, unsigned size, bool write, const u8 *was, const u8 *is) {
    const accel_machine *m = c->m;
    if (!page_in(&m->watch_pages, lin) && !page_in(&m->watch_pages, pa)) return;
    for (u32 i = 0; i < m->watch_count; i++) {
        const struct watch *w = &m->watches[i];
        accel_hit hit;
        if (w->space == ACCEL_LINEAR && lin == ~0ull) continue;
        if (!part_watched(w, w->space == ACCEL_LINEAR ? lin : pa, size, write, was, is, &hit) || !limits_met(c, &w->limits)) continue;
        hit.origin = c->origin;
        note(c, &hit);
    }
}

/* Nothing of the instruction happened; what the page walks for it wrote did. */
void points_forget_unretired(accel_cpu *c) {
    if (!(c->attention & ATT_WATCH)) return;
    unsigned kept = 0;
    for (unsigned i = 0; i < c->hit_count; i++)
        if (c->hits[i].origin != ACCEL_ORIGIN_CPU) c->hits[kept++] = c->hits[i];
    c->hit_count = (u8)kept;
    if (!kept) c->attention &= (u8)~ATT_WATCH;
}

/* Leaves in c->hits what is to be reported. Several accesses of one instruction to one watchpoint are one hit. */
bool points_watch_counts(accel_cpu *c) {
    u64 judged[MAX_HITS];
    bool counts[MAX_HITS];
    unsigned kept = 0, known = 0;
    s64 fuel = BOUNDARY_FUEL;
    for (unsigned i = 0; i < c->hit_count; i++) {
        const accel_hit hit = c->hits[i];
        unsigned k = 0;
        while (k < known && judged[k] != hit.id) k++;
        if (k == known) {
            struct limits *l = NULL;
            for (u32 n = 0; n < c->m->watch_count && !l; n++)
                if (c->m->watches[n].id == hit.id) l = &c->m->watches[n].limits;
            judged[known] = hit.id;
            counts[known++] = l && hit_counts(c, l, &fuel);
        }
        if (counts[k]) c->hits[kept++] = hit;
    }
    c->hit_count = (u8)kept;
    return kept;
}

static void watches_changed(accel_machine *m) {
    memset(&m->watch_pages, 0, sizeof m->watch_pages);
    for (u32 i = 0; i < m->watch_count; i++) {
        const struct watch *w = &m->watches[i];
        u64 first = w->address >> 12, last = (w->address + w->size - 1) >> 12;
        if (last - first >= WIDE_WATCH_PAGES) memset(&m->watch_pages, 0xff, sizeof m->watch_pages);
        else for (u64 page = first; page <= last; page++) page_put(&m->watch_pages, page << 12);
    }
    for (u32 i = 0; i < m->cpu_count; i++) ftlb_flush(m->cpus[i]);
}

static bool kind_ok(int kind) { return (kind >= ACCEL_WATCH_WRITE && kind <= ACCEL_WATCH_ACCESS) || kind == ACCEL_WATCH_CHANGED; }

int accel_watch_add(accel_machine *m, uint64_t id, int space, uint64_t address, uint64_t size, int kind) {
    if ((space != ACCEL_LINEAR && space != ACCEL_PHYSICAL) || !size || address + size - 1 < address || !kind_ok(kind)) return ACCEL_EINVAL;
    for (u32 i = 0; i < m->watch_count; i++)
        if (m->watches[i].id == id) return ACCEL_EBUSY;
    void *watches = room(m->watches, m->watch_count, &m->watch_cap, sizeof *m->watches);
    if (!watches) return ACCEL_ENOMEM;
    m->watches = watches;
    m->watches[m->watch_count++] = (struct watch){.id = id, .address = address, .size = size, .space = (u8)space, .kind = (u8)kind};
    watches_changed(m);
    return ACCEL_OK;
}

int accel_watch_remove(accel_machine *m, uint64_t id) {
    for (u32 i = 0; i < m->watch_count; i++) {
        if (m->watches[i].id != id) continue;
        free(m->watches[i].limits.programs);
        m->watches[i] = m->watches[--m->watch_count];
        watches_changed(m);
        return ACCEL_OK;
    }
    return ACCEL_ENOENT;
}

size_t accel_watch_hits(accel_cpu *c, accel_hit *hits, size_t max) {
    size_t n = c->hit_count < max ? c->hit_count : max;
    memcpy(hits, c->hits, n * sizeof *hits);
    return n;
}

/* ---- writes by devices ---------------------------------------------------------------------------------------- */

static void note_dma(accel_machine *m, accel_hit hit, u16 device) {
    if (m->dma_count == MAX_HITS) return;
    hit.origin = ACCEL_ORIGIN_DMA;
    hit.device = device;
    m->dma_hits[m->dma_count++] = hit;
}

/* The linear range of w in its part that c's page tables map to the physical page of pa. */
static bool dma_through(accel_cpu *c, const struct watch *w, u64 pa, unsigned size, const u8 *was, const u8 *is, accel_hit *hit) {
    u64 page = w->address & PAGE_MASK, last = (w->address + w->size - 1) & PAGE_MASK;
    for (unsigned k = 0; k < DMA_PAGES && page <= last; k++, page += 4096) {
        accel_walk walk;
        if (!accel_translate(c, page, &walk) && (walk.gpa & PAGE_MASK) == (pa & PAGE_MASK) &&
            part_watched(w, page + (pa & 0xfff), size, true, was, is, hit)) return true;
        if (page == last) break; /* the last page of all has no next one */
    }
    return false;
}

void points_dma(accel_machine *m, u64 pa, unsigned size, u16 device, const u8 *was, const u8 *is) {
    accel_hit hit;
    for (u32 i = 0; i < m->watch_count; i++) {
        const struct watch *w = &m->watches[i];
        if (w->limits.flags & (ACCEL_LIMIT_CPL | ACCEL_LIMIT_CPU)) continue; /* a device has neither */
        if (w->space == ACCEL_PHYSICAL) {
            if (!(w->limits.flags & ACCEL_LIMIT_CR3) && part_watched(w, pa, size, true, was, is, &hit)) note_dma(m, hit, device);
            continue;
        }
        for (u32 k = 0; k < m->cpu_count; k++) {
            if (!limits_met(m->cpus[k], &w->limits) || !dma_through(m->cpus[k], w, pa, size, was, is, &hit)) continue;
            note_dma(m, hit, device);
            break;
        }
    }
}

void points_take_dma(accel_cpu *c) {
    for (u32 i = 0; i < c->m->dma_count; i++) note(c, &c->m->dma_hits[i]);
    c->m->dma_count = 0;
}
