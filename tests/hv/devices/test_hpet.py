"""The HPET, at one machine tick per 100 ns count."""

from hv.clock import MachineClock
from hv.devices.hpet import Hpet
from hv.irq.line import Line

CONFIG, STATUS, COUNTER = 0x10, 0x20, 0xF0


def timer(number: int) -> int:
    return 0x100 + 0x20 * number


class Rig:
    def __init__(self) -> None:
        self.edges: list[int] = []
        self.messages: list[tuple[int, int]] = []
        self.clock = MachineClock(10_000_000)
        self.lines = {pin: Line(f"gsi.{pin}") for pin in range(16, 24)}
        for pin, line in self.lines.items():
            line.connect(lambda level, pin=pin: self.edges.append(pin) if level else None)  # type: ignore[misc]
        self.hpet = Hpet(self.clock, self.lines, lambda address, data: self.messages.append((address, data)))

    def run(self, ticks: int) -> int:
        before, end = len(self.edges) + len(self.messages), self.clock.now + ticks
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.advance(due - self.clock.now)
            self.clock.run_due()
        self.clock.advance(end - self.clock.now)
        return len(self.edges) + len(self.messages) - before


def test_capabilities() -> None:
    hpet = Rig().hpet
    value = hpet.read(0, 8)
    assert value >> 32 == 100_000_000  # femtoseconds per count
    assert value >> 8 & 0x1F == 7
    assert value >> 13 & 1 == 0  # 32-bit counter
    assert value >> 15 & 1 == 0  # no legacy replacement
    assert hpet.read(4, 4) == 100_000_000
    assert hpet.read(timer(3), 8) == 0x00F0_0000_0000_8010


def test_the_counter_runs_while_enabled_and_can_be_set_while_halted() -> None:
    rig = Rig()
    rig.run(50)
    assert rig.hpet.read(COUNTER, 4) == 0
    rig.hpet.write(COUNTER, 8, 0xFFFF_FFF0)
    rig.hpet.write(CONFIG, 4, 1)
    rig.run(0x20)
    assert rig.hpet.read(COUNTER, 8) == 0x10
    rig.hpet.write(COUNTER, 4, 0x1234)
    assert rig.hpet.read(COUNTER, 4) == 0x10
    rig.hpet.write(CONFIG, 4, 0)
    rig.run(100)
    assert rig.hpet.read(COUNTER, 4) == 0x10


def test_a_one_shot_comparator_matches_once_per_wrap() -> None:
    rig = Rig()
    rig.hpet.write(timer(0), 4, 0x04 | 21 << 9)
    rig.hpet.write(timer(0) + 8, 4, 1000)
    rig.hpet.write(CONFIG, 4, 1)
    assert rig.run(999) == 0
    assert rig.run(1) == 1
    assert rig.edges == [21]
    assert rig.run(0xFFFF_FFFF) == 0
    assert rig.run(1) == 1


def test_a_periodic_comparator_advances_by_its_period() -> None:
    rig = Rig()
    rig.hpet.write(CONFIG, 4, 1)
    rig.run(500)
    rig.hpet.write(timer(2), 4, 0x04 | 0x08 | 0x40 | 20 << 9)
    rig.hpet.write(timer(2) + 8, 4, 700)  # first match
    rig.hpet.write(timer(2) + 8, 4, 100)  # then every 100
    assert rig.run(199) == 0
    assert rig.run(1) == 1
    assert rig.hpet.read(timer(2) + 8, 4) == 800
    assert rig.run(1000) == 10
    rig.clock.advance(550)
    rig.clock.run_due()
    assert len(rig.edges) == 12  # served late: one
    assert rig.clock.next_deadline() == 2300


def test_a_level_comparator_holds_its_input_until_its_status_is_cleared() -> None:
    rig = Rig()
    rig.hpet.write(timer(1), 4, 0x06 | 22 << 9)
    rig.hpet.write(timer(1) + 8, 4, 10)
    rig.hpet.write(CONFIG, 4, 1)
    rig.run(10)
    assert rig.lines[22].level
    assert rig.hpet.read(STATUS, 4) == 2
    rig.hpet.write(STATUS, 4, 1)
    assert rig.lines[22].level
    rig.hpet.write(STATUS, 4, 2)
    assert [rig.lines[22].level, rig.hpet.read(STATUS, 4)] == [False, 0]


def test_message_delivery() -> None:
    rig = Rig()
    rig.hpet.write(timer(0) + 0x10, 8, 0xFEE0_1000_0000_0041)
    rig.hpet.write(timer(0) + 0x10, 4, 0x0000_0042)
    rig.hpet.write(timer(0), 4, 0x4004)
    rig.hpet.write(timer(0) + 8, 4, 5)
    rig.hpet.write(CONFIG, 4, 1)
    rig.run(5)
    assert rig.messages == [(0xFEE0_1000, 0x42)]
    assert rig.edges == []


def test_an_input_it_is_not_wired_to_gets_nothing() -> None:
    rig = Rig()
    rig.hpet.write(timer(0), 4, 0x04 | 2 << 9)
    rig.hpet.write(timer(0) + 8, 4, 5)
    rig.hpet.write(CONFIG, 4, 1)
    assert rig.run(10) == 0


def test_odd_accesses_read_ones_and_write_nothing() -> None:
    rig = Rig()
    assert rig.hpet.read(0, 2) == 0xFFFF
    assert rig.hpet.read(4, 8) == 0xFFFF_FFFF_FFFF_FFFF
    rig.hpet.write(CONFIG, 1, 1)
    assert rig.hpet.read(CONFIG, 4) == 0
    assert rig.hpet.read(0x200, 4) == 0


def test_a_restored_block_raises_no_edge_and_matches_at_the_same_ticks() -> None:
    first, second = Rig(), Rig()
    first.hpet.write(CONFIG, 4, 1)
    first.hpet.write(timer(1), 4, 0x06 | 22 << 9)
    first.hpet.write(timer(1) + 8, 4, 10)
    first.hpet.write(timer(2), 4, 0x4C | 20 << 9)
    first.hpet.write(timer(2) + 8, 4, 70)
    first.run(1234)
    second.clock.load(first.clock.save())
    second.hpet.load(first.hpet.save())
    assert second.edges == []
    assert second.lines[22].level
    for ticks in (1, 25, 70, 700):
        assert first.run(ticks) == second.run(ticks)
        assert first.hpet.read(timer(2) + 8, 4) == second.hpet.read(timer(2) + 8, 4)
        assert first.hpet.save() == second.hpet.save()
