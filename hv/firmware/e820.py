"""The physical memory map that loaders hand to the guest.

    0           9FC00     A0000       E0000       100000          low end           4 GiB    high end
    |--- RAM -----|reserved|-- hole ---|-reserved--|----- RAM ------|-- PCI hole, APICs --|--- RAM ---|
                    EBDA     VGA window  BIOS area                    (never listed)

Source: ACPI 6.5, chapter 15 "System Address Map Interfaces".
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hv.errors import ConfigError
from hv.machines import layout

PAGE_SIZE: Final = 0x1000
MIN_RAM_SIZE: Final = 0x10_0000
MAX_RAM_SIZE: Final = 1 << 40
_ONE_MIB: Final = 0x10_0000


class E820Type(IntEnum):
    """Address range types, numbered as in ACPI 6.5, table "Address Range Types"."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4


@dataclass(frozen=True, slots=True)
class E820Entry:
    """One range `[base, base+size)` of physical addresses, in bytes."""

    base: int
    size: int
    type: E820Type

    @property
    def end(self) -> int:
        """First address after the range."""
        return self.base + self.size


def low_ram_end(ram_size: int) -> int:
    """First address after the RAM below 4 GiB, for `ram_size` bytes of RAM in total."""
    return min(ram_size, layout.LOWMEM_LIMIT)


def high_ram_end(ram_size: int) -> int:
    """First address after the RAM above 4 GiB; `HIGHMEM_BASE` if there is none."""
    return layout.HIGHMEM_BASE + max(ram_size - layout.LOWMEM_LIMIT, 0)


def memory_map(ram_size: int) -> tuple[E820Entry, ...]:
    """The memory map of a machine with `ram_size` bytes of RAM, ordered and free of overlaps.

    The BIOS area is reserved, not "ACPI reclaimable": the tables in it stay where they are.
    Raises `ConfigError` if `ram_size` is not a whole number of pages from 1 MiB to 1 TiB.
    """
    if not MIN_RAM_SIZE <= ram_size <= MAX_RAM_SIZE:
        raise ConfigError(f"{ram_size} bytes of memory; from 1 MiB to 1 TiB are possible", "-m")
    if ram_size % PAGE_SIZE:
        raise ConfigError(f"{ram_size} bytes of memory is not a whole number of 4 KiB pages", "-m")
    spans = (
        (0, layout.EBDA_BASE, E820Type.RAM),
        (layout.EBDA_BASE, layout.VGA_BASE, E820Type.RESERVED),
        (
            layout.BIOS_TABLES_BASE,
            layout.BIOS_TABLES_BASE + layout.BIOS_TABLES_SIZE,
            E820Type.RESERVED,
        ),
        (_ONE_MIB, low_ram_end(ram_size), E820Type.RAM),
        (layout.HIGHMEM_BASE, high_ram_end(ram_size), E820Type.RAM),
    )
    return tuple(E820Entry(start, end - start, kind) for start, end, kind in spans if end > start)


def pack_e820(entries: Iterable[E820Entry]) -> bytes:
    """The entries as INT 15h/E820h returns them, 20 bytes each: base u64, size u64, type u32."""
    return b"".join(struct.pack("<QQI", entry.base, entry.size, entry.type) for entry in entries)
