"""The 8254 interval timer: three channels at 1.193182 MHz, and port 61h with channel 2's gate.

Source: Intel 8254 datasheet (order number 231164), "Programming the 8254" and "Mode Definitions"; port
61h from the 82371SB (PIIX3) datasheet, "NMI Status and Control Register".

Channel 0's OUT drives IRQ 0. On the line its pulses have no width: in modes 2 to 5 it is high, with one
high-low-high transition at each rising edge of OUT. The machine clock is armed only while an edge is
still to come.
"""

from collections.abc import Mapping
from typing import Final

from hv.clock import MachineClock
from hv.device import Field, FieldDevice, State, Value, check_header, child, header
from hv.devices.pit_channel import ACCESS_LATCH, PitChannel
from hv.irq.line import LineDriver
from hv.machines.layout import PIT_HZ

READ_BACK: Final = 3
READ_BACK_NO_COUNT: Final = 1 << 5
READ_BACK_NO_STATUS: Final = 1 << 4

GATE2: Final = 1 << 0
PORT61_WRITABLE: Final = 0x0F
PORT61_REFRESH: Final = 1 << 4
PORT61_OUT2: Final = 1 << 5
REFRESH_COUNTS: Final = 18  # the count PC firmware gives channel 1: one DRAM refresh every 15.08 us


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
