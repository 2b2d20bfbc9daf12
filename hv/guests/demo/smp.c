/* Starting the other processors (SDM vol. 3, "Multiple-Processor Initialization"), and their work. */
#include "demo.h"

#define IPI_INIT 0x04500    /* INIT, assert */
#define IPI_STARTUP 0x04600 /* start-up; the low byte is the page to start at */
#define IPI_ALL_BUT_SELF 0xC0000

#define STEPS_PER_TICK 16

extern const uint8_t ap_trampoline[], ap_trampoline_end[];

struct cpu cpus[MAX_CPUS];
volatile uint32_t cpus_online;
volatile uint64_t worker_counters[MAX_CPUS];
volatile uint32_t workers_busy;

void ap_main(uint32_t index);

/* Make the running processor number `index`. */
void cpu_setup(uint32_t index)
{
    struct cpu *cpu = &cpus[index];
    cpu->self = cpu;
    cpu->index = index;
    wrmsr(MSR_GS_BASE, (uint64_t)cpu);
    idt_load();
    apic_enable();
    cpu->apic_id = apic_id();
    cpu->online = 1;
    __atomic_fetch_add(&cpus_online, 1, __ATOMIC_SEQ_CST);
}

/* One task from the ring. */
void worker_step(void)
{
    run_task(pick_task());
    worker_counters[this_cpu()->index]++;
}

/* What a started processor does for ever: some work after every timer interrupt, then sleep. */
static void worker(void)
{
    for (;;) {
        for (uint32_t i = 0; i < STEPS_PER_TICK; i++)
            worker_step();
        if (!workers_busy)
            wait_for_interrupt();
    }
}

void ap_main(uint32_t index)
{
    cpu_setup(index);
    apic_timer_start();
    enable_interrupts();
    worker();
}

static void start_cpu(uint32_t target, uint32_t shorthand)
{
    apic_send_ipi(target, IPI_INIT | shorthand);
    sleep_ticks(1);
    apic_send_ipi(target, IPI_STARTUP | shorthand | TRAMPOLINE >> 12);
    sleep_ticks(1);
}

void start_other_cpus(void)
{
    memcpy((void *)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    if (machine.cpu_count == 0)
        start_cpu(0, IPI_ALL_BUT_SELF);
    for (uint32_t i = 0; i < machine.cpu_count; i++)
        if (machine.apic_ids[i] != cpus[0].apic_id)
            start_cpu(machine.apic_ids[i], 0);
}
