"""Random debugging sessions whose logs must replay to the same state.

A session resumes by every plan and policy, with breakpoints and catches, and changes the guest at its stops:
registers, memory, ports, resets. Then the debugger goes and the machine runs to a fixed tick. Two replays of
the log must be in the same state there: one that nobody watches, and one with a debugger of its own.
Used by `tests/hv/test_random_sessions.py` in short and by `scripts/determinism` at length.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from gdbstub.target import (
    BreakpointKind,
    Continue,
    Event,
    Exited,
    ResumePlan,
    Stay,
    Step,
    StepRange,
    Stop,
    StopReason,
    ThreadAction,
)
from hv.debug.breakpoints import ExecutionPoint
from hv.debug.catch import parse
from hv.debug.run_control import RunControl
from hv.engines.base import AddressSpace
from hv.inputlog import Replay, make_header
from hv.inputs import ConsoleInput, Influence, MemoryWrite, PortAccess
from hv.outcomes import Idle, Kicked, Outcome, Reached
from tests.helpers.busy_machine import busy_machine
from tests.helpers.machine_fuzzer import Log, leave, run_to
from tests.helpers.timer_machine import CODE, PERIODIC, timer_machine

CATCHES: Final = (
    *((), ("exception",), ("exception",), ("exception #GP",), ("exception #DF", "exception #UD")),
    *(("int3",), ("reset",), ("mode", "exception", "reset")),
)
FAR: Final = 0x40000
_PATIENCE: Final = 50_000
"""Ticks after which a plan that does not end is interrupted."""
_TURNS: Final = 10
_CLOSE_ENOUGH: Final = 1 << 18
"""Ticks after which a session is not replayed with a debugger, which would stop at every turn of a loop."""

AWKWARD: Final = """
        movw    $0x18, 0x60d2           # the gate of #GP leads nowhere: a double fault
        mov     $0x180000, %esi         # no memory: a device that answers with ones
1:      sti
        mov     %ss, %ax
        mov     %ax, %ss
        nop
        in      $0x60, %al
        int     $0x80
        int3
        .byte   0xf1
        ud2
        movw    $8, 0x60d2
        mov     (%rsi), %ss             # #GP behind the read
        nop
        mov     $0x12345, %ecx
        wrmsr
        mov     $0x40000, %edi
        movw    $0xc3, (%rdi)
        mov     $0x7fff0000, %ebx
        mov     (%rbx), %al
        pushf
        orl     $0x100, (%rsp)
        popf
        nop
        pushf
        andl    $~0x100, (%rsp)
        popf
        call    *%rdi
        mov     $2, %al
        out     %al, $0x40
        hlt
        movw    $0x18, 0x6062           # that of #UD: #GP in its delivery
        ud2
        nop
        movw    $8, 0x6062
        mov     $30, %al
        dec     %r12b
        jnz     1b
        out     %al, $0xf5              # reset
