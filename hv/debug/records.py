"""What run control remembers: the state of the run, and per vCPU what a debugger has still to be told."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from gdbstub.target import Stop
from hv.inputs import InjectEvent


class RunState(enum.Enum):
    """What the machine does, as far as control is concerned."""

    HELD = "held"
    """Never continued: waits at its first instruction for a debugger."""
    RUNNING = "running"
    STOPPED = "stopped"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class PendingStop:
    """A stop not reported yet; `number` is the engine's for the point that caused it."""

    stop: Stop
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Intercepted:
    """An event that left the engine before its delivery, at `rip`; dropped if the vCPU is moved elsewhere.

    `event` None: raised by the delivery of another event, which the engine keeps. `passed`: how many
    influences the guest had had by then.
    """

    rip: int
    event: InjectEvent | None
    cr2: int | None = None
    passed: int = 0


@dataclass(slots=True)
class VcpuRecord:
    """The debug state of one vCPU, none of it visible to the guest."""

    events: deque[PendingStop] = field(default_factory=deque)
    caught: Intercepted | None = None
    """An intercepted exception, delivered at the next resume."""
    stuck_at: int | None = None
    """RIP of an instruction that could not be carried out."""
