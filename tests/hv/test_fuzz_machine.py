"""The session fuzzer at real machines: a short run finds nothing, planted changes of the guest are found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gdbstub.description import Description
from gdbstub.handlers import HANDLERS
from hv.debug.commands import COMMANDS
from hv.exits import WriteOrigin
from hv.inputs import MemoryWrite
from tests.helpers import effects, machine_fuzzer
from tests.helpers.effects import Effect
from tests.helpers.machine_fuzzer import (
    SAMPLES,
    BusySubject,
    MachineSubject,
    RecordedTarget,
    busy_to_fuzz,
    effect_of_line,
    machine_to_fuzz,
)
from tests.helpers.session_fuzzer import CHANGED, GDBSTUB, Fuzzer, pieces, verdict

ENOUGH_EDGES = 800
UNUSED = 0x3000  # a byte of memory that the program never touches


class WritesBehindTheDoor(RecordedTarget):
    """Reading memory writes a byte of it, once the machine has run."""

    def touch(self) -> None:
        """The bug."""
        self._vm.memory.write(UNUSED, b"\x01", WriteOrigin.DEBUGGER)

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """See `gdbstub.target.Target`."""
        if self._vm.clock.now:
            await self._call(self.touch)
        return await super().read_memory(thread, address, length)


class WritesThroughTheDoor(WritesBehindTheDoor):
    """The same, and the log knows of it."""

    def touch(self) -> None:
        """The bug."""
        self._vm.door.submit(MemoryWrite(UNUSED, b"\x01"))


class WritesAtOnce(WritesBehindTheDoor):
    """The same, also in a machine that has not run."""

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """See `gdbstub.target.Target`."""
        await self._call(self.touch)
        return await super().read_memory(thread, address, length)


class LosesTime(RecordedTarget):
    """Reading registers costs the guest a tick of its turn."""

    async def read_registers(self, thread: int, names: object) -> object:  # type: ignore[override]
        """See `gdbstub.target.Target`."""
        self._vm.scheduler.remaining -= 1
        return await super().read_registers(thread, names)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [machine_to_fuzz, busy_to_fuzz])
async def test_a_short_search_at_a_real_machine_finds_nothing(
    make: Callable[[Description], MachineSubject],
) -> None:
    fuzzer = Fuzzer(1, make, SAMPLES)
    assert await fuzzer.search(inputs=60) is None
    assert fuzzer.coverage.edges_of(GDBSTUB) > ENOUGH_EDGES
    assert len(fuzzer.coverage.edges) > fuzzer.coverage.edges_of(GDBSTUB)


def with_target(target: type[RecordedTarget]) -> type[MachineSubject]:
    """A machine whose target has a bug."""

    class Planted(MachineSubject):
        make_target = target

    return Planted


@pytest.mark.parametrize("bug", [WritesAtOnce, WritesBehindTheDoor, WritesThroughTheDoor, LosesTime])
async def test_a_read_that_changes_the_guest_is_found(bug: type[RecordedTarget]) -> None:
    planted = with_target(bug)
    finding = await Fuzzer(1, lambda _: planted(), SAMPLES).search(inputs=5_000)
    assert finding is not None
    assert finding.why.startswith(CHANGED)
    assert len(finding.data) <= 4


@pytest.mark.parametrize("subject", [MachineSubject, BusySubject])
@pytest.mark.parametrize(
    "packets",
    [
        [b"+", b"m7c00,20", b"g", b"qRcmd,696e666f20726567697374657273"],
        [b"+", b"vCont;s:1;c", b"m7c00,20", b"Z0,7c01,1", b"vCont;c", b"Z2,2000,2", b"vCont;c"],
        [b"+", b"M3000,1:01", b"vCont;s:1;c", b"P0=1100000000000000", b"vCont;c", b"\x03"],
        [b"+", b"qRcmd," + b"catch exception".hex().encode(), b"vCont;c"],
        [b"+", b"qRcmd," + b"catch exception".hex().encode(), b"vCont;c", b"P2=1000000000000000", b"vCont;c"],
        [b"+", b"qRcmd," + b"catch exception".hex().encode(), b"vCont;c", b"vCont;s:1", b"vCont;c", b"D"],
        [
            *(b"qRcmd," + b"catch exception".hex().encode(), b"\x03", b"vCont;c", b"\x03"),
            *(b"qRcmd," + b"quit 3".hex().encode(), b"\x03", b"S05;1000"),
        ],
        [b"+", b"vCont;s:1;c", b"QNonStop:1", b"vCont;c", b"vCont;s:1;c", b"vCont;t"],
        [b"+", b"Qqemu.sstep=0x7", b"vCont;s:1;c", b"vCont;s:1;c", b"D"],
    ],
)
async def test_a_session_leaves_the_run_as_its_log_says(
    packets: list[bytes], subject: type[MachineSubject]
) -> None:
    assert await verdict(pieces(packets), subject) == ""


def test_every_request_and_every_command_has_its_effect() -> None:
    assert set(effects.REQUESTS) == set(HANDLERS)
    assert set(machine_fuzzer.COMMANDS) == {row.name for row in COMMANDS if not row.only_reads}
    assert effect_of_line("reset") is Effect.WRITES
    assert (
        effect_of_line("info registers") is effect_of_line("nothing") is effect_of_line("'") is Effect.LOOKS
    )
