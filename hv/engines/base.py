"""What the machine monitor asks of an execution engine.

An engine holds guest memory and CPUs and nothing else: no device, no timer, no thread. All calls are
made by the machine's one owner, between runs; only `EngineCpu.kick` may come from anywhere.

Ticks are the engine's unit of work and of `until`: instructions retired + REP iterations beyond the
first + events delivered, per CPU, never reset.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hv.exits import Exit, WriteOrigin


class Activity(enum.IntEnum):
    """What a CPU is doing; states of the CPU, never of the debugger."""

    ACTIVE = 0
    HALTED = 1
    SHUTDOWN = 2
    WAIT_SIPI = 3


class MonitorState(enum.IntEnum):
    """What MONITOR and MWAIT have set up; a CPU that waits is halted as well.

    Stores to the monitored line end a wait. So does any interrupt with `WAIT_MASKED`, though it is masked.
    """

    NONE = 0
    ARMED = 1
    WAIT = 2
    WAIT_MASKED = 3


class EventType(enum.IntEnum):
    """Kinds of events to inject, numbered as VMX interruption types (SDM vol. 3, "VM-Entry Controls for
    Event Injection")."""

    HWINTR = 0
    NMI = 2
    EXCEPTION = 3
    SWINTR = 4
    PRIV_SW_EXCEPTION = 5
    SW_EXCEPTION = 6


class CpuModel(enum.IntEnum):
    """The instruction set levels of the x86-64 psABI, and everything the engine has."""

    V1 = 0
    V2 = 1
    V3 = 2
    MAX = 3


class AddressSpace(enum.IntEnum):
    """What a breakpoint or watchpoint address means."""

    LINEAR = 0
    PHYSICAL = 1


class WatchAccess(enum.IntFlag):
    """Which accesses a watchpoint reports."""

    WRITE = 1
    READ = 2
    ACCESS = 3
    CHANGED = 5
    """Writes that leave another value."""


@dataclass(frozen=True, slots=True)
class PredicateStep:
    """One instruction of a condition. `op`: a `gdbstub.predicate.Op`; `register`: the engine's name of the
    one that REGISTER reads, `value` what the others need."""

    op: int
    value: int
    register: str = ""


@dataclass(frozen=True, slots=True)
class PointLimits:
    """What narrows a breakpoint or watchpoint down: one address space, privilege level, CPU, or conditions of
    which one has to hold; the first `ignore` hits are counted and not reported."""

    cr3: int | None = None
    cpl: int | None = None
    cpu: int | None = None
    ignore: int = 0
    conditions: tuple[tuple[PredicateStep, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Translation:
    """Where a linear address leads: the physical address and the size of its page as a shift."""

    gpa: int
    page_shift: int
    writable: bool
    user: bool
    executable: bool
    accessed: bool
    dirty: bool
    global_: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """One taken branch or delivered event, as linear addresses. `source`: the branch, or for an event the
    instruction that caused it or that it came before; `target`: where execution went."""

    source: int
    target: int


class Access(Protocol):
    """The machine's answers to device accesses. `ticks` is the CPU's count at the access.

    `until` is the tick to run to; an access may change it, and one at or before `ticks` makes the CPU
    leave as soon as the instruction has retired.
    """

    until: int

    def read_port(self, ticks: int, port: int, size: int) -> int:
        """IN and INS: the value of `size` (1, 2, 4) bytes."""
        ...

    def write_port(self, ticks: int, port: int, size: int, value: int) -> None:
        """OUT and OUTS."""
        ...

    def read_mmio(self, ticks: int, gpa: int, size: int) -> int:
        """A load of 1 to 8 bytes from outside every memory slot."""
        ...

    def write_mmio(self, ticks: int, gpa: int, size: int, value: int) -> None:
        """A store of 1 to 8 bytes to outside every memory slot."""
        ...

    def read_msr(self, ticks: int, msr: int) -> int | None:
        """RDMSR of a register that the engine does not own; None gives #GP(0)."""
        ...

    def write_msr(self, ticks: int, msr: int, value: int) -> bool:
        """WRMSR likewise; False gives #GP(0)."""
        ...


class Control(Protocol):
    """A CPU's control block, the software twin of a VMCS; flags are 0 or 1. See `accel.h`."""

    monitor_trap: int
    bpt_exit: int
    hlt_exit: int
    pause_exit: int
    pause_cost: int
    mask_hwintr: int
    irq_window: int
    nmi_window: int
    intr_line: int
    nmi_pending: int
    skip_breakpoint: int
    activity: int
    monitor_state: int
    tpr_threshold: int
    step_range: int
    branch_trace: int
    catch_events: int
    catch_mode: int
    exception_exit: int
    step_start: int
    step_end: int
    inject_valid: int
    inject_type: int
    inject_vector: int
    inject_has_error: int
    inject_error: int
    inject_length: int
    inflight_valid: int
    inflight_type: int
    inflight_vector: int
    inflight_has_error: int
    inflight_error: int
    inflight_length: int
    pass_exception: int
    time_base: int


@dataclass(frozen=True, slots=True)
class Turns:
    """Where CPUs that ran in turn have stopped: the place in the ring of the one whose turn it is, the
    machine tick at which that turn began, and how many ticks it has. `cut_short`: it has had some of them."""

    place: int
    now: int
    left: int
    cut_short: bool


class EngineCpu(Protocol):
    """One CPU. Register values are bytes in little-endian order, of the size `register_size` gives."""

    @property
    def control(self) -> Control:
        """The control block, read and written in place between runs."""
        ...

    def run(self, until: int, access: Access) -> Exit:
        """Run until the tick count reaches `until` (or what `access.until` becomes) or something happens.

        When it returns, no device access is outstanding. `EngineError` if the engine breaks its contract.
        """
        ...

    def kick(self) -> None:
        """Make a running (or the next) `run` return `Kick` soon. Any thread."""
        ...

    def ticks(self) -> int:
        """Ticks since power-on."""
        ...

    def retired(self) -> int:
        """Instructions retired since power-on, for display."""
        ...

    def reset(self, init: bool) -> None:
        """Power-on state, or INIT (SDM vol. 3, "Processor State After Reset")."""
        ...

    def register_size(self, name: str) -> int | None:
        """Size of a register in bytes, None if there is none of that name."""
        ...

    def read_register(self, name: str) -> bytes:
        """A register by the engine's name for it. KeyError."""
        ...

    def read_registers(self, names: tuple[str, ...]) -> tuple[bytes | None, ...]:
        """Many registers at once; None where there is none of that name."""
        ...

    def write_register(self, name: str, value: bytes) -> None:
        """Set a register. KeyError; ValueError when it cannot have that value."""
        ...

    def read_msr(self, msr: int) -> int | None:
        """An MSR as the guest would see it; None if the engine does not own it."""
        ...

    def write_msr(self, msr: int, value: int) -> bool:
        """Set an MSR without privilege checks; False if it cannot have that value or is not owned."""
        ...

    def translate(self, linear: int) -> Translation | None:
        """Where a linear address leads, without side effects; None when it is not mapped."""
        ...

    def branches(self, most: int) -> list[Branch]:
        """The way the CPU took while `control.branch_trace` was set, newest first; debug state, never saved.

        The straight stretches between are from one record's target to the next newer one's source; the
        newest goes from the last target to the present instruction.
        """
        ...

    def branch_count(self) -> int:
        """Branches recorded since the ring was last empty; more than `branches` gives when some are lost."""
        ...

    def resize_branches(self, entries: int) -> None:
        """Keep the last `entries` branches (at least 32) from now on, starting with none.

        ValueError outside of 1 to 2^20; ConfigError when the host has no memory.
        """
        ...

    def read_linear(self, linear: int, size: int) -> bytes:
        """The bytes from `linear` on as far as they are mapped and in memory slots, without side effects.

        Addresses wrap at 2^64.
        """
        ...

    def save(self) -> bytes:
        """The canonical state, without caches, debug controls and statistics."""
        ...

    def load(self, state: bytes) -> None:
        """Take over a saved state. `SnapshotError` if it has another layout."""
        ...

    def statistics(self) -> Mapping[str, int]:
        """Counters of this run of the program, by name; not part of the state."""
        ...


class Engine(Protocol):
    """Guest memory, breakpoint sets and CPUs."""

    def add_cpu(self, index: int, count: int, model: CpuModel, tsc_hz: int, seed: int) -> EngineCpu:
        """CPU `index` of `count`, in its power-on state."""
        ...

    def add_memory(self, gpa: int, size: int, *, rom: bool = False) -> None:
        """A zeroed memory slot, in whole pages. ConfigError when the host has no memory for it."""
        ...

    def set_a20(self, enabled: bool) -> None:
        """The A20 gate."""
        ...

    def run_turns(self, ring: tuple[int, ...], now: int, left: int, quantum: int, bound: int) -> Turns:
        """Run the CPUs of `ring` one after the other from machine tick `now` on: the first for `left` ticks,
        each that follows for `quantum`, until a turn would end behind machine tick `bound`, or one is cut
        short by whatever makes `EngineCpu.run` return. That CPU's `run` has to be called next, and says what.
        """
        ...

    def read_physical(self, gpa: int, size: int) -> bytes | None:
        """Read memory slots; None when any byte lies outside them."""
        ...

    def write_physical(self, gpa: int, data: bytes, origin: WriteOrigin) -> bool:
        """Write memory slots in full, or not at all and False when any byte lies outside them."""
        ...

    def write_by_device(self, gpa: int, data: bytes, device: int) -> bool:
        """The same by a device, which watchpoints see; `device` is the number that their hits name."""
        ...

    def next_epoch(self) -> int:
        """Start a new epoch of page changes and return its number."""
        ...

    def pages_changed(self, since: int) -> list[int]:
        """Guest page numbers written in epoch `since` or later, ascending; 1 is the first epoch."""
        ...

    def add_breakpoint(self, number: int, space: AddressSpace, address: int) -> None:
        """Stop before the instruction at `address`. Several may share an address."""
        ...

    def remove_breakpoint(self, number: int) -> None:
        """KeyError if there is none with that number."""
        ...

    def add_watchpoint(
        self, number: int, space: AddressSpace, address: int, size: int, access: WatchAccess
    ) -> None:
        """Report accesses to `[address, address + size)` after the tick that makes them."""
        ...

    def remove_watchpoint(self, number: int) -> None:
        """KeyError if there is none with that number."""
        ...

    def limit_point(self, number: int, limits: PointLimits) -> None:
        """Replace what narrows the breakpoint or watchpoint `number` down. KeyError if there is none."""
        ...

    def point_hits(self, number: int) -> int:
        """How often the point `number` was hit within its limits. KeyError if there is none."""
        ...

    def close(self) -> None:
        """Free memory and CPUs; nothing may be called afterwards."""
        ...
