"""Registers of a CPU by name, as integers; and the state that a boot protocol gives to the first CPU.

Names are gdb's and the engine's alike (`accel`'s regs.def lists them).
"""

from __future__ import annotations

from typing import Final

from hv.engines.base import EngineCpu
from hv.loaders.image import BootState
from hv.loaders.segments import SegmentState

_GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
EFER_LMA: Final = 1 << 10


def read_int(cpu: EngineCpu, name: str) -> int:
    """A register as an unsigned integer. KeyError if there is none of that name."""
    return int.from_bytes(cpu.read_register(name), "little")


def write_int(cpu: EngineCpu, name: str, value: int) -> None:
    """Set a register. KeyError; ValueError when it cannot have that value."""
    size = cpu.register_size(name)
    if size is None:
        raise KeyError(name)
    try:
        data = value.to_bytes(size, "little")
    except OverflowError:
        raise ValueError(f"{name} has {size} bytes") from None
    cpu.write_register(name, data)


def _write_segment(cpu: EngineCpu, name: str, segment: SegmentState) -> None:
    write_int(cpu, name, segment.selector)
    write_int(cpu, f"{name}_base", segment.base)
    write_int(cpu, f"{name}_limit", segment.limit)
    write_int(cpu, f"{name}_attr", segment.attributes)


def apply_boot_state(cpu: EngineCpu, state: BootState) -> None:
    """Give `cpu`, fresh from reset, the registers of `state`.

    Order matters: paging can be enabled in long mode only after CR4.PAE and EFER.LME, and while CS is
    not yet a 64-bit segment; `LMA` follows from the others.
    """
    write_int(cpu, "cr3", state.cr3)
    write_int(cpu, "cr4", state.cr4)
    write_int(cpu, "efer", state.efer & ~EFER_LMA)
    write_int(cpu, "cr0", state.cr0)
    for name in _SEGMENTS:
        _write_segment(cpu, name, getattr(state, name))
    write_int(cpu, "gdtr_base", state.gdtr.base)
    write_int(cpu, "gdtr_limit", state.gdtr.limit)
    write_int(cpu, "idtr_base", state.idtr.base)
    write_int(cpu, "idtr_limit", state.idtr.limit)
    for name in _GENERAL:
        write_int(cpu, name, getattr(state, name))
    write_int(cpu, "eflags", state.rflags)
    write_int(cpu, "rip", state.rip)
