"""The high precision event timer block: a 32-bit counter at 10 MHz and eight comparators.

Source: IA-PC HPET Specification 1.0a, "Register Overview" and "Timer Operational Modes". All comparators
can be periodic, can interrupt through I/O APIC inputs 20-23, edge- or level-triggered, and can send
messages (FSB delivery). There is no legacy replacement routing.

Registers take aligned accesses of 4 and 8 bytes; others read all ones and write nothing. The counter can
be written only while it is halted. A comparator that equals the counter when it is written matches one
wrap later, as on the chip, which compares after counting.
"""

from collections.abc import Callable, Mapping
from typing import Final

from hv.clock import MachineClock
from hv.device import UNBOUNDED, Field, FieldDevice
from hv.irq.line import Line, LineDriver
from hv.machines.layout import HPET_HZ

TIMERS: Final = 8
WRAP: Final = 1 << 32
MASK: Final = WRAP - 1
PINS: Final = (20, 21, 22, 23)

REG_CAPABILITIES: Final = 0x000
REG_CONFIG: Final = 0x010
REG_STATUS: Final = 0x020
REG_COUNTER: Final = 0x0F0
REG_TIMER: Final = 0x100
TIMER_STRIDE: Final = 0x20
TIMER_CONFIG: Final = 0x00
TIMER_COMPARATOR: Final = 0x08
TIMER_FSB: Final = 0x10

PERIOD_FS: Final = 100_000_000
VENDOR: Final = 0x8086
REVISION: Final = 1
CAPABILITIES: Final = PERIOD_FS << 32 | VENDOR << 16 | TIMERS - 1 << 8 | REVISION
CONFIG_ENABLE: Final = 1 << 0
T_LEVEL: Final = 1 << 1
T_ENABLE: Final = 1 << 2
T_PERIODIC: Final = 1 << 3
T_PERIODIC_CAPABLE: Final = 1 << 4
T_SET_VALUE: Final = 1 << 6
T_ROUTE_SHIFT: Final = 9
T_ROUTE_MASK: Final = 0x1F
T_FSB: Final = 1 << 14
T_FSB_CAPABLE: Final = 1 << 15
T_WRITABLE: Final = T_LEVEL | T_ENABLE | T_PERIODIC | T_SET_VALUE | 1 << 8 | T_ROUTE_MASK << 9 | T_FSB
T_FIXED: Final = sum(1 << pin for pin in PINS) << 32 | T_FSB_CAPABLE | T_PERIODIC_CAPABLE


