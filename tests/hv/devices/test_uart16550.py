"""The 16550A, at one tick per clock of its 1.8432 MHz oscillator."""

import pytest

from hv.clock import MachineClock
from hv.devices.uart16550 import Uart16550
from hv.irq.line import Line

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCRATCH = 0, 1, 2, 2, 3, 4, 5, 6, 7


class Rig:
    def __init__(self) -> None:
        self.edges = 0
        self.sent = bytearray()
        self.clock = MachineClock(1_843_200)
        self.line = Line("irq4", self._sink)
        self.uart = Uart16550(self.clock, "uart.0", self.line.driver(), self.sent.extend)
        self.put(MCR, 0x08)

    def _sink(self, level: bool) -> None:
        self.edges += level

    def get(self, register: int) -> int:
        return self.uart.read(register, 1)

    def put(self, register: int, value: int) -> None:
        self.uart.write(register, 1, value)

    def set_divisor(self, value: int) -> None:
        self.put(LCR, 0x83)
        self.put(DATA, value & 0xFF)
        self.put(IER, value >> 8)
        self.put(LCR, 0x03)

    def run(self, ticks: int) -> None:
        self.clock.advance(ticks)
        self.clock.run_due()


def test_power_on_registers() -> None:
    rig = Rig()
    assert [rig.get(register) for register in (IER, IIR, LCR, LSR)] == [0, 1, 0, 0x60]
    assert rig.get(MSR) == 0xB0


def test_scratch_and_divisor_hold_what_is_written() -> None:
    rig = Rig()
    rig.put(SCRATCH, 0xA5)
    rig.set_divisor(0x1234)
    rig.put(LCR, 0x80)
    assert (rig.get(DATA), rig.get(IER), rig.get(SCRATCH)) == (0x34, 0x12, 0xA5)


def test_polled_output_never_waits() -> None:
    rig = Rig()
    for byte in b"hello":
        assert rig.get(LSR) & 0x60 == 0x60
        rig.put(DATA, byte)
    assert rig.sent == b"hello"
    assert rig.clock.next_deadline() is None


def test_enabling_the_transmitter_interrupt_raises_it_at_once_and_reading_iir_clears_it() -> None:
    rig = Rig()
    rig.put(IER, 2)
    assert rig.line.level
    assert rig.get(IIR) == 0x02
    assert rig.get(IIR) == 0x01
    rig.put(IER, 0)
    rig.put(IER, 2)
    assert rig.get(IIR) == 0x02


def test_the_transmitter_interrupt_follows_one_character_time_after_the_last_write() -> None:
    rig = Rig()
    rig.set_divisor(1)  # 115200 baud: ten bits of 16 clocks
    rig.put(IER, 2)
    rig.get(IIR)
    for _ in range(16):
        rig.put(DATA, 0x55)
    rig.run(159)
    assert rig.get(IIR) == 0x01
    rig.run(1)
    assert rig.line.level
    assert rig.get(IIR) == 0x02


def test_a_zero_divisor_does_not_stop_time() -> None:
    rig = Rig()
    rig.set_divisor(0)
    rig.put(IER, 2)
    rig.get(IIR)
    rig.put(DATA, 0x55)
    rig.run(160)
    assert rig.get(IIR) == 0x02


def test_received_bytes_interrupt_and_are_read_in_order() -> None:
    rig = Rig()
    rig.put(FCR, 0x01)
    rig.put(IER, 1)
    assert rig.uart.receive(b"ab") == 2
    assert rig.get(IIR) == 0xC4
    assert rig.get(LSR) & 1
    assert (rig.get(DATA), rig.get(DATA)) == (0x61, 0x62)
    assert rig.get(IIR) == 0xC1
    assert not rig.get(LSR) & 1
    assert rig.get(DATA) == 0


def test_below_the_trigger_level_the_timeout_interrupt_reports() -> None:
    rig = Rig()
    rig.put(FCR, 0xC1)  # trigger at 14
    rig.put(IER, 1)
    rig.uart.receive(b"x" * 13)
    assert rig.get(IIR) == 0xCC
    rig.uart.receive(b"x")
    assert rig.get(IIR) == 0xC4


