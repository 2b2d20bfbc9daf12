"""The machine as the debug server sees it: fulfils `gdbstub.target`'s Protocols over `RunControl`.

Thread id n is vCPU n - 1. Everything that touches the machine goes through `RunControl.submit`, so a
request during a run is served between two ticks. Memory is what the thread's vCPU sees through its page
tables; only RAM is reached, never a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import trio

from gdbstub.arch.x86_64 import x86_64
from gdbstub.description import Description
from gdbstub.errors import (
    MemoryAccessError,
    RegisterError,
    TargetBusyError,
    TargetError,
    ThreadNotFoundError,
    UnsupportedError,
)
from gdbstub.target import (
    BreakpointKind,
    Client,
    Detach,
    Event,
    ResumePlan,
    SectionOffsets,
    StepPolicy,
    Stop,
    StopReason,
    ThreadInfo,
    WatchKind,
)
from hv.debug.breakpoints import ExecutionPoint, WatchPoint
from hv.debug.commands import CommandContext, run_command
from hv.debug.run_control import RunControl, RunState
from hv.engines.base import AddressSpace
from hv.errors import HvError
from hv.inputs import MemoryWrite
from hv.paging import read_linear, writable_pieces

T = TypeVar("T")
_MAX_WATCH = 1 << 32


async def result_of(future: Future[T]) -> T:
    """Wait for a request that the machine's owner carries out; its exception is raised here."""
    if not future.done():
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        future.add_done_callback(lambda _: token.run_sync_soon(done.set))
        await done.wait()
    return future.result()


class Lease:
    """Who controls a machine. Shared by all its targets."""

    def __init__(self) -> None:
        self.holder: Client | None = None
        self._free = trio.Event()

    def take(self, client: Client) -> None:
        """`client` takes control. Raises `TargetBusyError`."""
        if self.holder is not None:
            raise TargetBusyError(self.holder.name)
        self.holder = client
        self._free = trio.Event()

    def release(self) -> None:
        """The holder gives control back."""
        self.holder = None
        self._free.set()

    async def wait_free(self) -> None:
        """Wait until nobody has control."""
        if self.holder is not None:
            await self._free.wait()


