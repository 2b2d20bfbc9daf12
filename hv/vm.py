"""A virtual machine: memory, vCPUs, board, scheduler and the door for outside influences, as one object.

Made by `hv.machines`. It has one owner at a time, who calls everything here; only `suspend` and
`scheduler.request_stop` may come from other threads. Who the owner is, and what is done about stops, is
`hv.debug.run_control`'s business.

Lifecycle (bhyve's): the machine runs until it is suspended with a reason; the first caller's reason
stands. A suspended machine runs no instruction until `reset`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

import cbor2

from hv.access import Board
from hv.begun import BegunTicks
from hv.clock import MachineClock
from hv.device import State, Value, check_header, child, header
from hv.engines.base import Engine, EngineCpu, EventType
from hv.errors import SnapshotError
from hv.exits import TripleFault, WriteOrigin
from hv.inputlog import InputDoor, Recorder, Replay
from hv.inputs import (
    Advance,
    BegunTick,
    ConsoleInput,
    HeldTicks,
    Influence,
    InjectEvent,
    IrqHeld,
    IrqMask,
    MachineReset,
    MemoryWrite,
    MsrWrite,
    PortAccess,
    RegisterWrite,
    SwitchVcpu,
)
from hv.memory import GuestMemory
from hv.outcomes import Goal, Outcome, Reached, Suspended, VcpuStopped
from hv.scheduler import Scheduler
from hv.signals import Signals, SuspendReason
from hv.vcpu import Vcpu


@dataclass(frozen=True, slots=True)
class SavedVm:
    """The whole state of a machine: plain values, and the pages of RAM that are not all zeros."""

    state: State
    pages: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a machine function wires together for a `Vm`. `boot` loads the images and sets the first
    vCPU's registers, at power-on and again at each reset."""

    engine: Engine
    cpus: Sequence[EngineCpu]
    board: Board
    signals: Signals
    memory: GuestMemory
    boot: Callable[[Vm], None]


