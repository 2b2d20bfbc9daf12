"""What a handler works with, and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gdbstub.capabilities import Capabilities, Shared
from gdbstub.errors import TargetGoneError, ThreadNotFoundError
from gdbstub.fields import ALL_THREADS, ANY_THREAD
from gdbstub.replies import Reply
from gdbstub.session import Session
from gdbstub.target import Detach, ResumePlan, Stop, Target, ThreadInfo


@dataclass(frozen=True, slots=True)
class Context:
    """One connection's view for the handlers. `pause` gives other tasks a turn and may be cancelled there;
    long work calls it every few milliseconds. `console` shows text while a plan runs,
    `name` is the client's, and `give_up` is called when another client takes control."""

    session: Session
    target: Target
    capabilities: Capabilities
    pause: Callable[[], Awaitable[None]]
    console: Callable[[str], None]
    name: str = "a client"
    give_up: Callable[[], Awaitable[None]] | None = None

    async def attach(self) -> None:
        """Attach the target: in control, or looking on where another controls it."""
        shared, give_up = self.capabilities.shared, self.give_up
        if shared is None or give_up is None:
            self.session.attached(await self.target.attach())
        else:
            await self._attach_shared(shared, give_up)
        if self.capabilities.text_output is not None:
            self.capabilities.text_output.set_console(self.console)

    async def _attach_shared(self, shared: Shared, give_up: Callable[[], Awaitable[None]]) -> None:
        seat = shared.lease.join(self.name, give_up)
        attached = False
        try:
            self.session.looks_on = not seat.controls
            stop = await (self.target.attach() if seat.controls else shared.look_on())
            self.session.seat = seat
            self.session.attached(stop)
            attached = True
        finally:
            if not attached:
                seat.leave()

    def general_thread(self, named: int = ANY_THREAD) -> int:
        """The thread that `g`, `m` and their like mean: the one they name, or else that of `Hg`."""
        return self._chosen(self.session.selected_general if named == ANY_THREAD else named)

    async def named_thread(self, named: int) -> int:
        """As `general_thread`, of a thread that exists. Raises ThreadNotFoundError."""
        thread = self.general_thread(named)
        if named not in (ANY_THREAD, ALL_THREADS):
            await self.core_of(thread)
        return thread

    def continue_thread(self) -> int:
        """The thread that a resume without a thread means."""
        return self._chosen(self.session.selected_continue)

    def _chosen(self, selected: int) -> int:
        if selected not in (ANY_THREAD, ALL_THREADS):
            return selected
        event = self.session.last_event
        if not isinstance(event, Stop):
            raise TargetGoneError("the target has ended")
        return event.thread

    async def core_of(self, thread: int) -> int | None:
        """The processor number of `thread`, asked for once. Raises ThreadNotFoundError."""
        cores = self.session.cores
        if thread not in cores:
            cores[thread] = (await self.thread_info(thread)).core
        return cores[thread]

    async def thread_info(self, thread: int) -> ThreadInfo:
        """The row of `thread`. Raises ThreadNotFoundError."""
        for info in await self.target.threads():
            if info.id == thread:
                return info
        raise ThreadNotFoundError(thread)


@dataclass(frozen=True, slots=True)
class Resume:
    """Outcome: run `plan`; the reply is the stop."""

    plan: ResumePlan


@dataclass(frozen=True, slots=True)
class Job:
    """Outcome: work that may take long. Awaiting `run` gives the reply. The client's interrupt cancels it."""

    run: Callable[[], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Close:
    """Outcome: send `reply`, if any, detach in the way of `detach`, and close the connection."""

    reply: Reply | None
    detach: Detach


@dataclass(frozen=True, slots=True)
class Leave:
    """Outcome: send `reply`, if any, detach, and keep the connection for another process."""

    reply: Reply | None
    detach: Detach


@dataclass(frozen=True, slots=True)
class ChangeMode:
    """Outcome: enter or leave non-stop mode."""

    non_stop: bool


@dataclass(frozen=True, slots=True)
class Follow:
    """Outcome: wait for the end of a plan that another client has started; the reply is its stop."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Outcome: done, and nothing answers it."""


Outcome = Reply | Resume | Job | Close | Leave | ChangeMode | Follow | Silent
