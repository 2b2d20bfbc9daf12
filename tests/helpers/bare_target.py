"""A small real machine on the software core, and the debug server's targets for it."""

import contextlib
from collections.abc import Iterator

import trio

from gdbstub.target import (
    Client,
    Continue,
    ResumePlan,
    Step,
    Stop,
    ThreadAction,
)
from hv.debug.run_control import RunControl
from hv.debug.stops import Ending
from hv.debug.target import MachineTarget
from hv.debug.target_settings import TargetSettings
from hv.debug.target_shared import MachineLease
from hv.engines.base import Engine
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.machines.bare import build_bare
from hv.vm import Vm
from tests.helpers.patience import HANG_S

_SETTINGS = TargetSettings()
CODE = 0x7C00
CONTINUE = ResumePlan((ThreadAction(Continue()),))
STEP = ResumePlan((ThreadAction(Step(), 1), ThreadAction(Continue())))


class Machine:
    """A bare machine in a loop (inc ax; jmp back), or another one, and targets for it."""

    def __init__(
        self, code: bytes = b"\x40\xeb\xfd", engine: Engine | None = None, *, vm: Vm | None = None
    ) -> None:
        def boot(vm: Vm) -> None:
            vm.memory.write(CODE, code, WriteOrigin.LOADER)
            for name, value in {"cs": 0, "cs_base": 0, "rip": CODE, "rax": 0, "rsp": 0x7000}.items():
                vm.vcpus[0].set(name, value)

        self.vm = vm or build_bare(engine or SoftEngine(), boot=boot, vcpus=2)
        self.endings: list[Ending] = []
        self.control = RunControl(self.vm, ended=self.endings.append)
        self.lease = MachineLease()

    def target(self, number: int = 1, settings: TargetSettings = _SETTINGS) -> MachineTarget:
        """The target of one more connection."""
        return MachineTarget(self.control, self.lease, Client(f"client {number}", number), settings)


@contextlib.contextmanager
def machine(code: bytes = b"\x40\xeb\xfd", engine: Engine | None = None) -> Iterator[Machine]:
    """A machine that ends with the test."""
    made = Machine(code, engine)
    try:
        yield made
    finally:
        made.control.close()
        made.vm.close()


async def stopped(target: MachineTarget, plan: ResumePlan) -> Stop:
    """Carry out `plan` to its stop."""
    with trio.fail_after(HANG_S):
        event = await target.resume(plan) or await target.wait_stop()
    assert isinstance(event, Stop)
    return event
