"""The toy machine with every capability that the debug server knows."""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import trio

from gdbstub.capabilities import Block, Library, MemoryRegion, Table
from gdbstub.description import Description
from gdbstub.errors import TargetBusyError, TargetError
from gdbstub.evaluator import EvaluationError, evaluate, holds
from gdbstub.lease import Lease
from gdbstub.predicate import Program
from gdbstub.target import (
    BreakpointKind,
    Detach,
    Event,
    ResumePlan,
    Stay,
    Stop,
    StopReason,
    ThreadAction,
    WatchKind,
)
from tests.helpers.toy_target import RAM_SIZE, ToyTarget

PointKey = tuple[BreakpointKind | WatchKind, int, int]

MAPS = "0000000000001000-0000000000002000 r-xp 00000000 00:00 0          [toy code]\n"
_ELF = struct.pack(
    "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000, 64, 0, 0, 64, 56, 1, 64, 0, 0
) + struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000)
PROGRAM = _ELF + bytes(range(256)) * 600
"""An ELF file with one segment and no section."""
FILES = {"/proc/1/maps": MAPS.encode(), "/boot/toy": PROGRAM}
TABLES = {"vcpus": Table(("Number", "State"), (("0", "runs & <runs>"), ("1", "halted")))}
REGIONS = (
    MemoryRegion(0, 0x1000),
    MemoryRegion(0x1000, 0x1000, readable=True, executable=True, name="code"),
    MemoryRegion(0x2000, 0xE000, readable=True, writable=True),
    MemoryRegion(0x10000, 2**64 - 0x10000),
)


class FullToy(ToyTarget):
    """See `tests.helpers.toy_target` for the machine."""

    def __init__(self, threads: int = 2, description: Description | None = None) -> None:
        super().__init__(description, threads)
        self.conditions: dict[PointKey, tuple[Sequence[Program], Sequence[Program], bool]] = {}
        self.console: Callable[[str], None] = lambda text: None
        self.restarts = 0
        self.loaded: list[Library] = []
        self.traced: dict[int, int] = {}
        self.is_non_stop = False
        self._running: dict[int, Iterator[Event | None]] = {}
        self._halts: deque[int] = deque()
        self._something_runs = trio.Event()

    def set_console(self, write: Callable[[str], None]) -> None:
        self.console = write

    async def detach(self, how: Detach) -> None:
        await self.set_non_stop(False)
        self.conditions.clear()
        await super().detach(how)

    # --- conditions ----------------------------------------------------------------------------------

    async def set_conditions(
        self,
        kind: BreakpointKind | WatchKind,
        address: int,
        size: int,
        conditions: Sequence[Program],
        commands: Sequence[Program],
        persist: bool,
    ) -> None:
        self.conditions[kind, address, size] = (conditions, commands, persist)

    def _register_reader(self, thread: int) -> Callable[[str], int | None]:
        values = self.registers[thread - 1]
        return lambda name: None if name == "tsc_aux" else int.from_bytes(values[name], "little")

    def _memory(self, address: int, length: int) -> bytes | None:
        return bytes(self.ram[address : address + length]) if address + length <= RAM_SIZE else None

    def _counts(self, thread: int, key: PointKey) -> bool:
        """Whether a point that is hit stops; runs its commands."""
        conditions, commands, _ = self.conditions.get(key, ((), (), False))
        read_register = self._register_reader(thread)
        if not holds(conditions, read_register, self._memory):
            return False
        for program in commands:
            try:
                evaluate(program, read_register, self._memory, write=self.console)
            except EvaluationError as error:
                self.console(f"{error}\n")
        return not commands

    def _breakpoint(self, thread: int) -> Stop | None:
        hit = super()._breakpoint(thread)
        kinds = [kind for kind, address in self.points if address == self._pc(thread)]
        # All of them: each runs its commands.
        counts = [self._counts(thread, (kind, self._pc(thread), 1)) for kind in kinds]
        return hit if any(counts) else None

    def _watched(self, thread: int, address: int, kinds: tuple[WatchKind, WatchKind]) -> Stop | None:
        hit = super()._watched(thread, address, kinds)
        if hit is None:
            return None
        touched = [w for w in self.watches if w[0] in kinds and w[1] <= address < w[1] + w[2]]
        counts = [self._counts(thread, watch) for watch in touched]
        return hit if any(counts) else None

    # --- memory map, files, tables, branch trace -----------------------------------------------------

    async def memory_region(self, thread: int, address: int) -> MemoryRegion:
        return next(region for region in REGIONS if region.start <= address < region.start + region.size)

    async def read_file(self, path: str) -> bytes | None:
        return FILES.get(path)

    async def executable(self) -> str | None:
        return "/boot/toy"

    async def libraries(self) -> Sequence[Library]:
        return self.loaded

    async def tables(self) -> Sequence[tuple[str, str]]:
        return [(name, f"the {name}") for name in TABLES]

    async def table(self, name: str) -> Table | None:
        return TABLES.get(name)

    async def set_branch_trace(self, thread: int, size: int | None) -> None:
        if size is None:
            self.traced.pop(thread, None)
        else:
            self.traced[thread] = size

    async def branch_trace(self, thread: int) -> Sequence[Block]:
        if thread not in self.traced:
            raise TargetError("not traced")
        return [Block(0x1001, self._pc(thread)), Block(0x1001, 0x1008), Block(0x1000, 0x1008)]

    # --- restart -------------------------------------------------------------------------------------

    async def restart(self) -> Stop:
        self.restarts += 1
        for number, registers in enumerate(self.registers):
            registers["rip"] = (0x1000 + 0x100 * number).to_bytes(8, "little")
            registers["rax"] = bytes(8)
        return Stop(StopReason.ATTACHED, 1)

    # --- non-stop ------------------------------------------------------------------------------------

    async def set_non_stop(self, on: bool) -> None:
        self.is_non_stop = on
        self._running.clear()
        self._halts.clear()

    async def start(self, plan: ResumePlan) -> None:
        for thread in range(1, len(self.registers) + 1):
            action = plan.action_for(thread)
            if thread not in self._running and not isinstance(action, Stay):
                self._running[thread] = self._run(ResumePlan((ThreadAction(action, thread),)))
                self._interrupted = False
        self._something_runs.set()

    async def halt(self, threads: Sequence[int]) -> None:
        self._halts.extend(threads)
        self._something_runs.set()

    async def next_stop(self) -> Event:
        while True:
            while self._halts:
                thread = self._halts.popleft()
                if self._running.pop(thread, None) is not None:
                    return Stop(StopReason.INTERRUPT, thread)
            for thread, ticks in list(self._running.items()):
                for event in itertools.islice(ticks, 50):
                    if event is not None:
                        del self._running[thread]
                        return event
            if not self._running:
                self._something_runs = trio.Event()
                await self._something_runs.wait()
            await trio.lowlevel.checkpoint()


