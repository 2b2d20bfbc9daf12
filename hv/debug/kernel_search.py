"""Finding a Linux kernel's symbols in guest memory.

A search needs no page table and no known address: it reads physical memory in pieces, each a request that the
machine's owner carries out between two ticks, looks for the kernel's own symbol table (`hv.debug.kallsyms`),
and decodes it in a worker thread. Nothing here trusts what it reads; a hostile guest can hide its symbols or
waste a few seconds of that thread.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, TypeAlias

import trio

from hv.debug.kallsyms import (
    SIGNATURE_SIZE,
    WINDOW_AFTER,
    WINDOW_BEFORE,
    decode,
    has_tables,
    signatures,
)
from hv.debug.orc import ENTRY_SIZE, IP_SIZE, MAX_ENTRIES, frame_section
from hv.debug.symbol import Symbol
from hv.debug.symbol_elf import Extra, build_elf, kernel_sections
from hv.machines.layout import HIGHMEM_BASE, LOWMEM_LIMIT
from hv.memory import PAGE_SIZE, GuestMemory
from hv.vm import Vm

KERNEL_START: Final = 0xFFFF_FFFF_8000_0000
"""Linux is linked and mapped from here on (`__START_KERNEL_map`)."""
SLIDE_NAME: Final = "hv_kernel_slide"
"""A symbol of the file whose address is the slide, for gdb scripts."""
_BANNER: Final = "linux_banner"
_BANNER_TEXT: Final = b"Linux version "
_FRAME_MARKS: Final = (
    _BANNER,
    "__start_orc_unwind_ip",
    "__stop_orc_unwind_ip",
    "__start_orc_unwind",
    "__stop_orc_unwind",
)
_KERNEL_ALIGN: Final = 1 << 21  # of its place, virtual and physical
_PIECE: Final = 1 << 20
_NEAR: Final = 1 << 14  # enough for a token table and its index
_SEARCHED: Final = 128 << 20  # bytes from a place in the kernel on: read-only data follows the text,
_SEARCHED_BEFORE: Final = 64 << 20  # but what the kernel runs first lies behind it
_MAX_SIGNATURES: Final = 8  # looked at in one piece; a kernel has one in all
_MAX_TRIED: Final = 8

Read: TypeAlias = Callable[[int, int], Awaitable[bytes]]
Span: TypeAlias = tuple[int, int]
"""Physical addresses, start and end."""


@dataclass(frozen=True, slots=True)
class FrameTables:
    """What the kernel unwinds its own stack with (`hv.debug.orc`): copies of its tables, and where the one of
    addresses is."""

    ips_at: int
    ips: bytes
    entries: bytes


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Linux kernel in guest memory.

    `text` is the address where it begins and `slide` how far that is from where it was linked for. `proofs`
    are places in physical memory that tell whether it is still there. `frames` is None when there are none.
    """

    symbols: tuple[Symbol, ...]
    text: int
    slide: int
    proofs: tuple[tuple[int, bytes], ...]
    frames: FrameTables | None = None

    def is_in(self, memory: GuestMemory) -> bool:
        """Whether it is still there."""
        return all(memory.read(gpa, len(data)) == data for gpa, data in self.proofs)

    def elf(self, *, linked: bool = False) -> bytes:
        """A file with its symbols and frames at their addresses, or as they were linked. Takes a second."""
        by = self.slide if linked else 0
        symbols = [Symbol(self.slide, "A", SLIDE_NAME), *self.symbols]
        if by:
            symbols = [
                replace(symbol, address=symbol.address - by) if symbol.address >= self.text else symbol
                for symbol in symbols
            ]
        symbols.sort(key=attrgetter("address"))
        extras = []
        if self.frames is not None:
            section = frame_section(self.frames.ips_at - by, self.frames.ips, self.frames.entries)
            extras = [] if section is None else [Extra(".debug_frame", section)]
        return build_elf(symbols, kernel_sections(symbols, self.text - by), extras)


async def locate(read: Read, spans: Sequence[Span], link_base: int) -> Kernel | None:
    """The first Linux kernel with its symbol table in `spans`. `read` gives as many bytes as asked."""
    async with contextlib.aclosing(_token_tables(read, spans)) as places:
        tried = 0
        async for place in places:
            low = max(0, place - WINDOW_BEFORE) & ~7
            window = await _read_all(read, low, place + WINDOW_AFTER - low)
            make = functools.partial(_make, window, low, place - low, link_base)
            kernel = await trio.to_thread.run_sync(make, abandon_on_cancel=True)
            if kernel is not None:
                return replace(kernel, frames=await _frames(read, kernel, window, low))
            tried += 1
            if tried == _MAX_TRIED:
                return None
    return None


