"""Memory with a Linux kernel's symbol table in it, laid out as the kernel's build does in several releases.

Retyped from Linux, scripts/kallsyms.c; the tokens are made up, as any table of 256 texts will do.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

BASE = 0xFFFF_FFFF_8A40_0000
_WORDS = ("tion", "init", "__x64_sys_", "spin_lock", "ing", "er", "_of", "cpu")


class Layout(enum.Enum):
    """How the tables are laid out; the value is the first release that does so."""

    V4_6 = "4.6"
    V4_20 = "4.20"
    V6_2 = "6.2"
    V6_5 = "6.5"


@dataclass(frozen=True)
class Image:
    """Memory and where things are in it."""

    data: bytes
    token_table: int
    relative_base: int


def tokens() -> list[bytes]:
    """Letters, digits and a few others stand for themselves; the rest are longer texts, or nothing."""
    table = [b""] * 256
    for character in b"abcdefghijklmnopqrstuvwxyzABDTRVW0123456789_.$":
        table[character] = bytes([character])
    for number, word in zip(range(0x80, 0x80 + len(_WORDS)), _WORDS, strict=True):
        table[number] = word.encode()
    return table


def compressed(text: str, table: Sequence[bytes]) -> bytes:
    """`text` as token numbers, the longest first."""
    data, numbers = text.encode(), bytearray()
    numbered = sorted(enumerate(table), key=lambda pair: -len(pair[1]))
    while data:
        number, token = next((n, t) for n, t in numbered if t and data.startswith(t))
        numbers.append(number)
        data = data[len(token) :]
    return bytes(numbers)


def _pad(data: bytearray) -> None:
    data += bytes(-len(data) % 8)


def build(
    symbols: Sequence[tuple[int, str, str]],
    layout: Layout,
    *,
    base: int = BASE,
    per_cpu: bool = True,
    before: bytes = b"",
    after: bytes = b"",
) -> Image:
    """The table of `symbols` (address, kind, name), ascending, between `before` and `after`.

    With `per_cpu`, addresses below `base` are absolute ones.
    """
    table = tokens()
    offsets = b"".join(
        struct.pack("<i", (address if address < base else base - 1 - address))
        if per_cpu
        else struct.pack("<I", address - base)
        for address, _, _ in symbols
    )
    names, marks = bytearray(), []
    for number, (_, kind, name) in enumerate(symbols):
        if number % 256 == 0:
            marks.append(len(names))
        packed = compressed(kind + name, table)
        size = len(packed)
        names += bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
        names += packed
    letter = "Q" if layout is Layout.V4_6 else "I"
    markers = struct.pack(f"<{len(marks)}{letter}", *marks)
    index, texts = [], bytearray()
    for token in table:
        index.append(len(texts))
        texts += token + b"\0"
    sequence = b"".join(number.to_bytes(3, "big") for number in range(len(symbols)))
    parts: dict[str, bytes] = {
        "offsets": offsets,
        "relative_base": struct.pack("<Q", base),
        "num_syms": struct.pack("<I", len(symbols)),
        "names": bytes(names),
        "markers": markers,
        "seqs": sequence,
        "token_table": bytes(texts),
        "token_index": struct.pack("<256H", *index),
    }
    order = {
        Layout.V4_6: "offsets relative_base num_syms names markers token_table token_index",
        Layout.V4_20: "offsets relative_base num_syms names markers token_table token_index",
        Layout.V6_2: "offsets relative_base num_syms names markers seqs token_table token_index",
        Layout.V6_5: "num_syms names markers token_table token_index offsets relative_base seqs",
    }[layout]
    data, places = bytearray(before), {}
    _pad(data)
    for part in order.split():
        places[part] = len(data)
        data += parts[part]
        _pad(data)
    data += after
    return Image(bytes(data), places["token_table"], places["relative_base"])
