"""What the debug server asks of the thing being debugged.

`Target` is the required part. The other Protocols are capabilities: a target has one by having its
methods, and `qSupported`, `vCont?` and the answers to optional packets are computed from that, so that
an advertised feature cannot lack its code.

One `Target` object serves one connection: `serve()` calls ``open_target(client)`` for each. Objects
that share a machine settle among themselves who controls it (`attach` raises `TargetBusyError`).

Calling rules, kept by the session and its server:

* Everything that touches the machine is a coroutine, so that a target may hand the request to the
  thread which runs the machine and wait for its turn. A coroutine that has nothing to wait for simply
  returns. Calls come from one task tree and never overlap, except `interrupt` and `wait_stop`.
* Nothing but `description` is used before `attach`. `attach` stops the machine. After `detach` no call
  follows.
* `resume` starts the plan. When the plan ends at once (a step, say) it may return the event itself;
  otherwise it returns None and exactly one `wait_stop` collects the event. Between `resume` and the
  event only `interrupt` and `wait_stop` are called. `wait_stop` may be cancelled and loses no event.
* After `Exited` or `Killed` only `detach` is called.
* A method that cannot do what is asked raises a `TargetError`; the text reaches the user. Any other
  exception is a bug: it ends that session (with ``detach(Detach.LOST)``), not the server.

Arguments are already bounded by the packet size and checked for range: addresses are ``0 <= a < 2**64``
and ``a + length <= 2**64``. Thread ids are at least 1 and mean the same thread for the target's life.
Register values are bytes in target byte order, of exactly the size that the description gives.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gdbstub.predicate import Program
from gdbstub.signals import Signal

if TYPE_CHECKING:
    from gdbstub.description import Description  # 15 ms that a machine without a debugger need not wait


class StopReason(enum.Enum):
    """Why the machine stands still."""

    ATTACHED = "attached"
    """Stopped because a debugger came; nothing happened."""
    STEP = "step"
    """The step or range step of `Stop.thread` is complete."""
    SOFTWARE_BREAKPOINT = "swbreak"
    """A breakpoint set by `Z0`. The program counter is the breakpoint's address."""
    HARDWARE_BREAKPOINT = "hwbreak"
    """A breakpoint set by `Z1`. The program counter is the breakpoint's address."""
    WATCHPOINT = "watch"
    """A watched access; `Stop.watch` says which."""
    INTERRUPT = "interrupt"
    """`Target.interrupt` was called."""
    EVENT = "event"
    """Anything else that the target stops for: a caught exception, reset, power-off, triple fault,
    an instruction it lacks. `Stop.signal` and `Stop.text` say what."""
    LIBRARY = "library"
    """The list of `gdbstub.capabilities.Libraries` has changed: the client reads it anew and goes on."""
    HISTORY_BEGIN = "replaylog:begin"
    """No earlier state exists."""
    HISTORY_END = "replaylog:end"
    """The end of the recorded run."""


class WatchKind(enum.Enum):
    """What a watchpoint watches. The value is the key in a stop reply."""

    WRITE = "watch"
    READ = "rwatch"
    ACCESS = "awatch"


class BreakpointKind(enum.Enum):
    """How a breakpoint was asked for. A target may treat both alike but reports the kind that was set."""

    SOFTWARE = 0
    HARDWARE = 1


@dataclass(frozen=True, slots=True)
class WatchHit:
    """A watchpoint that was hit: its kind and the watched address that was touched."""

    kind: WatchKind
    address: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The machine stopped, with everything kept for inspection.

    `signal` None means SIGINT for `INTERRUPT` and SIGTRAP for every other reason. `text` is a sentence
    for a person ("vCPU 1: triple fault ..."), shown on the debugger's console just before the stop;
    it needs no newline.
    """

    reason: StopReason
    thread: int
    signal: Signal | None = None
    watch: WatchHit | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Exited:
    """The machine ended by itself with a status, 0 to 255 (a `W` reply). `text` as in `Stop`."""

    status: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Killed:
    """The machine ended without a status of its own (an `X` reply). `text` as in `Stop`."""

    signal: Signal = Signal.SIGKILL
    text: str = ""


Event = Stop | Exited | Killed


@dataclass(frozen=True, slots=True)
class Continue:
    """Run. `signal` is what `C`/`vCont;C` carried; 0 is none. A target may ignore it."""

    signal: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Execute one step (one instruction, or one event delivery), then stop."""

    signal: int = 0


