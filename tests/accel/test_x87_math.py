"""The x87's transcendental functions, correctly rounded in every mode; judged by 400-bit integers."""

import random
from collections.abc import Callable
from fractions import Fraction

import pytest

from tests.helpers.accel_machine import CODE, Machine

BITS = 400
ONE = 1 << BITS
PI_66 = Fraction(0xC90FDAA22168C234C, 1 << 66)  # SDM vol. 1, "Approximation of Pi"
NEAREST, DOWN, UP, ZERO = range(4)
DE, UE, OE, PE, C1, C2 = 2, 0x10, 8, 0x20, 0x200, 0x400
OPCODES = {
    "f2xm1": "d9f0", "fyl2x": "d9f1", "fptan": "d9f2", "fpatan": "d9f3", "fyl2xp1": "d9f9", "fsincos": "d9fb",
    "fsin": "d9fe", "fcos": "d9ff",
}  # fmt: skip


# ---- the oracle: functions of rationals, to about 2^-390


def exp(x: Fraction) -> Fraction:
    step = int(x * ONE) >> 8
    total = term = ONE
    n = 1
    while term:
        term = term * step // ONE // n
        if term == -1:
            break
        total, n = total + term, n + 1
    value = Fraction(total, ONE)
    for _ in range(8):
        value = Fraction(int(value * value * ONE), ONE)
    return value


def ln(x: Fraction) -> Fraction:
    """2 atanh((x-1)/(x+1)) after scaling into [1/2, 2)."""
    k = 0
    while x >= 2:
        x, k = x / 2, k + 1
    while x < Fraction(1, 2):
        x, k = x * 2, k - 1
    return atanh2((x - 1) / (x + 1)) + k * atanh2(Fraction(1, 3))


def atanh2(s: Fraction) -> Fraction:
    """2 atanh(s), to a relative 2^-390."""
    if not s:
        return s
    square = int(s * s * ONE)
    total = term = ONE
    n = 1
    while term:
        term = term * square >> BITS
        n += 2
        total += term // n
    return 2 * s * Fraction(total, ONE)


def atan(t: Fraction) -> Fraction:
    """For t >= 0, to a relative 2^-380."""
    if t > 1:
        return PI / 2 - atan(1 / t)
    base = Fraction(0)
    for i in (8, 4, 2, 1):  # atan(t) = atan(c) + atan((t - c) / (1 + t c))
        c = Fraction(i, 16)
        if t >= c:
            base += atan_small(c)
            t = (t - c) / (1 + t * c)
            t = Fraction(int(t * ONE), ONE) if base else t
    return base + atan_small(t)


