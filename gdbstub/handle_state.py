"""Handlers for registers and memory."""

from __future__ import annotations

import functools
import zlib

from gdbstub import framing
from gdbstub.context import Context, Job, Outcome
from gdbstub.description import Register
from gdbstub.errors import MemoryAccessError, RegisterError, RequestError, TargetError
from gdbstub.replies import Error, Hex, Ok, Raw, Registers, Reply
from gdbstub.requests import (
    MemoryCrc,
    ReadGeneral,
    ReadMemory,
    ReadRegister,
    SearchMemory,
    WriteGeneral,
    WriteMemory,
    WriteRegister,
)

SEARCH_LIMIT = 1 << 32
"""Bytes that one `qSearch:memory` or `qCRC` may look at."""
_SLICE = 1 << 16
_PAGE = 4096
_TOP = 1 << 64
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _sized(register: Register, value: bytes | None) -> tuple[bytes | None, int]:
    if value is not None and len(value) != register.size:
        raise ValueError(f"target gave {len(value)} bytes for {register.name}, which has {register.size}")
    return value, register.size


async def read_general(context: Context, request: ReadGeneral) -> Outcome:
    """`g`."""
    description = context.target.description
    thread = await context.named_thread(request.thread)
    values = await context.target.read_registers(thread, description.general_names)
    try:
        whole = b"".join(values)  # type: ignore[arg-type]
    except TypeError:  # one is not available
        whole = b""
    if len(whole) == description.general_size:
        return Hex(whole)
    return Registers(list(map(_sized, description.general, values)))


async def write_general(context: Context, request: WriteGeneral) -> Outcome:
    """`G`: all or nothing."""
    description = context.target.description
    if len(request.data) != description.general_size:
        raise RequestError(f"expected {description.general_size} bytes of registers, not {len(request.data)}")
    thread = await context.named_thread(request.thread)
    await context.target.write_registers(thread, description.split_general(request.data))
    return Ok()


def _register(context: Context, number: int) -> Register:
    registers = context.target.description.registers
    if number >= len(registers):
        raise RegisterError(f"number {number}", "not in the description")
    return registers[number]


async def read_register(context: Context, request: ReadRegister) -> Outcome:
    """`p`."""
    register = _register(context, request.number)
    thread = await context.named_thread(request.thread)
    values = await context.target.read_registers(thread, (register.name,))
    if register.read_only and values[0] is not None:
        context.session.remember(thread, register.name, values[0])
    return Registers([_sized(register, values[0])])


async def write_register(context: Context, request: WriteRegister) -> Outcome:
    """`P`. gdb writes all registers back after a call: for a read-only one that is no error."""
    register, thread = _register(context, request.number), await context.named_thread(request.thread)
    if len(request.value) != register.size:
        raise RegisterError(register.name, f"expected {register.size} bytes, not {len(request.value)}")
    if not register.read_only:
        await context.target.write_registers(thread, [(register.name, request.value)])
    elif not context.session.has_given(thread, register.name, request.value):
        raise RegisterError(register.name, "cannot be written")
    return Ok()


async def read_memory(context: Context, address: int, length: int) -> bytes:
    """Read through the memory that the session has chosen: as the selected thread sees it, or physical."""
    length = min(length, _TOP - address)
    physical = context.capabilities.physical_memory
    if context.session.physical and physical is not None:
        return await physical.read_physical(address, length)
    return await context.target.read_memory(context.general_thread(), address, length)


async def read_memory_packet(context: Context, request: ReadMemory) -> Outcome:
    """`m` and `x`. A request for more than fits is answered with what fits."""
    size = context.session.packet_size
    if not request.binary:
        return Hex(await read_memory(context, request.address, min(request.length, size // 2)))
    data = await read_memory(context, request.address, min(request.length, size - 1))
    return Raw(fit(b"b", data, size))


def fit(prefix: bytes, data: bytes, size: int) -> bytes:
    """`prefix` and as much of `data` as takes at most `size` bytes on the wire once escaped."""
    payload = prefix + data
    while (excess := framing.escaped_size(payload) - size) > 0:
        payload = payload[: len(payload) - (excess + 1) // 2]
    return payload


async def write_memory(context: Context, request: WriteMemory) -> Outcome:
    """`M` and `X`. A length of 0 is gdb's probe for `X`."""
    if request.data:
        physical = context.capabilities.physical_memory
        if context.session.physical and physical is not None:
            await physical.write_physical(request.address, request.data)
        else:
            await context.target.write_memory(context.general_thread(), request.address, request.data)
    return Ok()


async def search_memory(context: Context, request: SearchMemory) -> Outcome:
    """`qSearch:memory`, as a job."""
    return Job(functools.partial(_search, context, request))


async def _search(context: Context, request: SearchMemory) -> Reply:
    """Find the first match that lies wholly in the range. Unreadable pages are skipped and end a match."""
    pattern = request.pattern
    position, end = request.address, min(request.address + request.length, _TOP)
    limit = position + SEARCH_LIMIT
    window, window_at = b"", position
    while position < end:
        if position >= limit:
            return Error(TargetError.number, f"no match in the first {SEARCH_LIMIT >> 30} GiB of the range")
        chunk, position = await _next_chunk(context, position, end)
        if not chunk:
            window, window_at = b"", position
        else:
            window += chunk
            if (found := window.find(pattern)) >= 0:
                return Raw(b"1,%x" % (window_at + found))
            keep = min(len(window), len(pattern) - 1)
            window, window_at = window[len(window) - keep :], position - keep
        await context.pause()
    return Raw(b"0")


async def _next_chunk(context: Context, position: int, end: int) -> tuple[bytes, int]:
    """The bytes at `position`, at most a slice, and the position after them; none for unreadable pages."""
    skipped = position
    for _ in range(_SLICE // _PAGE):
        try:
            chunk = await read_memory(context, skipped, min(_SLICE, end - skipped))
        except MemoryAccessError:
            skipped = min(end, (skipped | (_PAGE - 1)) + 1)
            if skipped >= end:
                break
            continue
        if skipped == position:
            return chunk, position + len(chunk)
        break
    return b"", skipped


async def memory_crc(context: Context, request: MemoryCrc) -> Outcome:
    """`qCRC`, as a job."""
    if request.length > SEARCH_LIMIT or request.address + request.length > _TOP:
        raise RequestError("a range of more than 4 GiB")
    return Job(functools.partial(_crc, context, request))


async def _crc(context: Context, request: MemoryCrc) -> Reply:
    """CRC-32 with polynomial 04C11DB7, initial value all ones, neither reflected nor inverted.

    zlib computes the reflected and inverted form, which is the same with the bits of each byte mirrored.
    """
    position, end = request.address, request.address + request.length
    crc = 0
    while position < end:
        chunk = await read_memory(context, position, min(_SLICE, end - position))
        crc = zlib.crc32(chunk.translate(_MIRRORED), crc)
        position += len(chunk)
        await context.pause()
    mirrored = int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)
    return Raw(b"C%x" % mirrored)
