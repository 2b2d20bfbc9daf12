"""A machine's saved state as a file: one self-describing, versioned container.

    "hvsnap01"                       eight bytes
    zstd frame of CBOR items:        {"kind": "vm", ...}   the state without memory
                                     [gpn, page] ...       4 KiB each, ascending, zero pages left out
                                     "end"

A file is written beside its place and renamed, so that there is never half a snapshot. Reading bounds
every size before it allocates.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Final

import cbor2
import zstandard

from hv.errors import SnapshotError
from hv.memory import MAX_RAM, PAGE_SIZE
from hv.vm import SavedVm

MAGIC: Final = b"hvsnap01"
_END: Final = "end"
_MAX_PAGES: Final = MAX_RAM // PAGE_SIZE


def write_snapshot(path: str, saved: SavedVm) -> None:
    """Write `saved` to `path`, replacing a file there. `SnapshotError` when it cannot be written."""
    partial = f"{path}.part"
    try:
        with open(partial, "wb") as file:
            file.write(MAGIC)
            with zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as stream:
                stream.write(cbor2.dumps(saved.state))
                for gpn in sorted(saved.pages):
                    stream.write(cbor2.dumps([gpn, saved.pages[gpn]]))
                stream.write(cbor2.dumps(_END))
        os.replace(partial, path)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_snapshot(path: str) -> SavedVm:
    """Read a snapshot. `SnapshotError`, one line, for anything that is not a whole one."""
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise SnapshotError(f"{path} is not a snapshot")
            return _read_items(path, file)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _read_items(path: str, file: BinaryIO) -> SavedVm:
    broken = SnapshotError(f"{path} is damaged or cut off")
    pages: dict[int, bytes] = {}
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file) as stream:
            decoder = cbor2.CBORDecoder(stream)
            state: Any = decoder.decode()
            while (item := decoder.decode()) != _END:
                gpn, page = item
                if not isinstance(gpn, int) or not isinstance(page, bytes) or len(page) != PAGE_SIZE:
                    raise broken
                pages[gpn] = page
                if len(pages) > _MAX_PAGES:
                    raise broken
    except (cbor2.CBORDecodeError, zstandard.ZstdError, TypeError, ValueError, MemoryError, RecursionError):
        raise broken from None
    if not isinstance(state, dict):
        raise broken
    return SavedVm(state, pages)
