"""ELF files as far as a loader needs them: header, program headers, notes; sections are not read.

Every number in the file is checked before it is used: counts before a loop, sizes before a copy.
Source: System V ABI, chapters "Object Files" and "Program Loading"; the structure layouts are
pyelftools'.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from elftools.common.exceptions import ELFParseError
from elftools.common.utils import struct_parse
from elftools.construct import Construct
from elftools.elf.structs import ELFStructs

from hv.errors import ImageError
from hv.loaders.image import LoadedSegment
from hv.loaders.plan import MemoryPlan

MAX_PROGRAM_HEADERS: Final = 256
_EHDR_SIZE: Final = 64
_PHDR_SIZES: Final = {32: 32, 64: 56}
_NOTE_HEADER: Final = struct.Struct("<III")
_MAX_NOTES: Final = 4096
_CLASSES: Final = {1: 32, 2: 64}
_LITTLE_ENDIAN: Final = 1
_MACHINES: Final = {(32, "EM_386"), (64, "EM_X86_64")}
_EXECUTABLE_TYPES: Final = ("ET_EXEC", "ET_DYN")


@dataclass(frozen=True, slots=True)
class ElfSegment:
    """One PT_LOAD program header, under the ELF names."""

    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int


@dataclass(frozen=True, slots=True)
class ElfNote:
    """One note: owner without its zero byte, type, and descriptor."""

    name: bytes
    type: int
    desc: bytes


@dataclass(frozen=True, slots=True)
class ElfImage:
    """An x86 executable: word size, entry point, and what to load."""

    bits: int
    e_entry: int
    segments: tuple[ElfSegment, ...]
    notes: tuple[ElfNote, ...]


def is_elf(data: bytes) -> bool:
    """Whether the file starts with the ELF magic."""
    return data.startswith(b"\x7fELF")


def parse_elf(path: str, data: bytes) -> ElfImage:
    """The program headers of an x86 executable for which `is_elf` holds; else `ImageError`."""
    bits = _CLASSES.get(data[4] if len(data) > 5 else 0)
    if bits is None or data[5] != _LITTLE_ENDIAN:
        raise ImageError(path, "is an ELF file that is not for x86")
    structs = ELFStructs(little_endian=True, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    try:
        header = _parse(structs.Elf_Ehdr, data, 0, _EHDR_SIZE)
        _check_header(path, bits, header)
        size = _PHDR_SIZES[bits]
        headers = [
            _parse(structs.Elf_Phdr, data, header["e_phoff"] + n * size, size)
            for n in range(header["e_phnum"])
        ]
    except ELFParseError:
        raise ImageError(path, "is a truncated ELF file: its headers are cut off") from None
    loads = tuple(
        ElfSegment(**{field: h[field] for field in ElfSegment.__slots__})
        for h in headers
        if h["p_type"] == "PT_LOAD" and h["p_memsz"]
    )
    for segment in loads:
        _check_segment(path, segment, len(data))
    if not loads:
        raise ImageError(path, "is an ELF file without anything to load")
    notes = [note for h in headers if h["p_type"] == "PT_NOTE" for note in _notes(data, h)]
    return ElfImage(bits, header["e_entry"], loads, tuple(notes))


def claim_segments(
    plan: MemoryPlan, image: ElfImage, data: bytes
) -> tuple[list[tuple[int, bytes]], tuple[LoadedSegment, ...]]:
    """Claim every segment at its physical address; the chunks to write and where they went.

    The part of a segment beyond its file size is claimed but not written: RAM starts as zero.
    """
    chunks, loaded = [], []
    for segment in image.segments:
        plan.claim(segment.p_paddr, segment.p_memsz, f"the segment linked at {segment.p_vaddr:#x}")
        if segment.p_filesz:
            end = segment.p_offset + segment.p_filesz
            chunks.append((segment.p_paddr, data[segment.p_offset : end]))
        loaded.append(LoadedSegment(segment.p_vaddr, segment.p_paddr, segment.p_memsz))
    return chunks, tuple(loaded)


def check_entry(path: str, image: ElfImage, entry: int) -> int:
    """`entry` if it is a physical address inside a loaded segment, else `ImageError`."""
    if any(s.p_paddr <= entry < s.p_paddr + s.p_memsz for s in image.segments):
        return entry
    raise ImageError(path, f"starts at {entry:#x}, which lies in none of its segments")


def _parse(layout: Construct, data: bytes, offset: int, size: int) -> Any:
    return struct_parse(layout, BytesIO(data[offset : offset + size]))


def _check_header(path: str, bits: int, header: Any) -> None:
    if (bits, header["e_machine"]) not in _MACHINES:
        raise ImageError(path, "is an ELF file that is not for x86")
    if header["e_type"] not in _EXECUTABLE_TYPES:
        raise ImageError(path, "is an ELF file but not an executable", "link it first")
    if header["e_phnum"] > MAX_PROGRAM_HEADERS:
        what = f"has {header['e_phnum']} program headers; at most {MAX_PROGRAM_HEADERS} are accepted"
        raise ImageError(path, what)
    if header["e_phnum"] and header["e_phentsize"] != _PHDR_SIZES[bits]:
        raise ImageError(path, f"is a damaged ELF file: program headers of {header['e_phentsize']} bytes")


def _check_segment(path: str, segment: ElfSegment, file_size: int) -> None:
    if segment.p_offset + segment.p_filesz > file_size:
        what = f"is a truncated ELF file: the segment linked at {segment.p_vaddr:#x} is cut off"
        raise ImageError(path, what)
    if segment.p_filesz > segment.p_memsz:
        what = f"is a damaged ELF file: the segment linked at {segment.p_vaddr:#x} is larger than its memory"
        raise ImageError(path, what)


def _notes(data: bytes, header: Any) -> Iterator[ElfNote]:
    """The notes of a PT_NOTE segment, up to the first that is cut off.

    namesz u32 | descsz u32 | type u32 | name, padded | desc, padded    (padding: p_align, 4 or 8)
    """
    align = 8 if header["p_align"] == 8 else 4
    at, end = header["p_offset"], min(header["p_offset"] + header["p_filesz"], len(data))
    for _ in range(_MAX_NOTES):
        if at + _NOTE_HEADER.size > end:
            return
        name_size, desc_size, kind = _NOTE_HEADER.unpack_from(data, at)
        name_at = at + _NOTE_HEADER.size
        desc_at = at + _round_up(_NOTE_HEADER.size + name_size, align)
        if desc_at + desc_size > end:
            return
        name = data[name_at : name_at + name_size].rstrip(b"\0")
        yield ElfNote(name, kind, data[desc_at : desc_at + desc_size])
        at = desc_at + _round_up(desc_size, align)


def _round_up(value: int, align: int) -> int:
    return -(-value // align) * align
