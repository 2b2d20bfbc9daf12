"""The 8254 and port 61h, at one tick per oscillator clock."""

import pytest

from hv.clock import MachineClock
from hv.devices.pit8254 import Pit8254
from hv.irq.line import Line

PIT_HZ = 1_193_182


class Rig:
    def __init__(self, ips: int = PIT_HZ) -> None:
        self.edges = 0
        self.clock = MachineClock(ips)
        self.line = Line("irq0", self._sink)
        self.pit = Pit8254(self.clock, self.line.driver())

    def _sink(self, level: bool) -> None:
        self.edges += level

    def control(self, value: int) -> None:
        self.pit.write(3, 1, value)

    def count(self, channel: int, value: int) -> None:
        self.pit.write(channel, 1, value & 0xFF)
        self.pit.write(channel, 1, value >> 8)

    def run(self, ticks: int) -> int:
        """Let time pass as the scheduler does; the number of rising edges of IRQ 0."""
        before = self.edges
        end = self.clock.now + ticks
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.advance(max(0, due - self.clock.now))
            self.clock.run_due()
        self.clock.advance(end - self.clock.now)
        return self.edges - before

    def read16(self, channel: int) -> int:
        return self.pit.read(channel, 1) | self.pit.read(channel, 1) << 8


def test_mode_0_interrupts_once_n_plus_one_clocks_after_the_count() -> None:
    rig = Rig()
    rig.control(0x30)
    rig.count(0, 100)
    assert rig.run(100) == 0
    assert rig.run(1) == 1
    assert rig.run(200_000) == 0
    assert rig.clock.next_deadline() is None


def test_mode_2_is_periodic_and_counts_down_to_one() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.count(0, 1000)
    rig.run(1)
    before = rig.edges
    assert rig.read16(0) == 1000
    rig.run(999)
    assert rig.read16(0) == 1
    assert rig.edges == before
    assert rig.run(1) == 1
    assert rig.read16(0) == 1000
    assert rig.run(10_000) == 10


