"""The commands of `monitor`, from the modules that have them, and running one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from hv.debug import (
    commands_host,
    commands_info,
    commands_machine,
    commands_points,
    commands_qemu,
    commands_run,
    commands_symbols,
)
from hv.debug.command import Command, CommandContext, CommandError
from hv.errors import HvError

_FORMAT: Final = re.compile(r"^(\s*xp?)/")  # as in gdb, without a space


def find(line: str) -> tuple[Command | None, list[str]]:
    """The command that `line` names, None for none, and its words: those after the name, or all of them.

    Raises ValueError for quotes that do not close."""
    words = shlex.split(_FORMAT.sub(r"\1 /", line)) or ["help"]
    for command in COMMANDS:
        names = command.name.split()
        if words[: len(names)] == names:
            return command, words[len(names) :]
    return None, words


def only_reads(line: str) -> bool:
    """Whether a line changes nothing, wrong ones included."""
    try:
        command, _ = find(line)
    except ValueError:
        return True
    return command is None or command.only_reads


def steps(context: CommandContext, line: str) -> Iterator[None]:
    """Run one line, a few milliseconds' work before each item. Errors are text for the user."""
    try:
        command, words = find(line)
        if command is None:
            raise CommandError(f"no command is called {' '.join(words)[:80]!r}; try `monitor help`")
        if command.touch not in context.allowed:
            raise CommandError(f"{command.name} is not allowed without --gdb-allow {command.touch.value}")
        yield from command.run(context, words) or ()
    except (ValueError, HvError) as error:
        context.write(f"{error}\n")


def run_command(context: CommandContext, line: str) -> None:
    """Run one line to its end."""
    for _ in steps(context, line):
        pass


def _help(context: CommandContext, words: Sequence[str]) -> None:
    for command in COMMANDS:
        usage = f"{command.name} {command.arguments}".strip()
        needs = "" if command.touch in context.allowed else f" (needs --gdb-allow {command.touch.value})"
        context.write(f"{usage:<32} {command.summary}{needs}\n")


COMMANDS: Final = (
    Command("help", "", "this list", _help, only_reads=True),
    *commands_qemu.COMMANDS,
    *commands_info.COMMANDS,
    *commands_machine.COMMANDS,
    *commands_host.COMMANDS,
    *commands_points.COMMANDS,
    *commands_run.COMMANDS,
    *commands_symbols.COMMANDS,
)
