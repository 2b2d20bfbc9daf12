"""The registers of an x86-64 machine, as gdb and LLDB expect them, and a group `system` of our own.

One layout in every CPU mode: clients cannot follow a layout that changes. The features `core`, `sse`,
`avx` and `segments` are gdb's standard ones and make up the `g` packet; the feature
`org.hv.x86.system` is read register by register. Values are little-endian.

Conventions of the `system` group, all of them read through ``p``:

* ``cs_attr`` and its like have the layout of the access-rights field of a VMCS::

      16        15  14   13  12   11..8  7  6..5  4  3..0
      unusable  G   D/B  L   AVL  0      P  DPL   S  type

* ``mode`` is how instructions are decoded now, `MODES`.
* ``linear_pc`` is the address that breakpoints compare with: CS base + rip outside 64-bit mode.
* ``ticks`` and ``retired`` are the machine's counters; with ``cpl``, ``mode``, ``linear_pc`` and ``tsc`` they
  follow from other state and are read-only.

gdb for x86 knows its own register groups only: it shows the `system` registers with ``info registers`` or by
name, and saves and restores them around a function call, ``save-restore="no"`` or not.

The description names the OSABI "none" and leaves out the feature ``org.gnu.gdb.i386.linux``. What stock gdb
(13.1) makes of that, and of the alternative:

=========================  ======================================  =====================================
file loaded in gdb         this description                        with the feature (`linux`)
=========================  ======================================  =====================================
none, or like a vmlinux    OSABI none                              OSABI GNU/Linux
with a GNU/Linux ABI note  OSABI GNU/Linux, which changes nothing  OSABI GNU/Linux
``info proc mappings``     "Not supported on this target"          shows ``/proc/1/maps`` of `vFile`
writing the PC             writes the PC                           the same; other versions: orig_rax too
step over a breakpoint     in place, nothing written               tries a copy at AT_ENTRY (displaced)
=========================  ======================================  =====================================

The file's OSABI goes before the description's, but gdb's support for Linux processes needs the feature:
without it no file makes gdb write a copied instruction into the guest or a register that is not there.
Calls and ``finish`` work. With `linux` they do, too, and since there is no auxiliary vector to name AT_ENTRY,
the copy is given up and the step done in place; a target then has to have ``orig_rax``, -1 for "no system
call".

Sources: *Debugging with GDB*, appendix "Target Descriptions", section "x86 Features"; Intel SDM
volume 3, chapters "System Architecture Overview", "Debug, Branch Profile, TSC ...", and "VM Control
Structures" (access rights), volume 4 "Model-Specific Registers"; System V ABI for x86-64, "DWARF
Definition" (register numbers).
"""

from __future__ import annotations

from collections.abc import Sequence

from gdbstub.description import Description, Enumeration, Feature, Field, Flags, Register, Union, Vector

MODES = (
    ("real", 0),
    ("vm86", 1),
    ("protected16", 2),
    ("protected32", 3),
    ("compatibility16", 4),
    ("compatibility32", 5),
    ("long64", 6),
)
"""Names and values of the register ``mode``."""


def _bits(name: str, size: int, **positions: int | tuple[int, int]) -> Flags:
    """A flags type: each keyword is a bit, or a (first, last) range of bits."""
    fields = []
    for field, at in positions.items():
        start, end = at if isinstance(at, tuple) else (at, at)
        fields.append(Field(field, start, end))
    return Flags(name, size, tuple(fields))


