"""Ticks that were begun and not done: what a stop before an instruction leaves behind, and the log must know.

A breakpoint stops a vCPU when its instruction has been fetched, an intercepted exception when the instruction
or the delivery of an event has been tried. The fetch and the try may have filled the TLB, set accessed bits
and read a device. Who goes on from there does it again and nobody sees a difference. But if the guest is
changed first, or another vCPU runs, then a replay would come to the change without having begun the tick: so
a `BegunTick` goes into the log before the change, and with it the delivery of what was intercepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from hv.engines.base import EngineCpu
from hv.exits import Bpt, BptSource, ExceptionExit, Unhandled, Unimplemented
from hv.inputs import BegunTick, InjectEvent, RegisterWrite

Begun: TypeAlias = BegunTick | InjectEvent | RegisterWrite


class BegunTicks:
    """The begun ticks of one machine that are not in its log."""

    def __init__(self, cpus: Sequence[EngineCpu]) -> None:
        self._cpus = cpus
        self._items: list[tuple[int, Begun]] = []
        self._passing: set[int] = set()

    def pass_exception(self, vcpu: int) -> None:
        """Let the next entry of `vcpu` pass over the exception that the event in flight led to."""
        self._cpus[vcpu].control.pass_exception = 1
        self._passing.add(vcpu)

    def note(self, vcpu: int, left: Bpt | ExceptionExit | Unhandled | Unimplemented, began: int) -> None:
        """`vcpu` has left the engine with `left`, within the tick that began at machine tick `began`."""
        control = self._cpus[vcpu].control
        fetched = isinstance(left, Bpt) and left.source is BptSource.SET
        passing = vcpu in self._passing
        self._passing.discard(vcpu)
        item = BegunTick(vcpu, fetched, control.exception_exit, bool(control.bpt_exit), passing)
        if passing or (began, item) not in self._items[-1:]:  # beyond one exception there may be the next
            self.add(began, item)

    def add(self, tick: int, item: Begun) -> None:
        """`item` happens at machine tick `tick`, and will again by itself if nothing comes before its end."""
        self._items.append((tick, item))

    def holds(self, vcpu: int) -> bool:
        """Whether `vcpu` has begun a tick that the log does not know of."""
        return any(item.vcpu == vcpu for _, item in self._items)

    def ended(self, vcpu: int) -> None:
        """`vcpu` has done a tick."""
        self._passing.discard(vcpu)
        if self._items:
            self._items = [(tick, item) for tick, item in self._items if item.vcpu != vcpu]

    def take(self) -> list[tuple[int, Begun]]:
        """What is to be logged, each with its machine tick; it is known then."""
        items, self._items = self._items, []
        return items
