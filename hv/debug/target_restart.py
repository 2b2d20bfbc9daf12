"""Starting the machine again in the same session."""

from __future__ import annotations

from gdbstub.target import Stop, StopReason
from hv.debug.target_base import TargetBase


class TargetRestart(TargetBase):
    """`Restart`: a machine reset, also after a power-off or a triple fault. Breakpoints stay."""

    async def restart(self) -> Stop:
        """See `gdbstub.capabilities.Restart`."""
        await self._call(self._control.reset_machine)
        return Stop(StopReason.ATTACHED, self._vm.scheduler.current + 1)
