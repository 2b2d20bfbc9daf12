"""Replies: one frozen dataclass per shape, each giving its payload. Pure.

What a payload looks like may depend on what the client offered in `qSupported`; that is the `features`
argument of `payload`. `plain` says that no byte of it ever needs to be escaped. Source: *Debugging with
GDB*, appendix "Remote Protocol", sections "Standard Replies", "Stop Reply Packets" and "General Query
Packets".
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gdbstub.signals import Signal
from gdbstub.target import Exited, Killed, Stop, StopReason

Features = frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Empty:
    """Not supported."""

    plain: ClassVar = True

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b""


@dataclass(frozen=True, slots=True)
class Ok:
    """Done."""

    plain: ClassVar = True

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b"OK"


@dataclass(frozen=True, slots=True)
class Error:
    """``E NN``, or ``E.text`` for a client that offered ``error-message+``, or LLDB's ``E NN;hextext``.

    `always_text` sends the text in any case, where nobody takes it for data.
    """

    plain: ClassVar = False
    number: int
    text: str
    always_text: bool = False

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        if b"QEnableErrorStrings" in features:
            return b"E%02x;%b" % (self.number & 0xFF, hexlify(self.text[:400].encode("utf-8", "replace")))
        if not (self.always_text or b"error-message+" in features):
            return b"E%02x" % (self.number & 0xFF)
        printable = "".join(c if " " <= c <= "~" else "?" for c in self.text[:400])
        return b"E." + printable.encode("ascii")


@dataclass(frozen=True, slots=True)
class Raw:
    """A payload as it stands."""

    plain: ClassVar = False
    data: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return self.data


@dataclass(frozen=True, slots=True)
class Hex:
    """Bytes as pairs of hex digits."""

    plain: ClassVar = True
    data: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return hexlify(self.data)


@dataclass(frozen=True, slots=True)
class Registers:
    """Register values one after the other; `values` pairs each with its size, None being unavailable."""

    plain: ClassVar = True
    values: Sequence[tuple[bytes | None, int]]

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return "".join("xx" * size if value is None else value.hex() for value, size in self.values).encode()


@dataclass(frozen=True, slots=True)
class StopReply:
    """``T``: a stop. `expedited` has (number, value) of the registers sent along; `core` may be None.

    `program_counters` has (thread, program counter) of all threads, for LLDB.
    """

    plain: ClassVar = True
    stop: Stop
    core: int | None = None
    expedited: tuple[tuple[int, bytes], ...] = ()
    program_counters: tuple[tuple[int, int], ...] = ()

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        stop = self.stop
        core = "" if self.core is None else f"core:{self.core:x};"
        registers = "".join([f"{number:x}:{value.hex()};" for number, value in self.expedited])
        thread = thread_text(stop.thread, features)
        threads = _thread_list(self.program_counters, features) if self.program_counters else ""
        for_lldb = _lldb_reason(stop) if b"QThreadSuffixSupported" in features else ""
        head = f"T{stop_signal(stop):02x}thread:{thread};{core}"
        return f"{head}{registers}{threads}{for_lldb}{_reason(stop, features)}".encode()


@dataclass(frozen=True, slots=True)
class EndReply:
    """``W``: ended with a status; ``X``: ended without one."""

    plain: ClassVar = True
    event: Exited | Killed

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        process = b";process:1" if b"multiprocess+" in features else b""
        if isinstance(self.event, Exited):
            return b"W%02x%b" % (self.event.status & 0xFF, process)
        return b"X%02x%b" % (self.event.signal, process)


@dataclass(frozen=True, slots=True)
class ThreadIds:
    """`prefix` and thread ids: ``QC1``, ``m1,2``."""

    plain: ClassVar = True
    prefix: str
    threads: tuple[int, ...]

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return (self.prefix + ",".join(thread_text(thread, features) for thread in self.threads)).encode()


@dataclass(frozen=True, slots=True)
class Console:
    """``O``: text for the user. Only between a resume or `qRcmd` and its answer."""

    plain: ClassVar = True
    text: bytes

    def payload(self, features: Features) -> bytes:
        """The bytes of the packet."""
        return b"O" + self.text.hex().encode()


Reply = Empty | Ok | Error | Raw | Hex | Registers | StopReply | EndReply | ThreadIds | Console


def thread_text(thread: int, features: Features) -> str:
    """A thread id, in process 1 for a client that knows processes."""
    return f"p1.{thread:x}" if b"multiprocess+" in features else f"{thread:x}"


def _thread_list(program_counters: tuple[tuple[int, int], ...], features: Features) -> str:
    threads = ",".join(thread_text(thread, features) for thread, _ in program_counters)
    return f"threads:{threads};thread-pcs:{','.join(f'{pc:x}' for _, pc in program_counters)};"


def stop_signal(stop: Stop) -> int:
    """The signal number of a stop."""
    if stop.signal is not None:
        return stop.signal
    return _INTERRUPTED if stop.reason is StopReason.INTERRUPT else _TRAPPED


_INTERRUPTED, _TRAPPED = int(Signal.SIGINT), int(Signal.SIGTRAP)
_BREAKPOINT_KEYS = {
    StopReason.SOFTWARE_BREAKPOINT: (b"swbreak+", "swbreak:;"),
    StopReason.HARDWARE_BREAKPOINT: (b"hwbreak+", "hwbreak:;"),
}
_OTHER_KEYS = {
    StopReason.LIBRARY: "library:;",
    StopReason.HISTORY_BEGIN: "replaylog:begin;",
    StopReason.HISTORY_END: "replaylog:end;",
}


def _reason(stop: Stop, features: Features) -> str:
    if stop.reason is StopReason.STEP:
        return ""
    if (breakpoint_key := _BREAKPOINT_KEYS.get(stop.reason)) is not None:
        # A client that did not offer the key may take it for a register.
        offer, key = breakpoint_key
        return key if offer in features else ""
    if stop.watch is not None:
        return f"{stop.watch.kind.value}:{stop.watch.address:x};"
    return _OTHER_KEYS.get(stop.reason, "")


LLDB_REASONS = {
    StopReason.STEP: "trace",
    StopReason.SOFTWARE_BREAKPOINT: "breakpoint",
    StopReason.HARDWARE_BREAKPOINT: "breakpoint",
    StopReason.INTERRUPT: "signal",
    StopReason.EVENT: "exception",
}
"""Stop reasons in LLDB's words. It takes a watchpoint from its own key and the rest from the signal."""


def _lldb_reason(stop: Stop) -> str:
    reason = LLDB_REASONS.get(stop.reason)
    if reason is None or (stop.reason is StopReason.EVENT and not stop.text):
        return ""
    description = f"description:{stop.text[:400].encode().hex()};" if stop.text else ""
    return f"reason:{reason};{description}"
