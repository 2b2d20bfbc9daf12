"""Call frame information of a Linux kernel, from the tables that the kernel unwinds its own stack with (ORC).

Turned into DWARF's `.debug_frame`, they give debuggers backtraces through a kernel without frame pointers and
without debug information. Pure; the tables come from guest memory, and what does not add up gives None.

An entry holds from its address to the next one's::

    ip      s32   address, counted from where this number is
    entry   s16 sp_offset, s16 bp_offset, sp_reg:4, bp_reg:4, type (2 or 3 bits), flags

``sp_reg + sp_offset`` is the stack pointer of the caller or, by type, where the interrupted registers were
saved: all of them (`struct pt_regs`) or only those that the processor pushed. Types are numbered anew since
Linux 6.4, which is told from their frequency: most code is called.

Sources: Linux, `arch/x86/include/asm/orc_types.h`, `arch/x86/kernel/unwind_orc.c`; DWARF 4, chapter 6.4;
System V ABI, AMD64 supplement, "DWARF Register Number Mapping".
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

IP_SIZE: Final = 4
ENTRY_SIZE: Final = 6
MAX_ENTRIES: Final = 1 << 22
_MAX_ROWS: Final = 64  # of one frame description


class _Kind(enum.Enum):
    """What stands where the entry points to."""

    CALL = enum.auto()
    REGS = enum.auto()
    PARTIAL = enum.auto()
    END = enum.auto()
    NONE = enum.auto()


_OLD_KINDS: Final = {0: _Kind.CALL, 1: _Kind.REGS, 2: _Kind.PARTIAL}
_NEW_KINDS: Final = {0: _Kind.NONE, 1: _Kind.END, 2: _Kind.CALL, 3: _Kind.REGS, 4: _Kind.PARTIAL}
_OLD_END: Final = 1 << 2

# ORC's number of a register to DWARF's; those below are read from memory that they point to.
_REGISTERS: Final = {2: 1, 3: 5, 4: 6, 5: 7, 6: 10, 7: 13}
_UNDEFINED, _PREVIOUS_SP, _BP, _BP_INDIRECT, _SP_INDIRECT = 0, 1, 4, 8, 9

_ADVANCE, _ADVANCE1, _ADVANCE2, _ADVANCE4 = 0x40, 0x02, 0x03, 0x04
_UNDEFINED_RULE, _SAME_VALUE, _DEF_CFA, _DEF_CFA_EXPRESSION = 0x07, 0x08, 0x0C, 0x0F
_EXPRESSION, _OFFSET_SF = 0x10, 0x11
_BREG, _DEREF, _CONSTS, _PLUS = 0x70, 0x06, 0x11, 0x22
_RBX, _RBP, _RSP, _RA = 3, 6, 7, 16
_DATA_ALIGN: Final = -8
_PRESERVED: Final = (_RBX, 12, 13, 14, 15)
# struct pt_regs from its start: r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi, as DWARF numbers.
_SAVED: Final = (15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5)
_PT_REGS_IP, _PT_REGS_SP = 0x80, 0x98
_FRAME_IP, _FRAME_SP = 0, 0x18  # what the processor pushes


def frame_section(ips_at: int, ips: bytes, entries: bytes) -> bytes | None:
    """The contents of `.debug_frame`. `ips_at` is the address of the table of addresses."""
    count = len(ips) // IP_SIZE
    if not 0 < count <= MAX_ENTRIES or len(entries) != count * ENTRY_SIZE:
        return None
    numbers = struct.unpack(f"<{count}i", ips[: count * IP_SIZE])
    addresses = [ips_at + IP_SIZE * number + distance for number, distance in enumerate(numbers)]
    if any(map(int.__gt__, addresses, addresses[1:])) or addresses[0] < 0 or addresses[-1] >> 64:
        return None
    section = bytearray()
    heads = {}
    for kind in (_Kind.CALL, _Kind.REGS, _Kind.PARTIAL, _Kind.END):
        heads[kind] = len(section)
        section += _common(kind)
    for kind, start, end, program in _descriptions(addresses, _rules(entries)):
        body = struct.pack("<IQQ", heads[kind], start, end - start) + (b"\0" if kind in _SIGNAL else b"")
        section += _padded(body + program)
    return bytes(section)


def _descriptions(
    addresses: Sequence[int], rules: Iterable[tuple[_Kind, bytes]]
) -> Iterator[tuple[_Kind, int, int, bytes]]:
    """Frame descriptions: runs of entries of a kind, with start, end and what to do in between."""
    kind, start, at, rule, rows = _Kind.NONE, 0, 0, b"", 0
    program = bytearray()
    for address, (next_kind, next_rule) in zip(addresses, rules, strict=True):
        if next_kind is kind and next_rule == rule:
            continue
        if next_kind is not kind or rows == _MAX_ROWS:
            if kind is not _Kind.NONE and address > start:
                yield kind, start, address, bytes(program)
            kind, start, at, rows = next_kind, address, address, 0
            program.clear()
        program += _advance(address - at) + next_rule
        at, rule, rows = address, next_rule, rows + 1
    if kind is not _Kind.NONE:
        yield kind, start, at + 1, bytes(program)


def _advance(distance: int) -> bytes:
    if distance < 0x40:
        return bytes([_ADVANCE | distance]) if distance else b""
    if distance < 1 << 8:
        return bytes([_ADVANCE1, distance])
    if distance < 1 << 16:
        return struct.pack("<BH", _ADVANCE2, distance)
    return struct.pack("<BI", _ADVANCE4, min(distance, 0xFFFF_FFFF))


# --- entries -------------------------------------------------------------------------------------------


def _rules(entries: bytes) -> Iterator[tuple[_Kind, bytes]]:
    """Each entry's kind, and where the caller's stack and frame pointers are."""
    rows = [entries[at : at + ENTRY_SIZE] for at in range(0, len(entries), ENTRY_SIZE)]
    new = 2 * sum(row[5] & 7 == 2 for row in rows) > len(rows)
    known: dict[bytes, tuple[_Kind, bytes]] = {}
    for row in rows:
        rule = known.get(row)
        if rule is None:
            rule = known[row] = _rule(row, new)
        yield rule


def _rule(row: bytes, new: bool) -> tuple[_Kind, bytes]:
    sp_offset, bp_offset, registers, flags = struct.unpack("<hhBB", row)
    sp_register, bp_register = registers & 15, registers >> 4
    if new:
        kind = _NEW_KINDS.get(flags & 7, _Kind.NONE)
    elif sp_register == _UNDEFINED:
        kind = _Kind.END if flags & _OLD_END else _Kind.NONE
    else:
        kind = _OLD_KINDS.get(flags & 3, _Kind.NONE)
    if kind in (_Kind.NONE, _Kind.END):
        return kind, b""
    frame = _frame_address(sp_register, sp_offset)
    if frame is None:
        return _Kind.NONE, b""
    return kind, frame + (b"" if kind is _Kind.REGS else _frame_pointer(bp_register, bp_offset))


def _frame_address(register: int, offset: int) -> bytes | None:
    """The rule for the canonical frame address; None for a register that there is not."""
    if register == _BP_INDIRECT:
        return _expression(bytes([_DEF_CFA_EXPRESSION]), _base(_RBP, offset) + bytes([_DEREF]))
    if register == _SP_INDIRECT:
        steps = _base(_RSP, 0) + bytes([_DEREF, _CONSTS]) + _signed(offset) + bytes([_PLUS])
        return _expression(bytes([_DEF_CFA_EXPRESSION]), steps)
    number = _REGISTERS.get(register)
    if number is None:
        return None
    if offset < 0:
        return _expression(bytes([_DEF_CFA_EXPRESSION]), _base(number, offset))
    return bytes([_DEF_CFA, number]) + _unsigned(offset)


def _frame_pointer(register: int, offset: int) -> bytes:
    if register == _PREVIOUS_SP and offset % _DATA_ALIGN == 0:
        return _saved(_RBP, offset)
    if register == _BP:
        return _expression(bytes([_EXPRESSION, _RBP]), _base(_RBP, offset))
    return bytes([_SAME_VALUE, _RBP])


# --- DWARF ---------------------------------------------------------------------------------------------

_SIGNAL: Final = (_Kind.REGS, _Kind.PARTIAL)


def _common(kind: _Kind) -> bytes:
    """The common information of frames of a kind. Interrupted ones are marked: their pc is not a call's."""
    match kind:
        case _Kind.REGS:
            registers = [_saved(number, 8 * place) for place, number in enumerate(_SAVED)]
            program = b"".join([*registers, _saved(_RA, _PT_REGS_IP), _saved(_RSP, _PT_REGS_SP)])
        case _Kind.PARTIAL:
            same = b"".join(bytes([_SAME_VALUE, number]) for number in _PRESERVED)
            program = same + _saved(_RA, _FRAME_IP) + _saved(_RSP, _FRAME_SP)
        case _Kind.END:
            program = bytes([_DEF_CFA, _RSP, 8, _UNDEFINED_RULE, _RA])
        case _:
            unknown = b"".join(bytes([_UNDEFINED_RULE, number]) for number in _PRESERVED)
            program = bytes([_DEF_CFA, _RSP, 8]) + _saved(_RA, -8) + unknown
    signal = kind in _SIGNAL
    head = struct.pack("<IB", 0xFFFF_FFFF, 1) + (b"zS\0" if signal else b"\0")
    head += _unsigned(1) + _signed(_DATA_ALIGN) + bytes([_RA]) + (b"\0" if signal else b"")
    return _padded(head + program)


def _padded(body: bytes) -> bytes:
    """A part of the section: its length, its contents, and DW_CFA_nop up to a multiple of 8."""
    size = -(-(4 + len(body)) // 8) * 8 - 4
    return struct.pack("<I", size) + body.ljust(size, b"\0")


def _saved(register: int, offset: int) -> bytes:
    """The register's value is `offset` bytes from the frame address."""
    return bytes([_OFFSET_SF, register]) + _signed(offset // _DATA_ALIGN)


def _base(register: int, offset: int) -> bytes:
    return bytes([_BREG + register]) + _signed(offset)


def _expression(rule: bytes, steps: bytes) -> bytes:
    return rule + _unsigned(len(steps)) + steps


def _unsigned(value: int) -> bytes:
    """ULEB128."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _signed(value: int) -> bytes:
    """SLEB128."""
    encoded = bytearray()
    while not -0x40 <= value < 0x40:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value & 0x7F])
