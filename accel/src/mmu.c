/*
 * mmu.c - paging and the two halves of the TLB.
 *
 * The architectural halves (itlb, dtlb) are direct mapped by the linear page number. Fetches and
 * data never evict each other, so a block that is already running needs no fetch look-up per instruction to leave
 * the same state behind as one executed instruction by instruction. Entries go only by guest-defined flushes and by
 * eviction. (SDM vol. 3, "Paging" and "Caching Translation Information".)
 */
#include "cpu.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };

bool set_fault(accel_cpu *c, int vec, bool has_error, uint32_t error) {
    c->fault = (struct fault){.vector = (uint8_t)vec, .has_error = has_error, .error = error};
    return false;
}

/* ---- fast half ------------------------------------------------------------------------------------ */

void ftlb_flush(accel_cpu *c) {
    for (int view = 0; view < FT_NONE; view++) {
        for (unsigned k = 0; k < c->ftlb_used_count[view]; k++) {
            struct ftlb_entry *e = &c->ftlb[view][c->ftlb_used[view][k]];
            e->rtag = e->wtag = FTLB_NONE;
        }
        c->ftlb_used_count[view] = 0;
    }
}

static void ftlb_drop(accel_cpu *c, uint64_t vpn) {
    for (int view = 0; view < FT_NONE; view++) {
        struct ftlb_entry *e = &c->ftlb[view][ftlb_index(vpn << 12)];
        uint64_t lin = vpn << 12;
        if (e->rtag == lin || e->wtag == lin) e->rtag = e->wtag = FTLB_NONE;
    }
}

/* The view that the access which was just translated may use from now on; FT_NONE: alignment checks are on. */
static int view_of(const accel_cpu *c, bool user, bool implicit) {
    if (implicit) return system_view(c);
    int view = user ? FT_USER : c->ft == c->ftlb[FT_SUPER_SMAP] ? FT_SUPER_SMAP : FT_SUPER;
    return c->ft == c->ftlb[view] ? view : FT_NONE;
}

/* Called after an access has been translated through dtlb entry t with the given privilege. */
static void ftlb_fill(accel_cpu *c, uint64_t lin, const struct tlb_entry *t, bool user, bool implicit) {
    int view = view_of(c, user, implicit);
    if (view == FT_NONE) return;
    uint8_t *host;
    uint64_t pa = (t->pfn << 12) & c->m->a20_mask, page = lin & PAGE_MASK;
    struct page *p = phys_page(c->m, pa, &host);
    if (!p) return;
    if ((c->m->watch_count || (c->dr[7] & 0xff)) && debug_page_watched(c, page, pa)) return;
    bool writable = (t->flags & TLB_D) && ((t->flags & TLB_W) || (!user && !(c->cr0 & CR0_WP)));
    if ((p->flags & (PG_CODE | PG_CLEAN | PG_WATCH | PG_MONITOR)) || (phys_slot(c->m, pa)->flags & ACCEL_SLOT_ROM)) writable = false;
    if (!p->epoch) writable = false; /* the first write of a page is noted */
    if (p->flags & PG_WATCH) return;
    if ((c->cr4 & CR4_PKE) && (t->flags & TLB_U)) return;
    unsigned i = ftlb_index(lin);
    struct ftlb_entry *e = &c->ftlb[view][i];
    if (e->rtag == FTLB_NONE && e->wtag == FTLB_NONE) {
        if (c->ftlb_used_count[view] == FTLB_SIZE) ftlb_flush(c);
        c->ftlb_used[view][c->ftlb_used_count[view]++] = (uint16_t)i;
    }
    e->rtag = page;
    e->wtag = writable ? page : FTLB_NONE;
    e->addend = (uint64_t)host - page;
}

/* ---- architectural half ------------------------------------------------------------------------------ */

static uint16_t current_pcid(const accel_cpu *c) { return c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0; }

static bool entry_live(const accel_cpu *c, const struct tlb_entry *t) {
    if (!(t->flags & TLB_VALID)) return false;
    return t->flags & TLB_GLOBAL ? t->gen == c->tlb_ggen : t->gen == c->tlb_gen[t->pcid];
}

