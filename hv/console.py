"""Where a serial port's bytes go and come from: the terminal, a file, a Unix socket, or nowhere.

Output holds the guest back while the reader is slow: nothing is lost. Input is a trio task that hands
bytes to a `feed` function.

On a terminal, input is raw except that Ctrl-C ends the program. Ctrl-A is a prefix: Ctrl-A x ends too,
Ctrl-A c sends Ctrl-C to the guest, Ctrl-A a sends Ctrl-A.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import trio

from hv.errors import ConfigError
from hv.outlet import Outlet

Feed = Callable[[bytes], Awaitable[None]]
_READ_SIZE: Final = 4096
_GOODBYE_S: Final = 0.5  # how long a reader may take for the rest when the user ends the program
_RETRY_S: Final = 0.1  # until a peer, or who is to be one, is looked at again
_PREFIX: Final = 0x01  # Ctrl-A
_ESCAPES: Final = {ord("c"): b"\x03", ord("a"): b"\x01", _PREFIX: b"\x01"}
_QUIT: Final = ord("x")


class Console(Protocol):
    """One serial port's other end."""

    has_input: bool

    def write(self, data: bytes) -> None:
        """Output of the guest. Any thread; never raises, and waits in no trio task."""
        ...

    def hurry(self) -> None:
        """The program is to end now: from here on no reader is waited for long."""
        ...

    async def read(self, feed: Feed, quit_: Callable[[], None]) -> None:
        """Hand input to `feed` until its end; `quit_` when the user asks to end the program."""
        ...

    def close(self) -> None:
        """Give everything back as it was found."""
        ...


class _WithOutput:
    """What consoles with output share."""

    _out: Outlet | None = None
    _hurried = False

    def write(self, data: bytes) -> None:
        """See `Console`."""
        out = self._out
        if out is not None:
            out.write(data)

    def hurry(self) -> None:
        """See `Console`."""
        self._hurried = True

    def close(self) -> None:
        """See `Console`. A second call, after an interrupted one, does not wait again."""
        out, self._out = self._out, None
        if out is not None:
            out.finish(_GOODBYE_S if self._hurried else None)


class NullConsole:
    """Nowhere."""

    has_input = False

    def write(self, data: bytes) -> None:
        """See `Console`."""

    def hurry(self) -> None:
        """See `Console`."""

    async def read(self, feed: Feed, quit_: Callable[[], None]) -> None:
        """See `Console`."""

    def close(self) -> None:
        """See `Console`."""


class FileConsole(_WithOutput):
    """Output into a file, no input."""

    has_input = False

    def __init__(self, path: str) -> None:
        try:
            with open(path, "wb", buffering=0) as file:
                self._out = Outlet(file.fileno())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}", "--serial") from None

    async def read(self, feed: Feed, quit_: Callable[[], None]) -> None:
        """See `Console`."""


class StdioConsole(_WithOutput):
    """Standard input and output; a terminal is made raw and restored by `close`."""

    has_input = True

    def __init__(self) -> None:
        self._terminal = os.isatty(0)
        self._saved = _make_raw(0) if self._terminal else None
        with contextlib.suppress(OSError):  # it may be closed
            self._out = Outlet(1)

    async def read(self, feed: Feed, quit_: Callable[[], None]) -> None:
        """See `Console`."""
        prefixed = False
        async for data in _Chunks(0):
            if not self._terminal:
                await feed(data)
                continue
            keys = bytearray()
            for key in data:
                if prefixed and key == _QUIT:
                    quit_()
                elif prefixed:
                    keys += _ESCAPES.get(key, b"")
                elif key != _PREFIX:
                    keys.append(key)
                prefixed = key == _PREFIX and not prefixed
            if keys:
                await feed(bytes(keys))

    def close(self) -> None:
        """See `Console`."""
        super().close()
        if self._saved is not None:
            with contextlib.suppress(termios.error, OSError):
                when = termios.TCSANOW if self._hurried else termios.TCSADRAIN
                termios.tcsetattr(0, when, self._saved)
            self._saved = None


