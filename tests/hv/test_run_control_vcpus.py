"""Run control with up to 16 vCPUs: no stop lost, none stale, some held while others run, Ctrl-C always."""

from collections.abc import Iterator

import pytest

from gdbstub.target import (
    BreakpointKind,
    Continue,
    ResumePlan,
    Stay,
    Step,
    StepPolicy,
    StepRange,
    Stop,
    StopReason,
    ThreadAction,
)
from hv.debug.breakpoints import ExecutionPoint
from hv.engines.base import Activity, AddressSpace
from hv.exits import Bpt, BptSource
from tests.helpers.fake_engine import Program
from tests.helpers.fake_vm import FakeVm, make_vm
from tests.helpers.stepper import MASKED, TIMEOUT_S, Stepper

CONTINUE = ResumePlan((ThreadAction(Continue()),))
# Each adds one, then stays where it is.
ONCE: Program = {0: ("add", 1), 1: ("add", 1), 2: ("jmp", 2)}
LOOP: Program = {0: ("add", 1), 1: ("jmp", 0)}
COUNTS = [1, 2, 3, 4, 8, 16]
ACTIONS = [Step(), StepRange(0, 0x100), Continue()]


class Machine(Stepper):
    """A fake machine whose vCPUs all run from address 0, and its run control."""

    def __init__(
        self, program: Program, vcpus: int, policy: StepPolicy = MASKED, *, active: bool = True
    ) -> None:
        self.fake: FakeVm = make_vm(program, vcpus)
        if active:
            for cpu in self.fake.fake_engine.cpus:
                cpu.block.activity = Activity.ACTIVE
        super().__init__(self.fake)

    def set(self, address: int) -> ExecutionPoint:
        """A breakpoint."""
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        self.control.points.add(1, point, BreakpointKind.SOFTWARE)
        return point

    def exit_at_once(self, address: int, *vcpus: int) -> None:
        """The engine has an exit at the breakpoint at `address` for each of `vcpus`, all at the same time."""
        [number] = [n for n, where in self.fake.fake_engine.breakpoints.items() if where == address]
        for vcpu in vcpus:
            self.fake.fake_engine.cpus[vcpu].exits.append(Bpt(address, BptSource.SET, number, 0))

    @property
    def counts(self) -> list[int]:
        """The ticks of each."""
        return [cpu.count for cpu in self.fake.fake_engine.cpus]


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    made: list[Machine] = []
    yield made
    for machine in made:
        machine.control.close()


def begin(machines: list[Machine], program: Program, vcpus: int, *, active: bool = True) -> Machine:
    machine = Machine(program, vcpus, active=active)
    machines.append(machine)
    return machine


def only(thread: int, action: Step | Continue | StepRange) -> ResumePlan:
    return ResumePlan((ThreadAction(action, thread),))


def breakpoint_of(stop: Stop) -> int:
    assert stop.reason is StopReason.SOFTWARE_BREAKPOINT
    return stop.thread


@pytest.mark.parametrize("vcpus", COUNTS)
def test_as_many_stops_as_vcpus_at_breakpoints(machines: list[Machine], vcpus: int) -> None:
    machine = begin(machines, ONCE, vcpus)
    machine.set(1)
    threads = [breakpoint_of(machine.stop(CONTINUE)) for _ in range(vcpus)]
    assert threads == list(range(1, vcpus + 1))
    assert machine.vm.vcpus[-1].get("rax") == 1
    assert machine.start(CONTINUE) is None  # and no stop more
    machine.control.interrupt()
    assert machine.wait().reason is StopReason.INTERRUPT


@pytest.mark.parametrize("vcpus", COUNTS)
def test_exits_of_all_vcpus_at_once_are_reported_one_by_one(machines: list[Machine], vcpus: int) -> None:
    machine = begin(machines, ONCE, vcpus)
    machine.set(0)
    machine.exit_at_once(0, *range(vcpus))
    for expected in range(1, vcpus + 1):
        assert breakpoint_of(machine.stop(CONTINUE)) == expected
    assert machine.start(CONTINUE) is None
    machine.control.interrupt()
    assert machine.wait().reason is StopReason.INTERRUPT


def test_events_at_once_are_dropped_when_their_breakpoint_is_gone(machines: list[Machine]) -> None:
    machine = begin(machines, ONCE, 4)
    point = machine.set(1)
    machine.set(2)
    machine.exit_at_once(1, 0, 1, 2, 3)
    assert breakpoint_of(machine.stop(CONTINUE)) == 1
    machine.control.points.remove(1, point, BreakpointKind.SOFTWARE)
    # None of the others says anything about the place that is gone: they come to the next one.
    for _ in range(4):
        thread = breakpoint_of(machine.stop(CONTINUE))
        assert machine.vm.vcpus[thread - 1].get("rip") == 2


