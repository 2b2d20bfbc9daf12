"""Conditions in the core: agreement with the reference evaluator, verification, limits and hit counts."""

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from accel import ffi, lib
from gdbstub.evaluator import EvaluationError, evaluate
from gdbstub.predicate import Instruction, Op, verify
from tests.helpers.accel_machine import CODE, DATA, RAM, Machine
from tests.helpers.predicates import (
    constant,
    core_code,
    evaluate_in_core,
    mangled,
    random_program,
    read_linear,
)

DEADLINE, KICK, MMIO, BPT, WATCH = 0, 1, 3, 7, 16
LINEAR, PHYSICAL = 0, 1
WRITE, READ, ACCESS, CHANGED = 1, 2, 3, 5
BY_CR3, BY_CPL, BY_CPU = 1, 2, 4
PROGRAMS = 4000

# L: inc eax; inc ebx; inc ecx; jmp L
LOOP = bytes.fromhex("ffc0 ffc3 ffc1 ebf8")
AFTER_EAX = CODE + 2


def code(*steps: Op | tuple[Op, int] | tuple[Op, str]) -> list[Instruction]:
    out = []
    for step in steps:
        op, operand = step if isinstance(step, tuple) else (step, 0)
        out.append(Instruction(op, 0, operand) if isinstance(operand, str) else Instruction(op, operand))
    return out


def rax_is(value: int) -> list[Instruction]:
    return code((Op.REGISTER, "rax"), (Op.CONSTANT, value), Op.EQUAL, Op.END)


DIVIDES_BY_ZERO = code((Op.CONSTANT, 1), (Op.CONSTANT, 0), Op.DIVIDE_UNSIGNED, Op.END)
FALSE = code((Op.CONSTANT, 0), Op.END)


def limit(machine: Machine, ident: int, *programs: Sequence[Instruction], flags: int = 0, cr3: int = 0,
          cpl: int = 0, cpu: int = 0, ignore: int = 0) -> int:  # fmt: skip
    arrays = [core_code(program) for program in programs]
    array = ffi.new("accel_program[]", len(arrays))
    for cell, each in zip(array, arrays, strict=True):
        cell.code, cell.count = each, len(each)
    limits = ffi.new("accel_limits *", {"flags": flags, "cpl": cpl, "cpu": cpu, "cr3": cr3, "ignore": ignore})
    limits.programs, limits.program_count = array, len(arrays)
    return int(lib.accel_point_limit(machine.machine, ident, limits))


def point_hits(machine: Machine, ident: int) -> int:
    count = ffi.new("uint64_t *")
    assert lib.accel_point_hits(machine.machine, ident, count) == 0
    return int(count[0])


def broken(address: int, ident: int = 1, space: int = LINEAR, program: bytes = LOOP) -> Machine:
    machine = Machine(code=program)
    assert lib.accel_break_add(machine.machine, ident, space, address) == 0
    return machine


def watched(program: bytes, kind: int = WRITE, space: int = LINEAR, size: int = 4) -> Machine:
    machine = Machine(code=program)
    machine["rdi"] = DATA
    assert lib.accel_watch_add(machine.machine, 1, space, DATA, size, kind) == 0
    return machine


# ---- evaluation


def test_the_core_agrees_with_the_reference_evaluator() -> None:
    rng = random.Random(20261121)
    machine = Machine()
    machine.write(0, rng.randbytes(0x1000))
    machine.write(DATA, rng.randbytes(0x2000))
    machine.write(RAM - 0x1000, rng.randbytes(0x1000))
    errors = 0
    for _ in range(PROGRAMS):
        for name in ("rax", "rbx", "rsi", "r15"):
            machine[name] = constant(rng)
        program = random_program(rng)
        try:
            expected: int | None = evaluate(
                program,
                lambda name: None if name in ("xmm0", "none") else machine[name],
                lambda address, size: read_linear(machine, address, size),
            )
        except EvaluationError:
            expected = None
            errors += 1
        assert evaluate_in_core(machine, program.code) == expected, program
    assert PROGRAMS // 50 < errors < PROGRAMS // 2


