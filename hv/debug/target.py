"""The machine as the debug server sees it: fulfils `gdbstub.target`'s Protocols over `RunControl`.

Thread id n is vCPU n - 1. Everything that touches the machine goes through `RunControl.submit`, so a
request during a run is served between two ticks. Each capability has its methods in a part of its own,
a module `target_*`; `MachineTarget` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from gdbstub.arch.x86_64 import x86_64
from gdbstub.description import Description
from gdbstub.errors import TargetBusyError, TargetError, UnsupportedError
from gdbstub.target import (
    Client,
    Detach,
    Event,
    ResumePlan,
    SectionOffsets,
    StepPolicy,
    Stop,
    StopReason,
)
from hv.debug.command import CommandContext
from hv.debug.commands import run_command
from hv.debug.run_control import RunControl, RunState
from hv.debug.target_points import TargetPoints
from hv.debug.target_state import TargetState
from hv.errors import HvError


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


class MachineTarget(TargetState, TargetPoints):
    """One connection's view of the machine. trio only."""

    def __init__(
        self, control: RunControl, lease: Lease, client: Client, offsets: SectionOffsets | None
    ) -> None:
        super().__init__(control, client)
        self._lease = lease
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
