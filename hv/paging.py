"""Memory as a CPU sees it through its page tables, without side effects: what a debugger reads and writes.

Linear addresses are translated page by page with the engine's walker, which sets no accessed or dirty
bit, fills no TLB entry and raises no fault. Guest write protection is ignored. Only memory is reached,
never a device.
"""

from __future__ import annotations

from typing import Final

from hv.engines.base import Engine, EngineCpu

PAGE_SIZE: Final = 4096
_LINEAR_MASK: Final = (1 << 64) - 1


def pieces(cpu: EngineCpu, linear: int, size: int) -> list[tuple[int, int]]:
    """The physical `(gpa, size)` pieces of `[linear, linear + size)`, up to the first gap."""
    found: list[tuple[int, int]] = []
    end = linear + size
    while linear < end:
        length = min(end - linear, PAGE_SIZE - linear % PAGE_SIZE)
        translation = cpu.translate(linear & _LINEAR_MASK)
        if translation is None:
            break
        found.append((translation.gpa, length))
        linear += length
    return found


def writable_pieces(
    engine: Engine, cpu: EngineCpu, linear: int, data: bytes
) -> list[tuple[int, bytes]] | int:
    """Where `data` at `linear` would go, as physical `(gpa, bytes)`; or the first address not in memory."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    for gpa, length in pieces(cpu, linear, len(data)):
        if engine.read_physical(gpa, length) is None:
            return linear + offset
        found.append((gpa, data[offset : offset + length]))
        offset += length
    return found if offset == len(data) else linear + offset
