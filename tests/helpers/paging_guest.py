"""Page tables for tests: built in a machine's memory, whose first vCPU then uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hv.exits import WriteOrigin
from hv.vm import Vm

P: Final = 1
W: Final = 2
U: Final = 4
A: Final = 1 << 5
D: Final = 1 << 6
PS: Final = 1 << 7
G: Final = 1 << 8
NX: Final = 1 << 63

PG_PE: Final = 0x8000_0011
PSE: Final = 0x10
PAE: Final = 0x20
PGE: Final = 0x80
LA57: Final = 0x1000
SCE_LME_NXE: Final = 0x900

MODES: Final = {
    # name: (shifts of the levels, entry size, CR4, EFER before CR0.PG)
    "32-bit": ((22, 12), 4, PSE | PGE, 0),
    "32-bit without PSE": ((22, 12), 4, 0, 0),
    "PAE": ((30, 21, 12), 8, PAE | PGE, 0x800),
    "PAE without NX": ((30, 21, 12), 8, PAE, 0),
    "4-level": ((39, 30, 21, 12), 8, PAE | PGE, SCE_LME_NXE),
    "5-level": ((48, 39, 30, 21, 12), 8, PAE | PGE | LA57, SCE_LME_NXE),
}


@dataclass(slots=True)
class Tables:
    """Tables under construction: `pages` is what memory will hold."""

    mode: str
    root: int = 0x10_0000
    next: int = 0x10_1000
    pages: dict[int, int] = field(default_factory=dict)
    """Address of an entry to its value."""

    @property
    def shifts(self) -> tuple[int, ...]:
        return MODES[self.mode][0]

    @property
    def entry_size(self) -> int:
        return MODES[self.mode][1]

    def map(self, linear: int, gpa: int, flags: int, shift: int = 12, *, tables: int = P | W | U) -> None:
        """Map one page of `1 << shift` bytes; `tables` are the flags of new entries above it. KeyError below
        a page or what is not present."""
        at = self.root
        bits = self.shifts[0] + {1024: 10, 512: 9, 4: 2}[self._count(0)]
        linear &= (1 << bits) - 1
        for depth, level in enumerate(self.shifts):
            entry = at + (linear >> level) % self._count(depth) * self.entry_size
            if level == shift:
                self.pages[entry] = gpa | flags | (PS if shift > 12 else 0)
                return
            if entry not in self.pages:
                rights = P if (self.mode.startswith("PAE") and depth == 0) else tables
                self.pages[entry] = self.next | rights
                self.next += 0x1000
            if self.pages[entry] & (P | PS) != P:
                raise KeyError(linear)
            at = self.pages[entry] & 0x000F_FFFF_FFFF_F000
        raise AssertionError(shift)

    def _count(self, depth: int) -> int:
        if self.entry_size == 4:
            return 1024
        return 4 if self.mode.startswith("PAE") and depth == 0 else 512

    def blobs(self) -> dict[int, bytes]:
        """Page of memory to its contents."""
        made: dict[int, bytearray] = {}
        for at, value in self.pages.items():
            page = made.setdefault(at & ~0xFFF, bytearray(4096))
            page[at & 0xFFF : (at & 0xFFF) + self.entry_size] = value.to_bytes(self.entry_size, "little")
        return {at: bytes(page) for at, page in made.items()}

    def registers(self) -> dict[str, int]:
        """In the order in which they are to be set."""
        _, _, cr4, efer = MODES[self.mode]
        return {"cr3": self.root, "cr4": cr4, "efer": efer, "cr0": PG_PE}

    def use(self, vm: Vm) -> None:
        """Put the tables into `vm`'s memory and let vCPU 0 use them."""
        for at, page in self.blobs().items():
            assert vm.memory.write(at, page, WriteOrigin.LOADER)
        for name, value in self.registers().items():
            vm.vcpus[0].set(name, value)
