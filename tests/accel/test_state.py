"""The same state however a program was run, and saved states that go on as if nothing had happened."""

import random

import pytest

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, DATA, STACK, Machine

SNIPPETS = """
    01d8 4801c3 11d9 29c8 4819d9 31d0 4821f3 4809c2 f7d0 48f7db d1e0 c1c807 48c1e905 0fa3d8 0fabd8
    0fc8 0fafc3 480fb6c1 0f42c3 0f94c0 48ffc0 ffcb 99 4898 f7e3 50 58 53 5b 9c9d 8907 8b1f 48894708
    480307 013f 0fc14704 f00fb14f10 86470c a4 aa 48a5 fd fc f9 f5 660fefc0 660f6ec8 660ffec1
    f30f2ac3 f20f59c1 0f58c8 f30f7f4720 d9e8 dec1 dd5f30 dd4730 ddd8 8d440310 480fbcc3 4d01c1 4531d2
    41ffc3 c8100000c9 0fa2 0f31 ac fe4703 80770155
"""
BODY = tuple(bytes.fromhex(text) for text in SNIPPETS.split())


def program(seed: int) -> bytes:
    """Straight code with a loop around it; RDI and RSI are set back at each turn."""
    rng = random.Random(seed)
    parts = []
    for _ in range(4):
        length = rng.randrange(5, 45)
        part = b"".join(rng.choice(BODY) for _ in range(length))
        reset = b"\xfc\xbf" + DATA.to_bytes(4, "little") + b"\xbe" + (DATA + 0x800).to_bytes(4, "little")
        reset += b"\xbc" + STACK.to_bytes(4, "little")
        count = b"\x41\xbf" + rng.randrange(1, 9).to_bytes(4, "little")  # mov r15d, n
        back = b"\x41\xff\xcf\x0f\x85"  # dec r15d; jnz
        loop = reset + part
        distance = -(len(loop) + len(back) + 4)
        parts.append(count + loop + back + distance.to_bytes(4, "little", signed=True))
    body = b"".join(parts)
    return body + b"\xe9" + (-(len(body) + 5)).to_bytes(4, "little", signed=True)


def machine_for(seed: int) -> Machine:
    machine = Machine(code=program(seed))
    rng = random.Random(seed + 1)
    for name in ("rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11"):
        machine[name] = rng.getrandbits(64)
    machine["rsi"], machine["rdi"] = DATA + 0x800, DATA
    machine["fctrl"] = 0x37F
    machine.write(DATA, rng.randbytes(0x1000))
    machine.control.exception_exit = 0xFFFFFFFF
    return machine


def run_to(machine: Machine, ticks: int, rng: random.Random | None, most: int) -> list[int]:
    """Run to `ticks` in pieces of random size; the kinds of all exits but DEADLINE."""
    other: list[int] = []
    while machine.ticks < ticks:
        piece = rng.randrange(1, most + 1) if rng else most
        kind = machine.run(min(piece, ticks - machine.ticks)).kind
        if kind != lib.ACCEL_EXIT_DEADLINE:
            return [*other, kind]
    return other


@pytest.mark.parametrize("seed", range(12))
def test_blocks_single_ticks_and_random_budgets_give_the_same_state(seed: int) -> None:
    goal = 3000
    whole = machine_for(seed)
    outcome = run_to(whole, goal, None, goal)
    for pieces, most in ((None, 1), (random.Random(seed), 7), (random.Random(seed), 300)):
        other = machine_for(seed)
        assert run_to(other, goal, pieces, most) == outcome
        assert other.ticks == whole.ticks
        assert other.read(DATA, 0x11000) == whole.read(DATA, 0x11000)
        assert other.save() == whole.save()


@pytest.mark.parametrize("seed", range(4))
def test_monitor_trap_at_every_tick_gives_the_same_state(seed: int) -> None:
    whole, stepped = machine_for(seed), machine_for(seed)
    outcome = run_to(whole, 500, None, 500)
    stepped.control.monitor_trap = 1
    while stepped.ticks < whole.ticks:
        assert stepped.run(1000).kind == lib.ACCEL_EXIT_MTRAP
    if outcome:
        assert stepped.run(1000).kind == outcome[0]
    assert stepped.save() == whole.save()


