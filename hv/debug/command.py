"""What a `monitor` command is: a row with its words, what it may touch, and what it does."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hv.debug.run_control import RunControl
from hv.vcpu import Vcpu


class Touch(enum.Enum):
    """What a command may touch. A client on the wire has `GUEST` only, unless its user allows more."""

    GUEST = "guest"
    HOST_READ = "host-read"
    HOST_WRITE = "host-write"
    HOST_EXEC = "host-exec"


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Whom a command works on: the machine, the current vCPU, and where its text goes."""

    control: RunControl
    vcpu: int
    write: Callable[[str], None]

    @property
    def current(self) -> Vcpu:
        """The current vCPU."""
        return self.control.vm.vcpus[self.vcpu]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, what it says in `help`, and what it does with the words after its own.

    One that `only_reads` leaves the machine and its debugging as they are: also one who does not control the
    machine may give it.
    """

    name: str
    arguments: str
    summary: str
    run: Callable[[CommandContext, Sequence[str]], None]
    touch: Touch = Touch.GUEST
    only_reads: bool = False


def reading(
    name: str, arguments: str, summary: str, run: Callable[[CommandContext, Sequence[str]], None]
) -> Command:
    """A command that only reads the machine."""
    return Command(name, arguments, summary, run, only_reads=True)
