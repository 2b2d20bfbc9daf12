"""Linux bzImage: the 64-bit boot protocol, and the 32-bit one for kernels without a 64-bit entry.

The file is a real-mode part, which is not run, with the setup header in it, and a protected-mode
part that decompresses the kernel. The loader copies the latter to the kernel's preferred address,
fills in the zero page (struct boot_params), and enters the former's counterpart directly:

    64-bit   load address + 200h, long mode, identity mapped, RSI = zero page
    32-bit   load address, paging off, ESI = zero page, EBX = EBP = EDI = 0

Source: Linux kernel documentation, "The Linux/x86 Boot Protocol" and "Zero Page".
"""

import struct
from dataclasses import dataclass
from typing import Final

from hv.errors import ImageError, one_line
from hv.firmware.e820 import low_ram_end, memory_map, pack_e820
from hv.loaders.entry import long_mode_state, protected_mode_state
from hv.loaders.image import BootImage, ImageKind, LoadedSegment, LoadRequest
from hv.loaders.plan import FOUR_GIB, ONE_MIB, MemoryPlan

_HEADER_START: Final = 0x1F1
_HEADER_MIN_END: Final = 0x264  # through init_size, protocol 2.10
_HEADER_ROOM_END: Final = 0x290  # what follows in the zero page
_SECTOR: Final = 512
_PARAGRAPH: Final = 16
_PROTOCOL_2_10: Final = 0x20A  # pref_address and init_size
_PROTOCOL_2_12: Final = 0x20C  # xloadflags
_LOADED_HIGH: Final = 1 << 0
_QUIET_FLAG: Final = 1 << 5
_XLF_KERNEL_64: Final = 1 << 0
_ENTRY64_OFFSET: Final = 0x200
_LOADER_UNDEFINED: Final = 0xFF
_VIDEO_NORMAL: Final = 0xFFFF
_VERSION_MAX: Final = 128
_ZERO_PAGE_SIZE: Final = 0x1000
_START_KERNEL_MAP: Final = 0xFFFF_FFFF_8000_0000  # where a 64-bit kernel maps physical address 0


@dataclass(frozen=True, slots=True)
class SetupHeader:
    """The fields of the setup header that the loader reads, under their documented names."""

    setup_sects: int
    syssize: int
    version: int
    kernel_version: int
    loadflags: int
    initrd_addr_max: int
    kernel_alignment: int
    relocatable_kernel: int
    xloadflags: int
    cmdline_size: int
    pref_address: int
    init_size: int


# Offset in the file and format of each field read.
_FIELDS: Final = (
    (0x1F1, "<B", "setup_sects"),
    (0x1F4, "<I", "syssize"),
    (0x206, "<H", "version"),
    (0x20E, "<H", "kernel_version"),
    (0x211, "<B", "loadflags"),
    (0x22C, "<I", "initrd_addr_max"),
    (0x230, "<I", "kernel_alignment"),
    (0x234, "<B", "relocatable_kernel"),
    (0x236, "<H", "xloadflags"),
    (0x238, "<I", "cmdline_size"),
    (0x258, "<Q", "pref_address"),
    (0x260, "<I", "init_size"),
)


def is_linux(data: bytes) -> bool:
    """Whether the file has a Linux setup header."""
    return data[0x1FE:0x200] == b"\x55\xaa" and data[0x202:0x206] == b"HdrS"


def load_linux(request: LoadRequest) -> BootImage:
    """Load a bzImage. Several modules are joined into one initrd, as the kernel allows."""
    header = parse_header(request.path, request.data)
    code = _protected_mode_code(request, header)
    is_64 = header.version >= _PROTOCOL_2_12 and bool(header.xloadflags & _XLF_KERNEL_64)
    if is_64 and len(code) <= _ENTRY64_OFFSET:
        raise ImageError(request.path, "is a Linux kernel too short to have its 64-bit entry point")

    plan = MemoryPlan(request.path, request.ram_size)
    load_gpa = _claim_kernel(plan, request, header, len(code))
    zero_page_gpa = plan.place_low(_ZERO_PAGE_SIZE, "the zero page", align=0x1000)
    cmdline = _command_line(request, header)
    cmdline_gpa = plan.place_low(len(cmdline), "the command line")
    initrd = join_initrds([module.data for module in request.modules])
    limit = min(header.initrd_addr_max + 1, low_ram_end(request.ram_size))
    initrd_gpa = plan.place_high(limit, len(initrd), "the initrd") if initrd else 0
    if is_64:
        state, tables = long_mode_state(plan, request.ram_size, load_gpa + _ENTRY64_OFFSET, zero_page_gpa)
    else:
        state, tables = protected_mode_state(plan, load_gpa, esi=zero_page_gpa)

    zero_page = _zero_page(request, load_gpa, cmdline_gpa, initrd_gpa, len(initrd))
    chunks = [(load_gpa, code), (zero_page_gpa, zero_page), (cmdline_gpa, cmdline), *tables]
    if initrd:
        chunks.append((initrd_gpa, initrd))
    return BootImage(
        kind=ImageKind.LINUX64 if is_64 else ImageKind.LINUX32,
        description=_description(request.data, header),
        chunks=tuple(chunks),
        state=state,
        segments=(LoadedSegment(load_gpa, load_gpa, len(code)),),
        load_bias=None,
        link_base=_START_KERNEL_MAP + header.pref_address if is_64 else None,
    )


