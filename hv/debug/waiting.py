"""Waiting while no vCPU can run: for the host's clock, for an input, or for somebody's request.

Under `--clock host` machine time follows the host's while the machine is idle. The wait ends at the next
timer, as a jump would, or at an input; then the time that passed is an influence of its own, so that a
replay needs no host clock. A stop by a debugger adds nothing.
"""

from __future__ import annotations

import time

from hv.debug.owner import Owner
from hv.inputs import Advance
from hv.vm import Vm


class IdleWait:
    """The present wait of one machine, if any. Used by its owner only."""

    def __init__(self, vm: Vm, owner: Owner) -> None:
        self._vm = vm
        self._owner = owner
        self._since: tuple[int, float] | None = None

    @property
    def active(self) -> bool:
        """Whether the machine waits: nothing but a timer or an input can make it go on."""
        return self._since is not None

    def clear(self) -> None:
        """The wait is over, or does not count."""
        self._since = None

    def wait(self, deadline: int | None, *, held: bool) -> None:
        """Sleep until machine tick `deadline`, to which time then moves, or until an input or a request.

        `held`: other vCPUs could run but may not, so that the passing of time is an influence.
        """
        clock = self._vm.clock
        if self._since is None or self._since[0] != clock.now:
            self._since = (clock.now, time.monotonic())
        timeout_s = None
        if deadline is not None:
            passed_s = time.monotonic() - self._since[1]
            timeout_s = max((deadline - clock.now) / clock.ips - passed_s, 0.0)
        if self._owner.wait(timeout_s) or deadline is None:
            return
        ticks = deadline - clock.now
        if held:
            self._vm.door.submit(Advance(ticks))
        else:
            self._vm.scheduler.advance(ticks)

    def end_by_input(self) -> None:
        """An input arrives: the time waited so far passes first."""
        if self._since is None:
            return
        tick, since = self._since
        clock = self._vm.clock
        elapsed = int((time.monotonic() - since) * clock.ips)
        deadline = clock.next_deadline()
        if deadline is not None:
            elapsed = min(elapsed, deadline - tick)
        self._since = None
        if elapsed > 0:
            self._vm.door.submit(Advance(elapsed))
