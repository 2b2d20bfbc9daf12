"""The registers of a vCPU as QEMU's `info registers` shows them: scripts read them by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hv.engines.base import Activity
from hv.vcpu import Vcpu

# Bits of a segment's access rights as `cs_attr` and its like have them.
_SYSTEM_TYPES_32: Final = (
    "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
    "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32",
)  # fmt: skip
_SYSTEM_TYPES_64: Final = (
    "<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
    "Reserved", "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64",
)  # fmt: skip
_ATTR_ACCESSED: Final = 1 << 0
_ATTR_WRITABLE: Final = 1 << 1  # of code: readable
_ATTR_EXPAND: Final = 1 << 2  # of code: conforming
_ATTR_CODE: Final = 1 << 3
_ATTR_S: Final = 1 << 4
_ATTR_P: Final = 1 << 7
_ATTR_L: Final = 1 << 13
_ATTR_DB: Final = 1 << 14
_ATTR_G: Final = 1 << 15
_ATTR_UNUSABLE: Final = 1 << 16
_EFER_LMA: Final = 1 << 10
_CR0_PE: Final = 1
_XCR0_AVX: Final = 1 << 2


def letters(value: int, rows: Sequence[tuple[int, str]]) -> str:
    """A letter for each bit that is set, a dash for the others."""
    return "".join(letter if value & bit else "-" for bit, letter in rows)


_FLAGS: Final = (
    (1 << 10, "D"), (1 << 11, "O"), (1 << 7, "S"), (1 << 6, "Z"), (1 << 4, "A"), (1 << 2, "P"), (1, "C"),
)  # fmt: skip


def _general(vcpu: Vcpu, wide: bool, a20: bool) -> Iterator[str]:
    names = ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp"]
    if wide:
        shown = [(f"r{name}", f"R{name.upper()}") for name in names]
        shown += [(f"r{number}", f"R{number}") for number in range(8, 16)]
        width = 16
    else:
        shown = [(f"r{name}", f"E{name.upper()}") for name in names]
        width = 8
    mask = (1 << 4 * width) - 1
    for row in range(0, len(shown), 4):
        yield " ".join(
            f"{label:<3}={vcpu.get(name) & mask:0{width}x}" for name, label in shown[row : row + 4]
        )
    pc, flags = ("RIP", "RFL") if wide else ("EIP", "EFL")
    eflags = vcpu.get("eflags")
    yield (
        f"{pc}={vcpu.get('rip') & mask:0{width}x} {flags}={eflags:08x} [{letters(eflags, _FLAGS)}] "
        f"CPL={vcpu.get('cpl')} II={int(vcpu.get('shadow') != 0)} A20={int(a20)} SMM=0 "
        f"HLT={int(vcpu.activity is Activity.HALTED)}"
    )


def _segment(vcpu: Vcpu, name: str, label: str, wide: bool, long: bool, protected: bool) -> str:
    attr = vcpu.get(f"{name}_attr")
    if attr & _ATTR_UNUSABLE:
        attr &= 3 << 5  # nothing is loaded; the privilege level alone stays
    base, limit = vcpu.get(f"{name}_base"), vcpu.get(f"{name}_limit")
    shown = f"{base:016x}" if wide else f"{base & 0xFFFF_FFFF:08x}"
    # As in the high half of a descriptor, the upper bits of the limit included.
    flags = (attr & 0xF0FF) << 8 | (limit >> (12 if attr & _ATTR_G else 0)) & 0xF_0000
    text = f"{label:<3}={vcpu.get(name):04x} {shown} {limit:08x} {flags:08x}"
    if not protected or not attr & _ATTR_P:
        return text
    return f"{text} DPL={attr >> 5 & 3} {_segment_kind(attr, long)}"


def _segment_kind(attr: int, long: bool) -> str:
    if not attr & _ATTR_S:
        return (_SYSTEM_TYPES_64 if long else _SYSTEM_TYPES_32)[attr & 15]
    if attr & _ATTR_CODE:
        size = "CS64" if attr & _ATTR_L else "CS32" if attr & _ATTR_DB else "CS16"
        rows = ((_ATTR_EXPAND, "C"), (_ATTR_WRITABLE, "R"), (_ATTR_ACCESSED, "A"))
    else:
        size = "DS  " if long or attr & _ATTR_DB else "DS16"
        rows = ((_ATTR_EXPAND, "E"), (_ATTR_WRITABLE, "W"), (_ATTR_ACCESSED, "A"))
    return f"{size} [{letters(attr, rows)}]"


def _system(vcpu: Vcpu, long: bool) -> Iterator[str]:
    get, width = vcpu.get, 16 if long else 8
    for name in ("gdt", "idt"):
        yield f"{name.upper()}=     {get(f'{name}r_base'):0{width}x} {get(f'{name}r_limit'):08x}"
    yield (f"CR0={get('cr0'):08x} CR2={get('cr2'):0{width}x} CR3={get('cr3'):0{width}x} CR4={get('cr4'):08x}")
    yield "".join(f"DR{n}={get(f'dr{n}'):016x} " for n in range(4))
    yield f"DR6={get('dr6'):016x} DR7={get('dr7'):016x}"
    yield f"EFER={get('efer'):016x}"


def _floating(vcpu: Vcpu, wide: bool) -> Iterator[str]:
    get = vcpu.get
    status, tags = get("fstat"), get("ftag")
    top = status >> 11 & 7
    valid = sum((tags >> 2 * n & 3 != 3) << n for n in range(8))
    yield (f"FCW={get('fctrl'):04x} FSW={status:04x} [ST={top}] FTW={valid:02x} MXCSR={get('mxcsr'):08x}")
    values = [get(f"st{(n - top) % 8}") for n in range(8)]
    for n in range(0, 8, 2):
        yield " ".join(f"FPR{m}={values[m] & (1 << 64) - 1:016x} {values[m] >> 64:04x}" for m in (n, n + 1))
    count = 16 if wide else 8
    if get("xcr0") & _XCR0_AVX:
        for n in range(count):
            words = _words(get(f"xmm{n}") | get(f"ymm{n}h") << 128, 4)
            yield f"YMM{n:02d}={words}"
        return
    for n in range(0, count, 2):
        yield " ".join(f"XMM{m:02d}={_words(get(f'xmm{m}'), 2)}" for m in (n, n + 1))


def _words(value: int, count: int) -> str:
    return " ".join(f"{value >> 64 * n & (1 << 64) - 1:016x}" for n in reversed(range(count)))


def registers_text(vcpu: Vcpu, a20: bool) -> Iterator[str]:
    """The lines of QEMU's `info registers` for one vCPU."""
    attr = vcpu.get("cs_attr")
    long = bool(vcpu.get("efer") & _EFER_LMA)
    wide = long and bool(attr & _ATTR_L)
    protected = bool(vcpu.get("cr0") & _CR0_PE)
    yield ""
    yield f"CPU#{vcpu.index}"
    yield from _general(vcpu, wide, a20)
    labels = {"ldtr": "LDT", "tr": "TR"}
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"):
        yield _segment(vcpu, name, labels.get(name, name.upper()), wide, long, protected)
    yield from _system(vcpu, long)
    yield from _floating(vcpu, wide)