def parse_header(path: str, data: bytes) -> SetupHeader:
    """The setup header of a file for which `is_linux` holds; `ImageError` if it is not usable."""
    if len(data) < _HEADER_MIN_END:
        raise ImageError(path, "is a truncated Linux kernel: its setup header is cut off")
    header = SetupHeader(**{name: struct.unpack_from(fmt, data, at)[0] for at, fmt, name in _FIELDS})
    if header.version < _PROTOCOL_2_10:
        major, minor = header.version >> 8, header.version & 0xFF
        what = f"is a Linux kernel with boot protocol {major}.{minor:02}; 2.10 (Linux 2.6.31) is the oldest"
        raise ImageError(path, what)
    if not header.loadflags & _LOADED_HIGH:
        raise ImageError(path, "is a zImage, which only real-mode boot loaders start", "build a bzImage")
    if 0x202 + data[0x201] < _HEADER_MIN_END:
        raise ImageError(path, "is a damaged Linux kernel: the setup header is too short for its version")
    return header


def join_initrds(parts: list[bytes]) -> bytes:
    """Several cpio archives as one initrd, each starting at a multiple of four bytes."""
    joined = bytearray()
    for part in parts:
        joined += bytes(-len(joined) % 4) + part
    return bytes(joined)


def _protected_mode_code(request: LoadRequest, header: SetupHeader) -> bytes:
    start = ((header.setup_sects or 4) + 1) * _SECTOR
    size = header.syssize * _PARAGRAPH
    missing = start + size - len(request.data)
    if missing >= _PARAGRAPH:  # the last paragraph need not be whole
        raise ImageError(
            request.path, f"is a truncated Linux kernel: {missing} of {start + size} bytes are missing"
        )
    if size == 0:
        raise ImageError(request.path, "is a damaged Linux kernel: it has no protected-mode code")
    return request.data[start : start + size]


def _claim_kernel(plan: MemoryPlan, request: LoadRequest, header: SetupHeader, size: int) -> int:
    """Claim the memory the kernel needs until it has its own memory map; returns the load address."""
    needed = max(header.init_size, size)
    if not header.relocatable_kernel:
        # It is loaded at 1 MiB and moves itself to pref_address, so it needs all that lies between.
        end = max(ONE_MIB + size, header.pref_address + needed)
        _claim_below_4_gib(plan, request, ONE_MIB, end - ONE_MIB)
        return ONE_MIB
    align = header.kernel_alignment
    if align == 0 or align & (align - 1):
        raise ImageError(request.path, f"is a damaged Linux kernel: its alignment is {align:#x}")
    preferred = header.pref_address
    lowest = -(-ONE_MIB // align) * align
    gpa = lowest
    if preferred % align == 0 and preferred + needed <= FOUR_GIB and plan.fits(preferred, needed):
        gpa = preferred
    _claim_below_4_gib(plan, request, gpa, needed)
    return gpa


def _claim_below_4_gib(plan: MemoryPlan, request: LoadRequest, gpa: int, size: int) -> None:
    if gpa + size > FOUR_GIB:
        raise ImageError(request.path, f"is a Linux kernel that needs {size} bytes of memory below 4 GiB")
    plan.claim(gpa, size, "the Linux kernel")


def _command_line(request: LoadRequest, header: SetupHeader) -> bytes:
    if len(request.cmdline) > header.cmdline_size:
        what = f"takes a command line of at most {header.cmdline_size} bytes, not {len(request.cmdline)}"
        raise ImageError(request.path, what, "shorten --append")
    return request.cmdline + b"\0"


def _zero_page(
    request: LoadRequest, load_gpa: int, cmdline_gpa: int, initrd_gpa: int, initrd_size: int
) -> bytes:
    """struct boot_params: all zero but the setup header and the fields listed below."""
    page = bytearray(_ZERO_PAGE_SIZE)
    header_end = min(0x202 + request.data[0x201], _HEADER_ROOM_END, len(request.data))
    page[_HEADER_START:header_end] = request.data[_HEADER_START:header_end]
    e820 = memory_map(request.ram_size)
    fields = (
        (0x070, "<Q", request.rsdp_gpa),  # acpi_rsdp_addr
        (0x1E8, "<B", len(e820)),  # e820_entries
        (0x1FA, "<H", _VIDEO_NORMAL),  # vid_mode
        (0x208, "<I", 0),  # realmode_swtch
        (0x210, "<B", _LOADER_UNDEFINED),  # type_of_loader
        (0x211, "<B", page[0x211] & (_LOADED_HIGH | _QUIET_FLAG)),  # loadflags
        (0x214, "<I", load_gpa),  # code32_start
        (0x218, "<I", initrd_gpa),  # ramdisk_image
        (0x21C, "<I", initrd_size),  # ramdisk_size
        (0x224, "<HBB", 0, 0, 0),  # heap_end_ptr, ext_loader_ver, ext_loader_type
        (0x228, "<I", cmdline_gpa),  # cmd_line_ptr
        (0x250, "<Q", 0),  # setup_data: the file's own value would be followed by the kernel
    )
    for offset, fmt, *values in fields:
        struct.pack_into(fmt, page, offset, *values)
    table = pack_e820(e820)
    page[0x2D0 : 0x2D0 + len(table)] = table
    return bytes(page)


def _description(data: bytes, header: SetupHeader) -> str:
    """The kernel's own version string, if the header points to one inside the real-mode part."""
    start = header.kernel_version + _SECTOR
    end = ((header.setup_sects or 4) + 1) * _SECTOR
    if header.kernel_version == 0 or start >= end:
        return "Linux kernel"
    text = data[start : min(end, start + _VERSION_MAX)].partition(b"\0")[0]
    return one_line(f"Linux {text.decode('latin-1')}")
