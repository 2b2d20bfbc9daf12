"""The commands of `monitor`, from the modules that have them, and running one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from hv.debug import commands_info, commands_run, commands_symbols
from hv.debug.command import Command, CommandContext
from hv.errors import HvError


def find(line: str) -> tuple[Command | None, list[str]]:
    """The command that `line` names, None for none, and its words: those after the name, or all of them.

    Raises ValueError for quotes that do not close."""
    words = shlex.split(line) or ["help"]
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


def run_command(context: CommandContext, line: str) -> None:
    """Run one line. Errors are text for the user; anything unknown too."""
    try:
        command, words = find(line)
    except ValueError as error:
        context.write(f"{error}\n")
        return
    if command is None:
        context.write(f"no command is called {' '.join(words)[:80]!r}; try `monitor help`\n")
        return
    try:
        command.run(context, words)
    except HvError as error:
        context.write(f"{error}\n")


def _help(context: CommandContext, words: Sequence[str]) -> None:
    for command in COMMANDS:
        usage = f"{command.name} {command.arguments}".strip()
        context.write(f"{usage:<28} {command.summary}\n")


COMMANDS: Final = (
    Command("help", "", "this list", _help, only_reads=True),
    *commands_info.COMMANDS,
    *commands_run.COMMANDS,
    *commands_symbols.COMMANDS,
)
