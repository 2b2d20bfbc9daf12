"""The real-time clock, at 32768 ticks per second (one tick per crystal period)."""

from datetime import UTC, datetime

import pytest

from hv.clock import MachineClock
from hv.devices.rtc146818 import Rtc146818
from hv.irq.line import Line

SECOND = 32_768


class Rig:
    def __init__(self, start: str = "2026-01-01T00:00:00") -> None:
        self.edges = 0
        self.clock = MachineClock(SECOND)
        self.line = Line("irq8", self._sink)
        moment = datetime.fromisoformat(start).replace(tzinfo=UTC)
        self.rtc = Rtc146818(self.clock, self.line.driver(), int(moment.timestamp()))

    def _sink(self, level: bool) -> None:
        self.edges += level

    def get(self, index: int) -> int:
        self.rtc.write(0, 1, index)
        return self.rtc.read(1, 1)

    def put(self, index: int, value: int) -> None:
        self.rtc.write(0, 1, index)
        self.rtc.write(1, 1, value)

    def date(self) -> list[int]:
        """Century, year, month, day, hour, minute, second as the registers read."""
        return [self.get(index) for index in (0x32, 9, 8, 7, 4, 2, 0)]

    def run(self, ticks: int) -> int:
        before, end = self.edges, self.clock.now + ticks
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.advance(due - self.clock.now)
            self.clock.run_due()
        self.clock.advance(end - self.clock.now)
        return self.edges - before


def test_it_starts_at_the_date_given_in_bcd_and_24_hours() -> None:
    rig = Rig("2026-01-01T00:00:00")
    assert rig.date() == [0x20, 0x26, 0x01, 0x01, 0x00, 0x00, 0x00]
    assert rig.get(6) == 5  # Thursday
    assert rig.get(0x0A) == 0x26
    assert rig.get(0x0B) == 0x02
    assert rig.get(0x0D) == 0x80


def test_it_rolls_over_to_a_new_century() -> None:
    rig = Rig("1999-12-31T23:59:59")
    rig.run(SECOND - 1)
    assert rig.date() == [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]
    rig.run(1)
    assert rig.date() == [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00]


def test_binary_and_twelve_hour_formats() -> None:
    rig = Rig("2024-02-29T12:34:56")
    rig.put(0x0B, 0x06)
    assert rig.date() == [20, 24, 2, 29, 12, 34, 56]
    rig.put(0x0B, 0x00)
    assert rig.get(4) == 0x92
    rig.run(12 * 3600 * SECOND)
    assert rig.get(4) == 0x12
    rig.put(0x0B, 0x04)
    assert rig.get(4) == 12
    rig.run(13 * 3600 * SECOND)
    assert rig.get(4) == 0x81


def test_update_in_progress_shows_for_the_last_244_microseconds() -> None:
    rig = Rig()
    rig.run(SECOND - 9)
    assert rig.get(0x0A) == 0x26
    rig.run(1)
    assert rig.get(0x0A) == 0xA6
    rig.run(7)
    assert rig.get(0x0A) == 0xA6
    rig.run(1)
    assert rig.get(0x0A) == 0x26


def test_the_guest_sets_the_date_while_set_holds_the_clock() -> None:
    rig = Rig()
    rig.put(0x0B, 0x82)
    for index, value in ((0, 0x58), (2, 0x59), (4, 0x23), (7, 0x28), (8, 0x02), (9, 0x23), (0x32, 0x20)):
        rig.put(index, value)
    rig.run(10 * SECOND)
    assert rig.date() == [0x20, 0x23, 0x02, 0x28, 0x23, 0x59, 0x58]
    rig.put(0x0B, 0x02)
    rig.run(2 * SECOND)
    assert rig.date() == [0x20, 0x23, 0x03, 0x01, 0x00, 0x00, 0x00]
    assert rig.rtc.time() == int(datetime(2023, 3, 1, tzinfo=UTC).timestamp())