/* The higher bits are folded in: copies between buffers a power of two apart would fight for one entry. */
static struct tlb_entry *tlb_slot(accel_cpu *c, uint64_t vpn, int acc) {
    uint64_t mix = vpn ^ vpn >> 9 ^ vpn >> 18;
    return acc == ACC_X ? &c->itlb[mix & (ITLB_SIZE - 1)] : &c->dtlb[mix & (DTLB_SIZE - 1)];
}

static bool entry_hits(const accel_cpu *c, const struct tlb_entry *t, uint64_t vpn) {
    return t->vpn == vpn && entry_live(c, t) && ((t->flags & TLB_GLOBAL) || t->pcid == current_pcid(c));
}

void fetch_flush(accel_cpu *c) { c->fetch_gen = ++c->m->gen_counter; }

void tlb_flush(accel_cpu *c, bool global) {
    if (global) {
        c->tlb_ggen++;
        for (unsigned i = 0; i < 4096; i++) c->tlb_gen[i]++;
        memset(c->large_filter, 0, sizeof c->large_filter);
    } else {
        c->tlb_gen[current_pcid(c)]++;
    }
    ftlb_flush(c);
    fetch_flush(c);
}

void tlb_flush_pcid(accel_cpu *c, uint32_t pcid) {
    c->tlb_gen[pcid & 0xfff]++;
    ftlb_flush(c);
    fetch_flush(c);
}

/* Bits of a linear page number below the number of its large page. */
static unsigned large_shift(const accel_cpu *c, bool huge) { return huge ? 18 : c->cr4 & CR4_PAE ? 9 : 10; }

static uint64_t *filter_word(accel_cpu *c, uint64_t vpn, bool huge, uint64_t *bit) {
    unsigned h = (unsigned)((vpn >> large_shift(c, huge)) * 0x9e3779b97f4a7c15ull >> 55) ^ huge;
    *bit = BIT(h & 63);
    return &c->large_filter[h >> 6 & 7];
}

void tlb_note_large(accel_cpu *c, uint64_t vpn, bool huge) {
    uint64_t bit, *word = filter_word(c, vpn, huge, &bit);
    *word |= bit;
}

static bool large_may_be_cached(accel_cpu *c, uint64_t vpn) {
    uint64_t bit2, bit3;
    uint64_t *large = filter_word(c, vpn, false, &bit2), *huge = filter_word(c, vpn, true, &bit3);
    return (*large & bit2) || (*huge & bit3);
}

/* The pieces of a large page go together. */
static void drop_large(const accel_cpu *c, struct tlb_entry *set, unsigned count, uint64_t vpn) {
    for (unsigned i = 0; i < count; i++) {
        struct tlb_entry *t = &set[i];
        if (!(t->flags & TLB_VALID) || !(t->flags & (TLB_LARGE | TLB_HUGE))) continue;
        unsigned shift = large_shift(c, t->flags & TLB_HUGE);
        if (t->vpn >> shift == vpn >> shift) t->flags = 0;
    }
}

void tlb_invlpg(accel_cpu *c, uint64_t lin) {
    uint64_t vpn = lin >> 12;
    struct tlb_entry *i = tlb_slot(c, vpn, ACC_X), *d = tlb_slot(c, vpn, ACC_R);
    if (i->vpn == vpn) i->flags = 0;
    if (d->vpn == vpn) d->flags = 0;
    if (large_may_be_cached(c, vpn)) {
        drop_large(c, c->itlb, ITLB_SIZE, vpn);
        drop_large(c, c->dtlb, DTLB_SIZE, vpn);
        ftlb_flush(c);
    }
    ftlb_drop(c, vpn);
    fetch_flush(c);
}

/* ---- the walk ------------------------------------------------------------------------------------------- */

