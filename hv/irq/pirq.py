"""The PCI interrupt router: eight PIRQ inputs, each steered to an ISA interrupt or to none.

Source: 82371SB (PIIX3) datasheet, "PIRQRC[A:D] PIRQx Route Control Registers" (PCI configuration
60h-63h), extended to eight inputs with 68h-6Bh as ICH bridges do. Bit 7 disables, the low nibble is
the IRQ; 3-7, 9-12, 14 and 15 are permitted, others route nowhere.

It serves guests that use the 8259 pair; the I/O APIC has its own pins for the same interrupts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hv.device import Field, FieldDevice
from hv.irq.line import Line, LineDriver

INPUTS: Final = 8
ROUTE_WRITABLE: Final = 0x8F
ROUTE_OFF: Final = 0x80
PERMITTED: Final = frozenset((3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15))


class PirqRouter(FieldDevice):
    """Drives the ISA interrupt lines in `irqs` (IRQ number to line)."""

    kind = "pirq"
    version = 1
    fields = (Field("routes", 8, count=INPUTS), Field("levels", 1, count=INPUTS))

    def __init__(self, irqs: Mapping[int, Line]) -> None:
        self._drivers: Sequence[Mapping[int, LineDriver]] = [
            {irq: line.driver() for irq, line in irqs.items() if irq in PERMITTED} for _ in range(INPUTS)
        ]
        self.routes = [ROUTE_OFF] * INPUTS
        self.levels = [0] * INPUTS

    def reset(self) -> None:
        """Nothing is routed; input levels stay."""
        for pirq in range(INPUTS):
            self.set_route(pirq, ROUTE_OFF)

    def set_route(self, pirq: int, value: int) -> None:
        """Write a route control register; an asserted input moves to its new interrupt."""
        self._drive(pirq, False)
        self.routes[pirq] = value & ROUTE_WRITABLE
        self._drive(pirq, bool(self.levels[pirq]))

    def set_level(self, pirq: int, level: bool) -> None:
        """Drive input `pirq` (0-7)."""
        self.levels[pirq] = int(level)
        self._drive(pirq, level)

    def _drive(self, pirq: int, level: bool) -> None:
        driver = self._drivers[pirq].get(self.routes[pirq])
        if driver is not None:
            driver.set(level)

    def restored(self) -> None:
        """Put the outputs where the registers say."""
        for pirq, drivers in enumerate(self._drivers):
            for irq, driver in drivers.items():
                driver.restore(bool(self.levels[pirq]) and self.routes[pirq] == irq)
