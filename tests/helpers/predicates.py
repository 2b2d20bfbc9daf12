"""Condition programs in tests: random ones, and what the core makes of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from accel import ffi, lib
from gdbstub.predicate import MAX_DEPTH, Instruction, Op, Program, verify
from tests.helpers.accel_machine import DATA, RAM, Machine

REGISTERS = (
    "rax",
    "rbx",
    "rsi",
    "r15",
    "linear_pc",
    "eflags",
    "cs",
    "cr3",
    "mxcsr",
    "cpl",
    "ticks",
    "xmm0",
    "none",
)
_EXTREMES = (
    0,
    1,
    2,
    7,
    63,
    64,
    65,
    0x7F,
    0x80,
    0xFF,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
_ADDRESSES = (
    DATA,
    DATA + 0xFFC,
    DATA + 0xFFF,
    DATA + 3,
    RAM - 1,
    RAM - 8,
    RAM,
    0,
    (1 << 64) - 1,
    (1 << 64) - 3,
    1 << 63,
)
_UNARY = (Op.SIGN_EXTEND, Op.ZERO_EXTEND, Op.INVERT, Op.NOT)
_BINARY = (*range(Op.ADD, Op.INVERT), *range(Op.EQUAL, Op.JUMP))


def constant(rng: random.Random) -> int:
    return rng.choice((rng.choice(_EXTREMES), rng.getrandbits(64), rng.randrange(100)))


class _Writer:
    """Writes code that is verified by construction: the depth of the stack is known all the time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.code: list[Instruction] = []
        self.depth = 0

    def put(self, op: int, value: int = 0, name: str = "", change: int = 0) -> None:
        self.code.append(Instruction(Op(op), value, name))
        self.depth += change

    def push(self) -> None:
        match self.rng.randrange(4):
            case 0:
                self.put(Op.CONSTANT, constant(self.rng), change=1)
            case 1:
                self.put(Op.REGISTER, 0, self.rng.choice(REGISTERS[:11]), change=1)
            case 2:
                self.put(Op.CONSTANT, self.rng.choice(_ADDRESSES[:6]), change=1)
                self.load()
            case _ if self.depth:
                self.put(Op.PICK, self.rng.randrange(self.depth), change=1)

    def load(self) -> None:
        self.put(self.rng.choice((Op.LOAD, Op.LOAD_SIGNED)), self.rng.choice((1, 2, 4, 8)))

    def risky(self) -> None:
        """What may be an error."""
        if self.rng.randrange(2):
            self.put(Op.CONSTANT, self.rng.choice(_ADDRESSES), change=1)
            self.load()
        else:
            self.put(Op.REGISTER, 0, self.rng.choice(REGISTERS), change=1)

    def change(self) -> None:
        """Something that leaves the depth or makes it one less; at least one word is there."""
        kind = self.rng.randrange(8)
        if kind < 2:
            self.put(self.rng.choice(_UNARY), self.rng.randint(1, 64))
        elif kind == 2 and self.depth >= 3:
            self.put(Op.ROTATE)
        elif kind == 3:
            self.put(Op.DUPLICATE, change=1)
        elif self.depth >= 2:
            if kind == 4:
                self.put(Op.SWAP)
            elif kind == 5 and self.depth > 4:
                self.put(Op.POP, change=-1)
            else:
                self.put(self.rng.choice(_BINARY), change=-1)

    def branch(self) -> None:
        """Code that is jumped over, or the end, if a condition holds."""
        self.push()
        if not self.depth:
            return
        at, whole = len(self.code), self.depth - 1
        self.put(Op.JUMP_IF, change=-1)
        ends = self.rng.randrange(4) == 0
        self.put(Op.CONSTANT, constant(self.rng), change=1)
        for _ in range(self.rng.randrange(4)):
            self.put(self.rng.choice(_UNARY), self.rng.randint(1, 64))
        if ends:
            self.put(Op.END)
            self.depth = whole
        else:
            self.put(Op.POP, change=-1)
            if self.rng.randrange(2):
                self.put(Op.JUMP, len(self.code) + 1)
        self.code[at] = Instruction(Op.JUMP_IF, len(self.code))


def random_program(rng: random.Random) -> Program:
    """A verified condition of up to some hundred instructions."""
    writer = _Writer(rng)
    writer.put(Op.CONSTANT, constant(rng), change=1)
    for _ in range(rng.choice((2, 8, 30, 120))):
        kind = rng.randrange(12)
        if writer.depth < MAX_DEPTH - 4 and kind < 4:
            writer.push()
        elif writer.depth < MAX_DEPTH - 4 and kind == 4 and rng.randrange(3) == 0:
            writer.risky()
        elif kind == 5 and writer.depth < MAX_DEPTH - 4:
            writer.branch()
        else:
            writer.change()
    writer.put(Op.END)
    return verify(writer.code)


def mangled(rng: random.Random, code: Sequence[Instruction]) -> list[Instruction]:
    """`code` with some instructions changed, most likely no program any more."""
    out = list(code)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out))
        value = rng.choice((out[at].value, rng.randrange(130), constant(rng)))
        op = rng.choice((out[at].op, Op(rng.randrange(len(Op))), Op.JUMP, Op.JUMP_IF, Op.END))
        out[at] = Instruction(op, value, out[at].name or "rax")
        if rng.randrange(4) == 0:
            del out[rng.randrange(len(out))]
        if not out:
            return [Instruction(Op.END)]
    return out


def core_code(code: Sequence[Instruction]) -> Any:
    """`code` as an array for the core, names resolved."""
    array = ffi.new("accel_insn[]", len(code))
    for cell, step in zip(array, code, strict=True):
        cell.op = step.op
        named = step.op is Op.REGISTER
        cell.value = lib.accel_reg_find(step.name.encode()) % (1 << 64) if named else step.value
    return array


def evaluate_in_core(machine: Machine, code: Sequence[Instruction]) -> int | None:
    """The result; None: an error. ValueError: the core says that it is no program."""
    result = ffi.new("uint64_t *")
    status = lib.accel_evaluate(machine.cpu, core_code(code), len(code), result)
    if status == lib.ACCEL_EINVAL:
        raise ValueError("no program")
    if status == lib.ACCEL_EFAULT:
        return None
    assert status == lib.ACCEL_OK
    return int(result[0])


def read_linear(machine: Machine, address: int, size: int) -> bytes | None:
    """What a debugger reads: through the page tables, from RAM."""
    walk = ffi.new("accel_walk *")
    data = bytearray()
    for at in range(address, address + size):
        if lib.accel_translate(machine.cpu, at, walk) or walk.gpa >= RAM:
            return None
        data += machine.read(walk.gpa, 1)
    return bytes(data)
