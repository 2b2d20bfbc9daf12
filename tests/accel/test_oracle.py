"""The host CPU as oracle: every row that it can execute, random cases, a fixed seed."""

import collections

import pytest

from accel import _gen
from tests.accel import undefined
from tests.helpers import accel_oracle
from tests.helpers.patience import HANG_S

CASES = 400_000


def test_core_agrees_with_host_over_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = accel_oracle.run(CASES, seed=20260101, limit=1, timeout=HANG_S)
    with capsys.disabled():
        print(f"\n  {outcome.total}", end="")
    assert outcome.differences == []
    assert outcome.row_count == len(accel_oracle.specs())


def test_difference_is_found_and_shrunk_to_one_line() -> None:
    outcome = accel_oracle.run(200, seed=1, pattern="CPUID", oracles=frozenset({"manual"}))
    assert len(outcome.differences) == 2  # one per code size
    for line in outcome.differences:
        assert line.startswith("DIFF CPUID | ")
        assert "0fa2 | in: rip=" in line
        assert " | host | core:" in line
        assert " seed 1 case " in line


def test_every_row_names_an_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    counts = collections.Counter(name for row in _gen.read_rows() for name in row.oracle.split(","))
    with capsys.disabled():
        print("\n  rows per oracle:", ", ".join(f"{name} {n}" for name, n in sorted(counts.items())), end="")
    assert set(counts) <= {"host", "host32", "qemu", "manual"}
    assert counts["host"] > 900


@pytest.mark.parametrize("oracle", ["-", "none", "host,"])
def test_a_row_without_an_oracle_does_not_build(oracle: str) -> None:
    with pytest.raises(_gen.TableError, match="oracle"):
        _gen.parse_row(f"1 90 - - NOP - nop - - {oracle}", "insns.def:1")


def test_exceptions_name_rows_that_exist() -> None:
    mnemonics = {row.mnemonic for row in _gen.read_rows()}
    for table in (undefined.UNDEFINED, undefined.TOLERATED):
        assert {m for m in table if not m.startswith("V")} <= mnemonics


def test_unknown_pattern_is_refused() -> None:
    with pytest.raises(accel_oracle.OracleError, match="no row matches"):
        accel_oracle.run(1, seed=1, pattern="NOSUCH")
