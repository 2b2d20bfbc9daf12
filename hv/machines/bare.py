"""The `bare` machine: memory, CPUs, the debug exit port and the debug console, and nothing that interrupts.

For running a piece of code as it is: in tests, experiments and scripts. It starts where the caller puts
the first CPU, by default at the reset vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hv.access import IrqRow
from hv.bus import MmioBus, PortBus
from hv.clock import MachineClock
from hv.device import ByteSink, State, Value, check_header, child, header
from hv.devices.ports import DebugConsole, DebugExit
from hv.engines.base import CpuModel, Engine, EngineCpu
from hv.machines import layout
from hv.memory import GuestMemory
from hv.signals import Signals, SuspendReason, SuspendSignal
from hv.vm import Parts, Vm

DEFAULT_IPS: Final = 1_000_000_000


class BareBoard:
    """A board without interrupt controllers; see `hv.access.Board`."""

    kind: Final = "bare-board"
    version: Final = 1

    def __init__(self, vcpus: int, ips: int, signals: Signals, console: ByteSink) -> None:
        self.clock = MachineClock(ips)
        self.ports = PortBus()
        self.mmio = MmioBus(vcpus)
        self._exit = DebugExit(lambda value: signals.put(SuspendSignal(SuspendReason.DEBUG_EXIT, value)))
        self._console = DebugConsole(console)
        self.ports.add(layout.PORT_DEBUG_EXIT, 4, self._exit, width=4, name="debug-exit")
        self.ports.add(layout.PORT_DEBUG_CONSOLE, 1, self._console, name="debug-console")

    @property
    def a20(self) -> bool:
        """Always on: there is no gate."""
        return True

    def interrupt_pending(self, vcpu: int) -> bool:
        """Never."""
        return False

    def acknowledge(self, vcpu: int) -> int | None:
        """Nothing to take."""
        return None

    def task_priority(self, vcpu: int) -> int:
        """There is no local APIC behind CR8."""
        return 0

    def set_task_priority(self, vcpu: int, value: int) -> None:
        """Nobody looks at it."""

    def tsc_moved(self, vcpu: int) -> None:
        """No timer counts by the TSC."""

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        """The board has none."""
        return None

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        """The board has none."""
        return False

    def receive(self, uart: int, data: bytes) -> None:
        """There is no serial port."""

    def room(self, uart: int) -> int:
        """There is no serial port."""
        return 0

    def listens(self, uart: int) -> bool:
        """There is no serial port."""
        return False

    def describe(self, part: str, vcpu: int) -> list[tuple[str, str]]:
        """There are no parts to describe."""
        return []

    def interrupts(self) -> list[IrqRow]:
        """There is no controller."""
        return []

    def reset(self) -> None:
        """Nothing has state."""

    def save(self) -> State:
        """The clock."""
        return header(self) | {"clock": self.clock.save()}

    def load(self, state: Mapping[str, Value]) -> None:
        """The clock."""
        check_header(self, state)
        self.clock.load(child(self.kind, state, "clock"))


def build_bare(
    engine: Engine,
    *,
    ram: int = 1 << 20,
    vcpus: int = 1,
    model: CpuModel = CpuModel.V2,
    ips: int = DEFAULT_IPS,
    boot: Callable[[Vm], None] = lambda vm: None,
    console: ByteSink = lambda data: None,
) -> Vm:
    """A machine with `ram` bytes at 0. `boot` fills memory and sets the CPUs, at power-on and reset."""
    signals = Signals()
    board = BareBoard(vcpus, ips, signals, console)
    memory = GuestMemory(engine, ram)
    cpus: list[EngineCpu] = [engine.add_cpu(n, vcpus, model, ips, 0) for n in range(vcpus)]
    config: dict[str, Value] = {"machine": "bare", "ram": ram, "vcpus": vcpus, "cpu": int(model), "ips": ips}
    return Vm(Parts(engine, cpus, board, signals, memory, boot), config)
