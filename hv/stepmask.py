"""From which vCPUs maskable interrupts are held back, by a debugger's steps or by the log of a replay.

A masked step keeps interrupts from the vCPU that steps, so that it does not land in a handler. It does not do
so for ever: a vCPU that has halted gets them, and so does one for which an interrupt has waited for a
second of guest time, so that a loop which waits for the clock or for a device ends. What really holds an
event back is an influence and goes into the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hv.clock import NEVER, MachineClock
from hv.engines.base import Activity, EngineCpu
from hv.inputs import Influence, IrqHeld, IrqMask
from hv.outcomes import Goal
from hv.registers import read_int

RFLAGS_IF: Final = 1 << 9


class StepMask:
    """The masks of one machine's vCPUs. None of it is machine state."""

    def __init__(
        self, cpus: Sequence[EngineCpu], clock: MachineClock, influence: Callable[[Influence], object]
    ) -> None:
        self.held: int | None = None
        """The vCPU whose next tick holds interrupts back; set by an `IrqHeld` that is applied."""
        self.masked: set[int] = set()
        """vCPUs from which they are held back for longer; set by `IrqMask` items that are applied."""
        self.let_in: dict[int, str] = {}
        """vCPUs to which a masked step delivers them all the same, until it is complete, and why."""
        self._since: dict[int, int] = {}
        self._cpus = cpus
        self._clock = clock
        self._influence = influence

    @property
    def active(self) -> bool:
        """Whether something is held back from somebody now."""
        return self.held is not None or bool(self.masked)

    def reset(self) -> None:
        """Nothing is held back from anybody."""
        self.held = None
        self.masked.clear()
        self.let_in.clear()
        self._since.clear()

    def holds(self, vcpu: int, pending: bool, goal: Goal) -> bool:
        """Whether the entry of `vcpu` that comes holds interrupts back; `pending`: one waits."""
        if self.held == vcpu:
            return True
        if not goal.masked or vcpu not in goal.steps:
            return vcpu in self.masked
        cpu = self._cpus[vcpu]
        waits = pending and bool(read_int(cpu, "eflags") & RFLAGS_IF)
        if self._lets_in(vcpu, cpu, waits, goal):
            if vcpu in self.masked:
                self._influence(IrqMask(vcpu, False))
            return False
        if goal.steps[vcpu] is not None:
            if vcpu not in self.masked:
                self._influence(IrqMask(vcpu, True))
            return True
        if waits and not any(cpu.read_register("shadow")):
            self._influence(IrqHeld(vcpu))
            return True
        return False

    def _lets_in(self, vcpu: int, cpu: EngineCpu, waits: bool, goal: Goal) -> bool:
        now = self._clock.now
        if not waits:
            self._since.pop(vcpu, None)
        elif now - self._since.setdefault(vcpu, now) >= self._clock.ips:
            self.let_in.setdefault(vcpu, "one had waited for a second of guest time")
        asleep = cpu.control.activity != Activity.ACTIVE
        if asleep and goal.steps[vcpu] is not None:
            self.let_in.setdefault(vcpu, "it had halted")
        return asleep or vcpu in self.let_in

    def bound(self, vcpu: int) -> int:
        """The machine tick at which an interrupt has waited long enough for `vcpu`."""
        since = self._since.get(vcpu)
        return NEVER if since is None else since + self._clock.ips

    def delivered(self, vcpu: int) -> None:
        """`vcpu` gets an interrupt."""
        self._since.pop(vcpu, None)

    def release(self) -> None:
        """The run with the masked steps is left: who runs next is not masked."""
        for vcpu in sorted(self.masked):
            self._influence(IrqMask(vcpu, False))
