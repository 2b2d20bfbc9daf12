"""A request that takes long: the client hears something meanwhile; stock gdb and LLDB wait for the answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
import trio.testing

from gdbstub import framing
from gdbstub.addresses import parse_address
from gdbstub.server import serve, serve_stream
from gdbstub.target import Client
from tests.gdbstub.test_lldb import lldb
from tests.helpers.full_toy import FullToy
from tests.helpers.gdb import gdb
from tests.helpers.rsp import served
from tests.helpers.serve_toy import load_programs

SLOW = 0x2000
"""Where memory takes long to read."""


class SlowToy(FullToy):
    """A target that takes `seconds` for a read at SLOW, and for a command."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        load_programs(self)
        self.ram[SLOW : SLOW + 4] = b"\x11\x22\x33\x44"

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """See `gdbstub.target.Target`."""
        if address == SLOW:
            await trio.sleep(self._seconds)
        return await super().read_memory(thread, address, length)

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        """See `gdbstub.capabilities.Monitor`."""
        await trio.sleep(self._seconds)
        await super().monitor(thread, command, write)


async def heard(request: bytes, seconds: float, *, no_ack: bool = True) -> tuple[bytes, list[float]]:
    """The answer to a request, without the plus signs, and when each of those came."""
    async with served(SlowToy(seconds)) as stream:
        if no_ack:
            await stream.send_all(b"+" + framing.frame(b"QStartNoAckMode") + b"+")
            await trio.testing.wait_all_tasks_blocked()
            assert await stream.receive_some(100) == b"+$OK#9a"
        began, answer, signs = trio.current_time(), bytearray(), []
        await stream.send_all(framing.frame(request))
        while b"#" not in answer:
            more = await stream.receive_some(1 << 16)
            signs += [trio.current_time() - began] * more.startswith(b"+")
            answer += more.lstrip(b"+")
    return bytes(answer), signs


async def test_a_client_that_waits_hears_a_plus_sign_at_least_every_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for request in (b"m2000,4", b"qRcmd,68656c70"):
        answer, signs = await heard(request, 10)
        assert answer[-3:-2] == b"#"
        assert 0 < signs[0] <= 1
        assert all(0 < later - sooner <= 1 for sooner, later in itertools.pairwise(signs))
        assert 9 <= signs[-1] <= 10


async def test_a_request_is_acknowledged_before_the_client_sends_it_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    answer, signs = await heard(b"m2000,4", 10, no_ack=False)
    assert answer == framing.frame(b"11223344")
    assert 0 < signs[0] <= 1


async def test_a_quick_answer_comes_alone_and_an_idle_client_hears_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await heard(b"m2000,4", 0.1) == (framing.frame(b"11223344"), [])
    async with served(SlowToy(0)) as stream:
        await stream.send_all(b"+" + framing.frame(b"?"))
        with trio.move_on_after(100):
            while await stream.receive_some(1 << 16) != b"+":
                pass
        with trio.move_on_after(1000) as scope:
            await stream.receive_some(1)
        assert scope.cancelled_caught


class SluggishStream(trio.abc.Stream):
    """Takes two seconds to send anything; nobody may send meanwhile."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._busy = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._busy
        self._busy = True
        await trio.sleep(2)
        await self._stream.send_all(data)
        self._busy = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_while_something_is_sent_nothing_else_is(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, lambda _: SlowToy(10), SluggishStream(theirs), Client("test", 1))
        await ours.send_all(framing.frame(b"qRcmd,68656c70"))
        answer = bytearray()
        while b"$" not in answer:
            more = await ours.receive_some(1 << 16)
            assert more
            answer += more
        await ours.aclose()
    assert set(answer.partition(b"$")[0]) == {ord("+")}


async def test_gdb_waits_for_a_slow_answer_and_stays_in_step(tmp_path: Path) -> None:
    # Three times `remotetimeout` is where it would give up.
    async with trio.open_nursery() as nursery:
        target = SlowToy(3.5)
        [address] = await nursery.start(partial(serve, lambda _: target, [parse_address("0")]))
        text = await gdb(
            ["set remotetimeout 1", f"target remote {address}", "x/4xb 0x2000", "x/4xb 0x1000"], tmp_path
        )
        nursery.cancel_scope.cancel()
    assert "Ignoring packet error" not in text
    assert "0x2000:\t0x11\t0x22\t0x33\t0x44" in text
    assert "0x1000:\t0x90\t0xff\t0xc0\t0x88" in text


async def test_lldb_waits_for_a_slow_answer() -> None:
    text = await lldb(
        SlowToy(2.5),
        ["settings show plugin.process.gdb-remote.packet-timeout", "memory read -c 4 0x2000"],
        before=["settings set plugin.process.gdb-remote.packet-timeout 1"],
    )
    assert "packet-timeout (unsigned) = 1\n" in text
    assert "0x00002000: 11 22 33 44" in text
