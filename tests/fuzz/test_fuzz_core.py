"""The fuzzers of the core: short runs find nothing, and a bug planted for each is found."""

from pathlib import Path

import pytest

from tests.fuzz.build import Plant, build
from tests.fuzz.campaign import corpus, fuzz

INPUTS = {"decode": 60_000, "program": 700, "api": 3_000}
ENOUGH_EDGES = {"decode": 150, "program": 4_000, "api": 1_000}
SECONDS_TO_FIND = 120
PLANTS = {
    # One byte too many is read.
    "decode": Plant("decode.c", ".avail = avail > 15 ? 15 : avail", ".avail = 15"),
    # A byte stored into code that has been decoded is not noticed: memory stays right, what runs does not.
    "program": Plant(
        "phys.c",
        "if (p->flags & PG_CODE) block_kill_range(m, pa, size);",
        "if (p->flags & PG_CODE && size > 1) block_kill_range(m, pa, size);",
    ),
    # Slots that overlap by their last page are accepted.
    "api": Plant(
        "phys.c", "m->slots[i].gpa < gpa + size) return", "m->slots[i].gpa + 4096 < gpa + size) return"
    ),
}


@pytest.mark.parametrize("target", INPUTS)
def test_a_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    result = fuzz(build(target), corpus(target, tmp_path), inputs=INPUTS[target])
    assert result.finding is None
    assert result.executed == INPUTS[target]
    assert result.edges > ENOUGH_EDGES[target]


@pytest.mark.parametrize("target", PLANTS)
def test_a_planted_bug_is_found(target: str, tmp_path: Path) -> None:
    fuzzer = build(target, plant=PLANTS[target])
    result = fuzz(fuzzer, corpus(target, tmp_path), seconds=SECONDS_TO_FIND)
    assert result.finding is not None
    assert "Test unit written to" in result.finding
