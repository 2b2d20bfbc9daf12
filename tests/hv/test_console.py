"""Consoles: slow readers, readers that leave, input that nobody takes."""

import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import trio

from hv import outlet
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
