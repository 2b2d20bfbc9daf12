"""Changes of the guest at a stop within a tick: the replay of the log has begun that tick, too."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import pytest

from gdbstub.target import (
    BreakpointKind,
    Event,
    Exited,
    ResumePlan,
    Step,
    StepRange,
    Stop,
    StopReason,
    ThreadAction,
)
from hv.debug.breakpoints import ExecutionPoint
from hv.debug.catch import parse
from hv.debug.plans import FREE_RUN
from hv.debug.run_control import RunControl
from hv.engines.base import AddressSpace
from hv.errors import ReplayError
from hv.inputlog import Replay
from hv.inputs import BegunTick, Influence, MemoryWrite, RegisterWrite, SwitchVcpu
from hv.outcomes import Goal
from hv.vm import Vm
from tests.helpers.machine_fuzzer import Log, leave, run_to
from tests.helpers.timer_machine import CODE, HEADER, PERIODIC, assemble, timer_machine

FAR = 0x40000  # on a page that nothing has touched
GATES = 0x6000
GOAL = 5_000
LOOP = "back: inc %rbx\n jmp back\n"
BREAK_GATE = "movw $0x18, {}\n"  # its selector now is that of 32-bit code: #GP in the delivery

TO_FAR = f"mov ${FAR}, %eax\n movw $0xfeeb, (%rax)\n jmp *%rax\n{LOOP}"
MOVE_FAULTS = f"mov ${FAR}, %esi\n mov $0x7fff0000, %edi\n movsb\n{LOOP}"
MSR_REFUSED = f"mov $0x12345, %ecx\n wrmsr\n{LOOP}"
UD_NESTED = BREAK_GATE.format(GATES + 16 * 6 + 2) + f"ud2\n{LOOP}"
INT3_NESTED = BREAK_GATE.format(GATES + 16 * 3 + 2) + f"int3\n{LOOP}"
DOUBLE = BREAK_GATE.format(GATES + 16 * 13 + 2) + MSR_REFUSED
TRIPLE = BREAK_GATE.format(GATES + 16 * 8 + 2) + DOUBLE
DEVICE_READ = f"mov $0x180000, %esi\n nop\n mov (%rsi), %ss\n{LOOP}"  # no such selector: #GP behind the read
RESETS = f"mov $1, %al\n nop\n out %al, $0xf5\n{LOOP}"
TIMER_NESTED = BREAK_GATE.format(GATES + 16 * 0x20 + 2) + PERIODIC + f"sti\n{LOOP}"


def gate(vector: int) -> MemoryWrite:
    """Mends what `BREAK_GATE` did."""
    return MemoryWrite(GATES + 16 * vector + 2, b"\x08\0")


def to_loop(source: str) -> RegisterWrite:
    """Puts the vCPU into the loop at the end."""
    place = CODE + assemble(source).rindex(assemble(LOOP))
    return RegisterWrite(0, (("rip", place.to_bytes(8, "little")),))


@dataclass
class Session:
    """A machine, its log and its control."""

    vm: Vm
    log: Log
    control: RunControl

    def next_stop(self, plan: ResumePlan = FREE_RUN) -> Stop:
        """Run on to a stop."""
        events: SimpleQueue[Event] = SimpleQueue()
        event = self.control.resume(plan, events.put) or events.get()
        assert isinstance(event, Stop)
        return event

    def end(self) -> tuple[int, str]:
        """The state at the goal, after the debugger has gone."""
        leave(self.control)
        return run_to(self.control, GOAL)


def session(source: str, *catches: str, at: int | None = None) -> Session:
    """A machine with a debugger that catches events, or has a breakpoint."""
    vm, _ = timer_machine(source)
    log = vm.door.recorder = Log()
    control = RunControl(vm)
    control.debugged = True
    for catch in catches:
        control.catches.add(parse(catch.split()))
    if at is not None:
        control.points.add(1, ExecutionPoint(AddressSpace.LINEAR, at), BreakpointKind.SOFTWARE)
    return Session(vm, log, control)


def replay(source: str, items: Sequence[tuple[int, Influence]], end: int | None = None) -> RunControl:
    """A machine before its first instruction to which only happens what is in a log."""
    vm, _ = timer_machine(source)
    vm.door.replay = Replay(HEADER, list(items), end)
    return RunControl(vm)


def replayed(source: str, items: Sequence[tuple[int, Influence]]) -> tuple[int, str]:
    """Its state at the goal."""
    return run_to(replay(source, items), GOAL)


def test_a_jump_away_from_a_breakpoint() -> None:
    made = session(TO_FAR, at=FAR)
    made.next_stop()
    made.vm.door.submit(to_loop(TO_FAR))
    assert made.end() == replayed(TO_FAR, made.log.items)
    assert [type(item) for _, item in made.log.items] == [BegunTick, RegisterWrite]


def test_a_stop_that_changes_nothing_is_not_in_the_log() -> None:
    made = session(TO_FAR, at=FAR)
    for _ in range(3):
        made.next_stop()
    assert made.end() == replayed(TO_FAR, [])
    assert made.log.items == []


@pytest.mark.parametrize("source", [MOVE_FAULTS, MSR_REFUSED, DEVICE_READ])
def test_a_jump_away_from_an_instruction_that_was_tried(source: str) -> None:
    made = session(source, "exception")
    made.next_stop()
    made.vm.door.submit(to_loop(source))
    assert made.end() == replayed(source, made.log.items)


@pytest.mark.parametrize(
    ("source", "vector", "catch"),
    [
        (UD_NESTED, 6, "exception"),
        (UD_NESTED, 6, "exception #GP"),
        (INT3_NESTED, 3, "exception"),
        (INT3_NESTED, 3, "exception #GP"),
        (TIMER_NESTED, 0x20, "exception"),
        (DOUBLE, 13, "exception"),
        (DOUBLE, 13, "exception #DF"),
    ],
)
@pytest.mark.parametrize("change", ["mend", "move", "none"])
def test_a_change_in_the_middle_of_a_delivery(source: str, vector: int, catch: str, change: str) -> None:
    made = session(source, catch)
    while "in the delivery" not in made.next_stop().text:
        pass
    unseen = MemoryWrite(0x2F000, b"seen")
    changes: dict[str, Influence] = {"mend": gate(vector), "move": to_loop(source), "none": unseen}
    made.vm.door.submit(changes[change])
    assert made.end() == replayed(source, made.log.items)


def test_a_change_when_a_double_fault_is_stopped_again() -> None:
    """The event in flight is the double fault then: to mend the first gate is too late."""
    made = session(TRIPLE, "exception")
    while "in the delivery of vector 8" not in made.next_stop().text:
        pass
    made.vm.door.submit(gate(13))
    assert made.end() == replayed(TRIPLE, made.log.items)


def test_breakpoint_and_fault_at_one_instruction() -> None:
    place = CODE + assemble(MOVE_FAULTS).index(b"\xa4")
    made = session(MOVE_FAULTS, "exception", at=place)
    for _ in range(2):
        made.next_stop()
    made.vm.door.submit(to_loop(MOVE_FAULTS))
    assert made.end() == replayed(MOVE_FAULTS, made.log.items)
    assert [item.fetched for _, item in made.log.items if isinstance(item, BegunTick)] == [True, False]


def test_a_kick_leaves_nothing_begun() -> None:
    """A write at a tick where a request stopped the machine: as if the tick had been its goal."""
    pages = "".join(f"mov ${FAR + page:#x}, %eax\n mov %rax, (%rax)\n" for page in range(0, 0x8000, 0x1000))
    source = f"{pages} {LOOP}"
    vm, _ = timer_machine(source)
    kicked = []
    while vm.clock.now < 200_000:
        timer = threading.Timer(0.000_1, vm.scheduler.request_stop)
        timer.start()
        vm.run(Goal(until=200_000))
        timer.join()
        kicked.append((vm.clock.now, vm.state_hash()))
    other, _ = timer_machine(source)
    for tick, state in kicked:
        other.run(Goal(until=tick))
        assert (other.clock.now, other.state_hash()) == (tick, state)


def test_a_tick_that_nothing_stops_is_an_error_of_the_replay() -> None:
    begun = BegunTick(0, False, 0xFFFFFFFF, False, False)
    with pytest.raises(ReplayError, match="does not follow the log"):
        replay(LOOP, [(0, begun)]).vm.run(Goal(until=10))


def test_a_device_that_was_read_is_read_once() -> None:
    """A masked range step leaves a change of the mask in the log, and nothing else happens to the guest."""
    made = session(DEVICE_READ, "exception")
    plan = ResumePlan((ThreadAction(StepRange(CODE, CODE + 0x100), 1),))
    assert made.next_stop(plan).text.startswith("vCPU 0: #GP")
    assert made.end() == replayed(DEVICE_READ, made.log.items)


def test_changes_before_and_behind_a_reset_by_the_guest() -> None:
    made = session(RESETS, at=CODE)
    made.next_stop()
    step = ResumePlan((ThreadAction(Step(), 1),))
    while made.next_stop(step).reason is StopReason.STEP:
        made.vm.door.submit(MemoryWrite(0x2F000, b"lost"))
    assert made.vm.vcpus[0].get("rip") == CODE
    made.vm.door.submit(MemoryWrite(0x2F008, b"kept"))
    made.vm.door.submit(to_loop(RESETS))
    assert made.end() == replayed(RESETS, made.log.items)
    assert made.vm.memory.read(0x2F000, 12) == bytes(8) + b"kept"


def test_a_request_while_the_tick_is_begun() -> None:
    made = session(TO_FAR, at=FAR)
    made.next_stop()
    made.vm.door.submit(to_loop(TO_FAR))
    control = replay(TO_FAR, made.log.items)
    run_to(control, made.vm.clock.now - 1)
    begin = control.vm.scheduler.begin_tick

    def kicked(item: BegunTick) -> None:
        control.vm.scheduler.request_stop()
        begin(item)

    control.vm.scheduler.begin_tick = kicked  # type: ignore[method-assign]
    assert run_to(control, GOAL) == made.end()


def test_a_replay_whose_user_catches_the_change_of_a_mode() -> None:
    made = session(TO_FAR, at=FAR)
    made.next_stop()
    size = made.vm.vcpus[0].cpu.register_size("cs_attr") or 0
    for attributes in (0xC09B, 0xA09B):  # to 32-bit code and back
        made.control.write_registers(0, (("cs_attr", attributes.to_bytes(size, "little")),))
        made.vm.door.submit(to_loop(TO_FAR))
    final = made.end()
    control = replay(TO_FAR, made.log.items)
    control.debugged = True
    control.catches.add(parse(["mode"]))
    assert run_to(control, GOAL) == final


@pytest.mark.parametrize("changes", [[], [MemoryWrite(0x2F000, b"seen")]])
def test_the_end_at_a_breakpoint(changes: list[Influence]) -> None:
    made = session(TO_FAR, at=FAR)
    made.next_stop()
    for item in changes:
        made.vm.door.submit(item)
    made.control.quit(0, "enough")
    final = made.vm.state_hash()
    made.vm.door.close()
    control = replay(TO_FAR, made.log.items, made.vm.clock.now)
    events: SimpleQueue[Event] = SimpleQueue()
    assert isinstance(control.resume(FREE_RUN, events.put) or events.get(), Exited)
    assert control.vm.state_hash() == final


@pytest.mark.parametrize(
    "item", [BegunTick(5, True, 0, False, False), BegunTick(0, False, 1 << 40, False, False), SwitchVcpu(7)]
)
def test_what_a_machine_cannot_take_is_an_error_of_the_replay(item: Influence) -> None:
    with pytest.raises(ReplayError, match="cannot take at tick 0"):
        replay(LOOP, [(0, item)]).vm.run(Goal(until=10))
