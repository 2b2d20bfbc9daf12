"""What an outcome of the scheduler means to whoever debugs the machine: a stop, the end, or nothing.

A debugger's stops are kept per vCPU until they are reported, one per resume; one whose breakpoint is gone by
then is dropped.

With a debugger attached power-off, reset under `no_reboot`, triple fault, halted for ever and
instructions that cannot be carried out are stops with everything kept; one more resume then ends the
machine with its status. Without one they end it at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar, assert_never

from gdbstub.signals import Signal
from gdbstub.target import Event, Exited, Stay, Stop, StopReason
from hv.debug.breakpoints import BreakpointTable
from hv.debug.catch import CatchTable, Kind
from hv.debug.caught import Events
from hv.debug.owner import Owner
from hv.debug.plans import FREE_RUN, is_restricted
from hv.debug.point_hits import PointHits
from hv.debug.records import RunState, VcpuRecord
from hv.debug.steps import Steps
from hv.debug.stops import (
    STATUS_ERROR,
    STATUS_OK,
    STATUS_TRIPLE_FAULT,
    Ending,
    branches_text,
    ending,
    stuck_text,
    triple_fault_text,
)
from hv.debug.waiting import IdleWait
from hv.errors import HvError
from hv.exits import (
    Bpt,
    BptSource,
    Caught,
    DeviceAccessed,
    ExceptionExit,
    Exit,
    TripleFault,
    Unhandled,
    Unimplemented,
    Watch,
)
from hv.inputs import InjectEvent, MachineReset, RegisterWrite
from hv.outcomes import HaltedForever, Idle, Kicked, Outcome, Reached, Stepped, Suspended, VcpuStopped
from hv.signals import SuspendReason
from hv.vm import Vm

T = TypeVar("T")
LAST_BRANCHES: Final = 32  # shown with a triple fault


def _limits(vm: Vm, max_ticks: int | None) -> list[tuple[int, Ending]]:
    """Machine ticks at which the run is over, with what to say then; the nearest first."""
    limits = []
    if max_ticks is not None:
        limits.append((max_ticks, Ending(STATUS_ERROR, f"the limit of {max_ticks} ticks is reached")))
    if vm.door.replay is not None and vm.door.replay.end is not None:
        limits.append((vm.door.replay.end, Ending(STATUS_OK, "the recorded run ends here")))
    return sorted(limits, key=lambda limit: limit[0])


class Judge:
    """Judges the outcomes of one machine, on its owner. The base of `hv.debug.run_control.RunControl`."""

    def __init__(
        self,
        vm: Vm,
        owner: Owner,
        *,
        no_reboot: bool,
        max_ticks: int | None,
        ended: Callable[[Ending], None] | None,
    ) -> None:
        self.vm = vm
        self.owner = owner
        self.no_reboot = no_reboot
        self.points = BreakpointTable(vm.engine)
        self.point_hits = PointHits(vm, self.points)
        self.debugged = False
        self.state = RunState.HELD
        self.plan = FREE_RUN
        self.open_inputs = 0
        """Inputs that may still wake an idle guest."""
        self.records = [VcpuRecord() for _ in vm.vcpus]
        self.ending: Ending | None = None
        self.wait = IdleWait(vm, owner)
        self.steps = Steps(vm)
        self.catches = CatchTable(vm)
        self.events = Events(vm, self.catches, lambda: self.debugged)
        self.limits = _limits(vm, max_ticks)
        self._ended = ended
        self.quitting: Ending | None = None
        """The end that somebody wants."""
        self.due: Ending | None = None
        """The end that comes with the next resume."""
        self.interrupted = False
        self.all_stop = False
        """Whether the last stop is one of the whole machine, not of one vCPU."""
        self._halt_shown: int | None = None

    # --- before a resume ---------------------------------------------------------------------------

    def before_resume(self) -> Event | None:
        """What must be said before anything runs: the end, or a stop not reported yet."""
        self.all_stop = False
        if self.ending is not None:
            return Exited(self.ending.status)
        if (final := self.quitting or self.due) is not None:
            return self.end(final)
        if self.vm.suspended is not None and not self._revived():
            if self.no_reboot or self.vm.suspended.reason is not SuspendReason.RESET:
                return self.end(ending(self.vm.suspended))
            self._reset_by_guest()
        for vcpu, record in enumerate(self.records):
            if record.stuck_at is not None:
                stuck, record.stuck_at = record.stuck_at, None
                if self.vm.vcpus[vcpu].get("rip") == stuck:
                    return self.end(Ending(STATUS_ERROR, "the guest cannot go on"))
        self._deliver_caught()
        for vcpu, record in enumerate(self.records):
            if isinstance(self.plan.action_for(vcpu + 1), Stay):
                continue
            while record.events:
                pending = record.events.popleft()
                if pending.number is None or self.points.entry(pending.number) is not None:
                    return pending.stop
        return None

    def _deliver_caught(self) -> None:
        """Let intercepted events go on.

        An instruction that was not disturbed raises its event again in a replay. If the guest has been
        changed since, or others run first, it may not: then the event itself belongs into the log.
        """
        for vcpu, record in enumerate(self.records):
            caught, record.caught = record.caught, None
            if caught is None:
                continue
            if caught.event is None:
                self.vm.scheduler.begun.pass_exception(vcpu)
                continue
            if self.vm.vcpus[vcpu].get("rip") != caught.rip:
                continue
            items: list[InjectEvent | RegisterWrite] = [caught.event]
            if caught.cr2 is not None:
                items.insert(0, RegisterWrite(vcpu, (("cr2", caught.cr2.to_bytes(8, "little")),)))
            door = self.vm.door
            alone = door.passed == caught.passed and not is_restricted(self.plan, self.vm)
            for item in items:
                (door.apply_within if alone or door.replaying else door.submit)(item)

    def until(self, limit: int | None) -> int | None:
        """The machine tick to run to: `limit`, or that of the end of the run."""
        if not self.limits:
            return limit
        ends = [tick for tick, _ in self.limits]
        return min([*ends, limit] if limit is not None else ends, default=None)

    # --- judging outcomes --------------------------------------------------------------------------

    def judge(self, outcome: Outcome) -> Event | None:
        """What an outcome means for the plan; None: go on."""
        if not isinstance(outcome, Idle | Kicked):
            self.wait.clear()
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
                if self.steps.goes_through(outcome):
                    return None
                return Stop(StopReason.STEP, vcpu + 1, text=self.steps.said())
            case VcpuStopped(vcpu, left, stepped):
                event = self._vcpu_stopped(vcpu, left)
                return Stop(StopReason.STEP, vcpu + 1) if event is None and stepped else event
            case Suspended(SuspendReason.RESET) if not self.no_reboot:
                return self._reset()
            case Suspended():
                return self._final(ending(outcome), self.vm.scheduler.current, Kind.POWER_OFF)
            case _:
                assert_never(outcome)

    def _reset(self) -> Event | None:
        """The guest resets the machine. One who catches it sees the state before; the next resume resets."""
        if self.debugged and self.catches.find(Kind.RESET) is not None:
            vcpu = self.vm.scheduler.current
            self.all_stop = True
            return Stop(StopReason.EVENT, vcpu + 1, text=f"vCPU {vcpu}: the guest resets the machine")
        if not self._revived():
            self._reset_by_guest()
        return None

    def _reset_by_guest(self) -> None:
        """The reset that the guest asked for. It is in the log: what a debugger does at this tick may come
        before and after it."""
        if self.vm.door.replaying:
            self.vm.reset()
        else:
            self.vm.door.submit(MachineReset())

    def _revived(self) -> bool:
        """Whether, by the log of a replay, a debugger has reset the machine that has just come to its end.

        What else was changed at this tick is done, too.
        """
        if self.vm.suspended is None:
            return False
        self.vm.door.apply_due()
        return self.vm.suspended is None

    def _vcpu_stopped(self, vcpu: int, left: Exit | DeviceAccessed) -> Event | None:
        match left:
            case Bpt(_, BptSource.GUEST):
                self.records[vcpu].caught, stop = self.events.int3(vcpu, left)
                if stop is None:
                    self._deliver_caught()
                return stop
            case Caught():
                return self.events.caught(vcpu, left)
            case DeviceAccessed():
                return self.events.device(vcpu, left)
            case Bpt():
                self.steps.look_for_return(vcpu, left.ids)
                self.vm.scheduler.pass_over.add(vcpu)
                return self.point_hits.breakpoints(vcpu, left, attached=self.debugged)
            case Watch():
                events = self.records[vcpu].events
                events += self.point_hits.watchpoints(vcpu, left, attached=self.debugged)
                return events.popleft().stop if events else None
            case ExceptionExit():
                self.records[vcpu].caught, stop = self.events.exception(vcpu, left)
                if stop is None:
                    self._deliver_caught()
                return stop
            case TripleFault():
                branches = self.vm.vcpus[vcpu].cpu.branches(LAST_BRANCHES)
                final = Ending(STATUS_TRIPLE_FAULT, triple_fault_text(vcpu, left))
                return self._final(final, vcpu, Kind.TRIPLE_FAULT, branches_text(branches))
            case Unhandled() | Unimplemented():
                text = stuck_text(vcpu, left)
                if not self.debugged or self.catches.find(Kind.UNHANDLED) is None:
                    return self.end(Ending(STATUS_ERROR, text))
                self.records[vcpu].stuck_at = left.rip
                return Stop(StopReason.EVENT, vcpu + 1, Signal.SIGILL, text=text)
        return None

    def _idle(self, deadline: int | None) -> Event | None:
        """No vCPU can run: wait, unless nothing is left to wait for."""
        held = is_restricted(self.plan, self.vm)
        if deadline is None and not self.open_inputs and not held:
            return self._halted()
        ends = [tick for tick, _ in self.limits]
        deadline = min([*ends, deadline] if deadline is not None else ends, default=None)
        self.wait.wait(deadline, held=held)
        return None

    def _reached(self) -> Event | None:
        """The end of a slice means nothing; that of the run, by `max_ticks` or the log, is final."""
        due = [final for tick, final in self.limits if self.vm.clock.now >= tick]
        if not due:
            return None
        self.vm.door.apply_due()
        self.limits.clear()
        self.due = due[0]
        return self._final(due[0], self.vm.scheduler.current, Kind.POWER_OFF)

    def _halted(self) -> Event | None:
        """Halted for ever. A debugger sees it once; if nothing changes, the next resume ends it."""
        final = ending(Suspended(SuspendReason.HALT, 0))
        if self.debugged and self._halt_shown != self.vm.clock.now:
            self._halt_shown = self.vm.clock.now
            return self._final(final, self.vm.scheduler.current, Kind.POWER_OFF)
        self.vm.suspend(SuspendReason.HALT)
        return self.end(final)

    def _final(self, final: Ending, vcpu: int, kind: Kind, detail: str = "") -> Event | None:
        if not self.debugged or self.catches.find(kind) is None:
            return None if self._revived() else self.end(final)
        self.all_stop = True
        said = final.text if final.text.startswith("vCPU") else final.text[0].upper() + final.text[1:]
        text = f"{said}. One more resume ends with status {final.status}.{detail}"
        return Stop(StopReason.EVENT, vcpu + 1, text=text)

    def guarded(self, run: Callable[[], T]) -> T | Event:
        """What `run` gives, or the end of the machine, which cannot go on after an error."""
        try:
            return run()
        except HvError as error:
            return self.end(Ending(STATUS_ERROR, str(error)))
        except Exception:  # nobody above could report it
            logging.getLogger(__name__).exception("internal error in the machine")
            return self.end(Ending(STATUS_ERROR, "internal error"))

    def end(self, final: Ending) -> Event:
        """The machine is over; the first ending stands."""
        if self.ending is None:
            self.ending = final
            self.state = RunState.ENDED
            if self._ended is not None:
                self._ended(final)
        return Exited(self.ending.status)

    def forget_events(self) -> None:
        """Drop everything that a debugger would still be told, and every breakpoint just reported.

        What was intercepted still goes on: the guest would notice that an instruction is tried twice.
        """
        self._halt_shown = None
        self.vm.scheduler.pass_over.clear()
        self.records = [VcpuRecord(caught=record.caught) for record in self.records]
