"""Which vCPUs have something to do: the scheduler's questions to CPUs and board. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hv.access import Board
from hv.engines.base import Activity, EngineCpu, MonitorState
from hv.registers import read_int

RFLAGS_IF: Final = 1 << 9


class Readiness:
    """Answers for the vCPUs of one machine."""

    def __init__(self, cpus: Sequence[EngineCpu], board: Board) -> None:
        self._cpus = cpus
        self._board = board

    def runnable(self, vcpu: int) -> bool:
        """Whether `vcpu` would execute something if it were entered now."""
        control = self._cpus[vcpu].control
        activity = control.activity
        if activity == Activity.ACTIVE:
            return True
        if activity != Activity.HALTED:
            return False
        if control.inject_valid:
            return True
        cpu = self._cpus[vcpu]
        if control.nmi_pending and not any(cpu.read_register("nmi_blocked")):
            return True
        return self._board.interrupt_pending(vcpu) and self._interrupts_wake(vcpu)

    def _interrupts_wake(self, vcpu: int) -> bool:
        """Whether an interrupt ends the halt of `vcpu`: it is taken, or MWAIT has asked for masked ones."""
        masked = self._cpus[vcpu].control.monitor_state == MonitorState.WAIT_MASKED
        return masked or self.interrupts_enabled(vcpu)

    def interrupts_enabled(self, vcpu: int) -> bool:
        """RFLAGS.IF of `vcpu`."""
        return bool(read_int(self._cpus[vcpu], "eflags") & RFLAGS_IF)

    def may_wake(self, vcpu: int) -> bool:
        """Whether an interrupt could wake `vcpu`. Non-maskable ones that only a timer could raise are not
        waited for: a CPU that halts with interrupts disabled has given up."""
        halted = self._cpus[vcpu].control.activity == Activity.HALTED
        return halted and self._interrupts_wake(vcpu)
