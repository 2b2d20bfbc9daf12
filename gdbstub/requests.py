"""Requests: one frozen dataclass per packet, and `PACKETS`, which finds the parser by name. Pure.

`parse` never raises anything but `RequestError`, whatever the payload. A payload without a row gives
`Unknown`, whose answer is the empty reply. Numbers are hex. Source: *Debugging with GDB*, appendix
"Remote Protocol", sections "Packets", "vCont packet", "General Query Packets"; QEMU's documentation
"GDB usage" for the `qqemu` packets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gdbstub.errors import RequestError
from gdbstub.fields import (
    ALL_THREADS,
    ANY_THREAD,
    TOP,
    address_length,
    hex_bytes,
    number,
    shown,
    split,
    thread_id,
)
from gdbstub.requests_control import CONTROL_PACKETS, ControlRequest
from gdbstub.requests_lldb import LLDB_PACKETS, LldbRequest, thread_suffix

_DECIMAL_OR_HEX = re.compile(rb"(?:0[xX])?[0-9a-fA-F]{1,8}")
_NAME = re.compile(rb"[A-Za-z.-]+")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet that has no row."""


@dataclass(frozen=True, slots=True)
class Supported:
    """``qSupported:feature;...`` with the client's features as sent: ``swbreak+``, ``xmlRegisters=i386``."""

    features: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class StartNoAckMode:
    """``QStartNoAckMode``."""


@dataclass(frozen=True, slots=True)
class StopQuery:
    """``?``."""


@dataclass(frozen=True, slots=True)
class ReadGeneral:
    """``g``. This and its like may name a `thread` of their own, as LLDB does: ``g;thread:1;``."""

    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class WriteGeneral:
    """``G XX...``."""

    data: bytes
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class ReadRegister:
    """``p n``."""

    number: int
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class WriteRegister:
    """``P n=r``."""

    number: int
    value: bytes
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """``m addr,length`` or, `binary`, ``x addr,length``."""

    address: int
    length: int
    binary: bool = False


@dataclass(frozen=True, slots=True)
class WriteMemory:
    """``M addr,length:XX...`` or ``X addr,length:bytes``."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SelectThread:
    """``H op thread``; `operation` is ``g`` or ``c``."""

    operation: str
    thread: int


@dataclass(frozen=True, slots=True)
class ThreadAlive:
    """``T thread``."""

    thread: int


@dataclass(frozen=True, slots=True)
class CurrentThread:
    """``qC``."""


@dataclass(frozen=True, slots=True)
class FirstThreads:
    """``qfThreadInfo``."""


@dataclass(frozen=True, slots=True)
class NextThreads:
    """``qsThreadInfo``."""


@dataclass(frozen=True, slots=True)
class ThreadExtra:
    """``qThreadExtraInfo,thread``."""

    thread: int


@dataclass(frozen=True, slots=True)
class AttachedQuery:
    """``qAttached``."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """``qXfer:object:read:annex:offset,length``."""

    object: str
    annex: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class LegacyResume:
    """``c``, ``s``, ``C sig``, ``S sig``, each with an optional address to go on from."""

    step: bool
    signal: int
    address: int | None


@dataclass(frozen=True, slots=True)
class ContQuery:
    """``vCont?``."""


@dataclass(frozen=True, slots=True)
class ContAction:
    """One action of ``vCont``: `kind` is one of ``c C s S r t``; `start` and `end` belong to ``r``."""

    kind: str
    thread: int = ALL_THREADS
    signal: int = 0
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Cont:
    """``vCont;action[:thread];...``."""

    actions: tuple[ContAction, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """``Z type,addr,kind`` (`insert`) or ``z type,addr,kind``. `extra` is what follows a semicolon."""

    insert: bool
    type: int
    address: int
    kind: int
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class DetachRequest:
    """``D`` or ``D;pid``; LLDB's ``D1`` (`stay`) leaves the target stopped."""

    stay: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """``k`` (no answer) or ``vKill;pid`` (`answered`)."""

    answered: bool


@dataclass(frozen=True, slots=True)
class MonitorCommand:
    """``qRcmd,command``."""

    command: str


@dataclass(frozen=True, slots=True)
class OffsetsQuery:
    """``qOffsets``."""


@dataclass(frozen=True, slots=True)
class SearchMemory:
    """``qSearch:memory:address;length;pattern``."""

    address: int
    length: int
    pattern: bytes


@dataclass(frozen=True, slots=True)
class MemoryCrc:
    """``qCRC:addr,length``."""

    address: int
    length: int


@dataclass(frozen=True, slots=True)
class StepBitsQuery:
    """``qqemu.sstepbits`` (also asked with a capital Q)."""


@dataclass(frozen=True, slots=True)
class StepPolicyQuery:
    """``qqemu.sstep``."""


@dataclass(frozen=True, slots=True)
class SetStepPolicy:
    """``Qqemu.sstep=mask``."""

    mask: int