@pytest.mark.parametrize("seed", range(4))
def test_saved_state_goes_on_in_another_machine(seed: int) -> None:
    first = machine_for(seed)
    run_to(first, 777, None, 777)
    second = machine_for(seed + 100)
    second.write(CODE, first.read(CODE, 0x20000))
    second.write(STACK - 0x1000, first.read(STACK - 0x1000, 0x2000))
    second.write(0x1000, first.read(0x1000, 0x8000))
    assert second.load(first.save()) == 0
    assert second.save() == first.save()
    for machine in (first, second):
        run_to(machine, 2500, None, 2500)
    assert second.save() == first.save()
    assert second.read(DATA, 0x11000) == first.read(DATA, 0x11000)


def test_save_is_a_function_of_the_state_and_not_of_its_history() -> None:
    machine = machine_for(3)
    run_to(machine, 400, None, 400)
    state = machine.save()
    machine.run(300)
    assert machine.load(state) == 0
    assert machine.save() == state


def test_foreign_or_damaged_states_are_refused_and_change_nothing() -> None:
    machine = machine_for(1)
    machine.run(10)
    state = machine.save()
    assert machine.load(state[:-1]) == lib.ACCEL_EINVAL
    assert machine.load(b"") == lib.ACCEL_EVERSION
    assert machine.load(b"\0" * len(state)) == lib.ACCEL_EVERSION
    assert machine.save() == state


@pytest.mark.parametrize("seed", range(8))
def test_damaged_payload_does_no_harm_to_the_host(seed: int) -> None:
    rng = random.Random(seed)
    machine = machine_for(seed)
    machine.run(100)
    state = bytearray(machine.save())
    for _ in range(200):
        state[rng.randrange(64, len(state))] = rng.randrange(256)
    machine.load(bytes(state))
    for _ in range(20):
        machine.run(1000)


@pytest.mark.parametrize(
    ("numbers", "size", "status"),
    [
        ([0, 1], 15, lib.ACCEL_EINVAL),
        ([0, 1], 17, lib.ACCEL_EINVAL),
        ([0], 0, lib.ACCEL_EINVAL),
        ([], 1, lib.ACCEL_EINVAL),
        ([0, -1], 16, lib.ACCEL_ENOENT),
        ([0, lib.accel_reg_count()], 16, lib.ACCEL_ENOENT),
        ([], 0, lib.ACCEL_OK),
        ([1, 0], 16, lib.ACCEL_OK),
    ],
)
def test_many_registers_need_a_buffer_of_their_size(numbers: list[int], size: int, status: int) -> None:
    machine = Machine(code=b"\x90")
    machine["rax"], machine["rbx"] = 0x1234, 0x5678
    assert [ffi.string(lib.accel_reg_name(number)) for number in (0, 1)] == [b"rax", b"rbx"]
    values = ffi.new("uint8_t[]", 32)
    assert lib.accel_regs_get(machine.cpu, numbers, len(numbers), values, size) == status
    expected = (
        (0x5678).to_bytes(8, "little") + (0x1234).to_bytes(8, "little") if status == 0 and size else b""
    )
    assert bytes(values) == expected.ljust(32, b"\0")


def test_a_refusal_that_was_intercepted_leaves_nothing_in_the_state() -> None:
    machine = Machine(code=bytes.fromhex("0f30"))  # wrmsr
    machine["rcx"] = 0x12345  # of no MSR
    machine.control.exception_exit = 1 << 13
    states = []
    for error in (0x18, 0x20):
        assert machine.run().kind == lib.ACCEL_EXIT_WRMSR
        machine.control.inject_type, machine.control.inject_vector = lib.ACCEL_EV_EXCEPTION, 13
        machine.control.inject_has_error, machine.control.inject_error = 1, error
        machine.control.inject_valid = 1
        left = machine.run()
        assert (left.kind, left.vector, left.error) == (lib.ACCEL_EXIT_EXCEPTION, 13, error)
        states.append(machine.save())
    assert states[0] == states[1]
