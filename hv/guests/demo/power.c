/* Ways to end: ACPI soft-off, reset, triple fault. */
#include "demo.h"

#define SLP_TYP_SHIFT 10
#define SLP_EN (1 << 13)

#define RESET_CONTROL 0xCF9
#define RESET_CPU_HARD 0x06
#define I8042_COMMAND 0x64
#define I8042_PULSE_RESET 0xFE

void power_off(void)
{
    outw(machine.pm1a_control, (uint16_t)(machine.sleep_type_s5 << SLP_TYP_SHIFT | SLP_EN));
    sleep_ticks(TICK_HZ); /* a machine may take its time */
    print("the machine is still on\n");
}

/* With an empty IDT, INT3 faults, the fault faults, and so does the double fault. */
void triple_fault(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) empty = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(empty));
}

void reboot(void)
{
    outb(RESET_CONTROL, RESET_CPU_HARD);
    outb(I8042_COMMAND, I8042_PULSE_RESET);
    triple_fault();
}
