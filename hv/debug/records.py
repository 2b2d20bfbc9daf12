"""What run control remembers: the state of the run, and per vCPU what a debugger has still to be told."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from gdbstub.target import Stop
from hv.exits import ExceptionExit


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


@dataclass(slots=True)
class VcpuRecord:
    """The debug state of one vCPU, none of it visible to the guest."""

    events: deque[PendingStop] = field(default_factory=deque)
    caught: ExceptionExit | None = None
    """An intercepted exception, delivered at the next resume."""
    stuck_at: int | None = None
    """RIP of an instruction that could not be carried out."""
