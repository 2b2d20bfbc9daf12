"""Listening to the device accesses of the vCPUs, for a debugger's catches.

While somebody listens, proxies stand before the buses (`DeviceAccess.tap`); otherwise nothing is in the
way. An access that was asked for makes the vCPU leave after its instruction; the guest does not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hv.bus import MmioBus, PortBus
from hv.exits import Touched

Wanted = Callable[[Touched], bool]


class Ports(Protocol):
    """What the vCPUs see of the port bus."""

    def read(self, port: int, size: int) -> int:
        """See `hv.bus.PortBus`."""
        ...

    def write(self, port: int, size: int, value: int) -> None:
        """See `hv.bus.PortBus`."""
        ...


class Mmio(Protocol):
    """What the vCPUs see of the memory-mapped devices."""

    def read(self, gpa: int, size: int, vcpu: int) -> int:
        """See `hv.bus.MmioBus`."""
        ...

    def write(self, gpa: int, size: int, value: int, vcpu: int) -> None:
        """See `hv.bus.MmioBus`."""
        ...


class Msrs(Protocol):
    """What the vCPUs see of the board's MSRs."""

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        """See `hv.access.Board`."""
        ...

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        """See `hv.access.Board`."""
        ...


class PortTap:
    """The port bus with somebody listening."""

    def __init__(self, bus: PortBus, note: Callable[[Touched], None]) -> None:
        self._bus = bus
        self._note = note

    def read(self, port: int, size: int) -> int:
        """See `Ports`."""
        value = self._bus.read(port, size)
        self._note(Touched("port", port, size, False, value, self._bus.owner(port) is not None))
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """See `Ports`."""
        owned = self._bus.owner(port) is not None  # asked first: the write may move the device
        self._bus.write(port, size, value)
        self._note(Touched("port", port, size, True, value, owned))


class MmioTap:
    """The memory-mapped devices with somebody listening."""

    def __init__(self, bus: MmioBus, note: Callable[[Touched], None]) -> None:
        self._bus = bus
        self._note = note

    def read(self, gpa: int, size: int, vcpu: int) -> int:
        """See `Mmio`."""
        value = self._bus.read(gpa, size, vcpu)
        self._note(Touched("mmio", gpa, size, False, value, self._bus.find(gpa, vcpu) is not None))
        return value

    def write(self, gpa: int, size: int, value: int, vcpu: int) -> None:
        """See `Mmio`."""
        owned = self._bus.find(gpa, vcpu) is not None
        self._bus.write(gpa, size, value, vcpu)
        self._note(Touched("mmio", gpa, size, True, value, owned))


class MsrTap:
    """The board's MSRs with somebody listening: to those that it refuses; the others the engine tells."""

    def __init__(self, board: Msrs, note: Callable[[Touched], None]) -> None:
        self._board = board
        self._note = note

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        """See `Msrs`."""
        value = self._board.read_msr(vcpu, msr)
        if value is None:
            self._note(Touched("msr", msr, 8, False, None, False))
        return value

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        """See `Msrs`."""
        accepted = self._board.write_msr(vcpu, msr, value)
        if not accepted:
            self._note(Touched("msr", msr, 8, True, None, False))
        return accepted
