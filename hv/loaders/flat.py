"""A boot sector: 512 bytes with the signature 55h AAh at its end, at 0000:7C00 in real mode.

There is no BIOS behind it: no interrupt services and no disk, so it has to drive devices itself.
Source: BIOS Boot Specification 1.01, section 6.5 "INT 19h".
"""

from typing import Final

from hv.errors import ImageError
from hv.loaders.entry import real_mode_state
from hv.loaders.image import BootImage, ImageKind, LoadedSegment, LoadRequest
from hv.loaders.plan import MemoryPlan

SECTOR_SIZE: Final = 512
_LOAD_GPA: Final = 0x7C00
_FIRST_DISK: Final = 0x80


def is_boot_sector(data: bytes) -> bool:
    """Whether the file starts with a sector that carries the boot signature."""
    return data[SECTOR_SIZE - 2 : SECTOR_SIZE] == b"\x55\xaa"


def load_flat(request: LoadRequest) -> BootImage:
    """Load a file for which `is_boot_sector` holds."""
    if request.data.startswith(b"MZ"):
        raise ImageError(request.path, "is the first sector of a truncated Linux kernel or EFI program")
    if len(request.data) > SECTOR_SIZE:
        what = f"has a boot signature but {len(request.data)} bytes; only a single sector can be started"
        raise ImageError(request.path, what, "there is no BIOS that would read the rest from a disk")
    for arguments, option in ((request.modules, "--initrd"), (request.cmdline, "--append")):
        if arguments:
            raise ImageError(request.path, f"is a boot sector, which takes no {option}")
    MemoryPlan(request.path, request.ram_size).claim(_LOAD_GPA, SECTOR_SIZE, "the boot sector")
    return BootImage(
        kind=ImageKind.FLAT,
        description="boot sector",
        chunks=((_LOAD_GPA, request.data),),
        state=real_mode_state(_LOAD_GPA, _LOAD_GPA, _FIRST_DISK),
        segments=(LoadedSegment(_LOAD_GPA, _LOAD_GPA, SECTOR_SIZE),),
        load_bias=0,
    )
