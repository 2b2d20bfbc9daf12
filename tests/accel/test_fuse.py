"""Sequences that one handler executes: the same state as one by one, whatever happens between two of them.

The programs are made from the rows of `fuse.def`, assembled by way of the opcodes in `insns*.def`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import accel
from tests.helpers.accel_machine import CODE, DATA, STACK, Exit, Machine

SOURCES: Final = Path(accel.__file__).parent / "src"
END: Final = CODE + 0x8000  # a UD2, where indirect branches and returns go
ABSENT: Final = 0x1F0000
DEVICE: Final = 0x1F1000
EDGE: Final = DATA + 0x2000 - 3  # accesses cross into the next page
RSP, RBP, RSI, RDI, R12, R13 = 4, 5, 6, 7, 12, 13
BASES: Final = {RSI: DATA + 0x800, RDI: EDGE, RBP: ABSENT + 0x80, R13: DEVICE + 0x80}
FREE: Final = (0, 1, 2, 3, 8, 9, 10, 11, 14, 15)  # R12 is the index
FIRST_NAMES: Final = """
    cmp_EG_8_r cmp_EI_8_f test_AI_8 cmp_GE_32_r cmp_EI_32_r test_EG_32_r cmp_EG_32_f cmp_AI_64 cmp_GE_64_f
    test_EI_64_r add_EG_64_r add_EI_32_r sub_EI_64_r and_EI_32_r dec_64_r