@dataclass(frozen=True, slots=True)
class StepRange:
    """Step at least once and on while ``start <= pc < end``; stop early on any other event.

    ``start == end`` is a plain step.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stay:
    """Do not run this thread."""


Action = Continue | Step | StepRange | Stay


@dataclass(frozen=True, slots=True)
class ThreadAction:
    """One action of a plan, for one thread or (`thread` None) for every thread not matched before."""

    action: Action
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """Who does what until the next event. The leftmost match wins; a thread without a match stays.

    All named threads exist and at least one thread moves. The plan ends for all threads with the first
    event. gdb's ``stepi`` arrives as ``(Step, thread 1), (Continue, all others)``.
    """

    actions: tuple[ThreadAction, ...]

    def action_for(self, thread: int) -> Action:
        """The action of `thread`."""
        for entry in self.actions:
            if entry.thread is None or entry.thread == thread:
                return entry.action
        return Stay()

    def names(self, thread: int) -> bool:
        """Whether an action is meant for `thread`."""
        return any(entry.thread is None or entry.thread == thread for entry in self.actions)


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A thread of the target (for a machine: a vCPU).

    `name` is short ("vCPU 0"), `detail` says how it is now ("halted"), `core` is the processor number
    that `info threads` shows. All but `detail` is constant and may be asked for once only.
    """

    id: int
    name: str
    detail: str = ""
    core: int | None = None


class Detach(enum.Enum):
    """How a connection ends."""

    LOST = "lost"
    """The connection broke or its session failed: back to the run state found at attach. A machine that
    was running then, or has been continued since, runs on; one never continued stays where it is."""
    RESUME = "resume"
    """The client detached in form (`D`): run on."""
    STAY = "stay"
    """The client detached in form and wants the machine to stay stopped."""


class StepPolicy(enum.IntFlag):
    """What happens to interrupts and timers during a step. Bits and names are QEMU's (`qqemu.sstepbits`)."""

    ENABLE = 1
    """Always set; QEMU uses 0 to leave stepping off."""
    NOIRQ = 2
    """Maskable interrupts are held back while a step runs."""
    NOTIMER = 4
    """Timers stand still while a step runs."""


@dataclass(frozen=True, slots=True)
class SectionOffsets:
    """Where the loaded program really is, for `qOffsets`: load addresses of its segments.

    `slide` is how far the program was moved, for clients that want to know that instead.
    """

    text_segment: int
    data_segment: int | None = None
    slide: int | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """Who is connected: a name for messages ("127.0.0.1:40312", "unix:/run/x", "stdio") and a number
    unique in this server's life."""

    name: str
    number: int


@runtime_checkable
class Target(Protocol):
    """The part that every target has. See the module for the rules of calling."""

    @property
    def description(self) -> Description:
        """The registers and their layout. Constant while the connection lasts; readable before `attach`."""
        ...

    async def attach(self) -> Stop:
        """Take control, stop the machine, and say how it stands. Raises `TargetBusyError`.

        When it fails or is cancelled, everything is as before and `detach` is not called.
        """
        ...

    async def detach(self, how: Detach) -> None:
        """Give control back; drop this connection's breakpoints, watchpoints, steps and policies."""
        ...

    async def threads(self) -> Sequence[ThreadInfo]:
        """All threads, in a constant order; at least one."""
        ...

    async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
        """The values of the named registers of `thread`, in the order asked; None for an unavailable one."""
        ...

    async def write_registers(self, thread: int, values: Sequence[tuple[str, bytes]]) -> None:
        """Set registers of `thread`, all or nothing. Raises `RegisterError`.

        A pair equal to the present value changes nothing, also for a register that cannot be written:
        a client writes back whole register sets.
        """
        ...

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """Read as `thread` sees memory, without side effects.

        Returns the readable prefix, at least one byte unless `length` is 0. Raises `MemoryAccessError` when
        the first byte cannot be read.
        """
        ...

    async def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """Write as `thread` sees memory, ignoring the machine's write protection; all or nothing.
        Raises `MemoryAccessError`."""
        ...

    async def resume(self, plan: ResumePlan) -> Event | None:
        """Start `plan`. The event if it ended at once, else None and `wait_stop` has it later."""
        ...

    async def wait_stop(self) -> Event:
        """Wait for the event that ends the running plan. Cancelling loses nothing."""
        ...

    def interrupt(self) -> None:
        """Ask the running plan to end, soon, with `StopReason.INTERRUPT`; an event that comes first stands.

        Does not wait. Harmless when nothing runs: it must then not stop a later plan.
        """
        ...


