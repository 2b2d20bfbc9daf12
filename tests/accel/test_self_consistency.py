"""A guest that remaps its code and clears accessed bits behind the TLB, under all that a debugger does.

The core must come to the same state whatever is set, removed, stepped, saved and loaded on the way.
"""

import random
from collections.abc import Callable

import pytest

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, RAM, Machine

DEADLINE, MTRAP, BPT, WATCH = 0, 6, 7, 16
LINEAR, PHYSICAL = 0, 1
ALIAS, FIRST, SECOND = 0x80000, 0x90000, 0xA0000
ENTRY = 0x4000 + (ALIAS >> 12) * 8
TICKS = 6000

# L: xchg rsi, rdi; mov [rbx], rsi; test cl, 1; jnz +4; invlpg [rbp]; call rbp; mov [rbp+800h], rcx;
# and byte [rbx], 9Fh; mov rdx, [rbp+800h]; mov rax, [rbx]; add r8, rax; dec rcx; jmp L
REMAP = bytes.fromhex(
    "4887fe 488933 f6c101 7504 0f017d00 ffd5 48898d00080000 80239f 488b9500080000 488b03 4901c0 48ffc9 ebd3"
)
# Two routines for the alias: inc r9; add r10, 3; ret and lea r9, [r9 + r9*2 + 1]; ret
ROUTINES = {FIRST: "49ffc1 4983c203 c3", SECOND: "4f8d4c4901 c3"}
STOPS = (CODE, CODE + 6, CODE + 15, ALIAS, ALIAS + 3, ALIAS + 5)


def remapper() -> Machine:
    assert len(REMAP) == 256 - REMAP[-1]  # where the jump back leads
    machine = Machine(code=REMAP)
    for page, routine in ROUTINES.items():
        machine.write(page, bytes.fromhex(routine))
    machine["rbx"], machine["rbp"], machine["rcx"] = ENTRY, ALIAS, 1 << 20
    machine["rsi"], machine["rdi"] = FIRST | 7, SECOND | 7
    return machine


def outcome(machine: Machine) -> tuple[bytes, bytes]:
    return machine.save(), machine.read(0, RAM)


Disturbance = Callable[[Machine, random.Random, int], None]


def toggle_break(machine: Machine, chance: random.Random, turn: int) -> None:
    number = chance.randrange(1, 6)
    if lib.accel_break_remove(machine.machine, number):
        space, base = chance.choice(
            ((LINEAR, 0), (PHYSICAL, 0), (PHYSICAL, FIRST - ALIAS), (PHYSICAL, SECOND - ALIAS))
        )
        assert lib.accel_break_add(machine.machine, number, space, chance.choice(STOPS) + base) == 0


def toggle_watch(machine: Machine, chance: random.Random, turn: int) -> None:
    number = chance.randrange(100, 104)
    if lib.accel_watch_remove(machine.machine, number):
        space, page = chance.choice(
            ((LINEAR, ALIAS), (PHYSICAL, FIRST), (PHYSICAL, SECOND), (PHYSICAL, 0x4000))
        )
        at = page + chance.choice((0, 0x400, 0x7FC, 0x800))
        assert lib.accel_watch_add(machine.machine, number, space, at, chance.choice((1, 8, 0x100)), 3) == 0


def checkpoint(machine: Machine, chance: random.Random, turn: int) -> None:
    assert machine.load(machine.save()) == 0


def look(machine: Machine, chance: random.Random, turn: int) -> None:
    walk = ffi.new("accel_walk *")
    assert lib.accel_translate(machine.cpu, ALIAS, walk) == 0
    lib.accel_epoch_next(machine.machine)


def step(machine: Machine, chance: random.Random, turn: int) -> None:
    machine.control.monitor_trap = turn % 2


def trace(machine: Machine, chance: random.Random, turn: int) -> None:
    machine.control.branch_trace = turn % 3 == 0


ALL: tuple[Disturbance, ...] = (toggle_break, toggle_watch, checkpoint, look, step, trace)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[bytes, bytes]:
    machine = remapper()
    assert machine.run(TICKS).kind == DEADLINE
    return outcome(machine)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds", [*((kind,) for kind in ALL), ALL], ids=lambda kinds: kinds[-1].__name__)
def test_remapped_pages_and_cleared_accessed_bits_survive(
    kinds: tuple[Disturbance, ...], seed: int, undisturbed: tuple[bytes, bytes]
) -> None:
    machine, chance = remapper(), random.Random(seed)
    seen = set()
    turn = 0
    while machine.ticks < TICKS:
        turn += 1
        chance.choice(kinds)(machine, chance, turn)
        end = machine.run(min(chance.randrange(1, 40), TICKS - machine.ticks))
        seen.add(end.kind)
        if end.kind == BPT:
            machine.control.skip_breakpoint = 1
    assert outcome(machine) == undisturbed
    assert seen <= {DEADLINE, MTRAP, BPT, WATCH}
    for kind, disturbance in ((BPT, toggle_break), (WATCH, toggle_watch), (MTRAP, step)):
        assert (kind in seen) == (disturbance in kinds)


@pytest.mark.parametrize("width", [1, 2, 7, 63])
def test_budgets_of_any_width_give_the_same_state(width: int, undisturbed: tuple[bytes, bytes]) -> None:
    machine = remapper()
    while machine.ticks < TICKS:
        machine.run(min(width, TICKS - machine.ticks))
    assert outcome(machine) == undisturbed


def test_the_guest_sees_cleared_accessed_bits_only_until_the_next_walk() -> None:
    machine = remapper()
    machine.run(TICKS)
    assert machine["r9"] > 100
    entry = int.from_bytes(machine.read(ENTRY, 8), "little")
    assert entry & ~0x60 in (FIRST | 7, SECOND | 7)


@pytest.mark.parametrize("broken", [0, 1])
def test_code_under_two_aliases_with_a_breakpoint_on_one_runs_alike_through_both(broken: int) -> None:
    # add eax, 3; inc ebx; dec ecx; jnz -9; jmp rsi: each alias counts down from RCX and goes on in the other
    code = bytes.fromhex("83c003 ffc3 ffc9 75f7 48 87fe b905000000 ffe7")
    plain, stopped = Machine(), Machine()
    for machine in (plain, stopped):
        machine.write(FIRST, code)
        machine.write(ENTRY, (FIRST | 7).to_bytes(8, "little"))
        machine["rip"], machine["rcx"], machine["rsi"], machine["rdi"] = FIRST, 5, FIRST, ALIAS
    assert lib.accel_break_add(stopped.machine, 1, LINEAR, (FIRST, ALIAS)[broken] + 3) == 0
    plain.run(2000)
    hits = 0
    while stopped.ticks < 2000:
        end = stopped.run(2000 - stopped.ticks)
        if end.kind == BPT:
            assert end.rip == (FIRST, ALIAS)[broken] + 3
            hits += 1
            stopped.control.skip_breakpoint = 1
    assert hits > 100
    assert plain["rbx"] - hits > 100
    assert outcome(plain) == outcome(stopped)
