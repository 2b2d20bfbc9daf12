"""Breakpoints and watchpoints of the machine in words, for `monitor`, the command line and lists.

::

    break ADDRESS             [phys] [cr3=X] [cpl=N] [vcpu=N] [after=N] [if CONDITION]
    watch ADDRESS LENGTH [r|w|a|changed] ... the same

`after=N` passes over N hits first. Addresses are numbers or symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gdbstub.target import WatchKind
from hv.debug.breakpoints import MACHINE, Entry, ExecutionPoint, Point, WatchPoint, bind
from hv.debug.expression import ExpressionError, FindSymbol, IsRegister, compile_condition
from hv.debug.run_control import RunControl
from hv.engines.base import AddressSpace, PointLimits, PredicateStep

_ACCESS: Final[dict[str, tuple[WatchKind, bool]]] = {
    "r": (WatchKind.READ, False),
    "w": (WatchKind.WRITE, False),
    "a": (WatchKind.ACCESS, False),
    "changed": (WatchKind.WRITE, True),
}
_WORD: Final = 1 << 64
_LARGEST: Final = {"cr3": _WORD, "cpl": 4, "vcpu": 64, "after": _WORD}
_WORD_BYTES: Final = 8


@dataclass(slots=True)
class _Options:
    """What the words behind the address say."""

    space: AddressSpace = AddressSpace.LINEAR
    access: tuple[WatchKind, bool] = (WatchKind.WRITE, False)
    numbers: dict[str, int] = field(default_factory=dict)
    condition: str = ""

    def limits(self, control: RunControl) -> PointLimits:
        get = self.numbers.get
        conditions: tuple[tuple[PredicateStep, ...], ...] = ()
        if self.condition:
            program = compile_condition(self.condition, _registers(control), _symbols(control))
            conditions = (bind(program),)
        if get("vcpu", 0) >= len(control.vm.vcpus):
            raise ExpressionError(f"there is no vCPU {get('vcpu')}")
        return PointLimits(get("cr3"), get("cpl"), get("vcpu"), get("after", 0), conditions)


def _registers(control: RunControl) -> IsRegister:
    """Whether a name is that of a register that conditions can read."""
    size_of = control.vm.vcpus[0].cpu.register_size

    def known(name: str) -> bool:
        return (size_of(name) or _WORD) <= _WORD_BYTES

    return known


def _symbols(control: RunControl) -> FindSymbol:
    """Addresses of the guest's symbols."""

    def find(name: str) -> int | None:
        index = control.symbols.index()
        symbol = None if index is None else index.named(name)
        return None if symbol is None else symbol.address

    return find


def _number(text: str, below: int = _WORD) -> int | None:
    try:
        value = int(text, 0)
    except ValueError:
        return None
    return value if 0 <= value < below else None


def _address(control: RunControl, text: str) -> int:
    found = _number(text)
    if found is None:
        found = _symbols(control)(text)
    if found is None:
        raise ExpressionError(f"{text[:60]!r} is no address and no symbol")
    return found


def _options(words: Sequence[str], *, watch: bool) -> _Options:
    options = _Options()
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word == "if":
            options.condition = " ".join(words[at + 1 :])
            if not options.condition:
                raise ExpressionError("the condition is missing")
            break
        if word == "phys":
            options.space = AddressSpace.PHYSICAL
        elif watch and word in _ACCESS:
            options.access = _ACCESS[word]
        elif equals and name in _LARGEST:
            number = _number(value, _LARGEST[name])
            if number is None:
                raise ExpressionError(f"{word[:60]!r} is out of range")
            options.numbers[name] = number
        else:
            raise ExpressionError(f"{word[:60]!r} is not understood")
    return options


def add_breakpoint(control: RunControl, words: Sequence[str]) -> Entry:
    """Set a breakpoint of the machine. Raises ExpressionError. On the machine's owner."""
    if not words:
        raise ExpressionError("an address is needed")
    options = _options(words[1:], watch=False)
    point = ExecutionPoint(options.space, _address(control, words[0]))
    return _add(control, point, options, words[1:])


def add_watchpoint(control: RunControl, words: Sequence[str]) -> Entry:
    """Set a watchpoint of the machine. Raises ExpressionError. On the machine's owner."""
    length = _number(words[1]) if len(words) > 1 else None
    if not length:
        raise ExpressionError("an address and a length are needed")
    options = _options(words[2:], watch=True)
    address = _address(control, words[0])
    if address + length > _WORD:
        raise ExpressionError("the range does not end")
    kind, changed = options.access
    return _add(control, WatchPoint(options.space, address, length, kind, changed), options, words[2:])


def _add(control: RunControl, point: Point, options: _Options, words: Sequence[str]) -> Entry:
    note = " ".join(word for word in words if word != "phys" and word not in _ACCESS)
    number = control.points.add(MACHINE, point, limits=options.limits(control), note=note)
    entry = control.points.entry(number)
    assert entry is not None
    return entry


def describe(entry: Entry) -> str:
    """A point as `info breakpoints` shows it, without its count."""
    point = entry.point
    physical = " phys" if point.space is AddressSpace.PHYSICAL else ""
    owner = (
        "machine" if entry.owner == MACHINE else f"debugger {entry.owner}" if entry.owner > 0 else "symbols"
    )
    if isinstance(point, ExecutionPoint):
        what = f"break {point.address:#x}"
    else:
        access = next(name for name, pair in _ACCESS.items() if pair == (point.kind, point.changed))
        what = f"watch {point.address:#x} {point.length} {access}"
    note = entry.note or ("if ..." if entry.limits.conditions else "")
    commands = " with commands" if entry.commands else ""
    return f"{what}{physical} {note}".rstrip() + f"{commands}  ({owner})"
