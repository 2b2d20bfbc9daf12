/*
 * phys.c - machines, memory slots, page flags, physical access and dirty epochs.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include "cpu.h"

#ifndef ACCEL_CACHE_SHIFT
#define ACCEL_CACHE_SHIFT 0 /* fuzzers make the cache of blocks so many powers of two smaller: it overflows, and is cheap to clear */
#endif
enum { BLOCKS_MAX = 1 << (17 - ACCEL_CACHE_SHIFT), OPS_MAX = 1 << (20 - ACCEL_CACHE_SHIFT), HASH_SIZE = 1 << (16 - ACCEL_CACHE_SHIFT) };
#define GUARD_SIZE (1ull << 20)
#define PHYS_LIMIT (1ull << 52)

int accel_machine_new(accel_machine **out) {
    accel_machine *m = calloc(1, sizeof *m);
    if (!m) return ACCEL_ENOMEM;
    m->a20_mask = ~0ull;
    m->epoch = 1;
    m->block_max = BLOCKS_MAX;
    m->op_max = OPS_MAX;
    m->hash_mask = HASH_SIZE - 1;
    m->blocks = calloc(BLOCKS_MAX, sizeof *m->blocks);
    m->ops = aligned_alloc(64, OPS_MAX * sizeof *m->ops);
    m->op_rows = calloc(OPS_MAX, sizeof *m->op_rows);
    m->hash = calloc(HASH_SIZE, sizeof *m->hash);
    if (!m->blocks || !m->ops || !m->op_rows || !m->hash) {
        accel_machine_free(m);
        return ACCEL_ENOMEM;
    }
    lean_table(m->lean);
    fuse_table(m->fusions);
    fuse_table_traced(m->fusions);
    *out = m;
    return ACCEL_OK;
}

static void slot_free(struct slot *s) {
    munmap(s->map, s->map_size);
    munmap(s->pages, (s->size >> 12) * sizeof *s->pages);
}

void accel_machine_free(accel_machine *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        accel_branch_ring(m->cpus[i], TRACE_DEFAULT); /* the one inside */
        free(m->cpus[i]);
    }
    for (uint32_t i = 0; i < m->slot_count; i++) slot_free(&m->slots[i]);
    free(m->blocks);
    free(m->ops);
    free(m->op_rows);
    free(m->hash);
    points_free(m);
    free(m);
}

static void drop_caches(accel_machine *m) {
    block_flush_all(m);
    for (uint32_t i = 0; i < m->cpu_count; i++) ftlb_flush(m->cpus[i]);
}

int accel_slot_add(accel_machine *m, uint64_t gpa, uint64_t size, uint32_t flags) {
    if (!size || ((gpa | size) & 0xfff) || size > PHYS_LIMIT || gpa > PHYS_LIMIT - size || (flags & ~ACCEL_SLOT_ROM)) return ACCEL_EINVAL;
    if (m->slot_count == ACCEL_MAX_SLOTS) return ACCEL_EBUSY;
    for (uint32_t i = 0; i < m->slot_count; i++)
        if (gpa < m->slots[i].gpa + m->slots[i].size && m->slots[i].gpa < gpa + size) return ACCEL_EBUSY;
    struct slot s = {.gpa = gpa, .size = size, .flags = flags, .map_size = size + 2 * GUARD_SIZE};
    s.map = mmap(NULL, s.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s.map == MAP_FAILED) return ACCEL_ENOMEM;
    s.host = (uint8_t *)s.map + GUARD_SIZE;
    s.pages = mmap(NULL, (size >> 12) * sizeof *s.pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s.pages == MAP_FAILED || mprotect(s.host, size, PROT_READ | PROT_WRITE)) {
        munmap(s.map, s.map_size);
        if (s.pages != MAP_FAILED) munmap(s.pages, (size >> 12) * sizeof *s.pages);
        return ACCEL_ENOMEM;
    }
    m->slots[m->slot_count++] = s;
    drop_caches(m);
    return ACCEL_OK;
}

int accel_slot_remove(accel_machine *m, uint64_t gpa) {
    for (uint32_t i = 0; i < m->slot_count; i++) {
        if (m->slots[i].gpa != gpa) continue;
        drop_caches(m);
        slot_free(&m->slots[i]);
        m->slots[i] = m->slots[--m->slot_count];
        return ACCEL_OK;
    }
    return ACCEL_ENOENT;
}

