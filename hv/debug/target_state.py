"""Registers and memory of the machine, for its debuggers.

Memory is what the thread's vCPU sees through its page tables; only RAM is reached, never a device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from gdbstub.errors import MemoryAccessError, RegisterError
from gdbstub.target import ThreadInfo
from hv.debug.register_names import CONSTANTS, LOW_HALVES, LOW_SIZE, engine_name
from hv.debug.target_base import TargetBase
from hv.inputs import MemoryWrite
from hv.memory import PAGE_SIZE
from hv.paging import writable_pieces


@functools.lru_cache
def _engine_names(names: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The engine's names for what clients ask; whether some are not the engine's registers as they are."""
    special = {*LOW_HALVES, *CONSTANTS}
    return tuple(engine_name(name) for name in names), not special.isdisjoint(names)


def _as_asked(names: Sequence[str], values: Sequence[bytes | None]) -> list[bytes | None]:
    return [
        value[:LOW_SIZE] if value is not None and name in LOW_HALVES else CONSTANTS.get(name, value)
        for name, value in zip(names, values, strict=True)
    ]


class TargetState(TargetBase):
    """`Target`'s threads, registers and memory, and `PhysicalMemory`."""

    # --- threads and registers -----------------------------------------------------------------------

    async def threads(self) -> Sequence[ThreadInfo]:
        """See `gdbstub.target.Target`."""
        return await self._call(
            lambda: [ThreadInfo(v.index + 1, f"vCPU {v.index}", v.state, v.index) for v in self._vm.vcpus]
        )

    async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
        """See `gdbstub.target.Target`."""
        vcpu, (known, special) = self._vm.vcpus[self._vcpu(thread)], _engine_names(tuple(names))
        values = await self._call(lambda: vcpu.get_many(known))
        return _as_asked(names, values) if special else values

    async def write_registers(self, thread: int, values: Sequence[tuple[str, bytes]]) -> None:
        """See `gdbstub.target.Target`."""
        vcpu = self._vcpu(thread)
        await self._call(lambda: self._write_registers(vcpu, values))

    def _write_registers(self, vcpu: int, values: Sequence[tuple[str, bytes]]) -> None:
        values = [self._whole(vcpu, name, value) for name, value in values if CONSTANTS.get(name) != value]
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

    def _whole(self, vcpu: int, name: str, value: bytes) -> tuple[str, bytes]:
        """What to write for `value` in a debugger's register; the other half of a register stays."""
        whole = LOW_HALVES.get(name, name)
        if whole == "rip":
            return whole, self._offset(vcpu, value)
        if whole != name:
            [present] = self._vm.vcpus[vcpu].get_many([whole])
            value += (present or b"")[LOW_SIZE:]
        return whole, value

    def _offset(self, vcpu: int, linear: bytes) -> bytes:
        """The RIP that makes the linear address `linear` the next instruction's."""
        offset = int.from_bytes(linear, "little") - self._vm.vcpus[vcpu].code_base
        return (offset % (1 << 64)).to_bytes(8, "little")

    # --- memory --------------------------------------------------------------------------------------

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """See `gdbstub.target.Target`."""
        cpu = self._vm.vcpus[self._vcpu(thread)].cpu
        data = await self._call(lambda: cpu.read_linear(address, length))
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
            data, end = b"", address + length
            while (at := address + len(data)) < end:
                # RAM begins and ends with whole pages.
                piece = self._vm.memory.read(at, min(end - at, PAGE_SIZE - at % PAGE_SIZE))
                if piece is None:
                    break
                data += piece
            return data

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
