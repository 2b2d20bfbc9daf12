"""Run control on the toy CPU: plans, stops, requests during a run, endings."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.target import (
    BreakpointKind,
    Continue,
    Event,
    Exited,
    ResumePlan,
    Stay,
    Step,
    StepRange,
    Stop,
    StopReason,
    ThreadAction,
    WatchKind,
)
from hv.debug.breakpoints import ExecutionPoint, WatchPoint
from hv.debug.records import RunState
from hv.debug.run_control import INLINE_TICKS, RunControl
from hv.debug.stops import Ending
from hv.engines.base import AddressSpace
from hv.errors import HvError
from hv.exits import Bpt, BptSource, Fault, TripleFault, Unimplemented, Watch, WatchHit, WriteOrigin
from hv.outcomes import Goal, Idle, Outcome
from tests.helpers.fake_board import TIMER
from tests.helpers.fake_engine import VECTORS, Program
from tests.helpers.fake_vm import BUSY, FakeVm, make_vm
from tests.helpers.patience import HANG_S

CONTINUE = ResumePlan((ThreadAction(Continue()),))
TIMEOUT_S = HANG_S


def step(thread: int, *, others: bool = True) -> ResumePlan:
    rest = (ThreadAction(Continue()),) if others else ()
    return ResumePlan((ThreadAction(Step(), thread), *rest))


class Driver:
    """A debugger in a test: resumes and waits for the event."""

    def __init__(self, vm: FakeVm, *, no_reboot: bool = False, debugged: bool = True) -> None:
        self.vm = vm
        self.endings: list[Ending] = []
        self.control = RunControl(vm, no_reboot=no_reboot, ended=self.endings.append)
        self.control.debugged = debugged
        self._event: Event | None = None
        self._arrived = threading.Event()

    def start(self, plan: ResumePlan) -> Event | None:
        self._arrived.clear()
        return self.control.resume(plan, self._deliver)

    def _deliver(self, event: Event) -> None:
        self._event = event
        self._arrived.set()

    def wait(self) -> Event:
        assert self._arrived.wait(TIMEOUT_S)
        assert self._event is not None
        return self._event

    def resume(self, plan: ResumePlan) -> Event:
        return self.start(plan) or self.wait()

    def stop(self, plan: ResumePlan) -> Stop:
        event = self.resume(plan)
        assert isinstance(event, Stop)
        return event

    def set_breakpoint(self, address: int, kind: BreakpointKind = BreakpointKind.SOFTWARE) -> ExecutionPoint:
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        self.control.points.add(1, point, kind)
        return point


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    made: list[Driver] = []
    yield made
    for driver in made:
        driver.control.close()


def drive(drivers: list[Driver], program: Program, vcpus: int = 1, *, no_reboot: bool = False,
          debugged: bool = True, active: bool = False) -> Driver:  # fmt: skip
    vm = make_vm(program, vcpus)
    if active:
        for cpu in vm.fake_engine.cpus:
            cpu.block.activity = 0
    driver = Driver(vm, no_reboot=no_reboot, debugged=debugged)
    drivers.append(driver)
    return driver


LOOP: Program = {0: ("add", 1), 1: ("add", 1), 2: ("add", 1), 3: ("jmp", 0)}


def rip(driver: Driver, vcpu: int = 0) -> int:
    return driver.vm.vcpus[vcpu].get("rip")


def test_a_step_is_one_tick_and_needs_no_thread(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    for expected in (1, 2, 3, 0, 1):
        assert driver.start(step(1)) == Stop(StopReason.STEP, 1)
        assert rip(driver) == expected
    assert driver.control.state is RunState.STOPPED
    assert driver.control.owner._thread is None


def test_a_breakpoint_is_hit_once_per_pass(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    driver.set_breakpoint(2)
    for round_ in range(3):
        assert driver.resume(CONTINUE) == Stop(StopReason.SOFTWARE_BREAKPOINT, 1)
        assert rip(driver) == 2
        assert driver.vm.vcpus[0].get("rax") == 2 + 3 * round_


def test_a_hardware_breakpoint_is_reported_as_such(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    driver.set_breakpoint(1, BreakpointKind.HARDWARE)
    assert driver.resume(CONTINUE) == Stop(StopReason.HARDWARE_BREAKPOINT, 1)


def test_a_breakpoint_in_the_way_of_a_jump_to_itself_stops_every_time(drivers: list[Driver]) -> None:
    driver = drive(drivers, {0: ("jmp", 0)})
    driver.set_breakpoint(0)
    counts = []
    for _ in range(3):
        driver.stop(CONTINUE)
        counts.append(driver.vm.fake_engine.cpus[0].count)
    assert counts == [0, 1, 2]


def test_writing_the_place_arms_the_reported_breakpoint_again(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    driver.set_breakpoint(1)
    driver.stop(CONTINUE)
    driver.control.write_registers(0, (("rip", (1).to_bytes(8, "little")),))
    before = driver.vm.fake_engine.cpus[0].count
    driver.stop(CONTINUE)
    assert driver.vm.fake_engine.cpus[0].count == before


def test_each_vcpu_at_a_breakpoint_gives_its_own_stop(drivers: list[Driver]) -> None:
    driver = drive(drivers, {0: ("add", 1), 1: ("jmp", 1)}, vcpus=3, active=True)
    driver.set_breakpoint(0)
    assert [driver.stop(CONTINUE).thread for _ in range(3)] == [1, 2, 3]
    assert driver.start(CONTINUE) is None
    driver.control.interrupt()
    assert driver.wait() == Stop(StopReason.INTERRUPT, driver.vm.scheduler.current + 1)


def test_a_breakpoint_that_is_gone_gives_no_stop(drivers: list[Driver]) -> None:
    driver = drive(drivers, {**LOOP, 2: ("out", 0xF4, 0)})
    driver.vm.fake_engine.cpus[0].exits.append(Bpt(0, BptSource.SET, 99, 0))
    event = driver.stop(CONTINUE)
    assert event.reason is StopReason.EVENT
    assert "debug exit" in event.text


def test_several_watch_hits_of_one_tick_are_reported_one_by_one(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    points = [WatchPoint(AddressSpace.LINEAR, address, 1, WatchKind.WRITE) for address in (0x50, 0x60, 0x70)]
    for point in points:
        driver.control.points.add(1, point)
    hits = tuple(WatchHit(n + 1, p.address, 1, True, WriteOrigin.CPU, 0, 1) for n, p in enumerate(points))
    driver.vm.fake_engine.cpus[0].exits.append(Watch(hits))
    first = driver.stop(CONTINUE)
    assert first.watch is not None
    assert first.watch.address == 0x50
    driver.control.points.remove(1, points[1])  # gone before it was reported
    ticks = driver.vm.fake_engine.cpus[0].count
    second = driver.stop(CONTINUE)
    assert second.watch is not None
    assert second.watch.address == 0x70
    assert driver.vm.fake_engine.cpus[0].count == ticks


def test_a_watched_store_stops_after_it(drivers: list[Driver]) -> None:
    driver = drive(drivers, {0: ("add", 5), 1: ("store", 0x5000), 2: ("jmp", 2)})
    driver.control.points.add(1, WatchPoint(AddressSpace.LINEAR, 0x4FFF, 4, WatchKind.WRITE))
    stop = driver.stop(CONTINUE)
    assert (stop.reason, rip(driver)) == (StopReason.WATCHPOINT, 2)
    assert driver.vm.memory.read(0x5000, 1) == b"\5"


def test_stepping_one_lets_the_others_run_as_scheduled(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP, vcpus=2, active=True)
    driver.stop(step(2))
    counts = [cpu.count for cpu in driver.vm.fake_engine.cpus]
    assert counts == [50_000, 1]


def test_stepping_one_alone_freezes_the_others(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP, vcpus=2, active=True)
    driver.stop(step(2, others=False))
    assert [cpu.count for cpu in driver.vm.fake_engine.cpus] == [0, 1]


def test_the_leftmost_action_counts(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP, vcpus=2, active=True)
    plan = ResumePlan((ThreadAction(Stay(), 1), ThreadAction(Step())))
    assert driver.stop(plan).thread == 2
    assert driver.vm.fake_engine.cpus[0].count == 0


def test_a_range_step_of_linear_addresses(drivers: list[Driver]) -> None:
    driver = drive(drivers, {**dict.fromkeys(range(0x100, 0x110), ("add", 1)), 0x110: ("jmp", 0x100)})
    driver.vm.vcpus[0].set("cs_base", 0x100)
    plan = ResumePlan((ThreadAction(StepRange(0x100, 0x108), 1),))
    assert driver.stop(plan).reason is StopReason.STEP
    assert driver.vm.vcpus[0].get("linear_pc") == 0x108


def test_steps_hold_interrupts_back_by_default_and_deliver_them_on_request(drivers: list[Driver]) -> None:
    program: Program = {
        0: ("out", 0x40, 1),
        1: ("sti",),
        2: ("add", 1),
        3: ("jmp", 2),
        VECTORS + TIMER: ("iret",),
    }
    driver = drive(drivers, program)
    for _ in range(50):
        driver.stop(step(1))
        assert rip(driver) < 4
    driver.control.steps.masked = False
    driver.stop(step(1))
    assert rip(driver) == VECTORS + TIMER


def test_interrupt_ends_a_run_and_never_the_next(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    assert driver.start(CONTINUE) is None
    driver.control.interrupt()
    assert driver.wait() == Stop(StopReason.INTERRUPT, 1)
    driver.control.interrupt()
    assert driver.stop(step(1)).reason is StopReason.STEP


def test_while_a_plan_runs_another_is_refused(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    assert driver.start(CONTINUE) is None
    with pytest.raises(HvError, match="runs already"):
        driver.control.resume(step(1), lambda event: None)
    driver.control.interrupt()
    assert driver.wait() == Stop(StopReason.INTERRUPT, 1)


@pytest.mark.parametrize("program", [{0: ("sti",), 1: ("hlt",), 2: ("jmp", 1)}, LOOP])
def test_interrupt_stops_a_busy_and_an_idle_guest(drivers: list[Driver], program: Program) -> None:
    driver = drive(drivers, program)
    driver.control.open_inputs = 1
    assert driver.start(CONTINUE) is None
    driver.control.interrupt()
    assert driver.wait() == Stop(StopReason.INTERRUPT, 1)


@pytest.mark.parametrize("what", ["interrupt", "quit"])
def test_what_comes_just_before_an_idle_guest_is_waited_for_is_not_lost(
    drivers: list[Driver], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive(drivers, {0: ("sti",), 1: ("hlt",), 2: ("jmp", 1)})
    driver.control.open_inputs = 1
    run, idle_runs = driver.vm.scheduler.run, 0

    def run_then_ask(goal: Goal) -> Outcome:
        nonlocal idle_runs
        outcome = run(goal)
        idle_runs += isinstance(outcome, Idle)
        if idle_runs == 2:  # the first is in the thread of whoever resumes
            driver.control.interrupt() if what == "interrupt" else driver.control.quit(9, "")
        return outcome

    monkeypatch.setattr(driver.vm.scheduler, "run", run_then_ask)
    event = driver.resume(CONTINUE)
    assert event == (Stop(StopReason.INTERRUPT, 1) if what == "interrupt" else Exited(9))


def test_requests_are_served_during_a_run_and_leave_it_unchanged(drivers: list[Driver]) -> None:
    driver = drive(drivers, BUSY, vcpus=2)
    assert driver.start(CONTINUE) is None
    seen = [driver.control.submit(lambda: driver.vm.clock.now).result(TIMEOUT_S) for _ in range(300)]
    assert seen == sorted(seen)
    driver.control.interrupt()
    driver.wait()
    now, digest = driver.vm.clock.now, driver.vm.state_hash()
    alone = make_vm()
    alone.run(Goal(until=now))
    assert (alone.clock.now, alone.state_hash()) == (now, digest)


def test_a_request_that_fails_fails_for_its_caller_only(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    assert driver.start(CONTINUE) is None
    with pytest.raises(ZeroDivisionError):
        driver.control.submit(lambda: 1 // 0).result(TIMEOUT_S)
    driver.control.interrupt()
    assert driver.wait() == Stop(StopReason.INTERRUPT, 1)


@pytest.mark.parametrize(
    ("program", "status", "says"),
    [
        ({0: ("out", 0xF6, 0)}, 0, "powered off"),
        ({0: ("out", 0xF5, 0)}, 0, "reset"),
        ({0: ("out", 0xF4, 3)}, 7, "debug exit"),
        ({0: ("crash",)}, 3, "triple fault"),
        ({0: ("cli",), 1: ("hlt",)}, 2, "halted for ever"),
    ],
)
def test_the_end_is_a_stop_and_one_more_resume_ends_it(
    drivers: list[Driver], program: Program, status: int, says: str
) -> None:
    driver = drive(drivers, program, no_reboot=True)
    stop = driver.stop(CONTINUE)
    assert (stop.reason, stop.signal) == (StopReason.EVENT, None)
    assert says in stop.text.lower()
    assert driver.endings == []
    assert driver.resume(CONTINUE) == Exited(status)
    assert [ending.status for ending in driver.endings] == [status]
    assert driver.control.state is RunState.ENDED
    # Without a debugger the same guest ends at once.
    free = drive(drivers, program, no_reboot=True, debugged=False)
    assert free.resume(CONTINUE) == Exited(status)


def test_a_reset_starts_again_and_breakpoints_stay(drivers: list[Driver]) -> None:
    driver = drive(drivers, {0: ("add", 1), 1: ("out", 0xF5, 0)})
    driver.set_breakpoint(1)
    for _ in range(3):
        assert driver.resume(CONTINUE) == Stop(StopReason.SOFTWARE_BREAKPOINT, 1)
        assert driver.vm.vcpus[0].get("rax") == 1


def test_a_triple_fault_tells_its_chain(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    chain = (Fault(14, 2, 0xDEAD0000, 0x10), Fault(8, 0, 0, 0x10), Fault(14, 0, 0xBEEF0000, 0x10))
    driver.vm.fake_engine.cpus[0].exits.append(TripleFault(0x10, chain))
    text = driver.stop(CONTINUE).text
    assert "#PF at 0x10, error 0x2, cr2 0xdead0000, then #DF" in text


def test_an_instruction_that_is_lacking_shows_its_bytes_and_can_be_stepped_around(
    drivers: list[Driver],
) -> None:
    driver = drive(drivers, LOOP)
    driver.vm.fake_engine.cpus[0].exits.append(Unimplemented(0, b"\x0f\x0b"))
    stop = driver.stop(CONTINUE)
    assert "0f 0b" in stop.text
    driver.control.write_registers(0, (("rip", (1).to_bytes(8, "little")),))
    assert driver.stop(step(1)).reason is StopReason.STEP
    driver.vm.fake_engine.cpus[0].exits.append(Unimplemented(2, b"\x0f\x0b"))
    driver.stop(CONTINUE)
    assert driver.resume(CONTINUE) == Exited(4)


def test_a_guests_own_breakpoint_is_delivered_to_it(drivers: list[Driver]) -> None:
    program: Program = {0: ("int3",), 1: ("out", 0xF6, 0), VECTORS + 3: ("add", 9), VECTORS + 4: ("iret",)}
    driver = drive(drivers, program, debugged=False)
    driver.vm.vcpus[0].set_capability("bpt_exit", True)
    assert driver.resume(CONTINUE) == Exited(0)
    assert driver.vm.vcpus[0].get("rax") == 9


def test_points_of_two_owners_stop_once_and_each_goes_with_its_owner(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP)
    table, engine = driver.control.points, driver.vm.fake_engine
    point = driver.set_breakpoint(2)
    driver.set_breakpoint(2)
    table.add(2, point, BreakpointKind.HARDWARE)
    assert (table.count(1), table.count(2), len(engine.breakpoints)) == (1, 1, 2)
    assert driver.stop(CONTINUE).reason is StopReason.SOFTWARE_BREAKPOINT
    table.remove_owner(1)
    assert (table.count(1), table.count(2)) == (0, 1)
    assert driver.stop(CONTINUE).reason is StopReason.HARDWARE_BREAKPOINT
    assert driver.vm.vcpus[0].get("rax") == 5  # once around
    table.remove(2, point, BreakpointKind.HARDWARE)
    assert not engine.breakpoints
    table.remove(2, point, BreakpointKind.HARDWARE)


def test_an_idle_guest_under_the_host_clock_waits_and_input_wakes_it(
    drivers: list[Driver], tmp_path: Path
) -> None:
    program: Program = {
        0: ("sti",),
        1: ("hlt",),
        2: ("in", 0x60),
        3: ("out", 0xF6, 0),
        VECTORS + 0x24: ("iret",),
    }
    vm = make_vm(program, 1, host_clock=True)
    driver = Driver(vm, debugged=False)
    drivers.append(driver)
    driver.control.open_inputs = 1
    assert driver.start(CONTINUE) is None
    assert driver.control.feed(0, b"k").result(TIMEOUT_S) == 1
    assert driver.wait() == Exited(0)
    assert vm.vcpus[0].get("rax") == ord("k")


def test_a_guest_that_only_input_could_wake_ends_when_no_input_is_open(drivers: list[Driver]) -> None:
    driver = drive(drivers, {0: ("sti",), 1: ("hlt",)}, debugged=False)
    driver.control.open_inputs = 1
    assert driver.start(CONTINUE) is None
    driver.control.close_input()
    assert driver.wait() == Exited(2)


def test_the_inline_budget_is_not_seen_by_the_guest(drivers: list[Driver]) -> None:
    program = dict.fromkeys(range(INLINE_TICKS // 2), ("tsc",)) | {INLINE_TICKS // 2: ("jmp", 0)}
    driver = drive(drivers, program)
    assert driver.start(CONTINUE) is None
    driver.control.interrupt()
    driver.wait()
    alone = make_vm(program, 1)
    alone.run(Goal(until=driver.vm.clock.now))
    assert alone.state_hash() == driver.vm.state_hash()


def test_max_ticks_ends_the_run_with_status_4() -> None:
    vm = make_vm(LOOP, 1)
    control = RunControl(vm, max_ticks=5_000)
    assert control.resume(CONTINUE, lambda event: None) == Exited(4)
    assert vm.clock.now == 5_000


def test_quit_ends_a_running_machine(drivers: list[Driver]) -> None:
    driver = drive(drivers, LOOP, debugged=False)
    assert driver.start(CONTINUE) is None
    driver.control.quit(130, "interrupted")
    assert driver.wait() == Exited(130)
    assert driver.endings == [Ending(130, "interrupted")]
