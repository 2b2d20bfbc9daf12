"""The breakpoints and watchpoints of a machine: who set which, and what narrows them down.

Each owner has points of its own, with conditions, commands and counts of their own, also where several set
the same: the engine knows each by a number, which is also what `monitor` shows. Points are addresses, not
bytes in memory, so they need no mapped page and survive whatever is loaded over them; the guest cannot see
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gdbstub.predicate import Op, Program
from gdbstub.target import BreakpointKind, Stop, WatchKind
from hv.debug.register_names import engine_name
from hv.engines.base import AddressSpace, Engine, PointLimits, PredicateStep, WatchAccess
from hv.errors import HvError

MACHINE: Final = 0
"""The owner of points that belong to the machine itself: set by `monitor` or the command line, they stay when
debuggers come and go. Connections are numbered from 1 on."""
MAX_POINTS: Final = 1 << 14
"""That one owner may have."""
NO_LIMITS: Final = PointLimits()
_ACCESS: Final = {
    WatchKind.WRITE: WatchAccess.WRITE,
    WatchKind.READ: WatchAccess.READ,
    WatchKind.ACCESS: WatchAccess.ACCESS,
}


class TooManyPointsError(HvError):
    """An owner has as many points as it may."""

    def __init__(self) -> None:
        super().__init__(f"{MAX_POINTS} breakpoints and watchpoints are set already")


@dataclass(frozen=True, slots=True)
class ExecutionPoint:
    """Stop before the instruction at `address`."""

    space: AddressSpace
    address: int


@dataclass(frozen=True, slots=True)
class WatchPoint:
    """Stop after an access to `[address, address + length)`; `changed`: a write that leaves another value."""

    space: AddressSpace
    address: int
    length: int
    kind: WatchKind
    changed: bool = False


Point = ExecutionPoint | WatchPoint
OnHit = Callable[[int], Stop | None]
"""What a hit by a vCPU means: a stop, or None to go on."""


@dataclass(slots=True)
class Entry:
    """One point of one owner. `kind`: how a breakpoint was asked for; None for watchpoints and the machine's.

    `note` is the user's words for what narrows it down. `on_hit` replaces the usual stop.
    """

    number: int
    owner: int
    point: Point
    kind: BreakpointKind | None
    limits: PointLimits
    note: str = ""
    commands: tuple[Program, ...] = ()
    on_hit: OnHit | None = None


def bind(program: Program) -> tuple[PredicateStep, ...]:
    """A program as engines take it. A debugger's `rip` is the linear address of the next instruction."""
    return tuple(
        PredicateStep(step.op, step.value, engine_name(step.name))
        for step in program.code
        if step.op is not Op.PRINT
    )


class BreakpointTable:
    """All points of one machine. Owners are numbers chosen by the callers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries: dict[int, Entry] = {}
        self._numbers: dict[tuple[int, Point, BreakpointKind | None], int] = {}
        self._counts: Counter[int] = Counter()
        self._next = 1

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def add(
        self,
        owner: int,
        point: Point,
        kind: BreakpointKind | None = None,
        *,
        limits: PointLimits = NO_LIMITS,
        note: str = "",
        on_hit: OnHit | None = None,
    ) -> int:
        """Set `point` for `owner`; its number. `EngineError` if the engine refuses, `TooManyPointsError`.

        Setting it again does nothing, unless it is the machine's, which may have several alike.
        """
        key = (owner, point, kind)
        number = self._numbers.get(key)
        if number is not None and owner != MACHINE:
            return number
        if self.count(owner) >= MAX_POINTS:
            raise TooManyPointsError
        number = self._next
        self._insert(number, point)
        self._next += 1
        self._numbers[key] = number
        self._counts[owner] += 1
        self._entries[number] = Entry(number, owner, point, kind, limits, note, (), on_hit)
        if limits != NO_LIMITS:
            self._engine.limit_point(number, limits)
        return number

    def _insert(self, number: int, point: Point) -> None:
        match point:
            case ExecutionPoint(space, address):
                self._engine.add_breakpoint(number, space, address)
            case WatchPoint(space, address, length, kind, changed):
                access = WatchAccess.CHANGED if changed else _ACCESS[kind]
                self._engine.add_watchpoint(number, space, address, length, access)

    def program(
        self,
        owner: int,
        point: Point,
        kind: BreakpointKind | None,
        conditions: Sequence[Program],
        commands: Sequence[Program],
    ) -> None:
        """Replace the conditions and commands of `owner`'s `point`; harmless when it has none."""
        number = self._numbers.get((owner, point, kind))
        if number is None:
            return
        entry = self._entries[number]
        limits = replace(entry.limits, conditions=tuple(bind(each) for each in conditions))
        if limits != entry.limits:
            self._engine.limit_point(number, limits)
        entry.limits, entry.commands = limits, tuple(commands)

    def remove(self, owner: int, point: Point, kind: BreakpointKind | None = None) -> None:
        """Remove `owner`'s `point`; harmless when it has none."""
        number = self._numbers.get((owner, point, kind))
        if number is not None:
            self.delete(number)

    def remove_owner(self, owner: int) -> None:
        """Remove every point of `owner`."""
        for entry in list(self):
            if entry.owner == owner:
                self.delete(entry.number)

    def delete(self, number: int) -> None:
        """Remove the point `number`. KeyError when there is none."""
        entry = self._entries.pop(number)
        self._counts[entry.owner] -= 1
        key = (entry.owner, entry.point, entry.kind)
        if self._numbers.get(key) == number:
            del self._numbers[key]
        if isinstance(entry.point, ExecutionPoint):
            self._engine.remove_breakpoint(number)
        else:
            self._engine.remove_watchpoint(number)

    def entry(self, number: int) -> Entry | None:
        """The point `number`, None if it is gone."""
        return self._entries.get(number)

    def hits(self, number: int) -> int:
        """How often the point `number` was hit, those included that were passed over by its count."""
        return self._engine.point_hits(number)

    def count(self, owner: int) -> int:
        """How many points `owner` has."""
        return self._counts[owner]