class SharedMachine:
    """A `FullToy` that several connections share; `view` is the target of one of them."""

    def __init__(self, toy: FullToy) -> None:
        self.toy = toy
        self.lease = Lease()
        self.event: Event | None = None
        self.ended = trio.Event()
        self.running = False

    def view(self) -> SharedView:
        return SharedView(self)


class SharedView:
    """One connection's view of a `SharedMachine`."""

    def __init__(self, machine: SharedMachine) -> None:
        self._machine = machine
        self._toy = machine.toy
        self._in_control = False
        self.description = machine.toy.description
        for name in ("threads", "read_registers", "write_registers", "read_memory", "write_memory"):
            setattr(self, name, getattr(machine.toy, name))
        for name in ("set_breakpoint", "clear_breakpoint", "monitor"):
            setattr(self, name, getattr(machine.toy, name))

    @property
    def lease(self) -> Lease:
        return self._machine.lease

    async def attach(self) -> Stop:
        if self._machine.running:
            raise TargetBusyError("a machine that runs")
        self._in_control = True
        return Stop(StopReason.ATTACHED, 1)

    async def look_on(self) -> Stop:
        return Stop(StopReason.ATTACHED, 1)

    async def take_control(self) -> Stop:
        self._in_control = True
        if self._machine.running:
            self._toy.interrupt()
            await self._machine.ended.wait()
        return Stop(StopReason.ATTACHED, 2)

    async def give_up_control(self) -> None:
        self._in_control = False
        self._toy.points.clear()

    async def detach(self, how: Detach) -> None:
        if self._in_control:
            self._in_control = False
            self._toy.points.clear()
            self._toy.detached.append(how)

    def runs(self) -> bool:
        return self._machine.running

    async def follow(self) -> Event:
        await self._machine.ended.wait()
        assert self._machine.event is not None
        return self._machine.event

    def only_reads(self, command: str) -> bool:
        return command == "hello"

    async def resume(self, plan: ResumePlan) -> Event | None:
        event = await self._toy.resume(plan)
        if event is None:
            self._machine.running, self._machine.ended = True, trio.Event()
        return event

    async def wait_stop(self) -> Event:
        event = await self._toy.wait_stop()
        self._machine.event, self._machine.running = event, False
        self._machine.ended.set()
        return event

    def interrupt(self) -> None:
        self._toy.interrupt()
