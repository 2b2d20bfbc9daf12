"""The 16550A UART.

Source: National Semiconductor PC16550D datasheet, "Registers" and "FIFO Mode Operation". As in a PC, OUT2
gates the interrupt output.

Time on the wire. A transmitted byte leaves at once: the line status register never says that the
transmitter is busy, so polling drivers (a kernel's early console) never wait. The transmitter-empty
interrupt is another matter: raised at once after every write, it would let a driver spin in its
interrupt handler for as long as it has output. It comes one character time after the last write
instead, at the programmed baud rate, which gives one interrupt per FIFO-full. Enabling the interrupt
while nothing was written raises it at once, which is what drivers probe for.

Received bytes wait in a backlog until the FIFO was read empty, so nothing is lost, and what is below
the trigger level raises the timeout interrupt at once: nothing more is on its way in virtual time.
"""

from typing import Final

from hv.clock import MachineClock
from hv.device import ByteSink, Field, FieldDevice
from hv.irq.line import LineDriver

DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCRATCH = range(8)
UART_HZ: Final = 1_843_200
FIFO_SIZE: Final = 16
BACKLOG_SIZE: Final = 65_536

IER_RX: Final = 1 << 0
IER_TX: Final = 1 << 1
IER_LINE: Final = 1 << 2
IER_MODEM: Final = 1 << 3
IIR_NONE: Final = 0x01
IIR_MODEM: Final = 0x00
IIR_TX: Final = 0x02
IIR_RX: Final = 0x04
IIR_LINE: Final = 0x06
IIR_TIMEOUT: Final = 0x0C
IIR_FIFO: Final = 0xC0
FCR_ENABLE: Final = 1 << 0
FCR_CLEAR_RX: Final = 1 << 1
TRIGGER_LEVELS: Final = (1, 4, 8, 14)
LCR_DLAB: Final = 1 << 7
MCR_OUT2: Final = 1 << 3
MCR_LOOP: Final = 1 << 4
LSR_READY: Final = 1 << 0
LSR_OVERRUN: Final = 1 << 1
LSR_ERRORS: Final = 0x1E
LSR_TX_EMPTY: Final = 0x60  # holding register and transmitter
MSR_CONNECTED: Final = 0xB0  # CTS, DSR, DCD of a terminal that is always there
MSR_RI: Final = 1 << 6


