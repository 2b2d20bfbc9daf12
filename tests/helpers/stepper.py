"""A debugger without a client: run control of one machine, its resumes and their stops."""

from __future__ import annotations

import threading
import time

from gdbstub.target import (
    Continue,
    Event,
    ResumePlan,
    Step,
    StepPolicy,
    StepRange,
    Stop,
    StopReason,
    ThreadAction,
)
from hv.debug.run_control import RunControl
from hv.outcomes import Goal
from hv.vm import Vm
from tests.helpers.patience import HANG_S

STEP = ResumePlan((ThreadAction(Step(), 1), ThreadAction(Continue())))
MASKED = StepPolicy.ENABLE | StepPolicy.NOIRQ
TIMEOUT_S = HANG_S


class Stepper:
    """Run control of one machine, and its stops."""

    def __init__(self, vm: Vm, policy: StepPolicy = MASKED) -> None:
        self.vm = vm
        self.control = RunControl(vm)
        self.control.debugged = True
        self.control.steps.policy = policy
        self._arrived = threading.Event()
        self._event: Event | None = None

    def _deliver(self, event: Event) -> None:
        self._event = event
        self._arrived.set()

    def start(self, plan: ResumePlan) -> Event | None:
        """Resume; the event if it came at once."""
        self._arrived.clear()
        return self.control.resume(plan, self._deliver)

    def wait(self) -> Stop:
        """The stop of a plan that runs."""
        assert self._arrived.wait(TIMEOUT_S)
        assert isinstance(self._event, Stop), self._event
        return self._event

    def stop(self, plan: ResumePlan = STEP) -> Stop:
        """Resume, and wait for the stop."""
        event = self.start(plan)
        if event is None:
            return self.wait()
        assert isinstance(event, Stop), event
        return event

    def step(self) -> int:
        """Step once; where that led."""
        assert self.stop().reason is StopReason.STEP
        return self.rip

    def range_step(self, size: int) -> Stop:
        """From here to `size` bytes on."""
        return self.stop(ResumePlan((ThreadAction(StepRange(self.rip, self.rip + size), 1),)))

    def vm_reaches(self, tick: int) -> None:
        """Wait until the running machine has come to machine tick `tick`."""
        while self.control.submit(lambda: self.vm.clock.now).result(TIMEOUT_S) < tick:
            time.sleep(0.001)

    def step_then_run(self, tick: int) -> str:
        """One more step, for what is still to be delivered, then as `run_to`."""
        self.stop()
        return run_to(self.vm, tick)

    @property
    def rip(self) -> int:
        """Of vCPU 0."""
        return self.vm.vcpus[0].get("rip")


def run_to(vm: Vm, tick: int) -> str:
    """Run to machine tick `tick`; the tick reached and the state hash there."""
    while vm.clock.now < tick:
        vm.run(Goal(until=tick))
    return f"{vm.clock.now} {vm.state_hash()}"
