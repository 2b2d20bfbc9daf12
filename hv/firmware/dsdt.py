"""The DSDT's definition block: what the operating system cannot find out about the board by itself.

Namespace: the S5 sleep type, one ACPI0007 device per vCPU, and the PCI root with the fixed devices
of the PC below it. The power button is fixed hardware (PM1), so it has no device here.

Sources: ACPI 6.5, chapters 6 "Device Configuration", 7 "Power and Performance Management" and
section 9 for the PNP identifiers; PCI Firmware Specification 3.3, chapter 4 for `_CRS` and `_PRT`.
"""

from typing import Final

from hv.firmware import aml
from hv.machines import layout

MAX_PROCESSORS: Final = 0x1000  # three hexadecimal digits in a device name
PCI_SLOTS: Final = 32
PCI_FIRST_GSI: Final = 16
_PCI_GSIS: Final = layout.IOAPIC_PINS - PCI_FIRST_GSI
_PORT_PIC_SIZE: Final = 2
_IOAPIC_SIZE: Final = 0x1000
_LAPIC_SIZE: Final = 0x1000
_HPET_SIZE: Final = 0x400
_CONFIG_PORTS_END: Final = layout.PORT_PCI_CONFIG_DATA + 4

# Ports that only the monitor decodes or that no other device of the table names.
_MOTHERBOARD_PORTS: Final = (
    (layout.PORT_POST, 1),
    (layout.PORT_FAST_A20, 1),
    (layout.PORT_DEBUG_CONSOLE, 1),
    (layout.PORT_DEBUG_EXIT, 4),
    (layout.PORT_PM1A_EVT, layout.PORT_PM_TIMER + 4 - layout.PORT_PM1A_EVT),
)


def pci_intx_gsi(slot: int, pin: int) -> int:
    """The GSI (I/O APIC pin, 16-23) of interrupt `pin` (0 = INTA#) of the device in `slot` on bus 0.

    Neighbouring slots start one pin further, so that single-function devices share as little as
    possible. The PCI host bridge must route by this function too.
    """
    return PCI_FIRST_GSI + (slot + pin) % _PCI_GSIS


def definition_block(vcpus: int) -> bytes:
    """The AML byte stream that follows the DSDT's table header, for `vcpus` processors."""
    sleep_type = aml.integer(layout.SLP_TYP_S5)
    s5 = aml.package(sleep_type, sleep_type, aml.integer(0), aml.integer(0))
    processors = (_processor(index) for index in range(vcpus))
    return aml.name("_S5", s5) + aml.scope("_SB", *processors, _pci_root())


def _processor(index: int) -> bytes:
    hid = aml.name("_HID", aml.string("ACPI0007"))
    return aml.device(f"C{index:03X}", hid, aml.name("_UID", aml.integer(index)))


def _pci_root() -> bytes:
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_BBN", aml.integer(0)),
        aml.name(
            "_CRS",
            aml.resource_template(
                aml.word_bus_number(0, 0xFF),
                aml.io(layout.PORT_PCI_CONFIG_ADDR, _CONFIG_PORTS_END - layout.PORT_PCI_CONFIG_ADDR),
                aml.word_io(0, layout.PORT_PCI_CONFIG_ADDR - 1),
                aml.word_io(_CONFIG_PORTS_END, 0xFFFF),
                aml.dword_memory(layout.PCI_HOLE_BASE, layout.PCI_HOLE_BASE + layout.PCI_HOLE_SIZE - 1),
            ),
        ),
        aml.name("_PRT", _routing_table()),
        *_fixed_devices(),
    )


def _routing_table() -> bytes:
    """`_PRT`: address (slot in the high word, any function), pin, source 0 (a GSI), the GSI."""
    rows = []
    for slot in range(PCI_SLOTS):
        for pin in range(4):
            address = aml.integer(slot << 16 | 0xFFFF)
            gsi = aml.integer(pci_intx_gsi(slot, pin))
            rows.append(aml.package(address, aml.integer(pin), aml.integer(0), gsi))
    return aml.package(*rows)


def _fixed_devices() -> list[bytes]:
    return [
        _device(
            "PIC",
            "PNP0000",
            aml.io(layout.PORT_PIC1, _PORT_PIC_SIZE),
            aml.io(layout.PORT_PIC2, _PORT_PIC_SIZE),
            aml.io(layout.PORT_ELCR, 2),
            aml.irq_no_flags(layout.IRQ_CASCADE),
        ),
        _device("PIT", "PNP0100", aml.io(layout.PORT_PIT, 4), aml.irq_no_flags(layout.IRQ_PIT)),
        _device("RTC", "PNP0B00", aml.io(layout.PORT_RTC, 2), aml.irq_no_flags(layout.IRQ_RTC)),
        _device("HPET", "PNP0103", aml.memory32_fixed(layout.HPET_BASE, _HPET_SIZE)),
        _device("SPKR", "PNP0800", aml.io(layout.PORT_NMISC, 1)),
        _device(
            "KBD",
            "PNP0303",
            aml.io(layout.PORT_I8042_DATA, 1),
            aml.io(layout.PORT_I8042_CMD, 1),
            aml.irq_no_flags(layout.IRQ_KEYBOARD),
        ),
        _device("COM1", "PNP0501", aml.io(layout.PORT_COM1, 8), aml.irq_no_flags(layout.IRQ_COM1), uid=1),
        _device("COM2", "PNP0501", aml.io(layout.PORT_COM2, 8), aml.irq_no_flags(layout.IRQ_COM2), uid=2),
        _device(
            "MBRD",
            "PNP0C02",
            *(aml.io(port, size) for port, size in _MOTHERBOARD_PORTS),
            aml.memory32_fixed(layout.IOAPIC_BASE, _IOAPIC_SIZE),
            aml.memory32_fixed(layout.LAPIC_BASE, _LAPIC_SIZE),
        ),
    ]


def _device(path: str, hid: str, *resources: bytes, uid: int | None = None) -> bytes:
    terms = [aml.name("_HID", aml.eisa_id(hid))]
    if uid is not None:
        terms.append(aml.name("_UID", aml.integer(uid)))
    terms.append(aml.name("_CRS", aml.resource_template(*resources)))
    return aml.device(path, *terms)