class MachineTarget:
    """One connection's view of the machine. trio only."""

    def __init__(
        self, control: RunControl, lease: Lease, client: Client, offsets: SectionOffsets | None
    ) -> None:
        self._control = control
        self._vm = control.vm
        self._lease = lease
        self._client = client
        self._offsets = offsets
        self._description = x86_64(avx=self._has_avx())
        self._running_at_attach = False
        self._continued = False
        self._token = trio.lowlevel.current_trio_token()
        self._send, self._receive = trio.open_memory_channel[Event](16)

    def _has_avx(self) -> bool:
        return self._vm.config.get("cpu") in ("x86-64-v3", "max")

    @property
    def description(self) -> Description:
        """See `gdbstub.target.Target`."""
        return self._description

    # --- control -----------------------------------------------------------------------------------

    async def attach(self) -> Stop:
        """See `gdbstub.target.Target`."""
        self._lease.take(self._client)
        control = self._control
        self._running_at_attach = control.state is RunState.RUNNING
        if control.stop_free_run(self._deliver):
            event = await self.wait_stop()
            if isinstance(event, Stop) and event.reason is not StopReason.INTERRUPT:
                return event
        return Stop(StopReason.ATTACHED, self._vm.scheduler.current + 1)

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        if self._lease.holder is not self._client:
            return
        control = self._control
        control.interrupt()
        await self._call(self._drop)
        if control.owner.busy:
            await self.wait_stop()
        self._lease.release()
        go_on = self._running_at_attach or self._continued
        control.debugged = False
        if control.ending is None and (how is Detach.RESUME or (how is Detach.LOST and go_on)):
            control.run_freely()

    def _drop(self) -> None:
        self._control.points.remove_owner(self._client.number)
        self._control.forget_events()
        self._control.mask_steps = True

    async def resume(self, plan: ResumePlan) -> Event | None:
        """See `gdbstub.target.Target`."""
        self._continued = True
        try:
            return self._control.resume(plan, self._deliver)
        except HvError as error:
            raise TargetError(str(error)) from None

    async def wait_stop(self) -> Event:
        """See `gdbstub.target.Target`."""
        return await self._receive.receive()

    def _deliver(self, event: Event) -> None:
        self._token.run_sync_soon(self._send.send_nowait, event)

    def interrupt(self) -> None:
        """See `gdbstub.target.Target`."""
        self._control.interrupt()

    async def kill(self) -> None:
        """See `gdbstub.target.Killable`."""
        self._control.quit(0, "killed by the debugger")

    async def _call(self, request: Callable[[], T]) -> T:
        """Have the machine's owner carry out `request`; errors of `hv` become the debug server's."""
        try:
            return await result_of(self._control.submit(request))
        except HvError as error:
            raise TargetError(str(error)) from None

    # --- threads and registers -----------------------------------------------------------------------

    def _vcpu(self, thread: int) -> int:
        if not 1 <= thread <= len(self._vm.vcpus):
            raise ThreadNotFoundError(thread)
        return thread - 1

    async def threads(self) -> Sequence[ThreadInfo]:
        """See `gdbstub.target.Target`."""
        return await self._call(
            lambda: [ThreadInfo(v.index + 1, f"vCPU {v.index}", v.state, v.index) for v in self._vm.vcpus]
        )

    async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
        """See `gdbstub.target.Target`."""
        vcpu = self._vm.vcpus[self._vcpu(thread)]
        linear = ["linear_pc" if name == "rip" else name for name in names]
        return await self._call(lambda: vcpu.get_many(linear))

    async def write_registers(self, thread: int, values: Sequence[tuple[str, bytes]]) -> None:
        """See `gdbstub.target.Target`."""
        vcpu = self._vcpu(thread)
        await self._call(lambda: self._write_registers(vcpu, values))

    def _write_registers(self, vcpu: int, values: Sequence[tuple[str, bytes]]) -> None:
        values = [(name, self._offset(vcpu, value) if name == "rip" else value) for name, value in values]
        present = self._vm.vcpus[vcpu].get_many([name for name, _ in values])
        changed = tuple(pair for pair, now in zip(values, present, strict=True) if pair[1] != now)
        if not changed:
            return
        try:
            self._control.write_registers(vcpu, changed)
        except KeyError as error:
            raise RegisterError(str(error.args[0]), "unknown") from None
        except ValueError as error:
            raise RegisterError(changed[0][0], str(error)) from None

    def _offset(self, vcpu: int, linear: bytes) -> bytes:
        """The RIP that makes the linear address `linear` the next instruction's."""
        registers = self._vm.vcpus[vcpu]
        base = registers.get("linear_pc") - registers.get("rip")
        return ((int.from_bytes(linear, "little") - base) % (1 << 64)).to_bytes(8, "little")

    # --- memory --------------------------------------------------------------------------------------

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """See `gdbstub.target.Target`."""
        cpu = self._vm.vcpus[self._vcpu(thread)].cpu
        data = await self._call(lambda: read_linear(self._vm.engine, cpu, address, length))
        if length and not data:
            raise MemoryAccessError(address)
        return data

    async def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """See `gdbstub.target.Target`."""
        cpu = self._vm.vcpus[self._vcpu(thread)].cpu

        def write() -> None:
            where = writable_pieces(self._vm.engine, cpu, address, data)
            if isinstance(where, int):
                raise MemoryAccessError(where)
            for gpa, piece in where:
                self._vm.door.submit(MemoryWrite(gpa, piece))

        await self._call(write)

    async def read_physical(self, address: int, length: int) -> bytes:
        """See `gdbstub.target.PhysicalMemory`."""

        def read() -> bytes:
            whole = self._vm.memory.read(address, length)
            if whole is not None:
                return whole
            data = bytearray()
            while len(data) < length:
                piece = self._vm.memory.read(address + len(data), 1)
                if piece is None:
                    break
                data += piece
            return bytes(data)

        data = await self._call(read)
        if length and not data:
            raise MemoryAccessError(address, "no memory there")
        return data

    async def write_physical(self, address: int, data: bytes) -> None:
        """See `gdbstub.target.PhysicalMemory`."""

        def write() -> None:
            if self._vm.memory.read(address, len(data)) is None:
                raise MemoryAccessError(address, "no memory there")
            self._vm.door.submit(MemoryWrite(address, data))

        await self._call(write)

    # --- breakpoints and watchpoints -----------------------------------------------------------------

    async def set_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        await self._call(lambda: self._control.points.add(self._client.number, point, kind))

    async def clear_breakpoint(self, kind: BreakpointKind, address: int, size: int) -> None:
        """See `gdbstub.target.Breakpoints`."""
        point = ExecutionPoint(AddressSpace.LINEAR, address)
        await self._call(lambda: self._control.points.remove(self._client.number, point, kind))

    async def set_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        if length > _MAX_WATCH:
            raise UnsupportedError("no watchpoint is that long")
        point = WatchPoint(AddressSpace.LINEAR, address, length, kind)
        await self._call(lambda: self._control.points.add(self._client.number, point))

    async def clear_watchpoint(self, kind: WatchKind, address: int, length: int) -> None:
        """See `gdbstub.target.Watchpoints`."""
        point = WatchPoint(AddressSpace.LINEAR, address, length, kind)
        await self._call(lambda: self._control.points.remove(self._client.number, point))

    # --- the rest --------------------------------------------------------------------------------------

    @property
    def steps_ranges(self) -> bool:
        """See `gdbstub.target.RangeStepping`."""
        return True

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        """See `gdbstub.target.Monitor`."""
        vcpu = self._vcpu(thread)
        await self._call(lambda: run_command(CommandContext(self._control, vcpu, write), command))

    async def step_policy(self) -> StepPolicy:
        """See `gdbstub.target.SteppingPolicy`."""
        return StepPolicy.ENABLE | (StepPolicy.NOIRQ if self._control.mask_steps else StepPolicy(0))

    async def set_step_policy(self, policy: StepPolicy) -> None:
        """See `gdbstub.target.SteppingPolicy`. Timers follow the machine clock, which a step moves."""
        if not policy & StepPolicy.ENABLE or policy & StepPolicy.NOTIMER:
            raise UnsupportedError("steps can mask interrupts or not; nothing else")

        def choose() -> None:
            self._control.mask_steps = bool(policy & StepPolicy.NOIRQ)

        await self._call(choose)

    async def section_offsets(self) -> SectionOffsets | None:
        """See `gdbstub.target.Offsets`."""
        return self._offsets
