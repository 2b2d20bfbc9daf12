"""Recording outside influences and replaying them."""

from pathlib import Path

import cbor2
import pytest

from hv.errors import ConfigError, ReplayError
from hv.inputlog import Recorder, Replay, make_header
from hv.inputs import Advance, ConsoleInput, IrqHeld, MemoryWrite, RegisterWrite, SwitchVcpu
from hv.outcomes import Goal
from tests.helpers.fake_vm import FakeVm, make_vm

HEADER = make_header({"vcpus": 2}, {"image": "00"})


def record(path: Path) -> str:
    """A session with every kind of interference; the hash at its end."""
    recorder = Recorder(str(path), HEADER)
    vm = make_vm(recorder=recorder)
    vm.run(Goal(until=10_000))
    vm.door.submit(ConsoleInput(0, b"hello"))
    vm.run(Goal(until=40_000))
    vm.door.submit(RegisterWrite(0, (("rax", b"\x11" * 8),)))
    vm.door.submit(MemoryWrite(0x4000, b"poked"))
    for _ in range(300):
        vm.run(Goal(steps={0: None}, masked=True))
    for number in range(40):
        vm.run(Goal(steps={number % 2: None}, allowed=frozenset({number % 2}), until=vm.clock.now + 5_000))
    vm.run(Goal(steps={0: (0, 5)}, masked=True, until=vm.clock.now + 50_000))
    vm.run(Goal(until=400_000))
    vm.door.close()
    return f"{vm.clock.now} {vm.state_hash()}"


def replayed(path: Path) -> FakeVm:
    replay = Replay.read(str(path))
    replay.check(HEADER)
    return make_vm(replay=replay)


def test_a_replay_gives_the_recorded_state(tmp_path: Path) -> None:
    log = tmp_path / "log"
    recorded = record(log)
    vm = replayed(log)
    vm.run(Goal(until=400_000))
    assert f"{vm.clock.now} {vm.state_hash()}" == recorded
    kinds = {type(item) for _, item in Replay.read(str(log))._items}
    assert {ConsoleInput, RegisterWrite, MemoryWrite, IrqHeld, SwitchVcpu} <= kinds


def test_a_replay_may_be_cut_anywhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    recorded = record(log)
    vm = replayed(log)
    for tick in range(7, 400_000, 3_333):
        vm.run(Goal(until=tick))
    vm.run(Goal(until=400_000))
    assert f"{vm.clock.now} {vm.state_hash()}" == recorded


def test_a_run_without_interference_logs_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    vm = make_vm(recorder=Recorder(str(log), HEADER))
    for tick in range(100, 50_000, 777):
        vm.scheduler.request_stop()
        vm.run(Goal(until=tick))
        vm.run(Goal(until=tick + 500, steps={0: None}))
    vm.door.close()
    assert len(Replay.read(str(log))) == 0


def test_nothing_else_reaches_a_replaying_guest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(log)
    vm = replayed(log)
    with pytest.raises(ReplayError):
        vm.door.submit(MemoryWrite(0, b"x"))


def test_a_replay_that_misses_an_input_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(log)
    vm = replayed(log)
    vm.clock.advance(20_000)
    with pytest.raises(ReplayError, match="10"):
        vm.run(Goal(until=30_000))


@pytest.mark.parametrize(
    ("machine", "images"), [({"vcpus": 1}, {"image": "00"}), ({"vcpus": 2}, {"image": "ff"}), ({}, {})]
)
def test_another_machine_or_image_is_refused_in_one_line(
    tmp_path: Path, machine: dict[str, int], images: dict[str, str]
) -> None:
    log = tmp_path / "log"
    record(log)
    with pytest.raises(ReplayError) as caught:
        Replay.read(str(log)).check(make_header({**machine}, images))
    assert "\n" not in str(caught.value)


def _log(*items: object) -> bytes:
    return b"".join(cbor2.dumps(item) for item in items)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF rubbish",
        _log(["not", "a", "header"]),
        _log({"format": "hv-inputs", "version": 99, "machine": {}, "images": {}}),
        _log({"format": "hv-inputs", "version": 1}),
        _log(HEADER, [5, "console", 0, b"x"], [4, "console", 0, b"x"]),
        _log(HEADER, [5, "nonsense"]),
        _log(HEADER, [5, "console", "0", b"x"]),
        _log(HEADER, [5, "console", 0]),
        _log(HEADER, [5, "advance", True]),
        _log(HEADER, [5, "registers", 0, [["rax"]]]),
        _log(HEADER, {"tick": 5}),
        _log(HEADER, [5, "console", 0, b"x" * 100])[:-3],
        b"\x9f" * 10_000,
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_a_damaged_log_is_one_line(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(content)
    with pytest.raises(ReplayError) as caught:
        Replay.read(str(log))
    assert "\n" not in str(caught.value)


def test_a_log_cut_off_between_entries_is_usable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(_log(HEADER, [5, "console", 0, b"x"]))
    replay = Replay.read(str(log))
    assert (len(replay), replay.end, replay.next_stamp()) == (1, None, 5)


def test_an_advance_is_stamped_with_the_tick_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    vm = make_vm({0: ("sti",), 1: ("hlt",)}, vcpus=1, recorder=Recorder(str(log), HEADER))
    vm.run(Goal())
    vm.door.submit(Advance(1_000))
    vm.door.close()
    replay = Replay.read(str(log))
    assert replay.next_stamp() == 2
    assert replay.end == 1_002


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--record"):
        Recorder(str(tmp_path / "no" / "log"), HEADER)
