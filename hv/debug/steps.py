"""How steps are carried out: what is held back meanwhile, and interrupts that a range step must go through.

The policy says whether maskable interrupts reach a vCPU that steps, and whether machine time passes for it.
With timers held a step is a tick out of time: nobody else runs, no timer comes nearer, and the tick is an
influence in the log. A vCPU that can do none, being halted say, lets time pass as without the policy.

A range step that lets an interrupt in (`hv.stepmask`) goes on through the handler: the vCPU runs freely until
it is back at the interrupted place, on the interrupted stack, and steps on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gdbstub.target import ResumePlan, StepPolicy
from hv.debug.plans import goal_of, has_ranges
from hv.engines.base import AddressSpace
from hv.errors import EngineError
from hv.inputs import HeldTicks
from hv.outcomes import Goal, Kicked, Outcome, Stepped
from hv.vm import Vm

_PIECE_TICKS: Final = 2_000  # with timers held, until requests are looked at
_FIRST_NUMBER: Final = 1 << 40  # of the engine's breakpoints that are set here, one per vCPU


@dataclass(frozen=True, slots=True)
class _Detour:
    """A vCPU is in an interrupt handler; it comes back to a linear address with a stack pointer."""

    address: int
    stack: int
    reason: str


class Steps:
    """The steps of one machine's debugger. Used by the machine's owner."""

    def __init__(self, vm: Vm) -> None:
        self.masked = True
        """Maskable interrupts are held back from a vCPU that steps."""
        self.timers_held = False
        """Machine time stands still while it does."""
        self._vm = vm
        self._detours: dict[int, _Detour] = {}
        self._said: dict[int, str] = {}
        self._last: tuple[ResumePlan, bool, Goal] | None = None

    @property
    def policy(self) -> StepPolicy:
        """Both as the protocol has them."""
        masked = StepPolicy.NOIRQ if self.masked else StepPolicy(0)
        return StepPolicy.ENABLE | masked | (StepPolicy.NOTIMER if self.timers_held else StepPolicy(0))

    @policy.setter
    def policy(self, policy: StepPolicy) -> None:
        self.masked = bool(policy & StepPolicy.NOIRQ)
        self.timers_held = bool(policy & StepPolicy.NOTIMER)

    def begin(self) -> None:
        """A new plan is resumed."""
        self.end()
        self._said.clear()
        self._vm.scheduler.mask.let_in.clear()

    def end(self) -> None:
        """The plan has ended: nothing of it is left."""
        for vcpu in list(self._detours):
            self._come_back(vcpu)

    def leave(self, vcpu: int) -> None:
        """`vcpu` has stopped: nothing of its step is left."""
        if vcpu in self._detours:
            self._come_back(vcpu)

    # --- running -----------------------------------------------------------------------------------

    def run(self, plan: ResumePlan, until: int | None) -> Outcome:
        """Run `plan` on, at most to machine tick `until`."""
        goal = self._goal(plan, until)
        if self.timers_held and goal.steps and not self._vm.door.replaying:
            outcome = self._run_held(goal)
            if outcome is not None:
                return outcome
        return self._vm.run(goal)

    def _goal(self, plan: ResumePlan, until: int | None) -> Goal:
        """What `plan` asks for. Clients repeat their plans, a thousand single steps say."""
        replaying, last = self._vm.door.replaying, self._last
        if last is not None and last[0] is plan and last[1] == self.masked and not replaying:
            goal = last[2]
            return Goal(until, goal.steps, goal.masked, goal.allowed)
        goal = goal_of(plan, self._vm, masked=self.masked, until=until, free=self._detours)
        if not replaying and not has_ranges(plan):
            self._last = (plan, self.masked, goal)
        return goal

    def _run_held(self, goal: Goal) -> Outcome | None:
        """A piece of a step out of time; None when no vCPU that steps can do a tick."""
        for vcpu, range_ in goal.steps.items():
            cpu = self._vm.vcpus[vcpu].cpu
            start = cpu.ticks()
            outcome = self._ticks(vcpu, range_)
            count = cpu.ticks() - start
            if count:
                self._vm.door.note(HeldTicks(vcpu, count, self.masked))
            if outcome is not None:
                return outcome
        return None

    def _ticks(self, vcpu: int, range_: tuple[int, int] | None) -> Outcome | None:
        outcome: Outcome | None = None
        for _ in range(_PIECE_TICKS):
            last, outcome = outcome, self._vm.hold_tick(vcpu, masked=self.masked)
            if outcome is None:
                return None if last is None else Kicked()
            if not isinstance(outcome, Stepped) or range_ is None:
                return outcome
            if not range_[0] <= self._vm.vcpus[vcpu].get("rip") < range_[1]:
                return outcome
        return Kicked()

    # --- through handlers --------------------------------------------------------------------------

    def goes_through(self, stepped: Stepped) -> bool:
        """Whether a step that is complete for the scheduler goes on: through the handler it landed in."""
        if stepped.let_in is not None:
            self._said[stepped.vcpu] = stepped.let_in
        if stepped.interrupted is None or stepped.let_in is None:
            return False
        address, stack = stepped.interrupted
        try:
            self._vm.engine.add_breakpoint(_FIRST_NUMBER + stepped.vcpu, AddressSpace.LINEAR, address)
        except EngineError:
            return False
        self._detours[stepped.vcpu] = _Detour(address, stack, stepped.let_in)
        return True

    def look_for_return(self, vcpu: int, numbers: tuple[int, ...]) -> None:
        """`vcpu` is at breakpoints `numbers`: one of them may be where its detour ends."""
        detour = self._detours.get(vcpu)
        if detour is None or _FIRST_NUMBER + vcpu not in numbers:
            return
        if self._vm.vcpus[vcpu].get("rsp") == detour.stack:
            self._come_back(vcpu)
            self._vm.scheduler.mask.let_in[vcpu] = detour.reason

    def _come_back(self, vcpu: int) -> None:
        del self._detours[vcpu]
        self._vm.engine.remove_breakpoint(_FIRST_NUMBER + vcpu)

    def said(self) -> str:
        """What a person should know about the steps of this plan."""
        if not self._said:
            return ""
        return "; ".join(
            f"vCPU {vcpu}: interrupts were let in during the step, as {reason}"
            for vcpu, reason in sorted(self._said.items())
        )
