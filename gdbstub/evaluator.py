"""The reference evaluator of `gdbstub.predicate`'s programs. Pure; slow, and meant to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from gdbstub.errors import StubError
from gdbstub.predicate import MAX_CODE, WORD_BITS, WORD_MASK, Conversion, Format, Op, Program, Text

MAX_STRING = 4096
"""Bytes that one ``%s`` prints."""
_SIGN = 1 << (WORD_BITS - 1)


class EvaluationError(StubError):
    """A program met something that it cannot go on from. `at` is the instruction's index."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(at, why)
        self.at = at
        self.why = why

    def __str__(self) -> str:
        return f"{self.why} (instruction {self.at})"


def signed(word: int) -> int:
    """A word as a two's complement number."""
    return (word ^ _SIGN) - _SIGN


def sign_extend(word: int, bits: int) -> int:
    """The low `bits` bits of `word`, sign-extended to a word."""
    sign = 1 << (bits - 1)
    return (((word & ((1 << bits) - 1)) ^ sign) - sign) & WORD_MASK


def _divide_signed(a: int, b: int) -> int:
    quotient = abs(signed(a)) // abs(signed(b))
    return -quotient if (signed(a) < 0) != (signed(b) < 0) else quotient


def _remainder_signed(a: int, b: int) -> int:
    remainder = abs(signed(a)) % abs(signed(b))
    return -remainder if signed(a) < 0 else remainder


_BINARY: dict[Op, Callable[[int, int], int]] = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MULTIPLY: lambda a, b: a * b,
    Op.DIVIDE_SIGNED: _divide_signed,
    Op.DIVIDE_UNSIGNED: lambda a, b: a // b,
    Op.REMAINDER_SIGNED: _remainder_signed,
    Op.REMAINDER_UNSIGNED: lambda a, b: a % b,
    Op.SHIFT_LEFT: lambda a, b: a << b if b < WORD_BITS else 0,
    Op.SHIFT_RIGHT_SIGNED: lambda a, b: signed(a) >> min(b, WORD_BITS),
    Op.SHIFT_RIGHT_UNSIGNED: lambda a, b: a >> b if b < WORD_BITS else 0,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.EQUAL: lambda a, b: int(a == b),
    Op.LESS_SIGNED: lambda a, b: int(signed(a) < signed(b)),
    Op.LESS_UNSIGNED: lambda a, b: int(a < b),
}
"""`a` is below `b` on the stack."""

ReadRegister = Callable[[str], int | None]
"""A register's value, zero-extended; None when there is none."""
ReadMemory = Callable[[int, int], bytes | None]
"""The bytes at (address, length), all of them or None; without side effects."""


def evaluate(
    program: Program,
    read_register: ReadRegister,
    read_memory: ReadMemory,
    *,
    write: Callable[[str], None] | None = None,
    fuel: int = MAX_CODE,
    byte_order: Literal["little", "big"] = "little",
) -> int:
    """Run `program`; its result, 0 for a command. `write` takes what it prints. Raises EvaluationError."""
    code, stack, index = program.code, list[int](), 0
    while True:
        fuel -= 1
        if fuel < 0:
            raise EvaluationError(index, "no fuel left")
        instruction = code[index]
        op, value = instruction.op, instruction.value
        following = index + 1
        match op:
            case Op.CONSTANT:
                stack.append(value)
            case Op.REGISTER:
                content = read_register(instruction.name)
                if content is None:
                    raise EvaluationError(index, f"register {instruction.name} cannot be read")
                stack.append(content & WORD_MASK)
            case Op.LOAD | Op.LOAD_SIGNED:
                word = _load(read_memory, stack.pop(), value, byte_order, index)
                stack.append(sign_extend(word, 8 * value) if op is Op.LOAD_SIGNED else word)
            case Op.SIGN_EXTEND:
                stack.append(sign_extend(stack.pop(), value))
            case Op.ZERO_EXTEND:
                stack.append(stack.pop() & ((1 << value) - 1))
            case Op.INVERT:
                stack.append(stack.pop() ^ WORD_MASK)
            case Op.NOT:
                stack.append(int(stack.pop() == 0))
            case Op.JUMP:
                following = value
            case Op.JUMP_IF:
                following = value if stack.pop() else following
            case Op.DUPLICATE:
                stack.append(stack[-1])
            case Op.POP:
                stack.pop()
            case Op.SWAP:
                stack[-2:] = stack[-1], stack[-2]
            case Op.PICK:
                stack.append(stack[-1 - value])
            case Op.ROTATE:
                stack[-3:] = stack[-1], stack[-3], stack[-2]
            case Op.PRINT:
                text = _rendered(program.formats[value], stack, read_memory)
                if write is not None:
                    write(text)
            case Op.END:
                return stack[-1] if stack else 0
            case _:
                right, left = stack.pop(), stack.pop()
                if right == 0 and Op.DIVIDE_SIGNED <= op <= Op.REMAINDER_UNSIGNED:
                    raise EvaluationError(index, "division by zero")
                stack.append(_BINARY[op](left, right) & WORD_MASK)
        index = following


