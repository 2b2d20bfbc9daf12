"""The ACPI power-management timer: a free-running 32-bit counter at 3.579545 MHz.

Source: ACPI Specification 6.5, "Power Management Timer". Read-only; it follows the machine clock, so it
has no state of its own, and it raises no interrupt.
"""

from hv.clock import MachineClock
from hv.device import FieldDevice
from hv.machines.layout import PM_TIMER_HZ


class PmTimer(FieldDevice):
    """Four bytes of registers."""

    kind = "pmtimer"
    version = 1
    fields = ()

    def __init__(self, clock: MachineClock) -> None:
        self._clock = clock

    def reset(self) -> None:
        """Nothing to do: the counter runs on."""

    def read(self, offset: int, size: int) -> int:
        """The counter, or the addressed bytes of it."""
        count = self._clock.counts(PM_TIMER_HZ, self._clock.now)
        return count >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Ignored."""
