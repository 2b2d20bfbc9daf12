"""The 8254 interval timer: three channels at 1.193182 MHz, and port 61h with channel 2's gate.

Source: Intel 8254 datasheet (order number 231164), "Programming the 8254" and "Mode Definitions"; port
61h from the 82371SB (PIIX3) datasheet, "NMI Status and Control Register".

Nothing counts here: a channel remembers at which count of the 1.193182 MHz oscillator its counter was
loaded; value, output and the next rising edge of OUT follow from the machine clock. A count is loaded
one clock after it is written. In modes 2 and 3 a count written while one is running takes effect at
the end of the period.

Channel 0's OUT drives IRQ 0. On the line its pulses have no width: in modes 2 to 5 it is high, with one
high-low-high transition at each rising edge of OUT. The machine clock is armed only while an edge is
still to come.
"""

from collections.abc import Mapping
from typing import Final

from hv.clock import MachineClock
from hv.device import UNBOUNDED, Field, FieldDevice, State, Value, check_header, child, header
from hv.irq.line import LineDriver
from hv.machines.layout import PIT_HZ

ACCESS_LATCH: Final = 0
ACCESS_LOW: Final = 1
ACCESS_HIGH: Final = 2
ACCESS_BOTH: Final = 3
READ_BACK: Final = 3
READ_BACK_NO_COUNT: Final = 1 << 5
READ_BACK_NO_STATUS: Final = 1 << 4
STATUS_OUT: Final = 1 << 7
STATUS_NULL: Final = 1 << 6
NO_BYTE: Final = 0x100  # an empty byte latch

GATE2: Final = 1 << 0
PORT61_WRITABLE: Final = 0x0F
PORT61_REFRESH: Final = 1 << 4
PORT61_OUT2: Final = 1 << 5
REFRESH_COUNTS: Final = 18  # the count PC firmware gives channel 1: one DRAM refresh every 15.08 us


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


class Pit8254:
    """Ports 40h-43h. Channel 0 drives `irq`; `port61` is the register at port 61h."""

    kind: Final = "pit8254"
    version: Final = 1

    def __init__(self, clock: MachineClock, irq: LineDriver) -> None:
        self._clock = clock
        self._irq = irq
        self._timer = clock.timer("pit.0", self._edge)
        self.channels = (PitChannel(), PitChannel(), PitChannel())
        self.port61 = Port61(self)
        self.reset()

    def now(self) -> int:
        """Oscillator counts since power-on."""
        return self._clock.counts(PIT_HZ, self._clock.now)

    def reset(self) -> None:
        """No channel counts; channel 2's gate is low."""
        for channel in self.channels:
            channel.reset()
        self.port61.reset()
        self._update(self.now())

    def read(self, offset: int, size: int) -> int:
        """A channel's byte; the control word (offset 3) cannot be read."""
        return 0xFF if offset == 3 else self.channels[offset].read(self.now())

    def write(self, offset: int, size: int, value: int) -> None:
        """A byte of a count, or a control word at offset 3."""
        now = self.now()
        if offset < 3:
            self.channels[offset].write(now, value)
            if offset == 0:
                self._update(now)
            return
        select, access = value >> 6, value >> 4 & 3
        if select == READ_BACK:
            self._read_back(now, value)
        elif access == ACCESS_LATCH:
            self.channels[select].latch_count(now)
        else:
            mode = value >> 1 & 7
            self.channels[select].set_mode(access, mode & 3 if mode > 5 else mode, bool(value & 1))
            if select == 0:
                self._update(now)

    def _read_back(self, now: int, value: int) -> None:
        for number, channel in enumerate(self.channels):
            if value >> (number + 1) & 1:
                if not value & READ_BACK_NO_COUNT:
                    channel.latch_count(now)
                if not value & READ_BACK_NO_STATUS:
                    channel.latch_status(now)

    def _update(self, now: int) -> None:
        """Bring IRQ 0 and the timer in line with channel 0."""
        channel = self.channels[0]
        self._irq.set(channel.mode > 1 or channel.out(now))
        self._arm(now)

    def _arm(self, now: int) -> None:
        edge = self.channels[0].next_edge(now)
        if edge is None:
            self._timer.disarm()
        else:
            self._timer.arm(self._clock.deadline_for(PIT_HZ, edge))

    def _edge(self) -> None:
        self._irq.set(False)
        self._irq.set(True)
        self._arm(self.now())

    def save(self) -> State:
        """The channels, port 61h and the level of IRQ 0."""
        channels: dict[str, Value] = {str(i): channel.save() for i, channel in enumerate(self.channels)}
        return header(self) | channels | {"port61": self.port61.save(), "irq": self._irq.level}

    def load(self, state: Mapping[str, Value]) -> None:
        """Restore without an edge on IRQ 0; the clock restores the timer."""
        check_header(self, state)
        for number, channel in enumerate(self.channels):
            channel.load(child(self.kind, state, str(number)))
        self.port61.load(child(self.kind, state, "port61"))
        self._irq.restore(state.get("irq") is True)


class Port61(FieldDevice):
    """Port 61h: channel 2's gate (bit 0), speaker data (1), refresh toggle (4), OUT of channel 2 (5).

    Bits 2 and 3 (parity and channel check) can be written and do nothing; there are no such errors.
    """

    kind = "port61"
    version = 1
    fields = (Field("control", 4),)

    def __init__(self, pit: Pit8254) -> None:
        self._pit = pit
        self.control = 0

    def reset(self) -> None:
        """Gate and speaker off."""
        self.write(0, 1, 0)

    def read(self, offset: int, size: int) -> int:
        """Control bits, the refresh toggle and OUT2 as of now."""
        now = self._pit.now()
        refresh = PORT61_REFRESH if now // REFRESH_COUNTS & 1 else 0
        out = PORT61_OUT2 if self._pit.channels[2].out(now) else 0
        return self.control | refresh | out

    def write(self, offset: int, size: int, value: int) -> None:
        """The four control bits."""
        self.control = value & PORT61_WRITABLE
        self._pit.channels[2].set_gate(self._pit.now(), bool(value & GATE2))
