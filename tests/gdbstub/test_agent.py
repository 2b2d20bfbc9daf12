"""Agent expressions: gdb's bytecode becomes a verified program, whatever the bytes."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub.agent import PointExtras, condition, parse_extras, parse_format, translate
from gdbstub.arch.x86_64 import x86_64
from gdbstub.errors import RequestError, UnsupportedError
from gdbstub.evaluator import EvaluationError, evaluate, holds
from gdbstub.predicate import ALWAYS, Conversion, Instruction, Op, Program, Text, verify

DESCRIPTION = x86_64()
MASK = (1 << 64) - 1
MEMORY = bytes(range(256))
LIBC = ctypes.CDLL(None)


def register(name: str) -> int | None:
    return {"rax": 9, "rdi": 0xFFFF_FFFF_FFFF_FFFE, "rcx": 0}.get(name)


def memory(address: int, length: int) -> bytes | None:
    return MEMORY[address : address + length] if address + length <= len(MEMORY) else None


def value(bytecode: str) -> int:
    return evaluate(condition(bytes.fromhex(bytecode), DESCRIPTION), register, memory)


# What gdb 13.1 sends for these conditions.
GDB_CONDITIONS = [
    ("260000164022091327", 1),  # $rax == 9
    ("2600001640220e1327", 0),  # $rax == 14
    (
        "260000164022031320000e210021232000172202140e20001c2100212201210023220020003a2600051640162022fb1608"
        "1420003a220021003c220127",
        0,
    ),  # $rax == 3 && *(unsigned char*)0x2000 >= 2 || (int)$rdi < -5
]


@pytest.mark.parametrize(("bytecode", "expected"), GDB_CONDITIONS)
def test_a_condition_that_gdb_compiled_has_its_value(bytecode: str, expected: int) -> None:
    assert value(bytecode) == expected


@pytest.mark.parametrize(
    ("bytecode", "expected"),
    [
        ("22 05 22 03 02 27", 8),
        ("22 05 22 07 03 27", MASK - 1),
        ("22 80 16 08 27", MASK - 127),
        ("23 ff 80 2a 08 27", 0x80),
        ("22 f8 16 08 22 03 05 27", MASK - 1),  # -8 / 3 = -2
        ("22 f8 16 08 22 03 07 27", MASK - 1),  # -8 % 3 = -2
        ("22 08 22 fd 16 08 07 27", 2),  # 8 % -3 = 2
        ("25 8000000000000000 22 ff 16 08 05 27", 1 << 63),
        ("25 8000000000000000 22 ff 16 08 07 27", 0),
        ("22 f8 16 08 22 02 06 27", (MASK - 7) // 2),
        ("22 01 22 40 09 27", 0),
        ("22 80 16 08 22 7f 0a 27", MASK),
        ("22 80 16 08 22 3f 0b 27", 1),
        ("22 ff 16 08 22 01 14 27", 1),
        ("22 ff 16 08 22 01 15 27", 0),
        ("22 00 0e 27", 1),
        ("22 00 12 27", MASK),
        ("22 fe 17 27", 0xFE),
        ("22 fe 17 16 08 27", MASK - 1),
        ("22 10 18 27", 0x1110),
        ("22 10 19 27", 0x13121110),
        ("22 10 1a 27", 0x1716151413121110),
        ("22 01 22 02 22 03 33 27", 2),  # 1 2 3 -> 3 1 2
        ("22 01 22 02 22 03 32 02 27", 1),
        ("22 01 22 02 2b 27", 1),
        ("22 07 28 02 27", 14),
        ("22 07 22 08 29 27", 7),
        ("22 01 20 0008 22 63 27 22 05 27", 5),
        ("21 0005 22 63 22 05 27", 5),
        ("26 0005 27", MASK - 1),
    ],
)
def test_each_operation_does_what_the_manual_says(bytecode: str, expected: int) -> None:
    assert value(bytecode) == expected


def test_a_load_and_its_extension_are_one_instruction_unless_one_jumps_between_them() -> None:
    joined = condition(bytes.fromhex("22 fe 17 16 08 27"), DESCRIPTION)
    assert joined.code[1] == Instruction(Op.LOAD_SIGNED, 1)
    apart = condition(bytes.fromhex("22 fe 28 20 0007 17 16 08 27"), DESCRIPTION)
    assert [i.op for i in apart.code][3:5] == [Op.LOAD, Op.SIGN_EXTEND]


@pytest.mark.parametrize(
    ("bytecode", "why"),
    [
        ("22 01 22 00 05 27", "division by zero"),
        ("22 01 22 00 08 27", "division by zero"),
        ("22 ff 1a 27", "memory"),
        ("26 0003 27", "register rdx"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_and_reports_the_stop(bytecode: str, why: str) -> None:
    program = condition(bytes.fromhex(bytecode), DESCRIPTION)
    with pytest.raises(EvaluationError, match=why):
        evaluate(program, register, memory)
    assert holds([program], register, memory)


def test_fuel_is_an_instruction_each() -> None:
    program = condition(bytes.fromhex("22 05 22 03 02 27"), DESCRIPTION)
    assert evaluate(program, register, memory, fuel=4) == 8
    with pytest.raises(EvaluationError, match="fuel"):
        evaluate(program, register, memory, fuel=3)


def test_several_conditions_are_alternatives_and_none_always_holds() -> None:
    true = condition(bytes.fromhex("22 01 27"), DESCRIPTION)
    false = condition(bytes.fromhex("22 00 27"), DESCRIPTION)
    assert holds([], register, memory)
    assert holds([false, true], register, memory)
    assert not holds([false, false], register, memory)


@pytest.mark.parametrize(
    "bytecode",
    [
        "",
        "27",
        "22",
        "22 01",
        "22 01 22",
        "02 27",
        "22 01 02 27",
        "22 01 20 ffff 27",
        "22 01 20 0001 27",
        "21 0009 22 01 27",
        "25 00 27",
        "26 7fff 27",
        "22 01 16 00 27",
        "22 01 32 01 27",
        "00 27",
        "ff 27",
        "22 01 20 0007 22 02 22 03 27",
        "22 01" + "28" * 80 + "27",
        "22 01 34 00 0001 00 27",
    ],
)
def test_broken_bytecode_is_a_request_error(bytecode: str) -> None:
    with pytest.raises(RequestError):
        condition(bytes.fromhex(bytecode), DESCRIPTION)


@pytest.mark.parametrize("bytecode", ["22 01 1b 27", "2c 0001 27", "22 01 28 20 0002 27", "26 0018 27"])
def test_what_only_gdb_can_evaluate_holds_always(bytecode: str) -> None:
    assert condition(bytes.fromhex(bytecode), DESCRIPTION) == ALWAYS
    with pytest.raises(UnsupportedError):
        translate(bytes.fromhex(bytecode), DESCRIPTION, command=True)


OPCODES = st.one_of(
    st.sampled_from([bytes((n,)) for n in range(0x35)]),
    st.builds(lambda n: bytes((0x22, n)), st.integers(0, 255)),
    st.builds(lambda n: b"\x26\x00" + bytes((n,)), st.integers(0, 20)),
    st.builds(lambda op, n: bytes((op, 0, n)), st.sampled_from([0x20, 0x21]), st.integers(0, 60)),
    st.binary(max_size=3),
)


@given(st.lists(OPCODES, max_size=30), st.booleans())
def test_any_bytecode_is_refused_or_runs_to_its_end(parts: list[bytes], command: bool) -> None:
    try:
        program = translate(b"".join(parts) + b"\x27", DESCRIPTION, command=command)
    except (RequestError, UnsupportedError):
        return
    assert verify(program.code, program.formats, command=command) == program
    why = ""
    try:
        result = evaluate(program, register, memory, write=lambda text: None, fuel=len(program.code))
    except EvaluationError as error:
        why, result = error.why, 0
    assert why != "no fuel left"
    assert 0 <= result <= MASK


@given(st.integers(0, MASK), st.integers(0, MASK))
def test_signed_division_is_that_of_c(a: int, b: int) -> None:
    code = (Instruction(Op.CONSTANT, a), Instruction(Op.CONSTANT, b))
    if b == 0:
        return
    quotient = evaluate(verify((*code, Instruction(Op.DIVIDE_SIGNED), Instruction(Op.END))), register, memory)
    remainder = evaluate(
        verify((*code, Instruction(Op.REMAINDER_SIGNED), Instruction(Op.END))), register, memory
    )
    signed_a, signed_r = ctypes.c_int64(a).value, ctypes.c_int64(remainder).value
    assert (quotient * b + remainder) & MASK == a
    assert abs(signed_r) < abs(ctypes.c_int64(b).value)
    assert signed_r == 0 or (signed_r < 0) == (signed_a < 0)


def printed(text: str, *arguments: int) -> str:
    encoded = text.encode() + b"\0"
    code = b"".join(b"\x25" + (n & MASK).to_bytes(8, "big") for n in reversed(arguments))
    code += b"\x22\x00\x22\x00\x34" + bytes((len(arguments),)) + len(encoded).to_bytes(2, "big") + encoded
    output: list[str] = []
    program = translate(code + b"\x27", DESCRIPTION, command=True)
    evaluate(program, register, lambda a, n: (b"hello\0" + bytes(99))[a : a + n], write=output.append)
    return "".join(output)


def test_a_print_command_prints_its_arguments_in_order() -> None:
    assert printed("a=%d b=%u %s%%\\n", -5, 7, 0) == "a=-5 b=7 hello%\n"
    assert printed("%c%c", 0x68, 0x69) == "hi"
    assert printed("%.2s|%8s|%-8s|", 0, 0, 0) == "he|   hello|hello   |"
    assert printed("\\x41\\101\\t\\\\\\q") == "AA\t\\q"


@given(
    st.sampled_from("duxXo"),
    st.sampled_from(["", "hh", "h", "l", "ll"]),
    st.text("-+ #0", max_size=3),
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(0, 25)),
    st.integers(0, MASK),
)
def test_numbers_are_printed_as_c_does(
    kind: str, size: str, flags: str, width: int, precision: int | None, number: int
) -> None:
    spec = f"%{flags}{width or ''}{'' if precision is None else f'.{precision}'}{size}{kind}"
    buffer = ctypes.create_string_buffer(200)
    LIBC.snprintf(buffer, ctypes.c_size_t(200), spec.encode(), ctypes.c_uint64(number))
    assert printed(spec, number) == buffer.value.decode()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (b"%d", 1),
        (b"%d\0", 0),
        (b"%d\0", 2),
        (b"%\0", 1),
        (b"%9999d\0", 1),
        (b"a\0b\0", 0),
        (b"%.5000d\0", 1),
    ],
)
def test_a_broken_format_is_refused(text: bytes, arguments: int) -> None:
    with pytest.raises(RequestError):
        parse_format(text, arguments)


@pytest.mark.parametrize("text", [b"%f\0", b"%n\0", b"%ls\0", b"%Lf\0", b"%*d\0"])
def test_a_format_of_what_is_no_word_is_unsupported(text: bytes) -> None:
    with pytest.raises(UnsupportedError):
        parse_format(text, 1)


def test_a_format_is_taken_apart() -> None:
    assert parse_format(b"x %-4hhx\\n\0", 1) == (Text("x "), Conversion("x", 8, "-", 4, None), Text("\n"))


def test_the_extras_of_a_point_are_read_in_both_spellings() -> None:
    assert parse_extras(b"") == PointExtras()
    assert parse_extras(b"X2,2201X1,27") == PointExtras((b"\x22\x01", b"\x27"))
    assert parse_extras(b"X2,2201;X1,27") == PointExtras((b"\x22\x01", b"\x27"))
    assert parse_extras(b"cmds:1,X1,27X1,27") == PointExtras((), (b"\x27", b"\x27"), True)
    assert parse_extras(b"X1,27;cmds:0,X2,2201") == PointExtras((b"\x27",), (b"\x22\x01",), False)


@pytest.mark.parametrize(
    "text",
    [b"X", b"X0,", b"X2,22", b"X1,2z", b"Y1,27", b"cmds:", b"cmds:2,X1,27", b"X1,27" * 65, b"Xffff,27"],
)
def test_broken_extras_are_refused(text: bytes) -> None:
    with pytest.raises(RequestError):
        parse_extras(text)


@given(st.binary(max_size=80))
def test_any_extras_are_read_or_refused(text: bytes) -> None:
    try:
        extras = parse_extras(text)
    except RequestError:
        return
    assert sum(map(len, extras.conditions + extras.commands)) <= len(text)


def test_a_program_has_the_depth_that_it_needs() -> None:
    program: Program = condition(bytes.fromhex("22 01 22 02 22 03 02 02 27"), DESCRIPTION)
    assert program.depth == 3