struct walk {
    uint64_t pa;
    bool w, u, nx, d, g;
    uint8_t level, pkey; /* level of the leaf: 1 = 4 KiB, 2 = 2/4 MiB, 3 = 1 GiB; or where it failed */
    uint32_t error;      /* PF_P and PF_RSVD bits of a failure */
    uint64_t entry_pa, entry; unsigned entry_size; /* the leaf, for its A and D bits */
};

static uint64_t reserved_bits(const accel_cpu *c, int level, bool large, bool pae32) {
    uint64_t r = 0x000f000000000000ull; /* MAXPHYADDR 48 */
    if (pae32) r |= 0x7ff0000000000000ull;
    if (!(c->efer & EFER_NXE)) r |= PTE_NX;
    if (large) r |= level == 3 ? 0x3fffe000ull : 0x1fe000ull;
    if (level >= 4) r |= PTE_PS;
    return r;
}

/* PAE, 4-level and 5-level. touch: set A bits on the way to the leaf; the leaf's own is set once the access is allowed
 * (after a violation it is "model specific": SDM vol. 3, "Page-Fault Exception (#PF)"). */
static bool walk_long(accel_cpu *c, uint64_t lin, struct walk *w, bool touch) {
    bool lm = is_long(c);
    int top = lm ? (c->cr4 & CR4_LA57 ? 5 : 4) : 2;
    uint64_t table = c->cr3 & PTE_ADDR;
    w->w = w->u = true;
    if (!lm) {
        uint64_t e = c->pdpte[(lin >> 30) & 3];
        w->level = 3;
        if (!(e & PTE_P)) return false;
        table = e & PTE_ADDR;
    }
    for (int level = top;; level--) {
        uint64_t at = table + ((lin >> (12 + 9 * (level - 1))) & 511) * 8;
        uint64_t e = walk_read(c, at, 8);
        w->level = (uint8_t)level;
        if (!(e & PTE_P)) return false;
        bool large = level > 1 && level <= 3 && (e & PTE_PS);
        if (level == 3 && large && !lm) large = false;
        if (e & reserved_bits(c, level, large, !lm)) {
            w->error = PF_P | PF_RSVD;
            return false;
        }
        w->w &= !!(e & PTE_W);
        w->u &= !!(e & PTE_U);
        w->nx |= !!(e & PTE_NX);
        if (level == 1 || large) {
            uint64_t mask = (1ull << (12 + 9 * (level - 1))) - 1;
            w->pa = (e & PTE_ADDR & ~mask) | (lin & mask);
            w->d = e & PTE_D;
            w->g = e & PTE_G;
            w->pkey = (e >> 59) & 15;
            w->entry = e, w->entry_pa = at, w->entry_size = 8;
            return true;
        }
        if (touch && !(e & PTE_A)) walk_write(c, at, e |= PTE_A, 8);
        table = e & PTE_ADDR;
    }
}

static bool walk_legacy(accel_cpu *c, uint64_t lin, struct walk *w, bool touch) {
    uint64_t at = (c->cr3 & 0xfffff000) + ((lin >> 22) & 1023) * 4;
    uint64_t e = walk_read(c, at, 4);
    w->level = 2;
    if (!(e & PTE_P)) return false;
    bool large = (e & PTE_PS) && (c->cr4 & CR4_PSE);
    if (large && (e & 0x200000)) { /* PSE-36: bits 13-20 are address bits 32-39, 21 reserved */
        w->error = PF_P | PF_RSVD;
        return false;
    }
    w->w = e & PTE_W;
    w->u = e & PTE_U;
    w->pa = (e & 0xffc00000) | ((e & 0x1fe000) << 19) | (lin & 0x3fffff);
    if (!large) {
        if (touch && !(e & PTE_A)) walk_write(c, at, e |= PTE_A, 4);
        at = (e & 0xfffff000) + ((lin >> 12) & 1023) * 4;
        e = walk_read(c, at, 4);
        w->level = 1;
        if (!(e & PTE_P)) return false;
        w->w &= !!(e & PTE_W);
        w->u &= !!(e & PTE_U);
        w->pa = (e & 0xfffff000) | (lin & 0xfff);
    }
    w->d = e & PTE_D;
    w->g = e & PTE_G;
    w->entry = e, w->entry_pa = at, w->entry_size = 4;
    return true;
}

