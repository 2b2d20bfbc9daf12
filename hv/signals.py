"""What the board tells the CPUs and the machine while a vCPU runs, kept until the instruction retires.

The board's hooks end here. Nothing acts at once: the scheduler takes the signals between two ticks, in
the order in which they came, so that an instruction that resets its own CPU or the machine is complete
first. Nothing here survives a boundary, so there is no state to save.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from hv.access import DeviceAccess


class SuspendReason(enum.Enum):
    """Why a machine stops for good; bhyve's reasons, and the debug exit device."""

    RESET = "reset"
    POWEROFF = "power-off"
    HALT = "halted for ever"
    TRIPLEFAULT = "triple fault"
    DEBUG_EXIT = "debug exit"


@dataclass(frozen=True, slots=True)
class InitSignal:
    """INIT for `vcpu`; its local APIC was reset already."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class StartupSignal:
    """A startup IPI for `vcpu` with the page number of its first instruction."""

    vcpu: int
    vector: int


@dataclass(frozen=True, slots=True)
class NmiSignal:
    """A non-maskable interrupt for `vcpu`."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class A20Signal:
    """The A20 gate was switched."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class SuspendSignal:
    """The guest ends or restarts the machine; `value` is what it wrote to the debug exit device."""

    reason: SuspendReason
    value: int = 0


Signal: TypeAlias = InitSignal | StartupSignal | NmiSignal | A20Signal | SuspendSignal


class Signals:
    """The queue between the board's hooks and the scheduler. `access` is interrupted when something comes."""

    __slots__ = ("access", "queue")

    def __init__(self) -> None:
        self.access: DeviceAccess | None = None
        self.queue: list[Signal] = []

    def attention(self) -> None:
        """Make the running vCPU leave after its present instruction."""
        if self.access is not None:
            self.access.attention = True

    def put(self, signal: Signal) -> None:
        """Queue a signal."""
        self.queue.append(signal)
        self.attention()

    def interrupts_changed(self, vcpu: int) -> None:
        """What may be delivered to `vcpu` has changed."""
        self.attention()
