"""The second strategy for breakpoints: an INT3 (0xCC) in memory, behind the engine's own interface.

Engines that cannot compare every address, hardware ones, need it. `planted(engine)` is an engine whose
breakpoints work that way over one whose own set stays empty:

* A point is planted where the address leads now, looked up whenever a CPU is entered, and the byte that
  belongs there is kept aside. Reads, writes and so snapshots show that byte and change it, never the planted
  one.
* The engine watches planted bytes, so that one which the guest writes over is planted again.
* An INT3 exit at a planted byte is a hit if some point means this address; if none does (another alias), or
  its limits are not met, the instruction is carried out with the byte lifted, one tick under the monitor
  trap, while no other CPU runs. Any other INT3 is the guest's: it leaves the engine or is delivered as the
  control block says.

What an engine with a set of addresses does better: the guest can read a planted byte, and a mapping that
appears and is used within one entry is met at the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from gdbstub.evaluator import holds
from gdbstub.predicate import MAX_DEPTH, Instruction, Op, Program
from hv.engines.base import (
    Access,
    AddressSpace,
    CpuModel,
    Engine,
    EngineCpu,
    EventType,
    PointLimits,
    Turns,
    WatchAccess,
)
from hv.exits import Bpt, BptSource, ExceptionExit, Exit, Mtrap, Watch, WatchHit, WriteOrigin

_INT3: Final = 0xCC
_VECTOR_BP: Final = 3
_OURS: Final = 1 << 62  # numbers of our own watchpoints in the engine
_WORD_BYTES: Final = 8
_CR3_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
_PAGE: Final = 4096


@dataclass(slots=True)
class _Point:
    """A breakpoint, and where it is planted."""

    number: int
    space: AddressSpace
    address: int
    limits: PointLimits = field(default_factory=PointLimits)
    hits: int = 0


def planted(engine: Engine) -> Engine:
    """`engine` with breakpoints that are planted in its memory."""
    return cast(Engine, _PlantedEngine(engine))


class _PlantedEngine:
    """What differs from the engine below; all else is that engine's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._points: dict[int, _Point] = {}
        self._cpus: list[EngineCpu] = []
        self._bytes: dict[int, int] = {}
        """Physical address of a planted byte to the byte that belongs there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def add_cpu(self, index: int, count: int, model: CpuModel, tsc_hz: int, seed: int) -> EngineCpu:
        cpu = self._engine.add_cpu(index, count, model, tsc_hz, seed)
        self._cpus.append(cpu)
        return cast(EngineCpu, _PlantedCpu(self, cpu, index))

    def run_turns(self, ring: tuple[int, ...], now: int, left: int, quantum: int, bound: int) -> Turns:
        place = 0
        while now + left <= bound:  # after each turn other pages may be mapped, and more to plant
            self.plant(self._cpus[ring[place]])
            with self.leaving(self._cpus[ring[place]]):
                turns = self._engine.run_turns((ring[place],), now, left, quantum, now + left)
            if turns.cut_short:
                return Turns(place, now, left, True)
            place, now, left = (place + 1) % len(ring), now + left, quantum
        return Turns(place, now, left, False)

    # --- points ------------------------------------------------------------------------------------

    def add_breakpoint(self, number: int, space: AddressSpace, address: int) -> None:
        self._points[number] = _Point(number, space, address)
        for cpu in self._cpus:
            self.plant(cpu)

    def remove_breakpoint(self, number: int) -> None:
        del self._points[number]
        wanted = {gpa for cpu in self._cpus for gpa in self._places(cpu)}
        for gpa in set(self._bytes) - wanted:
            self._engine.remove_watchpoint(_OURS + gpa)
            self._put(gpa, self._bytes.pop(gpa))

    def limit_point(self, number: int, limits: PointLimits) -> None:
        if number in self._points:
            self._points[number].limits = limits
        else:
            self._engine.limit_point(number, limits)

    def point_hits(self, number: int) -> int:
        point = self._points.get(number)
        return self._engine.point_hits(number) if point is None else point.hits

    def _places(self, cpu: EngineCpu) -> Iterator[int]:
        for point in self._points.values():
            if point.space is AddressSpace.PHYSICAL:
                yield point.address
            elif (found := cpu.translate(point.address)) is not None:
                yield found.gpa

    def plant(self, cpu: EngineCpu) -> None:
        """Plant what is not yet planted where `cpu` would meet it."""
        for gpa in self._places(cpu):
            old = None if gpa in self._bytes else self._engine.read_physical(gpa, 1)
            if old is not None:
                self._bytes[gpa] = old[0]
                self._put(gpa, _INT3)
                self._engine.add_watchpoint(_OURS + gpa, AddressSpace.PHYSICAL, gpa, 1, WatchAccess.WRITE)

    @contextlib.contextmanager
    def leaving(self, cpu: EngineCpu) -> Iterator[None]:
        """While something is planted, `cpu` leaves for every INT3, whatever its control block says."""
        asked = cpu.control.bpt_exit
        cpu.control.bpt_exit = int(asked or bool(self._bytes))
        try:
            yield
        finally:
            cpu.control.bpt_exit = asked

    def _put(self, gpa: int, value: int) -> None:
        self._engine.write_physical(gpa, bytes([value]), WriteOrigin.DEBUGGER)

    def lift(self, gpa: int) -> None:
        """The byte that belongs there, for one tick."""
        self._put(gpa, self._bytes[gpa])

    def put_back(self, gpa: int) -> None:
        """Plant again what was lifted."""
        self._put(gpa, _INT3)

    def overwritten(self, hits: tuple[WatchHit, ...]) -> None:
        """The guest wrote over planted bytes: that is what belongs there now. Devices' writes are known."""
        for hit in hits:
            if hit.id >= _OURS and hit.address in self._bytes and hit.origin is not WriteOrigin.DMA:
                self._bytes[hit.address] = hit.new & 0xFF
                self._put(hit.address, _INT3)

    def is_planted(self, gpa: int) -> bool:
        return gpa in self._bytes

    def hits(self, index: int, linear: int, gpa: int) -> tuple[int, ...]:
        """The points that CPU `index` hits at an address, counted."""
        return tuple(
            point.number
            for point in self._points.values()
            if point.address == (linear if point.space is AddressSpace.LINEAR else gpa)
            and self._counts(point, index)
        )

    def _counts(self, point: _Point, index: int) -> bool:
        limits, cpu = point.limits, self._cpus[index]
        cr3 = int.from_bytes(cpu.read_register("cr3"), "little")
        cpl = int.from_bytes(cpu.read_register("cpl"), "little")
        if limits.cr3 is not None and (limits.cr3 ^ cr3) & _CR3_ADDRESS:
            return False
        if limits.cpl not in (None, cpl) or limits.cpu not in (None, index):
            return False
        programs = [
            Program(tuple(Instruction(Op(s.op), s.value, s.register) for s in steps), MAX_DEPTH)
            for steps in limits.conditions
        ]
        if not holds(programs, _register_reader(cpu), _memory_reader(self, cpu)):
            return False
        point.hits += 1
        return point.hits > limits.ignore

    # --- memory as it would be without us ----------------------------------------------------------

    def _inside(self, gpa: int, size: int) -> list[int]:
        return [at for at in self._bytes if gpa <= at < gpa + size]

    def read_physical(self, gpa: int, size: int) -> bytes | None:
        data = self._engine.read_physical(gpa, size)
        return None if data is None else self.shown(gpa, data)

    def shown(self, gpa: int, data: bytes) -> bytes:
        """`data` as read at `gpa`, without planted bytes."""
        inside = self._inside(gpa, len(data))
        if not inside:
            return data
        clean = bytearray(data)
        for at in inside:
            clean[at - gpa] = self._bytes[at]
        return bytes(clean)

    def _written(self, gpa: int, data: bytes) -> bytes:
        """`data` as it must be written at `gpa`: planted bytes stay, and what they stand for changes."""
        kept = bytearray(data)
        for at in self._inside(gpa, len(data)):
            kept[at - gpa] = _INT3
        return bytes(kept)

    def _note(self, gpa: int, data: bytes) -> None:
        for at in self._inside(gpa, len(data)):
            self._bytes[at] = data[at - gpa]

    def write_physical(self, gpa: int, data: bytes, origin: WriteOrigin) -> bool:
        done = self._engine.write_physical(gpa, self._written(gpa, data), origin)
        if done:
            self._note(gpa, data)
        return done

    def write_by_device(self, gpa: int, data: bytes, device: int) -> bool:
        done = self._engine.write_by_device(gpa, self._written(gpa, data), device)
        if done:
            self._note(gpa, data)
        return done


