"""Multiboot 1: ELF32 and ELF64 kernels, and flat ones that give their addresses in the header.

The header is somewhere in the first 8 KiB, at a multiple of four bytes:

    +00 magic 1BADB002   +04 flags   +08 checksum (the three add up to zero)
    with flag 16:  +0C header_addr  +10 load_addr  +14 load_end_addr  +18 bss_end_addr  +1C entry_addr

The kernel starts in 32-bit protected mode, EAX = 2BADB002, EBX = the information structure:

    +00 flags        +04 mem_lower    +08 mem_upper (KiB)          +10 cmdline
    +14 mods_count   +18 mods_addr    +2C mmap_length  +30 mmap_addr   +40 boot_loader_name

Source: Multiboot Specification 0.6.96, chapter 3 "Specification".
"""

import struct
from dataclasses import dataclass
from typing import Final

from hv.errors import ImageError
from hv.firmware.e820 import low_ram_end, memory_map
from hv.loaders.elf import ElfImage, ElfSegment, check_entry, claim_segments
from hv.loaders.entry import Chunks, protected_mode_state
from hv.loaders.image import BootImage, ImageKind, LoadRequest
from hv.loaders.plan import ONE_MIB, MemoryPlan
from hv.machines import layout

_HEADER_MAGIC: Final = 0x1BAD_B002
_LOADER_MAGIC: Final = 0x2BAD_B002
_SEARCH_SIZE: Final = 8192
_HEADER: Final = struct.Struct("<III")
_ADDRESSES: Final = struct.Struct("<IIIII")

# Header flags. Modules are always page-aligned and the memory map always given. A wish for a video
# mode is accepted and not met: flag 12 of the information stays clear, which kernels check.
_FLAGS_KNOWN: Final = 1 << 0 | 1 << 1 | 1 << 2
_FLAGS_REQUIRED: Final = 0xFFFF
_FLAG_ADDRESSES: Final = 1 << 16

_INFO_SIZE: Final = 116
_INFO_MEMORY: Final = 1 << 0
_INFO_CMDLINE: Final = 1 << 2
_INFO_MODULES: Final = 1 << 3
_INFO_MEMORY_MAP: Final = 1 << 6
_INFO_LOADER_NAME: Final = 1 << 9
_LOADER_NAME: Final = b"hv\0"
_MMAP_ENTRY: Final = struct.Struct("<IQQI")  # the size field does not count itself
_MODULE: Final = struct.Struct("<IIII")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class MultibootHeader:
    """Where the header was found, and its words; `addresses` is None without flag 16."""

    offset: int
    flags: int
    addresses: tuple[int, int, int, int, int] | None


def find_header(data: bytes) -> MultibootHeader | None:
    """The first valid header in the first 8 KiB, or None."""
    area = data[:_SEARCH_SIZE]
    magic = _HEADER_MAGIC.to_bytes(4, "little")
    at = area.find(magic)
    while at != -1:
        if at % 4 == 0 and at + _HEADER.size <= len(area):
            _, flags, checksum = _HEADER.unpack_from(area, at)
            if (_HEADER_MAGIC + flags + checksum) & 0xFFFF_FFFF == 0:
                return MultibootHeader(at, flags, _addresses(area, at, flags))
        at = area.find(magic, at + 1)
    return None


def load_multiboot(request: LoadRequest, header: MultibootHeader, elf: ElfImage | None) -> BootImage:
    """Load a kernel with `header`; `elf` is its ELF view, None for other file formats."""
    unknown = header.flags & _FLAGS_REQUIRED & ~_FLAGS_KNOWN
    if unknown:
        raise ImageError(request.path, f"requires unknown Multiboot features (flags {unknown:#x})")
    if header.flags & _FLAG_ADDRESSES:
        image = _image_from_addresses(request, header)
    elif elf is not None:
        image = elf
    else:
        what = "has a Multiboot header without load addresses and is not an ELF file"
        raise ImageError(request.path, what)
    entry = check_entry(request.path, image, _physical_entry(image))
    if entry >> 32:
        raise ImageError(request.path, f"starts above 4 GiB ({entry:#x}), where Multiboot cannot enter")
    plan = MemoryPlan(request.path, request.ram_size)
    chunks, segments = claim_segments(plan, image, request.data)
    kernel_end = max(segment.gpa + segment.size for segment in segments)
    info_gpa, info_chunks = _information(plan, request, kernel_end)
    state, tables = protected_mode_state(plan, entry, eax=_LOADER_MAGIC, ebx=info_gpa)
    form = f"ELF{image.bits}" if image is elf else "flat"
    return BootImage(
        kind=ImageKind.MULTIBOOT,
        description=f"{form} Multiboot kernel",
        chunks=(*chunks, *info_chunks, *tables),
        state=state,
        segments=segments,
        load_bias=0,
    )


