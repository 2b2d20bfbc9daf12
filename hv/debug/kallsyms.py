"""The symbol table that a Linux kernel carries in its own read-only data (kallsyms), found and decoded.

Pure: works on a copy of guest memory. What it reads was written by the guest, so every length is bounded,
work is limited, and anything that does not add up gives None.

The kernel's build writes these tables, each at a multiple of 8 bytes::

    offsets        u32 a symbol: where it is from relative_base on
    relative_base  u64, a kernel address; moved with the kernel by its address randomisation
    num_syms       u32
    names          a symbol: length (one byte, or two if bit 7 of the first is set: low seven bits first),
                   then that many token numbers
    markers        u32 for every 256th symbol: where its name begins in `names` (u64 before Linux 4.20)
    token_table    256 texts, each ended by a zero byte
    token_index    u16 a token: where its text begins in `token_table`

The first character of a name made of its tokens is the symbol's kind, as `nm` prints it. Linux 6.2 puts
another table between markers and token_table, Linux 6.5 moves offsets and relative_base behind
token_index; both orders are known here. Per-CPU symbols have absolute addresses, counted from the start of
a CPU's area: in a table that has them (before Linux 6.15) an offset is positive for an absolute address and
else ``relative_base - 1 - offset``; in one that has not it is an unsigned distance from relative_base.

Source: Linux, `scripts/kallsyms.c` (what is written) and `kernel/kallsyms.c` (how it is read).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv.debug.symbol import Symbol

TOKENS: Final = 256
WINDOW_BEFORE: Final = 14 << 20
"""Bytes before the token table that `decode` wants to see."""
WINDOW_AFTER: Final = 6 << 20
"""Bytes from the token table on that `decode` wants to see."""
SIGNATURE_SIZE: Final = 23
"""Bytes that `signatures` must see at once."""
_MIN_SYMBOLS: Final = 256
_MAX_SYMBOLS: Final = 1 << 20
_MAX_NAME: Final = 512  # KSYM_NAME_LEN
_PIECE: Final = 1 << 20
_MAX_WALKED: Final = 8 * _MAX_SYMBOLS  # names walked over in one `decode`
_KERNEL_START: Final = 0xFFFF_FFFF_8000_0000
_KERNEL_END: Final = 0xFFFF_FFFF_FF00_0000
_KINDS: Final = frozenset(b"abdgnrtuvwABDGNRTUVWi?-")
# A digit is a token of its own in every table, since digits occur in names; ':' and '/' do not.
_DIGITS: Final = b"\0" + b"".join(b"%d\0" % digit for digit in range(10))


@dataclass(frozen=True, slots=True)
class Kallsyms:
    """A kernel's symbols in the order of its table, and where it is: the address that most count from."""

    relative_base: int
    relative_base_at: int
    """Offset of the relative base in the memory given to `decode`."""
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True, slots=True)
class _Tokens:
    start: int
    texts: tuple[bytes, ...]
    end: int  # of token_index


@dataclass(frozen=True, slots=True)
class _Names:
    count: int
    count_at: int
    start: int


def signatures(data: bytes) -> Iterator[int]:
    """Offsets at which the middle of a token table may be, for `decode`."""
    at = data.find(_DIGITS)
    while at >= 0:
        if data[at + len(_DIGITS) : at + SIGNATURE_SIZE] != b":\0":
            yield at + 1
        at = data.find(_DIGITS, at + 1)


def decode(data: bytes, signature: int) -> Kallsyms | None:
    """The symbols of the tables around `signature`, an offset from `signatures`; None if there are none."""
    tokens = _tokens(data, signature)
    if tokens is None:
        return None
    names = _find_names(data, tokens)
    if names is None:
        return None
    for offsets_at in _offset_places(tokens, names):
        found = _addresses(data, offsets_at, names.count)
        if found is not None:
            base, base_at, addresses = found
            texts = list(_texts(data, tokens, names))
            if len(texts) != names.count:
                return None
            rows = zip(addresses, texts, strict=True)
            symbols = tuple([Symbol(address, text[0], text[1:]) for address, text in rows])
            return Kallsyms(base, base_at, symbols)
    return None


def has_tables(data: bytes, signature: int) -> bool:
    """Whether a token table with its index is at `signature`: cheap, and hardly ever wrong."""
    return _tokens(data, signature) is not None


