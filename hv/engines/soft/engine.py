"""The machine of the core: memory, breakpoint sets and CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from accel import ffi, lib
from hv.engines.base import AddressSpace, CpuModel, PointLimits, Turns, WatchAccess
from hv.engines.soft.cpu import ExitTimes, SoftCpu, check
from hv.engines.soft.exits import EXIT_NAMES
from hv.engines.soft.limits import limits_record
from hv.engines.soft.registers import RegisterTable
from hv.errors import ConfigError, EngineError
from hv.exits import WriteOrigin

_PAGES_PER_CALL: Final = 8192


class SoftEngine:
    """A machine of the core: its memory, breakpoints and CPUs. `timed`: measure what exits cost the host."""

    def __init__(self, *, timed: bool = False) -> None:
        self._times = times = ExitTimes() if timed else None
        out = ffi.new("accel_machine **")
        if lib.accel_machine_new(out) != lib.ACCEL_OK:
            raise ConfigError("the host has no memory for a machine")
        self._machine = out[0]
        self._registers = RegisterTable()
        self._cpus: list[SoftCpu] = []
        self._pages = ffi.new("uint64_t[]", _PAGES_PER_CALL)
        self._run_turns: Callable[..., int] = lib.accel_run_turns if times is None else times.run_turns
        self._turns = ffi.new("accel_turns *")
        self._exit = ffi.new("accel_exit *")

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
        check(status, f"add memory at {gpa:#x}")

    def set_a20(self, enabled: bool) -> None:
        """See `Engine.set_a20`."""
        check(lib.accel_a20(self._machine, int(enabled)), "switch A20")

    def run_turns(self, ring: tuple[int, ...], now: int, left: int, quantum: int, bound: int) -> Turns:
        """See `Engine.run_turns`."""
        cpus = ffi.new("accel_cpu *[]", [self._cpus[index].handle for index in ring])
        turns = self._turns
        turns.now, turns.left, turns.index = now, left, 0
        kind = self._run_turns(cpus, len(ring), quantum, bound, turns, self._exit)
        if kind < 0:
            raise EngineError("the core refused to run")
        if kind != lib.ACCEL_EXIT_DEADLINE:
            self._cpus[ring[turns.index]].has_left(self._exit)
        return Turns(turns.index, turns.now, turns.left, kind != lib.ACCEL_EXIT_DEADLINE)

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

    def write_by_device(self, gpa: int, data: bytes, device: int) -> bool:
        """See `Engine.write_by_device`."""
        if not data:
            return True
        status = lib.accel_dma_write(self._machine, gpa, ffi.from_buffer(data), len(data), device)
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
        check(lib.accel_break_add(self._machine, number, int(space), address), "set a breakpoint")

    def remove_breakpoint(self, number: int) -> None:
        """See `Engine.remove_breakpoint`."""
        if lib.accel_break_remove(self._machine, number) != lib.ACCEL_OK:
            raise KeyError(number)

    def add_watchpoint(
        self, number: int, space: AddressSpace, address: int, size: int, access: WatchAccess
    ) -> None:
        """See `Engine.add_watchpoint`."""
        status = lib.accel_watch_add(self._machine, number, int(space), address, size, int(access))
        check(status, "set a watchpoint")

    def remove_watchpoint(self, number: int) -> None:
        """See `Engine.remove_watchpoint`."""
        if lib.accel_watch_remove(self._machine, number) != lib.ACCEL_OK:
            raise KeyError(number)

    def limit_point(self, number: int, limits: PointLimits) -> None:
        """See `Engine.limit_point`."""
        record, _parts = limits_record(limits)
        status = lib.accel_point_limit(self._machine, number, record)
        if status == lib.ACCEL_ENOENT:
            raise KeyError(number)
        check(status, "limit a breakpoint")

    def point_hits(self, number: int) -> int:
        """See `Engine.point_hits`."""
        hits = ffi.new("uint64_t *")
        if lib.accel_point_hits(self._machine, number, hits) != lib.ACCEL_OK:
            raise KeyError(number)
        return int(hits[0])

    def close(self) -> None:
        """See `Engine.close`."""
        if self._machine is not None:
            lib.accel_machine_free(self._machine)
            self._machine = None
            self._cpus.clear()
