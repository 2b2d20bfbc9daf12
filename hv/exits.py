"""Why a virtual CPU left the execution engine: one frozen dataclass per reason.

Names and payloads follow bhyve's exit codes where one exists. Device accesses (ports, memory-mapped
registers, the MSRs that the machine owns) do not appear here: the engine answers them through
`hv.engines.base.Access` and goes on. `rip` is what plain re-entry executes next, as an offset from
the CS base.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias


class BptSource(enum.Enum):
    """Where a breakpoint exit comes from."""

    SET = 0
    """An address in the engine's breakpoint set."""
    GUEST = 1
    """The guest's own INT3, with the `bpt_exit` capability on."""


class WriteOrigin(enum.IntEnum):
    """Who wrote guest memory; numbered as the engine reports it."""

    CPU = 0
    WALK = 1
    EVENT = 2
    DMA = 3
    DEBUGGER = 4
    LOADER = 5


@dataclass(frozen=True, slots=True)
class Deadline:
    """The tick count asked for was reached."""


@dataclass(frozen=True, slots=True)
class Kick:
    """Somebody called `kick`; the guest noticed nothing."""


@dataclass(frozen=True, slots=True)
class Hlt:
    """HLT retired: the vCPU is halted."""


@dataclass(frozen=True, slots=True)
class Pause:
    """PAUSE retired."""


@dataclass(frozen=True, slots=True)
class Mtrap:
    """The monitor trap or the step range ended."""


@dataclass(frozen=True, slots=True)
class Bpt:
    """A breakpoint, before the instruction at `rip`. `id` and `others`: those of the set that were hit. Of a
    guest's own `length`, and `interrupt` if it is INT n with n = 3."""

    rip: int
    source: BptSource
    id: int
    length: int
    others: tuple[int, ...] = ()
    interrupt: bool = False

    @property
    def ids(self) -> tuple[int, ...]:
        """All breakpoints of the set that were hit."""
        return (self.id, *self.others)


@dataclass(frozen=True, slots=True)
class IrqWindow:
    """A maskable interrupt could be taken now."""


@dataclass(frozen=True, slots=True)
class NmiWindow:
    """A non-maskable interrupt could be taken now."""


@dataclass(frozen=True, slots=True)
class EventInFlight:
    """An event whose delivery is not finished. `kind` is an `hv.engines.base.EventType`."""

    kind: int
    vector: int
    error: int | None


@dataclass(frozen=True, slots=True)
class ExceptionExit:
    """An intercepted exception, before delivery. `value` is CR2 of a page fault or the DR6 bits of a #DB.

    `during`: the event whose delivery raised it; the engine keeps it and delivers it at the next entry, past
    this exit if `control.pass_exception` is set. `chain`: then, all events since the first. `kind`, an
    `EventType`, and `length`: as what to inject it; INT3, INTO and ICEBP raise exceptions of other kinds.
    """

    rip: int
    vector: int
    error: int | None
    value: int
    during: EventInFlight | None = None
    chain: tuple[Fault, ...] = ()
    kind: int = 3
    length: int = 0


class CatchSource(enum.IntFlag):
    """Events that leave the engine when the control block's `catch_events` asks for them."""

    CR3 = 1
    MODE = 2
    MSR = 4


@dataclass(frozen=True, slots=True)
class Caught:
    """An event of `catch_events` has happened; `rip` is behind it. `number`: of the MSR."""

    rip: int
    source: CatchSource
    number: int
    write: bool
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class DeviceAccessed:
    """The last instruction touched a port, device memory or an MSR that somebody watches (`hv.taps`)."""

    touched: tuple[Touched, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """One such access: "port", "mmio" or "msr"; `value` None: refused (#GP). `owned`: by some device."""

    space: str
    address: int
    size: int
    write: bool
    value: int | None
    owned: bool


@dataclass(frozen=True, slots=True)
class Tpr:
    """CR8 fell below the threshold in the control block."""


@dataclass(frozen=True, slots=True)
class Cr8:
    """CR8 was written; `value` is the new task priority class."""

    value: int


@dataclass(frozen=True, slots=True)
class Woken:
    """A store of this vCPU (or a device's, meanwhile) made another active that waited in MWAIT."""


@dataclass(frozen=True, slots=True)
class TscMoved:
    """IA32_TSC or IA32_TSC_ADJUST was written."""


@dataclass(frozen=True, slots=True)
class WatchHit:
    """One watched access: watchpoint `id`, the bytes touched and what they held. `device`: whose, for DMA."""

    id: int
    address: int
    size: int
    write: bool
    origin: WriteOrigin
    old: int
    new: int
    device: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """The last tick touched watched memory."""

    hits: tuple[WatchHit, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One event of the chain that leads to a triple fault or a nested exception, as it was raised.

    `kind` is an `hv.engines.base.EventType`: an exception, or what came first and could not be delivered.
    """

    vector: int
    error: int | None
    cr2: int
    rip: int
    kind: int = 3


@dataclass(frozen=True, slots=True)
class TripleFault:
    """The vCPU shut down; `chain` holds every event that led to it, the newest last: the first event, the
    exceptions its delivery raised, #DF in its place, and the exception that its delivery raised."""

    rip: int
    chain: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Unhandled:
    """An instruction that the engine cannot carry out here (a wide access to a device, say)."""

    rip: int
    code: bytes


@dataclass(frozen=True, slots=True)
class Unimplemented:
    """An instruction that the CPU model has and the engine lacks."""

    rip: int
    code: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """The vCPU is halted, shut down or waits for a startup IPI, and nothing wakes it."""


Exit: TypeAlias = (
    Deadline
    | Kick
    | Hlt
    | Pause
    | Mtrap
    | Bpt
    | Caught
    | IrqWindow
    | NmiWindow
    | ExceptionExit
    | Tpr
    | Cr8
    | TscMoved
    | Woken
    | Watch
    | TripleFault
    | Unhandled
    | Unimplemented
    | Wait
)
