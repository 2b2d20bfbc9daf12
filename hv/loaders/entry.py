"""The entry states of all boot protocols, with the GDT and page tables that they rest on."""

import struct
from typing import Final

from hv.firmware.e820 import high_ram_end
from hv.loaders.image import BootMode, BootState, TableRegister
from hv.loaders.plan import MemoryPlan
from hv.loaders.segments import BUSY_TSS, CODE32, CODE64, DATA, REAL_CODE, REAL_DATA, boot_gdt

_CR0_PE: Final = 1 << 0
_CR0_ET: Final = 1 << 4  # always 1
_CR0_PG: Final = 1 << 31
_CR4_PAE: Final = 1 << 5
_EFER_LME_LMA: Final = 1 << 8 | 1 << 10
_PTE_PRESENT_WRITABLE: Final = 0x3
_PDE_LARGE: Final = 0x83  # present, writable, 2 MiB page
_ONE_GIB: Final = 1 << 30
_PAGE: Final = 0x1000
_ENTRIES: Final = 512
# The boot protocol asks only for the kernel, the zero page and the command line, all below 4 GiB.
_MAX_MAPPED: Final = 64 * _ONE_GIB
_STACK_SIZE: Final = 0x1000

Chunks = list[tuple[int, bytes]]


def real_mode_state(entry: int, stack: int, boot_drive: int) -> BootState:
    """Real mode as a PC BIOS starts a boot sector: flat zero segments, DL = `boot_drive`."""
    return BootState(
        mode=BootMode.REAL,
        rip=entry,
        rsp=stack,
        rdx=boot_drive,
        cs=REAL_CODE,
        ss=REAL_DATA,
        ds=REAL_DATA,
        es=REAL_DATA,
        fs=REAL_DATA,
        gs=REAL_DATA,
        gdtr=TableRegister(0, 0xFFFF),
        idtr=TableRegister(0, 0x3FF),
    )


def protected_mode_state(
    plan: MemoryPlan, entry: int, *, eax: int = 0, ebx: int = 0, esi: int = 0
) -> tuple[BootState, Chunks]:
    """32-bit protected mode, paging off, flat segments, interrupts off; all else zero."""
    gdt = boot_gdt(CODE32)
    gdt_gpa = plan.place_low(len(gdt), "the boot GDT")
    state = BootState(
        mode=BootMode.PROTECTED32,
        rip=entry,
        rax=eax,
        rbx=ebx,
        rsi=esi,
        cr0=_CR0_PE | _CR0_ET,
        cs=CODE32,
        ss=DATA,
        ds=DATA,
        es=DATA,
        fs=DATA,
        gs=DATA,
        tr=BUSY_TSS,
        gdtr=TableRegister(gdt_gpa, len(gdt) - 1),
        idtr=TableRegister(0, 0),
    )
    return state, [(gdt_gpa, gdt)]


def long_mode_state(
    plan: MemoryPlan, ram_size: int, entry: int, zero_page_gpa: int
) -> tuple[BootState, Chunks]:
    """64-bit mode, identity mapped, flat segments, interrupts off, RSI = `zero_page_gpa`."""
    gdt = boot_gdt(CODE64)
    gdt_gpa = plan.place_low(len(gdt), "the boot GDT")
    stack_gpa = plan.place_low(_STACK_SIZE, "the boot stack", align=_PAGE)
    gib = -(-min(high_ram_end(ram_size), _MAX_MAPPED) // _ONE_GIB)
    tables_gpa = plan.place_low((2 + gib) * _PAGE, "the boot page tables", align=_PAGE)
    state = BootState(
        mode=BootMode.LONG64,
        rip=entry,
        rsi=zero_page_gpa,
        rsp=stack_gpa + _STACK_SIZE,
        cr0=_CR0_PG | _CR0_PE | _CR0_ET,
        cr3=tables_gpa,
        cr4=_CR4_PAE,
        efer=_EFER_LME_LMA,
        cs=CODE64,
        ss=DATA,
        ds=DATA,
        es=DATA,
        fs=DATA,
        gs=DATA,
        tr=BUSY_TSS,
        gdtr=TableRegister(gdt_gpa, len(gdt) - 1),
        idtr=TableRegister(0, 0),
    )
    return state, [(gdt_gpa, gdt), (tables_gpa, identity_map(tables_gpa, gib))]


def identity_map(tables_gpa: int, gib: int) -> bytes:
    """Page tables at `tables_gpa` that map the first `gib` GiB (at most 512) to themselves.

    A PML4 page, a page-directory-pointer page, then one page directory of 2 MiB pages per GiB:
    1 GiB pages would be smaller but not every CPU model has them.
    Source: SDM volume 3, "4-Level Paging and 5-Level Paging".
    """
    pointer = tables_gpa + _PAGE
    directories = pointer + _PAGE
    pml4 = struct.pack("<Q", pointer | _PTE_PRESENT_WRITABLE)
    pdpt = b"".join(
        struct.pack("<Q", (directories + index * _PAGE) | _PTE_PRESENT_WRITABLE) for index in range(gib)
    )
    pages = struct.pack(f"<{gib * _ENTRIES}Q", *(index << 21 | _PDE_LARGE for index in range(gib * _ENTRIES)))
    return pml4.ljust(_PAGE, b"\0") + pdpt.ljust(_PAGE, b"\0") + pages
