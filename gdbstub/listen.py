"""Sockets that are listened on, and the stream of an accepted one. trio, no protocol."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import trio

from gdbstub.addresses import (
    BACKLOG,
    Address,
    StdioAddress,
    TcpAddress,
    UnixAddress,
    bind_unix,
    socket_name,
)

LINGER_S: Final = 100e-6
"""For how long an arrival is awaited without going to sleep."""
WAKE_S: Final = 50e-6
"""What being woken takes by itself: an arrival that was slept for had come so much earlier."""
_MOST_CREDIT: Final = 8


class Linger:
    """Whether it pays to stay awake for the next arrival.

    A debugger's command is a dozen small packets, each sent when the one before it is answered. To sleep
    and be woken between two of them takes the host longer than the client takes, so an arrival is
    awaited awake, for as long as the last ones came soon: a client that thinks, or waits for a stop,
    costs nothing after a few turns. What KVM does for a halted vCPU (`halt_poll_ns`).
    """

    def __init__(self) -> None:
        self._credit = 0

    def __bool__(self) -> bool:
        return self._credit > 0

    def waited(self, seconds: float) -> None:
        """The last arrival took so long, or had not come by then."""
        if seconds <= LINGER_S:
            self._credit = min(self._credit + 1, _MOST_CREDIT)
        elif self._credit:
            self._credit -= 2 if self._credit > 1 else 1


class SocketTransport(trio.abc.Stream):
    """A connected socket as a stream that passes through the scheduler once per arrival.

    trio's own socket stream does so for each call, also for one that need not wait; a debugger's
    step is one small packet each way, and that would be a third of its time. `receive_some` always lets
    other tasks run, `send_all` only when the peer is slow: whoever only sends must not count on it.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._closed = False
        self._linger = Linger()

    @classmethod
    def of(cls, stream: trio.SocketStream) -> SocketTransport:
        """Take over the socket of `stream`, which is of no more use then."""
        return cls(socket.socket(fileno=stream.socket.detach()))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        began = time.perf_counter()
        await trio.lowlevel.checkpoint()
        size = max_bytes or 1 << 16
        data = self._receive(size)
        while data is None and self._linger and time.perf_counter() - began < LINGER_S:
            os.sched_yield()  # the client may need this processor for its next request
            data = self._receive(size)
        slept = 0.0
        while data is None:
            slept = WAKE_S
            await trio.lowlevel.wait_readable(self._socket)
            data = self._receive(size)
        self._linger.waited(time.perf_counter() - began - slept)
        return data

    def _receive(self, size: int) -> bytes | None:
        if self._closed:
            raise trio.ClosedResourceError
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""
        sent = self._send(data)
        if sent == len(data):
            return
        with memoryview(data) as rest:
            while sent < len(rest):
                await trio.lowlevel.wait_writable(self._socket)
                sent += self._send(rest[sent:])

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        if self._closed:
            raise trio.ClosedResourceError
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await trio.lowlevel.wait_writable(self._socket)

    async def aclose(self) -> None:
        """Close the socket."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def listening(
    addresses: Sequence[Address],
) -> AsyncIterator[tuple[list[trio.SocketListener], list[str]]]:
    """Bind all addresses; gives the listeners and the names of what is bound. Raises OSError."""
    async with contextlib.AsyncExitStack() as stack:
        listeners: list[trio.SocketListener] = []
        names: list[str] = []
        for address in addresses:
            bound: list[trio.SocketListener] = []
            match address:
                case TcpAddress(port, host):
                    bound = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
                    names += [socket_name(one.socket.getsockname()) for one in bound]
                case UnixAddress(path):
                    bound = [trio.SocketListener(trio.socket.from_stdlib_socket(bind_unix(path)))]
                    stack.callback(_unlink, path)
                    names.append(str(address))
                case StdioAddress():
                    names.append(str(address))
            for listener in bound:
                stack.push_async_callback(listener.aclose)
            listeners += bound
        yield listeners, names


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def peer_name(stream: trio.SocketStream) -> str:
    """Who is at the other end, for messages."""
    try:
        return socket_name(stream.socket.getpeername())
    except OSError:
        return "unknown"


def peer_allowed(stream: trio.SocketStream) -> bool:
    """A Unix socket serves its own user (and root) only."""
    if stream.socket.family != socket.AF_UNIX:
        return True
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.getuid())


def stdio_stream() -> trio.abc.Stream:
    """Standard input and output as one stream, on descriptors of its own."""
    return trio.StapledStream(trio.lowlevel.FdStream(os.dup(1)), trio.lowlevel.FdStream(os.dup(0)))
