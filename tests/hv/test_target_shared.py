"""Several debuggers at one machine: one controls, the others look on; what one leaves behind is nothing."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.lowlevel
import trio.testing

import gdbstub
from gdbstub.capabilities import Capabilities, Shared
from gdbstub.client import Client
from gdbstub.server import serve_stream
from hv.debug.commands import COMMANDS, only_reads
from tests.helpers.bare_target import CODE, Machine, machine
from tests.helpers.patience import HANG_S, until

FEATURES = b"swbreak+;hwbreak+;error-message+"


def monitor(command: str) -> bytes:
    return b"qRcmd," + command.encode().hex().encode()


TAKE = monitor("control take")


@contextlib.asynccontextmanager
async def clients(m: Machine, count: int = 2) -> AsyncIterator[list[Client]]:
    """Clients called c1, c2 ..., attached in this order."""
    async with trio.open_nursery() as nursery:
        found = []
        for number in range(1, count + 1):
            ours, theirs = trio.testing.memory_stream_pair()
            who = gdbstub.Client(f"c{number}", number)
            nursery.start_soon(serve_stream, lambda who: m.target(who.number), theirs, who)
            client = Client(ours)
            await client.start(FEATURES)
            await client.require(b"?")
            found.append(client)
        with trio.fail_after(HANG_S):
            yield found
            for client in found:
                await client.aclose()
            await m.lease.wait_free()


async def running(m: Machine) -> None:
    await until(lambda: m.control.running)


async def left(m: Machine, seats: int) -> None:
    await until(lambda: len(m.lease.seats) <= seats)


def runs(m: Machine) -> bool:
    return m.control.running


def control_block(m: Machine) -> tuple[int, ...]:
    """What a debugger switches on in the CPUs."""
    blocks = [vcpu.cpu.control for vcpu in m.vm.vcpus]
    return tuple(n for b in blocks for n in (b.mask_hwintr, b.monitor_trap, b.step_range, b.exception_exit))


async def test_the_machine_is_shared() -> None:
    with machine() as m:
        assert isinstance(m.target(), Shared)
        assert Capabilities.of(m.target()).shared is not None


async def test_one_who_looks_on_reads_and_is_refused_the_rest() -> None:
    with machine() as m:
        async with clients(m) as [holder, reader]:
            assert await reader.request(b"m7c00,3") == b"40ebfd"
            assert (await reader.request(b"p10")).startswith(b"007c")
            assert await reader.request(monitor("info cpus")) == b"OK"
            assert await reader.request(b"QNonStop:0") == b"OK"
            before = m.vm.state_hash()
            for packet in (b"QNonStop:1", b"M7c00,1:90", b"P0=0000000000000000", b"Z0,7c00,1", b"vCont;s:1",
                           b"Qqemu.sstep=1", monitor("reset"), monitor("step-policy unmasked")):  # fmt: skip
                assert (await reader.request(packet)).startswith(b"E.the target is controlled by c1")
            assert m.vm.state_hash() == before
            assert len(m.control.points) == 0
            assert (await holder.resume(b"vCont;s:1")).thread == 1


async def test_one_who_looks_on_reads_while_the_machine_runs_and_sees_its_stop() -> None:
    with machine() as m:
        async with clients(m) as [holder, reader]:
            await holder.send(b"vCont;c")
            await running(m)
            await reader.send(b"vCont;c")
            await holder.interrupt()
            assert (await holder.receive()).startswith(b"T02thread:1;")
            assert (await reader.receive()).startswith((b"T02thread:1;", b"E.the target is controlled"))
            await holder.send(b"vCont;c")
            await running(m)
            assert await reader.request(b"m7c00,3") == b"40ebfd"
            assert m.control.running
            await holder.interrupt()
            await holder.receive()


async def test_taking_control_stops_what_the_other_runs() -> None:
    with machine() as m:
        async with clients(m) as [first, second]:
            await first.require(b"Z0,9999,1")
            await first.send(b"vCont;c")
            await running(m)
            assert await second.request(TAKE) == b"OK"
            assert (await first.receive()).startswith(b"T02thread:1;")
            assert not runs(m)
            assert len(m.control.points) == 0
            assert (await first.request(b"vCont;s:1")).startswith(b"E.the target is controlled by c2")
            ticks = m.vm.vcpus[0].cpu.ticks()
            assert (await second.resume(b"vCont;s:1")).thread == 1
            assert m.vm.vcpus[0].cpu.ticks() == ticks + 1


async def test_policies_of_the_one_who_gives_control_away_end() -> None:
    with machine() as m:
        async with clients(m) as [first, second]:
            assert await first.request(monitor("step-policy unmasked")) == b"OK"
            assert not m.control.steps.masked
            assert await second.request(TAKE) == b"OK"
            assert m.control.steps.masked


@pytest.mark.parametrize("how", ["closed", "D"])
async def test_control_passes_on_and_the_machine_runs_until_it_is_used(how: str) -> None:
    with machine() as m:
        async with clients(m) as [first, second]:
            await first.resume(b"vCont;s:1")
            if how == "D":
                assert await first.request(b"D") == b"OK"
            else:
                await first.aclose()
                await left(m, 1)
            await running(m)
            assert await second.request(b"m7c00,3") == b"40ebfd"
            assert m.control.running
            assert await second.request(b"Z0,7c01,1") == b"OK"
            assert not runs(m)
            assert (await second.resume(b"vCont;c")).registers[16][:2] == b"\x01\x7c"


async def test_a_machine_that_its_holder_leaves_stopped_stays_stopped() -> None:
    with machine() as m:
        async with clients(m) as [first, second]:
            await first.resume(b"vCont;s:1")
            assert await first.request(b"D1") == b"OK"
            assert await second.request(b"m7c00,3") == b"40ebfd"
            assert not runs(m)
        assert not runs(m)


async def test_the_end_of_a_run_that_nobody_controls_is_shown_to_who_takes_control() -> None:
    # lidt of an empty table, int3: a triple fault.
    with machine(b"\x0f\x01\x1e\x00\x7e" + b"\xe2\xfe" * 20 + b"\xcc") as m:
        async with clients(m) as [first, second]:
            await first.request(b"P2=ffff000000000000")
            await first.request(b"D")
            await until(lambda: m.lease.unseen is not None)
            assert m.control.ending is None
            assert await second.request(TAKE) == b"OK"
            assert second.console.startswith(
                b"control is here; the target stands in thread 1: vCPU 0: triple fault"
            )
            assert (await second.request(b"vCont;c")) == b"W03"
        assert [ending.status for ending in m.endings] == [3]


# --- clients that vanish ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last_words",
    [
        b"vCont;s:1;c",
        b"vCont;r7c00,7c03:1;c",
        b"vCont;c",
        b"vCont;s:2",
        b"X7c00,8:\x90\x90",
        b"M7c00,4:9090",
        b"Z0,7c0",
        b"G00",
        b"",
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_vanishes_leaves_nothing_behind(last_words: bytes, whole: bool) -> None:
    with machine() as m:
        async with clients(m, 1) as [client]:
            await client.require(b"Z0,9999,1")
            await client.require(b"Z2,9999,4")
            assert await client.request(monitor("step-policy unmasked")) == b"OK"
            checksum = f"{sum(last_words) % 256:02x}".encode()
            packet = b"$" + last_words + b"#" + checksum
            await client._stream.send_all(packet if whole else packet[: len(packet) // 2])
            await client.aclose()
            await left(m, 0)
        assert len(m.control.points) == 0
        assert m.control.steps.masked
        m.control.close()
        assert control_block(m) == (0,) * 8
        assert m.vm.memory.read(CODE, 3) == b"\x40\xeb\xfd"
        assert not m.control.debugged


async def test_a_client_that_vanishes_while_it_looks_on_changes_nothing() -> None:
    with machine() as m:
        async with clients(m) as [holder, reader]:
            await holder.require(b"Z0,7c01,1")
            await reader._stream.send_all(b"$vCont;s:1#b8$m7c00,")
            await reader.aclose()
            await left(m, 1)
            assert len(m.control.points) == 1
            assert m.vm.clock.now == 0
            assert (await holder.resume(b"vCont;c")).registers[16][:2] == b"\x01\x7c"


def test_what_changes_something_is_not_for_those_who_look_on() -> None:
    assert {row.name for row in COMMANDS if not row.only_reads} >= {"reset", "quit", "step-policy"}
    assert only_reads("info cpus")
    assert only_reads("no such command")
    assert only_reads("'")
    assert not only_reads("  reset  now")