_EFLAGS = _bits(
    "i386_eflags", 4, CF=0, PF=2, AF=4, ZF=6, SF=7, TF=8, IF=9, DF=10, OF=11,
    IOPL=(12, 13), NT=14, RF=16, VM=17, AC=18, VIF=19, VIP=20, ID=21,
)  # fmt: skip
_MXCSR = _bits(
    "i386_mxcsr", 4, IE=0, DE=1, ZE=2, OE=3, UE=4, PE=5, DAZ=6, IM=7, DM=8, ZM=9, OM=10, UM=11, PM=12,
    RC=(13, 14), FZ=15,
)  # fmt: skip
_CR0 = _bits("cr0_flags", 8, PE=0, MP=1, EM=2, TS=3, ET=4, NE=5, WP=16, AM=18, NW=29, CD=30, PG=31)
_CR3 = _bits("cr3_flags", 8, PCID=(0, 11), PDBR=(12, 51))
_CR4 = _bits(
    "cr4_flags", 8, VME=0, PVI=1, TSD=2, DE=3, PSE=4, PAE=5, MCE=6, PGE=7, PCE=8, OSFXSR=9,
    OSXMMEXCPT=10, UMIP=11, LA57=12, VMXE=13, SMXE=14, FSGSBASE=16, PCIDE=17, OSXSAVE=18, SMEP=20,
    SMAP=21, PKE=22, CET=23, PKS=24,
)  # fmt: skip
_EFER = _bits("efer_flags", 8, SCE=0, LME=8, LMA=10, NXE=11, SVME=12, LMSLE=13, FFXSR=14, TCE=15)
_XCR0 = _bits("xcr0_flags", 8, X87=0, SSE=1, AVX=2, OPMASK=5, ZMM_HI256=6, HI16_ZMM=7, PKRU=9)
_ATTR = _bits(
    "segment_attr", 4, TYPE=(0, 3), S=4, DPL=(5, 6), P=7, AVL=12, L=13, DB=14, G=15, UNUSABLE=16
)  # fmt: skip
_DR6 = _bits("dr6_flags", 8, B0=0, B1=1, B2=2, B3=3, BLD=11, BD=13, BS=14, BT=15, RTM=16)
_DR7 = _bits(
    "dr7_flags", 8, L0=0, G0=1, L1=2, G1=3, L2=4, G2=5, L3=6, G3=7, LE=8, GE=9, GD=13,
    RW0=(16, 17), LEN0=(18, 19), RW1=(20, 21), LEN1=(22, 23), RW2=(24, 25), LEN2=(26, 27),
    RW3=(28, 29), LEN3=(30, 31),
)  # fmt: skip
_APIC_BASE = _bits("apic_base_flags", 8, BSP=8, EXTD=10, EN=11, BASE=(12, 51))
_MODE = Enumeration("cpu_mode", 4, MODES)

_VECTOR_TYPES = (
    Vector("v4f", "ieee_single", 4),
    Vector("v2d", "ieee_double", 2),
    Vector("v16i8", "int8", 16),
    Vector("v8i16", "int16", 8),
    Vector("v4i32", "int32", 4),
    Vector("v2i64", "int64", 2),
    Union(
        "vec128",
        (
            ("v4_float", "v4f"),
            ("v2_double", "v2d"),
            ("v16_int8", "v16i8"),
            ("v8_int16", "v8i16"),
            ("v4_int32", "v4i32"),
            ("v2_int64", "v2i64"),
            ("uint128", "uint128"),
        ),
    ),
)

# Order is the protocol's; the DWARF numbers of the first eight differ from it.
_GPR_ROWS = (
    ("rax", "int64", None, 0),
    ("rbx", "int64", None, 3),
    ("rcx", "int64", "arg4", 2),
    ("rdx", "int64", "arg3", 1),
    ("rsi", "int64", "arg2", 4),
    ("rdi", "int64", "arg1", 5),
    ("rbp", "data_ptr", "fp", 6),
    ("rsp", "data_ptr", "sp", 7),
    ("r8", "int64", "arg5", 8),
    ("r9", "int64", "arg6", 9),
    *((f"r{n}", "int64", None, n) for n in range(10, 16)),
    ("rip", "code_ptr", "pc", 16),
)
_SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
_X87_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")


def core_feature(general: Sequence[Register], *, eflags_dwarf: int, st0_dwarf: int) -> Feature:
    """The general registers of an x86 architecture, and the rest of gdb's core feature, which all have."""
    return Feature(
        "org.gnu.gdb.i386.core",
        (
            *general,
            Register("eflags", 32, "i386_eflags", generic="flags", dwarf=eflags_dwarf),
            *(Register(name, 32, "int32") for name in _SELECTORS),
            *(Register(f"st{n}", 80, "i387_ext", dwarf=st0_dwarf + n) for n in range(8)),
            *(Register(name, 32, "int", group="float") for name in _X87_CONTROL),
        ),
        types=(_EFLAGS,),
    )


def sse_feature(count: int, *, xmm0_dwarf: int) -> Feature:
    """xmm0 to xmm(count - 1), and mxcsr."""
    return Feature(
        "org.gnu.gdb.i386.sse",
        (
            *(Register(f"xmm{n}", 128, "vec128", dwarf=xmm0_dwarf + n) for n in range(count)),
            Register("mxcsr", 32, "i386_mxcsr", group="vector"),
        ),
        types=(*_VECTOR_TYPES, _MXCSR),
    )


def avx_feature(count: int) -> Feature:
    """The upper halves of ymm0 to ymm(count - 1)."""
    return Feature("org.gnu.gdb.i386.avx", tuple(Register(f"ymm{n}h", 128, "uint128") for n in range(count)))


