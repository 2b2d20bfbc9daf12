"""The software CPU core (`accel`) behind the `Engine` protocol. Nothing else imports `accel`.

Turns status codes into exceptions and `accel_exit` records into the dataclasses of `hv.exits`, and
answers device accesses in a loop of its own: an instruction whose device reads are outstanding is
finished before anything else can happen to the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from accel import ffi, lib
from hv.engines.base import Access, AddressSpace, Control, CpuModel, EventType, Translation, WatchAccess
from hv.errors import ConfigError, EngineError, SnapshotError
from hv.exits import (
    Bpt,
    BptSource,
    Cr8,
    Deadline,
    ExceptionExit,
    Exit,
    Fault,
    Hlt,
    IrqWindow,
    Kick,
    Mtrap,
    NmiWindow,
    Pause,
    Tpr,
    TripleFault,
    Unhandled,
    Unimplemented,
    Wait,
    Watch,
    WatchHit,
    WriteOrigin,
)

EXIT_NAMES: Final = (
    "deadline",
    "kick",
    "inout",
    "mmio",
    "hlt",
    "pause",
    "mtrap",
    "bpt",
    "db",
    "rdmsr",
    "wrmsr",
    "irq_window",
    "nmi_window",
    "exception",
    "tpr",
    "cr8",
    "watch",
    "triple_fault",
    "unhandled",
    "unimplemented",
    "wait",
)
_MAX_HITS: Final = 16
_MAX_CHAIN: Final = 3
_PAGES_PER_CALL: Final = 8192
_VECTOR_GP: Final = 13
_KICK: Final = 1
_INOUT: Final = 2
_MMIO: Final = 3
_RDMSR: Final = 9
_WRMSR: Final = 10

_DEADLINE_EXIT: Final = Deadline()
_KICK_EXIT: Final = Kick()
_PLAIN: Final[dict[int, Exit]] = {
    0: _DEADLINE_EXIT,
    1: _KICK_EXIT,
    4: Hlt(),
    5: Pause(),
    6: Mtrap(),
    11: IrqWindow(),
    12: NmiWindow(),
    14: Tpr(),
    20: Wait(),
}


def _check(status: int, what: str) -> None:
    if status != lib.ACCEL_OK:
        raise EngineError(f"the core refused to {what} (status {status})")


class ExitTimes:
    """Host seconds between an exit and the next entry, by kind of exit, over all CPUs of a machine."""

    def __init__(self) -> None:
        self.seconds = [0.0] * len(EXIT_NAMES)
        self._kind = 0
        self._left_at = time.perf_counter()

    def run(self, cpu: Any, until: int, record: Any) -> int:
        """accel_run() with the clock stopped."""
        self.seconds[self._kind] += time.perf_counter() - self._left_at
        status: int = lib.accel_run(cpu, until, record)
        self._left_at = time.perf_counter()
        self._kind = record.kind
        return status


class SoftCpu:
    """One CPU of the core. Made by `SoftEngine.add_cpu`."""

    def __init__(
        self, handle: Any, registers: Mapping[str, tuple[int, int]], times: ExitTimes | None = None
    ) -> None:
        self._cpu = handle
        self._run: Callable[[Any, int, Any], int] = times.run if times is not None else lib.accel_run
        self._exit = ffi.new("accel_exit *")
        self._registers = registers
        self._control: Control = lib.accel_cpu_control(handle)
        self._value = ffi.new("uint8_t[64]")
        self._msr = ffi.new("uint64_t *")
        self._save_size: int = lib.accel_cpu_save_size()
        self.exit_counts = [0] * len(EXIT_NAMES)

    @property
    def control(self) -> Control:
        """The control block, in the core's memory."""
        return self._control

    def run(self, until: int, access: Access) -> Exit:
        """See `EngineCpu.run`."""
        run, answer, ticks_of = self._run, lib.accel_answer, lib.accel_ticks
        cpu, record, counts = self._cpu, self._exit, self.exit_counts
        kicked = answering = False
        ticks = 0
        while True:
            status = run(cpu, until, record)
            if status:
                raise EngineError(f"the core refused to run (status {status})")
            kind = record.kind
            counts[kind] += 1
            if kind == _INOUT:
                ticks = ticks_of(cpu)
                if record.write:
                    access.write_port(ticks, record.number, record.size, record.value)
                    answering = False
                else:
                    answer(cpu, access.read_port(ticks, record.number, record.size))
                    answering = True
            elif kind == _MMIO:
                ticks = ticks_of(cpu)
                if record.write:
                    access.write_mmio(ticks, record.gpa, record.size, record.value)
                    answering = False
                else:
                    answer(cpu, access.read_mmio(ticks, record.gpa, record.size))
                    answering = True
            elif kind in (_RDMSR, _WRMSR):
                ticks = ticks_of(cpu)
                self._answer_msr(ticks, access, kind == _WRMSR)
                answering = True
            elif kind == _KICK and answering:
                kicked = True
                ticks = ticks_of(cpu)
            else:
                if kicked and kind == 0:
                    return _KICK_EXIT
                plain = _PLAIN.get(kind)
                return plain if plain is not None else self._decode(kind)
            until = ticks if kicked else access.until
            if answering and until <= ticks:
                until = ticks + 1

    def _answer_msr(self, ticks: int, access: Access, write: bool) -> None:
        record = self._exit
        if write:
            value = 0 if access.write_msr(ticks, record.number, record.value) else None
        else:
            value = access.read_msr(ticks, record.number)
        if value is not None:
            lib.accel_answer(self._cpu, value)
            return
        control = self._control
        control.inject_type = EventType.EXCEPTION
        control.inject_vector = _VECTOR_GP
        control.inject_has_error = 1
        control.inject_error = 0
        control.inject_length = 0
        control.inject_valid = 1

    def _decode(self, kind: int) -> Exit:
        record = self._exit
        rip = record.rip
        match EXIT_NAMES[kind]:
            case "bpt":
                return Bpt(rip, BptSource(record.source), record.id, record.bpt_length)
            case "exception":
                error = record.error if record.has_error else None
                return ExceptionExit(rip, record.vector, error, record.value)
            case "cr8":
                return Cr8(record.value)
            case "watch":
                return Watch(self._hits())
            case "triple_fault":
                return TripleFault(rip, self._chain())
            case "unhandled":
                return Unhandled(rip, bytes(record.bytes))
            case "unimplemented":
                return Unimplemented(rip, bytes(record.bytes))
            case name:
                raise EngineError(f"the core left with an exit that was not asked for: {name}")

    def _hits(self) -> tuple[WatchHit, ...]:
        hits = ffi.new("accel_hit[]", _MAX_HITS)
        count = lib.accel_watch_hits(self._cpu, hits, _MAX_HITS)
        return tuple(
            WatchHit(h.id, h.address, h.size, bool(h.write), WriteOrigin(h.origin), h.old_value, h.new_value)
            for h in hits[0:count]
        )

    def _chain(self) -> tuple[Fault, ...]:
        chain = ffi.new("accel_fault[]", _MAX_CHAIN)
        count = lib.accel_fault_chain(self._cpu, chain, _MAX_CHAIN)
        return tuple(Fault(f.vector, f.error if f.has_error else None, f.cr2, f.rip) for f in chain[0:count])

    def kick(self) -> None:
        """See `EngineCpu.kick`."""
        lib.accel_stop(self._cpu)

    def ticks(self) -> int:
        """See `EngineCpu.ticks`."""
        return int(lib.accel_ticks(self._cpu))

    def retired(self) -> int:
        """See `EngineCpu.retired`."""
        return int(lib.accel_retired(self._cpu))

    def reset(self, init: bool) -> None:
        """See `EngineCpu.reset`."""
        lib.accel_cpu_reset(self._cpu, int(init))

    def register_size(self, name: str) -> int | None:
        """See `EngineCpu.register_size`."""
        row = self._registers.get(name)
        return None if row is None else row[1]

    def read_register(self, name: str) -> bytes:
        """See `EngineCpu.read_register`."""
        number, size = self._registers[name]
        _check(lib.accel_reg_get(self._cpu, number, self._value, size), f"read register {name}")
        return bytes(ffi.buffer(self._value, size))

    def write_register(self, name: str, value: bytes) -> None:
        """See `EngineCpu.write_register`."""
        number, size = self._registers[name]
        if len(value) != size:
            raise ValueError(f"{name} has {size} bytes")
        if lib.accel_reg_set(self._cpu, number, value, size) != lib.ACCEL_OK:
            raise ValueError(f"{name} cannot have this value")

    def read_msr(self, msr: int) -> int | None:
        """See `EngineCpu.read_msr`."""
        return int(self._msr[0]) if lib.accel_msr_get(self._cpu, msr, self._msr) == lib.ACCEL_OK else None

    def write_msr(self, msr: int, value: int) -> bool:
        """See `EngineCpu.write_msr`."""
        return bool(lib.accel_msr_set(self._cpu, msr, value) == lib.ACCEL_OK)

    def translate(self, linear: int) -> Translation | None:
        """See `EngineCpu.translate`."""
        walk = ffi.new("accel_walk *")
        if lib.accel_translate(self._cpu, linear, walk) != lib.ACCEL_OK:
            return None
        return Translation(
            walk.gpa,
            walk.page_shift,
            bool(walk.writable),
            bool(walk.user),
            bool(walk.executable),
            bool(walk.accessed),
            bool(walk.dirty),
            bool(getattr(walk, "global")),
        )

    def save(self) -> bytes:
        """See `EngineCpu.save`."""
        state = ffi.new("uint8_t[]", self._save_size)
        _check(lib.accel_cpu_save(self._cpu, state, self._save_size), "save a CPU")
        return bytes(ffi.buffer(state))

    def load(self, state: bytes) -> None:
        """See `EngineCpu.load`."""
        if lib.accel_cpu_load(self._cpu, state, len(state)) != lib.ACCEL_OK:
            raise SnapshotError("the state of this CPU has another layout", "cpu")

    def statistics(self) -> Mapping[str, int]:
        """The core's counters, and exits by kind as `exit.NAME`."""
        record = ffi.new("accel_stats *")
        lib.accel_stats_get(self._cpu, record)
        counters = {name: int(getattr(record, name)) for name, _ in ffi.typeof("accel_stats").fields}
        exits = zip(EXIT_NAMES, self.exit_counts, strict=True)
        return counters | {f"exit.{name}": count for name, count in exits if count}


