"""Several clients at one target: one controls, others look on, control moves."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
import trio
import trio.lowlevel
import trio.testing

import gdbstub
from gdbstub.client import Client
from gdbstub.errors import TargetBusyError, TargetError
from gdbstub.lease import Lease
from gdbstub.server import serve_stream
from tests.helpers.full_toy import SharedMachine
from tests.helpers.serve_toy import full_toy_with_programs

FEATURES = b"swbreak+;hwbreak+;error-message+"
TAKE = b"qRcmd," + b"control take".hex().encode()
SHOW = b"qRcmd," + b"control".hex().encode()


@contextlib.asynccontextmanager
async def clients(machine: SharedMachine, count: int = 2) -> AsyncIterator[list[Client]]:
    """Clients called c1, c2 ..., attached in this order."""
    async with trio.open_nursery() as nursery:
        found = []
        for number in range(1, count + 1):
            ours, theirs = trio.testing.memory_stream_pair()
            who = gdbstub.Client(f"c{number}", number)
            nursery.start_soon(serve_stream, lambda _: cast(gdbstub.Target, machine.view()), theirs, who)
            client = Client(ours)
            await client.start(FEATURES)
            await client.require(b"?")
            found.append(client)
        yield found
        for client in found:
            await client.aclose()


def runs(machine: SharedMachine) -> bool:
    return machine.running


async def running(machine: SharedMachine) -> None:
    while not machine.running:
        await trio.lowlevel.checkpoint()


@pytest.fixture
def machine() -> SharedMachine:
    return SharedMachine(full_toy_with_programs())


async def test_one_who_looks_on_reads(machine: SharedMachine) -> None:
    async with clients(machine) as [_, reader]:
        assert await reader.request(b"m1000,2") == b"90ff"
        assert len(await reader.require(b"g")) == 2 * 552
        assert await reader.request(b"qfThreadInfo") == b"m1,2"
        assert await reader.request(b"Hg2") == b"OK"
        assert await reader.request(b"p10") == b"0011000000000000"
        assert await reader.request(b"qRcmd," + b"hello".hex().encode()) == b"OK"
        assert await reader.request(b"X2000,0:") == b"OK"


@pytest.mark.parametrize(
    "request_",
    [
        b"M1000,1:00",
        b"X1000,1:a",
        b"P0=0000000000000000",
        b"G" + b"00" * 552,
        b"Z0,1000,1",
        b"z0,1000,1",
        b'jMultiBreakpoint:{"breakpoint_requests":["Z0,1000,1"]}',
        b"vCont;c",
        b"vCont;s:1",
        b"c",
        b"vKill;1",
        b"qRcmd," + b"fail".hex().encode(),
    ],
)
async def test_one_who_looks_on_is_told_who_controls(machine: SharedMachine, request_: bytes) -> None:
    before = bytes(machine.toy.ram)
    async with clients(machine) as [_, reader]:
        reply = await reader.request(request_)
        assert reply == b"E.the target is controlled by c1; 'monitor control take' takes it"
    assert bytes(machine.toy.ram) == before
    assert machine.toy.plans == []
    assert not machine.toy.killed


async def test_one_who_looks_on_sees_the_stop_of_what_runs(machine: SharedMachine) -> None:
    async with clients(machine) as [holder, reader]:
        await holder.require(b"Z0,1003,1")
        machine.toy.registers[0]["rip"] = (0x1100).to_bytes(8, "little")
        await holder.send(b"vCont;c")
        await trio.lowlevel.checkpoint()
        await reader.send(b"vCont;c")
        while not machine.running:
            await trio.lowlevel.checkpoint()
        await holder.interrupt()
        assert (await holder.receive()).startswith(b"T02thread:")
        assert (await reader.receive()).startswith((b"T02thread:", b"E.the target is controlled"))


async def test_one_who_looks_on_may_stop_looking(machine: SharedMachine) -> None:
    async with clients(machine) as [holder, reader]:
        await holder.send(b"vCont;c")
        while not machine.running:
            await trio.lowlevel.checkpoint()
        await reader.send(b"vCont;c")
        await trio.lowlevel.checkpoint()
        await reader.interrupt()
        assert (await reader.receive()).startswith(b"T02thread:1;")
        assert reader.console == b"the target runs on: another controls it\n"
        assert runs(machine)
        await holder.interrupt()
        assert (await holder.receive()).startswith(b"T02")


async def test_control_is_taken_and_the_one_before_looks_on(machine: SharedMachine) -> None:
    async with clients(machine) as [first, second]:
        await first.require(b"Z0,1003,1")
        assert await second.request(TAKE) == b"OK"
        assert second.console == b"control taken from c1; the target stands in thread 2\n"
        assert machine.toy.points == set()
        assert (await first.request(b"M1000,1:00")).startswith(b"E.the target is controlled by c2")
        assert await second.request(b"M3000,1:7f") == b"OK"
        assert (await second.resume(b"vCont;s:1")).number == 5
        assert await second.request(TAKE) == b"OK"
        assert second.console.endswith(b"control is here already\n")


async def test_control_is_taken_from_a_client_that_waits_for_a_stop(machine: SharedMachine) -> None:
    async with clients(machine) as [first, second]:
        await first.send(b"vCont;c")
        while not machine.running:
            await trio.lowlevel.checkpoint()
        assert await second.request(TAKE) == b"OK"
        assert (await first.receive()).startswith(b"T02thread:")
        assert not runs(machine)
        assert await second.request(b"Z0,1003,1") == b"OK"


async def test_control_passes_on_when_the_holder_leaves(machine: SharedMachine) -> None:
    async with clients(machine, 3) as [first, second, third]:
        assert await first.request(b"D") == b"OK"
        assert (await third.request(b"Z0,1003,1")).startswith(b"E.the target is controlled by c2")
        assert await second.request(b"Z0,1003,1") == b"OK"
        assert (await second.resume(b"vCont;c")).registers[16] == b"\x03\x10\0\0\0\0\0\0"


async def test_a_holder_that_vanishes_leaves_nothing_behind(machine: SharedMachine) -> None:
    async with clients(machine) as [first, second]:
        await first.require(b"Z0,1003,1")
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert machine.toy.points == set()
        assert await second.request(b"M3000,1:7f") == b"OK"
        assert [seat.name for seat in machine.lease.seats] == ["c2"]


async def test_a_reader_that_leaves_changes_nothing(machine: SharedMachine) -> None:
    async with clients(machine) as [first, second]:
        assert await second.request(b"D") == b"OK"
        assert await first.request(b"M3000,1:7f") == b"OK"
        assert machine.toy.detached == []


async def test_the_monitor_says_who_is_there(machine: SharedMachine) -> None:
    async with clients(machine) as [_, reader]:
        assert await reader.request(SHOW) == b"OK"
        assert reader.console == b"controls  c1\nlooks on  c2 (this one)\n"
        assert await reader.request(b"qRcmd," + b"control x".hex().encode()) == b"OK"
        assert reader.console.endswith(b"usage: control, control take\n")


# --- the lease alone --------------------------------------------------------------------------------


def giving_up(log: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def give_up() -> None:
        log.append(name)

    return give_up


async def test_the_first_controls_and_the_next_in_line_follows() -> None:
    lease, log = Lease(), list[str]()
    a, b, c = (lease.join(name, giving_up(log, name)) for name in "abc")
    assert [seat.controls for seat in (a, b, c)] == [True, False, False]
    await c.take()
    assert log == ["a"]
    assert c.controls
    c.leave()
    assert a.controls
    a.leave()
    a.leave()
    assert b.controls
    b.leave()
    assert lease.holder is None
    assert lease.join("d", giving_up(log, "d")).controls


async def test_a_holder_that_cannot_give_up_keeps_control() -> None:
    async def refuse() -> None:
        raise TargetError("busy")

    lease = Lease()
    a, b = lease.join("a", refuse), lease.join("b", refuse)
    with pytest.raises(TargetError):
        await b.take()
    assert a.controls


async def test_control_is_moved_by_one_at_a_time() -> None:
    lease, log = Lease(), list[str]()
    go_on = trio.Event()

    async def slowly() -> None:
        await go_on.wait()

    lease.join("a", slowly)
    b, c = lease.join("b", giving_up(log, "b")), lease.join("c", giving_up(log, "c"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.take)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TargetBusyError):
            await c.take()
        go_on.set()
    assert b.controls


async def test_the_holder_and_the_taker_may_leave_while_control_moves() -> None:
    lease = Lease()
    go_on = trio.Event()

    async def slowly() -> None:
        await go_on.wait()

    a, b, c = lease.join("a", slowly), lease.join("b", slowly), lease.join("c", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.take)
        await trio.testing.wait_all_tasks_blocked()
        a.leave()
        b.leave()
        go_on.set()
    assert lease.holder is c