async def _read_all(read: Read, gpa: int, size: int) -> bytes:
    end = gpa + size
    return b"".join([await read(at, min(_PIECE, end - at)) for at in range(gpa, end, _PIECE)])


async def _frames(read: Read, kernel: Kernel, window: bytes, low: int) -> FrameTables | None:
    """The kernel's tables for unwinding; the kernel lies in physical memory in one piece."""
    places = {symbol.name: symbol.address for symbol in kernel.symbols if symbol.name in _FRAME_MARKS}
    distance = _distance(places.get(_BANNER, 0), window, low)
    if distance is None or len(places) != len(_FRAME_MARKS):
        return None
    ips, ips_end, entries, entries_end = [places[name] for name in _FRAME_MARKS[1:]]
    count = (ips_end - ips) // IP_SIZE
    if not 0 < count <= MAX_ENTRIES or entries_end - entries != count * ENTRY_SIZE:
        return None
    return FrameTables(
        ips,
        await _read_all(read, ips + distance, count * IP_SIZE),
        await _read_all(read, entries + distance, count * ENTRY_SIZE),
    )


def _distance(banner: int, window: bytes, low: int) -> int | None:
    """What to add to a kernel address for the physical one, told from a text at the address `banner`."""
    at = window.find(_BANNER_TEXT)
    while at >= 0:
        if (low + at - banner) % _KERNEL_ALIGN == 0:
            return low + at - banner
        at = window.find(_BANNER_TEXT, at + 1)
    return None


async def _token_tables(read: Read, spans: Sequence[Span]) -> AsyncGenerator[int, None]:
    """Physical addresses inside what looks like a token table."""
    for start, end in spans:
        for gpa in range(start, end, _PIECE):
            data = await read(gpa, min(_PIECE + SIGNATURE_SIZE, end - gpa))
            for at in itertools.islice(signatures(data), _MAX_SIGNATURES):
                low = max(0, gpa + at - _NEAR) & ~7
                if at < _PIECE and has_tables(await read(low, 2 * _NEAR), gpa + at - low):
                    yield gpa + at


def _make(window: bytes, gpa: int, signature: int, link_base: int) -> Kernel | None:
    """The kernel whose symbol table is in `window`, memory from `gpa` on; takes up to a second."""
    found = decode(window, signature)
    if found is None:
        return None
    sections = kernel_sections(found.symbols, found.relative_base)
    text = next(section.start for section in sections if section.in_segment)
    places = ((found.relative_base_at, 8), (signature, SIGNATURE_SIZE))
    proofs = tuple([(gpa + at, window[at : at + size]) for at, size in places])
    return Kernel(found.symbols, text, text - link_base, proofs)


# --- where to look (for the machine's owner) -----------------------------------------------------------


def read_ram(vm: Vm, gpa: int, size: int) -> bytes:
    """`size` bytes of physical memory; what is not RAM is zeros."""
    whole = vm.memory.read(gpa, size)
    if whole is not None:
        return whole
    data, end = bytearray(), gpa + size
    while gpa < end:
        length = min(end - gpa, PAGE_SIZE - gpa % PAGE_SIZE)
        data += vm.memory.read(gpa, length) or bytes(length)
        gpa += length
    return bytes(data)


def likely_spans(vm: Vm) -> list[Span]:
    """Around where vCPUs enter the kernel, or are in it: what follows first, then what comes before.

    Empty before there is a kernel.
    """
    starts = set()
    for vcpu in vm.vcpus:
        for name in ("lstar", "linear_pc"):
            address = vcpu.get(name)
            if address < KERNEL_START:
                continue
            translation = vcpu.cpu.translate(address)
            if translation is not None:
                starts.add(translation.gpa & ~(_PIECE - 1))
    after = merged((start, _ram_end(vm, start, start + _SEARCHED)) for start in starts)
    return after + merged((max(0, start - _SEARCHED_BEFORE), start) for start in starts)


def written_spans(vm: Vm) -> list[Span]:
    """All memory that was ever written."""
    pages = vm.engine.pages_changed(1)
    starts = {page * PAGE_SIZE & ~(_PIECE - 1) for page in pages}
    return merged((start, _ram_end(vm, start, start + _PIECE + SIGNATURE_SIZE)) for start in starts)


def _ram_end(vm: Vm, start: int, end: int) -> int:
    """Where RAM from `start` on ends, `end` at most."""
    size = vm.memory.size
    if start < LOWMEM_LIMIT:
        return min(end, size, LOWMEM_LIMIT)
    return min(end, HIGHMEM_BASE + size - LOWMEM_LIMIT)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same addresses in ascending spans that do not overlap."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return [(start, end) for start, end in found if start < end]
