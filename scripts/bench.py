"""Benchmarks: this hypervisor beside QEMU's TCG and the host itself, in the same run on the same machine.

Each case runs five times on each side, alternating, and the medians are compared. A table goes to
standard output, progress to standard error, and `--json FILE` keeps everything:

    {"format": 1, "machine": {...}, "runs": 5, "rows": [...], "stub": [...]}

with rows as in scripts.benchlib.suite, and those of the debug server as in scripts.benchlib.stub.suite.

Run it as `scripts/bench`, which sets up what it needs.
"""

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.benchlib.build import BuildError, build
from scripts.benchlib.kernels import KERNELS, Kernel
from scripts.benchlib.linux import LINUX_CASES, LinuxCase
from scripts.benchlib.machine import machine_description
from scripts.benchlib.process import RunError
from scripts.benchlib.report import compare, failures, table
from scripts.benchlib.sides import SIDES, Sample, count_instructions
from scripts.benchlib.stub.suite import CASES, Case, measure_stub, stub_table
from scripts.benchlib.suite import (
    Row,
    instruction_counts,
    measure_kernel,
    measure_linux,
    measure_robin,
    startup_row,
    uncounted,
)
from tests.helpers import assets

RUNS: Final = 5
FORMAT: Final = 1
CPU_COUNTS: Final = (1, 2, 4)
MAX_CPUS: Final = 16


def cpu_counts(text: str) -> tuple[int, ...]:
    """The argument of `-c`, numbers with commas between them."""
    counts = tuple(int(word) for word in text.split(","))
    if not all(1 <= count <= MAX_CPUS for count in counts):
        raise ValueError
    return counts


def positive(text: str) -> int:
    """The argument of `--runs`."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def parse_arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="benchmarks beside QEMU's TCG and the host")
    parser.add_argument("--linux", action="store_true", help="boot and use Linux as well")
    parser.add_argument("--stub", action="store_true", help="the debug server beside QEMU's and a bare echo")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CASE", help="only these; patterns as in a shell, see --list"
    )
    parser.add_argument("--side", nargs="+", choices=SIDES, default=list(SIDES), help="only on these")
    parser.add_argument("--runs", type=positive, default=RUNS, metavar="N", help=f"{RUNS} by default")
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument(
        *("-c", "--cpus"),
        type=cpu_counts,
        default=CPU_COUNTS,
        metavar="N,...",
        help="CPUs for Linux to boot on, 1,2,4 by default",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="fail if slower than kept results by 5 %%"
    )
    parser.add_argument("--list", action="store_true", help="list the cases")
    return parser.parse_args()


def select(arguments: argparse.Namespace) -> tuple[list[Kernel], list[LinuxCase], list[Case]]:
    """The cases that were asked for."""
    if not arguments.only:
        return (
            list(KERNELS),
            list(LINUX_CASES) if arguments.linux else [],
            list(CASES) if arguments.stub else [],
        )

    def wanted(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)

    kernels = [kernel for kernel in KERNELS if wanted(kernel.name)]
    cases = [case for case in LINUX_CASES if wanted(case.name)]
    stub = [case for case in CASES if wanted(case.name)]
    if not kernels and not cases and not stub:
        raise RunError(f"no case is called {' or '.join(arguments.only)}; --list names them")
    return kernels, cases, stub


def measure(kernels: list[Kernel], cases: list[LinuxCase], arguments: argparse.Namespace) -> list[Row]:
    """The rows of kernels and Linux. Raises `RunError`, `BuildError` or `MissingAsset`."""
    runs = 1 if arguments.quick else arguments.runs
    rows: list[Row] = []
    samples: list[Sample] = []
    if kernels:
        programs = build()
        counts = instruction_counts(kernels, count_instructions(programs.image, uncounted(kernels)))
        for kernel in kernels:
            if kernel.cpus > 1:
                rows += [measure_robin(kernel, programs, runs)] if "hv" in arguments.side else []
                continue
            row, ours = measure_kernel(kernel, programs, arguments.side, runs, counts[kernel.name])
            rows.append(row)
            samples += ours
    startup = startup_row(samples)
    rows += [startup] if startup else []
    for case in cases:
        for cpus in arguments.cpus if case.every_cpu_count else (1,):
            rows += measure_linux(case, cpus, arguments.side, runs)
    return rows


def list_cases() -> None:
    """Print the names of all cases."""
    for kernel in KERNELS:
        print(f"{kernel.name:<12}{kernel.what}")
    for case in LINUX_CASES:
        print(f"{case.name:<12}{', '.join(phase.name for phase in case.phases)}")
    for each in CASES:
        print(f"{each.name:<12}{each.what}")


def print_report(machine: dict[str, object], rows: Sequence[Row], stub: Sequence[Row]) -> None:
    """The tables, under the machine they are about."""
    for key, value in machine.items():
        print(f"{key.replace('_', ' ')}: {value}")
    for lines in (table(rows) if rows else (), stub_table(stub) if stub else ()):
        print()
        for line in lines:
            print(line)


def main() -> int:
    """Run the cases asked for and print the result. 1: a case failed, or became slower."""
    arguments = parse_arguments()
    if arguments.list:
        list_cases()
        return 0
    try:
        earlier = json.loads(arguments.compare.read_text())["rows"] if arguments.compare else []
        machine = machine_description()
        kernels, cases, asked = select(arguments)
        rows = measure(kernels, cases, arguments)
        runs = 1 if arguments.quick else arguments.runs
        stub = list(measure_stub(build().image, asked, runs)) if asked else []
        print_report(machine, rows, stub)
        if arguments.json:
            document = {"format": FORMAT, "machine": machine, "runs": runs, "rows": rows, "stub": stub}
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    except (RunError, BuildError, assets.MissingAsset, OSError, ValueError, KeyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    slower = list(compare(earlier, rows))
    for line in slower:
        print(f"slower: {line}")
    return 1 if slower or failures(rows) or any("error" in row for row in stub) else 0


if __name__ == "__main__":
    sys.exit(main())