def test_leaving_divider_reset_makes_the_next_update_half_a_second_later() -> None:
    rig = Rig()
    rig.put(0x0A, 0x76)
    rig.run(5 * SECOND)
    rig.put(0x0A, 0x26)
    rig.run(SECOND // 2 - 1)
    assert rig.get(0) == 0x00
    rig.run(1)
    assert rig.get(0) == 0x01


def test_a_written_weekday_is_kept_in_step() -> None:
    rig = Rig()
    rig.put(6, 2)
    assert rig.get(6) == 2
    rig.run(86_400 * SECOND)
    assert rig.get(6) == 3


def test_a_date_out_of_range_does_no_harm() -> None:
    rig = Rig()
    rig.put(0x0B, 0x82)
    for index in (0, 2, 4, 6, 7, 8, 9, 0x32):
        rig.put(index, 0xFF)
    assert rig.get(8) == 0xFF
    rig.put(0x0B, 0x02)
    assert rig.get(8) == 0x12
    rig.run(SECOND)
    rig.get(9)


@pytest.mark.parametrize(("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)])
def test_periodic_interrupt_rates(rate: int, hz: int) -> None:
    rig = Rig()
    rig.put(0x0A, 0x20 | rate)
    rig.put(0x0B, 0x42)
    count = 0
    for _ in range(20):
        count += rig.run(SECOND // hz)
        assert rig.get(0x0C) & 0xC0 == 0xC0
    assert count == 20


def test_an_interrupt_is_not_repeated_until_register_c_was_read() -> None:
    rig = Rig()
    rig.put(0x0B, 0x42)
    assert rig.run(10 * SECOND) == 1
    assert rig.clock.next_deadline() is None
    assert rig.get(0x0C) & 0xC0 == 0xC0
    assert not rig.line.level
    assert rig.get(0x0C) == 0
    assert rig.run(SECOND) == 1


def test_update_ended_interrupts_come_at_each_second() -> None:
    rig = Rig()
    rig.run(100)
    rig.put(0x0B, 0x12)
    assert rig.run(SECOND - 101) == 0
    assert rig.run(1) == 1
    assert rig.get(0x0C) & 0xB0 == 0x90
    assert rig.run(SECOND) == 1


def test_an_alarm_comes_at_its_time_of_day() -> None:
    rig = Rig("2026-01-01T23:00:00")
    for index, value in ((1, 0x30), (3, 0x15), (5, 0x01)):
        rig.put(index, value)
    rig.put(0x0B, 0x22)
    wait_s = 2 * 3600 + 15 * 60 + 30
    assert rig.run(wait_s * SECOND - 1) == 0
    assert rig.run(1) == 1
    assert rig.get(0x0C) & 0xA0 == 0xA0
    assert rig.run(86_400 * SECOND - 1) == 0
    assert rig.run(1) == 1


def test_dont_care_alarm_bytes_match_every_value() -> None:
    rig = Rig("2026-01-01T00:00:59")
    rig.put(1, 0x05)
    rig.put(3, 0xC0)
    rig.put(5, 0xFF)
    rig.put(0x0B, 0x22)
    assert rig.run(6 * SECOND) == 1
    rig.get(0x0C)
    assert rig.run(60 * SECOND - 1) == 0
    assert rig.run(1) == 1


def test_an_alarm_that_can_never_match_arms_nothing() -> None:
    rig = Rig()
    rig.put(1, 0x77)
    rig.put(0x0B, 0x22)
    assert rig.clock.next_deadline() is None


def test_flags_are_set_without_their_interrupts_and_without_a_timer() -> None:
    rig = Rig()
    assert rig.run(10 * SECOND) == 0
    assert rig.clock.next_deadline() is None
    assert rig.get(0x0C) & 0xD0 == 0x50
    rig.put(0x0B, 0x12)
    assert not rig.line.level


def test_enabling_an_interrupt_whose_flag_is_set_raises_it() -> None:
    rig = Rig()
    rig.run(2 * SECOND)
    rig.put(0x0B, 0x12)
    assert rig.edges == 1


def test_cmos_ram_holds_bytes_and_the_index_cannot_be_read() -> None:
    rig = Rig()
    rig.put(0x7F, 0xA5)
    assert rig.get(0x7F) == 0xA5
    assert rig.rtc.nvram(0x7F) == 0xA5
    assert rig.rtc.read(0, 1) == 0xFF
    rig.rtc.set_nvram(0x34, 0x12)
    assert rig.get(0x34) == 0x12
    for offset in (0, 0x0D, 0x32, 128, -1):
        with pytest.raises(ValueError):
            rig.rtc.set_nvram(offset, 0)


def test_bit_7_of_the_index_masks_nmi() -> None:
    rig = Rig()
    rig.rtc.write(0, 1, 0x8F)
    assert rig.rtc.nmi_masked
    rig.rtc.write(0, 1, 0x0F)
    assert [rig.rtc.nmi_masked] == [False]


def test_time_and_ram_survive_a_machine_reset_but_interrupts_do_not() -> None:
    rig = Rig()
    rig.put(0x40, 7)
    rig.put(0x0B, 0x72)
    rig.run(3 * SECOND)
    rig.rtc.reset()
    assert not rig.line.level
    assert rig.clock.next_deadline() is None
    assert (rig.get(0), rig.get(0x40), rig.get(0x0B)) == (3, 7, 0x02)


def test_time_can_be_set_from_outside() -> None:
    rig = Rig()
    rig.run(777)
    rig.rtc.set_time(int(datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC).timestamp()))
    assert rig.date() == [0x20, 0x30, 0x05, 0x06, 0x07, 0x08, 0x09]
    rig.run(SECOND)
    assert rig.get(0) == 0x10


def test_a_restored_clock_raises_no_edge_and_interrupts_at_the_same_ticks() -> None:
    first, second = Rig("2026-01-01T00:00:00"), Rig("1970-01-01T00:00:00")
    first.put(0x0A, 0x2A)
    first.put(0x0B, 0x72)
    first.run(1_234_567)
    second.clock.load(first.clock.save())
    second.rtc.load(first.rtc.save())
    assert second.edges == 0
    assert second.line.level
    for ticks in (1, 100, 40_000, 40_000):
        assert first.get(0x0C) == second.get(0x0C)
        assert first.run(ticks) == second.run(ticks)
        assert first.date() == second.date()
        assert first.rtc.save() == second.rtc.save()