def test_the_core_takes_what_the_reference_verifies_and_nothing_else() -> None:
    rng = random.Random(4)
    machine = Machine()
    refused = 0
    for _ in range(PROGRAMS):
        candidate = mangled(rng, random_program(rng).code)
        try:
            verify(candidate)
            accepted = True
        except ValueError:
            accepted = False
            refused += 1
        try:
            evaluate_in_core(machine, candidate)
            assert accepted, candidate
        except ValueError:
            assert not accepted, candidate
    assert PROGRAMS // 10 < refused < PROGRAMS - PROGRAMS // 10


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Instruction(Op.CONSTANT)] * 1025,
        [Instruction(Op.CONSTANT)] * 65 + [Instruction(Op.END)],
        code((Op.JUMP, 0), Op.END),
        code((Op.CONSTANT, 1), (Op.JUMP, 3), Op.END),
        code((Op.CONSTANT, 1), (Op.JUMP_IF, 1 << 63), (Op.CONSTANT, 1), Op.END),
        code((Op.CONSTANT, 1), (Op.PICK, 1), Op.END),
        code((Op.CONSTANT, 1), (Op.PICK, (1 << 64) - 1), Op.END),
        code((Op.CONSTANT, 1), (Op.LOAD, 3), Op.END),
        code((Op.CONSTANT, 1), (Op.SIGN_EXTEND, 0), Op.END),
        code((Op.CONSTANT, 1), (Op.ZERO_EXTEND, 65), Op.END),
        code((Op.CONSTANT, 1)),
        code(Op.END),
    ],
)
def test_what_is_no_program_is_refused(steps: list[Instruction]) -> None:
    machine = broken(AFTER_EAX)
    with pytest.raises(ValueError, match="no program"):
        evaluate_in_core(machine, steps)
    assert limit(machine, 1, steps) == lib.ACCEL_EINVAL
    assert machine.run(5).kind == BPT


def test_an_unknown_operation_is_refused() -> None:
    machine = Machine()
    for op in (33, 255, (1 << 32) - 1):
        array = core_code(FALSE)
        array[0].op = op
        assert lib.accel_evaluate(machine.cpu, array, 2, ffi.new("uint64_t *")) == lib.ACCEL_EINVAL


def test_conditions_leave_no_trace_in_the_guest() -> None:
    load = code((Op.CONSTANT, DATA + 8), (Op.LOAD, 8), Op.POP, (Op.REGISTER, "mxcsr"), Op.POP) + FALSE
    plain, conditional = Machine(code=LOOP), broken(AFTER_EAX)
    assert limit(conditional, 1, load) == 0
    for machine in (plain, conditional):
        assert machine.run(4000).kind == DEADLINE
    assert plain.save() == conditional.save()
    assert plain.read(0, RAM) == conditional.read(0, RAM)  # accessed bits too


# ---- breakpoints


def test_a_breakpoint_stops_where_its_condition_holds() -> None:
    machine = broken(AFTER_EAX, 7)
    assert limit(machine, 7, rax_is(1000)) == 0
    end = machine.run(1 << 20)
    assert (end.kind, end.rip, end.id, machine["rax"], machine.ticks) == (BPT, AFTER_EAX, 7, 1000, 3997)
    assert point_hits(machine, 7) == 1
    machine.control.skip_breakpoint = 1
    assert machine.run(10000).kind == DEADLINE


def test_conditions_are_alternatives_and_replaced_as_a_whole() -> None:
    machine = broken(AFTER_EAX)
    assert limit(machine, 1, rax_is(9), rax_is(5)) == 0
    assert machine.run(1000).kind == BPT
    assert machine["rax"] == 5
    assert limit(machine, 1, rax_is(8)) == 0
    machine.control.skip_breakpoint = 1
    machine.run(1000)
    assert machine["rax"] == 8
    assert limit(machine, 1) == 0
    machine.control.skip_breakpoint = 1
    machine.run(1000)
    assert machine["rax"] == 9


def test_a_condition_that_meets_an_error_stops() -> None:
    for program in (DIVIDES_BY_ZERO, code((Op.CONSTANT, 1 << 40), (Op.LOAD, 1), Op.END),
                    code((Op.REGISTER, "xmm0"), Op.END)):  # fmt: skip
        machine = broken(AFTER_EAX)
        assert limit(machine, 1, program) == 0
        assert machine.run(1000).kind == BPT


def test_conditions_see_the_place_the_time_and_the_flags_of_the_breakpoint() -> None:
    here = code((Op.REGISTER, "rip"), (Op.CONSTANT, CODE + 6), Op.EQUAL, Op.END)
    now = code((Op.REGISTER, "ticks"), (Op.CONSTANT, 11), Op.EQUAL, Op.END)
    zero = code((Op.REGISTER, "eflags"), (Op.CONSTANT, 0x40), Op.AND, Op.END)
    for program, ticks in ((here, 3), (now, 11), (zero, 3)):
        machine = broken(CODE + 6)
        machine["rcx"] = 0xFFFFFFFF
        assert limit(machine, 1, program) == 0
        assert (machine.run(1000).kind, machine.ticks) == (BPT, ticks)


def test_the_first_hits_are_counted_and_passed() -> None:
    machine = broken(AFTER_EAX)
    assert limit(machine, 1, ignore=41) == 0
    assert machine.run(1000).kind == BPT
    assert (machine["rax"], point_hits(machine, 1)) == (42, 42)


