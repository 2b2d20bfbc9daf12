"""One counter of the 8254 interval timer.

Source: Intel 8254 datasheet (order number 231164), "Mode Definitions" and "Read Operations".

Nothing counts here: a channel remembers at which count of the oscillator its counter was loaded; value,
output and the next rising edge of OUT follow from the time. A count is loaded one clock after it is
written. In modes 2 and 3 a count written while one is running takes effect at the end of the period.
"""

from typing import Final

from hv.device import UNBOUNDED, Field, FieldDevice

ACCESS_LATCH: Final = 0
ACCESS_LOW: Final = 1
ACCESS_HIGH: Final = 2
ACCESS_BOTH: Final = 3
STATUS_OUT: Final = 1 << 7
STATUS_NULL: Final = 1 << 6
NO_BYTE: Final = 0x100  # an empty byte latch


class PitChannel(FieldDevice):
    """One counter. `now` arguments are oscillator counts since power-on."""

    kind = "pit8254-channel"
    version = 1
    fields = (
        Field("mode", 3, limit=6),
        Field("access", 2),
        Field("bcd", None),
        Field("gate", None),
        Field("running", None),
        Field("count", 17),
        Field("start", UNBOUNDED),
        Field("next_count", 17),
        Field("next_start", UNBOUNDED),
        Field("held", UNBOUNDED),
        Field("low_byte", 9),
        Field("read_high", None),
        Field("latched", 16),
        Field("latched_reads", 2),
        Field("latched_status", 9),
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Idle in mode 0 without a count; the gate is high."""
        self.gate = True
        self.set_mode(ACCESS_BOTH, 0, False)

    def set_mode(self, access: int, mode: int, bcd: bool) -> None:
        """A control word: the channel stops until a count is written."""
        self.access = access
        self.mode = mode
        self.bcd = bcd
        self.running = False  # a count was written and, in modes 1 and 5, the gate has triggered
        self.count = 0
        self.start = 0
        self.next_count = 0  # waits for the period's end or the trigger; 0: none
        self.next_start = 0
        self.held = 0  # counts done when the gate stopped the counter
        self.low_byte = NO_BYTE
        self.read_high = False
        self.latched = 0
        self.latched_reads = 0
        self.latched_status = NO_BYTE

    def restored(self) -> None:
        """A channel never runs without a count, whatever the state says."""
        self.running = self.running and self.count != 0

    @property
    def periodic(self) -> bool:
        """Rate generator or square wave."""
        return self.mode in (2, 3)

    @property
    def triggered(self) -> bool:
        """Started by the rising edge of the gate."""
        return self.mode in (1, 5)

    def write(self, now: int, value: int) -> None:
        """A byte of the count, as the access mode says."""
        if self.access == ACCESS_BOTH:
            if self.low_byte == NO_BYTE:
                self.low_byte = value
                if self.mode == 0:
                    self.running = False
                return
            value = value << 8 | self.low_byte
            self.low_byte = NO_BYTE
        elif self.access == ACCESS_HIGH:
            value <<= 8
        if self.bcd:
            value = sum((value >> 4 * digit & 0xF) * 10**digit for digit in range(4))
        self._load(now, value or (10_000 if self.bcd else 0x1_0000))

    def _load(self, now: int, count: int) -> None:
        self.settle(now)
        if self.triggered:
            self.next_count = count
        elif self.periodic and self.running and self.elapsed(now) >= 0:
            periods = self.elapsed(now) // self.count + 1
            self.next_count, self.next_start = count, self.start + periods * self.count
        else:
            self._start(now, count)

    def _start(self, now: int, count: int) -> None:
        self.count, self.start = count, now + 1
        self.next_count = self.held = 0
        self.running = True

    def set_gate(self, now: int, level: bool) -> None:
        """Drive the gate input."""
        if level == self.gate:
            return
        self.settle(now)
        if not level:
            self.held = max(0, self.elapsed(now)) if self.running else 0
        self.gate = level
        if level:
            count = self.next_count or self.count
            if count and (self.triggered or (self.periodic and self.running)):
                self._start(now, count)
            elif self.running and not self.triggered:
                self.start = now - self.held

    def settle(self, now: int) -> None:
        """Take over the waiting count once the period before it has ended."""
        if self.periodic and self.next_count and self.gate and now >= self.next_start:
            self.count, self.start = self.next_count, self.next_start
            self.next_count = 0

    def elapsed(self, now: int) -> int:
        """Clocks since the counter was loaded; negative while the load is still to come."""
        return now - self.start if self.gate or self.triggered else self.held

    def value(self, now: int) -> int:
        """The counting element, 16 bits, in BCD if so programmed."""
        if not self.running:
            return 0
        self.settle(now)
        done = max(0, self.elapsed(now))
        if self.mode == 2:
            value = self.count - done % self.count
        elif self.mode == 3:
            half = (self.count + 1) // 2
            position = done % self.count
            value = (self.count & ~1) - 2 * (position if position < half else position - half)
        else:
            value = self.count - done
        if not self.bcd:
            return value & 0xFFFF
        return int(f"{value % 10_000:04d}", 16)

    def out(self, now: int) -> bool:
        """Level of the OUT pin."""
        if not self.running:
            return self.mode != 0
        self.settle(now)
        done = self.elapsed(now)
        if self.mode == 0:
            return done >= self.count
        if done < 0 or (self.periodic and not self.gate):
            return True
        if self.mode == 1:
            return done >= self.count
        if self.mode == 2:
            return done % self.count != self.count - 1
        if self.mode == 3:
            return done % self.count < (self.count + 1) // 2
        return done != self.count

    def next_edge(self, now: int) -> int | None:
        """The oscillator count of the next rising edge of OUT, or None."""
        if not self.running or not (self.gate or self.triggered):
            return None
        self.settle(now)
        if self.periodic:
            return self.start + (max(0, self.elapsed(now)) // self.count + 1) * self.count
        edge = self.start + self.count + (self.mode in (4, 5))
        return edge if edge > now else None

    def status(self, now: int) -> int:
        """The status byte of the read-back command."""
        waits = not self.running or bool(self.next_count) or self.elapsed(now) < 0
        return (
            (STATUS_OUT if self.out(now) else 0)
            | (STATUS_NULL if waits else 0)
            | self.access << 4
            | self.mode << 1
            | self.bcd
        )

    def latch_count(self, now: int) -> None:
        """Hold the current value for the next reads; a value held already stays."""
        if not self.latched_reads:
            self.latched = self.value(now)
            self.latched_reads = 2 if self.access == ACCESS_BOTH else 1

    def latch_status(self, now: int) -> None:
        """Hold the status byte for the next read; one held already stays."""
        if self.latched_status == NO_BYTE:
            self.latched_status = self.status(now)

    def read(self, now: int) -> int:
        """A latched status, else a byte of the latched or current value."""
        if self.latched_status != NO_BYTE:
            status, self.latched_status = self.latched_status, NO_BYTE
            return status
        value = self.latched if self.latched_reads else self.value(now)
        self.latched_reads = max(0, self.latched_reads - 1)
        high = self.access == ACCESS_HIGH or (self.access == ACCESS_BOTH and self.read_high)
        if self.access == ACCESS_BOTH:
            self.read_high = not self.read_high
        return value >> 8 if high else value & 0xFF
