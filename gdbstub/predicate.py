"""Programs that decide whether a breakpoint stops, in a form that no client and no protocol shows in. Pure.

A program is postfix code on a stack of 64-bit unsigned values. It names registers, jumps forward only, and
has been verified when it exists: every instruction knows how deep the stack is, nothing underflows, and
the end is reached with the result on top. So it ends after at most as many steps as it has instructions,
and an evaluator needs a stack of `depth` words and no bounds checks. `gdbstub.evaluator` is the reference
that other evaluators have to agree with::

    SIGN_EXTEND, ZERO_EXTEND  from the low `value` bits, 1 to 64
    LOAD, LOAD_SIGNED         pop an address, push the `value` bytes there, 1, 2, 4 or 8, in target order;
                              addresses wrap at 2**64
    REGISTER                  the register `name`, at most 64 bits, zero-extended
    ADD SUB MULTIPLY          modulo 2**64
    DIVIDE_*, REMAINDER_*     error when the divisor is 0; signed ones truncate towards zero, and
                              -2**63 / -1 is -2**63 with remainder 0
    SHIFT_*                   the count is unsigned; 64 and more shift everything out, SHIFT_RIGHT_SIGNED
                              leaves the sign everywhere
    EQUAL LESS_* NOT          give 0 or 1
    JUMP, JUMP_IF             to instruction `value`; JUMP_IF pops and jumps when that is not 0
    PICK                      push a copy of the value `value` places below the top (0: DUPLICATE)
    ROTATE                    a b c -> c a b, c on top before
    PRINT                     pop the arguments of ``formats[value]``, first one on top, and print them;
                              in commands only
    END                       the value on top is the result; a command has none

An error (division by zero, memory or a register that cannot be read, no fuel) makes a condition report the
stop. The operations are those of *Debugging with GDB*, appendix "The GDB Agent Expression Mechanism".
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

WORD_BITS = 64
MAX_CODE = 1024
"""Instructions of one program."""
MAX_DEPTH = 64
"""Words of stack."""
WORD_MASK = (1 << WORD_BITS) - 1


class Op(enum.IntEnum):
    """What an instruction does. The numbers are stable, for evaluators in other languages."""

    CONSTANT = 0
    REGISTER = 1
    LOAD = 2
    LOAD_SIGNED = 3
    SIGN_EXTEND = 4
    ZERO_EXTEND = 5
    ADD = 6
    SUB = 7
    MULTIPLY = 8
    DIVIDE_SIGNED = 9
    DIVIDE_UNSIGNED = 10
    REMAINDER_SIGNED = 11
    REMAINDER_UNSIGNED = 12
    SHIFT_LEFT = 13
    SHIFT_RIGHT_SIGNED = 14
    SHIFT_RIGHT_UNSIGNED = 15
    AND = 16
    OR = 17
    XOR = 18
    INVERT = 19
    NOT = 20
    EQUAL = 21
    LESS_SIGNED = 22
    LESS_UNSIGNED = 23
    JUMP = 24
    JUMP_IF = 25
    DUPLICATE = 26
    POP = 27
    SWAP = 28
    PICK = 29
    ROTATE = 30
    PRINT = 31
    END = 32


@dataclass(frozen=True, slots=True)
class Instruction:
    """`value` is a constant, a number of bits or bytes, an instruction's or a format's index."""

    op: Op
    value: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text of a format."""

    text: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion of a format. `kind` is one of ``d u x X o c s p``, `bits` the size of its argument,
    `flags` a subset of ``-+ #0``; `precision` None is none given."""

    kind: str
    bits: int = 32
    flags: str = ""
    width: int = 0
    precision: int | None = None


