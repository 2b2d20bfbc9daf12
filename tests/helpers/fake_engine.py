"""An engine in Python for tests of what stands above engines: a toy CPU, and exits on demand.

The toy CPU executes one operation per tick from a table `program`: linear address -> operation, at
consecutive integer addresses. Operations:

    ("add", n)  ("tsc",) rax = rax * 31 + machine time  ("jmp", a)  ("store", gpa) low byte of rax
    ("in", port)  ("out", port, value)  ("hlt",)  ("pause",)  ("sti",) shadows one tick  ("cli",)  ("iret",)
    ("int3",)  ("crash",) triple fault  ("rdmsr", n)  ("nop",)

An interrupt or injected event goes to address `VECTORS + vector`. `cpu.exits` holds exits that `run`
returns before anything else, to bring about what the toy cannot.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from hv.engines.base import (
    Access,
    AddressSpace,
    Branch,
    CpuModel,
    PointLimits,
    Translation,
    Turns,
    WatchAccess,
)
from hv.exits import (
    Bpt,
    BptSource,
    Deadline,
    Exit,
    Hlt,
    IrqWindow,
    Kick,
    Mtrap,
    Pause,
    TripleFault,
    Wait,
    Watch,
    WatchHit,
    WriteOrigin,
)

VECTORS = 0x1000
IF = 0x200
PAGE = 4096
Operation = tuple[Any, ...]
Program = Mapping[int, Operation]


@dataclass
class FakeControl:
    """The control block."""

    monitor_trap: int = 0
    bpt_exit: int = 0
    hlt_exit: int = 0
    pause_exit: int = 0
    pause_cost: int = 0
    branch_trace: int = 0
    monitor_state: int = 0
    inflight_valid: int = 0
    inflight_type: int = 0
    inflight_vector: int = 0
    inflight_has_error: int = 0
    inflight_error: int = 0
    inflight_length: int = 0
    pass_exception: int = 0
    catch_events: int = 0
    catch_mode: int = 0
    mask_hwintr: int = 0
    irq_window: int = 0
    nmi_window: int = 0
    intr_line: int = 0
    nmi_pending: int = 0
    skip_breakpoint: int = 0
    activity: int = 0
    tpr_threshold: int = 0
    step_range: int = 0
    exception_exit: int = 0
    step_start: int = 0
    step_end: int = 0
    inject_valid: int = 0
    inject_type: int = 0
    inject_vector: int = 0
    inject_has_error: int = 0
    inject_error: int = 0
    inject_length: int = 0
    time_base: int = 0


SIZES = {
    "rip": 8, "rax": 8, "rsp": 8, "rbp": 8, "eflags": 4, "cr8": 8, "cs": 4, "cs_base": 8, "shadow": 4,
    "nmi_blocked": 4, "linear_pc": 8, "ticks": 8,
}  # fmt: skip
STATE = ("rip", "rax", "rsp", "rbp", "eflags", "cr8", "cs", "cs_base", "shadow", "nmi_blocked")


class FakeCpu:
    """See the module."""

    def __init__(self, engine: FakeEngine, index: int) -> None:
        self.engine = engine
        self.index = index
        self.block = FakeControl(activity=3 if index else 0)
        self.values = dict.fromkeys(SIZES, 0)
        self.stack: list[tuple[int, int, int]] = []
        self.exits: deque[Exit] = deque()
        self.count = 0
        self.stop = False
        self.entries = 0

    @property
    def control(self) -> FakeControl:
        return self.block

    def kick(self) -> None:
        self.stop = True

    def ticks(self) -> int:
        return self.count

    def retired(self) -> int:
        return self.count

    def reset(self, init: bool) -> None:
        base, pause = self.block.time_base, self.block.pause_exit
        self.block = FakeControl(activity=3 if self.index else 0, time_base=base, pause_exit=pause)
        self.values = dict.fromkeys(SIZES, 0)
        self.stack.clear()

    def register_size(self, name: str) -> int | None:
        return SIZES.get(name)

    def read_register(self, name: str) -> bytes:
        value = self.values[name]
        if name == "linear_pc":
            value = self.values["rip"] + self.values["cs_base"]
        if name == "ticks":
            value = self.count
        return value.to_bytes(SIZES[name], "little")

    def read_registers(self, names: tuple[str, ...]) -> tuple[bytes | None, ...]:
        return tuple(self.read_register(name) if name in SIZES else None for name in names)

    def write_register(self, name: str, value: bytes) -> None:
        if len(value) != SIZES[name] or name in ("linear_pc", "ticks"):
            raise ValueError(name)
        self.values[name] = int.from_bytes(value, "little")

    def read_msr(self, msr: int) -> int | None:
        return None

    def write_msr(self, msr: int, value: int) -> bool:
        return False

    def translate(self, linear: int) -> Translation | None:
        return Translation(linear, 12, True, False, True, False, False, False) if linear < 1 << 48 else None

    def branches(self, most: int) -> list[Branch]:
        return []

    def branch_count(self) -> int:
        return 0

    def resize_branches(self, entries: int) -> None:
        pass

    def read_linear(self, linear: int, size: int) -> bytes:
        return bytes(self.engine.ram[linear : linear + size])

    def save(self) -> bytes:
        block = self.block
        words = [self.values[name] for name in STATE]
        words += [self.count, block.activity, block.nmi_pending, block.inject_valid, block.inject_vector]
        words += [word for frame in self.stack for word in frame]
        return struct.pack(f"<{len(words)}Q", *words)

    def load(self, state: bytes) -> None:
        words = list(struct.unpack(f"<{len(state) // 8}Q", state))
        for name in STATE:
            self.values[name] = words.pop(0)
        block = self.block
        self.count, block.activity, block.nmi_pending, block.inject_valid, block.inject_vector = words[:5]
        rest = words[5:]
        self.stack = list(zip(rest[::3], rest[1::3], rest[2::3], strict=True))

    def statistics(self) -> Mapping[str, int]:
        return {"runs": self.entries}

    # --- running ---

    def run(self, until: int, access: Access) -> Exit:
        self.entries += 1
        skip, self.block.skip_breakpoint = self.block.skip_breakpoint, 0
        trap = False
        while True:
            if self.exits:
                return self.exits.popleft()
            if (found := self._boundary(until, trap)) is not None:
                return found
            if self.block.activity:
                return Wait()
            if not skip and (hit := self._breakpoint()) is not None:
                return hit
            skip = 0
            self.values["shadow"] = 0
            found = self._execute(
                self.engine.program.get(self.values["rip"] + self.values["cs_base"], ("nop",)), access
            )
            self.count += 1
            trap = bool(self.block.step_range)
            until = access.until
            if found is not None:
                return found

    def take_turn(self, now: int, ticks: int) -> bool:
        """Whether it has used up its turn."""
        self.block.time_base = now - self.count
        end = self.count + ticks
        while self.count < end:
            operation = self.engine.program.get(self.values["rip"] + self.values["cs_base"], ("nop",))
            if operation[0] in ("in", "out"):
                return False
            found = self.run(self.count + 1, cast(Access, SimpleNamespace(until=self.count + 1)))
            if not isinstance(found, Deadline):
                self.exits.appendleft(found)
                return False
        return True

    def _boundary(self, until: int, trap: bool) -> Exit | None:
        block, values = self.block, self.values
        if block.inject_valid:
            block.inject_valid = 0
            self._event(block.inject_vector, block.inject_length)
            return self._boundary(until, bool(block.step_range))
        inside = block.step_start <= values["rip"] < block.step_end
        if trap and not inside:
            return Mtrap()
        enabled = values["eflags"] & IF and not values["shadow"]
        if block.activity < 2 and block.intr_line and enabled and not block.mask_hwintr:
            return IrqWindow()
        if self.count >= until:
            return Deadline()
        if self.stop:
            self.stop = False
            return Kick()
        return None

    def _breakpoint(self) -> Bpt | None:
        address = self.values["rip"] + self.values["cs_base"]
        ids = [number for number, where in self.engine.breakpoints.items() if where == address]
        return Bpt(self.values["rip"], BptSource.SET, ids[0], 0, tuple(ids[1:])) if ids else None

    def _event(self, vector: int, length: int) -> None:
        self.stack.append((self.values["rip"] + length, self.values["eflags"], self.values["cs_base"]))
        self.values["eflags"] &= ~IF
        self.values["cs_base"] = 0
        self.values["rip"] = VECTORS + vector
        self.block.activity = 0
        self.count += 1

    def _execute(self, operation: Operation, access: Access) -> Exit | None:
        values = self.values
        mask = (1 << 64) - 1
        values["rip"] += 1
        match operation:
            case ("add", n):
                values["rax"] = (values["rax"] + n) & mask
            case ("tsc",):
                values["rax"] = (values["rax"] * 31 + self.block.time_base + self.count) & mask
            case ("jmp", address):
                values["rip"] = address
            case ("store", gpa):
                return self._store(gpa)
            case ("in", port):
                values["rax"] = access.read_port(self.count, port, 1)
            case ("out", port, value):
                self.count += 1
                access.write_port(self.count, port, 1, value)
                self.count -= 1
            case ("hlt",):
                self.block.activity = 1
                return Hlt()
            case ("pause",):
                return Pause()
            case ("sti",):
                values["shadow"] = 0 if values["eflags"] & IF else 1
                values["eflags"] |= IF
            case ("cli",):
                values["eflags"] &= ~IF
            case ("iret",):
                values["rip"], values["eflags"], values["cs_base"] = self.stack.pop()
            case ("int3",):
                values["rip"] -= 1
                if self.block.bpt_exit:
                    self.count -= 1
                    return Bpt(values["rip"], BptSource.GUEST, 0, 1)
                self._event(3, 1)
                self.count -= 1
            case ("crash",):
                self.block.activity = 2
                return TripleFault(values["rip"], ())
        return None

    def _store(self, gpa: int) -> Exit | None:
        old = self.engine.ram[gpa]
        new = self.values["rax"] & 0xFF
        self.engine.write_physical(gpa, bytes([new]), WriteOrigin.CPU)
        hits = tuple(
            WatchHit(number, gpa, 1, True, WriteOrigin.CPU, old, new)
            for number, (start, size) in self.engine.watches.items()
            if start <= gpa < start + size
        )
        return Watch(hits) if hits else None


@dataclass
class FakeEngine:
    """Flat memory and toy CPUs. `program` is shared by all CPUs."""

    program: Program = field(default_factory=dict)
    ram: bytearray = field(default_factory=bytearray)
    cpus: list[FakeCpu] = field(default_factory=list)
    breakpoints: dict[int, int] = field(default_factory=dict)
    watches: dict[int, tuple[int, int]] = field(default_factory=dict)
    limits: dict[int, PointLimits] = field(default_factory=dict)
    epoch: int = 1
    written: dict[int, int] = field(default_factory=dict)
    a20: bool = True
    closed: bool = False

    def add_cpu(self, index: int, count: int, model: CpuModel, tsc_hz: int, seed: int) -> FakeCpu:
        cpu = FakeCpu(self, index)
        self.cpus.append(cpu)
        return cpu

    def add_memory(self, gpa: int, size: int, *, rom: bool = False) -> None:
        assert gpa == 0
        self.ram = bytearray(size)

    def set_a20(self, enabled: bool) -> None:
        self.a20 = enabled

    def run_turns(self, ring: tuple[int, ...], now: int, left: int, quantum: int, bound: int) -> Turns:
        place = 0
        while now + left <= bound:
            if not self.cpus[ring[place]].take_turn(now, left):
                return Turns(place, now, left, True)
            place, now, left = (place + 1) % len(ring), now + left, quantum
        return Turns(place, now, left, False)

    def read_physical(self, gpa: int, size: int) -> bytes | None:
        return bytes(self.ram[gpa : gpa + size]) if gpa + size <= len(self.ram) else None

    def write_physical(self, gpa: int, data: bytes, origin: WriteOrigin) -> bool:
        if gpa + len(data) > len(self.ram):
            return False
        self.ram[gpa : gpa + len(data)] = data
        for page in range(gpa // PAGE, (gpa + len(data) + PAGE - 1) // PAGE):
            self.written[page] = self.epoch
        return True

    def write_by_device(self, gpa: int, data: bytes, device: int) -> bool:
        return self.write_physical(gpa, data, WriteOrigin.DMA)

    def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def pages_changed(self, since: int) -> list[int]:
        return sorted(page for page, epoch in self.written.items() if epoch >= since)

    def add_breakpoint(self, number: int, space: AddressSpace, address: int) -> None:
        self.breakpoints[number] = address

    def remove_breakpoint(self, number: int) -> None:
        del self.breakpoints[number]

    def add_watchpoint(
        self, number: int, space: AddressSpace, address: int, size: int, access: WatchAccess
    ) -> None:
        self.watches[number] = (address, size)

    def remove_watchpoint(self, number: int) -> None:
        del self.watches[number]

    def limit_point(self, number: int, limits: PointLimits) -> None:
        self.limits[number] = limits

    def point_hits(self, number: int) -> int:
        return 0

    def close(self) -> None:
        self.closed = True