def test_only_hits_whose_condition_holds_are_counted() -> None:
    machine = broken(AFTER_EAX)
    odd = code((Op.REGISTER, "rax"), (Op.CONSTANT, 1), Op.AND, Op.END)
    assert limit(machine, 1, odd, ignore=5) == 0
    assert machine.run(1000).kind == BPT
    assert (machine["rax"], point_hits(machine, 1)) == (11, 6)


@pytest.mark.parametrize(
    ("limits", "stops"),
    [
        ({"flags": BY_CR3, "cr3": 0x1000}, True),
        ({"flags": BY_CR3, "cr3": 0x1FFF}, True),
        ({"flags": BY_CR3, "cr3": 0x2000}, False),
        ({"flags": BY_CPL, "cpl": 0}, True),
        ({"flags": BY_CPL, "cpl": 3}, False),
        ({"flags": BY_CPU, "cpu": 0}, True),
        ({"flags": BY_CPU, "cpu": 1}, False),
        ({"flags": BY_CR3 | BY_CPL | BY_CPU, "cr3": 0x1000}, True),
        ({"flags": BY_CR3 | BY_CPL | BY_CPU, "cr3": 0x1000, "cpu": 2}, False),
    ],
)
def test_points_of_one_address_space_privilege_level_or_cpu(limits: dict[str, int], stops: bool) -> None:
    machine = broken(AFTER_EAX)
    assert limit(machine, 1, **limits) == 0
    assert machine.run(100).kind == (BPT if stops else DEADLINE)
    assert point_hits(machine, 1) == int(stops)
    machine = watched(bytes.fromhex("8907 ebfc"))
    assert limit(machine, 1, **limits) == 0
    assert machine.run(100).kind == (WATCH if stops else DEADLINE)


def test_every_breakpoint_hit_at_an_address_is_reported() -> None:
    machine = broken(AFTER_EAX, 1)
    for ident, space in ((2, PHYSICAL), (3, LINEAR), (4, LINEAR)):
        assert lib.accel_break_add(machine.machine, ident, space, AFTER_EAX) == 0
    assert limit(machine, 3, FALSE) == 0
    end = machine.run(100)
    ids = ffi.new("uint64_t[64]")
    assert (end.kind, end.number) == (BPT, 3)
    assert lib.accel_break_hits(machine.cpu, ids, 64) == 3
    assert list(ids[0:3]) == [1, 2, 4]
    assert lib.accel_break_hits(machine.cpu, ids, 2) == 2


def test_an_instruction_that_waits_for_a_device_meets_its_breakpoint_once() -> None:
    machine = broken(CODE, program=bytes.fromhex("8b07 90"))  # mov eax, [rdi]
    machine["rdi"] = DATA
    machine.write(0x4000 + (DATA >> 12) * 8, (0xF000_0000 | 7).to_bytes(8, "little"))
    assert machine.run(10).kind == BPT
    machine.control.skip_breakpoint = 1
    assert machine.run(10).kind == MMIO
    machine.answer(5)
    assert machine.run(2).kind == DEADLINE
    assert (machine["rax"], point_hits(machine, 1)) == (5, 1)


def test_limits_of_what_is_not_there_or_not_possible_are_refused() -> None:
    machine = broken(AFTER_EAX)
    assert limit(machine, 2) == lib.ACCEL_ENOENT
    assert lib.accel_point_hits(machine.machine, 2, ffi.new("uint64_t *")) == lib.ACCEL_ENOENT
    assert limit(machine, 1, flags=8) == lib.ACCEL_EINVAL
    assert limit(machine, 1, flags=BY_CPL, cpl=4) == lib.ACCEL_EINVAL
    assert limit(machine, 1, *[FALSE] * 65) == lib.ACCEL_EINVAL
    limits = ffi.new("accel_limits *", {"program_count": 1})
    assert lib.accel_point_limit(machine.machine, 1, limits) == lib.ACCEL_EINVAL
    assert machine.run(100).kind == BPT


def test_a_stop_request_works_while_conditions_take_their_time() -> None:
    machine = broken(AFTER_EAX)
    machine.write(DATA, DATA.to_bytes(8, "little"))
    long = code((Op.CONSTANT, DATA), *[(Op.LOAD, 8)] * 500, Op.POP) + FALSE
    assert limit(machine, 1, *[long] * 10) == 0  # about a millisecond each time
    ticks = machine.ticks
    stopper = threading.Timer(0.05, lib.accel_stop, [machine.cpu])
    stopper.start()
    started = time.thread_time()
    assert machine.run(1 << 40).kind == KICK
    assert time.thread_time() - started < 5  # without a look at the stop word some minutes
    assert machine.ticks > ticks
    assert limit(machine, 1, *[long] * 64) == 0  # more than one boundary may spend
    assert machine.run(1000).kind == BPT


# ---- watchpoints


