"""The PVH entry of an ELF file: 32-bit protected mode with the start info's address in EBX.

Linux's vmlinux has it (CONFIG_PVH), and it is the simplest entry for a kernel of one's own: one
note, type 18, owner "Xen", with the 32-bit physical entry point.

    hvm_start_info            module                 memory map entry
    +00 magic  +04 version    +00 address  u64       +00 address  u64
    +08 flags  +0C modules    +08 size     u64       +08 size     u64
    +10 module list   u64     +10 cmdline  u64       +10 type     u32  (as in E820)
    +18 command line  u64     +18 reserved u64       +14 reserved u32
    +20 RSDP          u64
    +28 memory map    u64
    +30 entries u32, reserved u32

Source: Xen documentation, "x86/HVM direct boot ABI", and the structures in its public header
start_info.h.
"""

import struct
from typing import Final

from hv.errors import ImageError
from hv.firmware.e820 import low_ram_end, memory_map
from hv.loaders.elf import ElfImage, check_entry, claim_segments
from hv.loaders.entry import Chunks, protected_mode_state
from hv.loaders.image import BootImage, ImageKind, LoadRequest
from hv.loaders.plan import MemoryPlan

_NOTE_OWNER: Final = b"Xen"
_PHYS32_ENTRY: Final = 18
_START_MAGIC: Final = 0x336E_C578
_START_VERSION: Final = 1
_START_INFO: Final = struct.Struct("<IIIIQQQQII")
_MODULE: Final = struct.Struct("<QQQQ")
_MEMORY_MAP_ENTRY: Final = struct.Struct("<QQII")
# Kernels take a module's address as 32 bits and some as signed: stay below 2 GiB.
_MODULE_LIMIT: Final = 1 << 31


def phys32_entry(image: ElfImage) -> int | None:
    """The entry point of the note, or None if there is no usable one."""
    for note in image.notes:
        if note.name == _NOTE_OWNER and note.type == _PHYS32_ENTRY and len(note.desc) in (4, 8):
            return int.from_bytes(note.desc, "little")
    return None


def load_pvh(request: LoadRequest, image: ElfImage, entry: int) -> BootImage:
    """Load an ELF file whose PVH note says `entry`."""
    if entry >> 32:
        raise ImageError(request.path, f"has a PVH entry point above 4 GiB ({entry:#x})")
    check_entry(request.path, image, entry)
    plan = MemoryPlan(request.path, request.ram_size)
    chunks, segments = claim_segments(plan, image, request.data)
    start_info_gpa, info_chunks = _start_info(plan, request)
    state, tables = protected_mode_state(plan, entry, ebx=start_info_gpa)
    return BootImage(
        kind=ImageKind.PVH,
        description=f"ELF{image.bits} kernel with a PVH entry point",
        chunks=(*chunks, *info_chunks, *tables),
        state=state,
        segments=segments,
        load_bias=0,
    )


def _start_info(plan: MemoryPlan, request: LoadRequest) -> tuple[int, Chunks]:
    """Place the start info and all that it points to; returns its address and the chunks."""
    chunks: Chunks = []

    def place(content: bytes, what: str) -> int:
        gpa = plan.place_low(len(content), what)
        chunks.append((gpa, content))
        return gpa

    start_info_gpa = plan.place_low(_START_INFO.size, "the PVH start info")
    cmdline_gpa = place(request.cmdline + b"\0", "the command line")
    e820 = memory_map(request.ram_size)
    entries = b"".join(_MEMORY_MAP_ENTRY.pack(e.base, e.size, e.type, 0) for e in e820)
    memory_map_gpa = place(entries, "the memory map")
    modules = b""
    limit = min(_MODULE_LIMIT, low_ram_end(request.ram_size))
    for module in request.modules:
        gpa = plan.place_high(limit, len(module.data), f"the module {module.path}")
        chunks.append((gpa, module.data))
        module_cmdline = place(module.cmdline + b"\0", "a module's command line")
        modules += _MODULE.pack(gpa, len(module.data), module_cmdline, 0)
    modules_gpa = place(modules, "the module list") if modules else 0
    info = _START_INFO.pack(
        _START_MAGIC,
        _START_VERSION,
        0,
        len(request.modules),
        modules_gpa,
        cmdline_gpa,
        request.rsdp_gpa,
        memory_map_gpa,
        len(e820),
        0,
    )
    chunks.append((start_info_gpa, info))
    return start_info_gpa, chunks