def test_the_hundred_hertz_tick_does_not_drift_in_an_hour() -> None:
    rig = Rig(ips=999_999_937)
    rig.control(0x34)
    rig.count(0, 11_932)
    rig.run(0)
    edges = rig.edges
    rig.clock.advance(3600 * 999_999_937)
    rig.clock.run_due()
    assert rig.edges == edges + 1  # late service: one edge
    due = rig.clock.next_deadline()
    assert due is not None
    periods = (3600 * PIT_HZ - 1) // 11_932 + 1
    assert due == -(-(1 + periods * 11_932) * 999_999_937 // PIT_HZ)


def test_a_count_of_zero_is_65536() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.count(0, 0)
    rig.run(1)
    assert rig.read16(0) == 0
    rig.run(1)
    assert rig.read16(0) == 0xFFFF
    rig.run(65_533)
    assert rig.run(1) == 0
    assert rig.run(1) == 1


@pytest.mark.parametrize(("count", "high"), [(10, 5), (11, 6)])
def test_mode_3_is_high_for_the_first_half_and_counts_by_two(count: int, high: int) -> None:
    rig = Rig()
    rig.pit.port61.write(0, 1, 1)
    rig.control(0xB6)
    rig.count(2, count)
    rig.run(1)
    levels = []
    for _ in range(2 * count):
        levels.append(bool(rig.pit.port61.read(0, 1) & 0x20))
        rig.run(1)
    assert levels == ([True] * high + [False] * (count - high)) * 2
    assert rig.read16(2) == 10
    rig.run(1)
    assert rig.read16(2) == 8


def test_a_new_count_in_mode_2_takes_effect_after_the_period() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.count(0, 100)
    rig.run(51)
    rig.count(0, 30)
    assert rig.read16(0) == 50
    assert rig.run(49) == 0
    assert rig.run(1) == 1
    assert rig.read16(0) == 30
    assert rig.run(29) == 0
    assert rig.run(1) == 1


def test_mode_4_strobes_once_after_the_count() -> None:
    rig = Rig()
    rig.control(0x38)
    rig.count(0, 10)
    before = rig.edges
    rig.run(11)
    assert rig.edges == before
    assert rig.run(1) == 1
    assert rig.run(100_000) == 0


def test_the_latch_holds_the_value_until_it_was_read() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.count(0, 0x1234)
    rig.run(1 + 0x34)
    rig.control(0x00)
    rig.run(50)
    rig.control(0x00)  # ignored: one is held already
    assert rig.read16(0) == 0x1200
    assert rig.read16(0) == 0x1234 - 0x34 - 50


def test_read_back_latches_status_and_count_of_several_channels() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.count(0, 500)
    rig.control(0xB0)
    rig.count(2, 7)
    rig.run(11)
    rig.control(0xC2 | 0x08)
    assert rig.pit.read(0, 1) == 0xB4  # OUT high, loaded, both bytes, mode 2
    assert rig.read16(0) == 490
    assert rig.pit.read(2, 1) == 0x30  # gate low: not counting, OUT low
    assert rig.read16(2) == 7


def test_the_null_count_bit_is_set_until_the_count_is_loaded() -> None:
    rig = Rig()
    rig.control(0x34)
    rig.control(0xE2)
    assert rig.pit.read(0, 1) & 0x40
    rig.count(0, 500)
    rig.control(0xE2)
    assert rig.pit.read(0, 1) & 0x40
    rig.run(1)
    rig.control(0xE2)
    assert not rig.pit.read(0, 1) & 0x40


def test_bcd_counts_in_decimal() -> None:
    rig = Rig()
    rig.control(0x35)
    rig.count(0, 0x1000)
    rig.run(2)
    assert rig.read16(0) == 0x0999
    rig.control(0x35)
    rig.count(0, 0)
    rig.run(2)
    assert rig.read16(0) == 0x9999


def test_single_byte_access_modes() -> None:
    rig = Rig()
    rig.control(0x14)
    rig.pit.write(0, 1, 200)
    rig.run(1)
    assert rig.pit.read(0, 1) == 200
    rig.control(0x24)
    rig.pit.write(0, 1, 2)
    rig.run(1)
    assert rig.pit.read(0, 1) == 2
    assert rig.run(512) == 1


def test_channel_2_counts_only_while_its_gate_is_high() -> None:
    rig = Rig()
    rig.control(0xB0)
    rig.count(2, 100)
    rig.run(1000)
    assert not rig.pit.port61.read(0, 1) & 0x20
    rig.pit.port61.write(0, 1, 1)
    rig.run(60)
    rig.pit.port61.write(0, 1, 0)
    rig.run(500)
    assert rig.read16(2) == 40
    rig.pit.port61.write(0, 1, 1)
    rig.run(39)
    assert not rig.pit.port61.read(0, 1) & 0x20
    rig.run(1)
    assert rig.pit.port61.read(0, 1) & 0x20


def test_mode_1_runs_from_the_rising_gate_and_can_be_retriggered() -> None:
    rig = Rig()
    rig.control(0xB2)
    rig.count(2, 50)
    assert rig.pit.port61.read(0, 1) & 0x20
    rig.pit.port61.write(0, 1, 1)
    rig.run(1)
    assert not rig.pit.port61.read(0, 1) & 0x20
    rig.run(40)
    rig.pit.port61.write(0, 1, 0)
    rig.pit.port61.write(0, 1, 1)
    rig.run(50)
    assert not rig.pit.port61.read(0, 1) & 0x20
    rig.run(1)
    assert rig.pit.port61.read(0, 1) & 0x20


def test_port_61_keeps_four_bits_and_toggles_refresh_with_time() -> None:
    rig = Rig()
    rig.pit.port61.write(0, 1, 0xFF)
    assert rig.pit.port61.read(0, 1) & 0xCF == 0x0F
    toggles = []
    for _ in range(72):
        toggles.append(rig.pit.port61.read(0, 1) >> 4 & 1)
        rig.run(1)
    assert toggles == [0] * 18 + [1] * 18 + [0] * 18 + [1] * 18


def test_the_control_register_reads_all_ones() -> None:
    assert Rig().pit.read(3, 1) == 0xFF


def test_a_restored_pit_makes_no_edge_and_then_the_same_edges() -> None:
    first, second = Rig(), Rig()
    first.control(0x34)
    first.count(0, 777)
    first.control(0xB6)
    first.count(2, 55)
    first.pit.port61.write(0, 1, 3)
    first.run(12_345)
    first.count(0, 333)
    second.clock.load(first.clock.save())
    second.pit.load(first.pit.save())
    assert second.edges == 0
    assert second.line.level
    for ticks in (400, 5_000, 1, 9):
        assert first.run(ticks) == second.run(ticks)
        assert first.pit.save() == second.pit.save()
        assert first.read16(0) == second.read16(0)
        assert first.pit.port61.read(0, 1) == second.pit.port61.read(0, 1)
