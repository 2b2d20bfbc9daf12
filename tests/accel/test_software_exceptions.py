"""INT3, INTO, ICEBP and INT n: which can be intercepted as exceptions, and what injecting them again does.

SDM vol. 3, "Other Causes of VM Exits" (the exception bitmap applies to INT3, INTO and INT1, not to INT n) and
"Software Interrupt Handling Methods While Operating in Virtual-8086 Mode".
"""

import struct

import pytest

from accel import lib
from tests.helpers.accel_machine import CODE, DATA, STACK, TABLES, Exit, Machine

DEADLINE, BPT, EXCEPTION = 0, 7, 13
DB, BP, OF, GP = 1, 3, 4, 13
HARD, SWINTR, PRIV_SW, SW = 3, 4, 5, 6
ALL = 0xFFFFFFFF
FLAG_OF, FLAG_RF, FLAG_VM, FLAG_VIF = 0x800, 1 << 16, 1 << 17, 1 << 19
HANDLER = CODE + 0x800


def inject(machine: Machine, end: Exit) -> None:
    """What `end` says, as a monitor would."""
    control = machine.control
    control.inject_type = end.number
    control.inject_vector = end.vector if end.kind == EXCEPTION else BP
    control.inject_has_error, control.inject_error = end.has_error, end.error
    control.inject_length = end.inst_length if end.kind == EXCEPTION else machine._exit.bpt_length
    control.inject_valid = 1


def flat(code: str, bits: int) -> Machine:
    """`code` with handlers that are jumps to themselves."""
    machine = Machine(bits=bits, code=bytes.fromhex(code))
    machine.write(HANDLER, b"\xeb\xfe" * 64)
    if bits == 16:
        for vector in range(32):
            machine.write(4 * vector, struct.pack("<HH", 0x800 + 2 * vector, CODE >> 4))
    else:
        for vector in range(32):
            machine.handle(vector, HANDLER + 2 * vector)
    machine["eflags"] = FLAG_OF | FLAG_RF | 2
    return machine


CODES = [
    (bits, *row)
    for bits in (64, 32, 16)
    for row in (
        ("cc", BP, SW, 1),
        ("66cc", BP, SW, 2),
        ("f1", DB, PRIV_SW, 1),
        ("66f1", DB, PRIV_SW, 2),
        ("ce", OF, SW, 1),
    )
    if (bits, row[0]) != (64, "ce")  # INTO does not exist in 64-bit mode
]


@pytest.mark.parametrize(("bits", "code", "vector", "kind", "length"), CODES)
def test_an_exception_of_an_instruction_is_intercepted_and_goes_on_as_if_it_had_not_been(
    bits: int, code: str, vector: int, kind: int, length: int
) -> None:
    plain, watched = flat(code, bits), flat(code, bits)
    watched.control.exception_exit = ALL
    end = watched.run(1)
    assert (end.kind, end.vector, end.number, end.inst_length) == (EXCEPTION, vector, kind, length)
    assert (end.has_error, end.value, watched.ticks, end.rip) == (0, 0, 0, 0 if bits == 16 else CODE)
    inject(watched, end)
    assert (watched.run(1).kind, plain.run(1).kind) == (DEADLINE, DEADLINE)
    assert plain["rip"] == (0x800 if bits == 16 else HANDLER) + 2 * vector
    assert plain.save() == watched.save()


@pytest.mark.parametrize("vector", [DB, BP, OF, GP])
def test_int_n_is_no_exception_whatever_its_vector(vector: int) -> None:
    machine = flat(f"cd{vector:02x}", 64)
    machine.control.exception_exit = ALL
    assert machine.run(1).kind == DEADLINE
    assert machine["rip"] == HANDLER + 2 * vector


def test_only_the_vectors_asked_for_leave() -> None:
    machine = flat("cc", 64)
    machine.control.exception_exit = ALL & ~(1 << BP)
    assert machine.run(1).kind == DEADLINE


def test_int3_leaves_as_a_breakpoint_where_both_are_asked_for() -> None:
    machine = flat("cc", 64)
    machine.control.exception_exit, machine.control.bpt_exit = ALL, 1
    assert machine.run(1).kind == BPT


@pytest.mark.parametrize("code", ["cc", "cd03", "f1"])
def test_an_event_that_an_instruction_asks_for_saves_rf_clear(code: str) -> None:
    machine = flat(code, 64)
    machine.run(1)
    assert struct.unpack("<Q", machine.read(machine["rsp"] + 16, 8))[0] & FLAG_RF == 0


# ---- virtual-8086 mode

TSS, GDT, IDT, CPL0_STACK, OWN = TABLES + 0x2000, TABLES + 0x1000, TABLES, STACK + 0x1000, 0x700