@pytest.mark.parametrize("fifo", [0, 1])
def test_a_long_input_is_never_lost_and_each_refill_is_a_new_edge(fifo: int) -> None:
    rig = Rig()
    rig.put(FCR, fifo)
    rig.put(IER, 1)
    data = bytes(range(100))
    rig.uart.receive(data)
    got = bytearray()
    bursts = 0
    while rig.line.level:
        bursts += 1
        edges = rig.edges
        while rig.edges == edges and rig.line.level:
            got.append(rig.get(DATA))
    assert got == data
    assert bursts == (7 if fifo else 100)
    assert not rig.get(LSR) & 2


def test_input_beyond_the_backlog_is_refused() -> None:
    rig = Rig()
    assert rig.uart.receive(bytes(100_000)) == 65_536
    assert rig.uart.room == 1  # one byte is in the receiver
    assert [rig.uart.receive(b"xy"), rig.uart.receive(b"z")] == [1, 0]


def test_interrupt_sources_report_in_order_of_priority() -> None:
    rig = Rig()
    rig.put(MCR, 0x18)  # loopback, OUT2: the modem inputs change
    rig.put(DATA, 1)
    rig.put(DATA, 2)  # overrun of the single-byte receiver
    rig.put(IER, 0x0F)
    assert rig.get(IIR) == 0x06
    assert rig.get(LSR) & 0x02
    assert rig.get(IIR) == 0x04
    assert rig.get(DATA) == 1
    rig.run(200_000)
    assert rig.get(IIR) == 0x02
    assert rig.get(IIR) == 0x00
    rig.get(MSR)
    assert rig.get(IIR) == 0x01
    assert rig.sent == b""


def test_loopback_returns_the_modem_outputs() -> None:
    rig = Rig()
    rig.put(MCR, 0x1A)  # RTS and OUT2
    assert rig.get(MSR) & 0xF0 == 0x90
    rig.put(MCR, 0x15)  # DTR and OUT1
    assert rig.get(MSR) & 0xF0 == 0x60
    rig.put(MCR, 0x11)
    assert rig.get(MSR) == 0x24  # trailing edge of RI


def test_without_out2_no_interrupt_leaves_the_chip() -> None:
    rig = Rig()
    rig.put(MCR, 0)
    rig.put(IER, 2)
    assert rig.get(MCR) == 0
    assert rig.edges == 0
    rig.put(MCR, 8)
    assert rig.edges == 1


def test_the_fifo_control_register_identifies_a_16550a_and_clears_the_fifo() -> None:
    rig = Rig()
    assert rig.get(IIR) & 0xC0 == 0
    rig.put(FCR, 1)
    assert rig.get(IIR) & 0xC0 == 0xC0
    rig.uart.receive(b"abc")
    rig.put(FCR, 3)
    assert not rig.get(LSR) & 1


def test_bytes_that_arrive_in_loopback_wait_on_the_wire() -> None:
    rig = Rig()
    rig.put(MCR, 0x18)
    rig.uart.receive(b"q")
    assert not rig.get(LSR) & 1
    rig.put(MCR, 0x08)
    assert rig.get(DATA) == 0x71


def test_a_restored_uart_raises_no_edge_and_goes_on() -> None:
    first, second = Rig(), Rig()
    first.set_divisor(1)
    first.put(FCR, 1)
    first.put(IER, 3)
    first.put(DATA, 0x41)
    first.uart.receive(b"0123456789abcdefghij")
    second.clock.load(first.clock.save())
    second.uart.load(first.uart.save())
    assert second.edges == 0
    assert second.line.level
    for rig in (first, second):
        assert bytes(rig.get(DATA) for _ in range(20)) == b"0123456789abcdefghij"
        assert rig.get(IIR) == 0xC1
        rig.run(160)
        assert rig.get(IIR) == 0xC2
    assert first.uart.save() == second.uart.save()
