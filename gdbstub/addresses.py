"""Addresses of the server: how they are written and named, and Unix sockets bound. No trio."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from dataclasses import dataclass

from gdbstub.errors import StubError

BACKLOG = 16
"""Connections that may wait to be accepted."""
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


def bind_unix(path: str) -> socket.socket:
    """A listening socket at `path`, mode 0600. Replaces a socket that nobody listens on. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        # Nobody can connect before listen().
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == 0


def socket_name(name: object) -> str:
    """The text for what `getsockname` or `getpeername` gives."""
    match name:
        case (str(host), int(port), *_):
            return str(TcpAddress(port, host))
        case _:
            return "unix"


def is_local(name: str) -> bool:
    """Whether a name that `listen` gave is out of other machines' reach."""
    return name.startswith(("127.", "[::1]", "unix:", "stdio"))
