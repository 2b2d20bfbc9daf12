"""x87 functions of zeros, infinities and NaNs: the tables of SDM vol. 2 and the NaN rules of vol. 1.

test_oracle.py compares the same with the host; here the manual's tables stand.
"""

import pytest

from tests.helpers.accel_machine import CODE, DATA, Machine

IE, DE, ZE, UE, PE, SF, C0, C1, C2, C3 = 1, 2, 4, 0x10, 0x20, 0x40, 0x100, 0x200, 0x400, 0x4000
MASKED = 0x37F
OPCODES = {
    "f2xm1": 0xF0, "fyl2x": 0xF1, "fptan": 0xF2, "fpatan": 0xF3, "fxtract": 0xF4, "fprem1": 0xF5,
    "fprem": 0xF8, "fyl2xp1": 0xF9, "fsincos": 0xFB, "fscale": 0xFD, "fsin": 0xFE, "fcos": 0xFF,
}  # fmt: skip
NAMED = {
    "0": 0, "1": 0x3FFF << 64 | 1 << 63, "2": 0x4000 << 64 | 1 << 63, "3": 0x4000 << 64 | 3 << 62,
    "1/2": 0x3FFE << 64 | 1 << 63, "7": 0x4001 << 64 | 7 << 61, "inf": 0x7FFF << 64 | 1 << 63,
    "2^63": 0x403E << 64 | 1 << 63, "2^70": 0x4045 << 64 | 1 << 63, "nan": 0x7FFF << 64 | 0xC0 << 56 | 5,
    "snan": 0x7FFF << 64 | 0x80 << 56 | 9, "snan quiet": 0x7FFF << 64 | 0xC0 << 56 | 9,
    "nan 7": 0x7FFF << 64 | 0xC0 << 56 | 7, "unnormal": 0x3FFF << 64 | 1, "denormal": 1,
    "pi/2": 0x3FFFC90FDAA22168C235, "pi": 0x4000C90FDAA22168C235, "indefinite": 0xFFFF << 64 | 0xC0 << 56,
}  # fmt: skip


def value(name: str) -> int:
    return NAMED[name[1:]] | 1 << 79 if name[0] == "-" else NAMED[name]


class Unit:
    """Executes one instruction with ST(0), ST(1) ... as given; the rest is empty."""

    def __init__(self, name: str, *stack: str, control: int = MASKED, status: int = 0) -> None:
        machine = Machine(code=bytes((0xD9, OPCODES[name])))
        machine["fctrl"], machine["fstat"] = control, status
        machine["ftag"] = 0xFFFF << 2 * len(stack) & 0xFFFF
        for number, operand in enumerate(stack):
            machine[f"st{number}"] = value(operand)
        machine.run(1)
        assert machine["rip"] == CODE + 2
        status = machine["fstat"]
        self.flags, self.top = status & ~0xB880, status >> 11 & 7
        self.st0, self.st1 = machine["st0"], machine["st1"]


