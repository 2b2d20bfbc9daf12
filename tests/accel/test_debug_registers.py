"""The guest's debug registers and the debugger's points know nothing of each other."""

import pytest

from accel import lib
from tests.helpers.accel_machine import CODE, DATA, Machine

DEADLINE, BPT, EXCEPTION, WATCH = 0, 7, 13, 16
LINEAR = 0
ON_WRITE = 1
RF = 1 << 16
DB = 1

# L: inc eax; mov [rdi], eax; jmp L
STORING = bytes.fromhex("ffc0 8907 ebfa")


def storing(*, dr7: int, dr0: int) -> Machine:
    """A guest that has set DR0; its #DB leaves to the owner."""
    machine = Machine(code=STORING)
    machine["rdi"] = DATA
    machine["dr0"], machine["dr7"] = dr0, dr7
    machine.control.exception_exit = 1 << DB
    return machine


def test_the_guests_instruction_breakpoint_comes_first_and_the_debuggers_is_met_after_it() -> None:
    machine = storing(dr7=1, dr0=CODE + 2)
    assert lib.accel_break_add(machine.machine, 1, LINEAR, CODE + 2) == 0
    end = machine.run(10)
    assert (end.kind, end.rip, end.vector, end.value & 15) == (EXCEPTION, CODE + 2, DB, 1)
    machine["pending_dbg"] = 0
    machine["eflags"] |= RF  # as the guest's handler returns
    end = machine.run(10)
    assert (end.kind, end.rip, end.id, machine.ticks) == (BPT, CODE + 2, 1, 1)
    machine.control.skip_breakpoint = 1
    assert machine.run(1).kind == DEADLINE
    assert machine["rip"] == CODE + 4


@pytest.mark.parametrize("address", [DATA, DATA + 2])
def test_a_watched_write_is_told_to_both(address: int) -> None:
    machine = storing(dr7=1 | 1 << 16, dr0=DATA)
    assert lib.accel_watch_add(machine.machine, 1, LINEAR, address, 1, ON_WRITE) == 0
    end = machine.run(10)
    assert (end.kind, end.rip, machine.ticks) == (WATCH, CODE + 4, 2)
    end = machine.run(10)
    assert (end.kind, end.rip, end.vector, end.value & 15) == (EXCEPTION, CODE + 4, DB, 1)
    assert machine.ticks == 2


def test_setting_and_removing_points_leaves_the_guests_registers_in_force() -> None:
    machine = storing(dr7=1, dr0=CODE + 4)
    for number in range(8):
        assert lib.accel_break_add(machine.machine, number, LINEAR, CODE + 4) == 0
        assert lib.accel_watch_add(machine.machine, number, LINEAR, DATA, 4, ON_WRITE) == 0
    for number in range(8):
        assert lib.accel_break_remove(machine.machine, number) == 0
        assert lib.accel_watch_remove(machine.machine, number) == 0
    assert (machine["dr0"], machine["dr7"] & 0xFF) == (CODE + 4, 1)
    end = machine.run(10)
    assert (end.kind, end.rip, end.vector) == (EXCEPTION, CODE + 4, DB)


def test_the_guest_reads_its_own_debug_registers_while_the_debugger_has_points() -> None:
    machine = Machine(code=bytes.fromhex("0f21c0 0f21f3 0f21f9 90"))  # mov rax, dr0; rbx, dr6; rcx, dr7
    assert lib.accel_break_add(machine.machine, 1, LINEAR, CODE + 9) == 0
    assert lib.accel_watch_add(machine.machine, 1, LINEAR, DATA, 4, ON_WRITE) == 0
    assert machine.run(10).kind == BPT
    assert (machine["rax"], machine["rbx"], machine["rcx"]) == (0, 0xFFFF0FF0, 0x400)
