"""The ring of taken branches, judged by one-tick runs and iced-x86; single steps on branches."""

import random

import pytest
from iced_x86 import Decoder, FlowControl

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, Machine

DEADLINE, TRIPLE_FAULT = 0, 17
TF, BTF = 0x100, 2
ALWAYS = {
    FlowControl.UNCONDITIONAL_BRANCH,
    FlowControl.INDIRECT_BRANCH,
    FlowControl.CALL,
    FlowControl.INDIRECT_CALL,
    FlowControl.RETURN,
}


def traced(bits: int = 64, code: bytes = b"") -> Machine:
    machine = Machine(bits, code=code)
    machine.control.branch_trace = 1
    return machine


def branches(machine: Machine, most: int = 32) -> list[tuple[int, int]]:
    """Oldest first."""
    box = ffi.new("accel_branch[]", most)
    count = lib.accel_branches(machine.cpu, box, most)
    return [(getattr(box[i], "from"), box[i].to) for i in reversed(range(count))]


def test_nothing_is_recorded_unless_asked_for() -> None:
    machine = Machine(code=bytes.fromhex("90 ebfd"))
    machine.run(100)
    assert lib.accel_branch_count(machine.cpu) == 0


def test_a_loop_shows_its_taken_branches_and_not_the_last_one() -> None:
    # mov ecx, 3; L: dec ecx; jnz L; jmp $
    machine = traced(code=bytes.fromhex("b903000000 ffc9 75fc ebfe"))
    assert machine.run(9).kind == DEADLINE
    back, last = (CODE + 7, CODE + 5), (CODE + 9, CODE + 9)
    assert branches(machine) == [back, back, last, last]


def test_the_ring_keeps_the_newest_32_or_what_it_was_made_for() -> None:
    machine = traced(code=bytes.fromhex("eb00 90 ebfb"))
    machine.run(300)
    assert (len(branches(machine, 500)), lib.accel_branch_count(machine.cpu)) == (32, 200)
    for size in (0, (1 << 20) + 1):
        assert lib.accel_branch_ring(machine.cpu, size) == lib.ACCEL_EINVAL
    assert lib.accel_branch_ring(machine.cpu, 100) == 0
    assert branches(machine, 500) == []
    machine.run(300)
    assert branches(machine, 500) == [(CODE, CODE + 2), (CODE + 3, CODE)] * 64
    assert branches(machine, 3)[-1] == (CODE + 3, CODE)


@pytest.mark.parametrize(("zero", "seen"), [(1, True), (0, False)])
def test_a_branch_to_the_next_instruction_counts_when_it_is_taken(zero: int, seen: bool) -> None:
    # test eax, eax; jz +0; nop
    machine = traced(code=bytes.fromhex("85c0 7400 90"))
    machine["rax"] = 1 - zero
    machine.run(3)
    assert branches(machine) == ([(CODE + 2, CODE + 4)] if seen else [])


@pytest.mark.parametrize(
    ("opcode", "count", "zf", "seen"),
    [
        ("e200", 2, 0, True),
        ("e200", 1, 0, False),
        ("e100", 2, 1, True),
        ("e100", 2, 0, False),
        ("e000", 2, 0, True),
        ("e000", 2, 1, False),
        ("e300", 0, 0, True),
        ("e300", 1, 0, False),
    ],
)
def test_a_loop_to_the_next_instruction_asks_its_count(opcode: str, count: int, zf: int, seen: bool) -> None:
    machine = traced(code=bytes.fromhex(opcode + "90"))
    machine["rcx"], machine["eflags"] = count, 2 | zf << 6
    machine.run(2)
    assert branches(machine) == ([(CODE, CODE + 2)] if seen else [])


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize(("count", "seen"), [(2, True), (1, False)])
def test_a_loop_to_the_next_instruction_asks_its_count_in_older_code(
    bits: int, count: int, seen: bool
) -> None:
    machine = traced(bits, bytes.fromhex("e200 90"))
    machine["rcx"] = count
    machine.run(2)
    assert branches(machine) == ([(CODE, CODE + 2)] if seen else [])


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_branches_outlive_the_blocks_they_were_taken_in(bits: int) -> None:
    # L: jmp +0; nop; test eax, eax; jz L
    machine = traced(bits, bytes.fromhex("eb00 90 85c0 74f9"))
    machine["rax"] = 0
    machine.run(9)
    before = branches(machine)
    assert before == [(CODE, CODE + 2), (CODE + 5, CODE)] * 2 + [(CODE, CODE + 2)]
    assert lib.accel_a20(machine.machine, 0) == lib.accel_a20(machine.machine, 1) == 0
    machine.write(CODE + 2, bytes.fromhex("90 90 ebfe"))
    there = CODE + 4
    machine.run(4)
    assert branches(machine) == [*before, (there, there), (there, there)]


def test_a_call_to_the_next_instruction_is_a_branch() -> None:
    machine = traced(code=bytes.fromhex("e800000000 58 90"))
    machine.run(3)
    assert branches(machine) == [(CODE, CODE + 5)]


