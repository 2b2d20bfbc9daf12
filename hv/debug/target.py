"""The machine as the debug server sees it: fulfils `gdbstub.target`'s Protocols over `RunControl`.

Thread id n is vCPU n - 1. Everything that touches the machine goes through `RunControl.submit`, so a
request during a run is served between two ticks. Each capability has its methods in a part of its own,
a module `target_*`; `MachineTarget` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from gdbstub.errors import UnsupportedError
from gdbstub.target import Client, SectionOffsets, StepPolicy
from hv.debug.command import CommandContext
from hv.debug.commands import only_reads, steps
from hv.debug.run_control import RunControl
from hv.debug.target_btrace import TargetBranchTrace
from hv.debug.target_files import TargetFiles
from hv.debug.target_nonstop import TargetNonStop
from hv.debug.target_points import TargetPoints
from hv.debug.target_restart import TargetRestart
from hv.debug.target_settings import TargetSettings
from hv.debug.target_shared import MachineLease
from hv.debug.target_state import TargetState
from hv.debug.target_tables import TargetTables

_DONE: Final = object()
_DEFAULT_SETTINGS: Final = TargetSettings()


class MachineTarget(
    TargetNonStop,
    TargetState,
    TargetPoints,
    TargetBranchTrace,
    TargetRestart,
    TargetTables,
    TargetFiles,
):
    """One connection's view of the machine. trio only."""

    def __init__(
        self,
        control: RunControl,
        lease: MachineLease,
        client: Client,
        settings: TargetSettings = _DEFAULT_SETTINGS,
    ) -> None:
        super().__init__(control, lease, client)
        self._settings = settings
        self.layout = settings.layout
        self._chosen: int | None = None

    async def kill(self) -> None:
        """See `gdbstub.target.Killable`."""
        self._control.quit(0, "killed by the debugger")

    # --- the rest --------------------------------------------------------------------------------------

    @property
    def steps_ranges(self) -> bool:
        """See `gdbstub.target.RangeStepping`."""
        return True

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        """See `gdbstub.target.Monitor`."""
        vcpu = self._vcpu(thread) if self._chosen is None else self._chosen
        await self.before_command(command)
        context = CommandContext(self._control, vcpu, write, self._settings.allowed, self._choose)
        work = steps(context, command)
        while await self._call(lambda: next(work, _DONE)) is not _DONE:
            await trio.lowlevel.checkpoint()

    def _choose(self, vcpu: int | None) -> None:
        self._chosen = vcpu

    def only_reads(self, command: str) -> bool:
        """See `gdbstub.capabilities.Shared`."""
        return only_reads(command)

    async def step_policy(self) -> StepPolicy:
        """See `gdbstub.target.SteppingPolicy`."""
        return self._control.steps.policy

    async def set_step_policy(self, policy: StepPolicy) -> None:
        """See `gdbstub.target.SteppingPolicy`."""
        if not policy & StepPolicy.ENABLE:
            raise UnsupportedError("stepping cannot be left off")
        await self._call(lambda: setattr(self._control.steps, "policy", policy))

    async def section_offsets(self) -> SectionOffsets | None:
        """See `gdbstub.target.Offsets`."""
        bias = self._settings.load_bias
        return SectionOffsets(bias) if bias else await self.kernel_offsets()
