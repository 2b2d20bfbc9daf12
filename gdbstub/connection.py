"""One client's connection: moves bytes between its stream, its session and its target. trio.

A bug in one session is logged and ends that session only. Slow readers hold up nobody else: a connection
takes no new bytes while its replies wait to be sent.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable

import trio

from gdbstub.capabilities import Capabilities
from gdbstub.context import ChangeMode, Close, Context, Follow, Job, Leave, Outcome, Resume, Silent
from gdbstub.errors import ProtocolError, StubError, TargetError
from gdbstub.handle_query import event_reply
from gdbstub.handle_run import report
from gdbstub.handlers import dispatch
from gdbstub.nonstop import NonStopMode
from gdbstub.outbox import Outbox, acquire
from gdbstub.replies import Error, Reply
from gdbstub.requests import Request
from gdbstub.session import Interrupted, Malformed, Session, State, Step
from gdbstub.target import Client, Detach, Event, Stop, StopReason, Target

_READ_SIZE = 1 << 16
_FLUSH_SIZE = 1 << 16
_EINTR = 4


class Connection:
    """One client on one stream. `run` returns when the connection is over and the target detached."""

    def __init__(self, target: Target, stream: trio.abc.Stream, client: Client, session: Session) -> None:
        self._target = target
        self._stream = stream
        self._client = client
        self._session = session
        self._outbox = Outbox(stream, session)
        self._context = Context(
            session=session,
            target=target,
            capabilities=Capabilities.of(target),
            pause=trio.lowlevel.checkpoint,
            console=self._outbox.say,
            name=client.name,
            give_up=self._give_up,
        )
        self._log = logging.getLogger("gdbstub.server")
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._job_scope: trio.CancelScope | None = None
        self._follow_scope: trio.CancelScope | None = None
        self._stood = trio.Event()
        self._untold: Event | None = None
        self._gone = trio.Event()
        # Whoever holds it takes events from the session and answers them.
        self._pump_lock = trio.Lock()
        self._non_stop = NonStopMode(self._context, self._with_lock, self._start)

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but cancellation."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._guard, self._read)
                    nursery.start_soon(self._guard, self._outbox.patience.run)
                    nursery.start_soon(self._guard, self._outbox.flush)
        finally:
            with trio.CancelScope(shield=True):
                await self._guard(lambda: self._detach(Detach.LOST))
            await trio.aclose_forcefully(self._stream)

    async def _guard(self, body: Callable[[], Awaitable[None]]) -> None:
        """Run one task of the connection; whatever it ends with concerns this connection only."""
        try:
            await body()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end("connection broken")
        except ProtocolError as error:
            self._end(str(error))
        except Exception:  # noqa: BLE001  (a bug in one session ends that session, not the others)
            self._log.exception("%s: internal error, session ended", self._client.name)
            self._end("internal error")

    def _end(self, why: str) -> None:
        self._log.info("%s: closed: %s", self._client.name, why)
        self._scope.cancel()

    async def _read(self) -> None:
        while data := await self._stream.receive_some(_READ_SIZE):
            await self._with_lock(functools.partial(self._receive, data))
        self._end("end of stream")

    async def _receive(self, data: bytes | bytearray) -> None:
        self._session.receive_data(data)

    async def _with_lock(self, body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` while nobody else answers, answer what there is to answer, and send it all."""
        more = True
        while more:
            await acquire(self._pump_lock)
            try:
                await body()
                more = await self._pump()
            finally:
                self._pump_lock.release()
            await self._outbox.send()
            body = trio.lowlevel.checkpoint  # that one is done

    async def _pump(self) -> bool:
        """Answer everything that can be answered now; true when so much is to be sent that the rest waits."""
        session = self._session
        while (event := session.next_event()) is not None:
            await self._answer(event)
            if session.output_size > _FLUSH_SIZE:
                return True
        return False

    async def _answer(self, event: Request | Malformed | Interrupted) -> None:
        if isinstance(event, Interrupted):
            if self._follow_scope is not None:
                self._follow_scope.cancel()
            elif self._session.state is State.RUNNING:
                self._target.interrupt()
            elif self._job_scope is not None:
                self._job_scope.cancel()
            return
        self._outbox.patience.begun()
        await self._carry_out(await dispatch(self._context, event))
        self._outbox.patience.done()

    async def _carry_out(self, outcome: Outcome) -> None:
        match outcome:
            case Resume():
                await self._resume(outcome)
            case Job():
                self._session.advance(Step.JOB_STARTED)
                self._job_scope = trio.CancelScope()
                self._start(lambda: self._run_job(outcome, self._job_scope))
            case Close():
                await self._close(outcome)
            case Leave():
                await self._leave(outcome)
            case ChangeMode():
                await self._non_stop.change(outcome.non_stop)
            case Follow():
                self._session.advance(Step.RESUMED)
                self._follow_scope = trio.CancelScope()
                self._start(self._follow)
            case Silent():
                pass
            case reply:
                self._session.send(reply)

    def _start(self, body: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is None:
            raise StubError("the connection is not running")
        self._nursery.start_soon(self._guard, body)

    async def _resume(self, resume: Resume) -> None:
        try:
            event = await self._target.resume(resume.plan)
        except TargetError as error:
            self._session.send(Error(error.number, str(error)))
            return
        self._session.advance(Step.RESUMED)
        if event is None:
            self._stood = trio.Event()
            self._start(self._wait_stop)
        else:
            await self._report(event)

    async def _report(self, event: Event) -> None:
        try:
            reply = await report(self._context, event)
        except TargetError:  # so much waits to be sent that there is no room for the sentence
            reply = await event_reply(self._context, event)
        if self._session.state is State.RUNNING:  # the connection may have ended meanwhile
            self._session.stopped(event)
            self._session.send(reply)

    async def _wait_stop(self) -> None:
        self._untold = await self._target.wait_stop()
        self._stood.set()
        await self._with_lock(self._tell_stop)

    async def _tell_stop(self) -> None:
        """Tell the client of the stop, unless it has been told."""
        if self._untold is not None:
            await self._report(self._untold)
            self._untold = None

    async def _follow(self) -> None:
        """Wait for the stop of a plan that another client has started, or until this one has enough."""
        shared, last = self._context.capabilities.shared, self._session.last_event
        if shared is None or self._follow_scope is None:
            raise StubError("nothing to follow")
        thread = last.thread if isinstance(last, Stop) else 1
        event: Event = Stop(StopReason.INTERRUPT, thread, text="the target runs on: another controls it")
        with self._follow_scope:
            event = await shared.follow()
        await self._with_lock(functools.partial(self._followed, event))

    async def _followed(self, event: Event) -> None:
        self._follow_scope = None
        await self._report(event)

    async def _give_up(self) -> None:
        """Another client takes control: the target stops here first, and this client is told so.

        Nothing is answered meanwhile: a packet that waits could set the target going again. `Lease.move`
        gives nobody a turn between the end of this and the change of the holder: those packets come later.
        """
        await acquire(self._pump_lock)
        try:
            await self._stand_back()
        finally:
            self._pump_lock.release()

    async def _stand_back(self) -> None:
        session, shared = self._session, self._context.capabilities.shared
        if session.non_stop is not None or session.state is State.BUSY:
            raise TargetError(f"{self._client.name} cannot give control away now")
        if session.looks_on:  # control has passed here, and nothing was done with it: a run is another's
            return
        if session.state is State.RUNNING:
            self._target.interrupt()
            await self._stood.wait()
            await self._tell_stop()
        if session.state is State.CLOSED:
            await self._gone.wait()
        elif session.state is State.IDLE and shared is not None:
            await shared.give_up_control()
            session.looks_on = True

    async def _leave(self, leave: Leave) -> None:
        """Detach and stay connected, for `vAttach` or `vRun`."""
        with trio.CancelScope(shield=True):
            await self._release(leave.detach)
        self._session.advance(Step.LEFT)
        if leave.reply is not None:
            self._session.send(leave.reply)

    async def _run_job(self, job: Job, scope: trio.CancelScope | None) -> None:
        reply: Reply = Error(_EINTR, "interrupted")
        with scope or trio.CancelScope():
            try:
                reply = await job.run()
            except TargetError as error:
                reply = Error(error.number, str(error))
        await self._with_lock(functools.partial(self._job_done, reply))

    async def _job_done(self, reply: Reply) -> None:
        self._job_scope = None
        self._session.send(reply)
        self._session.advance(Step.JOB_DONE)
        await self._non_stop.job_done()

    async def _close(self, close: Close) -> None:
        """Detach first: when the client sees the answer, the target is free for the next one."""
        with trio.CancelScope(shield=True):
            await self._detach(close.detach)
        if close.reply is not None:
            self._session.send(close.reply)
        self._start(self._send_last)

    async def _send_last(self) -> None:
        await self._outbox.send()
        self._end("at the client's request")

    async def _detach(self, how: Detach) -> None:
        state = self._session.state
        self._session.advance(Step.CLOSED)
        try:
            if state not in (State.UNATTACHED, State.DETACHED, State.CLOSED):
                await self._release(how)
        finally:
            # Not before: who takes control must not have it while this one still has to do with the target.
            self._gone.set()
            self._stood.set()

    async def _release(self, how: Detach) -> None:
        """Give the target back, and then control, in this order."""
        self._non_stop.leave()
        self._session.files.clear()
        self._session.traced.clear()
        try:
            await self._target.detach(how)
        finally:
            if self._session.seat is not None:
                self._session.seat.leave()
                self._session.seat = None
