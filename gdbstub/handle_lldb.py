"""Handlers for LLDB's packets."""

from __future__ import annotations

import json
from typing import Any

from gdbstub import framing, packets, requests
from gdbstub.context import Context, Outcome
from gdbstub.errors import MemoryAccessError, RequestError, TargetError
from gdbstub.handle_query import stop_reply
from gdbstub.handle_run import point
from gdbstub.handle_state import read_memory
from gdbstub.replies import LLDB_REASONS, Empty, Error, Ok, Raw, stop_signal
from gdbstub.requests_lldb import (
    DetachStopped,
    Echo,
    EnableOption,
    HostInfo,
    PointMany,
    ProcessInfo,
    ReadMany,
    RegionQuery,
    RestoreRegisters,
    SaveRegisters,
    ServerVersion,
    ThreadsInfo,
    ThreadStop,
)
from gdbstub.signals import Signal
from gdbstub.target import Stop, StopReason, ThreadInfo

SERVER_NAME, SERVER_VERSION = "gdbstub", "1"
PROCESS = 1
"""The one process that there is. A number that might be a process of the host would mislead LLDB."""
MAX_SAVED = 16
"""Register states that may wait to be restored."""


async def enable_option(context: Context, request: EnableOption) -> Outcome:
    """Thread suffixes, thread lists in stop replies, texts in errors."""
    context.session.enable(request.option)
    return Ok()


def _architecture(context: Context, *, decimal: bool) -> list[str] | None:
    """Fields that `qHostInfo` and `qProcessInfo` share; None when the description does not say."""
    description = context.target.description
    if description.triple is None:
        return None
    size = description.by_name(description.program_counter).size
    return [
        f"triple:{description.triple.encode().hex()}",
        f"ptrsize:{size if decimal else format(size, 'x')}",
        f"endian:{description.byte_order}",
    ]


async def host_info(context: Context, request: HostInfo) -> Outcome:
    """`qHostInfo`. Its numbers are decimal."""
    fields = _architecture(context, decimal=True)
    if fields is None:
        return Empty()
    fields += ["watchpoint_exceptions_received:after", "vm-page-size:4096"]
    return Raw(";".join([*fields, ""]).encode())


async def process_info(context: Context, request: ProcessInfo) -> Outcome:
    """`qProcessInfo`. Its numbers are hex."""
    fields = _architecture(context, decimal=False)
    if fields is None:
        return Empty()
    return Raw(";".join([f"pid:{PROCESS:x}", "parent-pid:0", *fields, ""]).encode())


async def server_version(context: Context, request: ServerVersion) -> Outcome:
    """`qGDBServerVersion`."""
    return Raw(f"name:{SERVER_NAME};version:{SERVER_VERSION};".encode())


async def detach_stopped(context: Context, request: DetachStopped) -> Outcome:
    """`qSupportsDetachAndStayStopped`: `D1` is known."""
    return Ok()


async def echo(context: Context, request: Echo) -> Outcome:
    """`qEcho`."""
    return Raw(request.text[: context.session.packet_size // 2])


def _stop_of(context: Context, thread: int) -> Stop:
    """How `thread` stands: the stop that was reported, or nothing of its own."""
    event = context.session.last_event
    if isinstance(event, Stop) and event.thread == thread:
        return event
    return Stop(StopReason.ATTACHED, thread, Signal.NONE)


async def thread_stop(context: Context, request: ThreadStop) -> Outcome:
    """`qThreadStopInfo`."""
    await context.thread_info(request.thread)
    return await stop_reply(context, _stop_of(context, request.thread))


async def threads_info(context: Context, request: ThreadsInfo) -> Outcome:
    """`jThreadsInfo`: all threads with their stops and first registers, as JSON."""
    document = [await _thread_object(context, info) for info in await context.target.threads()]
    payload = json.dumps(document, separators=(",", ":")).encode()
    if framing.escaped_size(payload) > context.session.packet_size:
        return Error(TargetError.number, "too many threads for one packet")
    return Raw(payload)


async def _thread_object(context: Context, info: ThreadInfo) -> dict[str, Any]:
    description = context.target.description
    stop = _stop_of(context, info.id)
    values = await context.target.read_registers(info.id, description.expedited)
    numbered = zip(description.expedited_numbers, values, strict=True)
    found: dict[str, Any] = {
        "tid": info.id,
        "name": info.name,
        "signal": stop_signal(stop),
        "registers": {str(number): value.hex() for number, value in numbered if value is not None},
    }
    if (reason := LLDB_REASONS.get(stop.reason)) is not None:
        found["reason"] = reason
    if stop.text:
        found["description"] = stop.text[:400]
    return found


async def region_query(context: Context, request: RegionQuery) -> Outcome:
    """`qMemoryRegionInfo`."""
    capability = context.capabilities.memory_regions
    if capability is None:
        return Empty()
    if request.address is None:
        return Ok()
    region = await capability.memory_region(context.general_thread(), request.address)
    fields = [f"start:{region.start:x}", f"size:{region.size:x}"]
    letters = zip("rwx", (region.readable, region.writable, region.executable), strict=True)
    if permissions := "".join(letter for letter, granted in letters if granted):
        fields.append(f"permissions:{permissions}")
    if region.name:
        fields.append(f"name:{region.name.encode().hex()}")
    return Raw(";".join([*fields, ""]).encode())


async def read_many(context: Context, request: ReadMany) -> Outcome:
    """`MultiMemRead`: what can be read of each range, from its start."""
    room = context.session.packet_size // 2
    parts: list[bytes] = []
    for address, length in request.ranges:
        data = b""
        if length and room > 0:
            try:
                data = await read_memory(context, address, min(length, room))
            except MemoryAccessError:
                data = b""
        room -= len(data)
        parts.append(data)
    return Raw(",".join(f"{len(data):x}" for data in parts).encode() + b";" + b"".join(parts))


async def point_many(context: Context, request: PointMany) -> Outcome:
    """`jMultiBreakpoint`: one after the other; one that fails does not keep the next from being tried."""
    results = [(await _point_result(context, payload)).decode("latin-1") for payload in request.payloads]
    return Raw(json.dumps({"results": results}, separators=(",", ":")).encode())


async def _point_result(context: Context, payload: bytes) -> bytes:
    try:
        parsed = packets.parse(payload)
        if not isinstance(parsed, requests.Point):
            return b""
        outcome = await point(context, parsed)
    except (RequestError, TargetError) as error:
        outcome = Error(error.number, str(error))
    return outcome.payload(context.session.features) if isinstance(outcome, Ok | Empty | Error) else b""


async def save_registers(context: Context, request: SaveRegisters) -> Outcome:
    """`QSaveRegisterState`: keep the general registers. The number is decimal."""
    saved = context.session.saved_registers
    if len(saved) >= MAX_SAVED:
        raise RequestError(f"{MAX_SAVED} states are saved already")
    names = context.target.description.general_names
    values = await context.target.read_registers(await context.named_thread(request.thread), names)
    number = max(saved, default=0) + 1
    saved[number] = tuple([(n, value) for n, value in zip(names, values, strict=True) if value is not None])
    return Raw(b"%d" % number)


async def restore_registers(context: Context, request: RestoreRegisters) -> Outcome:
    """`QRestoreRegisterState`. A state is good for one time."""
    values = context.session.saved_registers.pop(request.saved, None)
    if values is None:
        raise RequestError(f"no saved state {request.saved}")
    await context.target.write_registers(await context.named_thread(request.thread), values)
    return Ok()
