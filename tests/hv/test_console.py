"""Consoles: slow readers, readers that leave, input that nobody takes."""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from hv import outlet
from hv.console import UnixConsole
from hv.outlet import Outlet
from tests.helpers.patience import HANG_S


class Waits(threading.Condition):
    """A condition that knows which threads have waited on it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def wait(self, timeout: float | None = None) -> bool:
        """Also wakes whoever wants to see the name."""
        self.names.add(threading.current_thread().name)
        self.notify_all()
        return super().wait(timeout)

    def expect(self, name: str) -> bool:
        """Whether the thread `name` waits, sooner or later."""
        with self:
            return self.wait_for(lambda: name in self.names, HANG_S)


class Pipe:
    """An outlet into a pipe, and what a test wants of them."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.outlet = Outlet(self.writer)
        self.read = b""

    def read_until(self, size: int) -> bytes:
        while len(self.read) < size:
            self.read += os.read(self.reader, 1 << 20)
        return self.read

    def close(self) -> None:
        self.outlet.drop()
        os.close(self.reader)  # wakes a thread that waits for it to be read
        self.outlet.finish(HANG_S)
        os.close(self.writer)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """The condition of the outlet that is made next, which holds the guest back for as long as it takes."""
    waits = Waits()
    monkeypatch.setattr(outlet, "_HOLD_S", HANG_S)
    names = SimpleNamespace(Condition=lambda: waits, Thread=threading.Thread)
    monkeypatch.setattr(outlet, "threading", names)
    return waits


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


BULK = b"guest " * 50_000  # more than a pipe takes and the outlet keeps without holding the guest back


def test_a_reader_that_takes_nothing_holds_the_guest_back(waits: Waits, pipe: Pipe) -> None:
    pipe.outlet.write(BULK)
    guest = threading.Thread(target=pipe.outlet.write, args=(b"!",), name="guest", daemon=True)
    guest.start()
    assert waits.expect("guest")
    assert pipe.read_until(len(BULK) + 1) == BULK + b"!"
    guest.join(HANG_S)
    assert not guest.is_alive()


def test_the_guest_is_held_back_for_a_moment_only() -> None:
    """Or else nobody could interrupt it."""
    pipe = Pipe()
    pipe.outlet.write(BULK)
    pipe.outlet.write(b"!")
    assert pipe.read_until(len(BULK) + 1) == BULK + b"!"
    pipe.close()


def test_a_trio_task_is_not_held_back(waits: Waits, pipe: Pipe) -> None:
    async def write() -> None:
        for _ in range(2):
            pipe.outlet.write(BULK)

    trio.run(write)
    assert threading.current_thread().name not in waits.names
    assert pipe.read_until(2 * len(BULK)) == 2 * BULK


def test_what_is_kept_for_a_reader_is_bounded(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    monkeypatch.setattr(outlet, "_MOST", len(BULK))

    async def write() -> None:
        for _ in range(100):
            pipe.outlet.write(BULK)

    trio.run(write)
    assert len(pipe.outlet._queue) < 2 * len(BULK)


def test_a_reader_that_leaves_holds_nobody_back(waits: Waits, pipe: Pipe) -> None:
    pipe.outlet.write(BULK)
    guest = threading.Thread(target=pipe.outlet.write, args=(b"!",), name="guest", daemon=True)
    guest.start()
    assert waits.expect("guest")
    os.dup2(pipe.writer, pipe.reader)  # closes the only reading end
    guest.join(HANG_S)
    assert not guest.is_alive()


def test_an_outlet_does_not_write_into_what_got_its_descriptor_since(pipe: Pipe) -> None:
    pipe.outlet.write(BULK)
    other, into = os.pipe()
    os.dup2(into, pipe.writer)
    assert pipe.read_until(len(BULK)) == BULK
    os.set_blocking(other, False)
    with pytest.raises(BlockingIOError):
        os.read(other, 1)
    os.close(other)
    os.close(into)


async def joined(console: UnixConsole, path: Path) -> trio.SocketStream:
    """A peer, when it gets the output."""
    stream = await trio.open_unix_socket(str(path))
    data = b""
    while not data:
        console.write(b".")
        with trio.move_on_after(0.05):
            data = await stream.receive_some(1)
    return stream


async def nothing_taken(data: bytes) -> None:
    await trio.sleep_forever()


@contextlib.asynccontextmanager
async def reading(path: Path) -> AsyncIterator[UnixConsole]:
    """A console at `path` whose input a task reads, and the guest never takes."""
    console = UnixConsole(str(path))
    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(console.read, nothing_taken, lambda: None)
            yield console
            nursery.cancel_scope.cancel()
    console.close()


async def test_input_that_nobody_takes_does_not_keep_the_next_peer_out(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    async with reading(path) as console:
        for _ in range(3):
            peer = await joined(console, path)
            await peer.send_all(b"x" * 10_000)
            await peer.aclose()


async def test_a_peer_that_cannot_be_accepted_is_accepted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "serial"
    accept, refusals = trio.SocketListener.accept, [errno.EMFILE, errno.ENFILE]

    async def refusing(listener: trio.SocketListener) -> trio.SocketStream:
        if refusals:
            raise OSError(refusals.pop(), "no more")
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", refusing)
    async with reading(path) as console:
        await (await joined(console, path)).aclose()
    assert not refusals


async def test_a_new_peer_gets_the_output_that_an_old_one_did_not_read(tmp_path: Path) -> None:
    """The old one has closed its input only, in the middle of what it is sent."""
    path = tmp_path / "serial"
    async with reading(path) as console:
        old = await joined(console, path)
        console.write(b"x" * 4_000_000)
        old.socket.shutdown(socket.SHUT_WR)
        new = await joined(console, path)
        await old.aclose()
        console.write(b"!")
        while b"!" not in await new.receive_some(4096):
            pass
        await new.aclose()
