"""Replies: one frozen dataclass per shape, each giving its payload. Pure.

What a payload looks like may depend on what the client offered in `qSupported`; that is the `features`
argument of `payload`. Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Standard
Replies", "Stop Reply Packets" and "General Query Packets".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdbstub.signals import Signal
from gdbstub.target import Exited, Killed, Stop, StopReason

Features = frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Empty:
    """Not supported."""

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b""


@dataclass(frozen=True, slots=True)
class Ok:
    """Done."""

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b"OK"


@dataclass(frozen=True, slots=True)
class Error:
    """``E NN``, or ``E.text`` for a client that offered ``error-message+``.

    `always_text` sends the text in any case, where nobody takes it for data.
    """

    number: int
    text: str
    always_text: bool = False

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        if not (self.always_text or b"error-message+" in features):
            return b"E%02x" % (self.number & 0xFF)
        printable = "".join(c if " " <= c <= "~" else "?" for c in self.text[:400])
        return b"E." + printable.encode("ascii")


@dataclass(frozen=True, slots=True)
class Raw:
    """A payload as it stands."""

    data: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return self.data


@dataclass(frozen=True, slots=True)
class Hex:
    """Bytes as pairs of hex digits."""

    data: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return self.data.hex().encode()


@dataclass(frozen=True, slots=True)
class Registers:
    """Register values one after the other; `values` pairs each with its size, None being unavailable."""

    values: Sequence[tuple[bytes | None, int]]

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return "".join("xx" * size if value is None else value.hex() for value, size in self.values).encode()


@dataclass(frozen=True, slots=True)
class StopReply:
    """``T``: a stop. `expedited` has (number, value) of the registers sent along; `core` may be None."""

    stop: Stop
    core: int | None = None
    expedited: tuple[tuple[int, bytes], ...] = ()

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        parts = [f"T{stop_signal(self.stop):02x}thread:{self.stop.thread:x};"]
        if self.core is not None:
            parts.append(f"core:{self.core:x};")
        parts += [f"{number:x}:{value.hex()};" for number, value in self.expedited]
        parts.append(_reason(self.stop, features))
        return "".join(parts).encode()


@dataclass(frozen=True, slots=True)
class EndReply:
    """``W``: ended with a status; ``X``: ended without one."""

    event: Exited | Killed

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        if isinstance(self.event, Exited):
            return b"W%02x" % (self.event.status & 0xFF)
        return b"X%02x" % self.event.signal


@dataclass(frozen=True, slots=True)
class Console:
    """``O``: text for the user. Only between a resume or `qRcmd` and its answer."""

    text: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b"O" + self.text.hex().encode()


Reply = Empty | Ok | Error | Raw | Hex | Registers | StopReply | EndReply | Console


def stop_signal(stop: Stop) -> int:
    """The signal number of a stop."""
    if stop.signal is not None:
        return stop.signal
    return Signal.SIGINT if stop.reason is StopReason.INTERRUPT else Signal.SIGTRAP


def _reason(stop: Stop, features: Features) -> str:
    match stop.reason:
        case StopReason.SOFTWARE_BREAKPOINT | StopReason.HARDWARE_BREAKPOINT as reason:
            # A client that did not offer the key may take it for a register.
            return f"{reason.value}:;" if f"{reason.value}+".encode() in features else ""
        case StopReason.HISTORY_BEGIN | StopReason.HISTORY_END as reason:
            return f"{reason.value};"
        case _:
            return f"{stop.watch.kind.value}:{stop.watch.address:x};" if stop.watch else ""
