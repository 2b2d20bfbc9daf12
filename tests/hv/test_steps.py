"""Steps on the real core: over awkward instructions, under a timer, with what is held back meanwhile."""

from pathlib import Path

import pytest

from gdbstub.target import (
    BreakpointKind,
    ResumePlan,
    StepPolicy,
    StepRange,
    StopReason,
    ThreadAction,
)
from hv.debug.breakpoints import ExecutionPoint
from hv.engines.base import AddressSpace
from hv.outcomes import Goal, Reached
from tests.helpers.stepper import MASKED, TIMEOUT_S, Stepper, run_to
from tests.helpers.timer_machine import (
    AWKWARD,
    CODE,
    HANDLERS,
    PERIODIC,
    assemble,
    counter,
    timer_machine,
)

TIMER_HANDLER = HANDLERS + 16 * 0x20
HELD = MASKED | StepPolicy.NOTIMER
LAST_TICK = 12_000


def begin(steppers: list[Stepper], source: str, policy: StepPolicy = MASKED, *, ips: int = 1_000_000_000,
          record: Path | None = None) -> Stepper:  # fmt: skip
    stepper = Stepper(timer_machine(source, ips=ips, record=record)[0], policy)
    steppers.append(stepper)
    return stepper


@pytest.mark.parametrize("policy", [MASKED, StepPolicy.ENABLE], ids=["masked", "unmasked"])
def test_steps_over_awkward_instructions_equal_an_unstepped_run(
    steppers: list[Stepper], policy: StepPolicy
) -> None:
    stepper = begin(steppers, AWKWARD, policy)
    seen = set()
    while stepper.vm.clock.now < LAST_TICK:
        seen.add(stepper.step())
    # Three rounds are over, with one timer interrupt each, and every exception was met.
    assert stepper.vm.vcpus[0].get("r12") == 0
    assert counter(stepper.vm) == 3
    assert {HANDLERS + 16 * vector for vector in (1, 3, 6, 14, 0x20, 0x80)} <= seen
    alone, _ = timer_machine(AWKWARD)
    assert run_to(alone, stepper.vm.clock.now) == run_to(stepper.vm, stepper.vm.clock.now)
    alone.close()


@pytest.mark.parametrize(
    ("policy", "delivered"),
    [
        (MASKED, False),
        (StepPolicy.ENABLE, True),
        (HELD, False),
        (StepPolicy.ENABLE | StepPolicy.NOTIMER, False),
    ],
    ids=["masked", "unmasked", "held", "held-unmasked"],
)
def test_a_stepped_run_under_a_timer_equals_its_replay(
    steppers: list[Stepper], tmp_path: Path, policy: StepPolicy, delivered: bool
) -> None:
    log = tmp_path / "log"
    stepper = begin(steppers, PERIODIC + AWKWARD, policy, record=log)
    for _ in range(2_000):
        stepper.step()
    tick = max(LAST_TICK, stepper.vm.clock.now + 2_000)
    recorded = run_to(stepper.vm, tick)
    stepper.vm.door.close()
    replayed, _ = timer_machine(PERIODIC + AWKWARD, replay=log)
    assert run_to(replayed, tick) == recorded
    replayed.close()
    if policy is StepPolicy.ENABLE:
        alone, _ = timer_machine(PERIODIC + AWKWARD)
        assert run_to(alone, tick) == recorded
        alone.close()


STRAIGHT = PERIODIC + "        sti\n" + "        inc     %rax\n" * 1_100 + "1:      jmp     1b\n"
FIRST_INC = CODE + 5


def test_a_thousand_masked_steps_under_a_fast_timer_stay_on_their_way(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, STRAIGHT)
    for _ in range(3):
        stepper.step()
    assert [stepper.step() for _ in range(1000)] == [FIRST_INC + 3 * n for n in range(1, 1001)]
    assert counter(stepper.vm) == 0
    # It was held back, not lost.
    stepper.control.steps.policy = StepPolicy.ENABLE
    assert stepper.step() == TIMER_HANDLER


def test_unmasked_steps_enter_the_handler(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, STRAIGHT, StepPolicy.ENABLE)
    assert TIMER_HANDLER in [stepper.step() for _ in range(1000)]


def test_steps_with_timers_held_take_no_time(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, STRAIGHT, HELD)
    for _ in range(3):
        stepper.step()
    before = stepper.vm.clock.now
    assert [stepper.step() for _ in range(1000)] == [FIRST_INC + 3 * n for n in range(1, 1001)]
    assert stepper.vm.clock.now == before
    stepper.control.steps.policy = StepPolicy.ENABLE
    assert stepper.step() == FIRST_INC + 3 * 1001, "the timer has come no nearer"


def test_a_range_step_with_timers_held_takes_no_time(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, STRAIGHT, HELD)
    for _ in range(3):
        stepper.step()
    before = stepper.vm.clock.now
    assert stepper.range_step(3 * 1000).reason is StopReason.STEP
    assert (stepper.rip, stepper.vm.clock.now) == (FIRST_INC + 3 * 1000, before)


