"""From a packet's payload to its request: `PACKETS` finds the parser by the packet's name. Pure.

`parse` never raises anything but `RequestError`, whatever the payload. A payload without a row gives
`Unknown`, whose answer is the empty reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gdbstub.errors import RequestError
from gdbstub.fields import (
    ALL_THREADS,
    TOP,
    address_length,
    hex_bytes,
    number,
    shown,
    split,
    thread_id,
)
from gdbstub.requests import (
    AttachedQuery,
    Cont,
    ContAction,
    ContQuery,
    CurrentThread,
    DetachRequest,
    FirstThreads,
    Kill,
    LegacyResume,
    MemoryCrc,
    MonitorCommand,
    NextThreads,
    OffsetsQuery,
    PhysicalQuery,
    Point,
    ReadGeneral,
    ReadMemory,
    ReadRegister,
    Request,
    SearchMemory,
    SelectThread,
    SetPhysical,
    SetStepPolicy,
    StartNoAckMode,
    StepBitsQuery,
    StepPolicyQuery,
    StopQuery,
    Supported,
    ThreadAlive,
    ThreadExtra,
    Transfer,
    Unknown,
    WriteGeneral,
    WriteMemory,
    WriteRegister,
)
from gdbstub.requests_control import CONTROL_PACKETS, ControlRequest
from gdbstub.requests_lldb import LLDB_PACKETS, LldbRequest, thread_suffix

_DECIMAL_OR_HEX = re.compile(rb"(?:0[xX])?[0-9a-fA-F]{1,8}")
_NAME = re.compile(rb"[A-Za-z.-]+")


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
