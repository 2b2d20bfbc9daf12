"""The registers of an x86 machine in a 32-bit layout: for 32-bit code, or for 16-bit code as `i8086`.

The layout of the `g` packet is gdb's for i386: eax, ecx, edx, ebx (in this order), esp, ebp, esi, edi, eip.
With the architecture `i8086` gdb disassembles 16-bit code. gdb takes neither beside a 64-bit program file.
The registers are the low halves of those of `gdbstub.arch.x86_64`; the feature `org.hv.x86.system` is the
same and has fs_base and gs_base besides.

Sources: as in `gdbstub.arch.x86_64`; System V ABI for the Intel386, "DWARF Register Number Mapping".
"""

from __future__ import annotations

from typing import Literal

from gdbstub.arch.x86_64 import SYSTEM_ROWS, avx_feature, core_feature, sse_feature, system_feature
from gdbstub.description import Description, Feature, Register

_GPR_ROWS = (
    ("eax", "int32", None),
    ("ecx", "int32", None),
    ("edx", "int32", None),
    ("ebx", "int32", None),
    ("esp", "data_ptr", "sp"),
    ("ebp", "data_ptr", "fp"),
    ("esi", "int32", None),
    ("edi", "int32", None),
    ("eip", "code_ptr", "pc"),
)
"""Name, type, LLDB's name of its purpose; the DWARF numbers count up from 0."""


def _general() -> tuple[Register, ...]:
    return tuple(
        Register(name, 32, kind, generic=generic, dwarf=number)
        for number, (name, kind, generic) in enumerate(_GPR_ROWS)
    )


def _system() -> Feature:
    # A pointer of this architecture has 32 bits.
    rows = [(name, bits, "uint64" if kind == "code_ptr" else kind) for name, bits, kind in SYSTEM_ROWS]
    return system_feature((("fs_base", 64, "uint64"), ("gs_base", 64, "uint64"), *rows))


def i386(architecture: Literal["i386", "i8086"] = "i386", *, avx: bool = False) -> Description:
    """The description of an x86 vCPU that executes 32-bit (`i386`) or 16-bit (`i8086`) code."""
    features = [core_feature(_general(), eflags_dwarf=9, st0_dwarf=11), sse_feature(8, xmm0_dwarf=21)]
    if avx:
        features.append(avx_feature(8))
    features.append(_system())
    return Description(
        architecture=architecture,
        features=tuple(features),
        expedited=("eip", "esp", "ebp", "eflags"),
        program_counter="eip",
        triple="i386-unknown-none",
    )
