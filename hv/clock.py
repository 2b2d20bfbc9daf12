"""The machine clock: one monotonic count of machine ticks, and the timers that devices set on it.

A tick is the unit in which the execution core counts work; `ips` ticks make one second of guest
time. Everything that tells the guest the time (TSC, PIT, HPET, local APIC timer, RTC, PM timer) is
a pure function of `now`, computed in integers:

    counts(hz, t)       = floor(t * hz / ips)     full periods of an `hz` oscillator in `t` ticks
    deadline_for(hz, c) = ceil(c * ips / hz)      the first tick at which counts(hz, t) >= c

A device that keeps its positions in counts of its own oscillator since power-on, and converts
only to arm a timer, never drifts. The clock itself never looks at the host's time and advances only
when the scheduler says so.
"""

from collections.abc import Callable, Mapping
from typing import Final

from hv.device import State, Value, check_header, header
from hv.errors import SnapshotError

NEVER: Final = 1 << 62  # a deadline this far away (146 years at 10^9 ticks/s) is not armed


class MachineTimer:
    """A named one-shot alarm; made by `MachineClock.timer`. Its callback may arm it again."""

    __slots__ = ("_armed", "_clock", "callback", "name")

    def __init__(
        self, clock: "MachineClock", armed: dict[str, int], name: str, callback: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._armed = armed
        self.name = name
        self.callback = callback

    @property
    def deadline(self) -> int | None:
        """The tick at which it fires, or None while it is not armed."""
        return self._armed.get(self.name)

    def arm(self, deadline: int) -> None:
        """Fire at machine tick `deadline`, replacing an earlier setting.

        A deadline in the past fires at the next `run_due`; one at or beyond `NEVER` disarms.
        """
        if deadline >= NEVER:
            self.disarm()
            return
        self._armed[self.name] = deadline
        self._clock.forget_next()

    def disarm(self) -> None:
        """Do not fire; harmless when it is not armed."""
        if self._armed.pop(self.name, None) is not None:
            self._clock.forget_next()


class MachineClock:
    """Machine time in ticks at `ips` ticks per second, and the set of armed timers."""

    kind: Final = "clock"
    version: Final = 1

    __slots__ = ("_armed", "_next", "_next_known", "_timers", "ips", "now")

    def __init__(self, ips: int) -> None:
        if ips <= 0:
            raise ValueError("the clock needs a positive number of ticks per second")
        self.ips = ips
        self.now = 0
        self._timers: dict[str, MachineTimer] = {}
        self._armed: dict[str, int] = {}
        self._next: int | None = None
        self._next_known = True

    def advance(self, ticks: int) -> None:
        """Let `ticks` pass. Timers do not fire before `run_due`. Time never goes back (ValueError)."""
        if ticks < 0:
            raise ValueError("machine time cannot go back")
        self.now += ticks

    def timer(self, name: str, callback: Callable[[], None]) -> MachineTimer:
        """A new timer; `name` identifies it in saved states and orders timers due at one tick."""
        if name in self._timers:
            raise ValueError(f"there is already a timer named {name!r}")
        made = MachineTimer(self, self._armed, name, callback)
        self._timers[name] = made
        return made

    def next_deadline(self) -> int | None:
        """The nearest armed deadline in ticks (it may lie in the past), or None."""
        if not self._next_known:
            self._next = min(self._armed.values()) if self._armed else None
            self._next_known = True
        return self._next

    def forget_next(self) -> None:
        """For `MachineTimer`: the set of armed timers changed."""
        self._next_known = False

    def run_due(self) -> None:
        """Fire every timer whose deadline has come, in (deadline, name) order.

        A timer is disarmed before its callback runs. One that a callback arms at or before `now`
        fires in the same call, in its place in the order.
        """
        while True:
            deadline = self.next_deadline()
            if deadline is None or deadline > self.now:
                return
            name = min(name for name, due in self._armed.items() if due == deadline)
            del self._armed[name]
            self._next_known = False
            self._timers[name].callback()

    def counts(self, hz: int, ticks: int) -> int:
        """Full periods of an oscillator of `hz` in `ticks` ticks, rounded down."""
        return ticks * hz // self.ips

    def deadline_for(self, hz: int, count: int) -> int:
        """The first tick at which an oscillator of `hz`, running since tick 0, has counted `count`."""
        return -(-count * self.ips // hz)

    def save(self) -> State:
        """Time, rate and armed deadlines by timer name (sorted)."""
        timers: dict[str, Value] = {name: self._armed[name] for name in sorted(self._armed)}
        return header(self) | {"ips": self.ips, "now": self.now, "timers": timers}

    def load(self, state: Mapping[str, Value]) -> None:
        """Take over time and deadlines; fires nothing. `SnapshotError` if rate or timers do not fit."""
        check_header(self, state)
        now, ips, timers = state.get("now"), state.get("ips"), state.get("timers")
        if ips != self.ips:
            raise SnapshotError(f"it runs at {ips!r} ticks per second, this machine at {self.ips}", self.kind)
        if not isinstance(now, int) or isinstance(now, bool) or now < 0 or not isinstance(timers, dict):
            raise SnapshotError("time or timers are malformed", self.kind)
        armed: dict[str, int] = {}
        for name, deadline in timers.items():
            if name not in self._timers:
                raise SnapshotError(f"there is no timer named {name!r}", self.kind)
            if not isinstance(deadline, int) or isinstance(deadline, bool) or not 0 <= deadline < NEVER:
                raise SnapshotError(f"the deadline of timer {name!r} is malformed", self.kind)
            armed[name] = deadline
        self.now = now
        self._armed.clear()
        self._armed.update(armed)
        self._next_known = False
