"""Run the suite against every server and write `docs/conformance.md`.

``python -m tests.conformance.report``
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import trio

from tests.conformance.cases import CASES
from tests.conformance.servers import SERVERS, MissingServerError, version
from tests.conformance.suite import Cell, run_all

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
HEAD = """# Conformance

What servers of the GDB remote protocol do, case by case; written by `python -m tests.conformance.report` from
the suite in `tests/conformance`. Each case has a fresh server. *unsupported* is an honest no: the feature is
neither advertised nor answered. An empty reply to an advertised feature is a *fail*, and so is silence;
*crash* is a server that ended by a signal.
"""


def document(results: dict[str, dict[str, Cell]], versions: dict[str, str]) -> str:
    """The file's text. `results` has the cells by server and case."""
    names = list(results)
    lines = [HEAD, *(f"- {name}: {versions[name]}" for name in names), ""]
    lines += ["| case | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        lines.append(f"| {case} | " + " | ".join(results[name][case].value for name in names) + " |")
    counts = [
        ", ".join(f"{n} {cell.value}" for cell in Cell if (n := [*results[name].values()].count(cell)) > 0)
        for name in names
    ]
    return "\n".join([*lines, "| **sum** | " + " | ".join(counts) + " |", ""])


def main() -> int:
    """Run, explain on standard error what is not a pass, and write the document."""
    results: dict[str, dict[str, Cell]] = {}
    versions: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for server in SERVERS:
                versions[server.name] = version(server)
                found = trio.run(partial(run_all, server, Path(scratch)))
                results[server.name] = {case: cell for case, (cell, _) in found.items()}
                for case, (cell, why) in found.items():
                    if cell in (Cell.FAIL, Cell.CRASH):
                        print(f"{server.name}: {case}: {cell.value}: {why}", file=sys.stderr)
    except MissingServerError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    DOCUMENT.write_text(document(results, versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