def _aligned(offset: int) -> int:
    return -(-offset // 8) * 8


def _tokens(data: bytes, signature: int) -> _Tokens | None:
    """The token table whose token "0" is at `signature`."""
    second = signature  # where token 1 begins; what comes before token 0 need not end with a zero
    for _ in range(ord("0") - 1):
        second = data.rfind(b"\0", max(0, second - 1 - _MAX_NAME), second - 1) + 1
        if second <= 0:
            return None
    texts, places, at = [], [], second
    for _ in range(TOKENS - 1):
        end = data.find(b"\0", at, at + _MAX_NAME)
        if end < 0:
            return None
        places.append(at)
        texts.append(data[at:end])
        at = end + 1
    index_at = _aligned(at)
    if index_at + 2 * TOKENS > len(data):
        return None
    zero, *index = struct.unpack_from(f"<{TOKENS}H", data, index_at)
    start = second - index[0]
    if zero or start % 8 or start < 0 or index != [place - start for place in places]:
        return None
    return _Tokens(start, (data[start : second - 1], *texts), index_at + 2 * TOKENS)


# --- names ---------------------------------------------------------------------------------------------


def _find_names(data: bytes, tokens: _Tokens) -> _Names | None:
    """`names` lies before the token table, behind a count, and `markers` behind it agrees with it."""
    walked = 0
    for count_at, count in _counts(data, tokens.start):
        names = _Names(count, count_at, count_at + 8)
        if not _begins(data, tokens, names.start):
            continue
        places = _marked(data, names, tokens.start)
        walked += TOKENS if places is None else count
        if places is not None and _has_markers(data, places, tokens.start):
            return names
        if walked > _MAX_WALKED:
            break
    return None


def _counts(data: bytes, end: int) -> Iterator[tuple[int, int]]:
    """Aligned words before `end` that may count symbols, with their places; the nearest pieces first."""
    while end > 0:
        start = max(0, end - _PIECE)
        words = memoryview(data)[start:end].cast("Q")
        yield from [
            (start + 8 * number, word)
            for number, word in enumerate(words)
            if _MIN_SYMBOLS <= word <= _MAX_SYMBOLS
        ]
        end = start


def _begins(data: bytes, tokens: _Tokens, at: int) -> bool:
    """Whether a few plausible names are at `at`."""
    for _ in range(4):
        begin, size = _length(data, at)
        text = b"".join([tokens.texts[number] for number in data[begin : begin + min(size, 40)]])
        if size == 0 or len(text) < 2 or text[0] not in _KINDS or not text.isascii():
            return False
        at = begin + size
    return True


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the tokens of the name at `at` begin, and how many there are; 0 outside `data`."""
    if at + 1 >= len(data):
        return at, 0
    size = data[at]
    if size & 0x80:
        return at + 2, size & 0x7F | data[at + 1] << 7
    return at + 1, size


def _marked(data: bytes, names: _Names, limit: int) -> list[int] | None:
    """Where every 256th name begins, counted from the first, and last where the names end.

    None when they do not end before `limit` or a length is out of range.
    """
    places, at = [], names.start
    for number in range(names.count):
        if number % 256 == 0:
            places.append(at - names.start)
        size = data[at]
        if size & 0x80:
            at += 1
            size = size & 0x7F | data[at] << 7
        at += size + 1
        if size == 0 or size > _MAX_NAME or at >= limit:
            return None
    return [*places, at]


def _has_markers(data: bytes, places: list[int], limit: int) -> bool:
    *marked, end = places
    for size, letter in ((4, "I"), (8, "Q")):
        at = _aligned(end)
        if at + size * len(marked) <= limit:
            markers = struct.unpack_from(f"<{len(marked)}{letter}", data, at)
            if list(markers) == marked:
                return True
    return False


def _texts(data: bytes, tokens: _Tokens, names: _Names) -> Iterator[str]:
    """The names with their kinds in front; ends early at one that cannot be."""
    at, text_of = names.start, tokens.texts.__getitem__
    for _ in range(names.count):
        begin, size = _length(data, at)
        at = begin + size
        text = b"".join(map(text_of, data[begin:at]))
        if not 1 < len(text) <= _MAX_NAME or not text.isascii():
            return
        name = text.decode("ascii")
        if not name.isprintable():
            return
        yield name


# --- addresses -----------------------------------------------------------------------------------------


def _offset_places(tokens: _Tokens, names: _Names) -> Iterator[int]:
    """Where `offsets` may be: before the count, or (Linux 6.5) behind the token index."""
    yield names.count_at - 8 - _aligned(4 * names.count)
    yield _aligned(tokens.end)


def _addresses(data: bytes, at: int, count: int) -> tuple[int, int, list[int]] | None:
    """The relative base, where it is, and all addresses, for `offsets` at `at`; None if they are none."""
    base_at = at + _aligned(4 * count)
    if at < 0 or base_at + 8 > len(data):
        return None
    [base] = struct.unpack_from("<Q", data, base_at)
    if not _KERNEL_START <= base < _KERNEL_END:
        return None
    offsets = struct.unpack_from(f"<{count}i", data, at)
    if min(offsets) < 0:
        addresses = [offset if offset >= 0 else base - 1 - offset for offset in offsets]
    else:
        addresses = [base + offset for offset in offsets]
    if any(map(int.__gt__, addresses, addresses[1:])) or addresses[-1] >> 64:
        return None
    return base, base_at, addresses
