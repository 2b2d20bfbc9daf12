"""Finding a Linux kernel's symbols in guest memory.

A search needs no page table and no known address: it reads physical memory in pieces, each a request that the
machine's owner carries out between two ticks, looks for the kernel's own symbol table (`hv.debug.kallsyms`),
and decodes it in a worker thread. Nothing here trusts what it reads; a hostile guest can hide its symbols or
waste a few seconds of that thread.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

import trio

from hv.debug.kallsyms import (
    SIGNATURE_SIZE,
    WINDOW_AFTER,
    WINDOW_BEFORE,
    Symbol,
    decode,
    has_tables,
    signatures,
)
from hv.debug.symbol_elf import build_elf, kernel_sections
from hv.machines.layout import HIGHMEM_BASE, LOWMEM_LIMIT
from hv.memory import PAGE_SIZE, GuestMemory
from hv.vm import Vm

KERNEL_START: Final = 0xFFFF_FFFF_8000_0000
"""Linux is linked and mapped from here on (`__START_KERNEL_map`)."""
SLIDE_NAME: Final = "hv_kernel_slide"
"""A symbol of the file whose address is the slide, for gdb scripts."""
_PIECE: Final = 1 << 20
_NEAR: Final = 1 << 14  # enough for a token table and its index
_SEARCHED: Final = 128 << 20  # bytes from the kernel's text on: its read-only data follows
_MAX_SIGNATURES: Final = 8  # looked at in one piece; a kernel has one in all
_MAX_TRIED: Final = 8

Read: TypeAlias = Callable[[int, int], Awaitable[bytes]]
Span: TypeAlias = tuple[int, int]
"""Physical addresses, start and end."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Linux kernel in guest memory.

    `text` is the address where it begins and `slide` how far that is from where it was linked for. `elf` is a
    file with its symbols. `proofs` are places in physical memory that tell whether it is still there.
    """

    symbols: tuple[Symbol, ...]
    text: int
    slide: int
    elf: bytes
    proofs: tuple[tuple[int, bytes], ...]

    def is_in(self, memory: GuestMemory) -> bool:
        """Whether it is still there."""
        return all(memory.read(gpa, len(data)) == data for gpa, data in self.proofs)


async def locate(read: Read, spans: Sequence[Span], link_base: int) -> Kernel | None:
    """The first Linux kernel with its symbol table in `spans`. `read` gives as many bytes as asked."""
    tried = 0
    async for place in _token_tables(read, spans):
        low = max(0, place - WINDOW_BEFORE) & ~7
        end = place + WINDOW_AFTER
        window = [await read(gpa, min(_PIECE, end - gpa)) for gpa in range(low, end, _PIECE)]
        make = functools.partial(_make, window, low, place - low, link_base)
        kernel = await trio.to_thread.run_sync(make, abandon_on_cancel=True)
        tried += 1
        if kernel is not None or tried == _MAX_TRIED:
            return kernel
    return None


async def _token_tables(read: Read, spans: Sequence[Span]) -> AsyncIterator[int]:
    """Physical addresses inside what looks like a token table."""
    for start, end in spans:
        for gpa in range(start, end, _PIECE):
            data = await read(gpa, min(_PIECE + SIGNATURE_SIZE, end - gpa))
            for at in itertools.islice(signatures(data), _MAX_SIGNATURES):
                low = max(0, gpa + at - _NEAR) & ~7
                if at < _PIECE and has_tables(await read(low, 2 * _NEAR), gpa + at - low):
                    yield gpa + at


def _make(pieces: Sequence[bytes], gpa: int, signature: int, link_base: int) -> Kernel | None:
    """The kernel whose symbol table is in memory from `gpa` on; takes up to a second."""
    window = b"".join(pieces)
    found = decode(window, signature)
    if found is None:
        return None
    sections = kernel_sections(found.symbols, found.relative_base)
    text = next(section.start for section in sections if section.in_segment)
    places = ((found.relative_base_at, 8), (signature, SIGNATURE_SIZE))
    proofs = tuple([(gpa + at, window[at : at + size]) for at, size in places])
    slide = text - link_base
    named = sorted([*found.symbols, Symbol(slide, "A", SLIDE_NAME)], key=attrgetter("address"))
    return Kernel(found.symbols, text, slide, build_elf(named, sections), proofs)


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
    """From where vCPUs enter the kernel, or are in it, on. Empty before there is a kernel."""
    spans = set()
    for vcpu in vm.vcpus:
        for name in ("lstar", "linear_pc"):
            address = vcpu.get(name)
            if address < KERNEL_START:
                continue
            translation = vcpu.cpu.translate(address)
            if translation is not None:
                start = translation.gpa & ~(_PIECE - 1)
                spans.add((start, _ram_end(vm, start, start + _SEARCHED)))
    return merged(spans)


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
