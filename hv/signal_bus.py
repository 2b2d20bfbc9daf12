"""What the board tells the CPUs, carried out between runs: INIT, startup, NMI, A20, priorities, the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from hv.access import Board
from hv.engines.base import Activity, Engine, EngineCpu
from hv.registers import read_int, write_int
from hv.signals import A20Signal, InitSignal, NmiSignal, Signals, StartupSignal, SuspendSignal


class SignalBus:
    """Empties the queue of `signals`, on the machine's owner."""

    def __init__(self, engine: Engine, cpus: Sequence[EngineCpu], board: Board, signals: Signals) -> None:
        self.suspended: SuspendSignal | None = None
        """The first request to end or restart the machine, until the scheduler has reported it."""
        self._engine = engine
        self._cpus = cpus
        self._board = board
        self._signals = signals
        self._cr8: dict[int, int] = {}
        """CR8 by vCPU, as far as it is known."""

    def take(self) -> None:
        """Carry out what is queued."""
        queue = self._signals.queue
        while queue:
            signal = queue.pop(0)
            match signal:
                case InitSignal(vcpu):
                    self._cpus[vcpu].reset(True)
                    self._cpus[vcpu].control.activity = Activity.WAIT_SIPI if vcpu else Activity.ACTIVE
                    self._cr8[vcpu] = 0
                case StartupSignal(vcpu, vector):
                    self._start(vcpu, vector)
                case NmiSignal(vcpu):
                    self._cpus[vcpu].control.nmi_pending = 1
                case A20Signal(enabled):
                    self._engine.set_a20(enabled)
                case SuspendSignal():
                    if self.suspended is None:
                        self.suspended = signal
                case _:
                    assert_never(signal)

    def _start(self, vcpu: int, vector: int) -> None:
        """A startup IPI; ignored by a CPU that does not wait for one (SDM vol. 3, "MP Initialization")."""
        cpu = self._cpus[vcpu]
        if cpu.control.activity != Activity.WAIT_SIPI:
            return
        write_int(cpu, "cs", vector << 8)
        write_int(cpu, "cs_base", vector << 12)
        write_int(cpu, "rip", 0)
        cpu.control.activity = Activity.ACTIVE

    def forget(self) -> None:
        """Somebody else may have written CR8."""
        self._cr8.clear()

    def priority_written(self, vcpu: int, value: int) -> None:
        """The guest wrote CR8 of `vcpu`."""
        self._cr8[vcpu] = value
        self._board.set_task_priority(vcpu, value)

    def sync_priority(self, vcpu: int) -> None:
        """CR8 and the local APIC's TPR are one register: take over what the guest wrote to the latter."""
        value = self._board.task_priority(vcpu)
        known = self._cr8.get(vcpu)
        if known is None:
            known = self._cr8[vcpu] = read_int(self._cpus[vcpu], "cr8")
        if value != known:
            self._cr8[vcpu] = value
            write_int(self._cpus[vcpu], "cr8", value)
