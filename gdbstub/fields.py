"""The fields that packets are made of: numbers, bytes, thread ids. Pure. All raise RequestError."""

from __future__ import annotations

import re

from gdbstub.errors import RequestError

ALL_THREADS = -1
ANY_THREAD = 0
TOP = 1 << 64
_HEX = re.compile(rb"[0-9a-fA-F]{1,32}")


def number(text: bytes, *, below: int = TOP) -> int:
    """A hex number ``0 <= n < below``."""
    if _HEX.fullmatch(text) is None or (value := int(text, 16)) >= below:
        raise RequestError(f"not a hex number below {below:#x}: {shown(text)}")
    return value


def hex_bytes(text: bytes) -> bytes:
    """The bytes that pairs of hex digits stand for."""
    try:
        # fromhex() would also take blanks between the pairs.
        if len(text) % 2 == 0 and (not text or text.isalnum()):
            return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    raise RequestError("not pairs of hex digits")


def thread_id(text: bytes) -> int:
    """A thread id, -1 for all, 0 for any. The multiprocess form is read with the one process 1."""
    if text.startswith(b"p"):
        process, dot, text = text[1:].partition(b".")
        if process not in (b"-1", b"0") and number(process, below=1 << 31) != 1:
            raise RequestError("there is one process, 1")
        if not dot:
            return ALL_THREADS
    return ALL_THREADS if text == b"-1" else number(text, below=1 << 31)


def shown(text: bytes) -> str:
    """`text` for a message, shortened."""
    return ascii(text[:40].decode("latin-1"))


def split(text: bytes, separator: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the first `separator`, which has to be there."""
    left, found, right = text.partition(separator)
    if not found:
        raise RequestError(f"{separator.decode()} missing in {shown(text)}")
    return left, right


def address_length(text: bytes) -> tuple[int, int]:
    """``address,length``."""
    address, length = split(text, b",")
    return number(address), number(length)
