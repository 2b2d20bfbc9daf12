"""What the core and its host have of each other: memory, and nothing else."""

import ctypes
import ctypes.util
import os
import struct
import subprocess
from pathlib import Path

import pytest

import accel
from accel import ffi, lib
from tests.helpers.accel_machine import CODE, DATA, TSC_HZ, Machine

V1, V2, V3, MAX = range(4)


def test_the_core_asks_its_host_for_memory_only() -> None:
    """No clock, no randomness, no files, no signals, no long jumps."""
    (core,) = Path(accel.__file__).parent.glob("_core.*.so")
    path = {"PATH": os.environ["PATH"]}
    names = subprocess.run(["nm", "-D", "-u", core], check=True, capture_output=True, text=True, env=path)
    wanted = {line.split()[-1].split("@")[0] for line in names.stdout.splitlines()}
    ours = {name for name in wanted if not name.startswith(("Py", "_Py", "_ITM", "__gmon", "__cxa"))}
    memory = {"aligned_alloc", "calloc", "free", "malloc", "realloc", "mmap", "mprotect", "munmap"}
    strings = {"memcmp", "memcpy", "memmove", "memset", "strcmp", "__assert_fail"}
    assert ours <= memory | strings


def test_the_hosts_floating_point_is_as_it_was_after_a_guest_has_changed_its_own() -> None:
    # ldmxcsr [rsp]; fldcw [rsp+4]; fld1; fld1; divss; sqrtps
    code = "0fae1424 d96c2404 d9e8 d9e8 f30f5ec1 0f51c2"
    machine = Machine(code=bytes.fromhex(code))
    machine["rsp"] = DATA
    machine.write(DATA, struct.pack("<IH", 0xFFC0, 0x7F))  # towards zero, denormals are zeros, 24 bits
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    tiny, third = float.fromhex("0x1p-1070"), 1.0 / 3
    for ticks in (1, 1, 4):
        machine.run(ticks)
        assert libm.fegetround() == 0
        assert tiny / 4 == float.fromhex("0x1p-1072")
        assert (1.0 / 3, third * 3) == (third, 1.0)
        machine.read(DATA, 8)
    assert machine["mxcsr"] & 0xFFC0 == 0xFFC0


def test_a_guest_sees_no_feature_of_the_host_that_the_core_lacks() -> None:
    machine = Machine(code=bytes.fromhex("0fa2"), model=MAX)

    def cpuid(leaf: int, sub: int = 0) -> list[int]:
        machine["rip"], machine["rax"], machine["rcx"] = CODE, leaf, sub
        machine.run(1)
        return [machine[name] for name in ("rax", "rbx", "rcx", "rdx")]

    _, b, c, d = cpuid(7)
    avx512 = [16, 17, 21, 26, 27, 28, 30, 31]
    assert not any(b >> bit & 1 for bit in (4, 11, *avx512))  # HLE, RTM, AVX-512
    assert not any(c >> bit & 1 for bit in (1, 6, 11, 12, 14))  # AVX512_VBMI and its like
    assert not any(d >> bit & 1 for bit in (2, 3, 22, 24, 25))  # AVX-512, AMX
    assert cpuid(13)[0] == 0x207  # x87, SSE, AVX, PKRU
    assert cpuid(0x14) == [0] * 4 or cpuid(0)[0] < 0x14  # no processor trace
    assert cpuid(10)[0] & 0xFF == 0  # no performance counters


def seeded(seed: int, index: int = 0) -> Machine:
    machine = Machine()
    box = ffi.new("accel_cpu **")
    assert lib.accel_cpu_new(machine.machine, index + 1, 9, MAX, TSC_HZ, seed, box) == 0
    machine.cpu = box[0]
    machine.control = lib.accel_cpu_control(box[0])
    machine.control.activity = lib.ACCEL_ACTIVE
    machine._long_mode(64, 0)
    return machine


def numbers(machine: Machine) -> list[int]:
    """Three of RDRAND and RDSEED."""
    machine.write(CODE, bytes.fromhex("480fc7f0 480fc7fb 480fc7f1"))
    machine["rip"] = CODE
    machine.run(3)
    return [machine[name] for name in ("rax", "rbx", "rcx")]


