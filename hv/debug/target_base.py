"""What the parts of `hv.debug.target.MachineTarget` share: the machine, the client, and how to ask."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import trio

from gdbstub.errors import TargetError, ThreadNotFoundError
from gdbstub.target import Client
from hv.debug.run_control import RunControl
from hv.errors import HvError

T = TypeVar("T")


async def result_of(future: Future[T]) -> T:
    """Wait for a request that the machine's owner carries out; its exception is raised here."""
    if not future.done():
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        future.add_done_callback(lambda _: token.run_sync_soon(done.set))
        await done.wait()
    return future.result()


class TargetBase:
    """One connection's view of the machine. Each part adds the methods of one or a few Protocols."""

    def __init__(self, control: RunControl, client: Client) -> None:
        self._control = control
        self._vm = control.vm
        self._client = client

    async def _call(self, request: Callable[[], T]) -> T:
        """Have the machine's owner carry out `request`; errors of `hv` become the debug server's."""
        owner = self._control.owner
        try:
            with owner.lock:
                if not owner.busy:  # most requests come while the machine stands: no future for those
                    return request()
            return await result_of(owner.submit(request))
        except HvError as error:
            raise TargetError(str(error)) from None

    def _vcpu(self, thread: int) -> int:
        if not 1 <= thread <= len(self._vm.vcpus):
            raise ThreadNotFoundError(thread)
        return thread - 1

    def _drop(self) -> None:
        """What belongs to this connection ends: it loses control or leaves. Called by the machine's owner;
        each part ends its own and calls the next."""
