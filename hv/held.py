"""Device access of a tick in which machine time stands still (`hv.scheduler.Scheduler.hold_tick`).

Devices see the time at which the tick began, however many accesses it makes, and none costs anything.
"""

from __future__ import annotations

from hv.access import Board, DeviceAccess


class HeldAccess:
    """The engine's `Access` for such a tick. `access` says whether the scheduler is wanted."""

    def __init__(self, board: Board, access: DeviceAccess) -> None:
        self._board = board
        self._access = access
        self._vcpu = 0
        self.until = 0

    def begin(self, vcpu: int, end: int) -> None:
        """`vcpu` runs to its own tick `end`."""
        self._vcpu = self._access.vcpu = vcpu
        self.until = end

    def _look(self) -> None:
        deadline = self._board.clock.next_deadline()
        if self._access.attention or (deadline is not None and deadline <= self._board.clock.now):
            self.until = 0

    def read_port(self, ticks: int, port: int, size: int) -> int:
        """See `hv.engines.base.Access`."""
        value = self._access.ports.read(port, size)
        self._look()
        return value

    def write_port(self, ticks: int, port: int, size: int, value: int) -> None:
        """See `hv.engines.base.Access`."""
        self._access.ports.write(port, size, value)
        self._look()

    def read_mmio(self, ticks: int, gpa: int, size: int) -> int:
        """See `hv.engines.base.Access`."""
        value = self._access.mmio.read(gpa, size, self._vcpu)
        self._look()
        return value

    def write_mmio(self, ticks: int, gpa: int, size: int, value: int) -> None:
        """See `hv.engines.base.Access`."""
        self._access.mmio.write(gpa, size, value, self._vcpu)
        self._look()

    def read_msr(self, ticks: int, msr: int) -> int | None:
        """See `hv.engines.base.Access`."""
        value = self._access.msrs.read_msr(self._vcpu, msr)
        self._look()
        return value

    def write_msr(self, ticks: int, msr: int, value: int) -> bool:
        """See `hv.engines.base.Access`."""
        accepted = self._access.msrs.write_msr(self._vcpu, msr, value)
        self._look()
        return accepted
