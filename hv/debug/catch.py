"""Stops on what the guest does: exceptions, mode switches, device accesses, the end. `monitor catch …`.

Each kind of event is a row of `KINDS`. Catches belong to the machine and survive resets and debuggers. What
the engine must leave for is armed from the table; nothing of it is visible to the guest. A catch with `log`
does not stop the machine but keeps a line.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from hv.debug.stops import EXCEPTION_NAMES
from hv.exits import CatchSource, Touched
from hv.vm import Vm

_MAX_CATCHES: Final = 256
_MAX_LOG: Final = 1000
_ALL: Final = (0, (1 << 64) - 1)
_VECTORS: Final = 32


class Kind(enum.Enum):
    """What can be caught; the value is its name on the command line."""

    EXCEPTION = "exception"
    INT3 = "int3"
    TRIPLE_FAULT = "triple-fault"
    UNHANDLED = "unhandled"
    CR3 = "cr3"
    MODE = "mode"
    PORT = "port"
    MMIO = "mmio"
    MSR = "msr"
    UNKNOWN_PORT = "unknown-port"
    UNKNOWN_MMIO = "unknown-mmio"
    UNKNOWN_MSR = "unknown-msr"
    RESET = "reset"
    POWER_OFF = "power-off"


@dataclass(frozen=True, slots=True)
class Catch:
    """One catch: numbers `first` to `last` (vectors, ports, addresses, MSRs), and directions of accesses."""

    kind: Kind
    first: int = _ALL[0]
    last: int = _ALL[1]
    read: bool = True
    write: bool = True
    log: bool = False

    def matches(self, number: int, size: int, write: bool | None) -> bool:
        """Whether it is for an event with these `number`s."""
        if write is not None and not (self.write if write else self.read):
            return False
        return number <= self.last and self.first < number + size

    def __str__(self) -> str:
        words = [self.kind.value]
        if (self.first, self.last) != _ALL:
            names = EXCEPTION_NAMES if self.kind is Kind.EXCEPTION else {}
            words.append(names.get(self.first, f"{self.first:#x}"))
            if self.last != self.first:
                words[-1] += f"-{self.last:#x}"
        if self.read != self.write:
            words.append("r" if self.read else "w")
        if self.log:
            words.append("log")
        return " ".join(words)


class CatchSyntaxError(ValueError):
    """The words after `monitor catch` mean nothing; the text says why."""


# --- words ---------------------------------------------------------------------------------------------


def _number(word: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        raise CatchSyntaxError(f"{word[:40]!r} is not a number") from None
    if not 0 <= value < 1 << 64:
        raise CatchSyntaxError(f"{word[:40]} is out of range")
    return value


def _vector(word: str) -> tuple[int, int]:
    name = word.upper() if word.startswith("#") else f"#{word.upper()}"
    found = next((vector for vector, known in EXCEPTION_NAMES.items() if known == name), None)
    vector = _number(word) if found is None else found
    if vector >= _VECTORS:
        raise CatchSyntaxError(f"exceptions have vectors below {_VECTORS}")
    return vector, vector


def _range(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    low = _number(first)
    high = _number(last) if dash else low
    if high < low:
        raise CatchSyntaxError(f"{word[:40]} is an empty range")
    return low, high


@dataclass(frozen=True, slots=True)
class _Row:
    arguments: str
    summary: str
    numbers: Callable[[str], tuple[int, int]] | None = None
    directions: bool = False


KINDS: Final = {
    Kind.EXCEPTION: _Row(
        "[#PF | VECTOR]", "an exception before its delivery, that of INT3, INTO, ICEBP too", _vector
    ),
    Kind.INT3: _Row("", "the guest's own INT3, before it is delivered"),
    Kind.TRIPLE_FAULT: _Row("", "a triple fault, with what led to it"),
    Kind.UNHANDLED: _Row("", "an instruction that cannot be carried out"),
    Kind.CR3: _Row("[VALUE]", "a write to CR3", _range),
    Kind.MODE: _Row("", "a switch between real, virtual-8086, protected, compatibility and 64-bit mode"),
    Kind.PORT: _Row("[FIRST[-LAST]] [r|w]", "an access to ports", _range, True),
    Kind.MMIO: _Row("[FIRST[-LAST]] [r|w]", "an access to device memory", _range, True),
    Kind.MSR: _Row("[NUMBER[-LAST]] [r|w]", "RDMSR or WRMSR", _range, True),
    Kind.UNKNOWN_PORT: _Row("[r|w]", "an access to a port without a device", None, True),
    Kind.UNKNOWN_MMIO: _Row("[r|w]", "an access to a physical address without memory or device", None, True),
    Kind.UNKNOWN_MSR: _Row("[r|w]", "RDMSR or WRMSR of a register that does not exist", None, True),
    Kind.RESET: _Row("", "a reset by the guest"),
    Kind.POWER_OFF: _Row("", "a power-off, or another end of the machine"),
}


def parse(words: Iterable[str]) -> Catch:
    """The catch that `words` describe. CatchSyntaxError."""
    name, *rest = words
    kind = next((kind for kind in Kind if kind.value == name), None)
    if kind is None:
        raise CatchSyntaxError(f"nothing is called {name[:40]!r}; try `monitor catch help`")
    row = KINDS[kind]
    numbers, read, write, log = _ALL, True, True, False
    for word in rest:
        if word == "log":
            log = True
        elif word in ("r", "w") and row.directions:
            read, write = word == "r", word == "w"
        elif word == "all":
            numbers = _ALL
        elif row.numbers is not None:
            numbers = row.numbers(word)
        else:
            raise CatchSyntaxError(f"{name} {row.arguments}".strip() + f", not {word[:40]!r}")
    return Catch(kind, *numbers, read, write, log)


# --- the table -----------------------------------------------------------------------------------------


class CatchTable:
    """The catches of one machine by number. Used by the machine's owner."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._catches = {
            1: Catch(Kind.TRIPLE_FAULT),
            2: Catch(Kind.UNHANDLED),
            3: Catch(Kind.POWER_OFF),
        }
        self._next = 4
        self.log: deque[str] = deque(maxlen=_MAX_LOG)
        self._int3 = False
        self._attended = False
        self._recorded: set[int] = set()

    def items(self) -> list[tuple[int, Catch]]:
        """Numbers and catches."""
        return list(self._catches.items())

    def add(self, catch: Catch) -> int:
        """The number of `catch`; one that is there already keeps its own. CatchSyntaxError when full."""
        for number, present in self._catches.items():
            if present == catch:
                return number
        if len(self._catches) >= _MAX_CATCHES:
            raise CatchSyntaxError(f"there are {_MAX_CATCHES} catches already")
        number, self._next = self._next, self._next + 1
        self._catches[number] = catch
        self._arm()
        return number

    def remove(self, number: int | None) -> None:
        """Remove one, or all. KeyError."""
        if number is None:
            self._catches.clear()
        else:
            del self._catches[number]
        self._arm()

    def find(self, kind: Kind, number: int = 0, size: int = 1, write: bool | None = None) -> Catch | None:
        """The catch for an event; one that stops comes before one that logs."""
        found = [c for c in self._catches.values() if c.kind is kind and c.matches(number, size, write)]
        return min(found, key=lambda catch: catch.log, default=None)

    def attend(self, attended: bool) -> None:
        """Whether the run that begins has a debugger: only then the way to a triple fault is recorded."""
        if attended != self._attended:
            self._attended = attended
            self._arm_branches()

    def record_branches(self, vcpu: int, on: bool) -> None:
        """Whether a debugger wants the branches of `vcpu`, too."""
        (self._recorded.add if on else self._recorded.discard)(vcpu)
        self._arm_branches()

    # --- arming ------------------------------------------------------------------------------------

    def _kinds(self) -> set[Kind]:
        return {catch.kind for catch in self._catches.values()}

    def _arm_branches(self) -> None:
        wanted = self._attended and Kind.TRIPLE_FAULT in self._kinds()
        for vcpu in self._vm.vcpus:
            vcpu.cpu.control.branch_trace = int(wanted or vcpu.index in self._recorded)

    def _arm(self) -> None:
        self._arm_branches()
        kinds = self._kinds()
        vectors = sum(1 << v for v in range(_VECTORS) if self.find(Kind.EXCEPTION, v) is not None)
        events = CatchSource(0)
        for kind, source in _SOURCES.items():
            if kind in kinds:
                events |= source
        for vcpu in self._vm.vcpus:
            control = vcpu.cpu.control
            control.exception_exit = vectors
            if (Kind.INT3 in kinds) != self._int3:
                control.bpt_exit = int(Kind.INT3 in kinds)
            control.catch_events = int(events)
            control.catch_mode = 0
        self._int3 = Kind.INT3 in kinds
        self._vm.scheduler.listen(self._wants if kinds & _TAPPED else None)

    def _wants(self, touched: Touched) -> bool:
        return any(self.find(*each) is not None for each in events_of(touched))


_SOURCES: Final = {Kind.CR3: CatchSource.CR3, Kind.MODE: CatchSource.MODE, Kind.MSR: CatchSource.MSR}
_TAPPED: Final = {Kind.PORT, Kind.MMIO, Kind.UNKNOWN_PORT, Kind.UNKNOWN_MMIO, Kind.UNKNOWN_MSR, Kind.MSR}
_SPACES: Final = {
    "port": (Kind.PORT, Kind.UNKNOWN_PORT),
    "mmio": (Kind.MMIO, Kind.UNKNOWN_MMIO),
    "msr": (Kind.MSR, Kind.UNKNOWN_MSR),
}


def events_of(touched: Touched) -> list[tuple[Kind, int, int, bool]]:
    """What an access is an event of: `CatchTable.find`'s arguments, the most special first."""
    known, unknown = _SPACES[touched.space]
    size = 1 if touched.space == "msr" else touched.size
    event = (touched.address, size, touched.write)
    return [(known, *event)] if touched.owned else [(unknown, *event), (known, *event)]
