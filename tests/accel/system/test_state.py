"""Registers by name, reset values and the canonical save, over the machine that runs `cases.S`."""

from __future__ import annotations

import random

import pytest

from accel import ffi, lib
from tests.accel.system.rom import Machine, assemble

OK, EINVAL, EVERSION = 0, 1, 6


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return assemble(tmp_path_factory.mktemp("state"), strict=True)


# SDM vol. 3, "Processor State After Reset", table of IA-32 and Intel 64 processor states.
POWER_ON = {
    "eflags": 2, "rip": 0xFFF0, "cr0": 0x60000010, "cr2": 0, "cr3": 0, "cr4": 0, "efer": 0,
    "cs": 0xF000, "cs_base": 0xFFFF0000, "cs_limit": 0xFFFF, "cs_attr": 0x93,
    "ss": 0, "ds_base": 0, "es_limit": 0xFFFF, "gdtr_base": 0, "gdtr_limit": 0xFFFF, "idtr_limit": 0xFFFF,
    "dr6": 0xFFFF0FF0, "dr7": 0x400, "fctrl": 0x40, "fstat": 0, "ftag": 0x5555, "mxcsr": 0x1F80, "xcr0": 1,
    "pat": 0x0007040600070406, "apic_base": 0xFEE00900, "rax": 0, "rsp": 0, "cpl": 0, "ticks": 0, "mode": 0,
    "linear_pc": 0xFFFFFFF0,
}  # fmt: skip


def test_power_on_state_is_that_of_the_manual(image: bytes) -> None:
    machine = Machine(image)
    assert {name: machine.get(name) for name in POWER_ON} == POWER_ON
    assert machine.get("rdx") & 0xF00 == 0x600  # family 6 in the processor signature


def test_init_keeps_what_the_manual_says_it_keeps(image: bytes) -> None:
    machine = Machine(image)
    kept = {"xmm3": 77, "mxcsr": 0x1FA0, "fctrl": 0x37F, "lstar": 0x1234}
    for name, value in {**kept, "rax": 5, "cr2": 9}.items():
        assert machine.set(name, value) == OK
    lib.accel_cpu_reset(machine.cpu, 1)
    assert {name: machine.get(name) for name in kept} == kept
    assert (machine.get("rax"), machine.get("cr2"), machine.get("rip")) == (0, 0, 0xFFF0)


def test_register_names_are_unique_and_can_be_found(image: bytes) -> None:
    names = [ffi.string(lib.accel_reg_name(i)) for i in range(lib.accel_reg_count())]
    assert len(set(names)) == len(names)
    assert all(lib.accel_reg_find(name) == i for i, name in enumerate(names))
    assert lib.accel_reg_find(b"nothing") == -1
    assert lib.accel_reg_name(len(names)) == ffi.NULL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cr0", 0x80000010),  # PG without PE
        ("cr0", 0x20000010),  # NW without CD
        ("cr4", 0x80000000),
        ("efer", 0x10),
        ("cr8", 16),
        ("cs", 0x10000),
        ("rip", 1 << 32),
        ("fs_base", 1 << 47),
        ("lstar", 1 << 47),
        ("pat", 2),
        ("dr7", 1 << 32),
        ("xcr0", 0),
        ("xcr0", 1 << 40),
        ("mxcsr", 1 << 16),
        ("cpl", 3),  # in real mode
        ("eflags", 0x20002),  # VM
        ("ticks", 5),
        ("activity", 4),
        ("cs_attr", 0x100),
    ],
)
def test_a_value_that_a_register_cannot_hold_is_refused(image: bytes, name: str, value: int) -> None:
    machine = Machine(image)
    before = machine.save()
    assert machine.set(name, value) == EINVAL
    assert machine.save() == before


def test_any_bytes_written_to_any_register_are_taken_or_refused(image: bytes) -> None:
    rng = random.Random(7)
    machine = Machine(image)
    for _ in range(20000):
        number = rng.randrange(lib.accel_reg_count())
        size = lib.accel_reg_size(number)
        small = rng.randrange(256).to_bytes(size, "little")
        value = rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size, small])
        assert lib.accel_reg_set(machine.cpu, number, value, size) in (OK, EINVAL)
    machine.run(machine.get("ticks") + 200)


def test_long_mode_can_be_entered_through_registers(image: bytes) -> None:
    machine = Machine(image)
    for name, value in {"cr4": 0x20, "cr3": 0x1000, "efer": 0x900, "cr0": 0x80000011}.items():
        assert machine.set(name, value) == OK
    assert machine.get("efer") == 0xD00  # LMA follows
    assert machine.set("cs_attr", 0xA09B) == OK
    assert machine.get("mode") == 6
    assert machine.set("rip", 0xFFFFFFFF81000000) == OK
    assert machine.get("linear_pc") == 0xFFFFFFFF81000000


def test_a_selector_written_in_real_mode_sets_its_base(image: bytes) -> None:
    machine = Machine(image)
    assert machine.set("ds", 0x1234) == OK
    assert machine.get("ds_base") == 0x12340


def test_stack_registers_follow_the_top_of_the_x87_stack(image: bytes) -> None:
    machine = Machine(image)
    assert machine.set("fstat", 5 << 11) == OK
    assert machine.set("st0", 0x3FFF_8000_0000_0000_0000) == OK
    assert machine.set("fstat", 4 << 11) == OK
    assert machine.get("st1") == 0x3FFF_8000_0000_0000_0000
    assert machine.set("ftag", 0xFFFF) == OK
    assert machine.get("ftag") == 0xFFFF


def test_a_run_saved_and_loaded_at_any_tick_ends_in_the_same_state(image: bytes) -> None:
    whole = Machine(image)
    assert whole.run() == "end"
    ticks = whole.get("ticks")
    rng = random.Random(3)
    for _ in range(6):
        cut = rng.randrange(1, ticks)
        first, second = Machine(image), Machine(image)
        assert first.run(cut) == "deadline"
        second.write(0, first.ram())
        state = first.save()
        assert second.load(state) == OK
        assert second.save() == state
        second.output += first.output
        assert second.run() == "end"
        assert second.save() == whole.save()
        assert second.output == whole.output
        assert second.ram() == whole.ram()


def test_a_state_of_another_layout_or_cpu_is_refused(image: bytes) -> None:
    machine = Machine(image)
    state = machine.save()
    assert machine.load(b"XXXX" + state[4:]) == EVERSION
    assert machine.load(state[:4] + b"\x63\0\0\0" + state[8:]) == EVERSION
    assert machine.load(state[:-1]) == EINVAL
    assert machine.load(b"") == EVERSION
    assert Machine(image, model=3).load(state) == EINVAL


def test_a_corrupted_state_loads_or_is_refused_and_runs_without_harm(image: bytes) -> None:
    rng = random.Random(11)
    machine = Machine(image)
    machine.run(5000)
    state = machine.save()
    for _ in range(40):
        damaged = bytearray(state)
        for _ in range(20):
            damaged[rng.randrange(28, 1600)] = rng.randrange(256)
        assert machine.load(bytes(damaged)) == OK
        machine.run(machine.get("ticks") + 50)
