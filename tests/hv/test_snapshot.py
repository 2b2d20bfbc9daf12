"""Saved machines as files."""

from pathlib import Path

import pytest

from hv.errors import SnapshotError
from hv.outcomes import Goal
from hv.snapshot import read_snapshot, write_snapshot
from tests.helpers.fake_vm import make_vm


def test_a_file_holds_the_whole_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "snapshot")
    vm = make_vm()
    vm.run(Goal(until=77_777))
    write_snapshot(path, vm.save())
    other = make_vm()
    other.load(read_snapshot(path))
    assert other.state_hash() == vm.state_hash()
    for machine in (vm, other):
        machine.run(Goal(until=200_000))
    assert other.state_hash() == vm.state_hash()
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.parametrize("keep", [0, 5, 8, 9, 60, 0.5, -1])
def test_a_cut_file_is_one_line(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(str(path), make_vm().save())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
    with pytest.raises(SnapshotError) as caught:
        read_snapshot(str(path))
    assert "\n" not in str(caught.value)


def test_a_foreign_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(b"hvsnap01" + bytes(100))
    with pytest.raises(SnapshotError):
        read_snapshot(str(path))
    with pytest.raises(SnapshotError):
        read_snapshot(str(tmp_path / "missing"))
