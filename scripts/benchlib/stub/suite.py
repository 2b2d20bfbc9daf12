"""The rows of the debug server's benchmarks.

    {"case": "g", "what": "...", "unit": "packets/s", "ack_mode": "no-ack", "hv": 9700.0, "qemu": 11600.0,
     "echo": 11200.0, "of_qemu": 0.84, "of_echo": 0.87, "target": ">= 0.8 x echo", "met": true}

Figures are medians of the rounds. QEMU's stub has no no-ack mode: with it there are acknowledgements in
every case.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.benchlib.process import RunError
from scripts.benchlib.stub.cases import (
    Figures,
    bulk,
    connecting,
    false_condition,
    gdb_steps,
    packets,
    quiet_watch,
    range_step,
)

Row = dict[str, Any]
SIDES: Final = ("hv", "qemu", "echo")


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `bound` is for the figure relative to that of side `to`, or for the figure itself."""

    name: str
    what: str
    unit: str
    measure: Callable[[Path, int], Figures]
    bound: float | None = None
    to: str | None = None
    at_most: bool = False
    ack: bool = False


CASES: Final = (
    Case("step", "vCont;s:1", "packets/s", packets(b"vCont;s:1"), 1.6, "qemu"),
    Case("step-others", "vCont;s:1;c", "packets/s", packets(b"vCont;s:1;c")),
    Case("step-ack", "vCont;s:1", "packets/s", packets(b"vCont;s:1", ack=True), ack=True),
    Case("gdb-stepi", "stepi of stock gdb", "steps/s", gdb_steps, 1.0, "qemu"),
    Case("range-step", "100,000 instructions in one packet", "steps/s", range_step, 5e6),
    Case("condition", "breakpoint whose condition is false", "1/s", false_condition, 1e6),
    Case("g", "all registers", "packets/s", packets(b"g"), 0.8, "echo"),
    Case("m-4KiB", "a page of memory", "packets/s", packets(b"m100000,1000"), 0.8, "echo"),
    Case("m-4B", "a word of memory", "packets/s", packets(b"m100000,4")),
    Case("read-16MiB", "in the largest pieces", "bytes/s", bulk, 3.0, "qemu"),
    Case("watch", "on a page nobody writes", "% slower", quiet_watch, 1.0, at_most=True),
    Case(
        *("connect-busy", "connect to ?, four busy vCPUs", "ms"),
        connecting(line="run=robin iters=4000000000"),
        20.0,
        at_most=True,
    ),
    Case(
        *("connect-idle", "connect to ?, four idle vCPUs", "ms"),
        connecting("--clock", "host"),
        20.0,
        at_most=True,
    ),
)


def measure_stub(image: Path, cases: Sequence[Case], rounds: int) -> Iterator[Row]:
    """The row of each case; one that fails has an "error"."""
    for case in cases:
        row: Row = {"case": case.name, "what": case.what, "unit": case.unit}
        row["ack_mode"] = "ack" if case.ack else "no-ack"
        try:
            _fill(row, case, case.measure(image, rounds))
        except (RunError, OSError) as error:
            row["error"] = str(error)
        print(f"{case.name}: {row.get('hv', row.get('error'))}", file=sys.stderr, flush=True)
        yield row


def _fill(row: Row, case: Case, figures: Figures) -> None:
    medians = {name: statistics.median(values) for name, values in figures.items()}
    row |= {name: float(f"{value:.4g}") for name, value in medians.items()}
    for name in SIDES[1:]:
        if medians.get(name):
            row[f"of_{name}"] = round(medians["hv"] / medians[name], 2)
    if case.bound is None:
        return
    row["target"] = (
        f"{'<=' if case.at_most else '>='} {case.bound:,g} {f'x {case.to}' if case.to else case.unit}"
    )
    reached = medians["hv"] / medians[case.to] if case.to else medians["hv"]
    row["met"] = reached <= case.bound if case.at_most else reached >= case.bound


def stub_table(rows: Sequence[Row]) -> Iterator[str]:
    """One line per row, and then what failed."""
    yield (
        f"{'case':<13}{'':<36}{'hv':>13}{'qemu':>12}{'echo':>12}  {'unit':<11}{'ack':<8}"
        f"{'x qemu':>7}{'x echo':>7}  target"
    )
    for row in rows:
        figures = [f"{row[name]:,.4g}" if name in row else "" for name in SIDES]
        if row.get("hv", 0) >= 1000:
            figures = [f"{row[name]:,.0f}" if name in row else "" for name in SIDES]
        ratios = [str(row.get(f"of_{name}", "")) for name in SIDES[1:]]
        met = {True: "met", False: "MISSED", None: ""}[row.get("met")]
        yield (
            f"{row['case']:<13}{row['what']:<36}{figures[0]:>13}{figures[1]:>12}{figures[2]:>12}"
            f"  {row['unit']:<11}{row['ack_mode']:<8}{ratios[0]:>7}{ratios[1]:>7}"
            f"  {row.get('target', '')} {met}"
        ).rstrip()
    for row in rows:
        if "error" in row:
            yield f"{row['case']}: {row['error']}"
