"""Conditions as a person writes them, compiled to programs: C over registers, symbols and memory. Pure.

::

    rdi == 3 && u32[rsp + 8] > 10      counter != 7      (eflags & 0x200) == 0

All values are unsigned words of 64 bits. A name is a register, else a symbol, which stands for its address;
`u8[a]`, `u16[a]`, `u32[a]`, `u64[a]` and `s8[a]` to `s32[a]` are memory at the linear address `a`. Operators
and their precedence are C's: ``|| && | ^ & == != < <= > >= << >> + - * / % - ~ !``; `&&` and `||` evaluate as
little as they need.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gdbstub.predicate import WORD_MASK, Instruction, Op, Program, verify
from hv.errors import HvError

MAX_LENGTH: Final = 1000
_MAX_NESTING: Final = 30
_TOKEN: Final = re.compile(
    r"\s*(0[xX][0-9A-Fa-f]+|[0-9]+|\$?[A-Za-z_.][\w.]*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()\[\]])"
)
_LEVELS: Final[tuple[dict[str, tuple[Op, bool, bool]], ...]] = (
    {"|": (Op.OR, False, False)},
    {"^": (Op.XOR, False, False)},
    {"&": (Op.AND, False, False)},
    {"==": (Op.EQUAL, False, False), "!=": (Op.EQUAL, False, True)},
    {
        "<": (Op.LESS_UNSIGNED, False, False),
        ">": (Op.LESS_UNSIGNED, True, False),
        "<=": (Op.LESS_UNSIGNED, True, True),
        ">=": (Op.LESS_UNSIGNED, False, True),
    },
    {"<<": (Op.SHIFT_LEFT, False, False), ">>": (Op.SHIFT_RIGHT_UNSIGNED, False, False)},
    {"+": (Op.ADD, False, False), "-": (Op.SUB, False, False)},
    {
        "*": (Op.MULTIPLY, False, False),
        "/": (Op.DIVIDE_UNSIGNED, False, False),
        "%": (Op.REMAINDER_UNSIGNED, False, False),
    },
)
"""Binary operators, the weakest first: the operation; are its operands swapped, is its result negated."""
_LOADS: Final = {
    "u8": (Op.LOAD, 1), "u16": (Op.LOAD, 2), "u32": (Op.LOAD, 4), "u64": (Op.LOAD, 8),
    "s8": (Op.LOAD_SIGNED, 1), "s16": (Op.LOAD_SIGNED, 2), "s32": (Op.LOAD_SIGNED, 4),
}  # fmt: skip

IsRegister = Callable[[str], bool]
"""Whether a register that conditions can read has this name."""
FindSymbol = Callable[[str], int | None]
"""The address of a symbol, None when there is none of that name."""


class ExpressionError(HvError):
    """The text is no condition; it says why."""


def compile_condition(text: str, is_register: IsRegister, find_symbol: FindSymbol) -> Program:
    """The program that `text` describes. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"a condition has at most {MAX_LENGTH} characters")
    compiler = _Compiler(_tokens(text), is_register, find_symbol)
    compiler.either()
    if compiler.tokens:
        raise ExpressionError(f"{compiler.tokens[-1]!r} does not belong there")
    compiler.put(Op.END)
    try:
        return verify(compiler.code)
    except ValueError as error:
        raise ExpressionError(f"too long or too deep: {error}") from None


def _tokens(text: str) -> list[str]:
    """The tokens, the first one last."""
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at : at + 20].strip()!r} is not understood")
        found.append(match[1])
        at = match.end()
    return found[::-1]


class _Compiler:
    """One compilation, by descent."""

    def __init__(self, tokens: list[str], is_register: IsRegister, find_symbol: FindSymbol) -> None:
        self.tokens = tokens
        self.code: list[Instruction] = []
        self._is_register = is_register
        self._find_symbol = find_symbol
        self._nesting = 0

    def put(self, op: Op, value: int = 0, name: str = "") -> int:
        self.code.append(Instruction(op, value, name))
        return len(self.code) - 1

    def _jump_here(self, at: int) -> None:
        self.code[at] = Instruction(self.code[at].op, len(self.code))

    def _next(self, *wanted: str) -> str | None:
        return self.tokens.pop() if self.tokens and self.tokens[-1] in wanted else None

    def either(self) -> None:
        self._both()
        while self._next("||"):
            self._shortcut(1, self._both)

    def _both(self) -> None:
        self._binary(0)
        while self._next("&&"):
            self._shortcut(0, lambda: self._binary(0))

    def _shortcut(self, known: int, right: Callable[[], None]) -> None:
        """The left side is on the stack: the result is `known` if it says so, else the right side's truth."""
        if known == 0:
            self.put(Op.NOT)
        decided = self.put(Op.JUMP_IF)
        right()
        self.put(Op.NOT)
        self.put(Op.NOT)
        end = self.put(Op.JUMP)
        self._jump_here(decided)
        self.put(Op.CONSTANT, known)
        self._jump_here(end)

    def _binary(self, level: int) -> None:
        if level == len(_LEVELS):
            self._unary()
            return
        self._binary(level + 1)
        while operator := self._next(*_LEVELS[level]):
            self._binary(level + 1)
            op, swapped, negated = _LEVELS[level][operator]
            if swapped:
                self.put(Op.SWAP)
            self.put(op)
            if negated:
                self.put(Op.NOT)

    def _unary(self) -> None:
        operator = self._next("-", "~", "!", "+")
        if operator is None:
            self._primary()
            return
        self._deeper(self._unary)
        if operator in ("-", "~"):
            self.put(Op.INVERT)
        if operator == "-":
            self.put(Op.CONSTANT, 1)
            self.put(Op.ADD)
        if operator == "!":
            self.put(Op.NOT)

    def _deeper(self, part: Callable[[], None]) -> None:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise ExpressionError("too deep")
        part()
        self._nesting -= 1

    def _primary(self) -> None:
        token = self.tokens.pop() if self.tokens else "the end"
        if token == "(":
            self._deeper(self.either)
            self._close(")")
        elif token[0].isdigit():
            value = int(token, 0 if "x" in token.lower() else 10)
            if value > WORD_MASK:
                raise ExpressionError(f"{token} has more than 64 bits")
            self.put(Op.CONSTANT, value)
        elif token in _LOADS and self._next("["):
            self._deeper(self.either)
            self._close("]")
            self.put(*_LOADS[token])
        else:
            self._name(token)

    def _close(self, bracket: str) -> None:
        if not self._next(bracket):
            raise ExpressionError(f"{bracket!r} is missing")

    def _name(self, token: str) -> None:
        name = token.removeprefix("$")
        if self._is_register(name):
            self.put(Op.REGISTER, 0, name)
            return
        address = self._find_symbol(token)
        if address is None:
            raise ExpressionError(f"{token[:60]!r} is no register and no symbol")
        self.put(Op.CONSTANT, address)
