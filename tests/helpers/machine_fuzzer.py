"""Real machines as subjects of the session's fuzzer: two vCPUs of the software core with a program that
runs, stores, faults and asks its devices, on a bare machine or, with interrupts and halts, on a `pc`.

What reaches its guest must pass the door for influences (`hv.inputlog`), whatever a client does: after the
session the machine runs on to a fixed tick, and another one, to which nothing happens but what the log says,
must have the same state hash there. Without a request that writes the log has nothing in it but what
restricted and masked runs hold back, and nothing at all for runs of the whole machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from queue import SimpleQueue
from typing import Final

import trio

from gdbstub import requests
from gdbstub.description import Description
from gdbstub.target import Client, Detach, Event, Exited
from hv.debug.commands import find
from hv.debug.plans import FREE_RUN
from hv.debug.run_control import RunControl
from hv.debug.stops import STATUS_OK, Ending
from hv.debug.target import MachineTarget
from hv.debug.target_settings import TargetSettings
from hv.debug.target_shared import MachineLease
from hv.inputlog import Recorder, Replay, make_header
from hv.inputs import (
    Advance,
    BegunTick,
    HeldTicks,
    Influence,
    InjectEvent,
    IrqHeld,
    IrqMask,
    MachineReset,
    SwitchVcpu,
)
from tests.helpers.bare_target import Machine
from tests.helpers.busy_machine import busy_machine
from tests.helpers.effects import Effect, effect_of, effect_of_stream
from tests.helpers.session_fuzzer import CHANGED

PROGRAM: Final = bytes.fromhex(
    "40"  # inc ax
    "a30020"  # mov [2000h], ax
    "e680"  # out 80h, al
    "ec"  # in al, dx
    "f3a4"  # rep movsb
    "0f30"  # wrmsr
    "ebf2"  # jmp to the start
)
SETTINGS: Final = TargetSettings()
LINES: Final = (
    *(
        "help",
        "info registers",
        "info mem",
        "info tlb",
        "info irq",
        "info breakpoints",
        "break 0x7c01",
        "delete",
    ),
    *("catch exception", "catch port 0x80", "catch msr", "reset", "stop", "state", "version", "control take"),
    *("watch 0x2000", "quit 3", "step-policy unmasked", "step-policy timers-held", "out 0x80 1", "in 0x80"),
    *("write-msr 0x1b 0", "xp /16xb 0x2000", "gva2gpa $pc"),
)
SAMPLES: Final = [
    *(b"Z0,7c01,1", b"z0,7c01,1", b"Z1,7c04,1", b"Z2,2000,2", b"Z3,7000,10", b"Z4,2000,1", b"m7c00,20"),
    *(b"x7c00,20", b"vCont;s:1;c", b"vCont;s:2", b"vCont;r7c00,7c07:1;c", b"M2000,2:1234", b"Hg2", b"Hc2"),
    *(b"Z0,8ffe,1", b"Z1,9003,1", b"vCont;r8ffe,9003:1;c", b"P10=fe8f000000000000", b"M110c4,1:07"),
    *(b"qRcmd," + line.encode().hex().encode() for line in LINES),
]
COMMANDS: Final = {
    **dict.fromkeys(("break", "watch", "delete", "catch", "step-policy", "symbols wait"), Effect.LOOKS),
    "quit": Effect.LOOKS,
    **dict.fromkeys(("in", "out", "write-msr", "pmemload", "reset"), Effect.WRITES),
}
"""The effects of the commands that do more than read."""
HELD_BACK: Final = (Advance, BegunTick, HeldTicks, InjectEvent, IrqHeld, IrqMask, MachineReset, SwitchVcpu)
"""What runs without a write may leave in the log: an event is a caught one, delivered after others ran, a
reset the guest's own."""
_PATIENCE: Final = 50
_ENDS: Final = Ending(STATUS_OK, "the fuzzer has seen enough")


def effect_of_line(line: str) -> Effect:
    """The effect of a `monitor` line; none for one that is not understood. KeyError for one without a row."""
    try:
        command, _ = find(line)
    except ValueError:
        return Effect.LOOKS
    return Effect.LOOKS if command is None or command.only_reads else COMMANDS[command.name]


def effect_on_machine(request: object) -> Effect:
    """The effect of a request."""
    if isinstance(request, requests.MonitorCommand):
        return effect_of_line(request.command)
    return effect_of(request)


