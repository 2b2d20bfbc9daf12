"""The machine clock: exact conversions, timer order, saved deadlines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv.clock import MachineClock
from hv.device import Value
from hv.errors import SnapshotError


def test_time_starts_at_zero_and_advances_by_what_it_is_told() -> None:
    clock = MachineClock(1_000_000_000)
    clock.advance(5)
    clock.advance(0)
    assert clock.now == 5


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError):
        MachineClock(1000).advance(-1)


@given(
    ips=st.integers(1, 10**11),
    hz=st.integers(1, 10**11),
    ticks=st.integers(0, 1 << 62),
    count=st.integers(0, 1 << 62),
)
def test_deadline_is_the_first_tick_with_the_count(ips: int, hz: int, ticks: int, count: int) -> None:
    clock = MachineClock(ips)
    deadline = clock.deadline_for(hz, count)
    assert clock.counts(hz, deadline) >= count
    assert deadline == 0 or clock.counts(hz, deadline - 1) < count
    assert clock.counts(hz, ticks) * ips <= ticks * hz < (clock.counts(hz, ticks) + 1) * ips


def test_a_year_of_pit_counts_has_no_drift() -> None:
    clock = MachineClock(999_999_937)
    year_s = 365 * 86400
    assert clock.counts(1_193_182, year_s * 999_999_937) == year_s * 1_193_182


def test_timers_fire_in_order_of_deadline_then_name() -> None:
    clock = MachineClock(1000)
    fired: list[str] = []
    for name in ("b", "c", "a"):
        clock.timer(name, lambda name=name: fired.append(name)).arm(10)  # type: ignore[misc]
    clock.timer("z", lambda: fired.append("z")).arm(7)
    assert clock.next_deadline() == 7
    clock.advance(9)
    clock.run_due()
    assert fired == ["z"]
    clock.advance(1)
    clock.run_due()
    assert fired == ["z", "a", "b", "c"]
    assert clock.next_deadline() is None


def test_a_callback_may_arm_its_own_timer_again() -> None:
    clock = MachineClock(1000)
    fired: list[int] = []

    def tick() -> None:
        fired.append(clock.now)
        timer.arm(10 * (len(fired) + 1))

    timer = clock.timer("t", tick)
    timer.arm(10)
    clock.advance(35)
    clock.run_due()
    assert fired == [35, 35, 35]
    assert timer.deadline == 40


def test_disarmed_and_unreachable_timers_do_not_fire() -> None:
    clock = MachineClock(1000)
    fired: list[str] = []
    timer = clock.timer("t", lambda: fired.append("t"))
    timer.arm(3)
    timer.disarm()
    assert clock.next_deadline() is None
    timer.arm(1 << 62)
    assert clock.next_deadline() is None
    clock.advance(1 << 63)
    clock.run_due()
    assert fired == []


def test_two_timers_cannot_share_a_name() -> None:
    clock = MachineClock(1000)
    clock.timer("t", lambda: None)
    with pytest.raises(ValueError):
        clock.timer("t", lambda: None)


def test_saved_deadlines_are_restored_and_others_disarmed() -> None:
    first, second = MachineClock(1000), MachineClock(1000)
    fired: list[str] = []
    for clock in (first, second):
        clock.timer("a", lambda: fired.append("a"))
        clock.timer("b", lambda: fired.append("b"))
    first.timer("c", lambda: None).disarm()
    first._timers["a"].arm(50)
    second._timers["b"].arm(1)
    first.advance(20)
    second.load(first.save())
    assert (second.now, second.next_deadline()) == (20, 50)
    second.advance(30)
    second.run_due()
    assert fired == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rtc"},
        {"version": 2},
        {"version": True},
        {"ips": 999},
        {"now": -1},
        {"now": "1"},
        {"timers": []},
        {"timers": {"nobody": 1}},
        {"timers": {"a": -1}},
        {"timers": {"a": None}},
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change: dict[str, Value]) -> None:
    clock = MachineClock(1000)
    clock.timer("a", lambda: None).arm(9)
    with pytest.raises(SnapshotError):
        clock.load(clock.save() | change)
    assert (clock.now, clock.next_deadline()) == (0, 9)
