"""The suite against our server, where every case passes; and the document that it writes."""

from pathlib import Path

import pytest

from tests.conformance.cases import CASES
from tests.conformance.report import DOCUMENT
from tests.conformance.servers import SERVERS
from tests.conformance.suite import Cell, run_case
from tests.helpers.patience import HANG_S

OURS = SERVERS[0]
OTHERS = SERVERS[1:]


@pytest.mark.parametrize("name", CASES)
async def test_our_server(name: str, tmp_path: Path) -> None:
    assert await run_case(OURS, name, tmp_path, HANG_S) == (Cell.PASS, "")


@pytest.mark.parametrize("server", OTHERS, ids=lambda server: server.name)
@pytest.mark.parametrize(
    "name",
    ["g gives the registers that p gives", "vCont;s steps and the stop names thread and program counter"],
)
async def test_the_suite_is_neutral(server: object, name: str, tmp_path: Path) -> None:
    """Other servers get through it, too, or fail for the reason that the document shows."""
    assert server in OTHERS
    cell, why = await run_case(next(s for s in OTHERS if s is server), name, tmp_path, HANG_S)
    assert cell.value == documented(next(s.name for s in OTHERS if s is server), name), why


def documented(server: str, name: str) -> str:
    """The cell in the document."""
    rows = [
        line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("|")
    ]
    column = rows[0].index(server)
    return next(row[column] for row in rows if row[0] == name)


def test_the_document_has_every_case_and_three_servers() -> None:
    for name in CASES:
        assert documented("gdbstub", name) == "pass"
        for server in OTHERS:
            assert documented(server.name, name) in {cell.value for cell in Cell}
