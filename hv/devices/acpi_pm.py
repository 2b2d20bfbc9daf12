"""The ACPI PM1a event and control blocks: power button and soft-off.

Source: ACPI Specification 6.5, "PM1 Event Grouping" and "PM1 Control Grouping". The machine is always in
ACPI mode: SCI_EN reads 1 and there is no SMI command port to write.

Offsets: 0 status, 2 enable, 4 control; 16-bit registers.
"""

from collections.abc import Callable
from typing import Final

from hv.device import Field, FieldDevice
from hv.irq.line import LineDriver
from hv.machines.layout import SLP_EN, SLP_TYP_S5

STATUS: Final = 0
ENABLE: Final = 2
CONTROL: Final = 4
POWER_BUTTON: Final = 1 << 8
STATUS_WRITABLE: Final = 0x8731  # WAK, RTC, SLPBTN, PWRBTN, GBL, BM, TMR: written 1 clears
ENABLE_WRITABLE: Final = 0x0721  # RTC, SLPBTN, PWRBTN, GBL, TMR
CONTROL_SCI_EN: Final = 1 << 0
CONTROL_WRITABLE: Final = 0x1C02  # SLP_TYP, BM_RLD
SLP_TYP_SHIFT: Final = 10


class AcpiPm(FieldDevice):
    """`sci` is driven while an enabled event is set; `power_off` is called on entry to S5."""

    kind = "acpi-pm"
    version = 1
    fields = (Field("status", 16), Field("enable", 16), Field("control", 16))

    def __init__(self, sci: LineDriver, power_off: Callable[[], None]) -> None:
        self._sci = sci
        self._power_off = power_off
        self.reset()

    def reset(self) -> None:
        """No event, none enabled."""
        self.status = self.enable = self.control = 0
        self._update()

    def restored(self) -> None:
        """The SCI follows the registers."""
        self._sci.restore(bool(self.status & self.enable))

    def _update(self) -> None:
        self._sci.set(bool(self.status & self.enable))

    def press_power_button(self) -> None:
        """What the user does at the front of the machine."""
        self.status |= POWER_BUTTON
        self._update()

    def read(self, offset: int, size: int) -> int:
        """One of the three registers, or a byte of it."""
        registers = (self.status, self.enable, self.control | CONTROL_SCI_EN)
        return registers[offset >> 1] >> 8 * (offset & 1) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """16 bits, or one byte: the other one then counts as written with what leaves it alone."""
        register, shift = offset & ~1, 8 * (offset & 1)
        written = value << shift
        kept = 0 if size == 2 else 0xFF << (8 - shift)
        if register == STATUS:
            self.status &= ~(written & STATUS_WRITABLE)
        elif register == ENABLE:
            self.enable = (self.enable & kept | written) & ENABLE_WRITABLE
        else:
            self.control = (self.control & kept | written) & CONTROL_WRITABLE
            if written & SLP_EN and self.control >> SLP_TYP_SHIFT & 7 == SLP_TYP_S5:
                self._power_off()
        self._update()
