"""A PCI function: 256 bytes of configuration space with a write mask.

Source: PCI Local Bus Specification 3.0, "Configuration Space Organization". Registers are little-endian; an
access never crosses a dword. Functions without base address registers need nothing more; others override
`written` to follow a change.
"""

from dataclasses import dataclass
from typing import Final

from hv.device import Field, FieldDevice

CONFIG_SIZE: Final = 256
VENDOR_ID: Final = 0x00
COMMAND: Final = 0x04
REVISION_AND_CLASS: Final = 0x08
HEADER_TYPE: Final = 0x0E
SUBSYSTEM: Final = 0x2C
INTERRUPT_LINE: Final = 0x3C
COMMAND_WRITABLE: Final = 0x0547  # I/O, memory, bus master, parity, SERR, INTx disable


@dataclass(frozen=True, slots=True)
class Identity:
    """What a function says it is. `class_code` has 24 bits: base class, subclass, interface."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    header_type: int = 0


class PciFunction(FieldDevice):
    """One function; `name` is for people."""

    kind = "pci-function"
    version = 1
    fields = (Field("space", 8, count=CONFIG_SIZE),)

    def __init__(self, name: str, identity: Identity) -> None:
        self.name = name
        self.identity = identity
        self.space = bytearray(CONFIG_SIZE)
        self.writable = bytearray(CONFIG_SIZE)
        self.allow(COMMAND, 2, COMMAND_WRITABLE)
        self.allow(INTERRUPT_LINE, 1, 0xFF)
        self.reset()

    def reset(self) -> None:
        """Identity and zeros."""
        self.space[:] = bytes(CONFIG_SIZE)
        self.put(VENDOR_ID, 4, self.identity.device << 16 | self.identity.vendor)
        self.put(REVISION_AND_CLASS, 4, self.identity.class_code << 8 | self.identity.revision)
        self.put(HEADER_TYPE, 1, self.identity.header_type)

    def allow(self, register: int, size: int, mask: int) -> None:
        """Make the bits of `mask` in a register writable for the guest."""
        self.writable[register : register + size] = mask.to_bytes(size, "little")

    def put(self, register: int, size: int, value: int) -> None:
        """Set a register from inside, whatever is writable."""
        self.space[register : register + size] = value.to_bytes(size, "little")

    def get(self, register: int, size: int) -> int:
        """A register's value."""
        return int.from_bytes(self.space[register : register + size], "little")

    def config_read(self, register: int, size: int) -> int:
        """The guest reads `size` bytes at `register`."""
        return self.get(register, size)

    def config_write(self, register: int, size: int, value: int) -> None:
        """The guest writes; read-only bits keep their value."""
        mask = int.from_bytes(self.writable[register : register + size], "little")
        self.put(register, size, self.get(register, size) & ~mask | value & mask)
        self.written(register, size)

    def written(self, register: int, size: int) -> None:
        """Follow a guest's write; for functions whose registers do something."""
