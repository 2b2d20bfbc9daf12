"""The MultiProcessor table, for systems that look for processors without ACPI.

The floating pointer structure is placed in the BIOS ROM area, with the configuration table behind it.

Source: Intel MultiProcessor Specification 1.4, chapter 4 "MP Configuration Table".
"""

import struct
from typing import Final

from hv.firmware.acpi import TABLES_LIMIT
from hv.machines import layout

FLOATING_POINTER_GPA: Final = TABLES_LIMIT  # F0000h: one of the places that systems search
MAX_PROCESSORS: Final = 255  # an id is one byte and FFh means "all"

_CONFIG_GPA: Final = FLOATING_POINTER_GPA + 16
_SPEC_REV: Final = 4
_LAPIC_VERSION: Final = 0x14
_IOAPIC_VERSION: Final = 0x11
_IOAPIC_ID: Final = 0
_PROCESSOR_ENABLED: Final = 1
_PROCESSOR_BOOT: Final = 2
_CPU_SIGNATURE: Final = 0x600  # family 6; CPUID has the full truth
_CPU_FEATURES: Final = 0x201  # x87 and local APIC
_ISA_BUS: Final = 0
_INT: Final = 0
_NMI: Final = 1
_EXTINT: Final = 3
_CONFORMING: Final = 0
_HIGH_LEVEL: Final = 0x0D
_ALL_APICS: Final = 0xFF


def build_mptable(vcpus: int) -> list[tuple[int, bytes]]:
    """The MP tables for `vcpus` processors as `(guest physical address, bytes)`.

    Empty for more processors than the format can name.
    """
    if vcpus > MAX_PROCESSORS:
        return []
    entries = [*_processors(vcpus), *_fixed_entries(), *_interrupts()]
    body = b"".join(entries)
    size = 44 + len(body)
    tail = struct.pack("<8s12sIHHIHBB", b"HV      ", b"PC          ", 0, 0, len(entries),
                       layout.LAPIC_BASE, 0, 0, 0) + body  # fmt: skip
    table = _with_checksum(struct.pack("<4sHBB", b"PCMP", size, _SPEC_REV, 0) + tail, 7)
    pointer = struct.pack("<4sIBBB5s", b"_MP_", _CONFIG_GPA, 1, _SPEC_REV, 0, bytes(5))
    return [(FLOATING_POINTER_GPA, _with_checksum(pointer, 10)), (_CONFIG_GPA, table)]


def _with_checksum(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([-sum(content) & 0xFF]) + content[offset + 1 :]


def _processors(vcpus: int) -> list[bytes]:
    entries = []
    for apic_id in range(vcpus):
        flags = _PROCESSOR_ENABLED | (_PROCESSOR_BOOT if apic_id == 0 else 0)
        entry = (0, apic_id, _LAPIC_VERSION, flags, _CPU_SIGNATURE, _CPU_FEATURES)
        entries.append(struct.pack("<BBBBII8x", *entry))
    return entries


def _fixed_entries() -> list[bytes]:
    bus = struct.pack("<BB6s", 1, _ISA_BUS, b"ISA   ")
    ioapic = struct.pack("<BBBBI", 2, _IOAPIC_ID, _IOAPIC_VERSION, 1, layout.IOAPIC_BASE)
    return [bus, ioapic]


def _interrupts() -> list[bytes]:
    """ISA interrupts to I/O APIC pins, then the local interrupts (virtual wire: LINT0 ExtINT)."""
    entries = []
    for irq in range(16):
        if irq == layout.IRQ_CASCADE:
            continue
        pin = layout.GSI_PIT if irq == layout.IRQ_PIT else irq
        flags = _HIGH_LEVEL if irq == layout.IRQ_SCI else _CONFORMING
        entries.append(struct.pack("<BBHBBBB", 3, _INT, flags, _ISA_BUS, irq, _IOAPIC_ID, pin))
    for kind, lint in ((_EXTINT, 0), (_NMI, 1)):
        entries.append(struct.pack("<BBHBBBB", 4, kind, _CONFORMING, _ISA_BUS, 0, _ALL_APICS, lint))
    return entries