# Result (the new ST(0)) and flags by ST(1), the row, and ST(0), the column; "!": IE with the indefinite.
TABLES = {
    "fyl2x": (
        ["-inf", "-2", "0", "1/2", "1", "2", "inf"],
        {
            "-inf": ["!", "!", "inf", "inf", "!", "-inf", "-inf"],
            "-1": ["!", "!", "inf ZE", "1", "-0", "-1", "-inf"],
            "-0": ["!", "!", "!", "0", "-0", "-0", "!"],
            "0": ["!", "!", "!", "-0", "0", "0", "!"],
            "1": ["!", "!", "-inf ZE", "-1", "0", "1", "inf"],
            "inf": ["!", "!", "-inf", "-inf", "!", "inf", "inf"],
        },
    ),
    "fyl2xp1": (
        ["-inf", "-1/2", "-0", "0", "1", "inf"],
        {
            "-inf": ["!", "inf", "!", "!", "-inf", "-inf"],
            "-2": ["!", "2", "0", "-0", "-2", "-inf"],
            "-0": ["!", "0", "0", "-0", "-0", "!"],
            "0": ["!", "-0", "-0", "0", "0", "!"],
            "2": ["!", "-2", "-0", "0", "2", "inf"],
            "inf": ["!", "-inf", "!", "!", "inf", "inf"],
        },
    ),
    "fpatan": (
        ["0", "1", "inf", "-0", "-1", "-inf"],
        {
            "0": ["0", "0", "0", "pi", "pi", "pi"],
            "-0": ["-0", "-0", "-0", "-pi", "-pi", "-pi"],
            "2": ["pi/2", "*", "0", "pi/2", "*", "pi"],
            "-2": ["-pi/2", "*", "-0", "-pi/2", "*", "-pi"],
            "inf": ["pi/2", "pi/2", "*", "pi/2", "pi/2", "*"],
        },
    ),
    "fprem": (
        ["-inf", "-7", "-0", "0", "7", "inf"],
        {
            "-inf": ["!", "-7", "-0", "0", "7", "!"],
            "0": ["!", "!", "!", "!", "!", "!"],
            "3": ["!", "-1", "-0", "0", "1", "!"],
            "inf": ["!", "-7", "-0", "0", "7", "!"],
        },
    ),
    "fscale": (
        ["-inf", "-1", "-0", "0", "1", "inf"],
        {
            "-inf": ["!", "-0", "-0", "0", "0", "!"],
            "-1": ["-inf", "-1/2", "-0", "0", "1/2", "inf"],
            "0": ["-inf", "-1", "-0", "0", "1", "inf"],
            "1": ["-inf", "-2", "-0", "0", "2", "inf"],
            "inf": ["-inf", "-inf", "!", "!", "inf", "inf"],
        },
    ),
}  # fmt: skip
CELLS = [
    (name, row, column, cell)
    for name, (columns, rows) in TABLES.items()
    for row, cells in rows.items()
    for column, cell in zip(columns, cells, strict=True)
    if cell != "*"
]
QUOTIENT = C0 | C1 | C3


@pytest.mark.parametrize(("name", "row", "column", "cell"), CELLS)
def test_functions_of_two_operands_follow_the_manuals_tables(
    name: str, row: str, column: str, cell: str
) -> None:
    unit = Unit(name, column, row)
    words = cell.split()
    expected = value("indefinite") if cell == "!" else value(words[0])
    flags = IE if cell == "!" else ZE if len(words) > 1 else 0
    assert (hex(unit.st0), unit.flags & ~(PE | QUOTIENT)) == (hex(expected), flags)
    assert unit.top == (1 if name.startswith("fy") or name == "fpatan" else 0)


@pytest.mark.parametrize(
    ("name", "operand", "st0", "st1", "flags"),
    [
        ("f2xm1", "-0", "-0", "0", 0), ("f2xm1", "inf", "inf", "0", 0), ("f2xm1", "-inf", "-1", "0", 0),
        ("fsin", "-0", "-0", "0", 0), ("fsin", "inf", "indefinite", "0", IE), ("fcos", "-0", "1", "0", 0),
        ("fsincos", "-0", "1", "-0", 0), ("fsincos", "inf", "indefinite", "indefinite", IE),
        ("fptan", "-0", "1", "-0", 0), ("fptan", "-inf", "indefinite", "indefinite", IE),
        ("fptan", "nan", "nan", "nan", 0), ("fsincos", "snan", "snan quiet", "snan quiet", IE),
        ("fxtract", "-0", "-0", "-inf", ZE), ("fxtract", "-inf", "-inf", "inf", 0),
        ("fxtract", "-7", "-7", "2", 0), ("fxtract", "unnormal", "indefinite", "indefinite", IE),
        ("fsin", "2^63", "2^63", "0", C2), ("fptan", "2^63", "2^63", "0", C2),
    ],
)  # fmt: skip
def test_functions_of_one_operand(name: str, operand: str, st0: str, st1: str, flags: int) -> None:
    unit = Unit(name, operand)
    significand = {("fxtract", "-7"): 0xBFFF << 64 | 7 << 61}.get((name, operand), value(st0))
    assert (hex(unit.st0), hex(unit.st1), unit.flags) == (hex(significand), hex(value(st1)), flags)
    pushes = name in ("fptan", "fsincos", "fxtract") and not flags & C2
    assert unit.top == (7 if pushes else 0)


