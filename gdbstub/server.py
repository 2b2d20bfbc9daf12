"""The server: moves bytes between streams, sessions and targets. trio lives here, in `listen` and `client`.

Each connection has its own target object, session and nursery. A bug in one session is logged and ends
that session only. Slow readers hold up nobody else: a connection takes no new bytes while its replies
wait to be sent.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from gdbstub.addresses import Address, StdioAddress, is_local
from gdbstub.context import Capabilities, Close, Context, Job, Outcome, Resume
from gdbstub.errors import ProtocolError, StubError, TargetError
from gdbstub.handle_run import report
from gdbstub.handlers import dispatch
from gdbstub.listen import SocketTransport, listening, peer_allowed, peer_name, stdio_stream
from gdbstub.replies import Error, Reply
from gdbstub.requests import Request
from gdbstub.session import Interrupted, Malformed, Session, State, Step
from gdbstub.target import Client, Detach, Event, Target

OpenTarget = Callable[[Client], Target]

MAX_CONNECTIONS = 64
"""Connections at a time; more are closed at once."""
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
        self._context = Context(
            session, target, Capabilities.of(target), trio.lowlevel.checkpoint, self._console
        )
        self._log = logging.getLogger("gdbstub.server")
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._job_scope: trio.CancelScope | None = None
        self._flushing = False
        # Whoever holds it takes events from the session, answers them, and sends.
        self._pump_lock = trio.Lock()

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but cancellation."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._guard, self._read)
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
            await self._lock()
            try:
                self._session.receive_data(data)
                await self._pump()
            finally:
                self._pump_lock.release()
        self._end("end of stream")

    async def _lock(self) -> None:
        # The uncontended case spares a pass through the scheduler, which a step would notice.
        try:
            self._pump_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._pump_lock.acquire()

    async def _pump(self) -> None:
        """Answer everything that can be answered now."""
        session = self._session
        while (event := session.next_event()) is not None:
            await self._answer(event)
            if session.output_size > _FLUSH_SIZE:
                await self._stream.send_all(session.take_output())
        if session.output_size:
            await self._stream.send_all(session.take_output())

    async def _answer(self, event: Request | Malformed | Interrupted) -> None:
        if isinstance(event, Interrupted):
            if self._session.state is State.RUNNING:
                self._target.interrupt()
            elif self._job_scope is not None:
                self._job_scope.cancel()
            return
        await self._carry_out(await dispatch(self._context, event))

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
            case reply:
                self._session.send(reply)

    def _console(self, text: str) -> None:
        if self._session.state is not State.CLOSED:
            self._session.say(text)
            if not self._flushing:
                self._flushing = True
                self._start(self._flush)

    async def _flush(self) -> None:
        await self._lock()
        try:
            self._flushing = False
            await self._pump()
        finally:
            self._pump_lock.release()

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
            self._start(self._wait_stop)
        else:
            await self._report(event)

    async def _report(self, event: Event) -> None:
        reply = await report(self._context, event)
        self._session.stopped(event)
        self._session.send(reply)

    async def _wait_stop(self) -> None:
        event = await self._target.wait_stop()
        await self._lock()
        try:
            await self._report(event)
            await self._pump()
        finally:
            self._pump_lock.release()

    async def _run_job(self, job: Job, scope: trio.CancelScope | None) -> None:
        reply: Reply = Error(_EINTR, "interrupted")
        with scope or trio.CancelScope():
            try:
                reply = await job.run()
            except TargetError as error:
                reply = Error(error.number, str(error))
        await self._lock()
        try:
            self._job_scope = None
            self._session.send(reply)
            self._session.advance(Step.JOB_DONE)
            await self._pump()
        finally:
            self._pump_lock.release()

    async def _close(self, close: Close) -> None:
        """Detach first: when the client sees the answer, the target is free for the next one."""
        with trio.CancelScope(shield=True):
            await self._detach(close.detach)
        if close.reply is not None:
            self._session.send(close.reply)
        await self._stream.send_all(self._session.take_output())
        self._end("at the client's request")

    async def _detach(self, how: Detach) -> None:
        state = self._session.state
        self._session.advance(Step.CLOSED)
        if state not in (State.UNATTACHED, State.CLOSED):
            await self._target.detach(how)


async def serve_stream(
    open_target: OpenTarget, stream: trio.abc.Stream, client: Client, *, run_length: bool = False
) -> None:
    """Serve one connection that exists already, until it ends."""
    log = logging.getLogger("gdbstub.server")
    log.info("%s: connected", client.name)
    try:
        connection = Connection(open_target(client), stream, client, Session(run_length=run_length))
    except Exception:
        log.exception("%s: no target for this connection", client.name)
        await trio.aclose_forcefully(stream)
        return
    await connection.run()


async def serve(
    open_target: OpenTarget,
    addresses: Sequence[Address],
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on all `addresses` until cancelled, or until the client on standard input leaves.

    `open_target` is called for each connection and gives its target. `task_status` gets the names of the
    bound addresses (a port 0 shows the port chosen). Raises OSError when an address cannot be bound.
    """
    numbers = itertools.count(1)
    limit = trio.CapacityLimiter(MAX_CONNECTIONS)
    log = logging.getLogger("gdbstub.server")

    async def accept(stream: trio.SocketStream) -> None:
        # A client whose machine went away without a word does not keep the target for ever.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = Client(peer_name(stream), next(numbers))
        if not peer_allowed(stream):
            log.warning("%s: refused: another user", client.name)
        elif limit.available_tokens < 1:
            log.warning("%s: refused: %d connections already", client.name, MAX_CONNECTIONS)
        else:
            async with limit:
                await serve_stream(open_target, SocketTransport.of(stream), client)
                return
        await trio.aclose_forcefully(stream)

    async with listening(addresses) as (listeners, names), trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(trio.serve_listeners, accept, [listener])
        for name in names:
            if not is_local(name):
                log.warning("%s: anybody who reaches this address controls the target", name)
        task_status.started(names)
        if any(isinstance(address, StdioAddress) for address in addresses):
            await serve_stream(open_target, stdio_stream(), Client("stdio", next(numbers)))
            nursery.cancel_scope.cancel()
        elif listeners:
            await trio.sleep_forever()