def test_a_held_vcpu_keeps_its_event_until_it_runs(machines: list[Machine]) -> None:
    machine = begin(machines, LOOP, 3)
    machine.set(0)
    machine.exit_at_once(0, 0, 2)
    assert breakpoint_of(machine.stop(only(1, Continue()))) == 1
    before = machine.counts
    assert machine.stop(only(2, Step())).thread == 2  # a stop at its breakpoint or its step: of no other
    assert machine.counts[0] == before[0]
    assert machine.counts[2] == before[2] == 0
    assert breakpoint_of(machine.stop(only(3, Continue()))) == 3


@pytest.mark.parametrize("vcpus", [2, 4, 16])
def test_a_held_vcpu_executes_nothing(machines: list[Machine], vcpus: int) -> None:
    machine = begin(machines, LOOP, vcpus)
    for thread in range(vcpus, 0, -1):
        before = machine.counts
        assert machine.stop(only(thread, Step())) == Stop(StopReason.STEP, thread)
        before[thread - 1] += 1
        assert machine.counts == before


def test_the_leftmost_of_several_matching_actions_counts(machines: list[Machine]) -> None:
    machine = begin(machines, LOOP, 4)
    plan = ResumePlan(
        (ThreadAction(Step(), 3), ThreadAction(Stay(), 3), ThreadAction(Stay(), 1), ThreadAction(Stay()))
    )
    assert machine.stop(plan) == Stop(StopReason.STEP, 3)
    assert machine.counts == [0, 0, 1, 0]


def test_one_steps_while_the_others_continue(machines: list[Machine]) -> None:
    machine = begin(machines, LOOP, 4)
    for thread in (1, 4, 2, 2):
        before = machine.counts
        plan = ResumePlan((ThreadAction(Step(), thread), ThreadAction(Continue())))
        assert machine.stop(plan) == Stop(StopReason.STEP, thread)
        assert machine.counts[thread - 1] == before[thread - 1] + 1


# The others wait for their startup message; they run nothing and nothing wakes them.
@pytest.mark.parametrize("others", [True, False], ids=["others run", "others stay"])
@pytest.mark.parametrize(
    "action", [Step(), StepRange(0, 0x100), Continue()], ids=["step", "range", "continue"]
)
def test_ctrl_c_answers_while_a_vcpu_steps_that_waits_for_its_startup(
    machines: list[Machine], action: Step | StepRange | Continue, others: bool
) -> None:
    machine = begin(machines, LOOP, 4, active=False)
    rest = (ThreadAction(Continue()),) if others else ()
    assert machine.start(ResumePlan((ThreadAction(action, 3), *rest))) is None
    assert machine.control.submit(lambda: machine.counts[2]).result(TIMEOUT_S) == 0
    machine.control.interrupt()
    assert machine.wait().reason is StopReason.INTERRUPT
    assert machine.vm.vcpus[2].activity is Activity.WAIT_SIPI
    assert (machine.counts[0] > 0) == others
    assert machine.counts[1:] == [0, 0, 0]


@pytest.mark.parametrize(
    "action", [Step(), StepRange(0, 0x100), Continue()], ids=["step", "range", "continue"]
)
def test_ctrl_c_answers_while_a_vcpu_steps_that_is_halted(
    machines: list[Machine], action: Step | StepRange | Continue
) -> None:
    machine = begin(machines, {0: ("sti",), 1: ("hlt",), 2: ("jmp", 2)}, 2, active=False)
    machine.control.open_inputs = 1
    for _ in range(2):
        machine.stop(only(1, Step()))
    assert machine.vm.vcpus[0].activity is Activity.HALTED
    assert machine.start(only(1, action)) is None
    machine.control.interrupt()
    assert machine.wait().reason is StopReason.INTERRUPT
    assert machine.vm.vcpus[0].activity is Activity.HALTED


def test_a_vcpu_that_is_started_while_it_steps_stops_after_its_first_instruction(
    machines: list[Machine],
) -> None:
    program: Program = {
        0: ("add", 1),
        1: ("out", 0x81, 1),
        2: ("jmp", 2),
        0x10000: ("add", 7),
        0x10001: ("jmp", 1),
    }
    machine = begin(machines, program, 2, active=False)
    stop = machine.stop(ResumePlan((ThreadAction(Step(), 2), ThreadAction(Continue()))))
    assert stop == Stop(StopReason.STEP, 2)
    assert (machine.vm.vcpus[1].get("rax"), machine.vm.vcpus[1].get("linear_pc")) == (7, 0x10001)


@pytest.mark.parametrize("policy", [MASKED, MASKED | StepPolicy.NOTIMER], ids=["masked", "timers held"])
def test_steps_are_exact_on_every_vcpu(machines: list[Machine], policy: StepPolicy) -> None:
    machine = begin(machines, LOOP, 16)
    machine.control.steps.policy = policy
    for round_ in range(4):
        for thread in range(1, 17):
            assert machine.stop(only(thread, Step())) == Stop(StopReason.STEP, thread)
            assert machine.vm.vcpus[thread - 1].get("rip") == (round_ + 1) % 2
