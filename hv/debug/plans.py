"""From a debugger's resume plan to the scheduler's goal."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gdbstub.target import Continue, ResumePlan, Stay, Step, StepRange, ThreadAction
from hv.outcomes import Goal
from hv.vm import Vm

FREE_RUN: Final = ResumePlan((ThreadAction(Continue()),))


def is_restricted(plan: ResumePlan, vm: Vm) -> bool:
    """Whether the plan holds some vCPU."""
    return any(isinstance(plan.action_for(vcpu.index + 1), Stay) for vcpu in vm.vcpus)


def has_ranges(plan: ResumePlan) -> bool:
    """Whether some vCPU steps through a range: what that means depends on where its code segment is."""
    return any(isinstance(entry.action, StepRange) for entry in plan.actions)


def goal_of(plan: ResumePlan, vm: Vm, *, masked: bool, until: int | None, free: Collection[int] = ()) -> Goal:
    """What `plan` asks of the scheduler until machine tick `until`; `masked` is the policy for steps.

    The vCPUs in `free` run, whatever steps the plan has for them. In a replay the log alone says who runs and
    what is masked.
    """
    steps: dict[int, tuple[int, int] | None] = {}
    moving = set()
    for vcpu in range(len(vm.vcpus)):
        action = plan.action_for(vcpu + 1)
        if isinstance(action, Stay):
            continue
        moving.add(vcpu)
        if isinstance(action, Continue) or vcpu in free:
            continue
        steps[vcpu] = None if isinstance(action, Step) else _offsets(vm, vcpu, action.start, action.end)
    live = not vm.door.replaying
    allowed = frozenset(moving) if live and len(moving) < len(vm.vcpus) else None
    return Goal(until=until, steps=steps, masked=live and masked and bool(steps), allowed=allowed)


def _offsets(vm: Vm, vcpu: int, start: int, end: int) -> tuple[int, int] | None:
    """A range of linear addresses as offsets from the CS base; None, a plain step, when it is empty."""
    base = vm.vcpus[vcpu].code_base
    return (max(start - base, 0), end - base) if start < end and end > base else None
