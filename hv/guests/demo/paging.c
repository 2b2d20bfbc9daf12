/*
 * Demand paging. Each processor owns a window of 512 pages and a few frames; a page gets a frame
 * on its first touch, and when the frames run out the oldest page loses its own. Nobody touches
 * another processor's window, so no TLB but the own one must be told.
 */
#include "demo.h"

#define PAGE_SIZE 4096
#define PAGES_PER_WINDOW 512
#define FRAMES_PER_CPU 16
#define PTE_PRESENT_WRITABLE 0x003

struct window {
    uint64_t oldest; /* number of pages mapped so far; modulo FRAMES_PER_CPU, the frame to reuse */
    uint64_t next_page;
    uint64_t mapped[FRAMES_PER_CPU]; /* address that the frame serves, 0 when free */
};

extern uint64_t pml4[512];

static uint64_t demand_pointers[512] __attribute__((aligned(PAGE_SIZE)));
static uint64_t demand_directory[512] __attribute__((aligned(PAGE_SIZE)));
static uint64_t demand_tables[MAX_CPUS][PAGES_PER_WINDOW] __attribute__((aligned(PAGE_SIZE)));
static uint8_t frames[MAX_CPUS][FRAMES_PER_CPU][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static struct window windows[MAX_CPUS];

void demand_setup(void)
{
    for (uint32_t i = 0; i < MAX_CPUS; i++)
        demand_directory[i] = (uint64_t)demand_tables[i] | PTE_PRESENT_WRITABLE;
    demand_pointers[0] = (uint64_t)demand_directory | PTE_PRESENT_WRITABLE;
    pml4[DEMAND_BASE >> 39 & 511] = (uint64_t)demand_pointers | PTE_PRESENT_WRITABLE;
}

static uint64_t window_base(uint32_t index)
{
    return DEMAND_BASE + (uint64_t)index * DEMAND_WINDOW;
}

/* The first word of this processor's next page, round its window again and again. */
uint64_t *demand_next_page(void)
{
    uint32_t index = this_cpu()->index;
    uint64_t page = windows[index].next_page++ % PAGES_PER_WINDOW;
    return (uint64_t *)(window_base(index) + page * PAGE_SIZE);
}

static uint64_t *table_entry(uint32_t index, uint64_t address)
{
    return &demand_tables[index][(address - window_base(index)) / PAGE_SIZE];
}

/* Give the page at `address` a zeroed frame. Returns 0 when it is not in our window. */
int demand_map(uint64_t address)
{
    uint32_t index = this_cpu()->index;
    uint64_t page = address & ~(uint64_t)(PAGE_SIZE - 1);
    if (page - window_base(index) >= DEMAND_WINDOW)
        return 0;

    struct window *window = &windows[index];
    uint64_t slot = window->oldest++ % FRAMES_PER_CPU;
    uint64_t evicted = window->mapped[slot];
    if (evicted) {
        *table_entry(index, evicted) = 0;
        invlpg(evicted);
    }
    memset(frames[index][slot], 0, PAGE_SIZE);
    window->mapped[slot] = page;
    *table_entry(index, page) = (uint64_t)frames[index][slot] | PTE_PRESENT_WRITABLE;
    return 1;
}
