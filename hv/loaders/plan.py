"""Where things go in the guest's RAM before it starts.

The image claims the ranges that it must have, the loader asks for free places for the rest. All
checks of addresses from a file are here: inside RAM, no overlap, no wrap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv.errors import ImageError
from hv.firmware.e820 import E820Type, memory_map

FOUR_GIB: Final = 1 << 32
ONE_MIB: Final = 0x10_0000
_VECTORS_AND_BDA: Final = 0x500
_LOW_FLOOR: Final = 0x1000
# Linux's boot protocol advises against memory above 9A000h; its 5-level paging trampoline goes there.
_LOW_LIMIT: Final = 0x9_8000


@dataclass(frozen=True, slots=True)
class _Claim:
    start: int
    end: int
    what: str


class MemoryPlan:
    """The RAM of a machine with `ram_size` bytes, and what is taken of it.

    `path` names the image in errors. Every method that cannot do what it is asked raises
    `ImageError`; nothing is ever placed over something else.
    """

    def __init__(self, path: str, ram_size: int) -> None:
        self._path = path
        self._ram_size = ram_size
        self._ram = [(e.base, e.end) for e in memory_map(ram_size) if e.type is E820Type.RAM]
        self._claims = [_Claim(0, _VECTORS_AND_BDA, "the interrupt vectors and BIOS data")]

    def fits(self, gpa: int, size: int) -> bool:
        """Whether `[gpa, gpa+size)` is RAM that nobody has claimed."""
        return self._is_ram(gpa, gpa + size) and self._taken_by(gpa, gpa + size) is None

    def claim(self, gpa: int, size: int, what: str) -> None:
        """Take exactly `[gpa, gpa+size)` for `what`; a size of zero takes nothing."""
        if size == 0:
            return
        end = gpa + size
        where = f"{what} ({gpa:#x} to {end - 1:#x})"
        if not self._is_ram(gpa, end):
            raise ImageError(
                self._path,
                f"{where} does not lie in the guest's RAM",
                f"the guest has {self._ram_size >> 20} MiB; -m changes that",
            )
        other = self._taken_by(gpa, end)
        if other is not None:
            raise ImageError(self._path, f"{where} overlaps {other.what}")
        self._claims.append(_Claim(gpa, end, what))

    def place_low(self, size: int, what: str, align: int = 16) -> int:
        """Take the lowest free place for a boot structure: below 640 KiB, else anywhere to 4 GiB."""
        gpa = self._lowest(size, align, _LOW_FLOOR, _LOW_LIMIT)
        if gpa is None:
            gpa = self._lowest(size, align, ONE_MIB, FOUR_GIB)
        return self._take(gpa, size, what)

    def place_above(self, floor: int, size: int, what: str, align: int = 0x1000) -> int:
        """Take the lowest free place from `floor` (at least 1 MiB) to 4 GiB."""
        return self._take(self._lowest(size, align, max(floor, ONE_MIB), FOUR_GIB), size, what)

    def place_high(self, limit: int, size: int, what: str, align: int = 0x1000) -> int:
        """Take the highest free place between 1 MiB and `limit` (exclusive, at most 4 GiB)."""
        limit = min(limit, FOUR_GIB)
        fitting = [
            (end - size) // align * align
            for start, end in self._gaps(ONE_MIB, limit)
            if (end - size) // align * align >= start
        ]
        return self._take(fitting[-1] if fitting else None, size, what)

    def _take(self, gpa: int | None, size: int, what: str) -> int:
        if gpa is None:
            raise ImageError(
                self._path,
                f"no room for {what} ({size} bytes) in the guest's {self._ram_size >> 20} MiB of RAM",
                "-m gives it more",
            )
        self.claim(gpa, size, what)
        return gpa

    def _lowest(self, size: int, align: int, floor: int, limit: int) -> int | None:
        for start, end in self._gaps(floor, limit):
            aligned = -(-start // align) * align
            if aligned + size <= end:
                return aligned
        return None

    def _gaps(self, floor: int, limit: int) -> Iterator[tuple[int, int]]:
        """Free ranges inside `[floor, limit)`, in ascending order."""
        claims = sorted(self._claims, key=lambda claim: claim.start)
        for ram_start, ram_end in self._ram:
            start, stop = max(ram_start, floor), min(ram_end, limit)
            for claim in claims:
                if claim.end <= start or claim.start >= stop:
                    continue
                if claim.start > start:
                    yield start, claim.start
                start = claim.end
            if start < stop:
                yield start, stop

    def _is_ram(self, start: int, end: int) -> bool:
        return any(base <= start and end <= limit for base, limit in self._ram)

    def _taken_by(self, start: int, end: int) -> _Claim | None:
        for claim in self._claims:
            if claim.start < end and start < claim.end:
                return claim
        return None
