"""From a vCPU's device access to the board, and what it costs in time.

`DeviceAccess` is the engine's `Access` for whichever vCPU runs. It keeps the machine clock exact at
every access (machine ticks = base + ticks of the running CPU), charges a fixed number of ticks for
each, and tells the engine how far it may go before the scheduler has something to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from hv.bus import MmioBus, PortBus
from hv.clock import MachineClock
from hv.device import State, Value
from hv.engines.base import Control
from hv.exits import Touched
from hv.taps import Mmio, MmioTap, Msrs, MsrTap, Ports, PortTap, Wanted

DEVICE_COST: Final = 500  # machine ticks per port, MMIO or MSR access: about the microsecond of an ISA cycle


@dataclass(frozen=True, slots=True)
class IrqRow:
    """One input of the interrupt controller: who drives it, whether it is asserted now, and what the guest
    has programmed for it: the vector, who gets it and how. `masked` also where nothing is programmed."""

    gsi: int
    device: str
    asserted: bool
    masked: bool
    vector: int
    delivery: str
    trigger: str
    destination: int


class Board(Protocol):
    """What the machine monitor needs of a board: everything around the CPUs and memory."""

    @property
    def clock(self) -> MachineClock:
        """The machine clock with the devices' timers."""
        ...

    @property
    def ports(self) -> PortBus:
        """The I/O port bus."""
        ...

    @property
    def mmio(self) -> MmioBus:
        """The bus behind every address that is not memory."""
        ...

    @property
    def a20(self) -> bool:
        """Level of the A20 gate."""
        ...

    def interrupt_pending(self, vcpu: int) -> bool:
        """Whether a maskable interrupt may be delivered to `vcpu` now, priorities considered."""
        ...

    def acknowledge(self, vcpu: int) -> int | None:
        """Take the interrupt at the moment of its delivery: its vector, or None if it went away."""
        ...

    def task_priority(self, vcpu: int) -> int:
        """CR8 of `vcpu`, 0 to 15."""
        ...

    def set_task_priority(self, vcpu: int, value: int) -> None:
        """The guest wrote CR8."""
        ...

    def tsc_moved(self, vcpu: int) -> None:
        """The TSC of `vcpu` was written: it is no longer where timers expect it."""
        ...

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        """An MSR that belongs to the board; None is #GP."""
        ...

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        """Likewise; False is #GP."""
        ...

    def receive(self, uart: int, data: bytes) -> None:
        """Bytes arrive at serial port `uart`; what exceeds `room` is lost."""
        ...

    def room(self, uart: int) -> int:
        """How many bytes serial port `uart` takes now."""
        ...

    def listens(self, uart: int) -> bool:
        """Whether the guest is ready for input at `uart`: bytes sent earlier would be lost."""
        ...

    def describe(self, part: str, vcpu: int) -> list[tuple[str, str]]:
        """What a person wants to know of a part ("lapic", "ioapic", "pic"): (name, value) lines."""
        ...

    def interrupts(self) -> list[IrqRow]:
        """The inputs of the I/O APIC, in their order; none without one."""
        ...

    def reset(self) -> None:
        """Machine reset of every device."""
        ...

    def save(self) -> State:
        """The state of every device and of the clock."""
        ...

    def load(self, state: Mapping[str, Value]) -> None:
        """Take over a saved state."""
        ...


