/* Interrupt controllers and timers: 8259 (masked), 8254, local APIC, I/O APIC. */
#include "demo.h"

#define PIC1 0x20
#define PIC2 0xA0
#define ICW1_START 0x11
#define ICW4_8086 0x01

#define PIT_CHANNEL0 0x40
#define PIT_COMMAND 0x43
#define PIT_CHANNEL0_RATE 0x34 /* low byte then high byte, mode 2 */
#define PIT_HZ 1193182

#define APIC_BASE 0xFEE00000
#define APIC_GLOBAL_ENABLE (1 << 11)
#define APIC_ID 0x020
#define APIC_EOI 0x0B0
#define APIC_SPURIOUS 0x0F0
#define APIC_SOFTWARE_ENABLE (1 << 8)
#define APIC_ICR_LOW 0x300
#define APIC_ICR_PENDING (1 << 12)
#define APIC_ICR_HIGH 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_TIMER_PERIODIC (1 << 17)
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_DIVIDE 0x3E0
#define APIC_DIVIDE_BY_16 0x3
#define APIC_BUS_HZ 1000000000

#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
#define IOAPIC_REDIRECTION 0x10 /* register pair of pin 0 */

static uint32_t apic_read(uint32_t offset)
{
    return *(volatile uint32_t *)(uint64_t)(APIC_BASE + offset);
}

static void apic_write(uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(uint64_t)(APIC_BASE + offset) = value;
}

/* Move the 8259 pair away from the exception vectors, then mask every input. */
void pic_mask_all(void)
{
    outb(PIC1, ICW1_START);
    outb(PIC2, ICW1_START);
    outb(PIC1 + 1, VECTOR_PIC);
    outb(PIC2 + 1, VECTOR_PIC + 8);
    outb(PIC1 + 1, 1 << 2); /* the second one hangs on input 2 */
    outb(PIC2 + 1, 2);
    outb(PIC1 + 1, ICW4_8086);
    outb(PIC2 + 1, ICW4_8086);
    outb(PIC1 + 1, 0xFF);
    outb(PIC2 + 1, 0xFF);
}

void pit_start(void)
{
    uint32_t divisor = PIT_HZ / TICK_HZ;
    outb(PIT_COMMAND, PIT_CHANNEL0_RATE);
    outb(PIT_CHANNEL0, divisor & 0xFF);
    outb(PIT_CHANNEL0, (uint8_t)(divisor >> 8));
}

void apic_enable(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_GLOBAL_ENABLE);
    apic_write(APIC_SPURIOUS, APIC_SOFTWARE_ENABLE | VECTOR_SPURIOUS);
}

void apic_timer_start(void)
{
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_16);
    apic_write(APIC_LVT_TIMER, APIC_TIMER_PERIODIC | VECTOR_APIC_TIMER);
    apic_write(APIC_TIMER_INITIAL, APIC_BUS_HZ / 16 / TICK_HZ);
}

uint32_t apic_id(void)
{
    return apic_read(APIC_ID) >> 24;
}

void apic_end_of_interrupt(void)
{
    apic_write(APIC_EOI, 0);
}

void apic_send_ipi(uint32_t target, uint32_t command)
{
    apic_write(APIC_ICR_HIGH, target << 24);
    apic_write(APIC_ICR_LOW, command);
    while (apic_read(APIC_ICR_LOW) & APIC_ICR_PENDING)
        pause();
}

static void ioapic_write(uint32_t index, uint32_t value)
{
    volatile uint8_t *ioapic = (volatile uint8_t *)(uint64_t)machine.ioapic_address;
    *(volatile uint32_t *)(ioapic + IOAPIC_SELECT) = index;
    *(volatile uint32_t *)(ioapic + IOAPIC_WINDOW) = value;
}

/* Deliver `gsi`, edge triggered and active high, as `vector` to this processor. */
void ioapic_route(uint32_t gsi, uint32_t vector)
{
    ioapic_write(IOAPIC_REDIRECTION + 2 * gsi + 1, apic_id() << 24);
    ioapic_write(IOAPIC_REDIRECTION + 2 * gsi, vector);
}
