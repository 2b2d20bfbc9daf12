"""Threads that run and stop one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio

from gdbstub.errors import TargetError
from gdbstub.target import Client, Detach, Event, ResumePlan
from hv.debug.nonstop import NonStopRun
from hv.debug.run_control import RunControl
from hv.debug.target_base import result_of
from hv.debug.target_shared import MachineLease, TargetShared


class TargetNonStop(TargetShared):
    """`NonStop`, for a client that is alone at the machine when it enters the mode."""

    def __init__(self, control: RunControl, lease: MachineLease, client: Client) -> None:
        super().__init__(control, lease, client)
        self._non_stop: NonStopRun | None = None
        self._stops, self._stopped = trio.open_memory_channel[Event](math.inf)

    async def set_non_stop(self, on: bool) -> None:
        """See `gdbstub.capabilities.NonStop`."""
        if on == (self._non_stop is not None):
            return
        if not on:
            await self._leave_non_stop()
            return
        if len(self._lease.seats) > 1:
            raise TargetError("others are connected")
        self._stops, self._stopped = trio.open_memory_channel[Event](math.inf)
        self._non_stop = NonStopRun(self._control, self._tell)

    async def _leave_non_stop(self) -> None:
        run, self._non_stop = self._non_stop, None
        if run is not None:
            await self._call(run.halt_all)
            if run.stands is not None:
                await result_of(run.stands)

    def _tell(self, event: Event) -> None:
        self._token.run_sync_soon(self._told, self._stops, event)

    def _told(self, stops: trio.MemorySendChannel[Event], event: Event) -> None:
        self._lease.tell(event)
        stops.send_nowait(event)

    def _running(self) -> NonStopRun:
        if self._non_stop is None:
            raise TargetError("not in non-stop mode")
        return self._non_stop

    async def start(self, plan: ResumePlan) -> None:
        """See `gdbstub.capabilities.NonStop`."""
        run = self._running()
        self._lease.goes_on = True
        await self._call(lambda: run.start(plan))
        run.go()

    async def halt(self, threads: Sequence[int]) -> None:
        """See `gdbstub.capabilities.NonStop`."""
        run = self._running()
        await self._call(lambda: run.halt(threads))

    async def next_stop(self) -> Event:
        """See `gdbstub.capabilities.NonStop`."""
        return await self._stopped.receive()

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        await self._leave_non_stop()
        await super().detach(how)
