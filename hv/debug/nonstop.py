"""Non-stop: each vCPU runs and stops for itself, in one deterministic schedule.

The vCPUs that go are the plan of the machine thread; one that stops leaves it while the others go on, and one
that is set going joins it between two ticks. What holds the others back is logged like any restricted plan.
An end of the machine stops all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from gdbstub.target import Action, Event, ResumePlan, Stay, Stop, StopReason, ThreadAction
from hv.debug.judge import Judge
from hv.debug.records import RunState


class NonStopRun:
    """The vCPUs of one machine that go, and what they do. `tell` gets each event, on the machine's owner.

    `start` and `halt` are requests, for the machine's owner. `go`, from any thread, sees to it then that
    the machine thread runs what is to run.
    """

    def __init__(self, control: Judge, tell: Callable[[Event], None]) -> None:
        self._control = control
        self._owner = control.owner
        self._tell = tell
        self._going: dict[int, Action] = {}
        self.stands: Future[None] | None = None
        """Done when the machine thread stops running; None before it has run."""
        control.interrupted = False
        control.steps.begin()
        control.catches.attend(True)

    # --- requests ----------------------------------------------------------------------------------

    def start(self, plan: ResumePlan) -> None:
        """Set going those that stand and for which `plan` has something to do."""
        for vcpu in self._control.vm.vcpus:
            thread = vcpu.index + 1
            action = plan.action_for(thread)
            if isinstance(action, Stay) or thread in self._going:
                continue
            self._control.plan = ResumePlan((ThreadAction(action, thread),))
            event = self._control.before_resume()
            self._going[thread] = action
            if event is not None:
                self._leaves(event)

    def halt(self, threads: Sequence[int]) -> None:
        """Stop those of `threads` that go."""
        for thread in threads:
            if thread in self._going:
                self._leaves(Stop(StopReason.INTERRUPT, thread))

    def halt_all(self) -> None:
        """Stop all, and say nothing."""
        self._going.clear()
        self._control.steps.end()

    def _leaves(self, event: Event) -> None:
        """`event` has happened: its thread stands, or all do."""
        if not isinstance(event, Stop):
            self.halt_all()
            self._tell(event)
            return
        if event.thread not in self._going:  # the machine's stop, in the name of one that stands
            event = dataclasses.replace(event, thread=min(self._going))
        leaving = [event] + [Stop(StopReason.EVENT, t) for t in self._going if t != event.thread]
        for stop in leaving if self._control.all_stop else leaving[:1]:
            del self._going[stop.thread]
            self._control.steps.leave(stop.thread - 1)
            self._tell(stop)

    # --- running -----------------------------------------------------------------------------------

    def go(self) -> None:
        """Have the machine thread run, if it does not and something is to run."""
        with self._owner.lock:
            if self._going and not self._owner.busy:
                self._control.state = RunState.RUNNING
                if self.stands is None or self.stands.done():
                    self.stands = Future()
                self._owner.start(self._run_on_thread)

    def _run_on_thread(self) -> None:
        end = self._control.guarded(self._run)
        if end is not None:
            self._leaves(end)
        with self._owner.lock:
            self._owner.finish()
            self._control.wait.clear()
            if self._control.state is RunState.RUNNING:
                self._control.state = RunState.STOPPED
            if self._control.quitting is not None:
                self._leaves(self._control.end(self._control.quitting))
            if not self._control.interrupted:
                self.go()  # what was served last may have set something going
            if not self._owner.busy and self.stands is not None:
                self.stands.set_result(None)

    def _run(self) -> None:
        control = self._control
        while True:
            self._owner.serve()
            if control.interrupted:
                self.halt_all()
            if not self._going or control.quitting is not None:
                return
            control.plan = ResumePlan(tuple(ThreadAction(a, t) for t, a in sorted(self._going.items())))
            event = control.judge(control.steps.run(control.plan, control.until(None)))
            if event is not None:
                self._leaves(event)
