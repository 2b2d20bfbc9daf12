"""Run control: who of the vCPUs may run, until when, and what becomes of a stop. The only place for it.

A debugger's `ResumePlan` becomes a `Goal` for the scheduler and runs, first a little in the caller's
thread, then on the machine thread, until its condition holds. Without a debugger the machine runs
freely. A debugger's stops are kept per vCPU until they are reported, one per resume; one whose
breakpoint is gone by then is dropped.

With a debugger attached power-off, reset under `no_reboot`, triple fault, halted for ever and
instructions that cannot be carried out are stops with everything kept; one more resume then ends the
machine with its status. Without one they end it at once.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar, assert_never

from gdbstub.arch.x86_64 import VECTOR_SIGNALS
from gdbstub.signals import Signal
from gdbstub.target import (
    BreakpointKind,
    Event,
    Exited,
    ResumePlan,
    Stay,
    Stop,
    StopReason,
    WatchHit,
)
from hv.debug.breakpoints import BreakpointTable, WatchPoint
from hv.debug.owner import Owner
from hv.debug.plans import FREE_RUN, goal_of, is_restricted
from hv.debug.stops import STATUS_ERROR, STATUS_OK, Ending, ending, stuck_text, triple_fault_text
from hv.debug.waiting import IdleWait
from hv.engines.base import EventType
from hv.errors import HvError
from hv.exits import Bpt, BptSource, ExceptionExit, TripleFault, Unhandled, Unimplemented, Watch, WriteOrigin
from hv.inputs import ConsoleInput, InjectEvent, MachineReset, RegisterWrite
from hv.outcomes import Goal, HaltedForever, Idle, Kicked, Outcome, Reached, Stepped, Suspended, VcpuStopped
from hv.signals import SuspendReason
from hv.vm import Vm

T = TypeVar("T")
INLINE_TICKS: Final = 20_000  # run in the caller's thread before the machine thread takes over
_VECTOR_BP: Final = 3
# Registers whose change means that the vCPU is no longer at the breakpoint that was reported.
_PLACE: Final = frozenset({"rip", "cs", "cs_base", "cr3"})


class RunState(enum.Enum):
    """What the machine does, as far as control is concerned."""

    HELD = "held"
    """Never continued: waits at its first instruction for a debugger."""
    RUNNING = "running"
    STOPPED = "stopped"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class PendingStop:
    """A stop not reported yet; `number` is the engine's for the point that caused it."""

    stop: Stop
    number: int | None = None


@dataclass(slots=True)
class VcpuRecord:
    """The debug state of one vCPU, none of it visible to the guest."""

    events: deque[PendingStop] = field(default_factory=deque)
    caught: ExceptionExit | None = None
    """An intercepted exception, delivered at the next resume."""
    stuck_at: int | None = None
    """RIP of an instruction that could not be carried out."""


def _limits(vm: Vm, max_ticks: int | None) -> list[tuple[int, Ending]]:
    """Machine ticks at which the run is over, with what to say then; the nearest first."""
    limits = []
    if max_ticks is not None:
        limits.append((max_ticks, Ending(STATUS_ERROR, f"the limit of {max_ticks} ticks is reached")))
    if vm.door.replay is not None and vm.door.replay.end is not None:
        limits.append((vm.door.replay.end, Ending(STATUS_OK, "the recorded run ends here")))
    return sorted(limits, key=lambda limit: limit[0])


