"""Run the cases against a server: each on a fresh one, each ending in one of four cells."""

from __future__ import annotations

import enum
from pathlib import Path

import trio

from gdbstub.errors import RemoteError, StubError
from tests.conformance.cases import CASES, OFFER, Context, UnsupportedError
from tests.conformance.servers import Server, Subject, running

CASE_S = 8.0
"""How long a case may take when the document is written; not every server answers all."""


class Cell(enum.Enum):
    """How a case ended."""

    PASS = "pass"
    FAIL = "fail"
    UNSUPPORTED = "unsupported"
    CRASH = "crash"


async def run_case(server: Server, name: str, scratch: Path, limit_s: float = CASE_S) -> tuple[Cell, str]:
    """The cell of a case, and what went wrong in it."""
    async with running(server, scratch) as subject:
        cell, why = Cell.FAIL, f"no answer within {limit_s} s"
        with trio.move_on_after(limit_s):
            cell, why = await _attempt(subject, name)
        if cell is not Cell.PASS:
            # A process that is about to end has time to.
            await trio.sleep(0.1)
        return (Cell.CRASH, "the server ended by a signal") if subject.died() else (cell, why)


async def _attempt(subject: Subject, name: str) -> tuple[Cell, str]:
    try:
        client = await subject.client()
        features = frozenset((await client.start(OFFER)).split(b";"))
        await subject.prepare(client, features)
    except StubError as error:
        return Cell.FAIL, f"before the case: {error}"
    try:
        await CASES[name](Context(subject, client, features))
    except UnsupportedError:
        return Cell.UNSUPPORTED, ""
    except RemoteError as error:
        return (Cell.FAIL if error.reply else Cell.UNSUPPORTED), str(error)
    except (AssertionError, StubError, KeyError, ValueError, OSError) as error:
        return Cell.FAIL, f"{type(error).__name__}: {error}"
    return Cell.PASS, ""


async def run_all(server: Server, scratch: Path) -> dict[str, tuple[Cell, str]]:
    """Every case, one after the other."""
    return {name: await run_case(server, name, scratch) for name in CASES}
