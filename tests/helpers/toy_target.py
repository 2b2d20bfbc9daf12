"""A toy machine for the debug server's tests: 64 KiB of memory, two threads, x86-64 registers in a dict.

It executes seven x86 instructions: nop (90), jmp rel8 (eb), ret (c3), inc eax (ff c0), mov [rdi],al
(88 07), mov al,[rdi] (8a 07) and hlt (f4), which powers the machine off. Any other byte stops with SIGILL.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import trio

from gdbstub.arch.x86_64 import x86_64
from gdbstub.description import Description
from gdbstub.errors import MemoryAccessError, RegisterError, TargetBusyError, TargetError
from gdbstub.signals import Signal
from gdbstub.target import (
    BreakpointKind,
    Continue,
    Detach,
    Event,
    Exited,
    ResumePlan,
    SectionOffsets,
    Stay,
    Step,
    StepPolicy,
    StepRange,
    Stop,
    StopReason,
    ThreadInfo,
    WatchHit,
    WatchKind,
)

RAM_SIZE = 0x10000
INLINE_TICKS = 16
SLICE_TICKS = 500


class ToyTarget:
    """Has every capability but physical memory. It runs `slice_ticks` before other tasks have a turn."""

    slice_ticks = SLICE_TICKS

    def __init__(self, description: Description | None = None, threads: int = 2) -> None:
        self._description = description or x86_64()
        self.ram = bytearray(RAM_SIZE)
        self.registers = [
            {r.name: bytes(r.size) for r in self._description.registers} for _ in range(threads)
        ]
        for number, registers in enumerate(self.registers):
            registers["rip"] = (0x1000 + 0x100 * number).to_bytes(8, "little")
            registers["mode"] = (6).to_bytes(4, "little")
        self.points: set[tuple[BreakpointKind, int]] = set()
        self.watches: set[tuple[WatchKind, int, int]] = set()
        self.policy = StepPolicy.ENABLE | StepPolicy.NOIRQ | StepPolicy.NOTIMER
        self.offsets: SectionOffsets | None = None
        self.attached = False
        self.running_at_attach = False
        self.detached: list[Detach] = []
        self.killed = False
        self.powered_off = False
        self.plans: list[ResumePlan] = []
        self._events: Iterator[Event | None] = iter(())
        self._interrupted = False

    @property
    def description(self) -> Description:
        return self._description

    @property
    def steps_ranges(self) -> bool:
        return True

    async def attach(self) -> Stop:
        if self.attached:
            raise TargetBusyError("the first client")
        self.attached = True
        return Stop(StopReason.ATTACHED, 1)

    async def detach(self, how: Detach) -> None:
        self.attached = False
        self.detached.append(how)
        self.points.clear()
        self.watches.clear()

    async def kill(self) -> None:
        self.killed = True

    async def threads(self) -> Sequence[ThreadInfo]:
        return [ThreadInfo(n + 1, f"vCPU {n}", "toy", n) for n in range(len(self.registers))]

    async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
        registers = self.registers[thread - 1]
        return [None if name == "tsc_aux" else registers[name] for name in names]

    async def write_registers(self, thread: int, values: Sequence[tuple[str, bytes]]) -> None:
        registers = self.registers[thread - 1]
        for name, value in values:
            if name == "ldtr" and registers[name] != value:
                raise RegisterError(name, "not in the toy")
        registers.update(values)

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        if address >= RAM_SIZE:
            raise MemoryAccessError(address)
        return bytes(self.ram[address : address + length])

    async def write_memory(self, thread: int, address: int, data: bytes) -> None:
        if address + len(data) > RAM_SIZE:
            raise MemoryAccessError(max(address, RAM_SIZE))
        self.ram[address : address + len(data)] = data

    async def set_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        self.points.add((kind, address))

    async def clear_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        self.points.discard((kind, address))

    async def set_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        self.watches.add((kind, address, length))

    async def clear_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        self.watches.discard((kind, address, length))

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        match command.split():
            case ["hello"]:
                write(f"hello from thread {thread}\n")
            case ["fail"]:
                raise TargetError("no such luck")
            case ["bug"]:
                raise KeyError("a bug in a command")
            case ["flood"]:
                for _ in itertools.count():
                    write("x" * 100_000)
            case ["forever"]:
                await trio.sleep_forever()
            case _:
                write(f"unknown command: {command}\n")

    async def step_policy(self) -> StepPolicy:
        return self.policy

    async def set_step_policy(self, policy: StepPolicy) -> None:
        self.policy = policy

    async def section_offsets(self) -> SectionOffsets | None:
        return self.offsets

    async def resume(self, plan: ResumePlan) -> Event | None:
        self.plans.append(plan)
        self._interrupted = False
        if self.powered_off:
            return Exited(7, "the toy machine has ended")
        self._events = self._run(plan)
        return next((e for e in itertools.islice(self._events, INLINE_TICKS) if e is not None), None)

    async def wait_stop(self) -> Event:
        while True:
            for event in itertools.islice(self._events, self.slice_ticks):
                if event is not None:
                    return event
            await trio.lowlevel.checkpoint()

    def interrupt(self) -> None:
        self._interrupted = True

    def _run(self, plan: ResumePlan) -> Iterator[Event | None]:
        """One item per tick: None, or the event that ends the plan."""
        actions = {n: plan.action_for(n) for n in range(1, len(self.registers) + 1)}
        moving = {n: action for n, action in actions.items() if not isinstance(action, Stay)}
        passed: set[int] = set()
        while True:
            for thread, action in moving.items():
                if self._interrupted:
                    yield Stop(StopReason.INTERRUPT, thread)
                hit = self._breakpoint(thread) if thread in passed else None
                passed.add(thread)
                yield hit or self._execute(thread) or self._complete(thread, action)

    def _pc(self, thread: int) -> int:
        return int.from_bytes(self.registers[thread - 1]["rip"], "little")

    def _breakpoint(self, thread: int) -> Stop | None:
        for kind, reason in (
            (BreakpointKind.SOFTWARE, StopReason.SOFTWARE_BREAKPOINT),
            (BreakpointKind.HARDWARE, StopReason.HARDWARE_BREAKPOINT),
        ):
            if (kind, self._pc(thread)) in self.points:
                return Stop(reason, thread)
        return None

    def _complete(self, thread: int, action: Continue | Step | StepRange | Stay) -> Stop | None:
        match action:
            case Step():
                return Stop(StopReason.STEP, thread)
            case StepRange(start, end) if not start <= self._pc(thread) < end:
                return Stop(StopReason.STEP, thread)
            case _:
                return None

    def _execute(self, thread: int) -> Event | None:
        registers, pc = self.registers[thread - 1], self._pc(thread)
        address = int.from_bytes(registers["rdi"], "little") % RAM_SIZE
        code = bytes(self.ram[pc % RAM_SIZE : pc % RAM_SIZE + 2]) + b"\0\0"
        event: Event | None = None
        match code[0], code[1]:
            case 0x90, _:
                pc += 1
            case 0xEB, distance:
                pc += 2 + (distance ^ 0x80) - 0x80
            case 0xC3, _:
                rsp = int.from_bytes(registers["rsp"], "little")
                pc = int.from_bytes(self.ram[rsp : rsp + 8], "little")
                registers["rsp"] = (rsp + 8).to_bytes(8, "little")
            case 0xFF, 0xC0:
                value = int.from_bytes(registers["rax"], "little") + 1
                registers["rax"] = (value & 0xFFFF_FFFF).to_bytes(8, "little")
                pc += 2
            case 0x88, 0x07:
                self.ram[address] = registers["rax"][0]
                event = self._watched(thread, address, (WatchKind.WRITE, WatchKind.ACCESS))
                pc += 2
            case 0x8A, 0x07:
                registers["rax"] = bytes(self.ram[address : address + 1]) + registers["rax"][1:]
                event = self._watched(thread, address, (WatchKind.READ, WatchKind.ACCESS))
                pc += 2
            case 0xF4, _:
                self.powered_off = True
                pc += 1
                event = Stop(StopReason.EVENT, thread, text="vCPU halted for ever")
            case _:
                event = Stop(StopReason.EVENT, thread, Signal.SIGILL)
        registers["rip"] = pc.to_bytes(8, "little")
        ticks = int.from_bytes(registers["ticks"], "little") + 1
        registers["ticks"] = ticks.to_bytes(8, "little")
        return event

    def _watched(self, thread: int, address: int, kinds: tuple[WatchKind, WatchKind]) -> Stop | None:
        for kind, start, length in self.watches:
            if kind in kinds and start <= address < start + length:
                return Stop(StopReason.WATCHPOINT, thread, watch=WatchHit(kind, address))
        return None
