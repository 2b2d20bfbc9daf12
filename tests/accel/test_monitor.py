"""MONITOR and MWAIT (SDM vol. 2): what ends the wait, on any CPU, and what does not."""

import pytest

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, DATA, STACK, TSC_HZ, Machine

DEADLINE, HLT, IRQ_WINDOW, WAIT, WAKE = 0, 4, 11, 20, 23
ACTIVE, HALTED = 0, 1
NONE, ARMED, WAITING, WAITING_MASKED = range(4)
IF = 0x200
LINE = DATA + 0x1040
SLEEP = bytes.fromhex("0f01c8 0f01c9 90")  # monitor; mwait; nop
STORE = bytes.fromhex("8807 9090ebfc")  # mov [rdi], al; L: nop; nop; jmp L


class Pair:
    """A CPU that sleeps on LINE and another that stores."""

    def __init__(self, extensions: int = 0, flags: int = 2 | IF) -> None:
        self.sleeper = Machine(code=SLEEP)
        self.sleeper["rax"], self.sleeper["rcx"], self.sleeper["eflags"] = LINE, 0, flags
        self.sleeper.write(CODE + 0x100, STORE)
        box = ffi.new("accel_cpu **")
        assert lib.accel_cpu_new(self.sleeper.machine, 1, 2, 3, TSC_HZ, 0, box) == 0
        self.sleeper.run(1)
        self.sleeper["rcx"] = extensions
        self.store_cpu = box[0]
        self.writer = object.__new__(Machine)
        self.writer.machine, self.writer.cpu = self.sleeper.machine, box[0]
        self.writer.control = lib.accel_cpu_control(box[0])
        self.writer._exit = ffi.new("accel_exit *")
        self.writer._long_mode(64, 0)
        self.writer.control.activity = ACTIVE
        self.writer["rsp"], self.writer["rip"] = STACK - 0x1000, CODE + 0x100

    def sleep(self) -> None:
        end = self.sleeper.run(100)
        assert (end.kind, end.rip, self.sleeper.control.activity) == (HLT, CODE + 6, HALTED)

    @property
    def state(self) -> tuple[int, int]:
        control = self.sleeper.control
        return control.activity, control.monitor_state


@pytest.mark.parametrize("offset", [0, 63, -7])
def test_a_store_that_touches_the_line_ends_the_wait_and_the_storing_cpu_tells(offset: int) -> None:
    pair = Pair()
    pair.writer.write(CODE + 0x100, bytes.fromhex("488907 9090ebfc") if offset < 0 else STORE)
    pair.sleep()
    assert pair.sleeper.run(10).kind == WAIT
    pair.writer["rdi"] = LINE + offset
    end = pair.writer.run(50)
    assert (end.kind, pair.writer.ticks, pair.state) == (WAKE, 1, (ACTIVE, NONE))
    assert pair.writer.run(50).kind == DEADLINE
    pair.sleeper.run(1)
    assert pair.sleeper["rip"] == CODE + 7


@pytest.mark.parametrize("offset", [-1, 64])
def test_a_store_beside_the_line_does_not(offset: int) -> None:
    pair = Pair()
    pair.sleep()
    pair.writer["rdi"] = LINE + offset
    assert pair.writer.run(50).kind == DEADLINE
    assert pair.state == (HALTED, WAITING)


def test_a_store_between_monitor_and_mwait_lets_mwait_go_on() -> None:
    pair = Pair()
    assert pair.sleeper.control.monitor_state == ARMED
    pair.writer["rdi"] = LINE
    assert pair.writer.run(50).kind == DEADLINE  # nobody to wake
    assert pair.sleeper.run(2).kind == DEADLINE
    assert pair.sleeper["rip"] == CODE + 7


def test_a_device_that_writes_the_line_ends_the_wait() -> None:
    pair = Pair()
    pair.sleep()
    assert lib.accel_dma_write(pair.sleeper.machine, LINE + 8, b"\x01", 1, 3) == 0
    assert pair.state == (ACTIVE, NONE)
    end = pair.writer.run(50)
    assert (end.kind, pair.writer.ticks) == (WAKE, 1)


def test_a_string_store_over_the_line_ends_the_wait_at_that_iteration() -> None:
    pair = Pair()
    pair.sleep()
    pair.writer.write(CODE + 0x100, bytes.fromhex("f3aa 90"))  # rep stosb
    pair.writer["rdi"], pair.writer["rcx"] = LINE - 10, 100
    end = pair.writer.run(200)
    assert (end.kind, pair.state) == (WAKE, (ACTIVE, NONE))
    assert pair.writer.run(200 - pair.writer.ticks).kind == DEADLINE
    assert pair.writer["rcx"] == 0


def test_an_interrupt_that_can_be_taken_ends_the_wait() -> None:
    pair = Pair()
    pair.sleep()
    pair.sleeper.handle(0x40, CODE + 0x200)
    control = pair.sleeper.control
    control.intr_line = 1
    assert pair.sleeper.run(10).kind == IRQ_WINDOW
    control.inject_type, control.inject_vector, control.inject_valid = 0, 0x40, 1
    pair.sleeper.run(1)
    assert (pair.sleeper["rip"], pair.state) == (CODE + 0x200, (ACTIVE, NONE))


@pytest.mark.parametrize(
    ("extensions", "kind", "state"), [(0, WAIT, (HALTED, WAITING)), (1, DEADLINE, (ACTIVE, NONE))]
)
def test_a_masked_interrupt_ends_the_wait_when_that_was_asked_for(
    extensions: int, kind: int, state: tuple[int, int]
) -> None:
    pair = Pair(extensions, flags=2)
    pair.sleep()
    pair.sleeper.control.intr_line = 1
    assert pair.sleeper.run(1).kind == kind
    assert pair.state == state


def test_mwait_without_monitor_goes_on() -> None:
    machine = Machine(code=bytes.fromhex("0f01c9 90"))
    assert machine.run(2).kind == DEADLINE
    assert machine["rip"] == CODE + 4


def test_the_wait_is_saved_and_loaded() -> None:
    pair, other = Pair(1), Pair()
    pair.sleep()
    state = pair.sleeper.save()
    assert other.sleeper.load(state) == 0
    assert other.state == (HALTED, WAITING_MASKED)
    assert other.sleeper.save() == state
    other.writer["rdi"] = LINE
    assert other.writer.run(5).kind == WAKE
    assert other.state == (ACTIVE, NONE)


def test_mwait_is_advertised_with_its_line_and_extensions() -> None:
    machine = Machine(code=bytes.fromhex("0fa2"))
    machine["rax"], machine["rcx"] = 5, 0
    machine.run(1)
    assert [machine[r] for r in ("rax", "rbx", "rcx", "rdx")] == [64, 64, 3, 0x10]