class Log(Recorder):
    """A log of influences in memory."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Influence]] = []

    def add(self, tick: int, item: Influence) -> None:
        """See `Recorder`."""
        self.items.append((tick, item))

    def close(self, tick: int) -> None:
        """Nothing to do."""


class RecordedTarget(MachineTarget):
    """A target that remembers its end."""

    ended: Detach | None = None

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        self.ended = how
        await super().detach(how)


def leave(control: RunControl) -> None:
    """The debugger goes, with all it has set."""
    control.debugged = False
    for point in list(control.points):
        control.points.delete(point.number)
    control.catches.remove(None)


def stand_still(control: RunControl) -> None:
    """Wait until the machine stands, and leave nothing of debugging on it."""
    stood = threading.Event()
    if control.stop_free_run(lambda event: stood.set()):
        stood.wait()
    leave(control)


def run_to(control: RunControl, tick: int) -> tuple[int, str]:
    """Let a machine that stands run to `tick`, or to its own end; the tick and the state hash there."""
    control.ending = control.quitting = control.due = None
    control.limits[:] = [(tick, _ENDS)]
    events: SimpleQueue[Event] = SimpleQueue()
    while not isinstance(control.resume(FREE_RUN, events.put) or events.get(), Exited):
        pass
    return control.vm.clock.now, control.vm.state_hash()


class MachineSubject:
    """A fresh machine and the target of its only client."""

    make_machine: Callable[[], Machine] = staticmethod(partial(Machine, PROGRAM))
    grid = 4096
    """Ticks between the places where runs are compared."""
    make_target: Callable[[RunControl, MachineLease, Client, TargetSettings], RecordedTarget] = RecordedTarget

    def __init__(self) -> None:
        self.machine = self.make_machine()
        self._start = self.machine.vm.clock.now
        self.log = self.machine.vm.door.recorder = Log()
        self.target = self.make_target(self.machine.control, self.machine.lease, Client("fuzz", 1), SETTINGS)

    @property
    def detached(self) -> bool:
        """Whether the connection has ended by a detach."""
        return self.target.ended is not None

    async def interrupted(self) -> None:
        """See `tests.helpers.session_fuzzer.Subject`. What runs in non-stop mode does not stop."""
        for _ in range(_PATIENCE):
            if not self.machine.control.running:
                break
            await trio.sleep(0.001)
        for _ in range(16):
            await trio.lowlevel.checkpoint()

    def left_behind(self) -> bool:
        """Whether points of the connection are still there."""
        return any(point.owner == 1 for point in self.machine.control.points)

    def changed(self, stream: bytes) -> str:
        """See `tests.helpers.session_fuzzer.Subject`."""
        control, vm = self.machine.control, self.machine.vm
        stand_still(control)
        effect = effect_of_stream(stream, effect_on_machine)
        if effect is Effect.LOOKS and (vm.clock.now != self._start or self.log.items):
            return CHANGED
        for tick, item in self.log.items:
            if effect < Effect.WRITES and not isinstance(item, HELD_BACK):
                return f"{CHANGED}: {item} at tick {tick}"
        goal = (vm.clock.now // self.grid + 1) * self.grid
        ours, expected = run_to(control, goal), self._expected(goal)
        if ours != expected:
            return f"{CHANGED}, as its run shows: tick {ours[0]} instead of {expected[0]}"
        return ""

    def _expected(self, goal: int) -> tuple[int, str]:
        """The tick and the state hash of a machine to which only happens what is in the log."""
        return self._replayed(self.log.items, goal) if self.log.items else self._undisturbed(goal)

    @classmethod
    @cache
    def _undisturbed(cls, goal: int) -> tuple[int, str]:
        return cls._replayed([], goal)

    @classmethod
    def _replayed(cls, items: Sequence[tuple[int, Influence]], goal: int) -> tuple[int, str]:
        """A machine without a debugger at tick `goal`."""
        machine = cls.make_machine()
        machine.vm.door.replay = Replay(make_header({}, {}), list(items), None)
        try:
            return run_to(machine.control, goal)
        finally:
            machine.control.close()
            machine.vm.close()

    def close(self) -> None:
        """The end of the machine."""
        self.machine.control.close()
        self.machine.vm.close()


class BusySubject(MachineSubject):
    """A machine with interrupts."""

    make_machine = staticmethod(busy_machine)
    grid = 1 << 15


def machine_to_fuzz(_: Description) -> MachineSubject:
    """A fresh machine without interrupts."""
    return MachineSubject()


def busy_to_fuzz(_: Description) -> MachineSubject:
    """A fresh machine with interrupts."""
    return BusySubject()
