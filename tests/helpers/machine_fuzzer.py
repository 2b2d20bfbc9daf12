"""The real machine as a subject of the session's fuzzer: two vCPUs of the software core with a program that
runs, stores, faults and asks its devices. What only a request may change is the tick and the state hash.
"""

from __future__ import annotations

from typing import Final

from gdbstub import requests
from gdbstub.description import Description
from gdbstub.target import Client, Detach
from hv.debug.commands import only_reads
from hv.debug.target import MachineTarget
from hv.debug.target_settings import TargetSettings
from tests.helpers.bare_target import Machine
from tests.helpers.session_fuzzer import may_change

PROGRAM: Final = bytes.fromhex(
    "40"  # inc ax
    "a30020"  # mov [2000h], ax
    "e680"  # out 80h, al
    "ec"  # in al, dx
    "f3a4"  # rep movsb
    "0f30"  # wrmsr
    "ebf2"  # jmp to the start
)
SETTINGS: Final = TargetSettings()
COMMANDS: Final = (
    *(
        "help",
        "info registers",
        "info mem",
        "info tlb",
        "info irq",
        "info breakpoints",
        "break 0x7c01",
        "delete",
    ),
    *("catch exception", "catch port 0x80", "catch msr", "reset", "stop", "state", "version", "control take"),
    *("watch 0x2000", "quit 3"),
)
SAMPLES: Final = [
    *(b"Z0,7c01,1", b"z0,7c01,1", b"Z1,7c04,1", b"Z2,2000,2", b"Z3,7000,10", b"Z4,2000,1", b"m7c00,20"),
    *(b"x7c00,20", b"vCont;s:1;c", b"vCont;s:2", b"vCont;r7c00,7c07:1;c", b"M2000,2:1234", b"Hg2", b"Hc2"),
    *(b"qRcmd," + line.encode().hex().encode() for line in COMMANDS),
]


def changes(request: object) -> bool:
    """Whether a request that changes no toy changes a machine: a detached one runs on."""
    if isinstance(request, requests.MonitorCommand):
        return not only_reads(request.command)
    return isinstance(request, requests.DetachRequest)


class RecordedTarget(MachineTarget):
    """A target that remembers its end."""

    ended: Detach | None = None

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        self.ended = how
        await super().detach(how)


class MachineSubject:
    """A fresh machine and the target of its only client."""

    def __init__(self) -> None:
        self.machine = Machine(PROGRAM)
        self.target = RecordedTarget(self.machine.control, self.machine.lease, Client("fuzz", 1), SETTINGS)

    @property
    def detached(self) -> bool:
        """Whether the connection has ended by a detach."""
        return self.target.ended is not None

    def state(self) -> object:
        """The state hash and the machine tick, of a machine that stands."""
        return self.machine.vm.clock.now, self.machine.vm.state_hash()

    def left_behind(self) -> bool:
        """Whether points of the connection are still there."""
        return any(point.owner == 1 for point in self.machine.control.points)

    def may_change(self, stream: bytes) -> bool:
        """Whether `stream` asks for a run, a write or a command that does more than look."""
        return may_change(stream, changes)

    def close(self) -> None:
        """The end of the machine."""
        self.machine.control.close()
        self.machine.vm.close()


def machine_to_fuzz(_: Description) -> MachineSubject:
    """A fresh machine."""
    return MachineSubject()