class Vm:
    """See the module. `config` is what a saved state or an input log must agree with."""

    kind: Final = "vm"
    version: Final = 1

    def __init__(
        self,
        parts: Parts,
        config: Mapping[str, Value],
        *,
        host_clock: bool = False,
        recorder: Recorder | None = None,
        replay: Replay | None = None,
    ) -> None:
        self.config = dict(config)
        self.engine = parts.engine
        self.board = parts.board
        self.memory = parts.memory
        self.vcpus = [Vcpu(index, cpu, parts.board) for index, cpu in enumerate(parts.cpus)]
        begun = BegunTicks(parts.cpus)
        self.door = InputDoor(parts.board.clock, self.apply, begun, recorder=recorder, replay=replay)
        self.scheduler = Scheduler(
            parts.engine,
            parts.cpus,
            parts.board,
            parts.signals,
            self.door.submit,
            begun,
            host_clock=host_clock and replay is None,
        )
        self.suspended: Suspended | None = None
        self._suspend_lock = threading.Lock()
        self._boot = parts.boot
        self._boot(self)

    @property
    def clock(self) -> MachineClock:
        """The machine clock."""
        return self.board.clock

    # --- running ----------------------------------------------------------------------------------

    def run(self, goal: Goal) -> Outcome:
        """Run until `goal` holds or something happens; a replay's inputs are applied on the way.

        An outcome with which the machine ends for good is also kept in `suspended`.
        """
        while self.suspended is None:
            self.door.apply_due()
            stamp = self.door.next_stamp()
            if stamp is None or (goal.until is not None and goal.until <= stamp):
                outcome = self.scheduler.run(goal)
            else:
                outcome = self.scheduler.run(replace(goal, until=stamp))
                if isinstance(outcome, Reached):
                    continue
            match outcome:
                case Suspended(reason, value):
                    self.suspend(reason, value)
                case VcpuStopped(_, TripleFault()):
                    self.suspend(SuspendReason.TRIPLEFAULT)
                    return outcome
                case _:
                    return outcome
        return self.suspended

    def suspend(self, reason: SuspendReason, value: int = 0) -> bool:
        """Stop the machine for `reason`. False if it was already: the first caller wins. Any thread."""
        with self._suspend_lock:
            if self.suspended is not None:
                return False
            self.suspended = Suspended(reason, value)
        self.scheduler.request_stop()
        return True

    def reset(self) -> None:
        """Machine reset: CPUs and devices start over, RAM is cleared and the images are loaded again.

        Machine time goes on, as does what the real-time clock keeps.
        """
        for vcpu in self.vcpus:
            vcpu.cpu.reset(False)
        self.board.reset()
        self.engine.set_a20(True)
        self.memory.clear()
        self.scheduler.reset()
        self._boot(self)
        with self._suspend_lock:
            self.suspended = None

    def hold_tick(self, vcpu: int, *, masked: bool) -> Outcome | None:
        """One tick of `vcpu` in which machine time stands still; see `Scheduler.hold_tick`.

        In a live run the caller has it recorded, as `HeldTicks`.
        """
        if self.suspended is not None:
            return self.suspended
        self.door.log_begun()
        outcome = self.scheduler.hold_tick(vcpu, masked=masked)
        match outcome:
            case Suspended(reason, value):
                self.suspend(reason, value)
            case VcpuStopped(_, TripleFault()):
                self.suspend(SuspendReason.TRIPLEFAULT)
            case _:
                pass
        return outcome

    def _hold(self, vcpu: int, count: int, masked: bool) -> None:
        cpu, stalled = self.vcpus[vcpu].cpu, 0
        end = cpu.ticks() + count
        while (start := cpu.ticks()) < end and stalled < 2:  # it may leave for what a debugger catches
            if self.hold_tick(vcpu, masked=masked) is None:
                return
            stalled = stalled + 1 if cpu.ticks() == start else 0

    def apply(self, item: Influence) -> int | None:
        """Carry out one influence; for `InputDoor`. What a port answers; whether an MSR took its value."""
        answer: int | None = None
        match item:
            case ConsoleInput(uart, data):
                self.board.receive(uart, data)
            case RegisterWrite(vcpu, values):
                self.vcpus[vcpu].set_many(values)
            case MemoryWrite(gpa, data):
                self.memory.write(gpa, data, WriteOrigin.DEBUGGER)
            case IrqHeld(vcpu):
                self.scheduler.mask.held = vcpu
            case IrqMask(vcpu, on):
                (self.scheduler.mask.masked.add if on else self.scheduler.mask.masked.discard)(vcpu)
            case HeldTicks(vcpu, count, masked):
                self._hold(vcpu, count, masked)
            case BegunTick():
                self.scheduler.begin_tick(item)
            case SwitchVcpu(vcpu):
                self.scheduler.switch_to(self.vcpus[vcpu].index)
            case Advance(ticks):
                self.scheduler.advance(ticks)
            case InjectEvent(vcpu, kind, vector, error, length):
                self.vcpus[vcpu].inject(EventType(kind), vector, error, length)
            case PortAccess(port, size, value):
                if value is None:
                    answer = self.board.ports.read(port, size)
                else:
                    self.board.ports.write(port, size, value)
            case MsrWrite(vcpu, msr, value):
                taken = self.vcpus[vcpu].cpu.write_msr(msr, value)
                answer = int(taken or self.board.write_msr(vcpu, msr, value))
            case MachineReset():
                self.reset()
            case _:
                assert_never(item)
        self.scheduler.refresh()
        return answer

    # --- state ------------------------------------------------------------------------------------

    def save(self) -> SavedVm:
        """The whole state. The machine must not be running; any tick will do."""
        return SavedVm(self._save_all_but_memory(), self.memory.save())

    def load(self, saved: SavedVm) -> None:
        """Take over a saved state. `SnapshotError` if it is of another kind of machine."""
        state = saved.state
        check_header(self, state)
        config = child(self.kind, state, "config")
        for key in sorted({*config, *self.config}):
            if config.get(key) != self.config.get(key):
                ours, theirs = self.config.get(key), config.get(key)
                raise SnapshotError(
                    f"it was saved with {key} = {theirs!r}, this machine has {ours!r}", self.kind
                )
        cpus = state.get("cpus")
        if not isinstance(cpus, list) or len(cpus) != len(self.vcpus):
            raise SnapshotError("the number of CPUs differs", self.kind)
        self.memory.load(saved.pages)
        for vcpu, data in zip(self.vcpus, cpus, strict=True):
            if not isinstance(data, bytes):
                raise SnapshotError("a CPU's state is malformed", self.kind)
            vcpu.cpu.load(data)
        self.board.load(child(self.kind, state, "board"))
        self.scheduler.load(child(self.kind, state, "scheduler"))
        with self._suspend_lock:
            self.suspended = None

    def _save_all_but_memory(self) -> State:
        return header(self) | {
            "config": dict(self.config),
            "cpus": [vcpu.cpu.save() for vcpu in self.vcpus],
            "board": self.board.save(),
            "scheduler": self.scheduler.save(),
        }

    def state_hash(self) -> str:
        """A digest of everything that the guest's future depends on, as hex."""
        digest = hashlib.blake2b(digest_size=32)
        digest.update(cbor2.dumps(self._save_all_but_memory(), canonical=True))
        digest.update(self.memory.digest())
        return digest.hexdigest()

    def close(self) -> None:
        """Finish the log and free the engine."""
        self.door.close()
        self.engine.close()
