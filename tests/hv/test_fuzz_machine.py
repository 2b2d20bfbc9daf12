"""The session fuzzer at a real machine: a short run finds nothing, a planted change of the guest is found."""

from hv.exits import WriteOrigin
from tests.helpers.machine_fuzzer import SAMPLES, MachineSubject, machine_to_fuzz
from tests.helpers.session_fuzzer import GDBSTUB, Fuzzer

ENOUGH_EDGES = 800


async def test_a_short_search_at_a_real_machine_finds_nothing() -> None:
    fuzzer = Fuzzer(1, machine_to_fuzz, SAMPLES)
    assert await fuzzer.search(inputs=60) is None
    assert fuzzer.coverage.edges_of(GDBSTUB) > ENOUGH_EDGES
    assert len(fuzzer.coverage.edges) > fuzzer.coverage.edges_of(GDBSTUB)


async def test_a_change_of_a_real_machine_that_nobody_asked_for_is_found() -> None:
    class Touched(MachineSubject):
        """A machine in which one byte changes while the debugger only looks."""

        def may_change(self, stream: bytes) -> bool:
            asked = super().may_change(stream)
            if not asked and b"m7c00,20" in stream:
                self.machine.vm.memory.write(0x3000, b"\x01", WriteOrigin.DMA)
            return asked

    finding = await Fuzzer(1, lambda _: Touched(), SAMPLES).search(inputs=2_000, seconds=60)
    assert finding is not None
    assert finding.why == "the guest changed without being asked to"
