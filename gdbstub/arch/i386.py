"""The registers of an x86 machine in a 32-bit layout: for 32-bit code, or for 16-bit code as `i8086`.

The layout of the `g` packet is gdb's for i386: eax, ecx, edx, ebx (in this order), esp, ebp, esi, edi, eip.
With the architecture `i8086` gdb disassembles 16-bit code. gdb takes neither beside a 64-bit program file.
The registers are the low halves of those of `gdbstub.arch.x86_64`; the feature `org.hv.x86.system` is the
same and has fs_base and gs_base besides.

Sources: as in `gdbstub.arch.x86_64`; System V ABI for the Intel386, "DWARF Register Number Mapping".
"""

from __future__ import annotations

from typing import Literal

from gdbstub.arch.x86_64 import (
    EFLAGS,
    MXCSR,
    SELECTORS,
    SYSTEM_ROWS,
    VECTOR_TYPES,
    X87_CONTROL,
    system_feature,
)
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


def _core() -> Feature:
    return Feature(
        "org.gnu.gdb.i386.core",
        (
            *(
                Register(name, 32, kind, generic=generic, dwarf=number)
                for number, (name, kind, generic) in enumerate(_GPR_ROWS)
            ),
            Register("eflags", 32, "i386_eflags", generic="flags", dwarf=9),
            *(Register(name, 32, "int32") for name in SELECTORS),
            *(Register(f"st{n}", 80, "i387_ext", dwarf=11 + n) for n in range(8)),
            *(Register(name, 32, "int", group="float") for name in X87_CONTROL),
        ),
        types=(EFLAGS,),
    )


def _sse() -> Feature:
    return Feature(
        "org.gnu.gdb.i386.sse",
        (
            *(Register(f"xmm{n}", 128, "vec128", dwarf=21 + n) for n in range(8)),
            Register("mxcsr", 32, "i386_mxcsr", group="vector"),
        ),
        types=(*VECTOR_TYPES, MXCSR),
    )


def _avx() -> Feature:
    return Feature("org.gnu.gdb.i386.avx", tuple(Register(f"ymm{n}h", 128, "uint128") for n in range(8)))


def _system() -> Feature:
    # A pointer of this architecture has 32 bits.
    rows = [(name, bits, "uint64" if kind == "code_ptr" else kind) for name, bits, kind in SYSTEM_ROWS]
    return system_feature((("fs_base", 64, "uint64"), ("gs_base", 64, "uint64"), *rows))


def i386(architecture: Literal["i386", "i8086"] = "i386", *, avx: bool = False) -> Description:
    """The description of an x86 vCPU that executes 32-bit (`i386`) or 16-bit (`i8086`) code."""
    features = [_core(), _sse(), *([_avx()] if avx else []), _system()]
    return Description(
        architecture=architecture,
        features=tuple(features),
        expedited=("eip", "esp", "ebp", "eflags"),
        program_counter="eip",
        triple="i386-unknown-none",
    )
