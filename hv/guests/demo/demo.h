/* The demo guest: what its files offer to each other, and the variables worth watching. */
#ifndef DEMO_H
#define DEMO_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "layout.h"

/* --- smp.c: one row per processor; the GS base of each points at its row ------------------- */
struct cpu {
    struct cpu *self;
    uint32_t index;
    uint32_t apic_id;
    volatile uint32_t online;
    volatile uint64_t ticks; /* timer interrupts taken by this processor */
    uint64_t page_faults;    /* demand-paging faults of this processor */
};

extern struct cpu cpus[MAX_CPUS];
extern volatile uint32_t cpus_online;
extern volatile uint64_t worker_counters[MAX_CPUS];
extern volatile uint32_t workers_busy; /* nonzero: workers never sleep */

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

void cpu_setup(uint32_t index);
void start_other_cpus(void);
void worker_step(void);

/* --- a lock that spins ------------------------------------------------------------------------- */
struct spinlock {
    volatile uint32_t held;
};

static inline void lock(struct spinlock *spinlock)
{
    while (__atomic_exchange_n(&spinlock->held, 1, __ATOMIC_ACQUIRE))
        pause();
}

static inline void unlock(struct spinlock *spinlock)
{
    __atomic_store_n(&spinlock->held, 0, __ATOMIC_RELEASE);
}

/* --- task.c --------------------------------------------------------------------------------- */
struct task {
    const char *name;
    uint64_t (*step)(struct task *task);
    uint64_t runs;
    uint64_t result; /* of the last step */
    struct task *next;
};

extern struct task *run_queue;
extern struct spinlock shared_lock;
extern uint64_t shared_counter; /* under shared_lock */

void tasks_setup(void);
struct task *pick_task(void);
void run_task(struct task *task);
uint64_t fib(uint64_t n);

/* --- trap.c: the IDT, exceptions, device interrupts ------------------------------------------ */
extern volatile uint64_t ticks;       /* PIT interrupts since start, TICK_HZ a second */
extern volatile uint64_t page_faults; /* demand-paging faults, all processors */
extern volatile uint64_t breakpoints; /* INT3 instructions executed */

void idt_setup(void);
void idt_load(void);
void timer_interrupt(void);
void page_fault(uint64_t address, struct trap_frame *frame);
void sleep_ticks(uint64_t count);

/* traps.S: 1, or 0 when the access faulted. */
int probe_read(const uint64_t *address, uint64_t *value);
int probe_write(uint64_t *address, uint64_t value);
int raise_divide_error(void);
int raise_undefined_opcode(void);
int raise_general_protection(void);

/* --- paging.c: a window of address space per processor, filled page by page on first touch --- */
void demand_setup(void);
uint64_t *demand_next_page(void);
int demand_map(uint64_t address);

/* --- irq.c: 8259, 8254, local APIC, I/O APIC -------------------------------------------------- */
void pic_mask_all(void);
void pit_start(void);
void apic_enable(void);
void apic_timer_start(void);
uint32_t apic_id(void);
void apic_end_of_interrupt(void);
void apic_send_ipi(uint32_t apic_id, uint32_t command);
void ioapic_route(uint32_t gsi, uint32_t vector);

/* --- acpi.c: what the firmware tables say ------------------------------------------------------ */
struct machine {
    uint32_t cpu_count; /* rows of apic_ids; 0 when there is no MADT */
    uint32_t apic_ids[MAX_CPUS];
    uint32_t pit_gsi;
    uint32_t ioapic_address;
    uint16_t pm1a_control; /* port */
    uint16_t sleep_type_s5;
};

extern struct machine machine;

void acpi_read(uint64_t rsdp_address);

/* --- serial.c: COM1 ---------------------------------------------------------------------------- */
void serial_setup(void);
void serial_interrupt(void);
int serial_read(void); /* a byte, or -1 when none has come */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- shell.c ----------------------------------------------------------------------------------- */
void shell(void) __attribute__((noreturn));
void shell_execute(char *line);

/* --- main.c, power.c, string.c ------------------------------------------------------------------- */
void kmain(uint64_t start_info_address);
void power_off(void);
void reboot(void);
void triple_fault(void);
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int strcmp(const char *a, const char *b);
int bytes_equal(const void *a, const void *b, size_t size);

#endif
