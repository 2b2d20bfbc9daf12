"""The commands of `monitor`, from the modules that have them, and running one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from hv.debug import commands_info, commands_run
from hv.debug.command import Command, CommandContext
from hv.errors import HvError


def run_command(context: CommandContext, line: str) -> None:
    """Run one line. Errors are text for the user; anything unknown too."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        context.write(f"{error}\n")
        return
    if not words:
        words = ["help"]
    for command in COMMANDS:
        names = command.name.split()
        if words[: len(names)] == names:
            try:
                command.run(context, words[len(names) :])
            except HvError as error:
                context.write(f"{error}\n")
            return
    context.write(f"no command is called {' '.join(words)[:80]!r}; try `monitor help`\n")


def _help(context: CommandContext, words: Sequence[str]) -> None:
    for command in COMMANDS:
        usage = f"{command.name} {command.arguments}".strip()
        context.write(f"{usage:<28} {command.summary}\n")


COMMANDS: Final = (
    Command("help", "", "this list", _help),
    *commands_info.COMMANDS,
    *commands_run.COMMANDS,
)
