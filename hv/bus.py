"""The I/O port bus and the memory-mapped device bus.

Both map an access to the register file (`hv.device.Registers`) that owns the address, and answer
for addresses nobody owns: reads give all ones, writes are dropped, both are counted and, when
`on_unowned` is set, reported. An access wider than its owner's registers, or one that leaves the
owner's range, is split into naturally ascending pieces, as the ISA bus does with 16-bit and 32-bit
cycles to an 8-bit card. RAM is not here.

`value` arguments must fit into `size` bytes; results do.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hv.device import Registers

PORTS: Final = 0x1_0000
LOCAL_WINDOW_SIZE: Final = 0x1000  # a local APIC's register page

ReadFn: TypeAlias = Callable[[int, int], int]
WriteFn: TypeAlias = Callable[[int, int, int], None]
_ONES: Final = tuple((1 << 8 * size) - 1 for size in range(9))


@dataclass(frozen=True, slots=True)
class UnownedAccess:
    """An access that no device claimed. `space` is "port" or "mmio"; `value` is None for a read."""

    space: str
    address: int
    size: int
    value: int | None


class Range:
    """`[start, end)` of a bus and its owner; made by `add`, given back to `remove`."""

    __slots__ = ("end", "name", "read", "start", "width", "write")

    def __init__(self, start: int, size: int, registers: Registers, width: int, name: str) -> None:
        self.start = start
        self.end = start + size
        self.width = width
        self.name = name
        self.read: ReadFn = registers.read
        self.write: WriteFn = registers.write


class PortBus:
    """65536 ports, accesses of 1, 2 or 4 bytes. An access past port FFFF is unowned there."""

    __slots__ = ("_map", "on_unowned", "unowned_reads", "unowned_writes")

    def __init__(self) -> None:
        self._map: list[Range | None] = [None] * (PORTS + 4)
        self.on_unowned: Callable[[UnownedAccess], None] | None = None
        self.unowned_reads = 0
        self.unowned_writes = 0

    def add(self, start: int, size: int, registers: Registers, *, width: int = 1, name: str = "") -> Range:
        """Give ports `[start, start+size)` to `registers`, whose widest register is `width` bytes.

        ValueError if the range is not inside the port space or a port is taken.
        """
        if size <= 0 or start < 0 or start + size > PORTS or width not in (1, 2, 4):
            raise ValueError(f"no port range {start:#x}+{size:#x} of width {width}")
        for port in range(start, start + size):
            taken = self._map[port]
            if taken is not None:
                raise ValueError(f"port {port:#x} already belongs to {taken.name or 'another device'}")
        owner = Range(start, size, registers, width, name)
        self._map[start : start + size] = [owner] * size
        return owner

    def remove(self, owner: Range) -> None:
        """Take a range off the bus again (a PCI function's BAR was moved)."""
        self._map[owner.start : owner.end] = [None] * (owner.end - owner.start)

    def owner(self, port: int) -> str | None:
        """The name of the device at `port`, or None."""
        found = self._map[port]
        return None if found is None else found.name

    def ranges(self) -> list[Range]:
        """Every device's range, ascending."""
        owners = {id(owner): owner for owner in self._map if owner is not None}
        return sorted(owners.values(), key=lambda owner: owner.start)

    def read(self, port: int, size: int) -> int:
        """Read `size` (1, 2, 4) bytes at `port`."""
        owner = self._map[port]
        if owner is None:
            if size > 1 and any(self._map[port : port + size]):
                return self._read_split(port, size, 1)
            return self._read_unowned(port, size)
        if size <= owner.width and port + size <= owner.end:
            return owner.read(port - owner.start, size)
        return self._read_split(port, size, 1 if size <= owner.width else owner.width)

    def write(self, port: int, size: int, value: int) -> None:
        """Write `size` (1, 2, 4) bytes at `port`."""
        owner = self._map[port]
        if owner is None:
            if size > 1 and any(self._map[port : port + size]):
                self._write_split(port, size, value, 1)
            else:
                self._write_unowned(port, size, value)
        elif size <= owner.width and port + size <= owner.end:
            owner.write(port - owner.start, size, value)
        else:
            self._write_split(port, size, value, 1 if size <= owner.width else owner.width)

    def _read_split(self, port: int, size: int, piece: int) -> int:
        value = 0
        for index in range(0, size, piece):
            value |= self.read(port + index, piece) << (8 * index)
        return value

    def _write_split(self, port: int, size: int, value: int, piece: int) -> None:
        for index in range(0, size, piece):
            self.write(port + index, piece, value >> (8 * index) & _ONES[piece])

    def _read_unowned(self, port: int, size: int) -> int:
        self.unowned_reads += 1
        if self.on_unowned is not None:
            self.on_unowned(UnownedAccess("port", port, size, None))
        return _ONES[size]

    def _write_unowned(self, port: int, size: int, value: int) -> None:
        self.unowned_writes += 1
        if self.on_unowned is not None:
            self.on_unowned(UnownedAccess("port", port, size, value))


class MmioBus:
    """Guest-physical device ranges, accesses of 1 to 8 bytes.

    Besides the shared ranges each vCPU may have one page that only it sees, its local APIC's:
    `set_local` places, moves and removes it; it takes precedence over shared ranges.
    """

    __slots__ = ("_local", "_ranges", "_starts", "on_unowned", "unowned_reads", "unowned_writes")

    def __init__(self, vcpus: int) -> None:
        self._starts: list[int] = []
        self._ranges: list[Range] = []
        self._local: list[Range | None] = [None] * vcpus
        self.on_unowned: Callable[[UnownedAccess], None] | None = None
        self.unowned_reads = 0
        self.unowned_writes = 0

    def add(self, start: int, size: int, registers: Registers, *, width: int = 4, name: str = "") -> Range:
        """Give `[start, start+size)` to `registers`, whose widest register is `width` bytes.

        ValueError if the range is empty, beyond 52 address bits, or overlaps another one.
        """
        if size <= 0 or start < 0 or start + size > 1 << 52 or width not in (1, 2, 4, 8):
            raise ValueError(f"no memory range {start:#x}+{size:#x} of width {width}")
        at = bisect_right(self._starts, start)
        before = self._ranges[at - 1] if at else None
        after = self._ranges[at] if at < len(self._ranges) else None
        if (before is not None and before.end > start) or (after is not None and after.start < start + size):
            raise ValueError(f"memory range {start:#x}+{size:#x} overlaps another device's")
        owner = Range(start, size, registers, width, name)
        self._starts.insert(at, start)
        self._ranges.insert(at, owner)
        return owner

    def remove(self, owner: Range) -> None:
        """Take a range off the bus again (a PCI function's BAR was moved)."""
        at = self._ranges.index(owner)
        del self._ranges[at]
        del self._starts[at]

    def set_local(self, vcpu: int, base: int | None, registers: Registers) -> None:
        """Show `registers` to `vcpu` alone at the 4 KiB page `base`; None hides them."""
        name = f"lapic.{vcpu}"
        self._local[vcpu] = None if base is None else Range(base, LOCAL_WINDOW_SIZE, registers, 4, name)

    def ranges(self, vcpu: int) -> list[Range]:
        """Every range that `vcpu` sees, ascending; its own may lie over a shared one."""
        local = self._local[vcpu]
        own = [] if local is None else [local]
        return sorted([*self._ranges, *own], key=lambda owner: owner.start)

    def find(self, gpa: int, vcpu: int) -> Range | None:
        """The range that answers `vcpu` at `gpa`, or None."""
        local = self._local[vcpu]
        if local is not None and local.start <= gpa < local.end:
            return local
        at = bisect_right(self._starts, gpa)
        if at:
            owner = self._ranges[at - 1]
            if gpa < owner.end:
                return owner
        return None

    def read(self, gpa: int, size: int, vcpu: int) -> int:
        """Read `size` (1 to 8) bytes at `gpa` on behalf of `vcpu`."""
        owner = self.find(gpa, vcpu)
        if owner is None:
            self.unowned_reads += 1
            if self.on_unowned is not None:
                self.on_unowned(UnownedAccess("mmio", gpa, size, None))
            return _ONES[size]
        if size <= owner.width and gpa + size <= owner.end:
            return owner.read(gpa - owner.start, size)
        value = 0
        done = 0
        while done < size:
            piece = _piece(owner, gpa + done, size - done)
            value |= self.read(gpa + done, piece, vcpu) << (8 * done)
            done += piece
        return value

    def write(self, gpa: int, size: int, value: int, vcpu: int) -> None:
        """Write `size` (1 to 8) bytes at `gpa` on behalf of `vcpu`."""
        owner = self.find(gpa, vcpu)
        if owner is None:
            self.unowned_writes += 1
            if self.on_unowned is not None:
                self.on_unowned(UnownedAccess("mmio", gpa, size, value))
        elif size <= owner.width and gpa + size <= owner.end:
            owner.write(gpa - owner.start, size, value)
        else:
            done = 0
            while done < size:
                piece = _piece(owner, gpa + done, size - done)
                self.write(gpa + done, piece, value >> (8 * done) & _ONES[piece], vcpu)
                done += piece


def _piece(owner: Range, address: int, left: int) -> int:
    """Size of the next part of a split access: no wider than the registers, within the range while in it."""
    if address >= owner.end:
        return 1
    piece = owner.width
    while piece > left or address + piece > owner.end:
        piece >>= 1
    return piece