def _register_reader(cpu: EngineCpu) -> Any:
    def read(name: str) -> int | None:
        size = cpu.register_size(name)
        if size is None or size > _WORD_BYTES:
            return None
        return int.from_bytes(cpu.read_register(name), "little")

    return read


def _memory_reader(engine: _PlantedEngine, cpu: EngineCpu) -> Any:
    def read(address: int, length: int) -> bytes | None:
        data = _read_linear(engine, cpu, address, length)
        return data if len(data) == length else None

    return read


def _read_linear(engine: _PlantedEngine, cpu: EngineCpu, linear: int, size: int) -> bytes:
    data = cpu.read_linear(linear, size)
    clean = bytearray()
    while len(clean) < len(data):
        at = linear + len(clean)
        piece = data[len(clean) : len(clean) + _PAGE - at % _PAGE]
        found = cpu.translate(at)
        clean += piece if found is None else engine.shown(found.gpa, piece)
    return bytes(clean)


class _PlantedCpu:
    """A CPU that meets planted bytes."""

    def __init__(self, engine: _PlantedEngine, cpu: EngineCpu, index: int) -> None:
        self._engine = engine
        self._cpu = cpu
        self._index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu, name)

    def read_linear(self, linear: int, size: int) -> bytes:
        return _read_linear(self._engine, self._cpu, linear, size)

    def _place(self) -> tuple[int, int | None]:
        """The linear address of the next instruction, and the physical one if something is planted there."""
        linear = int.from_bytes(self._cpu.read_register("linear_pc"), "little")
        found = self._cpu.translate(linear)
        return linear, found.gpa if found is not None and self._engine.is_planted(found.gpa) else None

    def run(self, until: int, access: Access) -> Exit:
        self._engine.plant(self._cpu)
        control = self._cpu.control
        passing, control.skip_breakpoint = bool(control.skip_breakpoint), 0
        while True:
            ticks = self._cpu.ticks()
            left = self._lifted(until, access) if passing else self._met(until, access)
            same = self._cpu.ticks() == ticks
            if not (passing and same and isinstance(left, Bpt)):
                verdict = self._judged(left)
                if verdict is None:
                    passing = (passing and same) or isinstance(left, Bpt)
                    until = access.until
                    continue
                left = verdict
            if not isinstance(left, Mtrap) or self._cpu.control.monitor_trap or control.step_range:
                return left
            passing, until = False, access.until

    def _judged(self, left: Exit) -> Exit | None:
        """What an exit is to the caller; None: nothing."""
        match left:
            case Bpt(rip, BptSource.GUEST, _, length):
                linear, gpa = self._place()
                if gpa is None or length != 1:
                    return self._own(left)
                ids = self._engine.hits(self._index, linear, gpa)
                return Bpt(rip, BptSource.SET, ids[0], 0, ids[1:]) if ids else None
            case Watch(hits):
                self._engine.overwritten(hits)
                theirs = tuple(hit for hit in hits if hit.id < _OURS)
                return Watch(theirs) if theirs else None
            case _:
                return left

    def _own(self, left: Bpt) -> Exit | None:
        """The guest's own INT3, or INT n with n = 3, as the engine would answer it if nothing was planted."""
        control = self._cpu.control
        if control.bpt_exit:
            return left
        kind = EventType.SWINTR if left.interrupt else EventType.SW_EXCEPTION
        if not left.interrupt and control.exception_exit >> _VECTOR_BP & 1:
            return ExceptionExit(left.rip, _VECTOR_BP, None, 0, kind=kind, length=left.length)
        control.inject_type, control.inject_vector, control.inject_has_error = kind, _VECTOR_BP, 0
        control.inject_length, control.inject_valid = left.length, 1
        return None

    def _met(self, until: int, access: Access) -> Exit:
        with self._engine.leaving(self._cpu):
            return self._cpu.run(until, access)

    def _lifted(self, until: int, access: Access) -> Exit:
        """Carry out one tick as if nothing was planted on its instruction: its exit, Mtrap if it has none."""
        _, gpa = self._place()
        control = self._cpu.control
        before, control.monitor_trap = control.monitor_trap, 1
        if gpa is not None:
            self._engine.lift(gpa)
        try:
            return self._cpu.run(until, access)
        finally:
            control.monitor_trap = before
            if gpa is not None:
                self._engine.put_back(gpa)
