"""Which vCPU runs, and for how long: deterministic round robin in one thread.

Current vCPU and remaining quantum are machine state. A quantum is `QUANTUM` ticks of its vCPU; HLT ends
it, and so does PAUSE while another vCPU can run. What the guest sees depends on that state, the machine
clock and the guest alone: `run` may be left at any tick and called again without changing anything.

The rule that makes this so is `settle`: after every run of the engine all work due at the present tick is
done (timers, signals, choice of the next vCPU), and doing it again does nothing. Whoever looks at the
machine between two runs sees settled state, and there is one settled state per machine tick. Interrupts
are acknowledged only when their delivery follows at once, in the same entry.

What a debugger may impose, and the log of outside influences must record, leaves through `influence`:
a switch to another vCPU than the one whose turn it is, an interrupt held back, time that passes while
runnable vCPUs are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, assert_never

from hv.access import Board, DeviceAccess
from hv.begun import BegunTicks
from hv.clock import NEVER
from hv.device import Field, State, Value, load_fields, save_fields
from hv.engines.base import Engine, EngineCpu
from hv.entry import Entry
from hv.errors import ReplayError
from hv.exits import (
    Bpt,
    Caught,
    Cr8,
    Deadline,
    DeviceAccessed,
    ExceptionExit,
    Exit,
    Hlt,
    IrqWindow,
    Kick,
    Mtrap,
    NmiWindow,
    Pause,
    Tpr,
    TripleFault,
    TscMoved,
    Unhandled,
    Unimplemented,
    Wait,
    Watch,
    Woken,
)
from hv.inputs import Advance, BegunTick, Influence, SwitchVcpu
from hv.outcomes import Goal, HaltedForever, Idle, Kicked, Outcome, Reached, Stepped, Suspended, VcpuStopped
from hv.readiness import Readiness
from hv.signal_bus import SignalBus
from hv.signals import Signals
from hv.stepmask import StepMask
from hv.taps import Wanted

QUANTUM: Final = 50_000
PAUSE_COST: Final = 1_000  # machine ticks per PAUSE: a waiting guest must see time pass


class Scheduler:
    """Runs the vCPUs of one machine. Called by the machine's owner; only `request_stop` from anywhere."""

    kind: Final = "scheduler"
    version: Final = 1
    _fields: Final = (Field("current", 8), Field("remaining", 32))

    def __init__(
        self,
        engine: Engine,
        cpus: Sequence[EngineCpu],
        board: Board,
        signals: Signals,
        influence: Callable[[Influence], object],
        begun: BegunTicks,
        *,
        host_clock: bool = False,
    ) -> None:
        self.current = 0
        self.remaining = QUANTUM
        self.host_clock = host_clock
        self.pass_over: set[int] = set()
        """vCPUs whose breakpoint was just reported: it is passed over until they have done one tick."""
        self.begun = begun
        self.mask = StepMask(cpus, board.clock, influence)
        self._engine = engine
        self._cpus = cpus
        self._others = [[v for v in range(len(cpus)) if v != current] for current in range(len(cpus))]
        self._board = board
        self._clock = board.clock
        self._signals = signals
        self._influence = influence
        self._access = DeviceAccess(board)
        signals.access = self._access
        self._entry = Entry(engine, cpus, board, self._access, self.mask, self.pass_over)
        self._ready = Readiness(cpus, board)
        self._bus = SignalBus(engine, cpus, board, signals)
        self._stop_requested = False
        self._alone: bool | None = None
        self._turn_over = False
        for cpu in cpus:
            cpu.control.pause_cost = PAUSE_COST

    # --- the machine's owner -----------------------------------------------------------------------

    def run(self, goal: Goal) -> Outcome:
        """Run until `goal` holds or something happens that its owner must decide."""
        self._look_again()
        self.settle()
        try:
            return self._run(goal)
        finally:
            if goal.masked:
                self.mask.release()

    def _run(self, goal: Goal) -> Outcome:
        everybody = goal.allowed is None and not goal.steps
        if self._access.seen:
            return self._touched(stepped=False)
        while True:
            if (signal := self._bus.suspended) is not None:
                self._bus.suspended = None
                return Suspended(signal.reason, signal.value)
            if self._stop_requested:
                self._stop_requested = False
                return Kicked()
            if goal.until is not None and self._clock.now >= goal.until:
                return Reached()
            start = self._take_turns(goal.until) if everybody and self._turn_over else None
            vcpu = self._choose(goal) if start is None else self.current
            outcome = self._idle(goal) if vcpu is None else self._run_vcpu(vcpu, goal, start)
            self.settle()
            if self._access.seen and (outcome is None or isinstance(outcome, Stepped)):
                return self._touched(stepped=outcome is not None)
            if outcome is not None:
                return outcome

    def _touched(self, *, stepped: bool) -> VcpuStopped:
        seen = tuple(self._access.seen)
        self._access.seen.clear()
        return VcpuStopped(self._access.vcpu, DeviceAccessed(seen), stepped)

    def listen(self, wanted: Wanted | None) -> None:
        """Leave with `DeviceAccessed` after a vCPU's access to a device that is `wanted`; None: no longer."""
        self._access.tap(wanted)

    def request_stop(self) -> None:
        """Make `run` return `Kicked` soon, or the next one at once. Any thread."""
        self._stop_requested = True
        for cpu in self._cpus:
            cpu.kick()

    def refresh(self) -> None:
        """Forget what was derived from CPU and board state: somebody else has changed it."""
        self._look_again()
        self._bus.forget()

    def _look_again(self) -> None:
        self._alone = None
        self._access.attention = True

    def reset(self) -> None:
        """Machine reset."""
        self.current = 0
        self.remaining = QUANTUM
        self.mask.reset()
        self.begun.take()
        self._bus.suspended = None
        self._signals.queue.clear()
        self.refresh()

    def switch_to(self, vcpu: int) -> None:
        """Give `vcpu` a fresh quantum now (an applied `SwitchVcpu`)."""
        self.current = vcpu
        self.remaining = QUANTUM

    def advance(self, ticks: int) -> None:
        """Let machine time pass without running anybody (an applied `Advance`, the end of a wait)."""
        self._clock.advance(ticks)
        self.settle()

    def settle(self) -> None:
        """Do all work due at the present tick. Doing it twice is doing it once."""
        self._clock.run_due()
        if self._access.attention:
            self._access.attention = False
            self._bus.take()
            self._alone = None
            self._bus.sync_priority(self.current)
        if self.remaining <= 0 or not self._ready.runnable(self.current):
            self._rotate()

    def save(self) -> State:
        """Current vCPU and remaining quantum."""
        return save_fields(self, self._fields)

    def load(self, state: Mapping[str, Value]) -> None:
        """Take over a saved state."""
        load_fields(self, self._fields, state)
        self.mask.reset()
        self.begun.take()
        self._bus.suspended = None
        self.refresh()

    # --- choice ------------------------------------------------------------------------------------

    def _rotate(self) -> None:
        count = len(self._cpus)
        for distance in range(1, count + 1):
            vcpu = (self.current + distance) % count
            if self._ready.runnable(vcpu):
                self.switch_to(vcpu)
                self._alone = None
                return

    def _others_wait(self) -> bool:
        """Whether no vCPU but the current one can run, now and until the engine is left."""
        if self._alone is None:
            self._alone = not any(map(self._ready.runnable, self._others[self.current]))
        return self._alone

    def _choose(self, goal: Goal) -> int | None:
        """The vCPU to run now: the current one, or under a restriction the next that `goal` allows."""
        if goal.allowed is None or self.current in goal.allowed:
            return self.current if self._ready.runnable(self.current) else None
        count = len(self._cpus)
        for distance in range(1, count):
            vcpu = (self.current + distance) % count
            if vcpu in goal.allowed and self._ready.runnable(vcpu):
                self._influence(SwitchVcpu(vcpu))
                self._alone = None
                return vcpu
        return None

    # --- one entry ---------------------------------------------------------------------------------

    def _take_turns(self, until: int | None) -> int | None:
        """Whole quanta in turn while nothing else happens: what `_run_vcpu` does, by the engine alone.

        Between two device accesses, timers and exits nobody's state changes but that of the vCPU that runs:
        who can run and who has an interrupt pending need not be asked again. If the current vCPU has left
        its quantum early, its ticks before it are returned, and `_run_vcpu` goes on from there.
        """
        if self.pass_over or self.mask.active or self._others_wait():
            return None
        clock, cpus = self._clock, self._cpus
        deadline = clock.next_deadline()
        bound = NEVER if until is None else until
        if deadline is not None and deadline < bound:
            bound = deadline
        ring = tuple(filter(self._ready.runnable, self._in_turn()))
        for vcpu in ring:
            self._entry.prepare(vcpu)
        turns = self._engine.run_turns(ring, clock.now, self.remaining, QUANTUM, bound)
        self.current, clock.now, self.remaining = ring[turns.place], turns.now, turns.left
        return turns.now - cpus[self.current].control.time_base if turns.cut_short else None

    def _in_turn(self) -> Iterator[int]:
        """All vCPUs from the current one on."""
        count = len(self._cpus)
        return ((self.current + distance) % count for distance in range(count))

    def _run_vcpu(self, vcpu: int, goal: Goal, start: int | None) -> Outcome | None:
        """One run of the engine and what follows from its exit; None to go on."""
        cpu = self._cpus[vcpu]
        if start is None:
            start = cpu.ticks()
        alone = self._others_wait()
        left = self._entry.enter(vcpu, start, NEVER if alone else start + self.remaining, goal)
        self._turn_over = isinstance(left, Deadline)
        ticks = cpu.ticks()
        self._access.finish(ticks)
        if ticks != start:
            self._spend(ticks - start, alone)
            self.pass_over.discard(vcpu)
            self.begun.ended(vcpu)
            if self.mask.held == vcpu:
                self.mask.held = None
        outcome = self._handle(vcpu, left)
        if outcome is None and vcpu in goal.steps:
            done = ticks != start if goal.steps[vcpu] is None else isinstance(left, Mtrap)
            return Stepped(vcpu, self.mask.let_in.pop(vcpu, None), self._entry.interrupted) if done else None
        if isinstance(outcome, VcpuStopped) and ticks != start and goal.steps.get(vcpu, ()) is None:
            return VcpuStopped(vcpu, outcome.exit, stepped=True)
        return outcome

    def _spend(self, ticks: int, alone: bool) -> None:
        """Charge the quantum. Alone, a vCPU runs through several without leaving the engine."""
        if alone:
            self.remaining = QUANTUM - (QUANTUM - self.remaining + ticks) % QUANTUM
        else:
            self.remaining -= ticks

    # --- ticks out of time -------------------------------------------------------------------------

    def hold_tick(self, vcpu: int, *, masked: bool) -> Outcome | None:
        """One tick of `vcpu`, whoever's turn it is, while machine time stands still. None: it could do none.

        `masked` holds maskable interrupts back unless it is halted. Neither breakpoints nor intercepted
        exceptions stop it: a replay does the same tick without them.
        """
        self.refresh()
        self.settle()
        if self._bus.suspended is not None or not self._ready.runnable(vcpu):
            return None
        cpu = self._cpus[vcpu]
        start = cpu.ticks()
        left = self._entry.enter_held(vcpu, start, masked=masked)
        done = cpu.ticks() != start
        if done:
            self.pass_over.discard(vcpu)
            self.begun.ended(vcpu)
        outcome = None if isinstance(left, Pause) else self._handle(vcpu, left, held=True)
        self.settle()
        if outcome is None and self._access.seen:
            return self._touched(stepped=True)
        return outcome or (Stepped(vcpu) if done else None)

    def begin_tick(self, item: BegunTick) -> None:
        """Begin a tick (an applied `BegunTick`). `ReplayError` if it is done instead."""
        self.refresh()
        self.settle()
        cpu = self._cpus[item.vcpu]
        start = cpu.ticks()
        left = self._entry.begin(item, start)
        self._access.finish(cpu.ticks())
        if not isinstance(left, Bpt | ExceptionExit | Unhandled | Unimplemented) or cpu.ticks() != start:
            raise ReplayError("the replay does not follow the log: nothing stops a tick", self._clock.now)
        self.settle()

    def _handle(self, vcpu: int, left: Exit, *, held: bool = False) -> Outcome | None:
        match left:
            case Deadline() | Kick() | Hlt() | Mtrap() | Tpr() | NmiWindow() | IrqWindow() | Wait():
                return None
            case Pause():
                self._clock.advance(PAUSE_COST)
                if not self._others_wait():
                    self.remaining = 0
                return None
            case Cr8(value):
                self._bus.priority_written(vcpu, value)
                return None
            case Woken():
                self._alone = None
                return None
            case TscMoved():
                self._board.tsc_moved(vcpu)
                return None
            case Bpt() | ExceptionExit() | Unhandled() | Unimplemented():
                began = self._clock.now if held else self._access.began(self._cpus[vcpu].ticks())
                self.begun.note(vcpu, left, began)
                return VcpuStopped(vcpu, left)
            case Caught() | Watch() | TripleFault():
                return VcpuStopped(vcpu, left)
            case _:
                assert_never(left)

    # --- idle --------------------------------------------------------------------------------------

    def _idle(self, goal: Goal) -> Outcome | None:
        """No vCPU that may run can: let time pass to the next timer, or say that somebody must wait."""
        vcpus = range(len(self._cpus))
        wakeable = [v for v in vcpus if goal.allowed is None or v in goal.allowed]
        if not any(self._ready.may_wake(v) for v in wakeable):
            held = goal.allowed is not None and any(
                self._ready.runnable(v) or self._ready.may_wake(v) for v in vcpus
            )
            return Idle(None) if held else HaltedForever()
        deadline = self._clock.next_deadline()
        if deadline is None or self.host_clock:
            return Idle(deadline)
        if goal.until is not None:
            deadline = min(deadline, goal.until)
        if any(self._ready.runnable(v) for v in vcpus):
            self._influence(Advance(deadline - self._clock.now))
        else:
            self._clock.advance(deadline - self._clock.now)
        return None