def _general() -> tuple[Register, ...]:
    return tuple(
        Register(name, 64, kind, generic=generic, dwarf=dwarf) for name, kind, generic, dwarf in _GPR_ROWS
    )


def _segments() -> Feature:
    return Feature(
        "org.gnu.gdb.i386.segments",
        (Register("fs_base", 64, "int"), Register("gs_base", 64, "int")),
    )


SYSTEM_ROWS: tuple[tuple[str, int, str], ...] = (
    ("k_gs_base", 64, "uint64"),
    ("cr0", 64, "cr0_flags"),
    ("cr2", 64, "uint64"),
    ("cr3", 64, "cr3_flags"),
    ("cr4", 64, "cr4_flags"),
    ("cr8", 64, "uint64"),
    ("efer", 64, "efer_flags"),
    ("xcr0", 64, "xcr0_flags"),
    *((f"{segment}_base", 64, "uint64") for segment in ("cs", "ss", "ds", "es")),
    *((f"{segment}_limit", 32, "uint32") for segment in _SELECTORS),
    *((f"{segment}_attr", 32, "segment_attr") for segment in _SELECTORS),
    ("gdtr_base", 64, "uint64"),
    ("gdtr_limit", 32, "uint32"),
    ("idtr_base", 64, "uint64"),
    ("idtr_limit", 32, "uint32"),
    ("ldtr", 32, "uint32"),
    ("ldtr_base", 64, "uint64"),
    ("ldtr_limit", 32, "uint32"),
    ("ldtr_attr", 32, "segment_attr"),
    ("tr", 32, "uint32"),
    ("tr_base", 64, "uint64"),
    ("tr_limit", 32, "uint32"),
    ("tr_attr", 32, "segment_attr"),
    *((f"dr{n}", 64, "uint64") for n in range(4)),
    ("dr6", 64, "dr6_flags"),
    ("dr7", 64, "dr7_flags"),
    ("apic_base", 64, "apic_base_flags"),
    ("star", 64, "uint64"),
    ("lstar", 64, "uint64"),
    ("cstar", 64, "uint64"),
    ("fmask", 64, "uint64"),
    ("sysenter_cs", 64, "uint64"),
    ("sysenter_esp", 64, "uint64"),
    ("sysenter_eip", 64, "uint64"),
    ("pat", 64, "uint64"),
    ("tsc", 64, "uint64"),
    ("tsc_aux", 64, "uint64"),
    ("cpl", 32, "uint32"),
    ("mode", 32, "cpu_mode"),
    ("ticks", 64, "uint64"),
    ("retired", 64, "uint64"),
    ("linear_pc", 64, "code_ptr"),
)
"""The group `system`: name, bits, type."""
READ_ONLY = frozenset({"tsc", "cpl", "mode", "ticks", "retired", "linear_pc"})
"""Registers of the group that clients cannot write. A call from gdb must not turn back the clock."""


def system_feature(rows: tuple[tuple[str, int, str], ...] = SYSTEM_ROWS) -> Feature:
    """The group `system` as a feature of our own."""
    return Feature(
        "org.hv.x86.system",
        tuple(
            Register(name, bits, kind, group="system", save_restore=False, read_only=name in READ_ONLY)
            for name, bits, kind in rows
        ),
        types=(_CR0, _CR3, _CR4, _EFER, _XCR0, _ATTR, _DR6, _DR7, _APIC_BASE, _MODE),
        general=False,
    )


def _linux() -> Feature:
    return Feature("org.gnu.gdb.i386.linux", (Register("orig_rax", 64, "int"),))


def x86_64(*, avx: bool = False, linux: bool = False) -> Description:
    """The description of an x86-64 vCPU.

    `avx` adds the upper halves of ymm0 to ymm15. `linux` adds ``orig_rax`` and leaves the OSABI to the
    program file; some gdb commands for Linux processes want that, but gdb then writes ``orig_rax`` when it
    changes the program counter.
    """
    features = [core_feature(_general(), eflags_dwarf=49, st0_dwarf=33), sse_feature(16, xmm0_dwarf=17)]
    if avx:
        features.append(avx_feature(16))
    if linux:
        features.append(_linux())
    features += [_segments(), system_feature()]
    return Description(
        architecture="i386:x86-64",
        features=tuple(features),
        expedited=("rip", "rsp", "rbp", "eflags"),
        program_counter="rip",
        osabi=None if linux else "none",
        triple="x86_64-unknown-linux" if linux else "x86_64-unknown-none",
    )