class Uart16550(FieldDevice):
    """`sink` gets what the guest sends, a byte at a time; `receive` is the other direction."""

    kind = "uart16550"
    version = 1
    fields = (
        Field("ier", 4),
        Field("fcr", 8),
        Field("lcr", 8),
        Field("mcr", 5),
        Field("lsr_errors", 8),
        Field("msr", 8),
        Field("scratch", 8),
        Field("divisor", 16),
        Field("tx_interrupt", None),
        Field("fifo", 8, most=FIFO_SIZE),
        Field("backlog", 8, most=BACKLOG_SIZE),
    )

    def __init__(self, clock: MachineClock, name: str, irq: LineDriver, sink: ByteSink) -> None:
        self._clock = clock
        self._irq = irq
        self._timer = clock.timer(name, self._transmitted)
        self.sink = sink
        self.fifo = bytearray()
        self.backlog = bytearray()
        self.reset()

    def reset(self) -> None:
        """Power-on registers. Bytes that wait in the backlog are still on the wire and stay."""
        self.ier = self.fcr = self.lcr = self.mcr = 0
        self.lsr_errors = 0
        self.msr = MSR_CONNECTED
        self.scratch = 0
        self.divisor = 12  # 9600 baud
        self.tx_interrupt = False  # the transmitter-empty condition has not been answered yet
        self._timer.disarm()
        self.fifo.clear()
        self._refill()
        self._update()

    def restored(self) -> None:
        """The interrupt output follows the registers."""
        self._irq.restore(self._irq_level())

    # --- The wire -----------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes `receive` takes now."""
        return BACKLOG_SIZE - len(self.backlog)

    def receive(self, data: bytes) -> int:
        """Bytes arrive from outside; how many of them were taken (see `room`)."""
        taken = min(len(data), self.room)
        self.backlog += data[:taken]
        self._refill()
        self._update()
        return taken

    def _capacity(self) -> int:
        return FIFO_SIZE if self.fcr & FCR_ENABLE else 1

    def _refill(self) -> None:
        """Move waiting bytes into the FIFO; in loopback mode the receiver is not on the wire."""
        count = 0 if self.mcr & MCR_LOOP else self._capacity() - len(self.fifo)
        if count > 0 and self.backlog:
            self.fifo += self.backlog[:count]
            del self.backlog[:count]

    def _transmit(self, value: int) -> None:
        self.tx_interrupt = False
        if not self.mcr & MCR_LOOP:
            self.sink(bytes((value,)))
        elif len(self.fifo) < self._capacity():
            self.fifo.append(value)
        else:
            self.lsr_errors |= LSR_OVERRUN
        if self.ier & IER_TX:
            character = 10 * 16 * (self.divisor or 1)  # in clocks: start, eight data bits, stop
            now = self._clock.counts(UART_HZ, self._clock.now)
            self._timer.arm(self._clock.deadline_for(UART_HZ, now + character))
        else:
            self.tx_interrupt = True

    def _transmitted(self) -> None:
        self.tx_interrupt = True
        self._update()

    # --- Registers ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """One of eight byte registers; with DLAB the first two are the divisor."""
        if offset in (DATA, IER) and self.lcr & LCR_DLAB:
            return self.divisor >> 8 * offset & 0xFF
        if offset == DATA:
            return self._read_data()
        if offset == IER:
            return self.ier
        if offset == IIR_FCR:
            return self._read_iir()
        if offset == LCR:
            return self.lcr
        if offset == MCR:
            return self.mcr
        if offset == LSR:
            value = LSR_TX_EMPTY | self.lsr_errors | (LSR_READY if self.fifo else 0)
            if self.lsr_errors:
                self.lsr_errors = 0
                self._update()
            return value
        if offset == MSR:
            value = self.msr
            self.msr &= 0xF0
            self._update()
            return value
        return self.scratch

    def write(self, offset: int, size: int, value: int) -> None:
        """One of eight byte registers; LSR and MSR cannot be written."""
        if offset in (DATA, IER) and self.lcr & LCR_DLAB:
            shift = 8 * offset
            self.divisor = self.divisor & ~(0xFF << shift) | value << shift
            return
        if offset == DATA:
            self._transmit(value)
        elif offset == IER:
            self._write_ier(value & 0x0F)
        elif offset == IIR_FCR:
            self._write_fcr(value)
        elif offset == LCR:
            self.lcr = value
        elif offset == MCR:
            self.mcr = value & 0x1F
            self._set_modem(self._modem_inputs())
            self._refill()
        elif offset == SCRATCH:
            self.scratch = value
        self._update()

    def _read_data(self) -> int:
        if not self.fifo:
            return 0
        value = self.fifo.pop(0)
        self._update()
        if not self.fifo:
            # The next bytes arrive after the interrupt fell: an edge-triggered input sees them.
            self._refill()
            self._update()
        return value

    def _read_iir(self) -> int:
        reason = self._reason()
        if reason == IIR_TX:
            self.tx_interrupt = False
            self._update()
        return reason | (IIR_FIFO if self.fcr & FCR_ENABLE else 0)

    def _write_ier(self, value: int) -> None:
        rising = value & ~self.ier
        self.ier = value
        if rising & IER_TX and self._timer.deadline is None:
            self.tx_interrupt = True
        elif not value & IER_TX and self._timer.deadline is not None:
            self._timer.disarm()
            self.tx_interrupt = True

    def _write_fcr(self, value: int) -> None:
        if (value ^ self.fcr) & FCR_ENABLE or value & (
            FCR_ENABLE | FCR_CLEAR_RX
        ) == FCR_ENABLE | FCR_CLEAR_RX:
            self.fifo.clear()
        self.fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self._refill()

    def _modem_inputs(self) -> int:
        """High nibble of MSR: the terminal's, or in loopback mode our own outputs."""
        if not self.mcr & MCR_LOOP:
            return MSR_CONNECTED
        dtr, rts, out1, out2 = (self.mcr >> bit & 1 for bit in range(4))
        return out2 << 7 | out1 << 6 | dtr << 5 | rts << 4

    def _set_modem(self, inputs: int) -> None:
        changed = (self.msr ^ inputs) & 0xF0
        delta = changed >> 4 & 0b1011
        if changed & MSR_RI and not inputs & MSR_RI:
            delta |= 0b0100  # only the trailing edge of RI counts
        self.msr = inputs | self.msr & 0x0F | delta

    # --- Interrupts ---------------------------------------------------------------------------------

    def _trigger(self) -> int:
        return TRIGGER_LEVELS[self.fcr >> 6] if self.fcr & FCR_ENABLE else 1

    def _reason(self) -> int:
        """The interrupt identification of the highest pending source."""
        if self.ier & IER_LINE and self.lsr_errors & LSR_ERRORS:
            return IIR_LINE
        if self.ier & IER_RX and self.fifo:
            return IIR_RX if len(self.fifo) >= self._trigger() else IIR_TIMEOUT
        if self.ier & IER_TX and self.tx_interrupt:
            return IIR_TX
        if self.ier & IER_MODEM and self.msr & 0x0F:
            return IIR_MODEM
        return IIR_NONE

    def _irq_level(self) -> bool:
        return bool(self.mcr & MCR_OUT2) and self._reason() != IIR_NONE

    def _update(self) -> None:
        self._irq.set(self._irq_level())
