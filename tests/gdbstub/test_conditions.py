"""Conditions and commands of breakpoints, over the wire."""

import pytest

from gdbstub.framing import frame
from gdbstub.session import Session, Step
from gdbstub.target import Stop, StopReason
from tests.helpers.rsp import connected, served
from tests.helpers.serve_toy import full_toy_with_programs

# The program counts in eax from 1001 on; 1003 stores al to 2000 and 1006 loads it.
RAX_IS_3 = b"X7,26000022031327"
RAX_IS_5 = b"X7,26000022051327"
FALSE = b"X3,220027"
DIVIDES_BY_ZERO = b"X6,220122000527"
PRINT_RAX = b"X%x,%b"


def print_rax(text: bytes = b"rax=%d\n\0") -> bytes:
    code = b"\x26\0\0\x22\0\x22\0\x34\x01" + len(text).to_bytes(2, "big") + text + b"\x27"
    return PRINT_RAX % (len(code), code.hex().encode())


async def rax(stop_request: bytes, *points: bytes) -> int:
    async with connected(full_toy_with_programs()) as client:
        for point in points:
            assert await client.request(point) == b"OK"
        await client.resume(stop_request)
        return int.from_bytes(await client.read_register(0), "little")


async def test_conditions_are_announced() -> None:
    async with connected(full_toy_with_programs()) as client:
        features = (await client.start()).split(b";")
        assert {b"ConditionalBreakpoints+", b"BreakpointCommands+"} <= {*features}


@pytest.mark.parametrize("kind", [0, 1])
async def test_a_breakpoint_stops_when_its_condition_is_true(kind: int) -> None:
    assert await rax(b"vCont;c", b"Z%d,1003,1;" % kind + RAX_IS_3) == 3


@pytest.mark.parametrize("kind", [2, 3, 4])
async def test_a_watchpoint_stops_when_its_condition_is_true(kind: int) -> None:
    assert await rax(b"vCont;c", b"Z%d,2000,1;" % kind + RAX_IS_3) == 3


async def test_several_conditions_are_alternatives() -> None:
    assert await rax(b"vCont;c", b"Z0,1003,1;" + RAX_IS_5 + RAX_IS_3) == 3


async def test_a_condition_that_cannot_be_evaluated_stops() -> None:
    assert await rax(b"vCont;c", b"Z0,1003,1;" + DIVIDES_BY_ZERO) == 1


async def test_setting_a_breakpoint_again_replaces_its_conditions() -> None:
    assert await rax(b"vCont;c", b"Z0,1003,1;" + FALSE, b"Z0,1003,1;" + RAX_IS_5) == 5
    assert await rax(b"vCont;c", b"Z0,1003,1;" + RAX_IS_5, b"Z0,1003,1") == 1


async def test_a_broken_condition_sets_no_breakpoint() -> None:
    target = full_toy_with_programs()
    async with connected(target, b"error-message+") as client:
        reply = await client.request(b"Z0,1003,1;X2,0227")
        assert reply == b"E.agent expression: instruction 0 finds too little on the stack"
        assert target.points == set()


async def test_commands_print_and_the_machine_goes_on() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        assert await client.request(b"Z0,1003,1;cmds:1," + print_rax()) == b"OK"
        assert await client.request(b"Z1,1005,1;" + RAX_IS_3) == b"OK"
        await client.resume(b"vCont;c")
        assert client.console == b"rax=1\nrax=2\nrax=3\n"
        assert len(target.plans) == 1


async def test_commands_run_only_where_the_condition_is_true() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert await client.request(b"Z0,1003,1;%b;cmds:0,%b" % (RAX_IS_3, print_rax())) == b"OK"
        assert await client.request(b"Z1,1003,1;" + RAX_IS_5) == b"OK"
        await client.resume(b"vCont;c")
        assert client.console == b"rax=3\n"


async def test_text_that_the_target_has_while_nothing_runs_is_shown_with_the_next_stop() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        await client.request(b"?")
        target.console("between two plans\n")
        assert await client.request(b"qC") == b"QC1"
        assert client.console == b""
        await client.resume(b"vCont;s:1")
        assert client.console == b"between two plans\n"


async def test_text_is_sent_while_the_target_runs_on() -> None:
    point = b"Z0,1003,1;%b;cmds:0,%b" % (RAX_IS_3, print_rax())
    async with served(full_toy_with_programs()) as stream:
        await stream.send_all(frame(b"?") + frame(point) + frame(b"vCont;c"))
        received = b""
        while b"$O" + b"rax=3\n".hex().encode() not in received:
            received += await stream.receive_some()


async def test_a_command_that_only_gdb_knows_is_refused() -> None:
    async with connected(full_toy_with_programs(), b"error-message+") as client:
        reply = await client.request(b"Z0,1003,1;cmds:0," + print_rax(b"%f\0"))
        assert reply == b"E.agent expression: conversion '%f'"


def test_what_a_client_does_not_fetch_is_bounded() -> None:
    session = Session()
    session.receive_data(frame(b"?"))
    session.next_event()
    session.attached(Stop(StopReason.ATTACHED, 1))
    for _ in range(1000):
        session.say("x" * 1000)
    session.advance(Step.RESUMED)
    assert session.output_size < 1 << 16
    for _ in range(20_000):
        session.say("x" * 1000)
    assert 1 << 22 < session.output_size < 1 << 23
