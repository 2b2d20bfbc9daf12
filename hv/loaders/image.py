"""What a loader takes and what it gives: a request in, a boot image out. Both are plain data.

A loader never touches a machine. The machine zeroes its RAM, writes the firmware tables and the
image's chunks, and gives vCPU 0 the `BootState`; everything not named there has its reset value.
"""

from dataclasses import dataclass
from enum import Enum

from hv.loaders.segments import REAL_LDTR, REAL_TR, SegmentState


class ImageKind(Enum):
    """How an image is started; the value is the name shown to the user."""

    LINUX64 = "linux-64"
    LINUX32 = "linux-32"
    PVH = "pvh"
    MULTIBOOT = "multiboot"
    FLAT = "boot-sector"


class BootMode(Enum):
    """The processor mode at the first instruction."""

    REAL = "real"
    PROTECTED32 = "protected32"
    LONG64 = "long64"


@dataclass(frozen=True, slots=True)
class Module:
    """A file handed to the guest beside the kernel (an initrd): its bytes and its command line."""

    path: str
    data: bytes
    cmdline: bytes


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One image to load: its bytes, and the machine and the arguments it is loaded for.

    `path` is for messages only; `cmdline` has no terminating zero; `ram_size` is in bytes.
    """

    path: str
    data: bytes
    ram_size: int
    cmdline: bytes = b""
    modules: tuple[Module, ...] = ()
    rsdp_gpa: int = 0


@dataclass(frozen=True, slots=True)
class TableRegister:
    """GDTR or IDTR: linear base address and limit (size - 1)."""

    base: int
    limit: int


@dataclass(frozen=True, slots=True)
class BootState:
    """Registers of vCPU 0 at its first instruction; those not listed have their reset value.

    General registers that are not given are zero. The TSS and LDT registers are as after reset
    unless the boot protocol says otherwise.
    """

    mode: BootMode
    rip: int
    cs: SegmentState
    ss: SegmentState
    ds: SegmentState
    es: SegmentState
    fs: SegmentState
    gs: SegmentState
    gdtr: TableRegister
    idtr: TableRegister
    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rbp: int = 0
    rsp: int = 0
    rflags: int = 0x2
    cr0: int = 0x10
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    tr: SegmentState = REAL_TR
    ldtr: SegmentState = REAL_LDTR


@dataclass(frozen=True, slots=True)
class LoadedSegment:
    """A part of the image in guest memory: link address, physical address and size in bytes."""

    gva: int
    gpa: int
    size: int


@dataclass(frozen=True, slots=True)
class BootImage:
    """A loaded image: `(guest physical address, bytes)` chunks to write, and where to start.

    `load_bias` is what to add to the file's symbol addresses, or None where only the guest will
    know (a Linux bzImage decompresses and, with KASLR, moves itself); `link_base` is then the virtual
    address that the kernel was linked for. `elf` is the file itself, when it is an ELF file.
    `description` is one line for the user. Chunks lie in RAM and do not overlap; RAM outside them must
    read as zero.
    """

    kind: ImageKind
    description: str
    chunks: tuple[tuple[int, bytes], ...]
    state: BootState
    segments: tuple[LoadedSegment, ...]
    load_bias: int | None
    link_base: int | None = None
    elf: bytes | None = None

    @property
    def entry(self) -> int:
        """Linear (and physical) address of the first instruction."""
        return self.state.cs.base + self.state.rip
