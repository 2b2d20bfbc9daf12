"""Run control: who of the vCPUs may run, until when, and what becomes of a stop. The only place for it.

A debugger's `ResumePlan` becomes a `Goal` for the scheduler and runs, first a little in the caller's
thread, then on the machine thread, until its condition holds. Without a debugger the machine runs
freely. What an outcome of the scheduler means is `hv.debug.judge`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from gdbstub.target import Event, ResumePlan, Stop, StopReason
from hv.debug.judge import Judge
from hv.debug.owner import Owner
from hv.debug.plans import FREE_RUN
from hv.debug.records import RunState
from hv.debug.stops import Ending
from hv.debug.symbols import MachineSymbols
from hv.errors import HvError
from hv.inputs import ConsoleInput, MachineReset, RegisterWrite
from hv.outcomes import Idle
from hv.vm import Vm

T = TypeVar("T")
INLINE_TICKS: Final = 20_000  # run in the caller's thread before the machine thread takes over
# Registers whose change means that the vCPU is no longer at the breakpoint that was reported.
_PLACE: Final = frozenset({"rip", "cs", "cs_base", "cr3"})


class RunControl(Judge):
    """Controls one machine. Methods may be called from any thread unless they say otherwise.

    `ended` is called once, from whichever thread ends the machine.
    """

    def __init__(
        self,
        vm: Vm,
        *,
        no_reboot: bool = False,
        max_ticks: int | None = None,
        ended: Callable[[Ending], None] | None = None,
    ) -> None:
        owner = Owner(vm.scheduler.request_stop)
        super().__init__(vm, owner, no_reboot=no_reboot, max_ticks=max_ticks, ended=ended)
        self.symbols = MachineSymbols(vm)
        self._listener: Callable[[Event], None] = lambda event: None

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
        if not self.wait.active and not board.listens(uart):
            return 0
        room = min(board.room(uart), len(data))
        if room:
            self.wait.end_by_input()
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
        """Carry out `plan`. The event if it ended at once; else `stopped` gets it, on the machine thread.

        HvError while another plan runs.
        """
        with self.owner.lock:
            if self.owner.busy:
                raise HvError("the machine runs already")
            self.interrupted = False
            self.plan = plan
            self.steps.begin()
            self.catches.attend(self.debugged)
            event = self.before_resume()
            if event is None:
                event = self.guarded(self._run_inline)
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
                self.interrupted = True
                self.owner.wake()

    def quit(self, status: int, text: str) -> None:
        """End the machine with `status`, whatever it does."""
        with self.owner.lock:
            self.quitting = Ending(status, text)
            if self.owner.busy:
                self.owner.wake()
            else:
                self.end(self.quitting)

    def close(self) -> None:
        """Stop the machine thread."""
        self.interrupt()
        self.owner.close()

    def _run_inline(self) -> Event | None:
        limit = self.vm.clock.now + INLINE_TICKS
        self.state = RunState.RUNNING
        while self.vm.clock.now < limit:
            outcome = self.steps.run(self.plan, self.until(limit))
            if isinstance(outcome, Idle):
                return None
            event = self.judge(outcome)
            if event is not None:
                return event
            if self.steps.timers_held:  # the clock stands still: no budget
                return None
        return None

    def _run_on_thread(self) -> None:
        event = self.guarded(self._run_to_event)
        with self.owner.lock:
            self.owner.finish()
            self._stopped()
            if self.quitting is not None:  # it came too late for the run to see it
                event = self.end(self.quitting)
            # Within the lock: whoever finds the machine at rest finds this under way.
            self._listener(event)

    def _run_to_event(self) -> Event:
        event: Event | None = None
        while event is None:
            self.owner.serve()
            if self.quitting is not None:
                event = self.end(self.quitting)
            elif self.interrupted:
                event = Stop(StopReason.INTERRUPT, self.vm.scheduler.current + 1)
            else:
                event = self.judge(self.steps.run(self.plan, self.until(None)))
        return event

    def _stopped(self) -> None:
        self.wait.clear()
        self.steps.end()
        if self.state is RunState.RUNNING:
            self.state = RunState.STOPPED

    # --- changes by a debugger (called by the owner, through `submit`) --------------------------------

    def write_registers(self, vcpu: int, values: tuple[tuple[str, bytes], ...]) -> None:
        """Set registers. KeyError, ValueError, ReplayError; then nothing was changed."""
        self.vm.door.submit(RegisterWrite(vcpu, values))
        self.vm.vcpus[vcpu].cpu.control.catch_mode = 0  # a mode that a debugger sets is no event of the guest
        if any(name in _PLACE for name, _ in values):
            self.vm.scheduler.pass_over.discard(vcpu)

    def reset_machine(self) -> None:
        """Machine reset at a debugger's request, also of one that has come to its end and is kept.

        The vCPUs stay under its control, and breakpoints stay. HvError in a replay, and for a machine
        that is gone.
        """
        if self.ending is not None:
            raise HvError("the machine has ended")
        self.vm.door.submit(MachineReset())
        self.forget_events()
        for record in self.records:
            record.caught = None