def virtual(code: str, iopl: int, vme: bool, redirect: bool) -> Machine:
    """A task in virtual-8086 mode. Gates have DPL 3; `redirect`: INT n goes to the program's own table."""
    machine = Machine(bits=16)
    put = machine.write
    put(CODE, bytes.fromhex(code))
    put(GDT, struct.pack("<3Q", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF))
    for vector in range(32):
        target = HANDLER + 2 * vector
        put(IDT + 8 * vector, struct.pack("<HHHH", target & 0xFFFF, 8, 0xEE00, target >> 16))
        put(4 * vector, struct.pack("<HH", OWN, 0))
    put(HANDLER, b"\xeb\xfe" * 64)
    put(OWN, b"\xeb\xfe")
    put(TSS, bytes(4) + struct.pack("<II", CPL0_STACK, 0x10))
    put(TSS + 102, struct.pack("<H", 136))
    put(TSS + 104, (b"\x00" if redirect else b"\xff") * 32)
    state = {
        "cr0": 0x11, "cr4": int(vme), "gdtr_base": GDT, "gdtr_limit": 23, "idtr_base": IDT,
        "idtr_limit": 0xFF, "tr": 0x18, "tr_base": TSS, "tr_limit": 0x87, "tr_attr": 0x8B,
        "cs": 8, "ss": 0x10,
    }  # fmt: skip
    for name, value in state.items():
        machine[name] = value
    for name, rights in (("cs", 0xC09B), ("ss", 0xC093), ("ds", 0xC093)):
        machine[f"{name}_base"], machine[f"{name}_limit"], machine[f"{name}_attr"] = 0, 0xFFFFFFFF, rights
    put(HANDLER - 1, b"\xcf")  # IRET, with this frame
    flags = FLAG_VM | iopl << 12 | FLAG_VIF | FLAG_OF | 2
    put(DATA, struct.pack("<9I", 0, CODE >> 4, flags, 0x8000, 0, DATA >> 4, DATA >> 4, 0, 0))
    machine["rip"], machine["rsp"] = HANDLER - 1, DATA
    machine.run(1)
    assert (machine["eflags"], machine["rip"], machine["cpl"]) == (flags, 0, 3)
    return machine


def goes_to(machine: Machine) -> tuple[str, int, int]:
    """Where the one instruction led: whose handler, for which vector, and the saved instruction pointer."""
    if machine["eflags"] & FLAG_VM:
        return "own", BP, struct.unpack("<H", machine.read(machine["rsp"] & 0xFFFF, 2))[0]
    vector = (machine["rip"] - HANDLER) // 2
    at = machine["rsp"] + (4 if vector == GP else 0)
    return "monitor's", vector, struct.unpack("<I", machine.read(at, 4))[0]


def expected(code: str, iopl: int, vme: bool, redirect: bool) -> tuple[str, int, int]:
    """Table "Software Interrupt Handling Methods": INT3 is not sensitive to IOPL and never redirected."""
    if code == "cc":
        return "monitor's", BP, 1
    if vme and redirect:
        return "own", BP, 2
    return ("monitor's", BP, 2) if iopl == 3 else ("monitor's", GP, 0)


@pytest.mark.parametrize("redirect", [False, True])
@pytest.mark.parametrize("vme", [False, True])
@pytest.mark.parametrize("iopl", [0, 3])
@pytest.mark.parametrize("code", ["cc", "cd03"])
def test_breakpoints_in_virtual_8086_mode_go_where_the_manual_says(
    code: str, iopl: int, vme: bool, redirect: bool
) -> None:
    plain = virtual(code, iopl, vme, redirect)
    assert plain.run(1).kind == DEADLINE
    assert goes_to(plain) == expected(code, iopl, vme, redirect)
    reported = virtual(code, iopl, vme, redirect)
    reported.control.bpt_exit = 1
    end = reported.run(1)
    assert (end.kind, end.rip, reported._exit.bpt_length) == (BPT, 0, len(code) // 2)
    assert end.number == (SW if code == "cc" else SWINTR)
    inject(reported, end)
    assert reported.run(1).kind == DEADLINE
    assert plain.save() == reported.save()


def test_a_refused_int_n_is_a_general_protection_fault_in_its_delivery() -> None:
    machine = virtual("cd03", 0, False, False)
    machine.control.exception_exit = 1 << GP
    end = machine.run(1)
    assert (end.kind, end.vector, end.error, end.number) == (EXCEPTION, GP, 0, HARD)
    control = machine.control
    assert (control.inflight_valid, control.inflight_type, control.inflight_vector) == (1, SWINTR, BP)
    assert control.inflight_length == 2
    control.pass_exception = 1
    assert machine.run(1).kind == DEADLINE
    assert goes_to(machine) == ("monitor's", GP, 0)


@pytest.mark.parametrize("code", ["cc", "ce"])
def test_a_gate_of_the_monitors_own_refuses_int3_and_into(code: str) -> None:
    machine = virtual(code, 3, False, False)
    vector = {"cc": BP, "ce": OF}[code]
    machine.write(IDT + 8 * vector + 5, b"\x8e")  # DPL 0
    assert machine.run(1).kind == DEADLINE
    assert goes_to(machine) == ("monitor's", GP, 0)
    assert struct.unpack("<I", machine.read(machine["rsp"], 4))[0] == 8 * vector + 2


def test_the_kinds_of_events_are_those_of_accel_h() -> None:
    assert (lib.ACCEL_EV_EXCEPTION, lib.ACCEL_EV_SWINTR) == (HARD, SWINTR)
    assert (lib.ACCEL_EV_PRIV_SW_EXCEPTION, lib.ACCEL_EV_SW_EXCEPTION) == (PRIV_SW, SW)