class SoftEngine:
    """A machine of the core: its memory, breakpoints and CPUs. `timed`: measure what exits cost the host."""

    def __init__(self, *, timed: bool = False) -> None:
        self._times = ExitTimes() if timed else None
        out = ffi.new("accel_machine **")
        if lib.accel_machine_new(out) != lib.ACCEL_OK:
            raise ConfigError("the host has no memory for a machine")
        self._machine = out[0]
        names = [ffi.string(lib.accel_reg_name(number)).decode() for number in range(lib.accel_reg_count())]
        self._registers = {name: (number, lib.accel_reg_size(number)) for number, name in enumerate(names)}
        self._cpus: list[SoftCpu] = []
        self._pages = ffi.new("uint64_t[]", _PAGES_PER_CALL)

    def add_cpu(self, index: int, count: int, model: CpuModel, tsc_hz: int, seed: int) -> SoftCpu:
        """See `Engine.add_cpu`."""
        out = ffi.new("accel_cpu **")
        status = lib.accel_cpu_new(self._machine, index, count, int(model), tsc_hz, seed, out)
        if status == lib.ACCEL_EHOST:
            raise ConfigError("this host's CPU lacks the model's SSE4.2 or AVX2 and FMA", "--cpu")
        if status != lib.ACCEL_OK:
            raise ConfigError(f"the core cannot make CPU {index} (status {status})")
        cpu = SoftCpu(out[0], self._registers, self._times)
        self._cpus.append(cpu)
        return cpu

    def exit_seconds(self) -> dict[str, float]:
        """Host seconds spent outside the core by the kind of exit that led there; empty unless `timed`."""
        if self._times is None:
            return {}
        return dict(zip(EXIT_NAMES, self._times.seconds, strict=True))

    def add_memory(self, gpa: int, size: int, *, rom: bool = False) -> None:
        """See `Engine.add_memory`."""
        status = lib.accel_slot_add(self._machine, gpa, size, lib.ACCEL_SLOT_ROM if rom else 0)
        if status == lib.ACCEL_ENOMEM:
            raise ConfigError(f"the host has no memory for a guest with {size >> 20} MiB at {gpa:#x}", "-m")
        _check(status, f"add memory at {gpa:#x}")

    def set_a20(self, enabled: bool) -> None:
        """See `Engine.set_a20`."""
        _check(lib.accel_a20(self._machine, int(enabled)), "switch A20")

    def read_physical(self, gpa: int, size: int) -> bytes | None:
        """See `Engine.read_physical`."""
        data = ffi.new("uint8_t[]", size) if size else ffi.NULL
        if size and lib.accel_phys_read(self._machine, gpa, data, size) != lib.ACCEL_OK:
            return None
        return bytes(ffi.buffer(data, size)) if size else b""

    def write_physical(self, gpa: int, data: bytes, origin: WriteOrigin) -> bool:
        """See `Engine.write_physical`."""
        if not data:
            return True
        status = lib.accel_phys_write(self._machine, gpa, ffi.from_buffer(data), len(data), int(origin))
        return bool(status == lib.ACCEL_OK)

    def next_epoch(self) -> int:
        """See `Engine.next_epoch`."""
        return int(lib.accel_epoch_next(self._machine))

    def pages_changed(self, since: int) -> list[int]:
        """See `Engine.pages_changed`."""
        pages: list[int] = []
        start = 0
        while True:
            count = lib.accel_pages_changed(self._machine, since, start, self._pages, _PAGES_PER_CALL)
            pages += ffi.unpack(self._pages, count)
            if count < _PAGES_PER_CALL:
                return pages
            start = pages[-1] + 1

    def add_breakpoint(self, number: int, space: AddressSpace, address: int) -> None:
        """See `Engine.add_breakpoint`."""
        _check(lib.accel_break_add(self._machine, number, int(space), address), "set a breakpoint")

    def remove_breakpoint(self, number: int) -> None:
        """See `Engine.remove_breakpoint`."""
        if lib.accel_break_remove(self._machine, number) != lib.ACCEL_OK:
            raise KeyError(number)

    def add_watchpoint(
        self, number: int, space: AddressSpace, address: int, size: int, access: WatchAccess
    ) -> None:
        """See `Engine.add_watchpoint`."""
        status = lib.accel_watch_add(self._machine, number, int(space), address, size, int(access))
        _check(status, "set a watchpoint")

    def remove_watchpoint(self, number: int) -> None:
        """See `Engine.remove_watchpoint`."""
        if lib.accel_watch_remove(self._machine, number) != lib.ACCEL_OK:
            raise KeyError(number)

    def close(self) -> None:
        """See `Engine.close`."""
        if self._machine is not None:
            lib.accel_machine_free(self._machine)
            self._machine = None
            self._cpus.clear()
