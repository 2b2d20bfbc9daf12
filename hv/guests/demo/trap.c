/* Exceptions and device interrupts, from the one path that traps.S calls. */
#include "demo.h"

#define GATE_PRESENT_INTERRUPT 0x8E

#define VECTOR_NMI 2
#define VECTOR_BREAKPOINT 3
#define VECTOR_PAGE_FAULT 14
#define LAST_EXCEPTION 31

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

extern const uint8_t trap_stubs[256][16];
extern const uint64_t may_fault[];
extern const uint8_t fault_return[];

volatile uint64_t ticks;
volatile uint64_t page_faults;
volatile uint64_t breakpoints;

static struct gate idt[256] __attribute__((aligned(16)));

void idt_setup(void)
{
    for (uint32_t vector = 0; vector < 256; vector++) {
        uint64_t stub = (uint64_t)trap_stubs[vector];
        idt[vector] = (struct gate){
            .offset_low = (uint16_t)stub,
            .selector = SEL_CODE64,
            .type = GATE_PRESENT_INTERRUPT,
            .offset_middle = (uint16_t)(stub >> 16),
            .offset_high = (uint32_t)(stub >> 32),
        };
    }
}

void idt_load(void)
{
    struct table_pointer pointer = {.limit = sizeof idt - 1, .base = (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* The PIT, TICK_HZ times a second, on the first processor. */
void timer_interrupt(void)
{
    ticks++;
    this_cpu()->ticks++;
}

void sleep_ticks(uint64_t count)
{
    uint64_t end = ticks + count;
    while (ticks < end)
        wait_for_interrupt();
}

static int skip_expected_fault(struct trap_frame *frame)
{
    for (const uint64_t *rip = may_fault; *rip; rip++) {
        if (frame->rip == *rip) {
            frame->rip = (uint64_t)fault_return;
            return 1;
        }
    }
    return 0;
}

static void fatal(struct trap_frame *frame)
{
    print("\ncpu %u: exception %lu, error code 0x%lx, cr2 0x%lx\n", this_cpu()->index, frame->vector,
          frame->error_code, read_cr2());
    print("rip 0x%lx rsp 0x%lx rflags 0x%lx\n", frame->rip, frame->rsp, frame->rflags);
    halt_for_ever();
}

void page_fault(uint64_t address, struct trap_frame *frame)
{
    if (demand_map(address)) {
        this_cpu()->page_faults++;
        __atomic_fetch_add(&page_faults, 1, __ATOMIC_RELAXED);
        return;
    }
    if (!skip_expected_fault(frame))
        fatal(frame);
}

static void exception(struct trap_frame *frame)
{
    switch (frame->vector) {
    case VECTOR_NMI:
        return;
    case VECTOR_BREAKPOINT:
        breakpoints++;
        return;
    case VECTOR_PAGE_FAULT:
        page_fault(read_cr2(), frame);
        return;
    default:
        if (!skip_expected_fault(frame))
            fatal(frame);
    }
}

void trap_dispatch(struct trap_frame *frame)
{
    if (frame->vector <= LAST_EXCEPTION) {
        exception(frame);
        return;
    }
    switch (frame->vector) {
    case VECTOR_PIT:
        timer_interrupt();
        break;
    case VECTOR_APIC_TIMER:
        this_cpu()->ticks++;
        break;
    case VECTOR_SERIAL:
        serial_interrupt();
        break;
    case VECTOR_SPURIOUS:
        return; /* takes no end-of-interrupt */
    }
    apic_end_of_interrupt();
}
