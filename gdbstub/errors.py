"""Every exception of the debug server: one class per decision a caller makes.

A `Target` raises `TargetError` or a subclass; the handler's caller turns it into an error reply
(``E NN``, or ``E.text`` when the client understands text) and the session goes on. `RequestError`
is a packet that does not parse: also an error reply. `ProtocolError` is a byte stream that is not
the protocol at all: the connection ends. The numbers are those of *Debugging with GDB*, appendix
"Remote Protocol", which gives them no meaning; we use the errno values people recognise.
"""

from __future__ import annotations

EPERM = 1
ESRCH = 3
EIO = 5
EFAULT = 14
EBUSY = 16
EINVAL = 22
EOPNOTSUPP = 95


class StubError(Exception):
    """Anything this package raises on purpose."""


class ProtocolError(StubError):
    """The byte stream is not GDB's protocol, or breaks a bound. The connection is closed."""


class ConnectionLostError(StubError):
    """The other end went away (client side)."""


class RequestError(StubError):
    """A packet whose arguments do not parse. Answered with an error; nothing was done."""

    number = EINVAL


class TargetError(StubError):
    """A request that the target cannot fulfil. `number` goes into ``E NN``, `str()` into ``E.text``."""

    number = EIO


class MemoryAccessError(TargetError):
    """No byte at `address` can be read (or, for a write, some byte cannot be written)."""

    number = EFAULT

    def __init__(self, address: int, why: str = "not mapped") -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return f"memory at {self.address:#x}: {self.why}"


class RegisterError(TargetError):
    """A register that cannot be written, or not to this value."""

    number = EINVAL

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"register {self.name}: {self.why}"


class ThreadNotFoundError(TargetError):
    """A thread id that the target does not have."""

    number = ESRCH

    def __init__(self, thread: int) -> None:
        super().__init__(thread)
        self.thread = thread

    def __str__(self) -> str:
        return f"no thread {self.thread}"


class UnsupportedError(TargetError):
    """A kind of request that the target has, in a form that it does not have (a size, an alignment)."""

    number = EOPNOTSUPP


class TargetBusyError(TargetError):
    """Another client, `holder`, controls the target. Raised by `Target.attach`; the connection closes."""

    number = EBUSY

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder

    def __str__(self) -> str:
        return f"the target is controlled by {self.holder}"


class TargetGoneError(TargetError):
    """The target ended (it has reported `Exited`) and answers nothing more."""

    number = ESRCH


class RemoteError(StubError):
    """The server answered a request with an error (client side). `reply` is the payload."""

    def __init__(self, request: bytes, reply: bytes) -> None:
        super().__init__(request, reply)
        self.request = request
        self.reply = reply

    def __str__(self) -> str:
        return f"{self.request[:60]!r} was answered {self.reply[:200]!r}"
