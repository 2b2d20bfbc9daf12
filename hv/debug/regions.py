"""The map of memory as one vCPU sees it: the region around an address, from its page tables or, without
paging, from physical memory.

A region is a run of pages with the same rights and the same kind of thing behind them. What a debugger reads
needs no right of the guest's, so everything that is mapped is readable; writable and executable are what the
tables say, for user or supervisor alike. Work is bounded: in tables made to keep a walker busy a region, or a
gap, ends early, and the next question goes on from there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from gdbstub.capabilities import MemoryRegion
from hv.page_tables import Layout, Leaf, PageWalk, PagingRegisters, layout_of
from hv.physical_map import MapRow, gap_at, physical_map, row_at
from hv.vm import Vm

ADDRESSES: Final = 1 << 64
MAX_TABLES: Final = 512
"""Tables read for one answer, in each direction."""

Rights = tuple[bool, bool, str]
"""Writable, executable, and the name."""


def paging_registers(vm: Vm, vcpu: int, *, cr3: int | None = None) -> PagingRegisters:
    """The vCPU's registers that its page tables follow; with another `cr3` for another address space."""
    get = vm.vcpus[vcpu].get
    return PagingRegisters(get("cr0"), get("cr3") if cr3 is None else cr3, get("cr4"), get("efer"))


def region_at(vm: Vm, vcpu: int, address: int) -> Generator[None, None, MemoryRegion]:
    """The region that `address` lies in. A generator: between its steps others may have the machine."""
    registers = paging_registers(vm, vcpu)
    layout = layout_of(registers)
    if layout is None:
        return _physical_region(vm, vcpu, address)
    finder = _Finder(vm, vcpu, registers, layout)
    return (yield from finder.region(address))


def _physical_region(vm: Vm, vcpu: int, address: int) -> MemoryRegion:
    rows = physical_map(vm.memory, vm.board, vcpu)
    row = row_at(rows, address)
    if row is None:
        start, end = gap_at(rows, address, ADDRESSES)
        return MemoryRegion(start, end - start)
    return MemoryRegion(
        row.start, row.size, readable=True, writable=True, executable=row.is_ram, name=row.name
    )


class _Finder:
    """Finds one region under paging."""

    def __init__(self, vm: Vm, vcpu: int, registers: PagingRegisters, layout: Layout) -> None:
        self._registers = registers
        self._layout = layout
        self._read = vm.engine.read_physical
        self._rows = physical_map(vm.memory, vm.board, vcpu)
        self._row: MapRow | None = None

    def region(self, address: int) -> Generator[None, None, MemoryRegion]:
        """See `region_at`."""
        start, end, rights = yield from self._upwards(address)
        if rights is None:
            start = yield from self._gap_start(address)
            return MemoryRegion(start, end - start)
        start = yield from self._run_start(address, start, rights)
        writable, executable, name = rights
        return MemoryRegion(
            start, end - start, readable=True, writable=writable, executable=executable, name=name
        )

    def _leaves(self, first: int, *, backwards: bool = False) -> Iterator[Leaf | int | None]:
        """The pages from `first` on; at the end the address up to which that is known."""
        walk = PageWalk(self._read, self._registers, self._layout)
        known = first
        for leaf in walk.leaves(first, backwards=backwards):
            yield leaf
            if leaf is not None:
                known = leaf.linear
            if walk.tables >= MAX_TABLES:
                yield known
                return
        yield 0 if backwards else ADDRESSES

    def _upwards(self, address: int) -> Generator[None, None, tuple[int, int, Rights | None]]:
        """Start of the page at `address`, end of its region, rights; or the end of the gap and None."""
        start = end = address
        rights: Rights | None = None
        for leaf in self._leaves(address):
            if leaf is None:
                yield
            elif isinstance(leaf, int):
                # Where the walk was given up: the end of what it has seen, and never nothing.
                return start, end if rights is not None else max(leaf, address + 1), rights
            elif rights is None:
                if leaf.linear > address:
                    return start, leaf.linear, None
                rights = self._rights(leaf)
                start, end = leaf.linear, leaf.linear + (1 << leaf.shift)
            elif leaf.linear != end or self._rights(leaf) != rights:
                break
            else:
                end += 1 << leaf.shift
        return start, end, rights

    def _gap_start(self, address: int) -> Generator[None, None, int]:
        for leaf in self._leaves(address, backwards=True):
            if leaf is None:
                yield
            elif isinstance(leaf, int):
                return leaf if leaf == 0 else address
            elif leaf.linear + (1 << leaf.shift) <= address:
                return leaf.linear + (1 << leaf.shift)
        return address

    def _run_start(self, address: int, start: int, rights: Rights) -> Generator[None, None, int]:
        for leaf in self._leaves(address, backwards=True):
            if leaf is None:
                yield
            elif isinstance(leaf, int):
                break
            elif leaf.linear >= start:
                continue
            elif leaf.linear + (1 << leaf.shift) != start or self._rights(leaf) != rights:
                break
            else:
                start = leaf.linear
        return start

    def _rights(self, leaf: Leaf) -> Rights:
        row = self._row
        if row is None or not row.start <= leaf.gpa < row.end:
            row = self._row = row_at(self._rows, leaf.gpa)
        what = "unmapped " if row is None else "" if row.is_ram else f"{row.name} "
        name = what + ("user" if leaf.user else "supervisor")
        return leaf.writable, leaf.executable, name
