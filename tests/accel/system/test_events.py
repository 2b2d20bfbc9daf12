"""Delivery of injected events and interrupts, NMI blocking, HLT, and the triple fault, in real mode."""

from __future__ import annotations

from typing import Any

import pytest

from accel import ffi, lib
from tests.accel.system.rom import ROM_SIZE, Machine

OK = 0
CODE, HANDLER, STACK = 0x7000, 0x500, 0x8000
NOP, HLT, IRET, UD2 = b"\x90", b"\xf4", b"\xcf", b"\x0f\x0b"
IF = 1 << 9


def machine(code: bytes, handler: bytes = NOP, flags: int = 2 | IF) -> Machine:
    """A CPU in real mode at `code`; every vector goes to `handler`."""
    m = Machine(bytes(ROM_SIZE))
    m.write(0, HANDLER.to_bytes(4, "little") * 256)
    m.write(HANDLER, handler)
    m.write(CODE, code)
    for name, value in {"cs": 0, "rip": CODE, "ss": 0, "rsp": STACK, "eflags": flags}.items():
        assert m.set(name, value) == OK
    return m


def control(m: Machine) -> Any:
    return lib.accel_cpu_control(m.cpu)


def inject(m: Machine, kind: int, vector: int, length: int = 0) -> None:
    c = control(m)
    c.inject_type, c.inject_vector, c.inject_length, c.inject_valid = kind, vector, length, 1


def frame(m: Machine) -> tuple[int, int, int]:
    """IP, CS and FLAGS on the stack."""
    sp = m.get("rsp")
    words = m.ram()[sp : sp + 6]
    return tuple(int.from_bytes(words[i : i + 2], "little") for i in (0, 2, 4))  # type: ignore[return-value]


def tick(m: Machine, count: int = 1) -> str:
    return m.run(m.get("ticks") + count)


def test_a_delivery_is_one_tick_and_retires_nothing() -> None:
    m = machine(NOP * 8)
    inject(m, lib.ACCEL_EV_HWINTR, 0x40)
    assert tick(m) == "deadline"
    assert (m.get("rip"), m.get("ticks"), m.get("retired")) == (HANDLER, 1, 0)
    assert frame(m) == (CODE, 0, 2 | IF)
    assert m.get("eflags") == 2
    assert m.get("rsp") == STACK - 6


@pytest.mark.parametrize(
    ("kind", "saved"),
    [
        (lib.ACCEL_EV_SWINTR, CODE + 2),
        (lib.ACCEL_EV_SW_EXCEPTION, CODE + 2),
        (lib.ACCEL_EV_PRIV_SW_EXCEPTION, CODE + 2),
        (lib.ACCEL_EV_EXCEPTION, CODE),
        (lib.ACCEL_EV_HWINTR, CODE),
    ],
)
def test_soft_events_return_behind_their_instruction(kind: int, saved: int) -> None:
    m = machine(NOP * 8)
    inject(m, kind, 3, length=2)
    tick(m)
    assert frame(m)[0] == saved


def test_int_n_is_one_tick_and_returns_behind_itself() -> None:
    m = machine(b"\xcd\x40" + NOP)
    tick(m)
    assert (m.get("rip"), m.get("ticks")) == (HANDLER, 1)
    assert frame(m)[0] == CODE + 2


def test_an_nmi_waits_for_the_iret_of_the_one_before() -> None:
    m = machine(NOP * 8, handler=NOP + IRET)
    control(m).nmi_pending = 1
    tick(m)
    assert (m.get("rip"), m.get("nmi_blocked")) == (HANDLER, 1)
    control(m).nmi_pending = 1
    tick(m)
    assert (m.get("rip"), control(m).nmi_pending) == (HANDLER + 1, 1)
    tick(m)  # the IRET; the deadline comes before what would take a tick of its own
    assert control(m).nmi_pending == 1
    tick(m)
    assert (m.get("rip"), m.get("nmi_blocked"), control(m).nmi_pending) == (HANDLER, 1, 0)
    assert frame(m)[0] == CODE


def test_hlt_waits_until_an_event_wakes_it() -> None:
    m = machine(HLT + NOP)
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_HLT} ")
    assert control(m).activity == lib.ACCEL_HALTED
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_WAIT} ")
    inject(m, lib.ACCEL_EV_HWINTR, 0x40)
    tick(m)
    assert control(m).activity == lib.ACCEL_ACTIVE
    assert frame(m)[0] == CODE + 1


@pytest.mark.parametrize(
    ("code", "flags", "window_at"),
    [
        (b"\xfb" + NOP * 4, 2, CODE + 2),  # STI: one instruction of shadow
        (b"\xfb\xfb" + NOP * 4, 2, CODE + 2),  # a second STI does not prolong it
        (b"\x8e\xd0" + NOP * 4, 2 | IF, CODE),  # the window is open before MOV SS
        (b"\xfb\x8e\xd0" + NOP * 4, 2, CODE + 4),  # STI, then MOV SS has a shadow of its own
        (b"\x9d" + NOP * 4, 2, CODE + 1),  # POPF has none
    ],
)
def test_interrupts_open_behind_the_shadow(code: bytes, flags: int, window_at: int) -> None:
    m = machine(code, flags=flags)
    m.write(STACK, (2 | IF).to_bytes(2, "little"))
    control(m).intr_line = 1
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_IRQ_WINDOW} ")
    assert m.get("rip") == window_at


def test_a_triple_fault_shuts_down_and_shows_its_chain() -> None:
    m = machine(UD2)
    assert m.set("idtr_limit", 0) == OK
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_TRIPLE_FAULT} ")
    assert control(m).activity == lib.ACCEL_SHUTDOWN
    chain = ffi.new("accel_fault[5]")
    assert lib.accel_fault_chain(m.cpu, chain, 5) == 5
    # #UD is benign; #GP while delivering it; #GP while delivering that: #DF; #GP again: shutdown
    assert [f.vector for f in chain] == [6, 13, 13, 8, 13]
    assert [f.rip for f in chain] == [CODE] * 5
    assert m.get("rip") == CODE
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_WAIT} ")


def test_int3_leaves_with_bpt_when_asked_and_is_delivered_when_injected_back() -> None:
    m = machine(b"\xcc" + NOP)
    control(m).bpt_exit = 1
    assert m.run().startswith(f"exit {lib.ACCEL_EXIT_BPT} at {CODE:#x}")
    assert (m.exit.source, m.exit.bpt_length) == (lib.ACCEL_BPT_GUEST, 1)
    assert m.get("ticks") == 0
    inject(m, lib.ACCEL_EV_SW_EXCEPTION, 3, length=1)
    tick(m)
    assert m.get("rip") == HANDLER
    assert frame(m)[0] == CODE + 1


def test_a_general_detect_fault_reports_bd_and_clears_gd() -> None:
    m = machine(b"\x0f\x21\xc0" + NOP)  # MOV EAX, DR0
    assert m.set("dr7", 0x2400) == OK
    tick(m)
    assert m.get("rip") == HANDLER
    assert (m.get("dr6"), m.get("dr7")) == (0xFFFF2FF0, 0x400)
    assert frame(m)[0] == CODE


def test_int_n_is_delivered_through_its_vector() -> None:
    for vector in range(0xFF):
        m = machine(b"\xcd" + bytes([vector]))
        tick(m)
        assert m.get("rip") == HANDLER, vector
