"""The same inputs give the same state: the law on the demo guest and on a stock kernel, in short.

`scripts/determinism` runs the same functions at length.
"""

import random
from pathlib import Path

import pytest

from tests.helpers import law
from tests.helpers.law import Guest

LINUX_TICK = 160_000_000
DEMO_TICK = 400_000_000


@pytest.fixture(scope="module")
def demo(demo_elf: Path) -> Guest:
    """The demo guest on two vCPUs."""
    return Guest(demo_elf, vcpus=2)


@pytest.fixture(scope="module")
def linux(linux_kernel: Path, linux_initramfs_poweroff: Path) -> Guest:
    """The Debian kernel on two vCPUs, KASLR on."""
    return Guest(linux_kernel, (linux_initramfs_poweroff,), "console=ttyS0", vcpus=2)


@pytest.fixture(scope="module")
def demo_hash(demo: Guest) -> str:
    """Of the undisturbed run."""
    return law.plain(demo, DEMO_TICK)


@pytest.fixture(scope="module")
def linux_hash(linux: Guest) -> str:
    """Of the undisturbed run."""
    return law.plain(linux, LINUX_TICK)


def test_two_runs_of_linux_agree(linux: Guest, linux_hash: str) -> None:
    assert law.plain(linux, LINUX_TICK) == linux_hash


def test_a_run_cut_into_pieces_agrees(linux: Guest, linux_hash: str) -> None:
    assert law.cut(linux, LINUX_TICK, random.Random(1)) == linux_hash


def test_kicks_from_another_thread_change_nothing(linux: Guest, linux_hash: str) -> None:
    assert law.kicked(linux, LINUX_TICK) == linux_hash


def test_a_thousand_unmasked_steps_change_nothing(linux: Guest, linux_hash: str) -> None:
    assert law.stepped(linux, LINUX_TICK, 1000, random.Random(2)) == linux_hash


def test_breakpoints_set_before_paging_change_nothing(linux: Guest, linux_hash: str) -> None:
    vm, _ = linux.build()
    rng = random.Random(3)
    places = []
    for _ in range(5):
        law.run_to(vm, rng.randrange(vm.clock.now, LINUX_TICK))
        places.append(vm.vcpus[0].get("linear_pc"))
    final, hits = law.broken(linux, LINUX_TICK, places)
    assert final == linux_hash
    assert hits >= len(set(places))


def test_a_saved_state_goes_on_in_a_fresh_machine(linux: Guest, linux_hash: str) -> None:
    rng = random.Random(4)
    for _ in range(3):
        assert law.carried_over(linux, rng.randrange(LINUX_TICK), LINUX_TICK) == linux_hash


def test_the_demo_agrees_with_itself_under_every_disturbance(demo: Guest, demo_hash: str) -> None:
    assert law.cut(demo, DEMO_TICK, random.Random(5)) == demo_hash
    assert law.kicked(demo, DEMO_TICK) == demo_hash
    assert law.stepped(demo, DEMO_TICK, 1000, random.Random(6)) == demo_hash


def test_looking_at_everything_changes_nothing(
    linux: Guest, linux_hash: str, demo: Guest, demo_hash: str
) -> None:
    for guest, tick, expected in ((linux, LINUX_TICK, linux_hash), (demo, DEMO_TICK, demo_hash)):
        final, shown = law.looked_at(guest, tick, 6, random.Random(8))
        assert final == expected
        assert shown > 20_000


def test_ten_thousand_reads_during_a_boot_change_nothing(linux: Guest, linux_hash: str) -> None:
    final, reads = law.read_during(linux, LINUX_TICK, 200)
    assert final == linux_hash
    assert reads >= 10_000


def test_catching_every_event_changes_nothing(linux: Guest, linux_hash: str) -> None:
    final, lines = law.caught(linux, LINUX_TICK)
    assert final == linux_hash
    assert lines > 100


def test_a_recorded_session_replays_to_the_same_state(demo: Guest, demo_hash: str, tmp_path: Path) -> None:
    log = tmp_path / "session.hvlog"
    texts = [b"help\n", b"fib 12\n", b"ticks\n"]
    final = law.recorded(demo, DEMO_TICK // 10, DEMO_TICK, log, random.Random(7), texts)
    assert final != demo_hash, "the session did nothing"
    assert law.replayed(demo, DEMO_TICK, log) == final
