"""GDB's agent expressions: from bytecode on the wire to `predicate.Program`. Pure.

::

    opcode [operands]    operands are big-endian; const8 to const64, reg, goto and pick carry them
    0x34 n ss ss text 0  printf: n arguments, ss the length of the text with its zero

Conditions are what gdb compiles after ``if``, commands what ``dprintf`` with the style `agent` becomes.
Floating point, tracing and trace variables have no meaning here, and jumps backward no end: such a
program is refused as unsupported, and broken bytecode as malformed.

Source: *Debugging with GDB*, appendix "The GDB Agent Expression Mechanism", sections "General Bytecode
Design" and "Bytecode Descriptions"; section "Packets" of appendix "Remote Protocol" (`Z0`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gdbstub.description import Description
from gdbstub.errors import RequestError, UnsupportedError
from gdbstub.predicate import ALWAYS, WORD_BITS, Conversion, Format, Instruction, Op, Program, Text, verify

MAX_BYTECODE = 4096
MAX_PROGRAMS = 64
"""Conditions, or commands, of one breakpoint."""
MAX_FIELD = 1000
"""Width and precision of a conversion."""

_PLAIN: dict[int, Instruction] = {
    0x02: Instruction(Op.ADD),
    0x03: Instruction(Op.SUB),
    0x04: Instruction(Op.MULTIPLY),
    0x05: Instruction(Op.DIVIDE_SIGNED),
    0x06: Instruction(Op.DIVIDE_UNSIGNED),
    0x07: Instruction(Op.REMAINDER_SIGNED),
    0x08: Instruction(Op.REMAINDER_UNSIGNED),
    0x09: Instruction(Op.SHIFT_LEFT),
    0x0A: Instruction(Op.SHIFT_RIGHT_SIGNED),
    0x0B: Instruction(Op.SHIFT_RIGHT_UNSIGNED),
    0x0E: Instruction(Op.NOT),
    0x0F: Instruction(Op.AND),
    0x10: Instruction(Op.OR),
    0x11: Instruction(Op.XOR),
    0x12: Instruction(Op.INVERT),
    0x13: Instruction(Op.EQUAL),
    0x14: Instruction(Op.LESS_SIGNED),
    0x15: Instruction(Op.LESS_UNSIGNED),
    0x17: Instruction(Op.LOAD, 1),
    0x18: Instruction(Op.LOAD, 2),
    0x19: Instruction(Op.LOAD, 4),
    0x1A: Instruction(Op.LOAD, 8),
    0x27: Instruction(Op.END),
    0x28: Instruction(Op.DUPLICATE),
    0x29: Instruction(Op.POP),
    0x2B: Instruction(Op.SWAP),
    0x33: Instruction(Op.ROTATE),
}
_WITH_OPERAND: dict[int, tuple[Op, int]] = {
    0x16: (Op.SIGN_EXTEND, 1),
    0x20: (Op.JUMP_IF, 2),
    0x21: (Op.JUMP, 2),
    0x22: (Op.CONSTANT, 1),
    0x23: (Op.CONSTANT, 2),
    0x24: (Op.CONSTANT, 4),
    0x25: (Op.CONSTANT, 8),
    0x26: (Op.REGISTER, 2),
    0x2A: (Op.ZERO_EXTEND, 1),
    0x32: (Op.PICK, 1),
}
"""Opcode to operation and bytes of operand."""
_PRINTF = 0x34
_NOTHING = (Instruction(Op.SIGN_EXTEND, WORD_BITS), Instruction(Op.ZERO_EXTEND, WORD_BITS))
_UNSUPPORTED = frozenset(b"\x01\x0c\x0d\x1b\x1c\x1d\x1e\x1f\x2c\x2d\x2e\x2f\x30")
"""Opcodes of floating point, tracing and variables."""


@dataclass(frozen=True, slots=True)
class PointExtras:
    """What stands behind the semicolon of a `Z` packet: bytecode of conditions and commands.

    `persist` asks that the commands outlive the connection.
    """

    conditions: tuple[bytes, ...] = ()
    commands: tuple[bytes, ...] = ()
    persist: bool = False


_EXPRESSION = re.compile(rb"X([0-9a-fA-F]{1,4}),([0-9a-fA-F]*)")


def parse_extras(text: bytes) -> PointExtras:
    """Read ``X len,expr...`` and ``cmds:persist,X len,expr...``. Raises RequestError.

    ::

        Z0,401000,1;X4,26000027X3,220127;cmds:0,X3,220027
    """
    before, found, after = text.partition(b"cmds:")
    persist, commands = b"0", b""
    if found:
        persist, comma, commands = after.partition(b",")
        if not comma or persist not in (b"0", b"1"):
            raise RequestError("cmds: wants 0 or 1 and a comma")
    return PointExtras(_expressions(before), _expressions(commands), persist == b"1")


def _expressions(text: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    text = text.strip(b";")
    position = 0
    while position < len(text):
        match = _EXPRESSION.match(text, position)
        size = int(match[1], 16) if match else 0
        if match is None or len(match[2]) < 2 * size or not 0 < size <= MAX_BYTECODE:
            raise RequestError("expected X length,bytecode")
        if len(found) == MAX_PROGRAMS:
            raise RequestError(f"more than {MAX_PROGRAMS} expressions")
        found.append(bytes.fromhex(match[2][: 2 * size].decode("ascii")))
        position = match.start(2) + 2 * size
        if text[position : position + 1] == b";":
            position += 1
    return tuple(found)


def condition(bytecode: bytes, description: Description) -> Program:
    """The condition that `bytecode` computes. Raises RequestError for what is no program at all.

    One that uses what only gdb can evaluate becomes `ALWAYS`: gdb looks again at every stop.
    """
    try:
        return translate(bytecode, description, command=False)
    except UnsupportedError:
        return ALWAYS


def translate(bytecode: bytes, description: Description, *, command: bool) -> Program:
    """The program in `bytecode`. Raises RequestError, or UnsupportedError when others might know it."""
    if len(bytecode) > MAX_BYTECODE:
        raise RequestError(f"more than {MAX_BYTECODE} bytes of bytecode")
    formats: list[Format] = []
    at_offset = _decode(bytecode, description, formats)
    targets = {i.value for group in at_offset.values() for i in group if i.op in (Op.JUMP, Op.JUMP_IF)}
    code, index_of = _joined(at_offset, targets)
    for index, instruction in enumerate(code):
        if instruction.op in (Op.JUMP, Op.JUMP_IF):
            target = index_of.get(instruction.value)
            if target is None:
                raise RequestError("a jump into an instruction, or out of the program")
            if target <= index:
                raise UnsupportedError("a jump backward")
            code[index] = Instruction(instruction.op, target)
    try:
        return verify(code, tuple(formats), command=command)
    except ValueError as error:
        raise RequestError(f"agent expression: {error}") from None


def _decode(
    bytecode: bytes, description: Description, formats: list[Format]
) -> dict[int, tuple[Instruction, ...]]:
    """Byte offset to instructions, in order. Jumps still name offsets."""
    found: dict[int, tuple[Instruction, ...]] = {}
    position = 0
    while position < len(bytecode):
        start, opcode = position, bytecode[position]
        position += 1
        if (plain := _PLAIN.get(opcode)) is not None:
            found[start] = (plain,)
        elif (row := _WITH_OPERAND.get(opcode)) is not None:
            op, size = row
            operand = int.from_bytes(_taken(bytecode, position, size), "big")
            instruction = _with_operand(op, operand, description)
            found[start] = () if instruction in _NOTHING else (instruction,)
            position += size
        elif opcode == _PRINTF:
            header = _taken(bytecode, position, 3)
            text = _taken(bytecode, position + 3, int.from_bytes(header[1:], "big"))
            # Above the arguments lie a function and a channel, of no use to us.
            found[start] = (Instruction(Op.POP), Instruction(Op.POP), Instruction(Op.PRINT, len(formats)))
            formats.append(parse_format(text, header[0]))
            position += 3 + len(text)
        elif opcode in _UNSUPPORTED:
            raise UnsupportedError(f"agent expression: opcode {opcode:#04x}")
        else:
            raise RequestError(f"agent expression: no opcode {opcode:#04x}")
    return found


def _taken(bytecode: bytes, position: int, size: int) -> bytes:
    taken = bytecode[position : position + size]
    if len(taken) < size:
        raise RequestError("agent expression: cut off")
    return taken


def _with_operand(op: Op, operand: int, description: Description) -> Instruction:
    if op is Op.REGISTER:
        if operand >= len(description.registers):
            raise RequestError(f"agent expression: no register {operand}")
        register = description.registers[operand]
        if register.bits > WORD_BITS:
            raise UnsupportedError(f"agent expression: register {register.name} is wider than a word")
        return Instruction(op, 0, register.name)
    if op in (Op.SIGN_EXTEND, Op.ZERO_EXTEND):
        if operand == 0:
            raise RequestError("agent expression: an extension from 0 bits")
        return Instruction(op, min(operand, WORD_BITS))
    return Instruction(op, operand)


def _joined(
    at_offset: dict[int, tuple[Instruction, ...]], targets: set[int]
) -> tuple[list[Instruction], dict[int, int]]:
    """The code with loads and the extensions right behind them as one, and offset to index."""
    code: list[Instruction] = []
    index_of: dict[int, int] = {}
    for offset, group in at_offset.items():
        joined = _join(code[-1], group[0]) if code and group and offset not in targets else None
        if joined is not None:
            code[-1] = joined
        else:
            index_of[offset] = len(code)
            code += group
    return code, index_of


def _join(before: Instruction, after: Instruction) -> Instruction | None:
    if before.op is Op.LOAD and after.value == 8 * before.value:
        if after.op is Op.SIGN_EXTEND:
            return Instruction(Op.LOAD_SIGNED, before.value)
        if after.op is Op.ZERO_EXTEND:
            return before
    return None


_CONVERSION = re.compile(r"%([-+ #0]*)(\d{0,4})(?:\.(\d{0,4}))?(hh|h|ll|l|j|z|t|L|q)?(.)", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_NAMED_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_BITS = {"hh": 8, "h": 16, None: 32, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64, "q": 64}


def parse_format(text: bytes, arguments: int) -> Format:
    """A C format as it stands between quotes, with its final zero. Raises RequestError, UnsupportedError."""
    if not text.endswith(b"\0") or b"\0" in text[:-1]:
        raise RequestError("agent expression: a format without an end")
    source = text[:-1].decode("utf-8", "replace")
    pieces: list[Text | Conversion] = []
    position = 0
    while (at := source.find("%", position)) >= 0:
        pieces.append(Text(_unescaped(source[position:at])))
        match = _CONVERSION.match(source, at)
        if match is None:
            raise RequestError("agent expression: a format that ends in the middle")
        pieces.append(_conversion(match))
        position = match.end()
    pieces.append(Text(_unescaped(source[position:])))
    wanted = sum(isinstance(piece, Conversion) for piece in pieces)
    if wanted != arguments:
        raise RequestError(f"agent expression: a format of {wanted} values with {arguments}")
    return tuple(piece for piece in pieces if piece != Text(""))


def _conversion(match: re.Match[str]) -> Text | Conversion:
    flags, width, precision, size, kind = match.groups()
    if kind == "%":
        return Text("%")
    kind = "d" if kind == "i" else kind
    if kind not in "duxXocsp" or (kind in "cs" and size is not None) or size == "L":
        raise UnsupportedError(f"agent expression: conversion {match[0]!a}")
    fields = int(width or 0), None if precision is None else int(precision or 0)
    if fields[0] > MAX_FIELD or (fields[1] or 0) > MAX_FIELD:
        raise RequestError(f"agent expression: a field wider than {MAX_FIELD}")
    bits = 64 if kind in "sp" else _BITS[size]
    return Conversion(kind, bits, flags, fields[0], fields[1])


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        octal, digits, name = match.groups()
        if name is not None:
            return _NAMED_ESCAPES.get(name, name)
        return chr(int(octal, 8) & 0xFF if octal is not None else int(digits, 16))

    return _ESCAPED.sub(character, text)