def _addresses(area: bytes, at: int, flags: int) -> tuple[int, int, int, int, int] | None:
    start = at + _HEADER.size
    if not flags & _FLAG_ADDRESSES or start + _ADDRESSES.size > len(area):
        return None
    header, load, load_end, bss_end, entry = _ADDRESSES.unpack_from(area, start)
    return header, load, load_end, bss_end, entry


def _image_from_addresses(request: LoadRequest, header: MultibootHeader) -> ElfImage:
    """The load addresses of the header as an image of one segment."""
    if header.addresses is None:
        raise ImageError(request.path, "has a truncated Multiboot header")
    header_addr, load_addr, load_end, bss_end, entry = header.addresses
    offset = header.offset - (header_addr - load_addr)
    if load_addr > header_addr or offset < 0:
        what = f"has a Multiboot header that loads {load_addr:#x} from before the start of the file"
        raise ImageError(request.path, what)
    load_end = load_end or load_addr + len(request.data) - offset
    bss_end = bss_end or load_end
    if not load_addr < load_end <= bss_end:
        what = f"has Multiboot load addresses out of order ({load_addr:#x}, {load_end:#x}, {bss_end:#x})"
        raise ImageError(request.path, what)
    size = load_end - load_addr
    if offset + size > len(request.data):
        missing = offset + size - len(request.data)
        raise ImageError(request.path, f"is a truncated Multiboot kernel: {missing} bytes are missing")
    segment = ElfSegment(offset, load_addr, load_addr, size, bss_end - load_addr)
    return ElfImage(32, entry, (segment,), ())


def _physical_entry(image: ElfImage) -> int:
    """ELF entry points are link addresses; the kernel is entered where its code was loaded."""
    for segment in image.segments:
        if segment.p_vaddr <= image.e_entry < segment.p_vaddr + segment.p_memsz:
            return segment.p_paddr + image.e_entry - segment.p_vaddr
    return image.e_entry


def _information(plan: MemoryPlan, request: LoadRequest, kernel_end: int) -> tuple[int, Chunks]:
    """Place the information structure and all that it points to; its address and the chunks."""
    chunks: Chunks = []

    def place(content: bytes, what: str) -> int:
        gpa = plan.place_low(len(content), what)
        chunks.append((gpa, content))
        return gpa

    info_gpa = plan.place_low(_INFO_SIZE, "the Multiboot information")
    cmdline_gpa = place(request.cmdline + b"\0", "the command line")
    name_gpa = place(_LOADER_NAME, "the boot loader's name")
    e820 = memory_map(request.ram_size)
    entry_size = _MMAP_ENTRY.size - 4
    mmap = b"".join(_MMAP_ENTRY.pack(entry_size, e.base, e.size, e.type) for e in e820)
    mmap_gpa = place(mmap, "the memory map")
    modules = b""
    for module in request.modules:
        gpa = plan.place_above(kernel_end, len(module.data), f"the module {module.path}")
        chunks.append((gpa, module.data))
        cmdline = place(module.cmdline + b"\0", "a module's command line")
        modules += _MODULE.pack(gpa, gpa + len(module.data), cmdline, 0)
    modules_gpa = place(modules, "the module list") if modules else 0

    flags = _INFO_MEMORY | _INFO_CMDLINE | _INFO_MODULES | _INFO_MEMORY_MAP | _INFO_LOADER_NAME
    info = bytearray(_INFO_SIZE)
    struct.pack_into("<I", info, 0x00, flags)
    upper_kib = (low_ram_end(request.ram_size) - ONE_MIB) // _KIB
    struct.pack_into("<II", info, 0x04, layout.EBDA_BASE // _KIB, upper_kib)
    struct.pack_into("<III", info, 0x10, cmdline_gpa, len(request.modules), modules_gpa)
    struct.pack_into("<II", info, 0x2C, len(mmap), mmap_gpa)
    struct.pack_into("<I", info, 0x40, name_gpa)
    chunks.append((info_gpa, bytes(info)))
    return info_gpa, chunks