def reported(machine: Machine) -> list[Any]:
    box = ffi.new("accel_hit[64]")
    return [box[i] for i in range(lib.accel_watch_hits(machine.cpu, box, 64))]


def test_a_watchpoint_stops_where_its_condition_holds_after_the_write() -> None:
    machine = watched(bytes.fromhex("ffc0 8907 ebfa"))  # L: inc eax; mov [rdi], eax; jmp L
    is_100 = code((Op.CONSTANT, DATA), (Op.LOAD, 4), (Op.CONSTANT, 100), Op.EQUAL, Op.END)
    assert limit(machine, 1, is_100) == 0
    assert machine.run(1 << 20).kind == WATCH
    assert (machine["rax"], machine["rip"], point_hits(machine, 1)) == (100, CODE + 4, 1)
    assert [(h.old_value, h.new_value) for h in reported(machine)] == [(99, 100)]


def test_two_accesses_of_one_instruction_are_one_hit() -> None:
    machine = watched(bytes.fromhex("ff07 ebfc"), ACCESS)  # L: inc dword [rdi]; jmp L
    assert limit(machine, 1, ignore=2) == 0
    assert machine.run(100).kind == WATCH
    assert point_hits(machine, 1) == 3
    assert int.from_bytes(machine.read(DATA, 4), "little") == 3


@pytest.mark.parametrize("space", [LINEAR, PHYSICAL])
def test_a_change_watch_ignores_writes_of_the_same_value(space: int) -> None:
    machine = watched(bytes.fromhex("8907 8907 ffc0 8907 90"), CHANGED, space)
    assert machine.run(2).kind == DEADLINE
    end = machine.run(10)
    assert (end.kind, end.rip) == (WATCH, CODE + 8)
    assert [(h.old_value, h.new_value) for h in reported(machine)] == [(0, 1)]


def test_a_change_watch_looks_at_its_own_bytes_only() -> None:
    machine = watched(bytes.fromhex("0f1107 90"), CHANGED, size=1)  # movups [rdi], xmm0
    machine["xmm0"] = 0xFF << 120
    assert lib.accel_watch_add(machine.machine, 2, LINEAR, DATA + 15, 1, CHANGED) == 0
    assert machine.run(2).kind == WATCH
    assert [(h.id, h.address, h.size, h.old_value, h.new_value) for h in reported(machine)] == [
        (2, DATA + 15, 1, 0, 0xFF)
    ]


def test_an_access_of_an_instruction_that_waits_for_a_device_is_reported_after_it() -> None:
    machine = watched(bytes.fromhex("a7 90"), READ)  # cmpsd: [rsi] in RAM, [rdi] a device
    machine["rsi"], machine["rdi"] = DATA, 0x21000
    machine.write(0x4000 + (0x21000 >> 12) * 8, (0xF000_0000 | 7).to_bytes(8, "little"))
    assert machine.run(10).kind == MMIO
    machine.answer(5)
    end = machine.run(10)
    assert (end.kind, end.rip, machine.ticks) == (WATCH, CODE + 1, 1)
    assert len(reported(machine)) == 1


def dma(machine: Machine, address: int, data: bytes, device: int = 3) -> int:
    return int(lib.accel_dma_write(machine.machine, address, data, len(data), device))


@pytest.mark.parametrize("space", [LINEAR, PHYSICAL])
def test_a_write_by_a_device_is_reported_with_its_number(space: int) -> None:
    machine = watched(LOOP, WRITE, space)
    physical = DATA
    if space == LINEAR:  # the page lies elsewhere in memory
        physical = 0x50000
        machine.write(0x4000 + (DATA >> 12) * 8, (physical | 7).to_bytes(8, "little"))
    assert dma(machine, physical + 2, b"abcd") == 0
    end = machine.run(10)
    assert (end.kind, machine.ticks) == (WATCH, 0)
    assert [(h.address, h.size, h.origin, h.device) for h in reported(machine)] == [(DATA + 2, 2, 3, 3)]
    assert machine.run(10).kind == DEADLINE
    assert dma(machine, physical + 4, b"beside") == 0
    assert machine.run(10).kind == DEADLINE
    assert machine.read(physical, 10) == b"\0\0abbeside"


def test_writes_of_debugger_and_loader_touch_no_watchpoint() -> None:
    machine = watched(LOOP, ACCESS)
    for origin in (lib.ACCEL_ORIGIN_DEBUGGER, lib.ACCEL_ORIGIN_LOADER):
        assert lib.accel_phys_write(machine.machine, DATA, b"x", 1, origin) == 0
    assert machine.run(10).kind == DEADLINE


def test_a_write_by_a_device_across_the_end_of_memory_writes_nothing() -> None:
    machine = watched(LOOP)
    assert dma(machine, RAM - 2, b"abcd") == lib.ACCEL_EFAULT
    assert machine.read(RAM - 2, 2) == b"\0\0"
