"""A stop as soon as a Linux kernel that chooses its own address is mapped there."""

from __future__ import annotations

from collections.abc import Callable

from gdbstub.target import Stop
from hv.debug.kernel_search import KERNEL_START
from hv.debug.run_control import RunControl


def stop_when_mapped(control: RunControl, owner: int, stop: Callable[[int], Stop]) -> bool:
    """Have `stop` make the stop of the vCPU that is there first, once. False for a guest that is none.

    The point that this takes belongs to `owner`.
    """
    point = control.symbols.start_point()
    if point is None:
        return False

    def hit(vcpu: int) -> Stop | None:
        if control.vm.vcpus[vcpu].get("linear_pc") < KERNEL_START:
            return None
        control.points.remove(owner, point)
        return stop(vcpu)

    control.points.add(owner, point, on_hit=hit)
    return True
