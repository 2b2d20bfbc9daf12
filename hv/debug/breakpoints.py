"""The breakpoints and watchpoints of a machine: who set which, and what the engine calls them.

Several owners may set the same point; the engine has one for all of them, removed with the last.
Points are addresses, not bytes in memory, so they need no mapped page and survive whatever is loaded
over them; the guest cannot see them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gdbstub.target import BreakpointKind, WatchKind
from hv.engines.base import AddressSpace, Engine, WatchAccess

_ACCESS: Final = {
    WatchKind.WRITE: WatchAccess.WRITE,
    WatchKind.READ: WatchAccess.READ,
    WatchKind.ACCESS: WatchAccess.ACCESS,
}


@dataclass(frozen=True, slots=True)
class ExecutionPoint:
    """Stop before the instruction at `address`."""

    space: AddressSpace
    address: int


@dataclass(frozen=True, slots=True)
class WatchPoint:
    """Stop after an access to `[address, address + length)`."""

    space: AddressSpace
    address: int
    length: int
    kind: WatchKind


Point = ExecutionPoint | WatchPoint


@dataclass(slots=True)
class _Entry:
    point: Point
    # (owner, kind as it was asked for; None for a watchpoint)
    users: set[tuple[int, BreakpointKind | None]] = field(default_factory=set)


class BreakpointTable:
    """All points of one machine. Owners are numbers chosen by the callers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries: dict[int, _Entry] = {}
        self._numbers: dict[Point, int] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, owner: int, point: Point, kind: BreakpointKind | None = None) -> None:
        """Set `point` for `owner`; setting it again does nothing. `EngineError` if the engine refuses."""
        number = self._numbers.get(point)
        if number is None:
            number = self._next
            self._insert(number, point)
            self._next += 1
            self._numbers[point] = number
            self._entries[number] = _Entry(point)
        self._entries[number].users.add((owner, kind))

    def _insert(self, number: int, point: Point) -> None:
        match point:
            case ExecutionPoint(space, address):
                self._engine.add_breakpoint(number, space, address)
            case WatchPoint(space, address, length, kind):
                self._engine.add_watchpoint(number, space, address, length, _ACCESS[kind])

    def remove(self, owner: int, point: Point, kind: BreakpointKind | None = None) -> None:
        """Remove `owner`'s `point`; harmless when it has none."""
        number = self._numbers.get(point)
        if number is not None:
            self._release(number, {(owner, kind)})

    def remove_owner(self, owner: int) -> None:
        """Remove every point of `owner`."""
        for number, entry in list(self._entries.items()):
            self._release(number, {user for user in entry.users if user[0] == owner})

    def _release(self, number: int, users: set[tuple[int, BreakpointKind | None]]) -> None:
        entry = self._entries[number]
        entry.users -= users
        if entry.users:
            return
        if isinstance(entry.point, ExecutionPoint):
            self._engine.remove_breakpoint(number)
        else:
            self._engine.remove_watchpoint(number)
        del self._entries[number]
        del self._numbers[entry.point]

    def point(self, number: int) -> Point | None:
        """The point that the engine calls `number`, None if it is gone."""
        entry = self._entries.get(number)
        return None if entry is None else entry.point

    def kind(self, number: int) -> BreakpointKind:
        """How a breakpoint was asked for; software if by anybody."""
        entry = self._entries.get(number)
        if entry is None or any(kind is BreakpointKind.SOFTWARE for _, kind in entry.users):
            return BreakpointKind.SOFTWARE
        return BreakpointKind.HARDWARE