class Hpet(FieldDevice):
    """`lines` has the lines of inputs 20-23 by number; `message` sends an MSI (address, data)."""

    kind = "hpet"
    version = 1
    fields = (
        Field("running", None),
        Field("halted_at", 32),
        Field("start", UNBOUNDED),
        Field("status", TIMERS),
        Field("config", 16, count=TIMERS),
        Field("comparator", 32, count=TIMERS),
        Field("period", 32, count=TIMERS),
        Field("match", UNBOUNDED, count=TIMERS),
        Field("fsb", 64, count=TIMERS),
    )

    def __init__(
        self, clock: MachineClock, lines: Mapping[int, Line], message: Callable[[int, int], None]
    ) -> None:
        self._clock = clock
        self._message = message
        self._drivers: list[Mapping[int, LineDriver]] = [
            {pin: line.driver() for pin, line in lines.items() if pin in PINS} for _ in range(TIMERS)
        ]
        self._timers = [clock.timer(f"hpet.{n}", self._expiry(n)) for n in range(TIMERS)]
        self.config = [0] * TIMERS
        self.comparator = [MASK] * TIMERS
        self.period = [0] * TIMERS
        self.match = [0] * TIMERS  # 10 MHz count since power-on of the next match, while running
        self.fsb = [0] * TIMERS
        self.reset()

    def _expiry(self, number: int) -> Callable[[], None]:
        return lambda: self._expired(number)

    def reset(self) -> None:
        """Halted at 0, every comparator disabled."""
        self.running = False
        self.halted_at = 0
        self.start = 0  # 10 MHz count since power-on at which the counter was 0, while running
        self.status = 0
        self.config[:] = [0] * TIMERS
        self.comparator[:] = [MASK] * TIMERS
        self.period[:] = [0] * TIMERS
        self.match[:] = [0] * TIMERS
        self.fsb[:] = [0] * TIMERS
        for number in range(TIMERS):
            self._update(number)

    def restored(self) -> None:
        """Level-triggered inputs follow the status bits."""
        for number, drivers in enumerate(self._drivers):
            for pin, driver in drivers.items():
                driver.restore(self._holds(number, pin))

    def _now(self) -> int:
        return self._clock.counts(HPET_HZ, self._clock.now)

    def counter(self) -> int:
        """The main counter."""
        return (self._now() - self.start) & MASK if self.running else self.halted_at

    # --- Registers ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """An aligned register or half of one."""
        if size not in (4, 8) or offset % size:
            return (1 << 8 * size) - 1
        return self._read(offset & ~7) >> 8 * (offset & 7) & (1 << 8 * size) - 1

    def _read(self, register: int) -> int:
        if register >= REG_TIMER:
            number, register = divmod(register - REG_TIMER, TIMER_STRIDE)
            if number >= TIMERS:
                return 0
            if register == TIMER_CONFIG:
                return self.config[number] | T_FIXED
            if register == TIMER_COMPARATOR:
                self._settle(number)
                return self.comparator[number]
            return self.fsb[number] if register == TIMER_FSB else 0
        if register == REG_CAPABILITIES:
            return CAPABILITIES
        if register == REG_CONFIG:
            return CONFIG_ENABLE if self.running else 0
        if register == REG_STATUS:
            return self.status
        return self.counter() if register == REG_COUNTER else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """An aligned register or half of one; the other half keeps its value."""
        if size not in (4, 8) or offset % size:
            return
        register, high = offset & ~7, bool(offset & 4)
        if register >= REG_TIMER:
            number, register = divmod(register - REG_TIMER, TIMER_STRIDE)
            if number < TIMERS:
                self._write_timer(number, register, size, high, value)
        elif high:
            return  # the high halves of the block's registers are read-only or absent
        elif register == REG_CONFIG:
            self._run(bool(value & CONFIG_ENABLE))
        elif register == REG_STATUS:
            ended = self.status & value
            self.status &= ~value
            for number in range(TIMERS):
                if ended >> number & 1:
                    self._update(number)
        elif register == REG_COUNTER and not self.running:
            self.halted_at = value & MASK

    def _write_timer(self, number: int, register: int, size: int, high: bool, value: int) -> None:
        if register == TIMER_FSB:
            if size == 8:
                self.fsb[number] = value
            else:
                shift = 32 if high else 0
                self.fsb[number] = self.fsb[number] & ~(MASK << shift) | value << shift
        elif high:
            return
        elif register == TIMER_CONFIG:
            self._settle(number)
            self.config[number] = value & T_WRITABLE
            if not value & T_LEVEL:
                self.status &= ~(1 << number)
        elif register == TIMER_COMPARATOR:
            self._write_comparator(number, value & MASK)
        self._aim(number)
        self._update(number)

    def _write_comparator(self, number: int, value: int) -> None:
        """Periodic: the value is the period, and the comparator too if the set-value bit is on."""
        self._settle(number)
        config = self.config[number]
        if not config & T_PERIODIC or config & T_SET_VALUE:
            self.comparator[number] = value
        if config & T_PERIODIC:
            self.period[number] = value
        self.config[number] = config & ~T_SET_VALUE

    # --- Counting -----------------------------------------------------------------------------------

    def _run(self, on: bool) -> None:
        if on == self.running:
            return
        if on:
            self.start = self._now() - self.halted_at
            self.running = True
        else:
            for number in range(TIMERS):
                self._settle(number)
            self.halted_at = self.counter()
            self.running = False
        for number in range(TIMERS):
            self._aim(number)
            self._update(number)

    def _aim(self, number: int) -> None:
        """Find the next match of a comparator that was written, or of a counter that was started."""
        if self.running:
            ahead = (self.comparator[number] - self.counter()) & MASK
            self.match[number] = self._now() + (ahead or WRAP)

    def _settle(self, number: int) -> None:
        """Move past the matches that have happened."""
        late = self._now() - self.match[number]
        if not self.running or late < 0:
            return
        periodic = self.config[number] & T_PERIODIC and self.period[number]
        step = self.period[number] if periodic else WRAP
        steps = late // step + 1
        self.match[number] += steps * step
        self.comparator[number] = (self.comparator[number] + steps * step) & MASK

    def _expired(self, number: int) -> None:
        self._settle(number)
        config = self.config[number]
        if config & T_LEVEL:
            self.status |= 1 << number
        if config & T_FSB:
            self._message(self.fsb[number] >> 32, self.fsb[number] & MASK)
        elif not config & T_LEVEL:
            driver = self._drivers[number].get(config >> T_ROUTE_SHIFT & T_ROUTE_MASK)
            if driver is not None:
                driver.pulse()
        self._update(number)

    def _holds(self, number: int, pin: int) -> bool:
        """Whether the comparator keeps input `pin` asserted."""
        config = self.config[number]
        on = config & (T_LEVEL | T_ENABLE | T_FSB) == T_LEVEL | T_ENABLE
        return on and bool(self.status >> number & 1) and config >> T_ROUTE_SHIFT & T_ROUTE_MASK == pin

    def _update(self, number: int) -> None:
        """Bring outputs and the clock's timer in line with the registers."""
        for pin, driver in self._drivers[number].items():
            driver.set(self._holds(number, pin))
        if self.running and self.config[number] & T_ENABLE:
            self._timers[number].arm(self._clock.deadline_for(HPET_HZ, self.match[number]))
        else:
            self._timers[number].disarm()