static bool walk(accel_cpu *c, uint64_t lin, struct walk *w, bool touch) {
    return c->cr4 & CR4_PAE ? walk_long(c, lin, w, touch) : walk_legacy(c, lin, w, touch);
}

/* ---- permission (SDM vol. 3, "Access Rights") -------------------------------------------------------------- */

/* The error bits of a violation, or 0 if the access is allowed. */
static uint32_t violation(const accel_cpu *c, uint16_t flags, int acc, bool user, bool implicit) {
    bool u = flags & TLB_U;
    if (user && !u) return PF_P;
    if (acc == ACC_X) {
        if ((flags & TLB_NX) || (!user && u && (c->cr4 & CR4_SMEP))) return PF_P;
        return 0;
    }
    bool protects = acc == ACC_W && (user || (c->cr0 & CR0_WP));
    uint32_t error = 0;
    if (unlikely(c->cr4 & CR4_PKE) && u && is_long(c)) { /* PK tells about the key whatever else is wrong */
        uint32_t key = flags >> TLB_PKEY_SHIFT, bits = c->pkru >> (2 * key);
        if ((bits & 1) || ((bits & 2) && protects)) error = PF_P | PF_PK;
    }
    if (!user && u && (c->cr4 & CR4_SMAP) && (implicit || !(c->flags & F_AC))) return error | PF_P;
    if (protects && !(flags & TLB_W)) return error | PF_P;
    return error;
}

static bool page_fault(accel_cpu *c, uint64_t lin, uint32_t error, int acc, bool user) {
    if (acc == ACC_W) error |= PF_W;
    if (user) error |= PF_U;
    if (acc == ACC_X && ((c->cr4 & CR4_SMEP) || ((c->cr4 & CR4_PAE) && (c->efer & EFER_NXE)))) error |= PF_I;
    c->fault = (struct fault){.vector = EX_PF, .has_error = true, .error = error, .cr2 = lin};
    c->stats.faults++;
    return false;
}

static uint16_t entry_flags(const struct walk *w) {
    return (uint16_t)(TLB_VALID | (w->w ? TLB_W : 0) | (w->u ? TLB_U : 0) | (w->nx ? TLB_NX : 0) | (w->d ? TLB_D : 0) |
                      (w->level == 2 ? TLB_LARGE : w->level >= 3 ? TLB_HUGE : 0) | w->pkey << TLB_PKEY_SHIFT);
}

static void entry_install(accel_cpu *c, struct tlb_entry *t, uint64_t lin, const struct walk *w, int acc, uint16_t flags) {
    if (acc == ACC_X) fetch_flush(c);
    else if (t->flags & TLB_VALID) ftlb_drop(c, t->vpn);
    if (w->level > 1) tlb_note_large(c, lin >> 12, w->level > 2);
    bool global = w->g && (c->cr4 & CR4_PGE);
    uint16_t pcid = current_pcid(c);
    *t = (struct tlb_entry){.vpn = lin >> 12, .pfn = w->pa >> 12, .gen = global ? c->tlb_ggen : c->tlb_gen[pcid],
                            .flags = flags | (global ? TLB_GLOBAL : 0), .pcid = pcid};
}

