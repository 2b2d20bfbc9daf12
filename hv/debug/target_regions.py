"""The map of memory, for `qMemoryRegionInfo`."""

from __future__ import annotations

import trio

from gdbstub.capabilities import MemoryRegion
from hv.debug.regions import region_at
from hv.debug.target_base import TargetBase


class TargetRegions(TargetBase):
    """`MemoryRegions`."""

    async def memory_region(self, thread: int, address: int) -> MemoryRegion:
        """See `gdbstub.capabilities.MemoryRegions`."""
        search = region_at(self._vm, self._vcpu(thread), address)

        def step() -> MemoryRegion | None:
            try:
                next(search)
            except StopIteration as stop:
                found: MemoryRegion = stop.value
                return found
            return None

        while (region := await self._call(step)) is None:
            await trio.lowlevel.checkpoint()
        return region