class RunControl:
    """Controls one machine. Methods may be called from any thread unless they say otherwise.

    `ended` is called once, from whichever thread ends the machine. `open_inputs` counts the inputs that
    may still wake an idle guest.
    """

    def __init__(
        self,
        vm: Vm,
        *,
        no_reboot: bool = False,
        max_ticks: int | None = None,
        ended: Callable[[Ending], None] | None = None,
    ) -> None:
        self.vm = vm
        self._limits = _limits(vm, max_ticks)
        self.no_reboot = no_reboot
        self.state = RunState.HELD
        self.points = BreakpointTable(vm.engine)
        self.owner = Owner(vm.scheduler.request_stop)
        self.debugged = False
        self.mask_steps = True
        self.open_inputs = 0
        self.ending: Ending | None = None
        self._ended = ended
        self._listener: Callable[[Event], None] = lambda event: None
        self._records = [VcpuRecord() for _ in vm.vcpus]
        self._plan = FREE_RUN
        self._interrupted = False
        self._quit: Ending | None = None
        self._halt_shown: int | None = None
        self._wait = IdleWait(vm, self.owner)

    @property
    def running(self) -> bool:
        """Whether the machine thread runs the machine."""
        return self.owner.busy

    # --- requests ----------------------------------------------------------------------------------

    def submit(self, request: Callable[[], T]) -> Future[T]:
        """Have `request` carried out between two ticks, without a stop."""
        return self.owner.submit(request)

    def feed(self, uart: int, data: bytes) -> Future[int]:
        """Bytes arrive at serial port `uart`, now; how many of them it took."""
        return self.owner.submit(lambda: self._feed(uart, data))

    def _feed(self, uart: int, data: bytes) -> int:
        if self.vm.door.replaying or self.ending is not None:
            return len(data)
        board = self.vm.board
        # A guest that waits for nothing but input is ready, whatever it has said.
        if not self._wait.active and not board.listens(uart):
            return 0
        room = min(board.room(uart), len(data))
        if room:
            self._wait.end_by_input()
            self.vm.door.submit(ConsoleInput(uart, data[:room]))
        return room

    def close_input(self) -> None:
        """One of the open inputs is at its end."""

        def close() -> None:
            self.open_inputs -= 1

        self.owner.submit(close)

    # --- resuming and stopping -----------------------------------------------------------------------

    def run_freely(self, stopped: Callable[[Event], None] = lambda event: None) -> None:
        """Run with nobody in control; `stopped` gets what ends it. The machine must not be running."""
        event = self.resume(FREE_RUN, stopped)
        if event is not None:
            stopped(event)

    def stop_free_run(self, stopped: Callable[[Event], None]) -> bool:
        """A debugger comes: if the machine runs, make it stop and tell `stopped`; whether it does run."""
        with self.owner.lock:
            self.debugged = True
            if not self.owner.busy:
                return False
            self._listener = stopped
            self.interrupt()
            return True

    def resume(self, plan: ResumePlan, stopped: Callable[[Event], None]) -> Event | None:
        """Carry out `plan`. The event if it ended at once; else `stopped` gets it, on the machine thread."""
        with self.owner.lock:
            self._interrupted = False
            self._plan = plan
            event = self._before_resume()
            if event is None:
                event = self._run_inline()
            if event is not None:
                self._stopped()
                return event
            self._listener = stopped
            self.owner.start(self._run_on_thread)
            return None

    def interrupt(self) -> None:
        """Make the running plan end with an `INTERRUPT` stop; harmless when none runs."""
        with self.owner.lock:
            if self.owner.busy:
                self._interrupted = True
                self.owner.wake()

    def quit(self, status: int, text: str) -> None:
        """End the machine with `status`, whatever it does."""
        with self.owner.lock:
            self._quit = Ending(status, text)
            if self.owner.busy:
                self.owner.wake()
            else:
                self._end(self._quit)

    def close(self) -> None:
        """Stop the machine thread."""
        self.interrupt()
        self.owner.close()

    def _run_inline(self) -> Event | None:
        limit = self.vm.clock.now + INLINE_TICKS
        self.state = RunState.RUNNING
        while self.vm.clock.now < limit:
            outcome = self.vm.run(self._goal(limit))
            if isinstance(outcome, Idle):
                return None
            event = self._judge(outcome)
            if event is not None:
                return event
        return None

    def _run_on_thread(self) -> None:
        try:
            event = self._run_to_event()
        except HvError as error:
            event = self._end(Ending(STATUS_ERROR, str(error)))
        except Exception:  # nobody above could report it, and the machine cannot go on
            logging.getLogger(__name__).exception("internal error in the machine thread")
            event = self._end(Ending(STATUS_ERROR, "internal error"))
        with self.owner.lock:
            self.owner.finish()
            self._stopped()
            stopped = self._listener
        stopped(event)

    def _run_to_event(self) -> Event:
        event: Event | None = None
        while event is None:
            self.owner.serve()
            if self._quit is not None:
                event = self._end(self._quit)
            elif self._interrupted:
                event = Stop(StopReason.INTERRUPT, self.vm.scheduler.current + 1)
            else:
                event = self._judge(self.vm.run(self._goal(None)))
        return event

    def _stopped(self) -> None:
        self._wait.clear()
        if self.state is RunState.RUNNING:
            self.state = RunState.STOPPED

    def _goal(self, limit: int | None) -> Goal:
        ends = [tick for tick, _ in self._limits]
        until = min([*ends, limit] if limit is not None else ends, default=None)
        return goal_of(self._plan, self.vm, masked=self.mask_steps, until=until)

    # --- before a resume ---------------------------------------------------------------------------

    def _before_resume(self) -> Event | None:
        """What must be said before anything runs: the end, or a stop not reported yet."""
        if self.ending is not None:
            return Exited(self.ending.status)
        if self._quit is not None:
            return self._end(self._quit)
        if self.vm.suspended is not None:
            return self._end(ending(self.vm.suspended))
        for vcpu, record in enumerate(self._records):
            if record.stuck_at is not None:
                stuck, record.stuck_at = record.stuck_at, None
                if self.vm.vcpus[vcpu].get("rip") == stuck:
                    return self._end(Ending(STATUS_ERROR, "the guest cannot go on"))
        self._deliver_caught()
        for vcpu, record in enumerate(self._records):
            if isinstance(self._plan.action_for(vcpu + 1), Stay):
                continue
            while record.events:
                pending = record.events.popleft()
                if pending.number is None or self.points.point(pending.number) is not None:
                    return pending.stop
        return None

    def _deliver_caught(self) -> None:
        for vcpu, record in enumerate(self._records):
            caught, record.caught = record.caught, None
            if caught is None or self.vm.vcpus[vcpu].get("rip") != caught.rip:
                continue
            if caught.vector == 14:
                self.vm.vcpus[vcpu].set("cr2", caught.value)
            self.vm.apply(InjectEvent(vcpu, EventType.EXCEPTION, caught.vector, caught.error, 0))

    # --- judging outcomes --------------------------------------------------------------------------

    def _judge(self, outcome: Outcome) -> Event | None:
        """What an outcome means for the plan; None: go on."""
        if not isinstance(outcome, Idle | Kicked):
            self._wait.clear()
        match outcome:
            case Kicked():
                return None
            case Reached():
                return self._reached()
            case Idle(deadline):
                return self._idle(deadline)
            case HaltedForever():
                return self._halted()
            case Stepped(vcpu):
                return Stop(StopReason.STEP, vcpu + 1)
            case VcpuStopped(vcpu, left):
                return self._vcpu_stopped(vcpu, left)
            case Suspended(SuspendReason.RESET) if not self.no_reboot:
                self.vm.reset()
                return None
            case Suspended():
                return self._final(ending(outcome), self.vm.scheduler.current)
            case _:
                assert_never(outcome)

    def _vcpu_stopped(self, vcpu: int, left: object) -> Event | None:
        match left:
            case Bpt(_, BptSource.GUEST, _, length):
                event = InjectEvent(vcpu, EventType.SW_EXCEPTION, _VECTOR_BP, None, length)
                self.vm.apply(event)
            case Bpt(_, _, number):
                return self._breakpoint(vcpu, number)
            case Watch():
                return self._watched(vcpu, left)
            case ExceptionExit(_, vector):
                self._records[vcpu].caught = left
                if self.debugged:
                    return Stop(StopReason.EVENT, vcpu + 1, VECTOR_SIGNALS.get(vector, Signal.SIGTRAP))
                self._deliver_caught()
            case TripleFault():
                return self._final(Ending(3, triple_fault_text(vcpu, left)), vcpu)
            case Unhandled() | Unimplemented():
                text = stuck_text(vcpu, left)
                if not self.debugged:
                    return self._end(Ending(STATUS_ERROR, text))
                self._records[vcpu].stuck_at = left.rip
                return Stop(StopReason.EVENT, vcpu + 1, Signal.SIGILL, text=text)
        return None

    def _breakpoint(self, vcpu: int, number: int) -> Event | None:
        self.vm.scheduler.pass_over.add(vcpu)
        if not self.debugged or self.points.point(number) is None:
            return None
        software = self.points.kind(number) is BreakpointKind.SOFTWARE
        reason = StopReason.SOFTWARE_BREAKPOINT if software else StopReason.HARDWARE_BREAKPOINT
        return Stop(reason, vcpu + 1)

    def _watched(self, vcpu: int, left: Watch) -> Event | None:
        """One stop per watchpoint hit; those beyond the first wait for the next resume."""
        events = self._records[vcpu].events
        for hit in left.hits:
            point = self.points.point(hit.id)
            if self.debugged and isinstance(point, WatchPoint):
                by = "" if hit.origin is WriteOrigin.CPU else f"written by {hit.origin.name.lower()}"
                stop = Stop(StopReason.WATCHPOINT, vcpu + 1, watch=WatchHit(point.kind, hit.address), text=by)
                events.append(PendingStop(stop, hit.id))
        return events.popleft().stop if events else None

    def _idle(self, deadline: int | None) -> Event | None:
        """No vCPU can run: wait, unless nothing is left to wait for."""
        held = is_restricted(self._plan, self.vm)
        if deadline is None and not self.open_inputs and not held:
            return self._halted()
        ends = [tick for tick, _ in self._limits]
        deadline = min([*ends, deadline] if deadline is not None else ends, default=None)
        self._wait.wait(deadline, held=held)
        return None

    def _reached(self) -> Event | None:
        """The end of a slice means nothing; that of the run, by `max_ticks` or the log, is final."""
        due = [final for tick, final in self._limits if self.vm.clock.now >= tick]
        if not due:
            return None
        self._limits.clear()
        self._quit = due[0]
        return self._final(due[0], self.vm.scheduler.current)

    def _halted(self) -> Event | None:
        """Halted for ever. A debugger sees it once; if nothing changes, the next resume ends it."""
        final = ending(Suspended(SuspendReason.HALT, 0))
        if self.debugged and self._halt_shown != self.vm.clock.now:
            self._halt_shown = self.vm.clock.now
            return self._final(final, self.vm.scheduler.current)
        self.vm.suspend(SuspendReason.HALT)
        return self._end(final)

    def _final(self, final: Ending, vcpu: int) -> Event:
        if not self.debugged:
            return self._end(final)
        said = final.text if final.text.startswith("vCPU") else final.text[0].upper() + final.text[1:]
        text = f"{said}. One more resume ends with status {final.status}."
        return Stop(StopReason.EVENT, vcpu + 1, text=text)

    def _end(self, final: Ending) -> Event:
        if self.ending is None:
            self.ending = final
            self.state = RunState.ENDED
            if self._ended is not None:
                self._ended(final)
        return Exited(self.ending.status)

    # --- changes by a debugger (called by the owner, through `submit`) --------------------------------

    def write_registers(self, vcpu: int, values: tuple[tuple[str, bytes], ...]) -> None:
        """Set registers. KeyError, ValueError, ReplayError; then nothing was changed."""
        self.vm.door.submit(RegisterWrite(vcpu, values))
        if any(name in _PLACE for name, _ in values):
            self.vm.scheduler.pass_over.discard(vcpu)

    def reset_machine(self) -> None:
        """Machine reset at a debugger's request. The vCPUs stay under its control."""
        self.vm.door.submit(MachineReset())
        self.forget_events()

    def forget_events(self) -> None:
        """Drop everything that a debugger would still be told, and every breakpoint just reported."""
        self._halt_shown = None
        self.vm.scheduler.pass_over.clear()
        self._records = [VcpuRecord() for _ in self._records]
