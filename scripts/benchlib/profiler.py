"""Where the time of a run goes: one benchmark kernel, or a Linux boot, under perf or callgrind.

`scripts/profile CASE` prints the parts of the process by their share of the samples, then the functions
of the core. CASE is a name that `scripts/bench --list` shows. Callgrind counts instructions instead of
time, exactly and in the core only, and takes about fifty times as long: kernels get fewer iterations.
"""

import argparse
import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchlib.build import ROOT, BuildError, build
from scripts.benchlib.kernels import KERNELS
from scripts.benchlib.linux import LINUX_CASES, linux_command
from scripts.benchlib.process import environment
from scripts.benchlib.sides import kernel_command
from tests.helpers import assets

FREQUENCY_HZ: Final = 997  # no divisor of any timer's frequency
TOP: Final = 30
CALLGRIND_SHARE: Final = 100  # of the iterations that perf sees, callgrind sees one in so many
CORE_OBJECT: Final = "_core."


class ProfileError(Exception):
    """Nothing could be profiled; the text is one line."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The share of one function; `where` is the file name of its program or library."""

    share: float
    where: str
    function: str


def command_of(case: str, callgrind: bool) -> list[str]:
    """The `hv run` command of `case`. Raises `ProfileError` for an unknown name."""
    for kernel in KERNELS:
        if kernel.name == case:
            iterations = kernel.iterations // CALLGRIND_SHARE if callgrind else kernel.iterations
            fewer = dataclasses.replace(kernel, iterations=max(1, iterations))
            return kernel_command("hv", build(), fewer)
    for linux in LINUX_CASES:
        if linux.name == case:
            return linux_command("hv", linux, 1)
    raise ProfileError(f"no case is called {case}; `scripts/bench --list` names them")


def perf_costs(command: Sequence[str]) -> list[Cost]:
    """Run `command` under `perf record`; the functions, the most expensive first."""
    with tempfile.TemporaryDirectory() as directory:
        data = str(Path(directory) / "perf.data")
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY_HZ), "-o", data, "--"]
        _run([*record, *command])
        fields = ["--stdio", "-q", "--no-children", "-s", "dso,symbol", "-t", "\t", "-i", data]
        return list(parse_perf(_run(["perf", "report", *fields])))


def parse_perf(report: str) -> Iterator[Cost]:
    """The rows of `perf report -t TAB -s dso,symbol`: percentage, object, `[.] function`, more."""
    for line in report.splitlines():
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) >= 3 and fields[0].endswith("%"):
            share = float(fields[0].rstrip("%")) / 100
            yield Cost(share, fields[1], re.sub(r"^\[.\] ", "", fields[2]))


def callgrind_costs(command: Sequence[str]) -> list[Cost]:
    """Run `command` under callgrind; the functions by instructions executed in them, inside the core."""
    with tempfile.TemporaryDirectory() as directory:
        out = str(Path(directory) / "callgrind.out")
        options = ["-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=accel_run"]
        _run(["valgrind", *options, *command])
        return list(parse_callgrind(_run(["callgrind_annotate", "--threshold=99", "--auto=no", out])))


def parse_callgrind(report: str) -> Iterator[Cost]:
    """The rows of `callgrind_annotate`: count, percentage in brackets, `file:function [object]`."""
    row = re.compile(r"^\s*[\d,]+ \(\s*([\d.]+)%\)\s+(\S+?):(.+?)(?: \[(.+)\])?$")
    for line in report.splitlines():
        match = row.match(line)
        if match is not None:
            yield Cost(float(match[1]) / 100, Path(match[4] or "?").name, match[3])


def parts(costs: Iterable[Cost]) -> dict[str, float]:
    """Shares of the core, of Python, of the host's kernel and of the rest, the greatest first."""
    shares: dict[str, float] = {}
    for cost in costs:
        part = _part(cost.where)
        shares[part] = shares.get(part, 0.0) + cost.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _part(where: str) -> str:
    if where.startswith(CORE_OBJECT):
        return "core"
    if where.startswith(("python", "libpython")):
        return "python"
    return "host kernel" if where.startswith("[") and where != "[unknown]" else "other libraries"


def _run(command: Sequence[str]) -> str:
    """Standard output of `command`. A status other than 0 may be the guest's; a missing tool is an error."""
    if shutil.which(command[0]) is None:
        raise ProfileError(f"{command[0]} is not installed")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode and not done.stdout:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise ProfileError(f"{command[0]}: {said[-1]}")
    return done.stdout


def print_costs(costs: Sequence[Cost], top: int, everything: bool) -> None:
    """The parts, then the `top` functions, of the core only unless `everything`."""
    for part, share in parts(costs).items():
        print(f"{share:>7.1%}  {part}")
    print()
    shown = [cost for cost in costs if everything or cost.where.startswith(CORE_OBJECT)]
    for cost in shown[:top]:
        where = f"  ({cost.where})" if everything else ""
        print(f"{cost.share:>7.1%}  {cost.function}{where}")


def main() -> int:
    """Profile the case asked for."""
    parser = argparse.ArgumentParser(prog="profile", description="where the time of a benchmark goes")
    parser.add_argument("case", help="as in `scripts/bench --list`: mix, linux-boot")
    parser.add_argument("--callgrind", action="store_true", help="count instructions with callgrind")
    parser.add_argument("--all", action="store_true", help="functions outside the core as well")
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help=f"functions, {TOP} by default")
    arguments = parser.parse_args()
    try:
        command = command_of(arguments.case, arguments.callgrind)
        costs = callgrind_costs(command) if arguments.callgrind else perf_costs(command)
        if not costs:
            raise ProfileError("the run left no samples")
    except (ProfileError, BuildError, assets.MissingAsset) as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    print_costs(costs, arguments.top, arguments.all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
