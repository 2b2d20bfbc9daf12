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

ALL_THREADS = -1
ANY_THREAD = 0
_TOP = 1 << 64
_HEX = re.compile(rb"[0-9a-fA-F]{1,32}")
_DECIMAL_OR_HEX = re.compile(rb"(?:0[xX])?[0-9a-fA-F]{1,8}")
_NAME = re.compile(rb"[A-Za-z.]+")


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
class ExtendedMode:
    """``!``."""


@dataclass(frozen=True, slots=True)
class ReadGeneral:
    """``g``."""


@dataclass(frozen=True, slots=True)
class WriteGeneral:
    """``G XX...``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadRegister:
    """``p n``."""

    number: int


@dataclass(frozen=True, slots=True)
class WriteRegister:
    """``P n=r``."""

    number: int
    value: bytes


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
    """``D`` or ``D;pid``."""


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
    | ExtendedMode
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
)


def number(text: bytes, *, below: int = _TOP) -> int:
    """A hex number ``0 <= n < below``."""
    if _HEX.fullmatch(text) is None or (value := int(text, 16)) >= below:
        raise RequestError(f"not a hex number below {below:#x}: {_shown(text)}")
    return value


def hex_bytes(text: bytes) -> bytes:
    """The bytes that pairs of hex digits stand for."""
    try:
        # fromhex() would also take blanks between the pairs.
        if len(text) % 2 == 0 and (not text or text.isalnum()):
            return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    raise RequestError("not pairs of hex digits")


def thread_id(text: bytes) -> int:
    """A thread id, -1 for all, 0 for any. The multiprocess form is read with the one process 1."""
    if text.startswith(b"p"):
        process, dot, text = text[1:].partition(b".")
        if process not in (b"-1", b"0") and number(process, below=1 << 31) != 1:
            raise RequestError("there is one process, 1")
        if not dot:
            return ALL_THREADS
    return ALL_THREADS if text == b"-1" else number(text, below=1 << 31)


def _shown(text: bytes) -> str:
    return ascii(text[:40].decode("latin-1"))


def _split(text: bytes, separator: bytes) -> tuple[bytes, bytes]:
    left, found, right = text.partition(separator)
    if not found:
        raise RequestError(f"{separator.decode()} missing in {_shown(text)}")
    return left, right


def _address_length(text: bytes) -> tuple[int, int]:
    address, length = _split(text, b",")
    return number(address), number(length)


def _written(text: bytes, decode: Callable[[bytes], bytes]) -> WriteMemory:
    place, contents = _split(text, b":")
    address, length = _address_length(place)
    data = decode(contents)
    if len(data) != length:
        raise RequestError(f"{length} bytes announced, {len(data)} sent")
    if address + length > _TOP:
        raise RequestError("the range leaves the address space")
    return WriteMemory(address, data)


def _exactly(request: Request) -> Callable[[bytes], Request]:
    return lambda rest: Unknown() if rest else request


def _supported(rest: bytes) -> Request:
    # Some clients leave the colon out when they offer nothing.
    return Supported(frozenset(feature for feature in rest.removeprefix(b":").split(b";") if feature))


def _write_register(rest: bytes) -> Request:
    register, value = _split(rest, b"=")
    return WriteRegister(number(register, below=1 << 16), hex_bytes(value))


def _select_thread(rest: bytes) -> Request:
    operation = rest[:1].decode("latin-1")
    if operation not in ("g", "c"):
        return Unknown()
    return SelectThread(operation, thread_id(rest[1:]))


def _transfer(rest: bytes) -> Request:
    parts = rest[1:].split(b":", 3)
    if not rest.startswith(b":") or len(parts) != 4 or parts[1] != b"read":
        return Unknown()
    offset, length = _address_length(parts[3])
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
        start, end = _address_length(rest)
        return ContAction(kind, thread, start=start, end=end)
    raise RequestError(f"no vCont action: {_shown(text)}")


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
        if address + kind > _TOP:
            raise RequestError("the range leaves the address space")
        return Point(insert, int(fields[0]), address, kind, extra)

    return parser


def _thread_extra(rest: bytes) -> Request:
    return ThreadExtra(thread_id(rest[1:])) if rest.startswith(b",") else Unknown()


def _attached(rest: bytes) -> Request:
    return AttachedQuery() if not rest or rest.startswith(b":") else Unknown()


def _detach(rest: bytes) -> Request:
    return DetachRequest() if not rest or rest.startswith(b";") else Unknown()


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
    length, pattern = _split(length_pattern, b";")
    if not pattern:
        raise RequestError("nothing to search for")
    return SearchMemory(number(address), number(length), pattern)


def _crc(rest: bytes) -> Request:
    return MemoryCrc(*_address_length(rest[1:])) if rest.startswith(b":") else Unknown()


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
    b"!": _exactly(ExtendedMode()),
    b"?": _exactly(StopQuery()),
    b"c": _resume(step=False),
    b"C": _resume_signal(step=False),
    b"D": _detach,
    b"g": _exactly(ReadGeneral()),
    b"G": lambda rest: WriteGeneral(hex_bytes(rest)),
    b"H": _select_thread,
    b"k": _exactly(Kill(answered=False)),
    b"m": lambda rest: ReadMemory(*_address_length(rest)),
    b"M": lambda rest: _written(rest, hex_bytes),
    b"p": lambda rest: ReadRegister(number(rest, below=1 << 16)),
    b"P": _write_register,
    b"s": _resume(step=True),
    b"S": _resume_signal(step=True),
    b"T": lambda rest: ThreadAlive(thread_id(rest)),
    b"x": lambda rest: ReadMemory(*_address_length(rest), binary=True),
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
"""Packet name to the parser of what follows the name. Names starting with q, Q or v are words, all
others one byte."""


def parse(payload: bytes) -> Request:
    """The request in a packet's payload. Raises RequestError when a known packet is malformed."""
    name = payload[:1]
    if name in (b"q", b"Q", b"v"):
        match = _NAME.match(payload)
        name = match[0] if match else name
    parser = PACKETS.get(name)
    return Unknown() if parser is None else parser(payload[len(name) :])