"""
JUMP_NAMES: Final = "jo jno jb jnb jz jnz jbe jnbe js jns jp jnp jl jnl jle jnle"
REGISTER_NAMES: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15"
NAMES: Final = REGISTER_NAMES.split()
MMIO, EXCEPTION, UNDEFINED = 3, 13, 6


def fused_rows() -> list[tuple[str, ...]]:
    text = (SOURCES / "fuse.def").read_text()
    return [tuple(names.split(", ")) for names in re.findall(r"^[SJ]\d\((.*)\)$", text, re.MULTILINE)]


ROWS: Final = fused_rows() + [
    (first, f"{jump}_64") for first in FIRST_NAMES.split() for jump in JUMP_NAMES.split()
]


@dataclass(frozen=True)
class Opcode:
    """What `insns*.def` says about the forms of one handler."""

    code: bytes
    modrm: str
    operands: tuple[str, ...]
    suffix: str
    attributes: tuple[str, ...]


def opcodes() -> dict[str, Opcode]:
    maps = {"1": b"", "0F": b"\x0f"}
    found: dict[str, Opcode] = {}
    for path in sorted(SOURCES.glob("insns*.def")):
        for line in path.read_text().splitlines():
            columns = line.split("#")[0].split()
            if len(columns) != 10 or columns[0] not in maps or columns[2] != "-" or "no64" in columns[7]:
                continue
            stem, _, suffix = columns[6].partition(".")
            code = maps[columns[0]] + bytes.fromhex(columns[1])
            attributes = tuple(columns[7].split(","))
            opcode = Opcode(code, columns[3], tuple(columns[5].split(",")), suffix, attributes)
            wide = not suffix.startswith("b")
            found.setdefault(f"{stem}/{'wide' if wide else 'byte'}", opcode)
    return found


OPCODES: Final = opcodes()


def assemble(name: str, rng: random.Random) -> bytes:
    """One instruction of the form `name`, operands at random; branches go to the next instruction."""
    match = re.fullmatch(r"(.+?)(?:_(8|16|32|64))?(?:_([rfx]))?(?:_lean)?", name)
    assert match, name
    stem, size, form = match[1], int(match[2] or 0), match[3]
    opcode = OPCODES[f"{stem}/{'byte' if size == 8 else 'wide'}"]
    fixed = {"d64", "f64"} & set(opcode.attributes)
    rex = 0x48 if size == 64 and not fixed else 0x40
    code, tail = opcode.code, b""
    reg, rm = rng.choice(FREE), rng.choice(FREE)
    if opcode.modrm == "+":
        code = code[:-1] + bytes([code[-1] | rm & 7])
        rex |= rm >> 3
    elif opcode.modrm != "-":
        extension = opcode.modrm[1:2]
        if extension != "r":
            reg = int(extension)
        rex |= (reg >> 3) << 2
        if form == "r":
            tail = bytes([0xC0 | (reg & 7) << 3 | rm & 7])
            rex |= rm >> 3
        else:
            base = rng.choices(tuple(BASES), (20, 2, 1, 1))[0]
            indexed = form == "x"
            tail = bytes([0x40 | (reg & 7) << 3 | (4 if indexed else base & 7)])
            if indexed:
                tail += bytes([3 << 6 | (R12 & 7) << 3 | base & 7])
            tail += bytes([rng.randrange(0, 120, 8)])
            rex |= (base >> 3) | (2 if indexed else 0)
    immediate = next((each for each in opcode.operands if each[0] in "IJ"), "")
    width = {"": 0, "Ib": 1, "Iw": 2, "Iz": 2 if size == 16 else 4, "Iv": size // 8, "Jb": 1, "Jz": 4}[
        immediate
    ]
    tail += bytes(width) if immediate[:1] == "J" else rng.randbytes(width)
    return (b"\x66" if size == 16 else b"") + bytes([rex]) + code + tail


def program(row: tuple[str, ...], rng: random.Random) -> bytes:
    """The sequence three times; a comparison behind each makes the flags before it dead."""
    names = (*row, "test_EG_32_r", *row, "cmp_EG_64_r", *row)
    return b"".join(assemble(name, rng) for name in names) + b"\x0f\x0b"


def machine_for(code: bytes, seed: int) -> Machine:
    machine = Machine(code=code)
    rng = random.Random(seed)
    machine.write(END, b"\x0f\x0b")
    for page in (DATA, STACK - 0x1000):
        machine.write(page, END.to_bytes(8, "little") * 0x600)
    machine.write(0x4000 + (ABSENT >> 12) * 8, bytes(8))
    machine.write(0x4000 + (DEVICE >> 12) * 8, (0xFED00000 | 7).to_bytes(8, "little"))
    for number in FREE:
        machine[NAMES[number]] = rng.choice((rng.getrandbits(64), rng.getrandbits(7), END))
    for number, value in BASES.items():
        machine[NAMES[number]] = value
    machine["r12"] = rng.randrange(8)
    machine["rsp"] = STACK - 0x200
    machine.control.exception_exit = 0xFFFFFFFF
    return machine


def outcome(code: bytes, seed: int, most: int) -> tuple[Exit, int, object, bytes, bytes]:
    """Run in pieces of `most` ticks to the first exit that is no deadline; all there is to see then."""
    machine = machine_for(code, seed)
    for _ in range(200):
        end = machine.run(most)
        if end.kind:
            break
    state: object = [machine[name] for name in (*NAMES, "rip", "eflags")]
    if end.kind != MMIO:  # there it cannot be saved: the device is to answer first
        state = machine.save()
    return end, machine.ticks, state, machine.read(DATA, 0x3000), machine.read(STACK - 0x1000, 0x2000)


@pytest.mark.parametrize("part", range(8))
def test_a_fused_sequence_does_what_its_instructions_do_one_by_one(part: int) -> None:
    stopped_within = 0
    for number, row in list(enumerate(ROWS))[part::8]:
        for seed in range(2):
            rng = random.Random(number * 10 + seed)
            code = program(row, rng)
            whole = outcome(code, seed, 1000)
            for most in (1, 2, 3):
                assert outcome(code, seed, most) == whole, (row, seed, most, code.hex())
            stopped_within += (whole[0].kind, whole[0].vector) != (EXCEPTION, UNDEFINED)
    assert stopped_within > 5  # faults and device accesses in the middle


def test_every_row_of_the_table_is_a_sequence_of_two_to_four() -> None:
    assert len(ROWS) > 500
    assert len(set(ROWS)) == len(ROWS)
    assert {len(row) for row in ROWS} == {2, 3, 4}
