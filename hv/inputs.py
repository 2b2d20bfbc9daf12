"""Every way in which the outside world influences a guest: one dataclass each.

They pass through `hv.inputlog.InputDoor`, which stamps and records them, and are applied by
`hv.vm.Vm.apply`, in a live run and in a replay alike. What is not in this list cannot reach the guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ConsoleInput:
    """Bytes arrive at serial port `uart` (0 is COM1)."""

    uart: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """A debugger sets registers of `vcpu`; the engine's names, values in little-endian bytes."""

    vcpu: int
    values: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """A debugger writes physical memory."""

    gpa: int
    data: bytes


@dataclass(frozen=True, slots=True)
class IrqHeld:
    """The next tick of `vcpu` holds back a maskable interrupt that it would have taken."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class IrqMask:
    """Maskable interrupts are held back from `vcpu` from now on, or no longer."""

    vcpu: int
    on: bool


@dataclass(frozen=True, slots=True)
class HeldTicks:
    """A debugger steps `vcpu` by `count` ticks in which machine time stands still.

    `masked`: maskable interrupts are held back from it unless it is halted.
    """

    vcpu: int
    count: int
    masked: bool


@dataclass(frozen=True, slots=True)
class BegunTick:
    """The next tick of `vcpu` is begun: a debugger has stopped it there (see `hv.begun`).

    `fetched`: its instruction was fetched and no more, for a breakpoint. Otherwise it was tried, with the
    intercepts `exceptions` (a bit per vector) and `int3`; `passing`: beyond the exception that had stopped
    the delivery of an event before.
    """

    vcpu: int
    fetched: bool
    exceptions: int
    int3: bool
    passing: bool


@dataclass(frozen=True, slots=True)
class SwitchVcpu:
    """A debugger runs `vcpu` although it is not its turn."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Machine time passes while no vCPU runs: an idle wait that an input ended."""

    ticks: int


@dataclass(frozen=True, slots=True)
class InjectEvent:
    """A debugger has an event delivered to `vcpu`; fields as in the engine's control block."""

    vcpu: int
    type: int
    vector: int
    error: int | None
    length: int


@dataclass(frozen=True, slots=True)
class PortAccess:
    """A debugger reads (`value` None) or writes an I/O port; reading may change a device, too."""

    port: int
    size: int
    value: int | None


@dataclass(frozen=True, slots=True)
class MsrWrite:
    """A debugger writes a model-specific register of `vcpu`."""

    vcpu: int
    msr: int
    value: int


@dataclass(frozen=True, slots=True)
class MachineReset:
    """A debugger resets the machine."""


Influence: TypeAlias = (
    ConsoleInput
    | RegisterWrite
    | MemoryWrite
    | IrqHeld
    | IrqMask
    | HeldTicks
    | BegunTick
    | SwitchVcpu
    | Advance
    | InjectEvent
    | PortAccess
    | MsrWrite
    | MachineReset
)
