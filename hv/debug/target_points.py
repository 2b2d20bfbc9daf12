"""Breakpoints and watchpoints that a connection sets on the machine, with their conditions and commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from gdbstub.errors import UnsupportedError
from gdbstub.predicate import Program
from gdbstub.target import BreakpointKind, WatchKind
from hv.debug.breakpoints import ExecutionPoint, Point, WatchPoint
from hv.debug.point_hits import console_in_thread
from hv.debug.target_base import TargetBase
from hv.engines.base import AddressSpace

_MAX_WATCH: Final = 1 << 32


def _watchpoint(kind: WatchKind, address: int, length: int) -> WatchPoint:
    if length > _MAX_WATCH:
        raise UnsupportedError("no watchpoint is that long")
    return WatchPoint(AddressSpace.LINEAR, address, length, kind)


class TargetPoints(TargetBase):
    """`Breakpoints`, `Watchpoints`, `Conditions`, `TextOutput`. Points go with their connection."""

    async def set_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        await self._add(ExecutionPoint(AddressSpace.LINEAR, address), kind)

    async def clear_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        await self._remove(ExecutionPoint(AddressSpace.LINEAR, address), kind)

    async def set_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        await self._add(_watchpoint(kind, address, length))

    async def clear_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        await self._remove(_watchpoint(kind, address, length))

    async def _add(self, point: Point, kind: BreakpointKind | None = None) -> None:
        await self._call(lambda: self._control.points.add(self._client.number, point, kind))

    async def _remove(self, point: Point, kind: BreakpointKind | None = None) -> None:
        await self._call(lambda: self._control.points.remove(self._client.number, point, kind))

    async def set_conditions(
        self,
        kind: BreakpointKind | WatchKind,
        address: int,
        size: int,
        conditions: Sequence[Program],
        commands: Sequence[Program],
        persist: bool,
    ) -> None:
        """See `gdbstub.target.Conditions`."""
        points, owner = self._control.points, self._client.number
        if isinstance(kind, BreakpointKind):
            place = ExecutionPoint(AddressSpace.LINEAR, address)
            await self._call(lambda: points.program(owner, place, kind, conditions, commands))
        else:
            watch = _watchpoint(kind, address, size)
            await self._call(lambda: points.program(owner, watch, None, conditions, commands))

    def set_console(self, write: Callable[[str], None]) -> None:
        """See `gdbstub.target.TextOutput`."""
        token = trio.lowlevel.current_trio_token()
        self._control.point_hits.consoles[self._client.number] = console_in_thread(write, token.run_sync_soon)
