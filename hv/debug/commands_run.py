"""The `monitor` commands that control the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gdbstub.target import StepPolicy
from hv.debug.command import Command, CommandContext


def _reset(context: CommandContext, words: Sequence[str]) -> None:
    context.control.reset_machine()
    context.write("machine reset; it stands before its first instruction\n")


def _quit(context: CommandContext, words: Sequence[str]) -> None:
    context.control.quit(0, "ended by the debugger")


_POLICIES: Final = {
    "masked": StepPolicy.ENABLE | StepPolicy.NOIRQ,
    "unmasked": StepPolicy.ENABLE,
    "timers-held": StepPolicy.ENABLE | StepPolicy.NOIRQ | StepPolicy.NOTIMER,
}


def _step(context: CommandContext, words: Sequence[str]) -> None:
    steps = context.control.steps
    if words and words[0] in _POLICIES:
        steps.policy = _POLICIES[words[0]]
    elif words:
        context.write(f"step-policy {' | '.join(_POLICIES)}\n")
        return
    interrupts = "held back" if steps.masked else "delivered"
    time = "stands still" if steps.timers_held else "passes"
    context.write(f"maskable interrupts are {interrupts} while a step runs, and machine time {time}\n")


COMMANDS: Final = (
    Command("step-policy", "[masked|unmasked|timers-held]", "interrupts and time during steps", _step),
    Command("reset", "", "reset the machine; it stays stopped", _reset),
    Command("quit", "", "end the machine with status 0", _quit),
)
