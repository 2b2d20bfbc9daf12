"""`docs/protocol.md` against the code: rows, tests, and tokens that are advertised."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.full_toy import FullToy
from tests.helpers.rsp import connected

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "protocol.md").read_text()
ROWS = {"A": 20, "B": 20, "C": 17, "L": 12, "N": 25, "D": 23, "H": 23}
"""Letter of a section to the number of its rows."""
OFFERS = b"swbreak+;hwbreak+;error-message+;multiprocess+;no-resumed+"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the document."""

    id: str
    state: str
    text: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([\w/]+\.py::\w+)`", self.text)


def rows() -> list[Row]:
    found = re.findall(r"^\| ([A-Z]\d+) \| [^|]+ \| (\w+) \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    return [Row(*fields) for fields in found]


def tokens(heading: str) -> dict[str, str]:
    """Token to test, of the table below `heading`."""
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", section, re.MULTILINE))


def defined(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text())
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing(named: list[str]) -> list[str]:
    """Those of `named` that do not exist."""
    found = []
    for test in named:
        path, _, name = test.partition("::")
        if not (TESTS / path).is_file() or name not in defined(path):
            found.append(test)
    return found


def test_no_row_is_missing_and_none_stands_twice() -> None:
    expected = [f"{letter}{n}" for letter, count in ROWS.items() for n in range(1, count + 1)]
    assert [row.id for row in rows()] == expected


def test_a_done_row_names_its_tests_and_a_declined_one_its_reason() -> None:
    for row in rows():
        assert row.state in ("done", "declined"), row
        assert bool(row.tests) == (row.state == "done"), row
        assert row.text.strip(), row


def test_every_test_that_is_named_exists() -> None:
    named = [test for row in rows() for test in row.tests]
    named += [*tokens("Tokens of `qSupported`").values(), *tokens("Actions of `vCont?`").values()]
    assert len(named) > 150
    assert missing(named) == []


def test_a_test_that_does_not_exist_is_noticed() -> None:
    assert missing(["gdbstub/test_server.py::test_nothing", "gdbstub/none.py::test_x"]) != []


async def test_every_advertised_feature_has_a_row_with_a_test() -> None:
    async with connected(FullToy(), OFFERS) as client:
        reply = (await client.start(OFFERS)).decode()
        actions = (await client.require(b"vCont?")).decode()
    advertised = {token.partition("=")[0] for token in reply.split(";")}
    assert advertised == set(tokens("Tokens of `qSupported`"))
    assert set(actions.removeprefix("vCont;").split(";")) == set(tokens("Actions of `vCont?`"))


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_to_be_written(word: str) -> None:
    assert word not in DOCUMENT
