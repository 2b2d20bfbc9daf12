/* Start-up in C. */
#include "demo.h"

#define START_INFO_MAGIC 0x336EC578

/* Xen's public header arch-x86/hvm/start_info.h. */
struct hvm_start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules_address;
    uint64_t command_line_address;
    uint64_t rsdp_address;
};

void kmain(uint64_t start_info_address)
{
    const struct hvm_start_info *start_info = (const struct hvm_start_info *)start_info_address;
    uint64_t rsdp_address = start_info->magic == START_INFO_MAGIC ? start_info->rsdp_address : 0;

    serial_setup();
    print("hv demo guest\n");
    acpi_read(rsdp_address);
    tasks_setup();
    demand_setup();
    idt_setup();
    pic_mask_all();
    cpu_setup(0);
    ioapic_route(machine.pit_gsi, VECTOR_PIT);
    ioapic_route(4, VECTOR_SERIAL);
    pit_start();
    enable_interrupts();
    start_other_cpus();
    print("%u cpus, %u timer ticks a second; type help\n", cpus_online, (uint32_t)TICK_HZ);
    shell();
}
