"""Every fixed address, port and interrupt number of the `pc` machine, each with its source.

Nothing else in the package writes such a number down; devices, loaders and firmware tables take
them from here, so that the ACPI tables can never disagree with the devices.
"""

from typing import Final

# --- Physical memory map (PC/AT compatible; bhyve keeps RAM below 3 GiB, so do we) ---------------
LOWMEM_LIMIT: Final = 0xC000_0000  # RAM below this address; the rest starts at HIGHMEM_BASE
HIGHMEM_BASE: Final = 0x1_0000_0000
PCI_HOLE_BASE: Final = 0xC000_0000
PCI_HOLE_SIZE: Final = 0x3EC0_0000  # up to the I/O APIC window
EBDA_BASE: Final = 0x9_FC00  # extended BIOS data area, 1 KiB, reserved in E820
VGA_BASE: Final = 0xA_0000  # A0000-FFFFF: no RAM for the E820 map
BIOS_TABLES_BASE: Final = 0xE_0000  # RSDP and the ACPI tables live here (ACPI 6.5, 5.2.5.1)
BIOS_TABLES_SIZE: Final = 0x2_0000
IOAPIC_BASE: Final = 0xFEC0_0000  # Intel 82093AA datasheet
IOAPIC_SIZE: Final = 0x1000
HPET_BASE: Final = 0xFED0_0000  # IA-PC HPET specification 1.0a, 2.3
HPET_SIZE: Final = 0x400
LAPIC_BASE: Final = 0xFEE0_0000  # SDM vol. 3, "Local APIC"
RESET_VECTOR: Final = 0xFFFF_FFF0

# --- Ports ----------------------------------------------------------------------------------------
PORT_PIC1: Final = 0x20
PORT_PIT: Final = 0x40
PORT_I8042_DATA: Final = 0x60
PORT_NMISC: Final = 0x61  # PIT channel 2 gate, speaker, refresh toggle
PORT_I8042_CMD: Final = 0x64
PORT_RTC: Final = 0x70
PORT_POST: Final = 0x80  # POST code; Linux writes it as an I/O delay
PORT_FAST_A20: Final = 0x92
PORT_PIC2: Final = 0xA0
PORT_DEBUG_CONSOLE: Final = 0xE9  # Bochs/QEMU port E9 hack
PORT_DEBUG_EXIT: Final = 0xF4  # QEMU isa-debug-exit
PORT_COM2: Final = 0x2F8
PORT_COM1: Final = 0x3F8
PORT_ELCR: Final = 0x4D0
PORT_PM1A_EVT: Final = 0x400  # ACPI PM1a event block (status 400, enable 402)
PORT_PM1A_CNT: Final = 0x404
PORT_PM_TIMER: Final = 0x408  # bhyve's address
PORT_SMI_CMD: Final = 0xB2
PORT_PCI_CONFIG_ADDR: Final = 0xCF8
PORT_RESET_CONTROL: Final = 0xCF9
PORT_PCI_CONFIG_DATA: Final = 0xCFC

# --- Interrupts (ISA IRQ numbers; the I/O APIC GSI is equal unless overridden) ---------------------
IRQ_PIT: Final = 0  # wired to I/O APIC pin 2 (MADT interrupt source override)
GSI_PIT: Final = 2
IRQ_KEYBOARD: Final = 1
IRQ_CASCADE: Final = 2
IRQ_COM2: Final = 3
IRQ_COM1: Final = 4
IRQ_RTC: Final = 8
IRQ_SCI: Final = 9
IRQ_MOUSE: Final = 12
IOAPIC_PINS: Final = 24

# --- Frequencies ----------------------------------------------------------------------------------
PIT_HZ: Final = 1_193_182
PM_TIMER_HZ: Final = 3_579_545
HPET_HZ: Final = 10_000_000  # bhyve's
LAPIC_TIMER_HZ: Final = 1_000_000_000  # bus clock before the divider; announced in CPUID 15H
RTC_HZ: Final = 32_768

# --- Sleep types written to PM1a_CNT.SLP_TYP (defined by our own DSDT) -----------------------------
SLP_TYP_S5: Final = 5
SLP_EN: Final = 1 << 13
