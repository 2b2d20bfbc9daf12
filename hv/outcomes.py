"""What the owner of a machine asks the scheduler for, and what it gets back. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from hv.exits import DeviceAccessed, Exit
from hv.signals import SuspendReason


@dataclass(frozen=True, slots=True)
class Goal:
    """When to come back.

    `until`: at the first settled state at or after this machine tick. `steps`: after one tick of such a
    vCPU or, where a range is given (offsets from the CS base, `[start, end)`), when its RIP leaves it;
    `masked` holds maskable interrupts back from them meanwhile. `allowed`: only these vCPUs run.
    """

    until: int | None = None
    steps: Mapping[int, tuple[int, int] | None] = field(default_factory=dict)
    masked: bool = False
    allowed: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """`Goal.until` is reached."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """The step of `vcpu` is complete.

    `let_in`: why a masked step has let interrupts in. `interrupted`: a range step left its range because of
    one, at this linear program counter and stack pointer.
    """

    vcpu: int
    let_in: str | None = None
    interrupted: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Kicked:
    """`request_stop` was called."""


@dataclass(frozen=True, slots=True)
class Idle:
    """No vCPU can run before machine tick `deadline`, or (None) before some input arrives."""

    deadline: int | None


@dataclass(frozen=True, slots=True)
class HaltedForever:
    """No vCPU can run, and neither a timer nor an input can change that."""


@dataclass(frozen=True, slots=True)
class VcpuStopped:
    """A vCPU left the engine for a reason that is not the scheduler's to handle.

    `stepped`: should that mean nothing, its step is complete.
    """

    vcpu: int
    exit: Exit | DeviceAccessed
    stepped: bool = False


@dataclass(frozen=True, slots=True)
class Suspended:
    """The guest ended or restarted the machine."""

    reason: SuspendReason
    value: int


Outcome: TypeAlias = Reached | Stepped | Kicked | Idle | HaltedForever | VcpuStopped | Suspended