int accel_a20(accel_machine *m, int enabled) {
    m->a20_mask = enabled ? ~0ull : ~(1ull << 20);
    drop_caches(m);
    for (uint32_t i = 0; i < m->cpu_count; i++) fetch_flush(m->cpus[i]);
    return ACCEL_OK;
}

struct slot *phys_slot(accel_machine *m, uint64_t pa) {
    for (uint32_t i = 0; i < m->slot_count; i++)
        if (pa - m->slots[i].gpa < m->slots[i].size) return &m->slots[i];
    return NULL;
}

struct page *phys_page(accel_machine *m, uint64_t pa, uint8_t **host) {
    struct slot *s = phys_slot(m, pa);
    if (!s) return NULL;
    uint64_t page = (pa - s->gpa) >> 12;
    *host = s->host + (page << 12);
    return &s->pages[page];
}

void page_revoke(accel_machine *m, uint64_t pa) {
    uint8_t *host;
    if (!phys_page(m, pa, &host)) return;
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        accel_cpu *c = m->cpus[i];
        for (int view = 0; view < FT_NONE; view++)
            for (unsigned k = 0; k < c->ftlb_used_count[view]; k++) {
                struct ftlb_entry *e = &c->ftlb[view][c->ftlb_used[view][k]];
                if (e->wtag != FTLB_NONE && (uint8_t *)(e->wtag + e->addend) == host) e->wtag = FTLB_NONE;
            }
    }
}

/* ---- monitored lines ---- */

enum { MONITOR_LINE = 64 };

bool monitor_arm(accel_cpu *c) {
    uint8_t *host;
    struct page *p = phys_page(c->m, c->monitor_addr, &host);
    if (!p) return false;
    if (!(p->flags & PG_MONITOR)) {
        p->flags |= PG_MONITOR;
        page_revoke(c->m, c->monitor_addr);
    }
    return true;
}

/* A store to a page with such lines: who monitors what it touches is disarmed and, if it waits, active again. */
static COLD void monitors_written(accel_machine *m, struct page *p, uint64_t pa, unsigned size) {
    bool others = false;
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        accel_cpu *c = m->cpus[i];
        uint64_t line = c->monitor_addr & ~(uint64_t)(MONITOR_LINE - 1);
        if (!c->ctl.monitor_state || (line ^ pa) >= 4096) continue;
        if (line >= pa + size || pa >= line + MONITOR_LINE) {
            others = true;
            continue;
        }
        bool waits = c->ctl.monitor_state >= ACCEL_MONITOR_WAIT && c->ctl.activity == ACCEL_HALTED;
        c->ctl.monitor_state = ACCEL_MONITOR_NONE;
        if (!waits) continue;
        c->ctl.activity = ACCEL_ACTIVE;
        m->woken = true;
    }
    if (!others) p->flags &= ~PG_MONITOR;
}

/* A write to a page in a slot: everything that hangs on the page's flags. */
static void note_write(accel_machine *m, struct page *p, uint64_t pa, unsigned size) {
    p->epoch = m->epoch;
    p->flags &= ~PG_CLEAN;
    if (p->flags & PG_CODE) block_kill_range(m, pa, size);
    if (unlikely(p->flags & PG_MONITOR)) monitors_written(m, p, pa, size);
}

void phys_store(accel_cpu *c, uint64_t pa, const void *buf, unsigned size, uint64_t lin) {
    uint8_t *host;
    struct page *p = phys_page(c->m, pa, &host);
    if (!p) {
        c->stats.off_slot_writes++;
        return;
    }
    struct slot *s = phys_slot(c->m, pa);
    uint8_t *at = host + (pa & 0xfff);
    bool rom = s->flags & ACCEL_SLOT_ROM;
    if (unlikely(c->m->watch_count || (c->dr[7] & 0xff))) debug_access(c, lin, pa, size, true, at, rom ? at : buf);
    if (rom) return;
    note_write(c->m, p, pa, size);
    if (unlikely(c->m->woken)) c->attention |= ATT_WAKE;
    memcpy(at, buf, size);
}

