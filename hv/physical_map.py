"""What lies where in a machine's physical memory and port space: RAM, and the devices on the buses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hv.access import Board
from hv.bus import Range
from hv.memory import GuestMemory


@dataclass(frozen=True, slots=True)
class MapRow:
    """`[start, start + size)`: memory, or the registers of the device `name`."""

    start: int
    size: int
    name: str
    is_ram: bool = False

    @property
    def end(self) -> int:
        """First address after it."""
        return self.start + self.size


def physical_map(memory: GuestMemory, board: Board, vcpu: int) -> list[MapRow]:
    """Physical memory as `vcpu` sees it (its own local APIC shows), ascending. Nothing is in the gaps."""
    rows = [MapRow(start, size, "ram", is_ram=True) for start, size in memory.ranges()]
    rows += [_device(owner) for owner in board.mmio.ranges(vcpu)]
    return sorted(rows, key=lambda row: row.start)


def port_map(board: Board) -> list[MapRow]:
    """The ports that some device answers, ascending."""
    return [_device(owner) for owner in board.ports.ranges()]


def _device(owner: Range) -> MapRow:
    return MapRow(owner.start, owner.end - owner.start, owner.name or "device")


def gap_at(rows: list[MapRow], address: int, limit: int) -> tuple[int, int]:
    """`[start, end)` between `rows` around `address`, which lies in none of them; `limit` ends the space."""
    start = max((row.end for row in rows if row.end <= address), default=0)
    end = min((row.start for row in rows if row.start > address), default=limit)
    return start, end


def row_at(rows: list[MapRow], address: int) -> MapRow | None:
    """The row that `address` lies in."""
    found: Iterator[MapRow] = (row for row in rows if row.start <= address < row.end)
    # RAM goes before devices, and a local APIC hides what is behind it.
    return max(found, key=lambda row: (row.is_ram, row.name.startswith("lapic")), default=None)
