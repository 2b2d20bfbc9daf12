"""Conditions as a person writes them: what they compile to computes what C would."""

import random

import pytest

from gdbstub.evaluator import evaluate
from hv.debug.expression import ExpressionError, compile_condition

WORD = 1 << 64
REGISTERS = {"rax": 5, "rbx": 0, "rsp": 0x8000, "eflags": 0x246}
SYMBOLS = {"counter": 0x1000, "u8": 0x2000, "kmain.part.0": 0x3000}
MEMORY = bytes(range(0x80, 0x100)) * 2


def read_memory(address: int, length: int) -> bytes | None:
    offset = address - 0x1000
    return MEMORY[offset : offset + length] if 0 <= offset <= len(MEMORY) - length else None


def value(text: str) -> int:
    program = compile_condition(text, REGISTERS.__contains__, SYMBOLS.get)
    return evaluate(program, REGISTERS.get, read_memory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("0x1F", 31),
        ("$rax", 5),
        ("counter", 0x1000),
        ("u8", 0x2000),
        ("kmain.part.0 + 1", 0x3001),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 3 - 2", 5),
        ("100 / 7 % 5", 4),
        ("1 << 4 + 1", 32),
        ("1 | 2 ^ 3 & 6", 1),
        ("6 & 3 == 3", 0),
        ("-1", WORD - 1),
        ("~0 == -1", 1),
        ("!rax || !rbx", 1),
        ("- - 3", 3),
        ("3 < 4 && 4 <= 4 && 4 >= 4 && 5 > 4 && 5 != 4", 1),
        ("-1 < 1", 0),
        ("2 && 4", 1),
        ("0 || 8", 1),
        ("rbx && 1 / rbx", 0),
        ("1 || 1 / 0", 1),
        ("0 || 0 && 1 || 2", 1),
        ("u8[counter]", 0x80),
        ("s8[counter]", WORD - 0x80),
        ("u16[counter + 1]", 0x8281),
        ("s32[0x1000]", WORD - (WORD - 0x83828180) % (1 << 32)),
        ("u64[counter]", 0x8786858483828180),
        ("u8[0x1000 + (u8[counter] & 3)] >> 4", 8),
    ],
)
def test_expressions_have_the_values_of_c(text: str, expected: int) -> None:
    assert value(text) == expected


def test_random_expressions_agree_with_python() -> None:
    rng = random.Random(7)
    for _ in range(500):
        text = str(rng.randrange(20))
        for _ in range(rng.randrange(8)):
            text += f" {rng.choice(('+', '-', '*', '&', '|', '^'))} {rng.randrange(9)}"
        assert value(text) == eval(text) % WORD, text


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "rax rbx", "(1", "u8[1", "1)", "nothing", "1 = 2", "'a'", "0x10000000000000000", "08x"],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        value(text)