@pytest.mark.parametrize("name", ["fyl2x", "fyl2xp1", "fpatan", "fprem", "fprem1", "fscale"])
@pytest.mark.parametrize(
    ("st0", "st1", "result", "flags"),
    [
        ("nan", "nan 7", "nan 7", 0),  # the larger significand
        ("nan 7", "nan", "nan 7", 0),
        ("-nan", "nan", "nan", 0),
        ("snan", "nan", "nan", IE),  # the quiet one
        ("nan", "snan", "nan", IE),
        ("snan", "1", "snan quiet", IE),
        ("denormal", "-nan", "-nan", 0),
        ("nan", "unnormal", "indefinite", IE),
    ],
)
def test_nans_of_two_operands(name: str, st0: str, st1: str, result: str, flags: int) -> None:
    unit = Unit(name, st0, st1)
    assert (hex(unit.st0), unit.flags) == (hex(value(result)), flags)


@pytest.mark.parametrize(
    ("name", "unmasked"), [("fyl2x", IE), ("fyl2x", ZE), ("fsincos", IE), ("fxtract", ZE), ("fprem", DE)]
)
def test_an_unmasked_exception_of_the_operands_leaves_the_stack_alone(name: str, unmasked: int) -> None:
    operands = {IE: ["-inf", "1"], ZE: ["0", "1"], DE: ["denormal", "1"]}[unmasked]
    unit = Unit(name, *operands, control=MASKED & ~unmasked)
    assert (unit.st0, unit.st1, unit.top) == (value(operands[0]), value(operands[1]), 0)
    assert unit.flags == unmasked


@pytest.mark.parametrize("name", OPCODES)
def test_an_empty_register_gives_the_indefinite(name: str) -> None:
    unit = Unit(name, status=C1)
    assert (unit.st0, unit.flags) == (value("indefinite"), IE | SF)


@pytest.mark.parametrize("name", ["fptan", "fsincos", "fxtract"])
def test_a_full_stack_gives_two_indefinites(name: str) -> None:
    unit = Unit(name, *["1"] * 8)
    assert (unit.st0, unit.st1, unit.top) == (value("indefinite"), value("indefinite"), 7)
    assert unit.flags == IE | SF | C1


@pytest.mark.parametrize("name", ["fprem", "fprem1"])
def test_a_remainder_of_distant_exponents_is_partial(name: str) -> None:
    assert Unit(name, "2^70", "3").flags == C2
    # the exponents are 69 apart: 32 + 69 % 32 bits, so 2^70 modulo 3 * 2^32
    assert Unit(name, "2^70", "3").st0 == (0x3FFF + 32) << 64 | 1 << 63


def test_quotient_bits_of_a_remainder() -> None:
    assert Unit("fprem", "7", "3").flags == C3  # 2
    assert Unit("fprem", "7", "2").flags == C3 | C1  # 3
    assert Unit("fprem1", "7", "2").flags == C0  # 4, nearest: -1
    assert Unit("fprem1", "7", "2").st0 == value("-1")


@pytest.mark.parametrize(
    ("digits", "number"),
    [("00000000000000000012", 12), ("80999999999999999999", -(10**18 - 1)), ("0000000000000000000f", 15),
     ("000000000000000000a0", 100), ("7f000000000000000f0a", 15 * 100 + 10)],
)  # fmt: skip
def test_decimal_digits_above_nine_count_as_what_they_are(digits: str, number: int) -> None:
    machine = Machine(code=bytes.fromhex("df2424 df3c24"))  # fbld [rsp]; fistp qword [rsp]
    machine["rsp"], machine["fctrl"], machine["ftag"] = DATA, MASKED, 0xFFFF
    machine.write(DATA, bytes.fromhex(digits)[::-1])
    machine.run(2)
    assert int.from_bytes(machine.read(DATA, 8), "little", signed=True) == number


def test_a_decimal_zero_keeps_its_sign() -> None:
    machine = Machine(code=bytes.fromhex("df2424"))
    machine["rsp"], machine["fctrl"], machine["ftag"] = DATA, MASKED, 0xFFFF
    machine.write(DATA, bytes(9) + b"\x80")
    machine.run(1)
    assert machine["st0"] == 1 << 79
