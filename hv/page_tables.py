"""The guest's page tables read as a whole: what is mapped, and how, without asking address by address.

Entries are visited in address order, and one that is not present is passed over at once, so that the gaps of
a 48-bit space cost nothing. Tables are what the guest likes: each may name itself, or memory that is not
there. The walk is lazy, says after every few tables that it may be left for a while, and whoever uses it
bounds it. Nothing is changed, no accessed bit either.

    linear address, 4-level:  63..48 sign | 47..39 PML4 | 38..30 PDPT | 29..21 PD | 20..12 PT | 11..0 offset

Source: SDM vol. 3, chapter "Paging". What the engine translates, `hv.engines.base.EngineCpu.translate`, is
the judge; this agrees with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

PRESENT: Final = 1
WRITABLE: Final = 1 << 1
USER: Final = 1 << 2
LARGE: Final = 1 << 7
NO_EXECUTE: Final = 1 << 63
_RIGHTS: Final = PRESENT | WRITABLE | USER
_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
_PHYS_BITS: Final = 48  # as CPUID announces

CR0_PG: Final = 1 << 31
CR4_PSE: Final = 1 << 4
CR4_PAE: Final = 1 << 5
CR4_LA57: Final = 1 << 12
EFER_LMA: Final = 1 << 10
EFER_NXE: Final = 1 << 11

TABLES_BETWEEN_PAUSES: Final = 2
"""A few milliseconds' work, when they are full."""

ReadPhysical = Callable[[int, int], bytes | None]
"""`(gpa, size)`: memory, None where there is none."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of tables: what an entry covers, and whether it may be a page by itself."""

    shift: int
    entries: int
    reserved: int = 0
    large: bool = False
    reserved_large: int = 0
    rights: bool = True
    """Whether its entries have rights; those of the PAE directory pointers do not."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A paging mode: its levels from the top, and the size of an entry."""

    name: str
    levels: tuple[Level, ...]
    entry_size: int
    root_mask: int
    bits: int
    """Width of a linear address that is translated."""

    def canonical(self, address: int) -> int:
        """`address`, of `bits` bits, as the CPU wants it: sign-extended if it is a 64-bit one."""
        if self.bits > 32 and address >> self.bits - 1 == 1:
            return address | (1 << 64) - (1 << self.bits)
        return address

    def nearest(self, address: int, *, below: bool) -> int:
        """The `bits` bits of `address`; of one that is not canonical those of the next that is."""
        limit = 1 << self.bits
        if self.bits == 32:
            return min(address, limit - 1) if below else min(address, limit)
        cut = address % limit
        if self.canonical(cut) == address:
            return cut
        return limit // 2 - (1 if below else 0)


@dataclass(frozen=True, slots=True)
class PagingRegisters:
    """The registers that paging depends on."""

    cr0: int
    cr3: int
    cr4: int
    efer: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A page as it is mapped: `entry` is its last entry, the rights are those of all levels together."""

    linear: int
    shift: int
    gpa: int
    entry: int
    writable: bool
    user: bool
    executable: bool


def layout_of(registers: PagingRegisters) -> Layout | None:
    """The paging mode, None when paging is off."""
    if not registers.cr0 & CR0_PG:
        return None
    if not registers.cr4 & CR4_PAE:
        large = bool(registers.cr4 & CR4_PSE)
        top = Level(22, 1024, large=large, reserved_large=1 << 21)
        return Layout("32-bit", (top, Level(12, 1024)), 4, 0xFFFF_F000, 32)
    high = (1 << 52) - (1 << _PHYS_BITS) | (0 if registers.efer & EFER_NXE else NO_EXECUTE)
    if not registers.efer & EFER_LMA:
        high |= 0x7FF << 52
        top = Level(30, 4, rights=False)
        return Layout("PAE", (top, *_lower(high)), 8, 0xFFFF_FFE0, 32)
    huge = Level(30, 512, high, large=True, reserved_large=high | 0x3FFF_E000)
    tops = [Level(39, 512, high | LARGE), huge]
    bits = 48
    if registers.cr4 & CR4_LA57:
        tops.insert(0, Level(48, 512, high | LARGE))
        bits = 57
    return Layout(f"{len(tops) + 2}-level", (*tops, *_lower(high)), 8, _ADDRESS, bits)


def _lower(high: int) -> tuple[Level, Level]:
    return Level(21, 512, high, large=True, reserved_large=high | 0x1F_E000), Level(12, 512, high)


class PageWalk:
    """One address space. `leaves` gives its pages; None in between is a chance to do something else."""

    def __init__(self, read: ReadPhysical, registers: PagingRegisters, layout: Layout) -> None:
        self.layout = layout
        self._read = read
        self._registers = registers
        self._form = {4: "<%dI", 8: "<%dQ"}[layout.entry_size]
        self.tables = 0
        """How many tables were read."""

    def leaves(self, first: int = 0, *, backwards: bool = False) -> Iterator[Leaf | None]:
        """The mapped pages from the one with `first` on, in address order, or down from it.

        The order is that of 64-bit addresses without a sign, and `first` may be any.
        """
        at = self.layout.nearest(first, below=backwards)
        root = self._registers.cr3 & self.layout.root_mask
        return self._table(root, 0, 0, _RIGHTS, at, backwards)

    def _table(
        self, gpa: int, depth: int, base: int, rights: int, first: int, backwards: bool
    ) -> Iterator[Leaf | None]:
        level = self.layout.levels[depth]
        size = level.entries * self.layout.entry_size
        data = self._read(gpa, size)
        self.tables += 1
        if self.tables % TABLES_BETWEEN_PAUSES == 0:
            yield None
        if data is None:
            return
        entries = struct.unpack(self._form % level.entries, data)
        start = min(max(first - base, 0) >> level.shift, level.entries - (1 if backwards else 0))
        order = range(start, -1, -1) if backwards else range(start, level.entries)
        for index in order:
            entry = entries[index]
            if not entry & PRESENT:
                continue
            linear = base + (index << level.shift)
            passed = rights
            if level.rights:
                passed = rights & entry & _RIGHTS | (rights | entry) & NO_EXECUTE
            is_page = depth == len(self.layout.levels) - 1 or (level.large and entry & LARGE)
            if entry & (level.reserved_large if is_page and level.shift > 12 else level.reserved):
                continue
            if is_page:
                yield self._leaf(level, linear, entry, passed)
            else:
                yield from self._table(entry & _ADDRESS, depth + 1, linear, passed, first, backwards)

    def _leaf(self, level: Level, linear: int, entry: int, rights: int) -> Leaf:
        gpa = entry & _ADDRESS & -(1 << level.shift)
        if self.layout.entry_size == 4 and level.shift > 12:
            gpa |= (entry & 0x1F_E000) << 19  # PSE-36
        return Leaf(
            self.layout.canonical(linear),
            level.shift,
            gpa,
            entry,
            bool(rights & WRITABLE),
            bool(rights & USER),
            not rights & NO_EXECUTE,
        )
