"""One entry into the engine: what the CPU is told before, and interrupts on the way.

The scheduler says who enters and until when. An interrupt that can be taken is acknowledged and delivered
within the entry, after all stops that are due at its tick; one that a debugger's step or the log holds back
(`hv.stepmask`) is not. Nothing that is set here outlives the entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hv.access import Board, DeviceAccess
from hv.clock import NEVER
from hv.engines.base import Activity, AddressSpace, Control, Engine, EngineCpu, EventType
from hv.exits import Exit, IrqWindow, Kick, Mtrap
from hv.held import HeldAccess
from hv.inputs import BegunTick
from hv.outcomes import Goal
from hv.registers import read_int
from hv.stepmask import StepMask

_HERE: Final = 1 << 62  # number of a breakpoint that nobody else has


class Entry:
    """Enters the vCPUs of one machine. `pass_over` are those whose breakpoint was just reported."""

    def __init__(
        self,
        engine: Engine,
        cpus: Sequence[EngineCpu],
        board: Board,
        access: DeviceAccess,
        mask: StepMask,
        pass_over: set[int],
    ) -> None:
        self.interrupted: tuple[int, int] | None = None
        """Linear program counter and stack pointer where an interrupt ended the last entry's range step."""
        self._engine = engine
        self._cpus = cpus
        self._board = board
        self._clock = board.clock
        self._access = access
        self._held_access = HeldAccess(board, access)
        self._mask = mask
        self._pass_over = pass_over

    def prepare(self, vcpu: int) -> None:
        """Make `vcpu` ready for whole quanta in turn with others, without the debugger and the log."""
        control = self._cpus[vcpu].control
        control.intr_line = int(self._board.interrupt_pending(vcpu))
        control.mask_hwintr = 0
        control.pause_exit = 1

    def enter(self, vcpu: int, start: int, end: int, goal: Goal) -> Exit:
        """Run `vcpu`, whose ticks are `start`, to its tick `end` at most, in the way that `goal` asks for.

        With `end` NEVER nobody else could run: a PAUSE then is no exit, and the engine charges it.
        """
        cpu, access = self._cpus[vcpu], self._access
        control = cpu.control
        pending = self._board.interrupt_pending(vcpu)
        held = self._mask.holds(vcpu, pending, goal)
        control.intr_line = int(pending)
        control.mask_hwintr = int(held)
        control.pause_exit = int(end != NEVER)
        control.skip_breakpoint = int(vcpu in self._pass_over)
        range_ = goal.steps.get(vcpu)
        if self._mask.held == vcpu or (vcpu in goal.steps and range_ is None):
            end = start + 1
        if range_ is not None:
            control.step_start, control.step_end = range_
            control.step_range = 1
        bound = NEVER if goal.until is None else goal.until
        if held:
            bound = min(bound, self._mask.bound(vcpu))
        self.interrupted = None
        access.begin(vcpu, control, start, end, bound)
        try:
            left = cpu.run(access.until, access)
            # A window at the very tick where the run ends waits: timers due at this tick come first.
            while isinstance(left, IrqWindow) and not access.over(cpu.ticks()):
                place = (read_int(cpu, "linear_pc"), read_int(cpu, "rsp")) if range_ is not None else None
                self._inject(vcpu, control)
                left = cpu.run(cpu.ticks() + 1 if control.inject_valid else access.until, access)
                self.interrupted = place if isinstance(left, Mtrap) else None
            return left
        finally:
            control.mask_hwintr = 0
            control.step_range = 0
            control.skip_breakpoint = 0

    def enter_held(self, vcpu: int, start: int, *, masked: bool) -> Exit:
        """One tick of `vcpu` while machine time stands still (`Scheduler.hold_tick`)."""
        cpu, access = self._cpus[vcpu], self._held_access
        control = cpu.control
        intercepts = control.exception_exit, control.bpt_exit
        control.exception_exit = control.bpt_exit = 0
        control.intr_line = int(self._board.interrupt_pending(vcpu))
        control.mask_hwintr = int(masked and control.activity == Activity.ACTIVE)
        control.pause_exit = control.skip_breakpoint = 1
        control.time_base = self._clock.now - start
        access.begin(vcpu, start + 1)
        try:
            left = cpu.run(access.until, access)
            while isinstance(left, IrqWindow | Kick) and cpu.ticks() == start:
                if isinstance(left, IrqWindow):
                    self._inject(vcpu, control)
                control.skip_breakpoint = 1
                left = cpu.run(start + 1, access)
            return left
        finally:
            control.exception_exit, control.bpt_exit = intercepts
            control.mask_hwintr = control.skip_breakpoint = 0

    def begin(self, item: BegunTick, start: int) -> Exit:
        """Do as much of a tick as was done when it was begun."""
        cpu, passed_over = self._cpus[item.vcpu], item.vcpu in self._pass_over
        control = cpu.control
        before = control.exception_exit, control.bpt_exit, control.catch_events
        (self._pass_over.discard if item.fetched else self._pass_over.add)(item.vcpu)
        try:
            control.exception_exit, control.bpt_exit = item.exceptions, int(item.int3)
            control.catch_events = 0
            if item.fetched:
                self._engine.add_breakpoint(_HERE, AddressSpace.LINEAR, read_int(cpu, "linear_pc"))
            while True:  # a request to stop may come before anything
                control.pass_exception = int(item.passing)
                left = self.enter(item.vcpu, start, start + 1, Goal())
                if not isinstance(left, Kick) or cpu.ticks() != start:
                    return left
        finally:
            control.exception_exit, control.bpt_exit, control.catch_events = before
            (self._pass_over.add if passed_over else self._pass_over.discard)(item.vcpu)
            if item.fetched:
                self._engine.remove_breakpoint(_HERE)

    def _inject(self, vcpu: int, control: Control) -> None:
        self._mask.delivered(vcpu)
        vector = self._board.acknowledge(vcpu)
        if vector is None:
            control.intr_line = 0
            return
        control.inject_type = EventType.HWINTR
        control.inject_vector = vector
        control.inject_has_error = 0
        control.inject_length = 0
        control.inject_valid = 1
