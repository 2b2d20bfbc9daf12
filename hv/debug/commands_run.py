"""The `monitor` commands that control the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hv.debug.command import Command, CommandContext


def _reset(context: CommandContext, words: Sequence[str]) -> None:
    context.control.reset_machine()
    context.write("machine reset; it stands before its first instruction\n")


def _quit(context: CommandContext, words: Sequence[str]) -> None:
    context.control.quit(0, "ended by the debugger")


def _step(context: CommandContext, words: Sequence[str]) -> None:
    if words and words[0] in ("masked", "unmasked"):
        context.control.mask_steps = words[0] == "masked"
    elif words:
        context.write("step-policy masked | unmasked\n")
        return
    now = "held back" if context.control.mask_steps else "delivered"
    context.write(f"maskable interrupts are {now} while a step runs\n")


COMMANDS: Final = (
    Command("step-policy", "[masked|unmasked]", "interrupts during steps", _step),
    Command("reset", "", "reset the machine; it stays stopped", _reset),
    Command("quit", "", "end the machine with status 0", _quit),
)
