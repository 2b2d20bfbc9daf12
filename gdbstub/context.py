"""What a handler works with, and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gdbstub.errors import TargetGoneError, ThreadNotFoundError
from gdbstub.replies import Reply
from gdbstub.requests import ALL_THREADS, ANY_THREAD
from gdbstub.session import Session
from gdbstub.target import (
    Breakpoints,
    Conditions,
    Detach,
    Killable,
    Monitor,
    Offsets,
    PhysicalMemory,
    RangeStepping,
    ResumePlan,
    SteppingPolicy,
    Stop,
    Target,
    TextOutput,
    ThreadInfo,
    Watchpoints,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The optional Protocols that a target satisfies; None for one that it lacks."""

    breakpoints: Breakpoints | None
    watchpoints: Watchpoints | None
    range_stepping: RangeStepping | None
    monitor: Monitor | None
    killable: Killable | None
    stepping_policy: SteppingPolicy | None
    physical_memory: PhysicalMemory | None
    offsets: Offsets | None
    conditions: Conditions | None
    text_output: TextOutput | None

    @classmethod
    def of(cls, target: Target) -> Capabilities:
        """Find out what `target` can do."""
        return cls(
            breakpoints=target if isinstance(target, Breakpoints) else None,
            watchpoints=target if isinstance(target, Watchpoints) else None,
            range_stepping=target if isinstance(target, RangeStepping) and target.steps_ranges else None,
            monitor=target if isinstance(target, Monitor) else None,
            killable=target if isinstance(target, Killable) else None,
            stepping_policy=target if isinstance(target, SteppingPolicy) else None,
            physical_memory=target if isinstance(target, PhysicalMemory) else None,
            offsets=target if isinstance(target, Offsets) else None,
            conditions=target if isinstance(target, Conditions) else None,
            text_output=target if isinstance(target, TextOutput) else None,
        )


@dataclass(frozen=True, slots=True)
class Context:
    """One connection's view for the handlers. `pause` gives other tasks a turn and may be cancelled there;
    long work calls it every few milliseconds. `console` shows text while a plan runs."""

    session: Session
    target: Target
    capabilities: Capabilities
    pause: Callable[[], Awaitable[None]]
    console: Callable[[str], None]

    def general_thread(self) -> int:
        """The thread that `g`, `m` and their like mean."""
        return self._chosen(self.session.selected_general)

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


Outcome = Reply | Resume | Job | Close
