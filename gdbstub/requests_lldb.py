"""LLDB's extensions: one frozen dataclass per packet, and their parsers. Pure.

Source: LLDB's documentation, "GDB Remote Protocol Extensions".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gdbstub.errors import RequestError
from gdbstub.fields import ANY_THREAD, number, split, thread_id

MAX_RANGES = 1024
MAX_POINTS = 1024


@dataclass(frozen=True, slots=True)
class EnableOption:
    """``QThreadSuffixSupported``, ``QListThreadsInStopReply``, ``QEnableErrorStrings``: on from now on."""

    option: bytes


@dataclass(frozen=True, slots=True)
class HostInfo:
    """``qHostInfo``."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """``qProcessInfo``."""


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """``qGDBServerVersion``."""


@dataclass(frozen=True, slots=True)
class DetachStopped:
    """``qSupportsDetachAndStayStopped:``."""


@dataclass(frozen=True, slots=True)
class Echo:
    """``qEcho:text``, answered with itself."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ThreadsInfo:
    """``jThreadsInfo``."""


@dataclass(frozen=True, slots=True)
class ThreadStop:
    """``qThreadStopInfo<thread>``."""

    thread: int


@dataclass(frozen=True, slots=True)
class RegionQuery:
    """``qMemoryRegionInfo:address``; without an address (None) the question whether it is known."""

    address: int | None


@dataclass(frozen=True, slots=True)
class ReadMany:
    """``MultiMemRead:ranges:address,length,...;``: pairs of address and length."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PointMany:
    """``jMultiBreakpoint:{"breakpoint_requests": [...]}``: the payloads of `Z` and `z` packets."""

    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SaveRegisters:
    """``QSaveRegisterState[;thread:id;]``."""

    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class RestoreRegisters:
    """``QRestoreRegisterState:save-id[;thread:id;]``."""

    saved: int
    thread: int = ANY_THREAD


LldbRequest = (
    EnableOption
    | HostInfo
    | ProcessInfo
    | ServerVersion
    | DetachStopped
    | Echo
    | ThreadsInfo
    | ThreadStop
    | RegionQuery
    | ReadMany
    | PointMany
    | SaveRegisters
    | RestoreRegisters
)


def thread_suffix(text: bytes) -> tuple[bytes, int]:
    """``text;thread:id;`` taken apart; without the suffix the thread is `ANY_THREAD`."""
    before, found, suffix = text.partition(b";thread:")
    return before, (thread_id(suffix.removesuffix(b";")) if found else ANY_THREAD)


def _only(request: LldbRequest) -> Callable[[bytes], LldbRequest | None]:
    return lambda rest: None if rest else request


def _region(rest: bytes) -> LldbRequest | None:
    if not rest:
        return RegionQuery(None)
    return RegionQuery(number(rest[1:])) if rest.startswith(b":") else None


def _read_many(rest: bytes) -> LldbRequest | None:
    if not rest.startswith(b"ranges:"):
        raise RequestError("expected ranges:")
    listed, options = split(rest.removeprefix(b"ranges:"), b";")
    if options not in (b"", b"options:;"):
        raise RequestError("unknown options")
    fields = listed.removesuffix(b",").split(b",")
    if len(fields) % 2 or len(fields) > 2 * MAX_RANGES:
        raise RequestError(f"expected pairs of address and length, at most {MAX_RANGES}")
    numbers = [number(field) for field in fields]
    return ReadMany(tuple(zip(numbers[::2], numbers[1::2], strict=True)))


def _point_many(rest: bytes) -> LldbRequest | None:
    if not rest.startswith(b":"):
        return None
    try:
        document: Any = json.loads(rest[1:])
    except (ValueError, RecursionError):
        raise RequestError("not a JSON document") from None
    listed = document.get("breakpoint_requests") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise RequestError("expected breakpoint_requests, a list of strings")
    if len(listed) > MAX_POINTS:
        raise RequestError(f"more than {MAX_POINTS} requests")
    return PointMany(tuple(entry.encode("utf-8", "replace") for entry in listed))


def _save(rest: bytes) -> LldbRequest | None:
    before, thread = thread_suffix(rest)
    return None if before else SaveRegisters(thread)


def _restore(rest: bytes) -> LldbRequest | None:
    before, thread = thread_suffix(rest)
    if not before.startswith(b":"):
        return None
    # Alone among the numbers this one is decimal.
    if not before[1:].isdigit() or len(before) > 10:
        raise RequestError("expected the number of a saved state")
    return RestoreRegisters(int(before[1:]), thread)


LLDB_PACKETS: Mapping[bytes, Callable[[bytes], LldbRequest | None]] = MappingProxyType(
    {
        b"QThreadSuffixSupported": _only(EnableOption(b"QThreadSuffixSupported")),
        b"QListThreadsInStopReply": _only(EnableOption(b"QListThreadsInStopReply")),
        b"QEnableErrorStrings": _only(EnableOption(b"QEnableErrorStrings")),
        b"qHostInfo": _only(HostInfo()),
        b"qProcessInfo": _only(ProcessInfo()),
        b"qGDBServerVersion": _only(ServerVersion()),
        b"qSupportsDetachAndStayStopped": lambda rest: DetachStopped() if rest in (b"", b":") else None,
        b"qEcho": lambda rest: Echo(b"qEcho" + rest) if rest.startswith(b":") else None,
        b"jThreadsInfo": _only(ThreadsInfo()),
        b"qThreadStopInfo": lambda rest: ThreadStop(thread_id(rest)),
        b"qMemoryRegionInfo": _region,
        b"MultiMemRead:": _read_many,
        b"jMultiBreakpoint": _point_many,
        b"QSaveRegisterState": _save,
        b"QRestoreRegisterState": _restore,
    }
)
"""As `requests.PACKETS`; None is a packet that we do not know."""