/* A TLB miss, or a write through an entry whose page is not dirty yet: walk, check, set A and D, install. */
static NOINLINE bool translate_slow(accel_cpu *c, uint64_t lin, int acc, bool user, bool implicit, struct tlb_entry *t) {
    c->stats.tlb_misses++;
    if (!(c->cr0 & CR0_PG)) {
        struct walk w = {.pa = lin, .level = 1};
        entry_install(c, t, lin, &w, acc, TLB_VALID | TLB_W | TLB_U | TLB_D);
        return true;
    }
    c->stats.page_walks++;
    struct walk w = {0};
    if (!walk(c, lin, &w, true)) return page_fault(c, lin, w.error, acc, user);
    uint16_t flags = entry_flags(&w);
    uint32_t bad = violation(c, flags, acc, user, implicit);
    if (bad) {
        if (t->vpn == lin >> 12) { /* SDM vol. 3, "Invalidation of TLBs": a fault drops the entry of its address */
            t->flags = 0;
            if (acc == ACC_X) fetch_flush(c); /* the next fetch there walks again, whatever blocks are known */
            else ftlb_drop(c, lin >> 12);
        }
        return page_fault(c, lin, bad, acc, user);
    }
    uint64_t marked = w.entry | PTE_A | (acc == ACC_W ? PTE_D : 0);
    if (marked != w.entry) walk_write(c, w.entry_pa, marked, w.entry_size);
    if (acc == ACC_W) flags |= TLB_D;
    entry_install(c, t, lin, &w, acc, flags);
    return true;
}

INLINE bool translate(accel_cpu *c, uint64_t lin, int acc, bool user, bool implicit, uint64_t *pa) {
    struct tlb_entry *t = tlb_slot(c, lin >> 12, acc);
    bool hit = entry_hits(c, t, lin >> 12);
    if (hit && (c->cr0 & CR0_PG)) {
        /* a violation through a cached entry is walked again: the tables may allow it by now */
        if (violation(c, t->flags, acc, user, implicit) || (acc == ACC_W && !(t->flags & TLB_D))) hit = false;
    }
    if (!hit && !translate_slow(c, lin, acc, user, implicit, t)) return false;
    *pa = ((t->pfn << 12) | (lin & 0xfff)) & c->m->a20_mask; /* A20 is a gate behind the TLB: entries outlive its changes */
    if (acc != ACC_X) ftlb_fill(c, lin, t, user, implicit);
    return true;
}

bool mmu_fetch(accel_cpu *c, uint64_t lin, uint64_t *pa) { return translate(c, lin, ACC_X, c->cpl == 3, false, pa); }

bool mmu_translate(accel_cpu *c, uint64_t lin, int acc, bool user, uint64_t *pa) {
    return translate(c, lin, acc, user, !user && c->cpl == 3, pa);
}

bool mmu_translate_system(accel_cpu *c, uint64_t lin, int acc, uint64_t *pa) { return translate(c, lin, acc, false, true, pa); }

int accel_translate(accel_cpu *c, uint64_t lin, accel_walk *out) {
    *out = (accel_walk){.gpa = lin & c->m->a20_mask, .page_shift = 12, .writable = 1, .user = 1, .executable = 1};
    if (!(c->cr0 & CR0_PG)) return ACCEL_OK;
    uint64_t reads = c->stats.off_slot_reads;
    struct walk w = {0};
    bool ok = walk(c, lin, &w, false);
    c->stats.off_slot_reads = reads;
    if (is_long(c)) {
        unsigned shift = c->cr4 & CR4_LA57 ? 7 : 16;
        if ((uint64_t)((int64_t)(lin << shift) >> shift) != lin) ok = false, w.level = 5;
    }
    if (!ok) {
        out->gpa = w.level;
        return ACCEL_EFAULT;
    }
    *out = (accel_walk){.gpa = w.pa & c->m->a20_mask, .page_shift = w.level == 1 ? 12 : w.level == 3 ? 30 : c->cr4 & CR4_PAE ? 21 : 22,
                        .writable = w.w, .user = w.u, .executable = !w.nx, .accessed = !!(w.entry & PTE_A), .dirty = w.d, .global = w.g};
    return ACCEL_OK;
}

uint64_t accel_linear_read(accel_cpu *c, uint64_t lin, void *data, uint64_t size) {
    uint8_t *to = data;
    uint64_t done = 0;
    while (done < size) {
        accel_walk w;
        uint64_t n = 4096 - (lin & 0xfff);
        if (n > size - done) n = size - done;
        if (accel_translate(c, lin, &w) || accel_phys_read(c->m, w.gpa, to + done, n)) break;
        done += n, lin += n;
    }
    return done;
}
