"""The `monitor` commands for breakpoints and watchpoints of the machine: they outlive whoever sets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hv.debug.breakpoints import MACHINE, Entry
from hv.debug.command import Command, CommandContext, CommandError, reading
from hv.debug.point_words import add_breakpoint, add_watchpoint, describe
from hv.debug.run_control import RunControl

_OPTIONS: Final = "[phys] [cr3=X] [cpl=N] [vcpu=N] [after=N] [if CONDITION]"


def _adding(
    add: Callable[[RunControl, Sequence[str]], Entry],
) -> Callable[[CommandContext, Sequence[str]], None]:
    def run(context: CommandContext, words: Sequence[str]) -> None:
        entry = add(context.control, words)
        context.write(f"{entry.number}: {describe(entry)}\n")

    return run


def _list(context: CommandContext, words: Sequence[str]) -> None:
    points = context.control.points
    for entry in points:
        context.write(f"{entry.number:<4} {describe(entry)}, {points.hits(entry.number):,} hits\n")
    if not len(points):
        context.write("no breakpoints and no watchpoints\n")


def _delete(context: CommandContext, words: Sequence[str]) -> None:
    points = context.control.points
    if words in ([], ["all"]):
        points.remove_owner(MACHINE)
        return
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 19 else -1 for word in words]
    for word, number in zip(words, numbers, strict=True):
        entry = points.entry(number)
        if entry is None or entry.owner != MACHINE:
            raise CommandError(f"the machine has no breakpoint {word[:40]!r}")
    for number in dict.fromkeys(numbers):
        points.delete(number)


COMMANDS: Final = (
    Command("break", f"ADDRESS {_OPTIONS}", "stop before the instruction there", _adding(add_breakpoint)),
    Command("watch", "ADDRESS LENGTH [r|w|a|changed] ...", "stop after an access", _adding(add_watchpoint)),
    Command("delete", "[N ...|all]", "remove breakpoints and watchpoints of the machine", _delete),
    reading("info breakpoints", "", "breakpoints and watchpoints, and how often they were hit", _list),
)