Format = tuple[Text | Conversion, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Verified code, `depth` words of stack at most, and the formats that PRINT names. `gdbstub.agent`
    makes it; whoever makes another calls `verify`."""

    code: tuple[Instruction, ...]
    depth: int
    formats: tuple[Format, ...] = ()


ALWAYS = Program((Instruction(Op.CONSTANT, 1), Instruction(Op.END)), 1)
"""The condition that holds."""

_EFFECTS: dict[Op, tuple[int, int]] = {
    Op.CONSTANT: (0, 1),
    Op.REGISTER: (0, 1),
    **dict.fromkeys((Op.LOAD, Op.LOAD_SIGNED, Op.SIGN_EXTEND, Op.ZERO_EXTEND, Op.INVERT, Op.NOT), (1, 1)),
    **dict.fromkeys((Op.ADD, Op.SUB, Op.MULTIPLY, Op.AND, Op.OR, Op.XOR), (2, 1)),
    **dict.fromkeys((Op.DIVIDE_SIGNED, Op.DIVIDE_UNSIGNED), (2, 1)),
    **dict.fromkeys((Op.REMAINDER_SIGNED, Op.REMAINDER_UNSIGNED), (2, 1)),
    **dict.fromkeys((Op.SHIFT_LEFT, Op.SHIFT_RIGHT_SIGNED, Op.SHIFT_RIGHT_UNSIGNED), (2, 1)),
    **dict.fromkeys((Op.EQUAL, Op.LESS_SIGNED, Op.LESS_UNSIGNED), (2, 1)),
    Op.JUMP: (0, 0),
    Op.JUMP_IF: (1, 0),
    Op.DUPLICATE: (1, 2),
    Op.POP: (1, 0),
    Op.SWAP: (2, 2),
    Op.ROTATE: (3, 3),
}
"""Words popped and pushed; PICK, PRINT and END depend on their value or on the program."""


def verify(
    code: Sequence[Instruction], formats: tuple[Format, ...] = (), *, command: bool = False
) -> Program:
    """The program that `code` is. Raises ValueError with the reason why it is none.

    Forward jumps make one pass enough: when an instruction's turn comes, all ways to it are known.
    """
    if not 0 < len(code) <= MAX_CODE:
        raise ValueError(f"a program has 1 to {MAX_CODE} instructions")
    depths: list[int | None] = [0] + [None] * len(code)
    deepest = 0
    for index, instruction in enumerate(code):
        depth = depths[index]
        if depth is None:
            continue  # nothing leads here
        pops, pushes = _effect(instruction, depth, formats, command)
        if depth < pops:
            raise ValueError(f"instruction {index} finds too little on the stack")
        depth += pushes - pops
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} words of stack")
        for target in _successors(index, instruction, len(code)):
            if depths[target] not in (None, depth):
                raise ValueError(f"instruction {target} is reached with different stacks")
            depths[target] = depth
    if depths[len(code)] is not None:
        raise ValueError("the program runs over its end")
    return Program(tuple(code), max(deepest, 1), formats)


def _effect(
    instruction: Instruction, depth: int, formats: tuple[Format, ...], command: bool
) -> tuple[int, int]:
    op, value = instruction.op, instruction.value
    if not 0 <= value <= WORD_MASK:
        raise ValueError("an operand is out of range")
    match op:
        case Op.LOAD | Op.LOAD_SIGNED if value not in (1, 2, 4, 8):
            raise ValueError("loads have 1, 2, 4 or 8 bytes")
        case Op.SIGN_EXTEND | Op.ZERO_EXTEND if not 1 <= value <= WORD_BITS:
            raise ValueError("extensions start from 1 to 64 bits")
        case Op.REGISTER if not instruction.name:
            raise ValueError("a register without a name")
        case Op.PICK:
            if value >= MAX_DEPTH:
                raise ValueError("picks from below the stack")
            return value + 1, value + 2
        case Op.PRINT:
            if not command or value >= len(formats):
                raise ValueError("prints, and is no command")
            return sum(isinstance(piece, Conversion) for piece in formats[value]), 0
        case Op.END:
            return (0, 0) if command else (1, 1)
        case _:
            pass
    return _EFFECTS[op]


def _successors(index: int, instruction: Instruction, size: int) -> tuple[int, ...]:
    match instruction.op:
        case Op.END:
            return ()
        case Op.JUMP | Op.JUMP_IF:
            if not index < instruction.value < size:
                raise ValueError(f"instruction {index} does not jump forward")
            if instruction.op is Op.JUMP:
                return (instruction.value,)
            return (instruction.value, index + 1)
        case _:
            return (index + 1,)
