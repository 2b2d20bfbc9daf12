"""The local APIC's timer: one-shot, periodic and TSC-deadline mode.

Source: Intel SDM vol. 3, "APIC Timer", "TSC-Deadline Mode"; the divide configuration register's
figure. The count runs at `LAPIC_TIMER_HZ` over the divider; the position of a running count is kept
as the bus-clock count at which it was loaded, so periodic mode does not drift however late an
expiry is served, and expiries missed meanwhile are one interrupt, as the IRR bit would have it.

TSC-deadline mode needs two facts of the vCPU, taken as callables because both can change: `tsc_hz`,
the frequency of its time-stamp counter, and `tsc_offset`, what the guest's writes to IA32_TSC and
IA32_TSC_ADJUST have added to it. Its counter then reads

    TSC = (floor(now * tsc_hz / ips) + tsc_offset) mod 2**64
"""

from collections.abc import Callable
from typing import Final

from hv.clock import MachineClock
from hv.device import UNBOUNDED, Field, FieldDevice
from hv.machines.layout import LAPIC_TIMER_HZ

LVT_MASKED: Final = 1 << 16
MODE_SHIFT: Final = 17
ONE_SHOT: Final = 0
PERIODIC: Final = 1
TSC_DEADLINE: Final = 2
_TSC_MASK: Final = (1 << 64) - 1


class LapicTimer(FieldDevice):
    """Timer number `index`. `expired` is called at each expiry while the LVT entry is not masked."""

    kind = "lapic-timer"
    version = 1
    fields = (
        Field("initial", 32),
        Field("divide", 4),
        Field("start", UNBOUNDED),
        Field("running", None),
        Field("tsc_deadline", 64),
        Field("mode", 2),
        Field("masked", None),
    )

    def __init__(
        self,
        clock: MachineClock,
        index: int,
        expired: Callable[[], None],
        tsc_hz: Callable[[], int],
        tsc_offset: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._expired = expired
        self._tsc_hz = tsc_hz
        self._tsc_offset = tsc_offset
        self._timer = clock.timer(f"lapic.{index}", self._fire)
        self.reset()

    def reset(self) -> None:
        """Stopped, dividing by two, masked one-shot."""
        self.initial = 0
        self.divide = 0
        self.start = 0
        self.running = False  # a one-shot count that reached zero does not run
        self.tsc_deadline = 0
        self.mode = ONE_SHOT
        self.masked = True
        self._timer.disarm()

    def restored(self) -> None:
        """A count of zero never runs, whatever the state says."""
        self.running = self.running and self.initial != 0

    @property
    def divider(self) -> int:
        """Bus clocks per count: 1, 2, 4 ... 128."""
        code = self.divide >> 1 & 4 | self.divide & 3
        return 1 if code == 7 else 2 << code

    def configure(self, lvt: int) -> None:
        """Take mode and mask from a new value of the LVT timer entry.

        A change to or from TSC-deadline mode disarms the timer; one between the other two modes
        leaves the count running.
        """
        mode = lvt >> MODE_SHIFT & 3
        self._settle()
        if mode != self.mode and TSC_DEADLINE in (mode, self.mode):
            self.initial = 0
            self.running = False
            self.tsc_deadline = 0
        self.mode = mode
        self.masked = bool(lvt & LVT_MASKED)
        self._arm()

    def set_initial(self, value: int) -> None:
        """Write the initial count: starts the count, 0 stops it. Ignored in TSC-deadline mode."""
        if self.mode == TSC_DEADLINE:
            return
        self.initial = value
        self.start = self._bus_count()
        self.running = value != 0
        self._arm()

    def set_divide(self, value: int) -> None:
        """Write the divide configuration (bits 0, 1 and 3); a running count keeps its value."""
        self._settle()
        done = self.initial - self.current()
        self.divide = value & 0b1011
        self.start = self._bus_count() - done * self.divider
        self._arm()

    def current(self) -> int:
        """The current count."""
        if not self.running:
            return 0
        elapsed = (self._bus_count() - self.start) // self.divider
        if self.mode == PERIODIC:
            return self.initial - elapsed % self.initial
        return max(0, self.initial - elapsed)

    def read_deadline(self) -> int:
        """IA32_TSC_DEADLINE: 0 when nothing is armed or the mode is another one."""
        self._settle()
        return self.tsc_deadline

    def write_deadline(self, value: int) -> None:
        """Write IA32_TSC_DEADLINE: arm, or disarm with 0. Ignored in the other modes."""
        if self.mode == TSC_DEADLINE:
            self.tsc_deadline = value
            self._arm()

    def tsc_changed(self) -> None:
        """`tsc_hz` or `tsc_offset` gives another answer from now on."""
        self._arm()

    def _bus_count(self) -> int:
        return self._clock.counts(LAPIC_TIMER_HZ, self._clock.now)

    def _tsc(self) -> int:
        return self._clock.counts(self._tsc_hz(), self._clock.now) + self._tsc_offset() & _TSC_MASK

    def _settle(self) -> None:
        """Account for an expiry that passed unnoticed because the entry was masked."""
        if self.mode == TSC_DEADLINE:
            if self.masked and self.tsc_deadline and self._tsc() >= self.tsc_deadline:
                self.tsc_deadline = 0
        elif self.mode != PERIODIC and self.running and self.current() == 0:
            self.running = False

    def _arm(self) -> None:
        self._timer.disarm()
        if self.masked:
            return
        clock = self._clock
        if self.mode == TSC_DEADLINE:
            if self.tsc_deadline:
                ahead = max(0, self.tsc_deadline - self._tsc())
                hz = self._tsc_hz()
                due = clock.deadline_for(hz, clock.counts(hz, clock.now) + ahead) if ahead else clock.now
                self._timer.arm(due)
        elif self.running:
            period = self.initial * self.divider
            periods = (self._bus_count() - self.start) // period + 1 if self.mode == PERIODIC else 1
            self._timer.arm(clock.deadline_for(LAPIC_TIMER_HZ, self.start + periods * period))

    def _fire(self) -> None:
        if self.mode == PERIODIC:
            self._arm()
        else:
            self.running = False
            self.tsc_deadline = 0
        self._expired()