"""


class Interrupted(RunControl):
    """Control of a machine that is interrupted at a tick, or when time stands still, not by a thread."""

    _ends_at: int | None = None
    _turns = 0

    def patient(self, ticks: int | None) -> None:
        """Interrupt the plan that comes after so many ticks; None: never."""
        self._ends_at = None if ticks is None else self.vm.clock.now + ticks
        self._turns = 0

    def until(self, limit: int | None) -> int | None:
        """See `Judge`."""
        return min((tick for tick in (super().until(limit), self._ends_at) if tick is not None), default=None)

    def judge(self, outcome: Outcome) -> Event | None:
        """See `Judge`."""
        if self._ends_at is not None and isinstance(outcome, Reached | Idle | Kicked):
            self._turns += 1
            if self.vm.clock.now >= self._ends_at or isinstance(outcome, Idle) or self._turns > _TURNS:
                return Stop(StopReason.INTERRUPT, self.vm.scheduler.current + 1)
        return super().judge(outcome)


@dataclass(frozen=True)
class Stage:
    """A guest: how it is made, where breakpoints are set, what is written, and the ticks between goals."""

    make: Callable[[], Interrupted]
    places: tuple[int, ...]
    writes: tuple[Influence, ...]
    grid: int


def _gates(base: int, size: int, vectors: tuple[int, ...]) -> tuple[MemoryWrite, ...]:
    """Changes of the selectors of gates, to one that works and one that does not."""
    return tuple(
        MemoryWrite(base + size * vector + 2, selector)
        for vector in vectors
        for selector in (b"\x08\0", b"\x18\0")
    )


def _timer() -> Interrupted:
    return Interrupted(timer_machine("mov $3, %r12b\n" + PERIODIC + AWKWARD)[0])


ONE: Final = Stage(
    _timer,
    (CODE, FAR, FAR + 1, 0x9000 + 16 * 6, 0x9000 + 16 * 13, 0x9000 + 16 * 0x20),
    (
        *_gates(0x6000, 16, (3, 6, 13, 0x20)),
        *(MemoryWrite(0x2F000, b"seen"), MemoryWrite(CODE + 40, b"\x90"), ConsoleInput(0, b"x")),
        *(PortAccess(0x60, 1, None), PortAccess(0x40, 1, 2)),
    ),
    4096,
)
TWO: Final = Stage(
    lambda: Interrupted(busy_machine().vm),
    (0x8FFE, 0x9003, 0x8000, 0x801E),
    (
        *_gates(0x12000, 8, (13, 14, 0x20, 0x40)),
        *(MemoryWrite(0x2F000, b"seen"), MemoryWrite(0x110C4, b"\x07"), PortAccess(0x80, 1, 3)),
        *(MemoryWrite(0x11024, b"\x00"), MemoryWrite(0x11024, b"\x07")),
    ),
    1 << 15,
)


class Session:
    """One random session. The debugger remembers where it has been, to come back."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.rng = random.Random(seed)
        self.stage = stage
        self.control = stage.make()
        self.vm = self.control.vm
        self.log = self.vm.door.recorder = Log()
        self.places = list(stage.places)
        watch(self.control, self.rng, self.places)

    def resume(self) -> Event:
        """Carry out some plan until it stops, or is stopped."""
        rng, control = self.rng, self.control
        control.steps.masked = rng.random() < 0.6
        control.steps.timers_held = rng.random() < 0.2
        control.patient(_PATIENCE)
        events: SimpleQueue[Event] = SimpleQueue()
        event = control.resume(self._plan(), events.put) or events.get()
        control.patient(None)
        self.places += [vcpu.get("linear_pc") for vcpu in self.vm.vcpus]
        return event

    def _plan(self) -> ResumePlan:
        actions = [self._action(vcpu.get("linear_pc")) for vcpu in self.vm.vcpus]
        if all(isinstance(action, Stay) for action in actions):
            actions[-1] = Continue()
        return ResumePlan(tuple(ThreadAction(action, number) for number, action in enumerate(actions, 1)))

    def _action(self, place: int) -> Continue | Step | StepRange | Stay:
        match self.rng.randrange(8):
            case 0 | 1 | 2:
                return Step()
            case 3 | 4:
                start = max(place - self.rng.randrange(20), 0)
                return StepRange(start, place + self.rng.randrange(1, 60))
            case 5:
                return Stay()
            case _:
                return Continue()

    def change(self) -> None:
        """Change something."""
        rng = self.rng
        vcpu = rng.randrange(len(self.vm.vcpus))
        match rng.randrange(8):
            case 0:
                values = rng.choice(self.places).to_bytes(8, "little")
                self.control.write_registers(vcpu, (("rip", values),))
            case 1:
                self.control.write_registers(vcpu, (("rax", rng.randbytes(8)),))
            case 2:
                here = self.vm.vcpus[vcpu].get("rip").to_bytes(8, "little")
                self.control.write_registers(vcpu, (("rip", here),))
            case 3 if self.vm.suspended is not None or rng.random() < 0.1:
                self.control.reset_machine()
            case _:
                self.vm.door.submit(rng.choice(self.stage.writes))

    def run(self) -> tuple[int, str] | None:
        """The whole session, and the state at the goal; None when the machine has ended before."""
        control = self.control
        for _ in range(self.rng.randrange(3, 25)):
            if control.ending is not None or isinstance(self.resume(), Exited):
                break
            while self.rng.random() < 0.35:
                self.change()
        leave(control)
        if control.ending is not None:
            return None
        return run_to(control, (self.vm.clock.now // self.stage.grid + 2) * self.stage.grid)


def watch(control: RunControl, rng: random.Random, places: list[int]) -> None:
    """A debugger comes, with breakpoints and catches."""
    control.debugged = True
    for words in rng.choice(CATCHES):
        control.catches.add(parse(words.split()))
    for _ in range(rng.randrange(4)):
        point = ExecutionPoint(AddressSpace.LINEAR, rng.choice(places))
        control.points.add(1, point, BreakpointKind.SOFTWARE)


def close(control: RunControl) -> None:
    """The end of a machine."""
    control.close()
    control.vm.close()


def difference(stage: Stage, seed: int) -> str:
    """What is wrong with the replays of a session; empty for nothing."""
    session = Session(stage, seed)
    final = session.run()
    close(session.control)
    if final is None:
        return ""
    watched = (False, True) if final[0] < _CLOSE_ENOUGH else (False,)
    for with_debugger in watched:
        control = stage.make()
        control.vm.door.replay = Replay(make_header({}, {}), list(session.log.items), None)
        if with_debugger:
            watch(control, random.Random(seed), session.places)
        try:
            replayed = run_to(control, final[0])
        finally:
            close(control)
        if replayed != final:
            return f"seed {seed}, {with_debugger=}: {replayed} instead of {final}"
    return ""