@dataclass(frozen=True, slots=True)
class PhysicalQuery:
    """``qqemu.PhyMemMode``."""


@dataclass(frozen=True, slots=True)
class SetPhysical:
    """``Qqemu.PhyMemMode:0`` or ``:1``."""

    on: bool


Request = (
    Unknown
    | Supported
    | StartNoAckMode
    | StopQuery
    | ReadGeneral
    | WriteGeneral
    | ReadRegister
    | WriteRegister
    | ReadMemory
    | WriteMemory
    | SelectThread
    | ThreadAlive
    | CurrentThread
    | FirstThreads
    | NextThreads
    | ThreadExtra
    | AttachedQuery
    | Transfer
    | LegacyResume
    | ContQuery
    | Cont
    | Point
    | DetachRequest
    | Kill
    | MonitorCommand
    | OffsetsQuery
    | SearchMemory
    | MemoryCrc
    | StepBitsQuery
    | StepPolicyQuery
    | SetStepPolicy
    | PhysicalQuery
    | SetPhysical
    | LldbRequest
    | ControlRequest
)


def _written(text: bytes, decode: Callable[[bytes], bytes]) -> WriteMemory:
    place, contents = split(text, b":")
    address, length = address_length(place)
    data = decode(contents)
    if len(data) != length:
        raise RequestError(f"{length} bytes announced, {len(data)} sent")
    if address + length > TOP:
        raise RequestError("the range leaves the address space")
    return WriteMemory(address, data)


def _exactly(request: Request) -> Callable[[bytes], Request]:
    return lambda rest: Unknown() if rest else request


def _supported(rest: bytes) -> Request:
    # Some clients leave the colon out when they offer nothing.
    return Supported(frozenset(feature for feature in rest.removeprefix(b":").split(b";") if feature))


def _read_general(rest: bytes) -> Request:
    text, thread = thread_suffix(rest)
    return Unknown() if text else ReadGeneral(thread)


def _write_general(rest: bytes) -> Request:
    text, thread = thread_suffix(rest)
    return WriteGeneral(hex_bytes(text), thread)


def _read_register(rest: bytes) -> Request:
    text, thread = thread_suffix(rest)
    return ReadRegister(number(text, below=1 << 16), thread)


def _write_register(rest: bytes) -> Request:
    text, thread = thread_suffix(rest)
    register, value = split(text, b"=")
    return WriteRegister(number(register, below=1 << 16), hex_bytes(value), thread)


def _select_thread(rest: bytes) -> Request:
    operation = rest[:1].decode("latin-1")
    if operation not in ("g", "c"):
        return Unknown()
    return SelectThread(operation, thread_id(rest[1:]))


def _transfer(rest: bytes) -> Request:
    parts = rest[1:].split(b":", 3)
    if not rest.startswith(b":") or len(parts) != 4 or parts[1] != b"read":
        return Unknown()
    offset, length = address_length(parts[3])
    return Transfer(parts[0].decode("latin-1"), parts[2].decode("latin-1"), offset, length)


def _resume(step: bool) -> Callable[[bytes], Request]:
    return lambda rest: LegacyResume(step, 0, number(rest) if rest else None)


def _resume_signal(step: bool) -> Callable[[bytes], Request]:
    def parser(rest: bytes) -> Request:
        signal, found, address = rest.partition(b";")
        return LegacyResume(step, number(signal, below=256), number(address) if found else None)

    return parser


def _cont_action(text: bytes) -> ContAction:
    action, found, thread_text = text.partition(b":")
    thread = thread_id(thread_text) if found else ALL_THREADS
    kind, rest = action[:1].decode("latin-1"), action[1:]
    if kind in ("c", "s", "t") and not rest:
        return ContAction(kind, thread)
    if kind in ("C", "S"):
        return ContAction(kind, thread, signal=number(rest, below=256))
    if kind == "r":
        start, end = address_length(rest)
        return ContAction(kind, thread, start=start, end=end)
    raise RequestError(f"no vCont action: {shown(text)}")


def _cont(rest: bytes) -> Request:
    if rest == b"?":
        return ContQuery()
    if not rest.startswith(b";"):
        return Unknown()
    if rest.count(b";") > 256:
        raise RequestError("more than 256 actions")
    return Cont(tuple(_cont_action(action) for action in rest[1:].split(b";")))


def _point(insert: bool) -> Callable[[bytes], Request]:
    def parser(rest: bytes) -> Request:
        place, _, extra = rest.partition(b";")
        fields = place.split(b",")
        if len(fields) != 3:
            raise RequestError("expected type,address,kind")
        if fields[0] not in (b"0", b"1", b"2", b"3", b"4"):
            return Unknown()
        address, kind = number(fields[1]), number(fields[2])
        if address + kind > TOP:
            raise RequestError("the range leaves the address space")
        return Point(insert, int(fields[0]), address, kind, extra)

    return parser


def _thread_extra(rest: bytes) -> Request:
    return ThreadExtra(thread_id(rest[1:])) if rest.startswith(b",") else Unknown()


