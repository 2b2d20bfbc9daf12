"""Addresses of the server: how they are written, bound and named."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import trio

from gdbstub.errors import StubError

_BACKLOG = 16
_TCP = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})")


class AddressError(StubError):
    """A text that names no address."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port; `port` 0 lets the system choose. Without a host it is the loopback interface."""

    port: int
    host: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket at `path`, for this user only."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class StdioAddress:
    """Standard input and output."""

    def __str__(self) -> str:
        return "stdio"


Address = TcpAddress | UnixAddress | StdioAddress


def parse_address(text: str) -> Address:
    """Read ``[HOST:]PORT``, ``unix:PATH`` or ``stdio``. Raises AddressError."""
    if text == "stdio":
        return StdioAddress()
    if text.startswith("unix:") and len(text) > len("unix:"):
        return UnixAddress(text.removeprefix("unix:"))
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise AddressError(f"'{text}' is not [HOST:]PORT, unix:PATH or stdio")
    host = (match["host"] or "").strip("[]")
    return TcpAddress(int(match["port"]), host) if host else TcpAddress(int(match["port"]))


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        # Nobody can connect before listen().
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == 0


@contextlib.asynccontextmanager
async def listen(addresses: Sequence[Address]) -> AsyncIterator[tuple[list[trio.SocketListener], list[str]]]:
    """Bind all addresses; gives the listeners and the names of what is bound. Raises OSError."""
    async with contextlib.AsyncExitStack() as stack:
        listeners: list[trio.SocketListener] = []
        names: list[str] = []
        for address in addresses:
            bound: list[trio.SocketListener] = []
            match address:
                case TcpAddress(port, host):
                    bound = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
                    names += [_socket_name(one.socket.getsockname()) for one in bound]
                case UnixAddress(path):
                    bound = [trio.SocketListener(trio.socket.from_stdlib_socket(_bind_unix(path)))]
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


def _socket_name(name: object) -> str:
    match name:
        case (str(host), int(port), *_):
            return str(TcpAddress(port, host))
        case _:
            return "unix"


def peer_name(stream: trio.SocketStream) -> str:
    """Who is at the other end, for messages."""
    try:
        return _socket_name(stream.socket.getpeername())
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