def test_random_numbers_are_the_seeds() -> None:
    first, again, other = seeded(1), seeded(1), seeded(2)
    drawn = numbers(first)
    assert len({*drawn, *numbers(other), *numbers(seeded(1, 1))}) == 9
    assert numbers(again) == drawn
    third = seeded(1)
    assert third.load(first.save()) == 0
    assert numbers(third) == numbers(first) != drawn


def test_what_xsave_leaves_out_depends_on_the_state_only() -> None:
    """XSAVEOPT and XSAVEC skip components that have their initial values, and no others."""
    for opcode in ("0fae3424", "0fc72424"):
        machine = Machine(code=bytes.fromhex(opcode))
        other = Machine(code=bytes.fromhex(opcode))
        for each in (machine, other):
            each["rsp"], each["rax"], each["rdx"] = DATA, 7, 0
            each["fctrl"], each["ftag"], each["ymm3"] = 0x37F, 0xFFFF, 5 << 128
        assert other.load(machine.save()) == 0
        for number in range(2):
            for each in (machine, other):
                each["rip"] = CODE
                each.run(1)
            assert machine.read(DATA, 1024) == other.read(DATA, 1024)
            assert machine.read(DATA + 512, 1)[0] == (4, 0)[number]
            machine["ymm3"] = other["ymm3"] = 0


# What the manual leaves undefined as this core has it, so that runs are the same on every host:
# EAX, EBX; EAX afterwards, and the arithmetic flags when all were clear and when all were set.
ARITHMETIC = 0x8D5
CHOICES = [
    ("c1e004", 0xF8, 7, 0xF80, 0, 0),  # shl eax, 4: AF
    ("c1e804", 0xF8, 7, 0xF, 0x5, 0x5),  # shr
    ("c1f804", 0xF8, 7, 0xF, 0x5, 0x5),  # sar
    ("660fa4d814", 0x1234, 0x5678, 0x6781, 0x805, 0x805),  # shld ax, bx, 20: all
    ("660facd814", 0x1234, 0x5678, 0x4567, 0x801, 0x801),  # shrd
    ("f7f3", 100, 7, 14, 0, ARITHMETIC),  # div ebx: all flags
    ("f7fb", 100, 7, 14, 0, ARITHMETIC),  # idiv
    ("f7e3", 0x80000001, 7, 0x80000007, 0x801, ARITHMETIC),  # mul ebx: SF ZF AF PF
    ("0fafc3", 0x80000001, 7, 0x80000007, 0x801, ARITHMETIC),  # imul eax, ebx
    ("0fbcc3", 0x1234, 0, 0x1234, 0x44, 0x44),  # bsf eax, ebx: EAX
    ("0fbdc3", 0x1234, 0x10, 4, 0, 0),  # bsr: CF OF SF AF PF
    ("f30fbcc3", 0, 8, 3, 0, 0),  # tzcnt
    ("f30fbdc3", 0, 8, 28, 0, 0),  # lzcnt
    ("c4e278f7c3", 0x0404, 0xFFF, 0xF, 0x4, 0x4),  # bextr
    ("c1c004", 0xF8, 7, 0xF80, 0, 0xD4),  # rol eax, 4: OF
    ("21d8", 0xF8, 0x1F, 0x18, 0x4, 0x4),  # and: AF
    ("d40a", 0x7B, 0, 0xC03, 0x4, 0x4),  # aam: CF OF AF
    ("d50a", 0x203, 0, 0x17, 0x4, 0x4),  # aad
    ("27", 0x9B, 0, 0x01, 0x11, 0x11),  # daa: OF
    ("37", 0x0F, 0, 0x105, 0x15, 0x15),  # aaa: OF SF ZF PF
]


@pytest.mark.parametrize(("code", "eax", "ebx", "result", "from_clear", "from_set"), CHOICES)
def test_what_the_manual_leaves_undefined_is_chosen_once(
    code: str, eax: int, ebx: int, result: int, from_clear: int, from_set: int
) -> None:
    for before, after in ((2, from_clear), (2 | ARITHMETIC, from_set)):
        machine = Machine(bits=32, code=bytes.fromhex(code))
        machine["rax"], machine["rbx"], machine["rdx"], machine["eflags"] = eax, ebx, 0, before
        assert machine.run(1).kind == lib.ACCEL_EXIT_DEADLINE
        assert (machine["rax"], machine["eflags"] & ARITHMETIC) == (result, after)