def test_the_clock_that_a_guest_reads_never_runs_backwards_over_held_steps(steppers: list[Stepper]) -> None:
    body = "        rdtsc\n        shl $32, %rdx\n        or %rax, %rdx\n" * 20
    stepper = begin(steppers, PERIODIC + body + "1: jmp 1b\n", HELD)
    values = []
    for number in range(60):
        stepper.control.steps.policy = HELD if number % 7 else MASKED
        stepper.step()
        if number >= 4 and number % 3 == 1:  # behind the OR
            values.append(stepper.vm.vcpus[0].get("rdx"))
    assert values == sorted(values)


HALTING = (
    "        mov $20, %al\n        out %al, $0x40\n        sti\n        hlt\n        nop\n1:      jmp 1b\n"
)


@pytest.mark.parametrize("policy", [MASKED, HELD], ids=["masked", "held"])
def test_a_step_over_a_halt_stops_behind_it_and_the_next_in_the_handler(
    steppers: list[Stepper], policy: StepPolicy
) -> None:
    stepper = begin(steppers, HALTING, policy)
    for _ in range(3):
        stepper.step()
    halt = CODE + len(assemble(HALTING)) - 4
    assert (stepper.rip, stepper.vm.vcpus[0].state) == (halt, "running")
    assert (stepper.step(), stepper.vm.vcpus[0].state) == (halt + 1, "halted")
    assert (stepper.step(), stepper.vm.vcpus[0].state) == (TIMER_HANDLER, "running")


@pytest.mark.parametrize("policy", [MASKED, HELD], ids=["masked", "held"])
def test_a_range_step_over_a_halt_lets_interrupts_in_and_says_so(
    steppers: list[Stepper], policy: StepPolicy
) -> None:
    stepper = begin(steppers, HALTING, policy)
    end = len(assemble(HALTING)) - 2
    stop = stepper.range_step(end)
    assert (stop.reason, stepper.rip, counter(stepper.vm)) == (StopReason.STEP, CODE + end, 1)
    if policy is MASKED:
        assert "interrupts were let in" in stop.text
        assert "halted" in stop.text


# while (counter < 5) ; as a loop on jiffies
WAITING = PERIODIC + "        sti\n1:      cmpq $5, 0x20000\n        jb 1b\n2:      jmp 2b\n"


def test_a_range_step_in_a_loop_that_waits_for_the_timer_ends(
    steppers: list[Stepper], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    stepper = begin(steppers, WAITING, ips=100_000, record=log)
    for _ in range(3):
        stepper.step()
    before = stepper.vm.clock.now
    size = len(assemble(WAITING)) - 2 - (stepper.rip - CODE)
    stop = stepper.range_step(size)
    assert stop.reason is StopReason.STEP
    assert stepper.rip == CODE + len(assemble(WAITING)) - 2
    assert counter(stepper.vm) == 5
    assert "waited for a second" in stop.text
    assert stepper.vm.clock.now - before > 100_000, "before that it was held back"
    tick = stepper.vm.clock.now + 1_000
    recorded = run_to(stepper.vm, tick)
    stepper.vm.door.close()
    replayed, _ = timer_machine(WAITING, ips=100_000, replay=log)
    assert run_to(replayed, tick) == recorded
    replayed.close()


def test_a_breakpoint_ends_a_range_step_that_is_in_a_handler(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, WAITING, ips=100_000)
    for _ in range(3):
        stepper.step()
    behind = ExecutionPoint(AddressSpace.LINEAR, TIMER_HANDLER + 8)  # its IRETQ
    stepper.control.points.add(1, behind, BreakpointKind.SOFTWARE)
    assert stepper.range_step(12).reason is StopReason.SOFTWARE_BREAKPOINT
    assert (stepper.rip, counter(stepper.vm)) == (TIMER_HANDLER + 8, 1)
    stepper.control.points.remove(1, behind, BreakpointKind.SOFTWARE)
    # Nothing of the range step is left: the guest runs freely, through the place it was interrupted at.
    outcome = stepper.vm.run(Goal(until=stepper.vm.clock.now + 10_000))
    assert isinstance(outcome, Reached), outcome
    assert counter(stepper.vm) > 5


@pytest.mark.parametrize("policy", [MASKED, HELD], ids=["masked", "held"])
def test_an_interrupt_ends_a_range_step_that_does_not_end(
    steppers: list[Stepper], policy: StepPolicy
) -> None:
    stepper = begin(steppers, "1:      jmp 1b\n", policy)
    plan = ResumePlan((ThreadAction(StepRange(CODE, CODE + 2), 1),))
    assert stepper.start(plan) is None
    assert stepper.control.submit(lambda: stepper.vm.vcpus[0].get("rip")).result(TIMEOUT_S) == CODE
    stepper.control.interrupt()
    assert stepper.wait().reason is StopReason.INTERRUPT