def _attached(rest: bytes) -> Request:
    return AttachedQuery() if not rest or rest.startswith(b":") else Unknown()


def _detach(rest: bytes) -> Request:
    mode, _, _ = rest.partition(b";")
    modes: dict[bytes, Request] = {b"": DetachRequest(), b"1": DetachRequest(stay=True)}
    return modes.get(mode, Unknown())


def _vkill(rest: bytes) -> Request:
    return Kill(answered=True) if rest.startswith(b";") else Unknown()


def _monitor(rest: bytes) -> Request:
    if not rest.startswith(b","):
        return Unknown()
    return MonitorCommand(hex_bytes(rest[1:]).decode("utf-8", "replace"))


def _search(rest: bytes) -> Request:
    if not rest.startswith(b":memory:"):
        return Unknown()
    address, _, length_pattern = rest.removeprefix(b":memory:").partition(b";")
    length, pattern = split(length_pattern, b";")
    if not pattern:
        raise RequestError("nothing to search for")
    return SearchMemory(number(address), number(length), pattern)


def _crc(rest: bytes) -> Request:
    return MemoryCrc(*address_length(rest[1:])) if rest.startswith(b":") else Unknown()


def _step_policy(rest: bytes) -> Request:
    if not rest:
        return StepPolicyQuery()
    if not rest.startswith(b"=") or _DECIMAL_OR_HEX.fullmatch(rest[1:]) is None:
        return Unknown()
    return SetStepPolicy(int(rest[1:], 16))


def _physical(rest: bytes) -> Request:
    modes: dict[bytes, Request] = {b"": PhysicalQuery(), b":0": SetPhysical(False), b":1": SetPhysical(True)}
    return modes.get(rest, Unknown())


PACKETS: dict[bytes, Callable[[bytes], Request]] = {
    b"?": _exactly(StopQuery()),
    b"c": _resume(step=False),
    b"C": _resume_signal(step=False),
    b"D": _detach,
    b"g": _read_general,
    b"G": _write_general,
    b"H": _select_thread,
    b"k": _exactly(Kill(answered=False)),
    b"m": lambda rest: ReadMemory(*address_length(rest)),
    b"M": lambda rest: _written(rest, hex_bytes),
    b"p": _read_register,
    b"P": _write_register,
    b"s": _resume(step=True),
    b"S": _resume_signal(step=True),
    b"T": lambda rest: ThreadAlive(thread_id(rest)),
    b"x": lambda rest: ReadMemory(*address_length(rest), binary=True),
    b"X": lambda rest: _written(rest, bytes),
    b"z": _point(insert=False),
    b"Z": _point(insert=True),
    b"qAttached": _attached,
    b"qC": _exactly(CurrentThread()),
    b"qCRC": _crc,
    b"qfThreadInfo": _exactly(FirstThreads()),
    b"qsThreadInfo": _exactly(NextThreads()),
    b"qOffsets": _exactly(OffsetsQuery()),
    b"qRcmd": _monitor,
    b"qSearch": _search,
    b"qSupported": _supported,
    b"qThreadExtraInfo": _thread_extra,
    b"qXfer": _transfer,
    b"QStartNoAckMode": _exactly(StartNoAckMode()),
    b"qqemu.PhyMemMode": _physical,
    b"Qqemu.PhyMemMode": _physical,
    b"qqemu.sstep": _step_policy,
    b"Qqemu.sstep": _step_policy,
    b"qqemu.sstepbits": _exactly(StepBitsQuery()),
    b"Qqemu.sstepbits": _exactly(StepBitsQuery()),
    b"vCont": _cont,
    b"vKill": _vkill,
}
"""Packet name to the parser of what follows the name. Names starting with j, q, Q or v are words, all
others one byte."""

_EXTENSIONS: dict[bytes, Callable[[bytes], LldbRequest | ControlRequest | None]] = {
    **LLDB_PACKETS,
    **CONTROL_PACKETS,
}
PACKET_NAMES = frozenset({*PACKETS, *_EXTENSIONS})
"""Every name that `parse` knows."""
_RUN_ON = (b"qThreadStopInfo", b"MultiMemRead:")
"""Names that what follows cannot be told from by its letters."""


def parse(payload: bytes) -> Request:
    """The request in a packet's payload. Raises RequestError when a known packet is malformed."""
    name = payload[:1]
    if name in (b"j", b"q", b"Q", b"v", b"M"):
        name = _word(payload, name)
    rest = payload[len(name) :]
    parser = PACKETS.get(name)
    if parser is not None:
        return parser(rest)
    extension = _EXTENSIONS.get(name)
    return (extension(rest) if extension is not None else None) or Unknown()


def _word(payload: bytes, first: bytes) -> bytes:
    for name in _RUN_ON:
        if payload.startswith(name):
            return name
    match = _NAME.match(payload) if first != b"M" else None
    return match[0] if match else first
