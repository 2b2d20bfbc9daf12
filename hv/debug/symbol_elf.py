"""An ELF file that holds symbols and nothing else, for debuggers.

The sections have addresses and sizes but no contents. One segment covers the whole program except its
per-CPU section, so that a debugger which moves the program by its segment leaves per-CPU symbols where
they are.

Source: System V ABI, "Object Files"; AMD64 supplement.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hv.debug.symbol import Symbol

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_IDENT: Final = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_EXEC, _EM_X86_64, _PT_LOAD = 2, 62, 1
_PROGBITS, _SYMTAB, _STRTAB, _NOBITS = 1, 2, 3, 8
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_SHN_ABS: Final = 0xFFF1
_LOCAL, _GLOBAL, _WEAK = 0, 1, 2
_NOTYPE, _OBJECT, _FUNC = 0, 1, 2
_RWX: Final = 7
_PAGE: Final = 0x1000
_MAX_PER_CPU: Final = 1 << 24

# Where a Linux kernel's parts begin, by the symbol that marks it; each ends where the next begins.
_PARTS: Final = (
    ("_text", ".text", _ALLOC | _EXEC),
    ("__start_rodata", ".rodata", _ALLOC),
    ("_sdata", ".data", _ALLOC | _WRITE),
    ("__init_begin", ".init.data", _ALLOC | _WRITE),
    ("_sinittext", ".init.text", _ALLOC | _EXEC),
    ("_einittext", ".init.rest", _ALLOC | _WRITE),
    ("__bss_start", ".bss", _ALLOC | _WRITE),
    ("__brk_base", ".brk", _ALLOC | _WRITE),
)
_END: Final = "_end"
_PER_CPU_END: Final = "__per_cpu_end"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the program, ``[start, start + size)``. `in_segment` is False for per-CPU data."""

    name: str
    start: int
    size: int
    flags: int
    in_segment: bool = True


@dataclass(frozen=True, slots=True)
class Extra:
    """A section with contents that takes no memory in the program, such as `.debug_frame`."""

    name: str
    data: bytes


def kernel_sections(symbols: Iterable[Symbol], relative_base: int) -> list[Section]:
    """The sections of a Linux kernel, ascending, the per-CPU one first if it has one of its own."""
    marked = {name for name, _, _ in _PARTS} | {_END, _PER_CPU_END}
    places: dict[str, int] = {}
    last = relative_base
    for symbol in symbols:
        if symbol.name in marked:
            places.setdefault(symbol.name, symbol.address)
        last = max(last, symbol.address)
    end = places.get(_END, last + 1)
    starts = [(places[mark], name, flags) for mark, name, flags in _PARTS if mark in places]
    if "_text" not in places:
        starts.insert(0, (relative_base, ".text", _ALLOC | _EXEC))
    starts.sort()
    bounds = [start for start, _, _ in starts[1:]] + [end]
    found = [
        Section(name, start, bound - start, flags)
        for (start, name, flags), bound in zip(starts, bounds, strict=True)
        if bound > start
    ]
    per_cpu = places.get(_PER_CPU_END, 0)
    if 0 < per_cpu <= _MAX_PER_CPU:
        found.insert(0, Section(".data..percpu", 0, per_cpu, _ALLOC | _WRITE, in_segment=False))
    return found


def build_elf(symbols: Sequence[Symbol], sections: Sequence[Section], extras: Sequence[Extra] = ()) -> bytes:
    """The file. `sections` ascend and do not overlap; `symbols` ascend."""
    placed = [section for section in sections if section.in_segment]
    start = placed[0].start if placed else 0
    size = placed[-1].start + placed[-1].size - start if placed else 0
    table, strings, first_global = _symbol_table(symbols, sections)
    names = _Strings()
    rows = [_section(names, "", 0, 0, 0, 0, 0)]
    contents_at = _HEADER.size + _SEGMENT.size
    for section in sections:
        row = _section(names, section.name, _NOBITS, section.flags, section.start, contents_at, section.size)
        rows.append(row)
    blobs: list[bytes] = []
    at = contents_at

    def append(name: str, kind: int, data: bytes, link: int = 0, info: int = 0, entry: int = 0) -> None:
        nonlocal at
        rows.append(_section(names, name, kind, 0, 0, at, len(data), link, info, entry))
        padded = data + bytes(-len(data) % 8)
        blobs.append(padded)
        at += len(padded)

    for extra in extras:
        append(extra.name, _PROGBITS, extra.data)
    append(".symtab", _SYMTAB, table, link=len(rows) + 1, info=first_global, entry=_SYMBOL.size)
    append(".strtab", _STRTAB, strings)
    names.add(".shstrtab")
    append(".shstrtab", _STRTAB, bytes(names.data))
    header = _HEADER.pack(
        *(_IDENT, _ET_EXEC, _EM_X86_64, 1, start, _HEADER.size, at, 0),
        *(_HEADER.size, _SEGMENT.size, 1, _SECTION.size, len(rows), len(rows) - 1),
    )
    segment = _SEGMENT.pack(_PT_LOAD, _RWX, contents_at, start, start, 0, size, _PAGE)
    return b"".join([header, segment, *blobs, *rows])


class _Strings:
    """A string table that grows; each text is in it once."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self._places = {"": 0}

    def add(self, text: str) -> int:
        place = self._places.get(text)
        if place is None:
            place = self._places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return place


def _section(
    names: _Strings,
    name: str,
    kind: int,
    flags: int,
    address: int,
    offset: int,
    size: int,
    link: int = 0,
    info: int = 0,
    entry: int = 0,
) -> bytes:
    align = 1 if kind else 0
    return _SECTION.pack(names.add(name), kind, flags, address, offset, size, link, info, align, entry)


def _symbol_table(symbols: Sequence[Symbol], sections: Sequence[Section]) -> tuple[bytes, bytes, int]:
    """The symbol table, its strings, and the number of the first symbol that is not local."""
    starts = [section.start for section in sections]
    sizes = _sizes(symbols)
    strings = _Strings()
    local, others = [bytes(_SYMBOL.size)], list[bytes]()
    for symbol, size in zip(symbols, sizes, strict=True):
        number = bisect_right(starts, symbol.address) - 1
        section = sections[number] if number >= 0 else None
        if section is None or symbol.address > section.start + section.size:
            index, kind = _SHN_ABS, _NOTYPE
        else:
            index, kind = number + 1, _FUNC if section.flags & _EXEC else _OBJECT
            size = min(size, section.start + section.size - symbol.address)
        bind = _WEAK if symbol.kind in "wWvV" else _GLOBAL if symbol.kind.isupper() else _LOCAL
        row = _SYMBOL.pack(strings.add(symbol.name), bind << 4 | kind, 0, index, symbol.address, size)
        (local if bind == _LOCAL else others).append(row)
    return b"".join(local + others), bytes(strings.data), len(local)


def _sizes(symbols: Sequence[Symbol]) -> list[int]:
    """Each symbol's size: up to the next address that has one."""
    sizes = [0] * len(symbols)
    following = None
    for number in range(len(symbols) - 1, -1, -1):
        if number + 1 < len(symbols) and symbols[number + 1].address != symbols[number].address:
            following = symbols[number + 1].address
        if following is not None:
            sizes[number] = following - symbols[number].address
    return sizes