def _load(
    read_memory: ReadMemory, address: int, size: int, byte_order: Literal["little", "big"], index: int
) -> int:
    first = min(size, WORD_MASK + 1 - address)
    data = read_memory(address, first)
    if data is not None and first < size:
        rest = read_memory(0, size - first)
        data = None if rest is None else data + rest
    if data is None or len(data) != size:
        raise EvaluationError(index, f"memory at {address:#x} cannot be read")
    return int.from_bytes(data, byte_order)


def holds(conditions: Sequence[Program], read_register: ReadRegister, read_memory: ReadMemory) -> bool:
    """Whether a breakpoint with these conditions stops: none are given, one is true, or one fails."""
    for program in conditions:
        try:
            if evaluate(program, read_register, read_memory):
                return True
        except EvaluationError:
            return True
    return not conditions


def _rendered(pieces: Format, stack: list[int], read_memory: ReadMemory) -> str:
    """The text of a format, its arguments popped from `stack`."""
    parts = [piece.text if isinstance(piece, Text) else _converted(piece, stack.pop(), read_memory)
             for piece in pieces]  # fmt: skip
    return "".join(parts)


def _converted(conversion: Conversion, word: int, read_memory: ReadMemory) -> str:
    kind, flags, precision = conversion.kind, conversion.flags, conversion.precision
    word &= (1 << conversion.bits) - 1
    match kind:
        case "s":
            limit = MAX_STRING if precision is None else min(precision, MAX_STRING)
            body = _string_at(word, limit, read_memory).decode("utf-8", "replace")
        case "c":
            body = chr(word & 0xFF)
        case "p":
            body = f"{word:#x}"
        case "d":
            number = signed(sign_extend(word, conversion.bits))
            sign = "-" if number < 0 else "+" if "+" in flags else " " if " " in flags else ""
            return _padded(conversion, sign, _digits(abs(number), "d", precision))
        case _:
            digits = _digits(word, "d" if kind == "u" else kind, precision)
            prefix = ""
            if "#" in flags and kind == "o" and not digits.startswith("0"):
                digits = "0" + digits
            elif "#" in flags and kind in "xX" and word:
                prefix = "0" + kind
            return _padded(conversion, prefix, digits)
    return body.ljust(conversion.width) if "-" in flags else body.rjust(conversion.width)


def _digits(number: int, form: str, precision: int | None) -> str:
    """At least `precision` digits; none at all for 0 with precision 0."""
    return "" if number == 0 and precision == 0 else format(number, form).rjust(precision or 0, "0")


def _padded(conversion: Conversion, prefix: str, digits: str) -> str:
    if "-" in conversion.flags:
        return (prefix + digits).ljust(conversion.width)
    if "0" in conversion.flags and conversion.precision is None:
        return prefix + digits.rjust(conversion.width - len(prefix), "0")
    return (prefix + digits).rjust(conversion.width)


def _string_at(address: int, limit: int, read_memory: ReadMemory) -> bytes:
    """The bytes at `address` before the first zero or what cannot be read."""
    found = bytearray()
    while len(found) < limit:
        # Byte by byte near what may be the end of the readable memory, else in chunks within a page.
        at = (address + len(found)) & WORD_MASK
        size = min(64 - at % 64, limit - len(found))
        chunk = read_memory(at, size) or read_memory(at, 1)
        if not chunk:
            break
        head, zero, _ = chunk.partition(b"\0")
        found += head
        if zero:
            break
    return bytes(found)
