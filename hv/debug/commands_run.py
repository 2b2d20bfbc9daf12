"""The `monitor` commands that control the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gdbstub.target import StepPolicy
from hv.debug.catch import KINDS, CatchSyntaxError, parse
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


def _catch(context: CommandContext, words: Sequence[str]) -> None:
    catches = context.control.catches
    match list(words):
        case []:
            for number, catch in catches.items():
                context.write(f"{number:>4}  {catch}\n")
        case ["help"]:
            for kind, row in KINDS.items():
                context.write(f"catch {kind.value} {row.arguments}".ljust(36) + f" {row.summary}\n")
            context.write("With `log` behind it a catch does not stop but keeps a line: `catch log`.\n")
        case ["log"]:
            for line in catches.log:
                context.write(f"{line}\n")
        case ["delete", word]:
            _delete_catch(context, word)
        case _:
            try:
                context.write(f"catch {catches.add(parse(words))}\n")
            except CatchSyntaxError as error:
                context.write(f"{error}\n")


def _delete_catch(context: CommandContext, word: str) -> None:
    if word != "all" and not word.isdecimal():
        context.write("catch delete NUMBER | all\n")
        return
    try:
        context.control.catches.remove(None if word == "all" else int(word))
    except (KeyError, ValueError):
        context.write(f"there is no catch {word[:20]}\n")


COMMANDS: Final = (
    Command("catch", "[KIND … | delete N | log | help]", "stop on what the guest does", _catch),
    Command("step-policy", "[masked|unmasked|timers-held]", "interrupts and time during steps", _step),
    Command("reset", "", "reset the machine; it stays stopped", _reset),
    Command("quit", "", "end the machine with status 0", _quit),
)
