"""ACPI machine language, written by Python: one function per AML term, each returning its bytes.

Only the terms that `hv.firmware.dsdt` needs. A term's content is the concatenation of its children,
so a tree of calls reads like the ASL it stands for. Values that do not fit their field are caller
errors (`ValueError`): the tables are built from our own constants, never from guest or user input.

Source: ACPI 6.5, chapter 20 "ACPI Machine Language (AML) Specification" and, for the resource
descriptors, section 6.4 "Resource Data Types for ACPI".
"""

import re
import struct
from typing import Final

_NAME_SEG: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,3}")

# Opcodes, in the order of table "AML Byte Stream Byte Values".
_ZERO: Final = b"\x00"
_ONE: Final = b"\x01"
_NAME_OP: Final = b"\x08"
_BYTE_PREFIX: Final = b"\x0a"
_WORD_PREFIX: Final = b"\x0b"
_DWORD_PREFIX: Final = b"\x0c"
_STRING_PREFIX: Final = b"\x0d"
_QWORD_PREFIX: Final = b"\x0e"
_SCOPE_OP: Final = b"\x10"
_BUFFER_OP: Final = b"\x11"
_PACKAGE_OP: Final = b"\x12"
_DUAL_NAME_PREFIX: Final = b"\x2e"
_MULTI_NAME_PREFIX: Final = b"\x2f"
_DEVICE_OP: Final = b"\x5b\x82"


def integer(value: int) -> bytes:
    """ComputationalData: the shortest encoding of an unsigned integer of at most 64 bits."""
    if value in (0, 1):
        return _ONE if value else _ZERO
    for prefix, size in ((_BYTE_PREFIX, 1), (_WORD_PREFIX, 2), (_DWORD_PREFIX, 4), (_QWORD_PREFIX, 8)):
        if 0 <= value < 1 << (8 * size):
            return prefix + value.to_bytes(size, "little")
    raise ValueError(f"{value} does not fit an AML integer")


def string(text: str) -> bytes:
    """A zero-terminated ASCII string object."""
    return _STRING_PREFIX + text.encode("ascii") + b"\x00"


def name_string(path: str) -> bytes:
    """NameString, as in ASL: `\\_SB.PCI0`, `_CRS`; segments shorter than four get underscores."""
    root, _, rest = path.rpartition("\\")
    prefix = b"\\" if "\\" in path else b""
    if root or any(not _NAME_SEG.fullmatch(seg) for seg in rest.split(".")):
        raise ValueError(f"{path!r} is not an AML name")
    segments = [seg.ljust(4, "_").encode("ascii") for seg in rest.split(".")]
    if len(segments) == 1:
        return prefix + segments[0]
    if len(segments) == 2:
        return prefix + _DUAL_NAME_PREFIX + b"".join(segments)
    return prefix + _MULTI_NAME_PREFIX + bytes([len(segments)]) + b"".join(segments)


def pkg_length(content_size: int) -> bytes:
    """PkgLength of `content_size` bytes; it counts its own one to four bytes.

     7   6  5   4  3            0
    +-----+------+--------------+
    |count| 0  0 | low 4 bits   |  then `count` bytes of 8 further bits each
    +-----+------+--------------+  (count 0: the low six bits are the length)
    """
    if content_size + 1 < 0x40:
        return bytes([content_size + 1])
    for extra in (1, 2, 3):
        length = content_size + 1 + extra
        if length < 1 << (4 + 8 * extra):
            return bytes([extra << 6 | length & 0xF]) + (length >> 4).to_bytes(extra, "little")
    raise ValueError(f"an AML package of {content_size} bytes is too long")


def _sized(opcode: bytes, content: bytes) -> bytes:
    return opcode + pkg_length(len(content)) + content


def scope(path: str, *terms: bytes) -> bytes:
    """`Scope (path) { terms }`."""
    return _sized(_SCOPE_OP, name_string(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """`Device (path) { terms }`."""
    return _sized(_DEVICE_OP, name_string(path) + b"".join(terms))


def name(path: str, value: bytes) -> bytes:
    """`Name (path, value)`."""
    return _NAME_OP + name_string(path) + value


def package(*elements: bytes) -> bytes:
    """`Package () { elements }`, at most 255 of them."""
    return _sized(_PACKAGE_OP, bytes([len(elements)]) + b"".join(elements))


def buffer(content: bytes) -> bytes:
    """`Buffer () { content }`."""
    return _sized(_BUFFER_OP, integer(len(content)) + content)


def eisa_id(text: str) -> bytes:
    """`EisaId ("PNP0A03")`: three letters of five bits and four hexadecimal digits, big-endian."""
    if not re.fullmatch(r"[A-Z]{3}[0-9A-F]{4}", text):
        raise ValueError(f"{text!r} is not an EISA id")
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | (ord(letter) - 0x40)
    return integer(int.from_bytes(struct.pack(">HH", letters, int(text[3:], 16)), "little"))


# --- Resource descriptors ---------------------------------------------------------------------------
# Address space descriptors: resource type, then general flags, then type-specific flags.
_RANGE_MEMORY: Final = 0
_RANGE_IO: Final = 1
_RANGE_BUS: Final = 2
_FIXED_PRODUCER: Final = 0x0C  # ResourceProducer, MinFixed, MaxFixed, PosDecode
_ENTIRE_IO_RANGE: Final = 0x03  # EntireRange: ISA and non-ISA ports
_MEMORY_READ_WRITE: Final = 0x01  # NonCacheable, ReadWrite
_END_TAG: Final = b"\x79\x00"  # checksum 0: not verified


def resource_template(*descriptors: bytes) -> bytes:
    """`ResourceTemplate () { descriptors }`."""
    return buffer(b"".join(descriptors) + _END_TAG)


def io(port: int, size: int) -> bytes:
    """`IO (Decode16, port, port, 1, size)`: fixed I/O ports `[port, port+size)`."""
    return struct.pack("<BBHHBB", 0x47, 0x01, port, port, 1, size)


def irq_no_flags(irq: int) -> bytes:
    """`IRQNoFlags () {irq}`: one edge-triggered, active-high, exclusive ISA interrupt."""
    return struct.pack("<BH", 0x22, 1 << irq)


def memory32_fixed(base: int, size: int) -> bytes:
    """`Memory32Fixed (ReadWrite, base, size)`."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def word_bus_number(first: int, last: int) -> bytes:
    """`WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, …)`: PCI buses first..last."""
    return _address_space(0x88, "H", _RANGE_BUS, 0, first, last)


def word_io(first: int, last: int) -> bytes:
    """`WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, …)`: ports first..last."""
    return _address_space(0x88, "H", _RANGE_IO, _ENTIRE_IO_RANGE, first, last)


def dword_memory(first: int, last: int) -> bytes:
    """`DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, …)`."""
    return _address_space(0x87, "I", _RANGE_MEMORY, _MEMORY_READ_WRITE, first, last)


def _address_space(tag: int, field: str, kind: int, flags: int, first: int, last: int) -> bytes:
    body = struct.pack(f"<BBB5{field}", kind, _FIXED_PRODUCER, flags, 0, first, last, 0, last - first + 1)
    return struct.pack("<BH", tag, len(body)) + body