def test_events_and_their_return_are_recorded() -> None:
    # nop; ud2 (handler: add qword [rsp], 2; iretq)
    machine = traced(code=bytes.fromhex("90 0f0b 90 90"))
    machine.write(CODE + 0x100, bytes.fromhex("4883042402 48cf"))
    machine.handle(6, CODE + 0x100)
    machine.run(6)
    assert machine["rip"] == CODE + 5
    assert branches(machine) == [(CODE + 1, CODE + 0x100), (CODE + 0x105, CODE + 3)]


def test_real_mode_addresses_are_linear() -> None:
    # jmp 1010h:0005 (from CS base 10000h); nop; jmp $
    machine = traced(16, bytes.fromhex("90 ea05001010"))
    machine.write(0x10105, bytes.fromhex("90 ebfe"))
    machine.run(4)
    assert branches(machine) == [(CODE + 1, 0x10105), (0x10106, 0x10106)]


def test_code_that_is_overwritten_while_it_runs_gives_no_branch() -> None:
    # mov byte [rip + 0], 0x90; int3 (becomes nop); nop
    machine = traced(code=bytes.fromhex("c6050000000090 cc 90 90"))
    machine.run(3)
    assert (machine["rip"], branches(machine)) == (CODE + 9, [])


def test_a_faulting_access_shows_the_event_only() -> None:
    # nop; mov eax, [high]; jmp $
    machine = traced(code=bytes.fromhex("90 8b042500004000 ebfe"))
    machine.handle(14, CODE + 0x100)
    machine.run(2)
    assert branches(machine) == [(CODE + 1, CODE + 0x100)]


def test_the_way_to_a_triple_fault_stays_readable() -> None:
    machine = traced(code=bytes.fromhex("eb02 9090 0f0b"))
    assert machine.run(10).kind == TRIPLE_FAULT
    assert branches(machine) == [(CODE, CODE + 4)]


def test_the_trace_leaves_the_state_alone() -> None:
    plain, watched = Machine(code=program(7)), traced(code=program(7))
    for machine in (plain, watched):
        machine["rcx"], machine["rbx"] = 50, CODE + 0x200
        machine.run(997)
    assert lib.accel_branch_count(watched.cpu) > 100
    assert plain.save() == watched.save()


def test_a_loaded_state_starts_with_an_empty_ring() -> None:
    machine = traced(code=bytes.fromhex("ebfe"))
    state = machine.save()
    machine.run(5)
    assert machine.load(state) == 0
    assert branches(machine) == []


PIECES = (
    "ffc0", "85c0", "a801", "35bb3a0000", "01c8", "7503 909090", "7202 ffc1", "e800000000 58", "e302 ffc9",
    "e805000000 eb03 9090c3", "488d5305 ffd2 90", "4889e2", "eb01 cc", "7801 90", "488d1502000000 ffe2",
)  # fmt: skip


def program(seed: int) -> bytes:
    """Pieces with and without branches of all kinds, in a loop for ever. A RET stands at RBX + 5."""
    chance = random.Random(seed)
    body = b"".join(bytes.fromhex(chance.choice(PIECES)) for _ in range(40))
    body += b"\xe9" + (-len(body) - 5).to_bytes(4, "little", signed=True)
    return body.ljust(0x205, b"\x90") + b"\xc3"


def expected(machine: Machine, code: bytes, ticks: int) -> list[tuple[int, int]]:
    """The taken branches of `ticks` single ticks, by iced-x86's classification."""
    found = []
    for _ in range(ticks):
        start = machine["rip"]
        instruction = Decoder(64, code[start - CODE :], ip=start).decode()
        machine.run(1)
        after = machine["rip"]
        kind = instruction.flow_control
        if kind in ALWAYS or after != instruction.next_ip:
            found.append((start, after))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_blocks_and_single_ticks_give_the_same_branches(seed: int) -> None:
    code = program(seed)
    one, blocks, mixed = (Machine(code=code) for _ in range(3))
    for machine in (one, blocks, mixed):
        machine["rcx"], machine["rbx"] = 77, CODE + 0x200
        assert lib.accel_branch_ring(machine.cpu, 4096) == 0
    blocks.control.branch_trace = mixed.control.branch_trace = 1
    want = expected(one, code, 3000)
    blocks.run(3000)
    chance = random.Random(seed)
    while mixed.ticks < 3000:
        mixed.run(min(chance.randrange(1, 90), 3000 - mixed.ticks))
    assert len(want) > 300
    assert branches(blocks, 4096) == want
    assert branches(mixed, 4096) == want


@pytest.mark.parametrize(("code", "ticks"), [("e800000000 90", 1), ("90 ebfe", 2), ("7400 90 90 eb00 90", 4)])
def test_btf_traps_after_the_first_taken_branch(code: str, ticks: int) -> None:
    machine = Machine(code=bytes.fromhex(code))
    machine.handle(1, CODE + 0x100)
    assert lib.accel_msr_set(machine.cpu, 0x1D9, BTF) == 0
    machine["eflags"] = 2 | TF
    machine.run(ticks)
    assert machine["rip"] < CODE + 0x100
    machine.run(1)
    assert (machine["rip"], machine["dr6"] >> 14 & 1) == (CODE + 0x100, 1)
