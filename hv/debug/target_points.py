"""Breakpoints and watchpoints that a connection sets on the machine."""

from __future__ import annotations

from typing import Final

from gdbstub.errors import UnsupportedError
from gdbstub.target import BreakpointKind, WatchKind
from hv.debug.breakpoints import ExecutionPoint, WatchPoint
from hv.debug.target_base import TargetBase
from hv.engines.base import AddressSpace

_MAX_WATCH: Final = 1 << 32


class TargetPoints(TargetBase):
    """`Breakpoints` and `Watchpoints`. They belong to the connection and go with it."""

    async def set_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        await self._call(lambda: self._control.points.add(self._client.number, point, kind))

    async def clear_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        await self._call(lambda: self._control.points.remove(self._client.number, point, kind))

    async def set_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        if length > _MAX_WATCH:
            raise UnsupportedError("no watchpoint is that long")
        point = WatchPoint(AddressSpace.LINEAR, address, length, kind)
        await self._call(lambda: self._control.points.add(self._client.number, point))

    async def clear_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        point = WatchPoint(AddressSpace.LINEAR, address, length, kind)
        await self._call(lambda: self._control.points.remove(self._client.number, point))
