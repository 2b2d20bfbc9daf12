"""PCI configuration mechanism #1 and the two functions that every machine has.

Sources: PCI Local Bus Specification 3.0, "Configuration Mechanism #1"; 82371SB (PIIX3) datasheet,
"PCI Configuration Registers" for the ISA bridge and its interrupt routing registers.

CF8h takes 32-bit accesses only; CFCh-CFFh reach the selected dword with any size. There is one bus, number
0; functions that do not exist read all ones. The address register is shared with port CF9h by access
size, so the port bus has to route byte accesses to CF9h to the reset control register; `ConfigAddress`
does.
"""

from collections.abc import Mapping
from typing import Final

from hv.device import Field, FieldDevice, Registers, State, Value, check_header, child, header
from hv.devices.pci.function import Identity, PciFunction
from hv.irq.pirq import INPUTS, PirqRouter

ENABLE: Final = 1 << 31
ADDRESS_WRITABLE: Final = 0x80FF_FFFC
# The host bridge of bhyve, which no driver has special treatment for; the PIIX3 ISA bridge.
HOST_BRIDGE: Final = Identity(0x1275, 0x1275, 0x060000)
ISA_BRIDGE: Final = Identity(0x8086, 0x7000, 0x060100, header_type=0x80)
ISA_BRIDGE_SLOT: Final = (1, 0)
PIRQ_FIRST: Final = 0x60
PIRQ_SECOND: Final = 0x68


class IsaBridge(PciFunction):
    """The ISA bridge; its bytes 60h-63h and 68h-6Bh are the interrupt router's registers."""

    kind = "isa-bridge"

    def __init__(self, router: PirqRouter) -> None:
        self._router = router
        super().__init__("isa", ISA_BRIDGE)
        for register in (PIRQ_FIRST, PIRQ_SECOND):
            self.allow(register, 4, 0x8F8F_8F8F)

    def reset(self) -> None:
        """Nothing routed."""
        super().reset()
        self._router.reset()
        self._show_routes()

    def restored(self) -> None:
        """The router restores itself; the bytes here only show it."""
        self._show_routes()

    def written(self, register: int, size: int) -> None:
        """Hand changed routing bytes to the router."""
        for at in range(register, register + size):
            pirq = _pirq_of(at)
            if pirq is not None and self.space[at] != self._router.routes[pirq]:
                self._router.set_route(pirq, self.space[at])

    def _show_routes(self) -> None:
        for pirq in range(INPUTS):
            base = PIRQ_FIRST + pirq if pirq < 4 else PIRQ_SECOND + pirq - 4
            self.space[base] = self._router.routes[pirq]


def _pirq_of(register: int) -> int | None:
    if PIRQ_FIRST <= register < PIRQ_FIRST + 4:
        return register - PIRQ_FIRST
    if PIRQ_SECOND <= register < PIRQ_SECOND + 4:
        return register - PIRQ_SECOND + 4
    return None


class PciHost:
    """Bus 0. `address` and `data` are the registers at CF8h and CFCh."""

    kind: Final = "pci-host"
    version: Final = 1

    def __init__(self, router: PirqRouter, reset_control: Registers) -> None:
        self._functions: dict[tuple[int, int], PciFunction] = {}
        self.router = router
        self.address = ConfigAddress(reset_control)
        self.data = ConfigData(self)
        self.add(0, 0, PciFunction("host", HOST_BRIDGE))
        self.add(*ISA_BRIDGE_SLOT, IsaBridge(router))

    def add(self, slot: int, number: int, function: PciFunction) -> None:
        """Put a function into a slot (0-31, function 0-7); ValueError if it is taken."""
        if not 0 <= slot < 32 or not 0 <= number < 8 or (slot, number) in self._functions:
            raise ValueError(f"PCI slot {slot}.{number} is not free")
        self._functions[slot, number] = function

    def function(self, slot: int, number: int) -> PciFunction | None:
        """The function in a slot, or None."""
        return self._functions.get((slot, number))

    def selected(self) -> PciFunction | None:
        """The function that the address register selects, or None."""
        address = self.address.value
        if not address & ENABLE or address >> 16 & 0xFF:
            return None
        return self._functions.get((address >> 11 & 31, address >> 8 & 7))

    def reset(self) -> None:
        """Every function and the address register."""
        self.address.reset()
        for function in self._functions.values():
            function.reset()

    def save(self) -> State:
        """Address register, router and functions by slot."""
        functions: dict[str, Value] = {
            f"{slot}.{number}": function.save()
            for (slot, number), function in sorted(self._functions.items())
        }
        return header(self) | {
            "address": self.address.save(),
            "router": self.router.save(),
            "functions": functions,
        }

    def load(self, state: Mapping[str, Value]) -> None:
        """Restore all; the functions must be the same."""
        check_header(self, state)
        functions = child(self.kind, state, "functions")
        self.address.load(child(self.kind, state, "address"))
        self.router.load(child(self.kind, state, "router"))
        for (slot, number), function in self._functions.items():
            function.load(child(self.kind, functions, f"{slot}.{number}"))


class ConfigAddress(FieldDevice):
    """Port CF8h, four bytes; byte accesses to CF9h go to the reset control register."""

    kind = "pci-config-address"
    version = 1
    fields = (Field("value", 32),)

    def __init__(self, reset_control: Registers) -> None:
        self._reset_control = reset_control
        self.value = 0

    def reset(self) -> None:
        """Nothing selected."""
        self.value = 0

    def read(self, offset: int, size: int) -> int:
        """The address register, all four bytes at once."""
        if size == 4:
            return self.value
        if offset == 1 and size == 1:
            return self._reset_control.read(0, 1)
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Select a function and dword, four bytes at once."""
        if size == 4:
            self.value = value & ADDRESS_WRITABLE
        elif offset == 1 and size == 1:
            self._reset_control.write(0, 1, value)


class ConfigData:
    """Ports CFCh-CFFh: a window on the selected dword."""

    def __init__(self, host: PciHost) -> None:
        self._host = host

    def read(self, offset: int, size: int) -> int:
        """Bytes of the selected dword; all ones when nothing is selected."""
        function = self._host.selected()
        if function is None:
            return (1 << 8 * size) - 1
        return function.config_read(self._host.address.value & 0xFC | offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write bytes of the selected dword."""
        function = self._host.selected()
        if function is not None:
            function.config_write(self._host.address.value & 0xFC | offset, size, value)
