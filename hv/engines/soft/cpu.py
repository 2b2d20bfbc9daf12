"""One CPU of the core.

Device accesses are answered in a loop of this module: an instruction whose device reads are outstanding is
finished before anything else can happen to the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from accel import ffi, lib
from hv.engines.base import Access, Branch, Control, EventType, Translation
from hv.engines.soft.exits import EXIT_NAMES, KICK_EXIT, decode_exit
from hv.engines.soft.registers import RegisterTable
from hv.errors import ConfigError, EngineError, SnapshotError
from hv.exits import Exit

_VECTOR_GP: Final = 13
_LINEAR_SPACE: Final = 1 << 64
_PIECE: Final = 1 << 16  # what most reads of memory fit into
_DEADLINE: Final = 0
_KICK: Final = 1
_INOUT: Final = 2
_MMIO: Final = 3
_RDMSR: Final = 9
_WRMSR: Final = 10


def check(status: int, what: str) -> None:
    """EngineError unless `status` is that of success."""
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

    def run_turns(self, ring: Any, count: int, quantum: int, bound: int, turns: Any, record: Any) -> int:
        """accel_run_turns() with the clock stopped."""
        self.seconds[self._kind] += time.perf_counter() - self._left_at
        kind: int = lib.accel_run_turns(ring, count, quantum, bound, turns, record)
        self._left_at = time.perf_counter()
        self._kind = max(kind, _DEADLINE)
        return kind


class SoftCpu:
    """One CPU of the core. Made by `SoftEngine.add_cpu`."""

    def __init__(self, handle: Any, registers: RegisterTable, times: ExitTimes | None = None) -> None:
        self._cpu = handle
        self._run: Callable[[Any, int, Any], int] = lib.accel_run if times is None else times.run
        self._left = False
        self._exit = ffi.new("accel_exit *")
        self._registers = registers
        self._control: Control = lib.accel_cpu_control(handle)
        self._value = ffi.new("uint8_t[64]")
        self._msr = ffi.new("uint64_t *")
        self._piece = ffi.new("uint8_t[]", _PIECE)
        self._save_size: int = lib.accel_cpu_save_size()
        self.exit_counts = [0] * len(EXIT_NAMES)

    @property
    def handle(self) -> Any:
        """The core's own name for it."""
        return self._cpu

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
            if self._left:
                self._left = False
            elif status := run(cpu, until, record):
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
                return KICK_EXIT if kicked and kind == _DEADLINE else decode_exit(cpu, record)
            until = ticks if kicked else access.until
            if answering and until <= ticks:
                until = ticks + 1

    def has_left(self, record: Any) -> None:
        """It ran in turn with others, and left the core with the exit `record`, which `run` is to handle."""
        self._exit[0] = record[0]
        self._left = True

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
        row = self._registers.rows.get(name)
        return None if row is None else row[1]

    def read_register(self, name: str) -> bytes:
        """See `EngineCpu.read_register`."""
        number, size = self._registers.rows[name]
        check(lib.accel_reg_get(self._cpu, number, self._value, size), f"read register {name}")
        return bytes(ffi.buffer(self._value, size))

    def read_registers(self, names: tuple[str, ...]) -> tuple[bytes | None, ...]:
        """See `EngineCpu.read_registers`."""
        return self._registers.select(names).read(self._cpu)

    def write_register(self, name: str, value: bytes) -> None:
        """See `EngineCpu.write_register`."""
        number, size = self._registers.rows[name]
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

    def branches(self, most: int) -> list[Branch]:
        """See `EngineCpu.branches`."""
        most = min(most, lib.accel_branch_count(self._cpu))
        box = ffi.new("accel_branch[]", most)
        count = lib.accel_branches(self._cpu, box, most)
        words = ffi.unpack(ffi.cast("uint64_t *", box), 2 * count)
        return list(map(Branch, words[::2], words[1::2]))

    def branch_count(self) -> int:
        """See `EngineCpu.branch_count`."""
        return int(lib.accel_branch_count(self._cpu))

    def resize_branches(self, entries: int) -> None:
        """See `EngineCpu.resize_branches`."""
        status = lib.accel_branch_ring(self._cpu, entries)
        if status == lib.ACCEL_EINVAL:
            raise ValueError(f"{entries} branches cannot be kept")
        if status != lib.ACCEL_OK:
            raise ConfigError(f"the host has no memory to keep {entries} branches")

    def read_linear(self, linear: int, size: int) -> bytes:
        """See `EngineCpu.read_linear`."""
        data = self._piece if size <= _PIECE else ffi.new("uint8_t[]", size)
        got = lib.accel_linear_read(self._cpu, linear % _LINEAR_SPACE, data, size)
        return bytes(ffi.buffer(data, got))

    def save(self) -> bytes:
        """See `EngineCpu.save`."""
        state = ffi.new("uint8_t[]", self._save_size)
        check(lib.accel_cpu_save(self._cpu, state, self._save_size), "save a CPU")
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
