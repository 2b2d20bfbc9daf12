"""The I/O APIC: 24 inputs, one redirection entry each.

Source: Intel 82093AA datasheet (order number 290566), "Register Description"; the EOI register at
offset 40h from the ICH9 datasheet, "I/O APIC". It answers as version 20h.

Registers are reached through an index (offset 00h) and a data window (10h), both 32 bits wide.
Inputs count their assertions, so several lines may share one. An edge while the entry is masked is
lost ("edge-sensitive interrupts are not latched while masked"); a level-triggered input is sent, sets
remote IRR, and is sent again at EOI if it is still asserted.
"""

from typing import Final

from hv.device import Field, FieldDevice
from hv.irq.apicbus import ApicBus, Message

PINS: Final = 24
VERSION: Final = 0x20 | PINS - 1 << 16

RTE_LOGICAL: Final = 1 << 11
RTE_REMOTE_IRR: Final = 1 << 14
RTE_LEVEL: Final = 1 << 15
RTE_MASKED: Final = 1 << 16
RTE_WRITABLE_LOW: Final = 0x1_AFFF
RTE_DESTINATION: Final = 0xFF00_0000

INDEX_OFFSET: Final = 0x00
DATA_OFFSET: Final = 0x10
EOI_OFFSET: Final = 0x40
REG_ID: Final = 0x00
REG_VERSION: Final = 0x01
REG_ARBITRATION: Final = 0x02
REG_TABLE: Final = 0x10


class IoApic(FieldDevice):
    """Sends to `bus`, and hears its EOI broadcasts."""

    kind = "ioapic"
    version = 1
    fields = (
        Field("index", 8),
        Field("id", 4),
        Field("low", 17, count=PINS),
        Field("high", 32, count=PINS),
        Field("asserted", 16, count=PINS),
    )

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        self.low = [0] * PINS
        self.high = [0] * PINS
        self.asserted = [0] * PINS  # how many lines hold each input
        self.reset()
        bus.attach_eoi(self.eoi)

    def reset(self) -> None:
        """All entries masked. Inputs stay as they are; they belong to the drivers."""
        self.index = 0
        self.id = 0
        self.low[:] = [RTE_MASKED] * PINS
        self.high[:] = [0] * PINS

    def assert_pin(self, pin: int) -> None:
        """One more line asserts the input; the first one makes the rising edge."""
        self.asserted[pin] += 1
        if self.asserted[pin] > 1:
            return
        low = self.low[pin]
        if not low & RTE_MASKED and not (low & RTE_LEVEL and low & RTE_REMOTE_IRR):
            self._send(pin)

    def deassert_pin(self, pin: int) -> None:
        """One line less asserts the input."""
        if self.asserted[pin]:
            self.asserted[pin] -= 1

    def set_pin(self, pin: int, level: bool) -> None:
        """A connected line changed to `level`."""
        if level:
            self.assert_pin(pin)
        else:
            self.deassert_pin(pin)

    def eoi(self, vector: int) -> None:
        """End of a level-triggered interrupt: every entry with this vector may send again."""
        for pin in range(PINS):
            if self.low[pin] & (RTE_REMOTE_IRR | 0xFF) == RTE_REMOTE_IRR | vector:
                self.low[pin] &= ~RTE_REMOTE_IRR
                self._send_if_level(pin)

    def _send_if_level(self, pin: int) -> None:
        low = self.low[pin]
        if self.asserted[pin] and low & (RTE_LEVEL | RTE_MASKED | RTE_REMOTE_IRR) == RTE_LEVEL:
            self._send(pin)

    def _send(self, pin: int) -> None:
        low = self.low[pin]
        level = bool(low & RTE_LEVEL)
        if level:
            self.low[pin] = low | RTE_REMOTE_IRR
        message = Message(low >> 8 & 7, low & 0xFF, self.high[pin] >> 24, bool(low & RTE_LOGICAL), level)
        # A level-triggered message that nobody took must not wait for an EOI.
        if not self._bus.deliver(message) and level:
            self.low[pin] = low

    def read(self, offset: int, size: int) -> int:
        """The index register or the data window; anything else reads 0."""
        if offset & ~3 == INDEX_OFFSET:
            value = self.index
        elif offset & ~3 == DATA_OFFSET:
            value = self._read_register()
        else:
            return 0
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """The index register (low byte), the data window or the EOI register."""
        if offset == INDEX_OFFSET:
            self.index = value & 0xFF
        elif offset == DATA_OFFSET and size == 4:
            self._write_register(value)
        elif offset == EOI_OFFSET:
            self.eoi(value & 0xFF)

    def _read_register(self) -> int:
        index = self.index
        if index in (REG_ID, REG_ARBITRATION):
            return self.id << 24
        if index == REG_VERSION:
            return VERSION
        pin, half = divmod(index - REG_TABLE, 2)
        if not 0 <= pin < PINS:
            return 0
        return self.high[pin] if half else self.low[pin]

    def _write_register(self, value: int) -> None:
        if self.index == REG_ID:
            self.id = value >> 24 & 0xF
            return
        pin, half = divmod(self.index - REG_TABLE, 2)
        if not 0 <= pin < PINS:
            return
        if half:
            self.high[pin] = value & RTE_DESTINATION
            return
        # Remote IRR is read-only, and meaningless for an edge-triggered entry.
        keep = self.low[pin] & RTE_REMOTE_IRR if value & RTE_LEVEL else 0
        self.low[pin] = value & RTE_WRITABLE_LOW | keep
        self._send_if_level(pin)