def _make_raw(fd: int) -> list[int | list[bytes | int]]:
    saved: list[int | list[bytes | int]] = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)
    mode = termios.tcgetattr(fd)
    mode[3] |= termios.ISIG  # Ctrl-C ends the program; the other signal keys go to the guest
    disabled = b"\0"
    for key in (termios.VQUIT, termios.VSUSP):
        mode[6][key] = disabled
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return saved


class _Chunks:
    """Bytes from a descriptor as they come, without changing its mode (others may share it)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # A regular file is always readable and cannot be polled.
        mode = os.fstat(fd).st_mode
        self._polled = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode))

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        if self._polled:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except OSError:  # the null device, say: always readable as well
                self._polled = False
        await trio.lowlevel.checkpoint()
        try:
            data = os.read(self._fd, _READ_SIZE)
        except OSError:
            raise StopAsyncIteration from None
        if not data:
            raise StopAsyncIteration
        return data


def _bind(path: str) -> socket.socket:
    """A listening socket at `path`, mode 0600; replaces one that nobody listens on. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # nobody can connect before listen()
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _hung_up(stream: trio.SocketStream) -> bool:
    """Whether the peer has left altogether, whatever of its input is unread."""
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    return bool(poll.poll(0))


class UnixConsole(_WithOutput):
    """A Unix socket, for this user only, one peer at a time; output without a peer is dropped."""

    has_input = True

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._socket = _bind(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}", "--serial") from None

    async def read(self, feed: Feed, quit_: Callable[[], None]) -> None:
        """See `Console`."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        stream: trio.SocketStream | None = None
        while True:
            stream = await self._serve(stream or await self._accept(listener), listener, feed)

    async def _accept(self, listener: trio.SocketListener) -> trio.SocketStream:
        """The next peer, who gets the output from now on."""
        while True:
            try:
                stream = await listener.accept()
                self._out = Outlet(stream.socket.fileno())
            except OSError:  # too many open files, say: it passes
                await trio.sleep(_RETRY_S)
            else:
                return stream

    async def _serve(
        self, stream: trio.SocketStream, listener: trio.SocketListener, feed: Feed
    ) -> trio.SocketStream | None:
        """Hand on a peer's input to its end; the next peer if that one came before the guest took it all."""
        out, following = self._out, None
        try:
            while following is None and (data := await stream.receive_some(_READ_SIZE)):
                async with trio.open_nursery() as nursery:

                    async def replace(scope: trio.CancelScope = nursery.cancel_scope) -> None:
                        nonlocal following
                        while not _hung_up(stream):  # noqa: ASYNC110  nobody tells
                            await trio.sleep(_RETRY_S)
                        following = await self._accept(listener)
                        scope.cancel()  # nobody waits for what the old one's input does

                    nursery.start_soon(replace)
                    await feed(data)
                    nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.socket.close()
        if following is None:
            self._out = None
        if out is not None:
            out.drop()
        return following

    def close(self) -> None:
        """See `Console`."""
        super().close()
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def open_console(text: str) -> Console:
    """What `--serial` names: `stdio`, `null`, `file:F` or `unix:F`. `ConfigError`."""
    kind, _, path = text.partition(":")
    match kind, bool(path):
        case "stdio", False:
            return StdioConsole()
        case "null", False:
            return NullConsole()
        case "file", True:
            return FileConsole(path)
        case "unix", True:
            return UnixConsole(path)
        case _:
            raise ConfigError(f"{text!r} is not stdio, null, file:F or unix:F", "--serial")


@contextlib.contextmanager
def opened(text: str) -> Iterator[Console]:
    """A console that is closed whatever happens."""
    console = open_console(text)
    try:
        yield console
    finally:
        console.close()
