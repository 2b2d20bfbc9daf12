"""Replies: what stands in the packets."""

import pytest

from gdbstub import replies as rp
from gdbstub.signals import Signal
from gdbstub.target import Exited, Killed, Stop, StopReason, WatchHit, WatchKind

NOTHING: frozenset[bytes] = frozenset()
BREAKS = frozenset({b"swbreak+", b"hwbreak+"})


@pytest.mark.parametrize(
    ("reply", "payload"),
    [
        (rp.Empty(), b""),
        (rp.Ok(), b"OK"),
        (rp.Error(14, "why"), b"E0e"),
        (rp.Error(14, "why", always_text=True), b"E.why"),
        (rp.Hex(b"\x00\xff"), b"00ff"),
        (rp.Registers([(b"\x01\x02", 2), (None, 3), (b"", 0)]), b"0102xxxxxx"),
        (rp.Console(b"hi\n"), b"O68690a"),
        (rp.EndReply(Exited(0)), b"W00"),
        (rp.EndReply(Exited(33)), b"W21"),
        (rp.EndReply(Killed()), b"X09"),
    ],
)
def test_payload(reply: rp.Reply, payload: bytes) -> None:
    assert reply.payload(NOTHING) == payload


def test_an_error_has_text_for_a_client_that_offered_to_read_it() -> None:
    assert rp.Error(14, "page not present").payload(frozenset({b"error-message+"})) == b"E.page not present"


def test_error_text_is_printable_ascii_of_bounded_length() -> None:
    payload = rp.Error(1, "a\nb\u20ac" + "x" * 10_000, always_text=True).payload(NOTHING)
    assert payload.startswith(b"E.a?b?x")
    assert len(payload) < 500


@pytest.mark.parametrize(
    ("reason", "signal"),
    [
        (StopReason.ATTACHED, b"T05"),
        (StopReason.STEP, b"T05"),
        (StopReason.SOFTWARE_BREAKPOINT, b"T05"),
        (StopReason.EVENT, b"T05"),
        (StopReason.INTERRUPT, b"T02"),
    ],
)
def test_every_stop_is_a_trap_except_an_interrupt(reason: StopReason, signal: bytes) -> None:
    assert rp.StopReply(Stop(reason, 1)).payload(BREAKS).startswith(signal + b"thread:1;")


def test_a_caught_exception_has_its_own_signal() -> None:
    stop = Stop(StopReason.EVENT, 16, Signal.SIGSEGV)
    assert rp.StopReply(stop).payload(BREAKS) == b"T0bthread:10;"


def test_expedited_registers_and_core_are_sent_along() -> None:
    reply = rp.StopReply(Stop(StopReason.STEP, 2), core=1, expedited=((16, b"\x00\x10"), (7, b"\xff")))
    assert reply.payload(NOTHING) == b"T05thread:2;core:1;10:0010;7:ff;"


def test_breakpoint_keys_are_for_clients_that_offered_them() -> None:
    software = rp.StopReply(Stop(StopReason.SOFTWARE_BREAKPOINT, 1))
    hardware = rp.StopReply(Stop(StopReason.HARDWARE_BREAKPOINT, 1))
    assert software.payload(BREAKS) == b"T05thread:1;swbreak:;"
    assert hardware.payload(BREAKS) == b"T05thread:1;hwbreak:;"
    assert software.payload(frozenset({b"hwbreak+"})) == b"T05thread:1;"
    assert hardware.payload(frozenset({b"swbreak+"})) == b"T05thread:1;"


@pytest.mark.parametrize(
    ("kind", "key"), [(WatchKind.WRITE, b"watch"), (WatchKind.READ, b"rwatch"), (WatchKind.ACCESS, b"awatch")]
)
def test_a_watchpoint_stop_names_the_address(kind: WatchKind, key: bytes) -> None:
    stop = Stop(StopReason.WATCHPOINT, 1, watch=WatchHit(kind, 0xFFFF888000001003))
    assert rp.StopReply(stop).payload(NOTHING) == b"T05thread:1;" + key + b":ffff888000001003;"


def test_the_ends_of_history_are_named() -> None:
    assert rp.StopReply(Stop(StopReason.HISTORY_BEGIN, 1)).payload(NOTHING) == b"T05thread:1;replaylog:begin;"
