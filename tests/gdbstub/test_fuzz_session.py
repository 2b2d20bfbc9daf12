"""The coverage-guided fuzzer: a short run finds nothing, and a planted bug is found."""

import pytest

from gdbstub.capabilities import Block
from gdbstub.description import Description
from tests.helpers.effects import Effect, effect_of_stream
from tests.helpers.full_toy import FullToy
from tests.helpers.serve_toy import load_programs
from tests.helpers.session_fuzzer import (
    STARTS,
    Fuzzer,
    broken_answer,
    pieces,
    toy_to_fuzz,
    verdict,
)

ENOUGH_EDGES = 800


def crashing_toy(description: Description) -> FullToy:
    """A target with a bug behind two requests in this order: tracing on, and the trace read."""

    class Buggy(FullToy):
        async def branch_trace(self, thread: int) -> list[Block]:
            await super().branch_trace(thread)
            raise IndexError("planted")

    target = Buggy(description=description)
    target.slice_ticks = 5
    load_programs(target)
    return target


def forgetful_toy(description: Description) -> FullToy:
    """A target whose memory changes when it is only read."""

    class Forgetful(FullToy):
        async def read_memory(self, thread: int, address: int, length: int) -> bytes:
            if length == 0x10:
                self.ram[0x4000] ^= 1
            return await super().read_memory(thread, address, length)

    target = Forgetful(description=description)
    load_programs(target)
    return target


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_short_search_finds_nothing(seed: int) -> None:
    fuzzer = Fuzzer(seed)
    assert await fuzzer.search(inputs=200) is None
    assert len(fuzzer.coverage.edges) > ENOUGH_EDGES
    assert len(fuzzer.corpus) > 10


async def test_a_planted_bug_is_found() -> None:
    finding = await Fuzzer(1, crashing_toy).search(inputs=20_000)
    assert finding is not None
    assert "planted" in finding.why
    # Shortened to what it takes.
    assert len(finding.data) <= 5


async def test_a_change_of_the_guest_that_nobody_asked_for_is_found() -> None:
    finding = await Fuzzer(1, forgetful_toy).search(inputs=20_000)
    assert finding is not None
    assert finding.why == "the guest changed without being asked to"


async def test_the_starting_inputs_break_nothing() -> None:
    description = FullToy().description
    for start in STARTS:
        assert await verdict(pieces(start), lambda: toy_to_fuzz(description)) == ""


def test_the_oracle_knows_broken_answers_and_requests_that_change_something() -> None:
    assert broken_answer(b"+$OK#9a") == ""
    assert "checksum" in broken_answer(b"$OK#00")
    assert "middle" in broken_answer(b"$OK#9")
    assert effect_of_stream(b"+$M1000,1:00#00") is Effect.WRITES
    assert effect_of_stream(b"$m1000,1#00$g#67\x03") is Effect.LOOKS
    assert effect_of_stream(b"$s#00$g#67") is Effect.RUNS
    assert effect_of_stream(b"$s1000#00") is Effect.WRITES
