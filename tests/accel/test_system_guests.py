"""System behaviour: small bare-metal guests run on the core and on QEMU; their logs are compared by case.

Where QEMU is known to be wrong, or does not survive the case, the guest's `.expected` file has the lines
that the manual asks for and names its clause.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import system_guest

GUESTS = sorted(path.stem for path in system_guest.SOURCES.glob("*.S") if path.stem != "harness")
Logs = tuple[dict[str, list[str]], dict[str, list[str]]]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Logs]:
    """The cases of a guest: on the core, on QEMU."""

    @cache
    def run(name: str) -> Logs:
        image = system_guest.build(name, tmp_path_factory.mktemp(name))
        core, qemu = system_guest.run_on_core(image), system_guest.run_on_qemu(image)
        return system_guest.cut_into_cases(core), system_guest.cut_into_cases(qemu)

    return run


@pytest.mark.parametrize("guest", GUESTS)
def test_both_reach_the_end_and_every_expectation_names_a_case(
    guest: str, logs: Callable[[str], Logs]
) -> None:
    core, qemu = logs(guest)
    names = system_guest.case_names(guest)
    expected = system_guest.expectations(guest)
    assert list(core) == [*names, "end"]
    assert "end" in qemu
    assert set(expected) <= set(names)
    assert set(names) - set(qemu) <= set(expected), "a case that nobody judges"


@pytest.mark.parametrize(
    ("guest", "case"), [(guest, case) for guest in GUESTS for case in system_guest.case_names(guest)]
)
def test_case_behaves_as_on_qemu_or_as_the_manual_says(
    guest: str, case: str, logs: Callable[[str], Logs]
) -> None:
    core, qemu = logs(guest)
    expected = system_guest.expectations(guest)
    if case in expected:
        assert core[case] == expected[case].lines, expected[case].clause
    else:
        assert core[case] == qemu[case]


@pytest.mark.parametrize("ticks", [1, 7])
@pytest.mark.parametrize("guest", GUESTS)
def test_a_run_in_pieces_gives_the_same_log(guest: str, ticks: int, tmp_path: Path) -> None:
    image = system_guest.build(guest, tmp_path)
    assert system_guest.run_on_core(image, ticks) == system_guest.run_on_core(image)


@pytest.mark.parametrize("guest", GUESTS)
def test_watchpoints_on_everything_change_nothing(guest: str, tmp_path: Path) -> None:
    image = system_guest.build(guest, tmp_path)
    everything = range(0x40000, 0x800000)
    assert system_guest.run_on_core(image, watched=everything) == system_guest.run_on_core(image)


@pytest.mark.parametrize("guest", GUESTS)
def test_breakpoints_all_over_the_code_change_nothing(guest: str, tmp_path: Path) -> None:
    image = system_guest.build(guest, tmp_path)
    addresses = [*range(0x100000, 0x106000, 23), *range(0x20000, 0x20200, 3), *range(0x405000, 0x406000, 61)]
    assert system_guest.run_on_core(image, breakpoints=addresses) == system_guest.run_on_core(image)
