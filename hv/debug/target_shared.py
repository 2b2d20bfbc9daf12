"""Attaching, resuming and leaving, for several debuggers at once: one controls, the others look on.

Who controls is `gdbstub.lease`'s business; here is what it means for the machine. The first to attach stops
it. Control moves only while the machine stands, and what belongs to a connection (breakpoints, watchpoints,
policies) ends with its control, however that ends. When the last debugger leaves, the machine goes on if it
ran before the debuggers came or one of them has continued it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from gdbstub.errors import TargetError
from gdbstub.lease import Lease, Seat
from gdbstub.target import Client, Detach, Event, ResumePlan, StepPolicy, Stop, StopReason
from hv.debug.run_control import RunControl
from hv.debug.target_base import TargetBase
from hv.errors import HvError


class MachineLease(Lease):
    """The lease of one machine, and what all who are at it know of its runs. trio only.

    `announce` is told of a stop that no debugger sees.
    """

    def __init__(self, announce: Callable[[str], None] = lambda text: None) -> None:
        super().__init__()
        self._announce = announce
        self.last: Stop | None = None
        """The last stop that was reported to anybody."""
        self.unseen: Stop | None = None
        """A stop of a run that nobody controlled."""
        self.goes_on = False
        """Whether the machine runs on when its debuggers are gone."""
        self._gone = trio.Event()
        self._told: trio.Event | None = None
        self.event: Event | None = None
        """How the last run ended."""

    def remove(self, seat: Seat) -> None:
        """See `gdbstub.lease.Lease`."""
        super().remove(seat)
        if not self.seats:
            self._gone.set()
            self._gone = trio.Event()

    async def wait_free(self) -> None:
        """Wait until nobody is there."""
        while self.seats:
            await self._gone.wait()

    def tell(self, event: Event) -> None:
        """A run has ended with `event`: all who follow it are told."""
        self.event = event
        if isinstance(event, Stop):
            self.last = event
        if self._told is not None:
            self._told.set()
            self._told = None

    def tell_all(self, event: Event) -> None:
        """As `tell`, of a run that nobody controls: whoever takes control next is shown how it ended."""
        if isinstance(event, Stop) and event.reason is not StopReason.INTERRUPT:
            self.unseen = event
            if not self.seats and event.text:
                self._announce(f"{event.text}; the machine waits for a debugger")
        self.tell(event)

    async def told(self) -> Event:
        """Wait for the end of the present run."""
        if self._told is None:
            self._told = trio.Event()
        await self._told.wait()
        if self.event is None:
            raise TargetError("nothing has run")
        return self.event


class TargetShared(TargetBase):
    """`Target`'s control of the run, and `Shared`."""

    def __init__(self, control: RunControl, lease: MachineLease, client: Client) -> None:
        super().__init__(control, client)
        self._lease = lease
        self._in_control = False
        self._token = trio.lowlevel.current_trio_token()
        self._send, self._receive = trio.open_memory_channel[Event](16)

    # --- coming --------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """See `gdbstub.capabilities.Shared`."""
        return self._lease

    async def attach(self) -> Stop:
        """See `gdbstub.target.Target`."""
        self._lease.goes_on = self._control.running
        return await self._stop_it()

    async def take_control(self) -> Stop:
        """See `gdbstub.capabilities.Shared`."""
        self._lease.goes_on |= self._control.running
        return await self._stop_it()

    async def look_on(self) -> Stop:
        """See `gdbstub.capabilities.Shared`."""
        last = self._lease.last
        thread = self._vm.scheduler.current + 1 if last is None else last.thread
        return Stop(StopReason.ATTACHED, thread)

    async def _stop_it(self) -> Stop:
        self._in_control = True
        # Who is cancelled here must not leave the stop of the run to a later one.
        with trio.CancelScope(shield=True):
            if self._control.stop_free_run(self._deliver):
                event = await self.wait_stop()
                if isinstance(event, Stop) and event.reason is not StopReason.INTERRUPT:
                    return event
            else:
                await self._events_told()
        unseen, self._lease.unseen = self._lease.unseen, None
        return unseen or Stop(StopReason.ATTACHED, self._vm.scheduler.current + 1)

    async def _events_told(self) -> None:
        """Wait until the event of a run that has just ended, if one has, is told."""
        told = trio.Event()
        self._token.run_sync_soon(told.set)  # those from the machine thread are before it in the queue
        await told.wait()

    # --- leaving -------------------------------------------------------------------------------------

    async def give_up_control(self) -> None:
        """See `gdbstub.capabilities.Shared`."""
        self._in_control = False
        await self._call(self._drop)

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        control = self._control
        if self._in_control:
            self._in_control = False
            control.interrupt()
            await self._call(self._drop)
            if control.running:
                await self.wait_stop()
            self._lease.goes_on = how is Detach.RESUME or (how is Detach.LOST and self._lease.goes_on)
        elif len(self._lease.seats) > 1:
            return
        # Those who still look on, by now, want to see how the machine ends.
        control.debugged = len(self._lease.seats) > 1
        if self._lease.goes_on and not control.running and control.ending is None:
            control.run_freely(self._ran_freely)

    def _drop(self) -> None:
        self._control.points.remove_owner(self._client.number)
        self._control.point_hits.consoles.pop(self._client.number, None)
        self._control.forget_events()
        self._control.steps.policy = StepPolicy.ENABLE | StepPolicy.NOIRQ
        super()._drop()

    # --- running -------------------------------------------------------------------------------------

    async def resume(self, plan: ResumePlan) -> Event | None:
        """See `gdbstub.target.Target`."""
        self._lease.goes_on = True
        try:
            event = self._control.resume(plan, self._deliver)
        except HvError as error:
            raise TargetError(str(error)) from None
        if event is not None:
            self._lease.tell(event)
        return event

    async def wait_stop(self) -> Event:
        """See `gdbstub.target.Target`."""
        return await self._receive.receive()

    def _deliver(self, event: Event) -> None:
        self._token.run_sync_soon(self._delivered, event)

    def _delivered(self, event: Event) -> None:
        self._lease.tell(event)
        self._send.send_nowait(event)

    def _ran_freely(self, event: Event) -> None:
        self._token.run_sync_soon(self._lease.tell_all, event)

    def interrupt(self) -> None:
        """See `gdbstub.target.Target`."""
        self._control.interrupt()

    def runs(self) -> bool:
        """See `gdbstub.capabilities.Shared`."""
        return self._control.running

    async def follow(self) -> Event:
        """See `gdbstub.capabilities.Shared`."""
        if not self._control.running:
            await self._events_told()
            if self._lease.event is not None:
                return self._lease.event
        return await self._lease.told()
