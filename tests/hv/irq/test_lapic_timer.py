"""The local APIC timer: one-shot, periodic, TSC deadline; 1 GHz bus clock, 3 ticks per ns here."""

from hv.clock import MachineClock
from hv.irq.apicbus import ApicBus, ApicHooks
from hv.irq.lapic import Lapic

SVR, LVT_TIMER, INITIAL, CURRENT, DIVIDE, EOI = 0xF0, 0x320, 0x380, 0x390, 0x3E0, 0xB0
TSC_DEADLINE_MSR = 0x6E0
IPS = 3_000_000_000


class Rig:
    def __init__(self) -> None:
        self.clock = MachineClock(IPS)
        self.tsc_offset = 0
        bus = ApicBus(ApicHooks(lambda c: None, lambda c, v: None, lambda c: None, lambda c: None))
        self.apic = Lapic(0, bus, self.clock, lambda: 2_000_000_000, lambda: self.tsc_offset)
        self.apic.write(SVR, 4, 0x1FF)

    def run(self, ticks: int) -> int | None:
        """Let time pass; the vector that became pending, accepted and ended."""
        self.clock.advance(ticks)
        self.clock.run_due()
        vector = self.apic.pending_vector()
        if vector is not None:
            self.apic.accept(vector)
            self.apic.write(EOI, 4, 0)
        return vector


def test_one_shot_counts_down_at_the_divided_bus_clock_and_fires_once() -> None:
    rig = Rig()
    rig.apic.write(DIVIDE, 4, 0b0011)  # by 16
    rig.apic.write(LVT_TIMER, 4, 0x40)
    rig.apic.write(INITIAL, 4, 1000)
    assert rig.clock.next_deadline() == 1000 * 16 * 3
    assert rig.run(16 * 3 * 400) is None
    assert rig.apic.read(CURRENT, 4) == 600
    assert rig.run(16 * 3 * 600 - 1) is None
    assert rig.run(1) == 0x40
    assert rig.apic.read(CURRENT, 4) == 0
    assert rig.clock.next_deadline() is None


def test_all_dividers() -> None:
    rig = Rig()
    for code, divider in ((0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)):
        rig.apic.write(DIVIDE, 4, code)
        rig.apic.write(LVT_TIMER, 4, 0x40)
        rig.apic.write(INITIAL, 4, 10)
        assert rig.clock.next_deadline() == rig.clock.now + 10 * divider * 3
        rig.clock.advance(3)


def test_periodic_expiries_do_not_drift_when_they_are_served_late() -> None:
    rig = Rig()
    rig.apic.write(DIVIDE, 4, 0b1011)
    rig.apic.write(LVT_TIMER, 4, 0x2_0041)
    rig.apic.write(INITIAL, 4, 100)
    assert rig.run(307) == 0x41
    assert rig.clock.next_deadline() == 600
    assert rig.apic.read(CURRENT, 4) == 98
    assert rig.run(900) == 0x41  # three expiries, one interrupt
    assert rig.run(0) is None
    assert rig.clock.next_deadline() == 1500


def test_a_masked_timer_counts_but_does_not_fire() -> None:
    rig = Rig()
    rig.apic.write(DIVIDE, 4, 0b1011)
    rig.apic.write(LVT_TIMER, 4, 0x1_0040)
    rig.apic.write(INITIAL, 4, 100)
    assert rig.run(150) is None
    assert rig.apic.read(CURRENT, 4) == 50
    assert rig.clock.next_deadline() is None
    rig.run(300)
    rig.apic.write(LVT_TIMER, 4, 0x40)
    assert rig.run(1000) is None


def test_writing_zero_stops_and_a_new_divider_keeps_the_count() -> None:
    rig = Rig()
    rig.apic.write(DIVIDE, 4, 0b1011)
    rig.apic.write(LVT_TIMER, 4, 0x40)
    rig.apic.write(INITIAL, 4, 100)
    rig.run(3 * 60)
    rig.apic.write(DIVIDE, 4, 0b0000)
    assert rig.apic.read(CURRENT, 4) == 40
    assert rig.clock.next_deadline() == 3 * 60 + 3 * 80
    rig.apic.write(INITIAL, 4, 0)
    assert rig.apic.read(CURRENT, 4) == 0
    assert rig.run(10_000) is None


def test_tsc_deadline_fires_when_the_counter_reaches_it() -> None:
    rig = Rig()
    rig.tsc_offset = 1_000
    rig.apic.write(LVT_TIMER, 4, 0x4_0042)
    assert rig.apic.write_msr(TSC_DEADLINE_MSR, 1_201)
    assert rig.apic.read_msr(TSC_DEADLINE_MSR) == 1_201
    # 201 counts at 2 per 3 ticks: 301.5 ticks, so the first tick with the count is 302.
    assert rig.run(301) is None
    assert rig.run(1) == 0x42
    assert rig.apic.read_msr(TSC_DEADLINE_MSR) == 0


def test_a_tsc_deadline_in_the_past_fires_at_once_and_zero_disarms() -> None:
    rig = Rig()
    rig.clock.advance(30_000)
    rig.apic.write(LVT_TIMER, 4, 0x4_0042)
    rig.apic.write_msr(TSC_DEADLINE_MSR, 5)
    assert rig.run(0) == 0x42
    rig.apic.write_msr(TSC_DEADLINE_MSR, 1 << 62)
    rig.apic.write_msr(TSC_DEADLINE_MSR, 0)
    assert rig.clock.next_deadline() is None


def test_the_farthest_tsc_deadline_is_never_reached_and_does_not_break_the_clock() -> None:
    rig = Rig()
    rig.apic.write(LVT_TIMER, 4, 0x4_0042)
    rig.apic.write_msr(TSC_DEADLINE_MSR, (1 << 64) - 1)
    assert rig.clock.next_deadline() is None
    assert rig.apic.read_msr(TSC_DEADLINE_MSR) == (1 << 64) - 1


def test_a_guest_write_to_the_tsc_moves_the_deadline() -> None:
    rig = Rig()
    rig.apic.write(LVT_TIMER, 4, 0x4_0042)
    rig.apic.write_msr(TSC_DEADLINE_MSR, 2_000)
    rig.tsc_offset = 1_000
    rig.apic.timer.tsc_changed()
    assert rig.clock.next_deadline() == 1_500


def test_each_timer_register_is_ignored_in_the_other_mode() -> None:
    rig = Rig()
    rig.apic.write(LVT_TIMER, 4, 0x40)
    rig.apic.write_msr(TSC_DEADLINE_MSR, 5)
    assert rig.apic.read_msr(TSC_DEADLINE_MSR) == 0
    rig.apic.write(LVT_TIMER, 4, 0x4_0040)
    rig.apic.write(INITIAL, 4, 100)
    assert rig.apic.read(INITIAL, 4) == 0
    rig.apic.write_msr(TSC_DEADLINE_MSR, 500)
    rig.apic.write(LVT_TIMER, 4, 0x40)
    assert rig.clock.next_deadline() is None


def test_a_restored_timer_fires_at_the_same_tick() -> None:
    first, second = Rig(), Rig()
    first.apic.write(DIVIDE, 4, 0b0010)
    first.apic.write(LVT_TIMER, 4, 0x2_0041)
    first.apic.write(INITIAL, 4, 777)
    first.run(5_000)
    second.apic.load(first.apic.save())
    second.clock.load(first.clock.save())
    for ticks in (1, 13_000, 5_647, 1, 18_648, 40_000):
        assert first.run(ticks) == second.run(ticks)
        assert first.apic.save() == second.apic.save()
        assert first.clock.next_deadline() == second.clock.next_deadline()