@runtime_checkable
class Breakpoints(Protocol):
    """`Z0`, `z0`, `Z1`, `z1`: execution breakpoints at linear addresses. Both calls are idempotent.

    `size` is the length that the client gave (on x86 always 1). They belong to this connection and go
    with it.
    """

    async def set_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """Raises `UnsupportedError` or `MemoryAccessError`; an address not mapped yet is no error."""
        ...

    async def clear_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """Remove it; no error when there is none."""
        ...


@runtime_checkable
class Watchpoints(Protocol):
    """`Z2` to `Z4` and their removal: watched ranges ``[address, address + length)``, `length` >= 1.
    Both calls are idempotent."""

    async def set_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """Raises `UnsupportedError`."""
        ...

    async def clear_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """Remove it; no error when there is none."""
        ...


@runtime_checkable
class Conditions(Protocol):
    """Conditions and commands of `Z0` to `Z4`, for breakpoints and watchpoints that exist.

    A point that is hit counts when it has no condition, when one of them is true, or when one cannot be
    evaluated (`gdbstub.evaluator.holds`). One that counts stops the machine; or, if it has commands, runs
    them all and goes on. Their text goes to `TextOutput`.
    """

    async def set_conditions(
        self,
        kind: BreakpointKind | WatchKind,
        address: int,
        size: int,
        conditions: Sequence[Program],
        commands: Sequence[Program],
        persist: bool,
    ) -> None:
        """Replace what the point has. Called after each time that the point is set, also with nothing.

        `persist` asks to keep the commands when the client leaves; a target whose points belong to their
        connection ignores it. Raises `UnsupportedError`.
        """
        ...


@runtime_checkable
class TextOutput(Protocol):
    """The target has something to say while a plan runs, as a breakpoint's commands do."""

    def set_console(self, write: Callable[[str], None]) -> None:
        """Called once, after `attach`. `write` is for the server's thread only; text that it gets while no
        plan runs is shown when the next one does."""
        ...


@runtime_checkable
class RangeStepping(Protocol):
    """The target's `resume` accepts `StepRange` (`vCont;r`)."""

    @property
    def steps_ranges(self) -> bool:
        """True when range steps are available on this target."""
        ...


@runtime_checkable
class Monitor(Protocol):
    """`qRcmd`: gdb's ``monitor COMMAND``."""

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        """Run one command line with `thread` as the current one.

        Text given to `write` appears on the debugger's console; lines end in a newline. An unknown or failing
        command is text too, or a `TargetError`. `command` is at most half a packet long and may be hostile.
        """
        ...


@runtime_checkable
class Killable(Protocol):
    """`k` and `vKill`. Without it both only detach."""

    async def kill(self) -> None:
        """End the machine. Only `detach` follows."""
        ...


@runtime_checkable
class SteppingPolicy(Protocol):
    """`qqemu.sstepbits`, `qqemu.sstep`, `Qqemu.sstep=`: per connection, reset by `detach`."""

    async def step_policy(self) -> StepPolicy:
        """The policy in force."""
        ...

    async def set_step_policy(self, policy: StepPolicy) -> None:
        """Choose another. Raises `UnsupportedError` for a combination the target lacks."""
        ...


@runtime_checkable
class PhysicalMemory(Protocol):
    """`Qqemu.PhyMemMode`: memory packets address physical memory while the mode is on."""

    async def read_physical(self, address: int, length: int) -> bytes:
        """As `Target.read_memory`, physical."""
        ...

    async def write_physical(self, address: int, data: bytes) -> None:
        """As `Target.write_memory`, physical."""
        ...


@runtime_checkable
class Offsets(Protocol):
    """`qOffsets`: where the program was really loaded."""

    async def section_offsets(self) -> SectionOffsets | None:
        """None when not (yet) known, or when the program is where its file says."""
        ...
