r"""Bytes on the wire and the units they are made of. Pure: no sockets, no meaning.

::

    $ payload # c c      a packet; cc is the sum of the raw payload bytes modulo 256, two hex digits
    % payload # c c      a notification (server to client only, never acknowledged)
    + -                  acknowledgement and request to send again, absent in no-ack mode
    \x03                 interrupt, outside packets only

    } x                  in a payload: the byte x XOR 0x20 (needed for # $ } and, in replies, *)
    x * n                in a reply: x again n - 29 times

Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Overview" and "Packet
Acknowledgment".
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from gdbstub.errors import ProtocolError

INTERRUPT_BYTE = 0x03
GREETING_BYTES = frozenset(b"+$\x03")
"""What a client may send before its first packet."""
MAX_GARBAGE = 4096
"""Bytes without a valid packet after which a connection is given up."""

_DOLLAR, _HASH, _PERCENT, _PLUS, _MINUS = b"$#%+-"
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_ESCAPES = ((b"}", b"}]"), (b"#", b"}\x03"), (b"$", b"}\x04"), (b"*", b"}\x0a"))
_ESCAPE = re.compile(rb"}(.)", re.DOTALL)
_RUN = re.compile(rb"([^#$}*])\1{3,97}", re.DOTALL)
_SUM_CHUNK = 256
_SUM_CHUNK_ASCII = 512


@dataclass(frozen=True, slots=True)
class Packet:
    """A complete packet; `payload` is unescaped."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """A complete notification; `payload` is unescaped."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """A plus sign."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A minus sign."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The byte 0x03 outside any packet."""


@dataclass(frozen=True, slots=True)
class BadPacket:
    """A packet whose checksum does not fit. Its contents are gone."""


Unit = Packet | Notification | Ack | Nack | Interrupt | BadPacket


def checksum(raw: bytes | bytearray | memoryview) -> int:
    """The sum of all bytes modulo 256."""
    # Adler-32's low half is 1 + the sum modulo 65521: exact for up to 256 bytes, 512 if below 128, and
    # computed in C.
    size = len(raw)
    if size <= _SUM_CHUNK:
        return (zlib.adler32(raw) - 1) & 0xFF
    step = _SUM_CHUNK_ASCII if isinstance(raw, bytes) and raw.isascii() else _SUM_CHUNK
    view, adler32 = memoryview(raw), zlib.adler32
    total = 0
    for start in range(0, size, step):
        total += adler32(view[start : start + step]) - 1  # the high half does not reach the low byte
    return total & 0xFF


def escape(payload: bytes) -> bytes:
    """`payload` with the bytes that have a meaning on the wire escaped."""
    # Four passes in C take a tenth of one with a pattern. The escape byte goes first.
    for special, escaped in _ESCAPES:
        payload = payload.replace(special, escaped)
    return payload


def escaped_size(payload: bytes) -> int:
    """The length of ``escape(payload)``."""
    return len(payload) + sum(payload.count(special) for special in b"#$}*")


def unescape(raw: bytes) -> bytes:
    """Undo `escape`. Raises ProtocolError when an escape is cut off."""
    if b"}" not in raw:
        return raw
    payload = _ESCAPE.sub(lambda match: bytes((match[1][0] ^ 0x20,)), raw)
    if raw.endswith(b"}") and (len(raw) - len(raw.rstrip(b"}"))) % 2:
        raise ProtocolError("a packet ends within an escape")
    return payload


def _shorten(match: re.Match[bytes]) -> bytes:
    extra = len(match[0]) - 1
    # A count may not look like '#' or '$'; '*', '+' and '-' confuse simple clients.
    while extra + 29 in b"#$*+-":
        extra -= 1
    rest = len(match[0]) - 1 - extra
    return match[1] + b"*" + bytes((extra + 29,)) + match[1] * rest


def compress(raw: bytes) -> bytes:
    """Run-length encode an escaped payload. Only for replies."""
    return _RUN.sub(_shorten, raw)


def expand(raw: bytes, limit: int) -> bytes:
    """Undo `compress`, giving the escaped payload.

    Raises ProtocolError beyond `limit` bytes and on a count that is missing or out of range.
    """
    expanded = bytearray()
    position = 0
    while (star := raw.find(b"*", position)) >= 0:
        expanded += raw[position:star]
        count = raw[star + 1] - 29 if star + 1 < len(raw) else 0
        if not expanded or not 3 <= count <= 97:
            raise ProtocolError("a run length without a byte to repeat, or out of range")
        expanded += expanded[-1:] * count
        position = star + 2
        if len(expanded) > limit:
            break
    expanded += raw[position:]
    if len(expanded) > limit:
        raise ProtocolError(f"a packet expands to more than {limit} bytes")
    return bytes(expanded)


def frame(payload: bytes, *, run_length: bool = False, start: bytes = b"$", plain: bool = False) -> bytes:
    """The bytes that carry `payload`. `plain` promises that nothing in it needs to be escaped."""
    raw = payload if plain else escape(payload)
    if run_length:
        raw = compress(raw)
    return b"%b%b#%02x" % (start, raw, checksum(raw))


class Decoder:
    """Cuts a byte stream into units.

    `max_raw` bounds one packet as it stands on the wire. `greeting` True (a server's side) refuses, until
    the first valid packet, every byte that a client of this protocol cannot begin with, and a stream of
    more than `MAX_GARBAGE` bytes without a valid packet, at any time. `replies` True (a client's side)
    expands run lengths. `verify` False accepts any two checksum digits, as no-ack mode allows.

    Raises ProtocolError from `next_unit`; the decoder is then of no more use.
    """

    def __init__(self, max_raw: int, *, greeting: bool = False, replies: bool = False) -> None:
        self.verify = True
        self._max_raw = max_raw
        self._greeting = greeting
        self._bounded = greeting
        self._replies = replies
        self._buffer = bytearray()
        self._start = 0
        self._searched = 0
        self._garbage = 0

    def receive_data(self, data: bytes | bytearray) -> None:
        """Add bytes. The caller takes all units out before it adds more than `max_raw` bytes again."""
        if self._start:
            del self._buffer[: self._start]
            self._searched = max(0, self._searched - self._start)
            self._start = 0
        self._buffer += data

    def receive_packet(self, data: bytes | bytearray) -> bytes | None:
        """Add bytes that may be one whole packet, the common case, and give its payload; or None.

        None means that nothing was taken: `receive_data` has to have the bytes.
        """
        if self._start < len(self._buffer) or self._greeting or self._replies or len(data) < 4:
            return None
        begin = 1 + (data[0] == _PLUS)
        end = len(data) - 3
        if data[begin - 1] != _DOLLAR or data.find(_HASH) != end or len(data) > self._max_raw:
            return None
        raw = bytes(data[begin:end])
        if b"}" in raw or (self.verify and b"%02x" % checksum(raw) != data[end + 1 :]):
            return None
        if not self.verify and not (data[end + 1] in _HEX_DIGITS and data[end + 2] in _HEX_DIGITS):
            return None
        self._garbage = 0
        return raw

    @property
    def buffered(self) -> int:
        """Bytes received and not yet taken."""
        return len(self._buffer) - self._start

    def next_unit(self) -> Unit | None:
        """The next unit, or None when more bytes are needed."""
        buffer = self._buffer
        while self._start < len(buffer):
            first = buffer[self._start]
            if first == _DOLLAR or (first == _PERCENT and self._replies):
                return self._packet(first)
            if self._greeting and first not in GREETING_BYTES:
                raise ProtocolError("not a client of the GDB remote protocol")
            self._start += 1
            self._count_garbage(1)
            if first == _PLUS:
                return Ack()
            if first == _MINUS:
                return Nack()
            if first == INTERRUPT_BYTE:
                return Interrupt()
        return None

    def _count_garbage(self, size: int) -> None:
        self._garbage += size
        if self._bounded and self._garbage > MAX_GARBAGE:
            raise ProtocolError(f"{MAX_GARBAGE} bytes without a valid packet")

    def _packet(self, first: int) -> Unit | None:
        buffer = self._buffer
        begin = self._start + 1
        limit = MAX_GARBAGE if self._greeting else self._max_raw
        end = buffer.find(_HASH, max(begin, self._searched), begin + limit + 1)
        if end < 0:
            if len(buffer) - begin > limit:
                raise ProtocolError(f"a packet of more than {limit} bytes")
            self._searched = len(buffer)
            return None
        if len(buffer) < end + 3:
            return None
        raw = bytes(memoryview(buffer)[begin:end])
        digits = buffer[end + 1 : end + 3]
        self._start = end + 3
        well_formed = digits[0] in _HEX_DIGITS and digits[1] in _HEX_DIGITS
        if not well_formed or (self.verify and int(digits, 16) != checksum(raw)):
            self._count_garbage(len(raw) + 4)
            return BadPacket()
        self._garbage = 0
        self._greeting = False
        if self._replies and b"*" in raw:
            raw = expand(raw, self._max_raw)
        payload = unescape(raw)
        return Notification(payload) if first == _PERCENT else Packet(payload)
