"""The guest's RAM: where it lies, and its digest page by page.

Low RAM lies below 3 GiB, the rest from 4 GiB, as on bhyve. A page that holds only zeros counts as never
written, in digests and in saved states.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from hv.engines.base import Engine
from hv.errors import ConfigError, SnapshotError
from hv.exits import WriteOrigin
from hv.machines.layout import HIGHMEM_BASE, LOWMEM_LIMIT

PAGE_SIZE: Final = 4096
MIN_RAM: Final = 1 << 20
MAX_RAM: Final = 1 << 39
_MIB: Final = 1 << 20
_UNITS: Final = {"": _MIB, "K": 1 << 10, "M": _MIB, "G": 1 << 30, "T": 1 << 40}
_ZERO_PAGE: Final = bytes(PAGE_SIZE)


def parse_size(text: str) -> int:
    """A RAM size in bytes from "256M", "4G", "1024K" or a number of MiB. `ConfigError`."""
    match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise ConfigError(f"{text!r} is not a memory size; 256M and 4G are", "-m")
    return check_size(int(match[1]) * _UNITS[match[2].upper()])


def check_size(size: int) -> int:
    """`size` if a machine can have that much RAM, else `ConfigError`."""
    if not MIN_RAM <= size <= MAX_RAM:
        raise ConfigError(f"{size} bytes of memory are not between 1M and 512G", "-m")
    if size % PAGE_SIZE:
        raise ConfigError(f"{size} bytes of memory are not whole pages of 4K", "-m")
    return size


class GuestMemory:
    """The RAM of one machine, in the engine's memory slots."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.size = size
        self._engine = engine
        for gpa, length in self.ranges():
            engine.add_memory(gpa, length)
        self._devices: dict[str, int] = {}
        self._digests: dict[int, bytes] = {}
        self._hashed_epoch = 1

    def ranges(self) -> list[tuple[int, int]]:
        """Where it lies: `(gpa, size)`, ascending."""
        low = min(self.size, LOWMEM_LIMIT)
        high = [(HIGHMEM_BASE, self.size - low)] if self.size > low else []
        return [(0, low), *high]

    def read(self, gpa: int, size: int) -> bytes | None:
        """Physical memory; None if any byte is not RAM."""
        return self._engine.read_physical(gpa, size)

    def write(self, gpa: int, data: bytes, origin: WriteOrigin) -> bool:
        """Write physical memory, all or nothing; False if any byte is not RAM."""
        return self._engine.write_physical(gpa, data, origin)

    def write_by_device(self, device: str, gpa: int, data: bytes) -> bool:
        """Write as the device of that name does (DMA): watchpoints see it, and name the device."""
        return self._engine.write_by_device(
            gpa, data, self._devices.setdefault(device, len(self._devices) + 1)
        )

    def device_name(self, number: int) -> str:
        """The name behind a watch hit's device number."""
        return next((name for name, each in self._devices.items() if each == number), "a device")

    def clear(self) -> None:
        """Zero every page that was ever written."""
        for page in self._engine.pages_changed(1):
            if self._read_page(page) != _ZERO_PAGE:
                self._engine.write_physical(page * PAGE_SIZE, _ZERO_PAGE, WriteOrigin.LOADER)

    def digest(self) -> bytes:
        """A digest of all RAM; only pages changed since the last call are read."""
        changed = self._engine.pages_changed(self._hashed_epoch)
        self._hashed_epoch = self._engine.next_epoch()
        for page in changed:
            data = self._read_page(page)
            if data == _ZERO_PAGE:
                self._digests.pop(page, None)
            else:
                self._digests[page] = hashlib.blake2b(data, digest_size=16).digest()
        whole = hashlib.blake2b(digest_size=32)
        for page in sorted(self._digests):
            whole.update(page.to_bytes(8, "little") + self._digests[page])
        return whole.digest()

    def save(self) -> dict[int, bytes]:
        """Every page that is not all zeros, by guest page number, ascending."""
        self.digest()
        return {page: self._read_page(page) for page in sorted(self._digests)}

    def load(self, pages: Mapping[int, bytes]) -> None:
        """Make RAM hold exactly `pages`. `SnapshotError` when one does not fit; then nothing was changed."""
        self._check(pages.items())
        for page in self._engine.pages_changed(1):
            if page not in pages and self._read_page(page) != _ZERO_PAGE:
                self._engine.write_physical(page * PAGE_SIZE, _ZERO_PAGE, WriteOrigin.LOADER)
        for page, data in pages.items():
            self._engine.write_physical(page * PAGE_SIZE, data, WriteOrigin.LOADER)

    def _check(self, pages: Iterable[tuple[int, bytes]]) -> None:
        for page, data in pages:
            if len(data) != PAGE_SIZE or self._engine.read_physical(page * PAGE_SIZE, 1) is None:
                raise SnapshotError(f"page {page:#x} does not fit into this machine's RAM", "memory")

    def _read_page(self, page: int) -> bytes:
        data = self._engine.read_physical(page * PAGE_SIZE, PAGE_SIZE)
        return _ZERO_PAGE if data is None else data
