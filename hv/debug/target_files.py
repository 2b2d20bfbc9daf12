"""Virtual files: the program and its symbols, and the map of memory, under names of ours.

No name reaches the host's file system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from gdbstub.capabilities import Library
from gdbstub.target import SectionOffsets, Stop, StopReason
from hv.debug.kernel_start import stop_when_mapped
from hv.debug.regions import ADDRESSES
from hv.debug.symbols import KERNEL_NAME
from hv.debug.target_layout import TargetLayout
from hv.debug.target_regions import TargetRegions
from hv.debug.target_settings import LONG_LAYOUTS

MAPS_NAME: Final = "/proc/1/maps"
"""Where clients look for the map of memory of process 1, which is what they see the machine as."""
_MAX_REGIONS: Final = 1 << 14


class TargetFiles(TargetLayout, TargetRegions):
    """`VirtualFiles`, `Libraries`, and where a kernel that moved itself is."""

    _in_control: bool  # by `hv.debug.target_shared`
    _told_of_kernel = False

    async def executable(self) -> str | None:
        """See `gdbstub.capabilities.VirtualFiles`.

        gdb asks for libraries only once it has a program; but a client that asks for that knows both.
        """
        if await self._control.symbols.find_kernel(self._call) is None:
            await self._call(self._tell_of_kernel)
        return await self._call(self._control.symbols.file_name) if await self._call(self._fits) else None

    def _fits(self) -> bool:
        """Whether gdb can load the program beside the registers that it is shown."""
        return self.layout in LONG_LAYOUTS or not self._control.symbols.is_64_bit()

    async def libraries(self) -> Sequence[Library]:
        """See `gdbstub.capabilities.Libraries`. A kernel that is not mapped yet comes like a library."""
        kernel = await self._control.symbols.find_kernel(self._call)
        if kernel is None:
            await self._call(self._tell_of_kernel)
        if kernel is None or not self._told_of_kernel:
            return []
        return [Library(KERNEL_NAME, (kernel.text,))]

    def _tell_of_kernel(self) -> None:
        """Have the client told when a kernel is mapped; until it leaves."""
        if self._told_of_kernel or not self._in_control or not self._fits():
            return
        self._told_of_kernel = stop_when_mapped(
            self._control, self._client.number, lambda vcpu: Stop(StopReason.LIBRARY, vcpu + 1)
        )

    async def read_file(self, path: str) -> bytes | None:
        """See `gdbstub.capabilities.VirtualFiles`."""
        if path == MAPS_NAME:
            return await self._maps()
        return await self._control.symbols.read_file(path, self._call)

    async def _maps(self) -> bytes:
        """What the current vCPU has mapped, in the format of proc(5)."""
        thread = await self._call(lambda: self._vm.scheduler.current) + 1
        lines: list[str] = []
        address = 0
        while address < ADDRESSES and len(lines) < _MAX_REGIONS:
            region = await self.memory_region(thread, address)
            end = region.start + region.size
            if region.readable:
                rights = f"r{'w' if region.writable else '-'}{'x' if region.executable else '-'}p"
                # The last address there is stands for the one after it, which has a digit too many.
                last = min(end, ADDRESSES - 1)
                lines.append(f"{region.start:08x}-{last:08x} {rights} 00000000 00:00 0 [{region.name}]\n")
            address = end
            await trio.lowlevel.checkpoint()
        return "".join(lines).encode()

    async def kernel_offsets(self) -> SectionOffsets | None:
        """Where a Linux kernel begins that chose its own address; None when there is none (yet)."""
        kernel = await self._control.symbols.find_kernel(self._call)
        return None if kernel is None else SectionOffsets(kernel.text, slide=kernel.slide)

    async def before_command(self, command: str) -> None:
        """Long work for a monitor command, done in slices before the command itself is given."""
        if command.split()[:1] == ["symbols"]:
            await self._control.symbols.find_kernel(self._call, everywhere=True)
