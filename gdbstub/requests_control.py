"""Requests about processes, non-stop mode, branch traces and files: dataclasses and parsers. Pure.

Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Packets", "Remote Non-Stop", "General
Query Packets", "Host I/O Packets".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gdbstub.errors import RequestError
from gdbstub.fields import hex_bytes, number

MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class ExtendedMode:
    """``!``."""


@dataclass(frozen=True, slots=True)
class RestartRequest:
    """``R XX``: start again. Nothing answers it."""


@dataclass(frozen=True, slots=True)
class RunProgram:
    """``vRun;file;argument...``, hex; `file` empty is the present one."""

    file: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttachTo:
    """``vAttach;pid``."""

    process: int


@dataclass(frozen=True, slots=True)
class SetNonStop:
    """``QNonStop:0`` or ``:1``."""

    on: bool


@dataclass(frozen=True, slots=True)
class NextStop:
    """``vStopped``."""


@dataclass(frozen=True, slots=True)
class CtrlC:
    """``vCtrlC``."""


@dataclass(frozen=True, slots=True)
class BranchTraceRequest:
    """``Qbtrace:bts`` (`on`) or ``Qbtrace:off``."""

    on: bool


@dataclass(frozen=True, slots=True)
class BranchTraceSize:
    """``Qbtrace-conf:bts:size=n``."""

    size: int


@dataclass(frozen=True, slots=True)
class FileSystem:
    """``vFile:setfs:pid``."""


@dataclass(frozen=True, slots=True)
class FileOpen:
    """``vFile:open:path,flags,mode``, the path in hex."""

    path: str
    flags: int


@dataclass(frozen=True, slots=True)
class FileClose:
    """``vFile:close:fd``."""

    descriptor: int


@dataclass(frozen=True, slots=True)
class FileRead:
    """``vFile:pread:fd,count,offset``."""

    descriptor: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileStat:
    """``vFile:fstat:fd``, or ``vFile:stat:path`` with `path`."""

    descriptor: int = -1
    path: str | None = None


@dataclass(frozen=True, slots=True)
class FileSize:
    """LLDB's ``vFile:size:path`` and, `exists`, ``vFile:exists:path``."""

    path: str
    exists: bool = False


@dataclass(frozen=True, slots=True)
class FileChange:
    """``vFile:pwrite``, ``vFile:unlink`` and ``vFile:readlink``: not on these files."""


ControlRequest = (
    ExtendedMode
    | RestartRequest
    | RunProgram
    | AttachTo
    | SetNonStop
    | NextStop
    | CtrlC
    | BranchTraceRequest
    | BranchTraceSize
    | FileSystem
    | FileOpen
    | FileClose
    | FileRead
    | FileStat
    | FileSize
    | FileChange
)


def _only(request: ControlRequest) -> Callable[[bytes], ControlRequest | None]:
    return lambda rest: None if rest else request


def _text(text: bytes) -> str:
    if len(text) > 2 * MAX_PATH:
        raise RequestError(f"a text of more than {MAX_PATH} bytes")
    return hex_bytes(text).decode("utf-8", "replace")


def _run(rest: bytes) -> ControlRequest | None:
    if not rest.startswith(b";"):
        return None
    file, *arguments = [_text(part) for part in rest[1:].split(b";")]
    return RunProgram(file, tuple(arguments))


def _attach(rest: bytes) -> ControlRequest | None:
    return AttachTo(number(rest[1:], below=1 << 31)) if rest.startswith(b";") else None


def _non_stop(rest: bytes) -> ControlRequest | None:
    return {b":0": SetNonStop(False), b":1": SetNonStop(True)}.get(rest)


def _branch_trace(rest: bytes) -> ControlRequest | None:
    return {b":off": BranchTraceRequest(False), b":bts": BranchTraceRequest(True)}.get(rest)


def _branch_size(rest: bytes) -> ControlRequest | None:
    prefix = b":bts:size="
    if not rest.startswith(prefix):
        return None
    # The one number that gdb writes as C does.
    return BranchTraceSize(number(rest.removeprefix(prefix).removeprefix(b"0x")))


def _numbers(rest: bytes, count: int) -> list[int]:
    fields = rest.split(b",")
    if len(fields) != count:
        raise RequestError(f"expected {count} numbers")
    return [number(field) for field in fields]


def _open(rest: bytes) -> ControlRequest:
    fields = rest.split(b",")
    if len(fields) != 3:
        raise RequestError("expected path,flags,mode")
    return FileOpen(_text(fields[0]), number(fields[1], below=1 << 32))


_FILE_OPERATIONS: dict[bytes, Callable[[bytes], ControlRequest]] = {
    b"setfs": lambda rest: FileSystem(),
    b"open": _open,
    b"close": lambda rest: FileClose(_numbers(rest, 1)[0]),
    b"pread": lambda rest: FileRead(*_numbers(rest, 3)),
    b"fstat": lambda rest: FileStat(_numbers(rest, 1)[0]),
    b"stat": lambda rest: FileStat(path=_text(rest)),
    b"size": lambda rest: FileSize(_text(rest)),
    b"exists": lambda rest: FileSize(_text(rest), exists=True),
    b"pwrite": lambda rest: FileChange(),
    b"unlink": lambda rest: FileChange(),
    b"readlink": lambda rest: FileChange(),
}


def _file(rest: bytes) -> ControlRequest | None:
    operation, _, arguments = rest.removeprefix(b":").partition(b":")
    parser = _FILE_OPERATIONS.get(operation)
    return None if parser is None else parser(arguments)


CONTROL_PACKETS: Mapping[bytes, Callable[[bytes], ControlRequest | None]] = MappingProxyType(
    {
        b"!": _only(ExtendedMode()),
        b"R": lambda rest: RestartRequest(),
        b"vRun": _run,
        b"vAttach": _attach,
        b"QNonStop": _non_stop,
        b"vStopped": _only(NextStop()),
        b"vCtrlC": _only(CtrlC()),
        b"Qbtrace": _branch_trace,
        b"Qbtrace-conf": _branch_size,
        b"vFile": _file,
    }
)
"""As `requests.PACKETS`; None is a packet that we do not know."""