class DeviceAccess:
    """Answers the running vCPU's device accesses. `begin` and `finish` bracket each run of the engine."""

    __slots__ = (
        "_board",
        "_bound",
        "_clock",
        "_control",
        "_end",
        "_reader",
        "_reader_began",
        "attention",
        "count",
        "mmio",
        "msrs",
        "ports",
        "seen",
        "until",
        "vcpu",
    )

    def __init__(self, board: Board) -> None:
        self._board = board
        self._clock = board.clock
        self.ports: Ports = board.ports
        self.mmio: Mmio = board.mmio
        self.msrs: Msrs = board
        self.seen: list[Touched] = []
        """Accesses that somebody listens to, of the present instruction; see `tap`."""
        self._control: Control
        self.vcpu = self._bound = self._end = 0
        self._reader = -1
        self._reader_began = 0
        self.attention = False
        """Set by whoever wants the scheduler to look as soon as the present instruction has retired."""
        self.until = 0
        self.count = 0

    def tap(self, wanted: Wanted | None) -> None:
        """Keep accesses that are `wanted` in `seen` and leave after their instruction; None: no longer."""
        board = self._board
        self.seen.clear()
        if wanted is None:
            self.ports, self.mmio, self.msrs = board.ports, board.mmio, board
            return

        def note(touched: Touched) -> None:
            if wanted(touched):
                self.seen.append(touched)
                self.attention = True

        self.ports = PortTap(board.ports, note)
        self.mmio = MmioTap(board.mmio, note)
        self.msrs = MsrTap(board, note)

    def begin(self, vcpu: int, control: Control, ticks: int, end: int, bound: int) -> None:
        """`vcpu` runs from `ticks`, at most to its own tick `end` and to machine tick `bound`."""
        self.vcpu = vcpu
        self._control = control
        self._end = end
        self._bound = bound
        self._reader = -1
        control.time_base = self._clock.now - ticks
        self._set_until(control.time_base)

    def finish(self, ticks: int) -> None:
        """The run ended at `ticks`: bring the machine clock there."""
        self._clock.advance(self._control.time_base + ticks - self._clock.now)

    def began(self, ticks: int) -> int:
        """The machine tick at which the instruction began that has left the engine at `ticks`: now, or
        earlier if it has asked a device before."""
        return self._reader_began if ticks == self._reader else self._clock.now

    def over(self, ticks: int) -> bool:
        """Whether the run has reached its end at `ticks`; the engine may have moved the time base (PAUSE)."""
        self._set_until(self._control.time_base)
        return ticks >= self.until

    def _set_until(self, base: int) -> None:
        if self.attention:
            self.until = 0
            return
        deadline = self._clock.next_deadline()
        bound = self._bound if deadline is None or self._bound < deadline else deadline
        until = bound - base
        if until < 0:  # an access has passed the bound, on a CPU that has done fewer ticks than it costs
            until = 0
        self.until = until if until < self._end else self._end

    def _at(self, ticks: int) -> None:
        """An instruction that is not done asks a device at `ticks`."""
        now = self._clock.now = self._control.time_base + ticks
        if ticks != self._reader:
            self._reader, self._reader_began = ticks, now

    def _charge(self, cost: int = DEVICE_COST) -> None:
        """The access took its time. One that is refused takes none: the exception that follows can be
        intercepted, and then stands at a tick that the machine has without the intercept, too."""
        self.count += 1
        self._clock.now += cost
        base = self._control.time_base + cost
        self._control.time_base = base
        self._set_until(base)

    def read_port(self, ticks: int, port: int, size: int) -> int:
        """See `hv.engines.base.Access`."""
        self._at(ticks)
        value = self.ports.read(port, size)
        self._charge()
        return value

    def write_port(self, ticks: int, port: int, size: int, value: int) -> None:
        """See `hv.engines.base.Access`."""
        self._clock.now = self._control.time_base + ticks
        self.ports.write(port, size, value)
        self._charge()

    def read_mmio(self, ticks: int, gpa: int, size: int) -> int:
        """See `hv.engines.base.Access`."""
        self._at(ticks)
        value = self.mmio.read(gpa, size, self.vcpu)
        self._charge()
        return value

    def write_mmio(self, ticks: int, gpa: int, size: int, value: int) -> None:
        """See `hv.engines.base.Access`."""
        self._clock.now = self._control.time_base + ticks
        self.mmio.write(gpa, size, value, self.vcpu)
        self._charge()

    def read_msr(self, ticks: int, msr: int) -> int | None:
        """See `hv.engines.base.Access`."""
        self._at(ticks)
        value = self.msrs.read_msr(self.vcpu, msr)
        self._charge(0 if value is None else DEVICE_COST)
        return value

    def write_msr(self, ticks: int, msr: int, value: int) -> bool:
        """See `hv.engines.base.Access`."""
        self._at(ticks)
        accepted = self.msrs.write_msr(self.vcpu, msr, value)
        self._charge(DEVICE_COST if accepted else 0)
        return accepted