uint64_t walk_read(accel_cpu *c, uint64_t pa, unsigned size) {
    uint8_t *host;
    uint64_t v = ~0ull;
    pa &= c->m->a20_mask;
    if (!phys_page(c->m, pa, &host)) {
        c->stats.off_slot_reads++;
        return size == 8 ? v : (uint32_t)v;
    }
    v = 0;
    memcpy(&v, host + (pa & 0xfff), size);
    return v;
}

void walk_write(accel_cpu *c, uint64_t pa, uint64_t v, unsigned size) {
    uint8_t origin = c->origin;
    c->origin = ACCEL_ORIGIN_WALK;
    phys_store(c, pa & c->m->a20_mask, &v, size, ~0ull);
    c->origin = origin;
}

/* True if [gpa, gpa + size) lies in slots without a gap. */
static bool range_mapped(accel_machine *m, uint64_t gpa, uint64_t size) {
    if (size > PHYS_LIMIT || gpa > PHYS_LIMIT - size) return false;
    while (size) {
        struct slot *s = phys_slot(m, gpa);
        if (!s) return false;
        uint64_t n = s->gpa + s->size - gpa;
        if (n >= size) return true;
        gpa += n;
        size -= n;
    }
    return true;
}

int accel_phys_read(accel_machine *m, uint64_t gpa, void *data, uint64_t size) {
    if (!range_mapped(m, gpa, size)) return ACCEL_EFAULT;
    uint8_t *to = data, *host;
    while (size) {
        uint64_t n = 4096 - (gpa & 0xfff);
        if (n > size) n = size;
        phys_page(m, gpa, &host);
        memcpy(to, host + (gpa & 0xfff), n);
        gpa += n, to += n, size -= n;
    }
    return ACCEL_OK;
}

static int write_slots(accel_machine *m, uint64_t gpa, const uint8_t *from, uint64_t size, bool watched, uint16_t device) {
    if (!range_mapped(m, gpa, size)) return ACCEL_EFAULT;
    uint8_t *host;
    while (size) {
        uint64_t n = 4096 - (gpa & 0xfff);
        if (n > size) n = size;
        struct page *p = phys_page(m, gpa, &host);
        if (watched) points_dma(m, gpa, (unsigned)n, device, host + (gpa & 0xfff), from);
        note_write(m, p, gpa, (unsigned)n);
        memcpy(host + (gpa & 0xfff), from, n);
        gpa += n, from += n, size -= n;
    }
    return ACCEL_OK;
}

int accel_phys_write(accel_machine *m, uint64_t gpa, const void *data, uint64_t size, int origin) {
    if (origin < 0 || origin > ACCEL_ORIGIN_LOADER) return ACCEL_EINVAL;
    return write_slots(m, gpa, data, size, origin == ACCEL_ORIGIN_DMA && m->watch_count, 0);
}

int accel_dma_write(accel_machine *m, uint64_t gpa, const void *data, uint64_t size, uint16_t device) {
    return write_slots(m, gpa, data, size, m->watch_count, device);
}

uint64_t accel_epoch_next(accel_machine *m) {
    m->epoch++;
    for (uint32_t i = 0; i < m->slot_count; i++)
        for (uint64_t k = 0; k < m->slots[i].size >> 12; k++)
            if (m->slots[i].pages[k].epoch) m->slots[i].pages[k].flags |= PG_CLEAN;
    for (uint32_t i = 0; i < m->cpu_count; i++) ftlb_flush(m->cpus[i]);
    return m->epoch;
}

size_t accel_pages_changed(accel_machine *m, uint64_t since, uint64_t from, uint64_t *pages, size_t max) {
    size_t n = 0;
    if (!since) since = 1;
    while (n < max) { /* slots are unsorted: take them in ascending order of address */
        struct slot *next = NULL;
        for (uint32_t i = 0; i < m->slot_count; i++) {
            struct slot *s = &m->slots[i];
            if ((s->gpa + s->size) >> 12 > from && (!next || s->gpa < next->gpa)) next = s;
        }
        if (!next) break;
        uint64_t first = next->gpa >> 12, count = next->size >> 12;
        uint64_t k = from > first ? from - first : 0;
        for (; k < count && n < max; k++)
            if (next->pages[k].epoch >= since) pages[n++] = first + k;
        from = first + k;
    }
    return n;
}