def atan_small(t: Fraction) -> Fraction:
    square = int(t * t * ONE)
    total = term = ONE
    n, sign = 1, 1
    while term:
        term = term * square >> BITS
        n, sign = n + 2, -sign
        total += sign * (term // n)
    return t * Fraction(total, ONE)


PI = 4 * (4 * atan_small(Fraction(1, 5)) - atan_small(Fraction(1, 239)))
LN2 = ln(Fraction(2))


def sine(r: Fraction) -> Fraction:
    """|r| <= 1, to a relative 2^-390."""
    square = int(r * r * ONE)
    total = term = ONE
    n = 1
    while term:
        term = term * square // ONE // ((n + 1) * (n + 2))
        n += 2
        total += term if n % 4 == 1 else -term
    return r * Fraction(total, ONE)


def cosine(r: Fraction) -> Fraction:
    half = sine(r / 2)
    return 1 - 2 * half * half


def sincos(x: Fraction) -> tuple[Fraction, Fraction]:
    quadrant = round(x / (PI_66 / 2))
    r = x - quadrant * PI_66 / 2
    s, c = sine(r), cosine(r)
    return ((s, c), (c, -s), (-s, -c), (-c, s))[quadrant % 4]


def atan2(y: Fraction, x: Fraction) -> Fraction:
    angle = atan(abs(y) / abs(x))
    return (1 if y > 0 else -1) * (angle if x > 0 else PI - angle)


def exp2m1(x: Fraction) -> Fraction:
    if abs(x) < Fraction(1, 1 << 80):  # the first terms: nothing cancels
        t = x * LN2
        return t * (1 + t / 2 + t * t / 6)
    return exp(x * LN2) - 1


def log2(x: Fraction) -> Fraction:
    return ln(x) / LN2


def log2p1(x: Fraction) -> Fraction:
    return atanh2(x / (2 + x)) / LN2 if abs(x) < Fraction(1, 2) else log2(1 + x)


# ---- numbers of the x87


def encode(value: Fraction, mode: int) -> bytes:
    """`value`, not 0, correctly rounded, as 10 bytes; overflow and underflow masked."""
    size = abs(value)
    e = size.numerator.bit_length() - size.denominator.bit_length()
    e = e if size >= Fraction(2) ** e else e - 1
    e = max(e, -16382)
    scaled = size * Fraction(2) ** (63 - e)
    m = int(scaled)
    rest = scaled - m
    away = {NEAREST: rest > Fraction(1, 2), ZERO: False, DOWN: value < 0 and rest, UP: value > 0 and rest}[
        mode
    ]
    m += bool(away)
    if m == 1 << 64:
        m, e = m >> 1, e + 1
    if e > 16383:
        infinite = mode == NEAREST or mode == (UP if value > 0 else DOWN)
        m, e = (1 << 63, 16384) if infinite else ((1 << 64) - 1, 16383)
    head = (e + 16383 if m >> 63 else 0) | (0x8000 if value < 0 else 0)
    return m.to_bytes(8, "little") + head.to_bytes(2, "little")


def decode(data: bytes) -> Fraction:
    m, head = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
    value = m * Fraction(2) ** (max(head & 0x7FFF, 1) - 16383 - 63)
    return -value if head >> 15 else value


def number(chance: random.Random, low: int, high: int) -> Fraction:
    """A number with 64, or few, significant bits and 2^low <= |it| < 2^high."""
    bits = chance.choice((64, 64, 64, 3))
    m = chance.getrandbits(bits) | 1 << bits - 1
    return chance.choice((-1, 1)) * m * Fraction(2) ** (chance.randrange(low, high) - bits + 1)


class Unit:
    """One machine that executes single x87 instructions."""

    def __init__(self) -> None:
        self.machine = Machine()

    def run(self, name: str, operands: list[bytes], control: int = 0x37F) -> tuple[bytes, bytes, int]:
        """ST(0) and ST(1) afterwards and the status word. The last operand is ST(0)."""
        machine = self.machine
        machine.write(CODE, bytes.fromhex(OPCODES[name]))
        machine["rip"] = CODE
        machine["fstat"], machine["fctrl"] = 0, control
        for number_, data in enumerate(reversed(operands)):
            machine[f"st{number_}"] = int.from_bytes(data, "little")
        machine["ftag"] = 0xFFFF << 2 * len(operands) & 0xFFFF
        machine.run(1)
        assert machine["rip"] == CODE + 2
        st = [machine[f"st{i}"].to_bytes(10, "little") for i in (0, 1)]
        return st[0], st[1], machine["fstat"]


@pytest.fixture(scope="module")
def unit() -> Unit:
    return Unit()


CASES: dict[str, tuple[Callable[..., Fraction], list[tuple[int, int]]]] = {
    "f2xm1": (exp2m1, [(-70, 0)]),
    "fyl2x": (lambda y, x: y * log2(abs(x)), [(-60, 60), (-3, 3)]),
    "fyl2xp1": (lambda y, x: y * log2p1(x), [(-60, 60), (-70, -2)]),
    "fpatan": (atan2, [(-40, 40), (-40, 40)]),
    "fsin": (lambda x: sincos(x)[0], [(-40, 63)]),
    "fcos": (lambda x: sincos(x)[1], [(-40, 63)]),
    "fptan": (lambda x: sincos(x)[0] / sincos(x)[1], [(-40, 63)]),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_correctly_rounded_in_every_mode(unit: Unit, name: str) -> None:
    function, ranges = CASES[name]
    chance = random.Random(name)
    for turn in range(400):
        mode = turn % 4
        values = [number(chance, low, high) for low, high in ranges]
        if name == "fyl2x":
            values[1] = abs(values[1])
        want = function(*values)
        if not want or want.denominator == 1:
            continue
        st0, st1, status = unit.run(name, [encode(v, ZERO) for v in values], 0x37F | mode << 10)
        got = st1 if name == "fptan" else st0
        assert got == encode(want, mode), (values, mode)
        up = abs(decode(got)) > abs(want)
        assert (status & (PE | C2), bool(status & C1)) == (PE, up), (values, mode)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("name", ["fsin", "fptan", "fpatan"])
def test_tiny_arguments_are_rounded_to_the_right_side(unit: Unit, name: str, mode: int) -> None:
    chance = random.Random(mode)
    for x in [number(chance, -16444, -40) for _ in range(50)]:
        operand = encode(x, ZERO)
        third = decode(operand) ** 3 / 3
        want = decode(operand) + {"fsin": -third / 2, "fptan": third, "fpatan": -third}[name]
        operands = [operand, encode(Fraction(1), ZERO)] if name == "fpatan" else [operand]
        st0, st1, _ = unit.run(name, operands, 0x37F | mode << 10)
        assert (st1 if name == "fptan" else st0) == encode(want, mode)


def test_sine_and_cosine_together_are_those_alone(unit: Unit) -> None:
    chance = random.Random(1)
    for _ in range(50):
        x = encode(number(chance, -20, 60), ZERO)
        cos, sin, status = unit.run("fsincos", [x])
        assert (sin, cos) == (unit.run("fsin", [x])[0], unit.run("fcos", [x])[0])
        assert status >> 11 & 7 == 7


@pytest.mark.parametrize("name", ["fsin", "fcos", "fptan", "fsincos"])
def test_an_angle_of_two_to_the_63_is_not_reduced(unit: Unit, name: str) -> None:
    x = encode(Fraction(2) ** 63, ZERO)
    st0, _, status = unit.run(name, [x])
    assert (st0, status & (C2 | PE)) == (x, C2)


def test_tangent_pushes_one(unit: Unit) -> None:
    st0, _, status = unit.run("fptan", [encode(Fraction(1, 3), ZERO)])
    assert (decode(st0), status >> 11 & 7) == (Fraction(1), 7)


@pytest.mark.parametrize("mode", range(4))
def test_angles_of_the_axes_are_rounded_multiples_of_pi(unit: Unit, mode: int) -> None:
    zero, infinity, one = bytes(10), b"\0" * 7 + b"\x80\xff\x7f", encode(Fraction(1), ZERO)

    def minus(data: bytes) -> bytes:
        return data[:9] + bytes([data[9] | 0x80])

    for y, x, quarters in [
        (zero, minus(one), 4), (zero, minus(zero), 4), (one, zero, 2), (infinity, one, 2),
        (infinity, infinity, 1), (infinity, minus(infinity), 3), (one, minus(infinity), 4), (one, one, 1),
    ]:  # fmt: skip
        for sign in (1, -1):
            st0, _, status = unit.run("fpatan", [y if sign > 0 else minus(y), x], 0x37F | mode << 10)
            assert st0 == encode(sign * PI * quarters / 4, mode)
            assert status & PE


def test_denormal_results_underflow_and_denormal_operands_are_noted(unit: Unit) -> None:
    tiny = Fraction(3, 1 << 16440)
    st0, _, status = unit.run("fsin", [encode(tiny, ZERO)])
    assert (decode(st0), status & (DE | UE | PE)) == (tiny, DE | UE | PE)
    st0, _, status = unit.run("fsin", [encode(tiny, ZERO)], 0xF7F)  # toward zero
    assert decode(st0) == tiny - Fraction(1, 1 << 16445)
    st0, _, status = unit.run("fpatan", [encode(tiny, ZERO), encode(Fraction(2) ** 40, ZERO)])
    assert (st0, status & (DE | UE | PE)) == (bytes(10), DE | UE | PE)


def test_unmasked_underflow_and_overflow_give_the_scaled_result(unit: Unit) -> None:
    least = Fraction(1, 1 << 16382)
    st0, _, status = unit.run("f2xm1", [encode(least, ZERO)], 0x36F)
    assert (st0, status & (UE | 0x80)) == (encode(exp2m1(least) * Fraction(2) ** 24576, NEAREST), UE | 0x80)
    great = Fraction(2) ** 16383
    st0, _, status = unit.run("fyl2x", [encode(great, ZERO), encode(Fraction(3), ZERO)], 0x377)
    assert status & (OE | UE) == 0
    st0, _, status = unit.run("fyl2x", [encode(great, ZERO), encode(great, ZERO)], 0x377)
    assert (decode(st0), status & (OE | 0x80)) == (great * 16383 / 2**24576, OE | 0x80)
    assert unit.run("fyl2x", [encode(great, ZERO), encode(great, ZERO)])[0] == b"\0" * 7 + b"\x80\xff\x7f"


def test_an_unmasked_denormal_operand_leaves_the_registers_alone(unit: Unit) -> None:
    x = encode(Fraction(3, 1 << 16440), ZERO)
    st0, _, status = unit.run("fcos", [x], 0x37D)
    assert (st0, status & 0x3F) == (x, DE)


@pytest.mark.parametrize("value", [Fraction(3, 2), Fraction(-7), Fraction(2) ** 100])
def test_exponents_beyond_one_come_back_as_they_are(unit: Unit, value: Fraction) -> None:
    assert unit.run("f2xm1", [encode(value, ZERO)])[0] == encode(value, ZERO)


def test_exponents_of_one_are_exact(unit: Unit) -> None:
    for mode in range(4):
        results = [
            decode(unit.run("f2xm1", [encode(Fraction(v), ZERO)], 0x37F | mode << 10)[0]) for v in (1, -1)
        ]
        assert results == [1, Fraction(-1, 2)]
