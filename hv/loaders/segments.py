"""Segment registers and the boot GDT, made from one description so that the two cannot disagree.

    selector 0x10  code, flat      selector 0x18  data, flat      selector 0x20  busy TSS

These are Linux's __BOOT_CS and __BOOT_DS; the other boot protocols leave the selectors open.
Source: SDM volume 3, "Segment Descriptors" and "TSS Descriptor".
"""

import struct
from dataclasses import dataclass
from typing import Final

BOOT_CS: Final = 0x10
BOOT_DS: Final = 0x18
BOOT_TR: Final = 0x20
_FLAT_LIMIT: Final = 0xFFFF_FFFF
_GRANULARITY: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment register with its hidden part: base, limit in bytes, and attributes.

     15  14  13  12  11   8  7   6 5   4   3     0
    +---+---+---+---+------+---+-----+---+--------+
    | G |D/B| L |AVL|  0   | P | DPL | S |  type  |   attributes, as in a VMCS
    +---+---+---+---+------+---+-----+---+--------+
    """

    selector: int
    base: int
    limit: int
    attributes: int


CODE32: Final = SegmentState(BOOT_CS, 0, _FLAT_LIMIT, 0xC09B)
CODE64: Final = SegmentState(BOOT_CS, 0, _FLAT_LIMIT, 0xA09B)
DATA: Final = SegmentState(BOOT_DS, 0, _FLAT_LIMIT, 0xC093)
BUSY_TSS: Final = SegmentState(BOOT_TR, 0, 0x67, 0x8B)
REAL_CODE: Final = SegmentState(0, 0, 0xFFFF, 0x9B)
REAL_DATA: Final = SegmentState(0, 0, 0xFFFF, 0x93)
REAL_TR: Final = SegmentState(0, 0, 0xFFFF, 0x8B)
REAL_LDTR: Final = SegmentState(0, 0, 0xFFFF, 0x82)


def descriptor(segment: SegmentState) -> bytes:
    """The eight-byte descriptor whose loading gives `segment`.

    limit 15:0 | base 23:0 | access byte | flags 3:0, limit 19:16 | base 31:24
    """
    limit = segment.limit >> 12 if segment.attributes & _GRANULARITY else segment.limit
    return struct.pack(
        "<HHBBBB",
        limit & 0xFFFF,
        segment.base & 0xFFFF,
        segment.base >> 16 & 0xFF,
        segment.attributes & 0xFF,
        (segment.attributes >> 8 & 0xF0) | (limit >> 16 & 0xF),
        segment.base >> 24 & 0xFF,
    )


def boot_gdt(code: SegmentState) -> bytes:
    """The GDT: two null descriptors, `code`, data, and the TSS with room for its upper half."""
    return bytes(16) + descriptor(code) + descriptor(DATA) + descriptor(BUSY_TSS) + bytes(8)
