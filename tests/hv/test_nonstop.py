"""Non-stop on the real machine target: vCPUs that run and stop one by one."""

from collections.abc import Iterator

import pytest
import trio

from gdbstub.capabilities import NonStop
from gdbstub.errors import TargetError
from gdbstub.target import (
    BreakpointKind,
    Continue,
    Detach,
    Exited,
    ResumePlan,
    Step,
    Stop,
    StopReason,
    ThreadAction,
)
from hv.debug.stops import Ending
from hv.engines.base import Activity
from tests.helpers.bare_target import CODE, Machine, machine
from tests.helpers.patience import HANG_S

# inc ax; jmp back -- on every vCPU
LOOP = b"\x40\xeb\xfd"
TIMEOUT_S = HANG_S


def plan(*threads: int, step: bool = False) -> ResumePlan:
    action = Step() if step else Continue()
    return ResumePlan(tuple(ThreadAction(action, thread) for thread in threads))


@pytest.fixture
def two() -> Iterator[Machine]:
    """Two vCPUs before the same loop."""
    with machine(LOOP) as made:
        second = made.vm.vcpus[1]
        for name, value in {"cs": 0, "cs_base": 0, "rip": CODE, "rax": 0, "rsp": 0x6000}.items():
            second.set(name, value)
        second.cpu.control.activity = Activity.ACTIVE
        yield made


async def next_stop(target: NonStop) -> Stop:
    with trio.fail_after(TIMEOUT_S):
        event = await target.next_stop()
    assert isinstance(event, Stop)
    return event


def ax(m: Machine, vcpu: int) -> int:
    return m.vm.vcpus[vcpu].get("rax") & 0xFFFF


async def test_one_stops_while_the_other_goes_on(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.start(plan(1, 2))
    await target.halt([2])
    assert await next_stop(target) == Stop(StopReason.INTERRUPT, 2)
    stands = (await target.read_registers(2, ["rip", "rax", "ticks"]))[2]
    first = (await target.read_registers(1, ["ticks"]))[0]
    assert first is not None
    with trio.fail_after(TIMEOUT_S):
        while (await target.read_registers(1, ["ticks"]))[0] == first:
            await trio.lowlevel.checkpoint()
    assert (await target.read_registers(2, ["rip", "rax", "ticks"]))[2] == stands
    await target.halt([1, 2])
    assert await next_stop(target) == Stop(StopReason.INTERRUPT, 1)
    await target.detach(Detach.STAY)
    assert not two.control.running


async def test_a_step_of_one_leaves_the_other_going_or_standing(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    for expected in (1, 1, 2):
        await target.start(plan(2, step=True))
        assert await next_stop(target) == Stop(StopReason.STEP, 2)
        assert (ax(two, 0), ax(two, 1)) == (0, expected)
    await target.start(plan(1))
    for _ in range(5):
        await target.start(plan(2, step=True))
        assert await next_stop(target) == Stop(StopReason.STEP, 2)
    await target.halt([1])
    assert await next_stop(target) == Stop(StopReason.INTERRUPT, 1)
    await target.detach(Detach.STAY)


async def test_each_reports_its_own_breakpoint(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    await target.start(plan(1, 2))
    stops = [await next_stop(target) for _ in range(2)]
    assert {(stop.reason, stop.thread) for stop in stops} == {
        (StopReason.SOFTWARE_BREAKPOINT, 1),
        (StopReason.SOFTWARE_BREAKPOINT, 2),
    }
    # One is set going again; it comes back by itself.
    await target.start(plan(2))
    assert (await next_stop(target)).thread == 2
    assert (ax(two, 0), ax(two, 1)) == (1, 2)
    await target.detach(Detach.STAY)


async def test_a_breakpoint_set_while_they_run_is_hit(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.start(plan(1, 2))
    await target.set_breakpoint(BreakpointKind.HARDWARE, CODE + 1, 1)
    assert {(await next_stop(target)).thread for _ in range(2)} == {1, 2}
    await target.detach(Detach.STAY)


async def test_the_end_of_the_machine_stops_all_then_ends_it() -> None:
    with machine(b"\x40\xf4\xeb\xfd") as m:  # inc ax; hlt with interrupts off
        target = m.target()
        await target.attach()
        await target.set_non_stop(True)
        await target.start(plan(1, 2))  # the second waits for its startup message
        stops = [await next_stop(target) for _ in range(2)]
        assert "halted for ever" in stops[0].text
        assert {stop.thread for stop in stops} == {1, 2}
        await target.start(plan(1))
        with trio.fail_after(TIMEOUT_S):
            assert await target.next_stop() == Exited(2)
        await target.detach(Detach.STAY)
        assert m.endings == [Ending(2, "the guest is halted for ever")]


async def test_a_client_lost_in_the_mode_leaves_a_machine_that_runs(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    await target.start(plan(1))
    await next_stop(target)
    await target.start(plan(1, 2))
    await target.detach(Detach.LOST)
    assert two.control.running
    assert len(two.control.points) == 0
    again = two.target(2)
    await again.attach()
    await again.detach(Detach.STAY)


async def test_the_mode_is_left_with_everybody_standing_and_all_stop_works(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.start(plan(1, 2))
    await target.set_non_stop(False)
    assert not two.control.running
    event = await target.resume(plan(1, step=True))
    assert isinstance(event, Stop)
    assert (event.reason, event.thread) == (StopReason.STEP, 1)
    with pytest.raises(TargetError):
        await target.start(plan(1))
    await target.detach(Detach.STAY)


async def test_quit_ends_a_machine_that_runs_in_the_mode(two: Machine) -> None:
    target = two.target()
    await target.attach()
    await target.set_non_stop(True)
    await target.start(plan(1, 2))
    two.control.quit(130, "interrupted")
    with trio.fail_after(TIMEOUT_S):
        assert await target.next_stop() == Exited(130)
    await target.detach(Detach.STAY)
