/*
 * slice.c - a slice: a stretch of execution with nothing to check but the budget. Within it blocks chain to each other
 * directly; they come back here when a link is not resolved (LEAVE_CHAIN), the budget ends, or something has happened.
 */
#include "branch.h"
#include "run.h"

/* ---- fetch --------------------------------------------------------------------------------------------------- */

/* The linear and physical address of c->rip. False: c->fault. */
static bool fetch_address(accel_cpu *c, u64 *lin, u64 *pa) {
    if (is_code64(c)) {
        *lin = c->rip;
        if (unlikely(!canonical(c, *lin))) return set_fault(c, EX_GP, true, 0);
    } else {
        if (unlikely(c->rip > c->seg[SEG_CS].limit)) return set_fault(c, EX_GP, true, 0);
        *lin = (c->rip + c->seg[SEG_CS].base) & 0xffffffff;
    }
    return mmu_fetch(c, *lin, pa);
}

/* The second page of an instruction that crosses is translated at every execution, as its fetch would be. */
static bool second_page_same(accel_cpu *c, const struct block *b, u64 lin, bool *fault) {
    u64 pa, next = (lin | 0xfff) + 1;
    if (!is_code64(c)) next &= 0xffffffff;
    *fault = !mmu_fetch(c, next, &pa);
    return !*fault && (pa & PAGE_MASK) == b->pa2;
}

/* The block at c->rip for c->run_key; NULL: c->fault. `guess` is the block that was here under other translations:
 * the usual case after a TLB flush, and cheaper to verify than to search. */
static struct block *block_at_rip(accel_cpu *c, struct block *guess) {
    u64 lin = 0, pa = 0;
    if (!fetch_address(c, &lin, &pa)) return NULL;
    u32 key = c->run_key;
    if (unlikely(c->m->break_count || (c->dr[7] & 0xff)) && points_break_page(c, lin, pa)) key |= K_BP;
    struct block *b = guess;
    if (!b || b->pa != pa || b->key != key || b->cost == COST_DEAD) {
        c->stats.block_lookups++;
        b = block_find(c, pa, key);
    }
    if (b && unlikely(b->pa2 != ~0ull)) {
        bool fault;
        if (!second_page_same(c, b, lin, &fault)) {
            if (fault) return NULL;
            block_kill_range(c->m, pa, 1);
            b = NULL;
        }
    }
    if (!b && !(b = block_make(c, lin, pa, key))) return NULL;
    if (unlikely(!(c->key & K_FLAT)) && !is_code64(c) && c->rip + b->bytes - 1 > c->seg[SEG_CS].limit) {
        if (b->n == 1) {
            set_fault(c, EX_GP, true, 0);
            return NULL;
        }
        c->run_key |= K_SINGLE;
        return block_at_rip(c, NULL);
    }
    return b;
}

/* ---- one slice ------------------------------------------------------------------------------------------------ */

static void enter(accel_cpu *c, struct block *b) {
    c->r[R_RIP] = c->rip;
    c->block = b;
    c->budget -= b->cost;
    c->leave = LEAVE_NONE;
#ifdef ACCEL_LOOP_DISPATCH
    const struct op *o = b->ops;
    while (c->leave == LEAVE_NONE) {
        c->cur = NULL;
        o->fn(c, o);
        if (c->leave == LEAVE_NONE) o = c->cur;
    }
#else
    b->ops->fn(c, b->ops);
#endif
}

static void remember(accel_cpu *c, struct link *l, int which, struct block *b) {
    if (b->pa2 != ~0ull) return;
    if (l) {
        l->to[which] = b;
        *(which ? &l->gen1 : &l->gen) = c->fetch_gen;
        return;
    }
    unsigned i = jump_index(c->rip);
    c->jump[i].rip = c->rip;
    c->jump[i].b = b;
    c->jump[i].gen = c->fetch_gen;
    c->jump[i].key = c->run_key;
}

/* Whether an instruction that ended its block, and may have changed anything, leaves nothing to do at the boundary behind it: all
 * that boundary() and execute() look at. PAUSE brings the deadline nearer, perhaps into the slice. */
static bool calm(const accel_cpu *c) {
    const accel_control *k = &c->ctl;
    u32 due = c->attention | c->shadow | c->mtrap_due | c->answer_count | k->inflight_valid | k->inject_valid | k->nmi_pending |
              k->nmi_window | k->irq_window | k->intr_line | k->activity | k->monitor_trap | k->step_range | (c->flags & (F_TF | F_RF)) |
              k->catch_events | c->m->dma_count | c->m->woken;
    bool fits = c->ticks + (u64)c->slice <= c->until;
    return !due && fits && !c->pending_dbg && !k->tpr_threshold && !atomic_load_explicit(&c->stop, memory_order_relaxed);
}

/* Whether all of b, at c->rip, lies in the step range. */
static bool range_holds(const accel_cpu *c, const struct block *b) { return in_range(c) && b->bytes <= c->ctl.step_end - c->rip; }

int run_slice(accel_cpu *c, bool single) {
    struct link *link = NULL;
    int which = 0;
    bool range = c->ctl.step_range && !single;
    bool more = (u64)c->slice < c->until - c->ticks; /* a slice need not be filled to its last tick: there will be another */
    bool fetched = false; /* for the next instruction, which is not done: nothing may stop before it from now on */
    c->run_key = c->key | (single ? K_SINGLE : 0) | (tracing(c) ? K_TRACE : 0) | (range ? K_RANGE : 0);
    for (;;) {
        c->link_slot = link; /* block_flush_all() clears it */
        struct block *b = link || !is_code64(c) ? NULL : known_block(c, c->rip);
        if (b == NULL || b->cost == COST_DEAD) {
            if (!fetched) { /* decoding takes its time; and a block that is fetched must fit */
                if (unlikely(atomic_load_explicit(&c->stop, memory_order_relaxed))) return LEAVE_BUDGET;
                if (unlikely(more && !single && c->budget < BLOCK_MAX)) return LEAVE_BUDGET;
            }
            b = block_at_rip(c, link ? link->to[which] : c->jump[jump_index(c->rip)].b);
            if (unlikely(!b)) return LEAVE_FETCH;
            fetched = true;
            if (unlikely(range)) c->link_slot = NULL;
            else if (link == NULL || c->link_slot) remember(c, c->link_slot, which, b);
        }
        if (unlikely(b->cost > c->budget) || (unlikely(range) && !(c->run_key & K_SINGLE) && !range_holds(c, b))) {
            if (c->budget == 0 || (more && b->cost > c->budget)) return LEAVE_BUDGET;
            c->run_key |= K_SINGLE;
            link = NULL;
            continue;
        }
        enter(c, b);
        fetched = false;
        link = NULL;
        switch (c->leave) {
        case LEAVE_CHAIN:
            if (c->budget == 0) return LEAVE_BUDGET;
            if (unlikely(range)) {
                if (!in_range(c)) return LEAVE_CHAIN;
                c->run_key &= ~(u32)K_SINGLE;
                break;
            }
            link = c->link_slot, which = c->link_which;
            break;
        case LEAVE_BUDGET:
            if (c->budget == 0 || more) return LEAVE_BUDGET;
            c->run_key |= K_SINGLE;
            break;
        case LEAVE_TO:
            if (c->budget == 0 || single || (c->run_key & (K_TRACE | K_RANGE)) || !calm(c)) return LEAVE_TO;
            c->run_key = c->key;
            c->skip_now = c->tf_after = 0;
            break;
        case LEAVE_STALE: break;
        default: return c->leave;
        }
    }
}
