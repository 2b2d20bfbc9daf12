"""Non-stop mode of one connection: notifications of the threads that stop, one at a time. trio."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable

import trio

from gdbstub.capabilities import NonStop
from gdbstub.context import Context
from gdbstub.errors import TargetError
from gdbstub.handle_query import event_reply
from gdbstub.replies import Error, Ok
from gdbstub.session import NonStopState, State
from gdbstub.signals import Signal
from gdbstub.target import Event, Stop, StopReason

Body = Callable[[], Awaitable[None]]


class NonStopMode:
    """Switches the mode, and while it is on collects the target's stops.

    `with_lock` runs a body while nobody else answers and sends what there is to say then; `start` starts a
    task of the connection.
    """

    def __init__(
        self, context: Context, with_lock: Callable[[Body], Awaitable[None]], start: Callable[[Body], None]
    ) -> None:
        self._context = context
        self._session = context.session
        self._with_lock = with_lock
        self._start = start
        self._collect_scope: trio.CancelScope | None = None
        self._end: Event | None = None  # came while a job worked

    async def change(self, non_stop: bool) -> None:
        """``QNonStop``, and its reply."""
        capability, session = self._context.capabilities.non_stop, self._session
        if capability is None or non_stop == (session.non_stop is not None):
            session.send(Ok())
            return
        self.leave()
        try:
            await capability.set_non_stop(non_stop)
        except TargetError as error:
            session.send(Error(error.number, str(error)))
            return
        if non_stop:
            threads = await self._context.target.threads()
            standing = {info.id: Stop(StopReason.ATTACHED, info.id, Signal.NONE) for info in threads}
            if isinstance(session.last_event, Stop):
                standing[session.last_event.thread] = session.last_event
            session.non_stop = NonStopState(standing)
            session.last_plan = None  # it was one for all threads together
            self._collect_scope = trio.CancelScope()
            self._start(functools.partial(self._collect, capability, self._collect_scope))
        session.send(Ok())

    def leave(self) -> None:
        """The mode is off, at once and without a word."""
        self._session.non_stop = None
        if self._collect_scope is not None:
            self._collect_scope.cancel()
            self._collect_scope = None
        self._end = None

    async def job_done(self) -> None:
        """The session is idle again: tell what had to wait for that. Called with the lock."""
        end, self._end = self._end, None
        if end is not None:
            await self._announce(end)

    async def _collect(self, capability: NonStop, scope: trio.CancelScope) -> None:
        """Tell the client of each thread that stops, one notification at a time."""
        with scope:
            while True:
                event = await capability.next_stop()
                await self._with_lock(functools.partial(self._announce, event))
                if not isinstance(event, Stop):
                    return

    async def _announce(self, event: Event) -> None:
        session, state = self._session, self._session.non_stop
        if state is None or session.state not in (State.IDLE, State.BUSY):
            return
        if session.state is State.BUSY and not isinstance(event, Stop):
            self._end = event  # the job's reply comes before the end of the session's life
            return
        # A notification comes whenever it wants to: also before the reply of a job.
        if isinstance(event, Stop):
            if event.reason is StopReason.INTERRUPT and event.thread in state.halted:
                event = dataclasses.replace(event, signal=Signal.NONE)
            state.halted.discard(event.thread)
            state.stops[event.thread] = event
        else:
            session.stopped(event)
        state.queue.append(event)
        if not state.told:
            state.told = True
            session.notify(await event_reply(self._context, state.queue[0]))
