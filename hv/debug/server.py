"""The debug server of one machine: a target for each connection."""

from __future__ import annotations

from collections.abc import Callable

import trio

from gdbstub.server import serve
from gdbstub.target import Client, Event
from hv.debug.address import ServerAddress
from hv.debug.run_control import RunControl
from hv.debug.target import MachineTarget
from hv.debug.target_settings import TargetSettings
from hv.debug.target_shared import MachineLease


class DebugServer:
    """Serves `control`'s machine at the address `text` (`[HOST:]PORT`, `unix:PATH`, `stdio`).

    `observed` says that somebody sees the guest besides its debugger; `announce` is told of a stop that no
    debugger sees.
    """

    def __init__(
        self,
        control: RunControl,
        address: ServerAddress,
        settings: TargetSettings,
        *,
        observed: bool,
        announce: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._control = control
        self._token = trio.lowlevel.current_trio_token()
        control.point_hits.expected = True
        self._observed = observed
        self._address = address
        self._settings = settings
        self.lease = MachineLease(announce)

    async def run(self, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `task_status` gets the names of what is bound. Raises OSError.

        Returns only when the one client on standard input has left. Nobody can come any more then, so the
        machine ends, unless it runs and somebody observes it.
        """
        await serve(self._open_target, [self._address], task_status=task_status)
        self._control.point_hits.expected = False
        if self._control.ending is None and not (self._observed and self._control.running):
            self._control.quit(0, "")

    def ran_freely(self, event: Event) -> None:
        """A run that nobody controlled has ended: whoever comes is shown how. Any thread."""
        self._token.run_sync_soon(self.lease.tell_all, event)

    def _open_target(self, client: Client) -> MachineTarget:
        return MachineTarget(self._control, self.lease, client, self._settings)
