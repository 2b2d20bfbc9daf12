"""Benchmarks: this hypervisor beside QEMU's TCG, in the same run on the same machine.

Each case runs five times on each side, alternating, and the medians are compared. The result is
one JSON object on standard output; progress goes to standard error.

    {"machine": {...}, "kernel": "...", "cases": [
        {"case": "linux-boot", "command_line": "...", "cpus": 1, "unit": "s",
         "hv": {"median": 9.1, "runs": [...]}, "tcg": {"median": 2.4, "runs": [...]}, "ratio": 3.8}]}
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.helpers import assets  # noqa: E402

RUNS: Final = 5
TIMEOUT_S: Final = 300
COMMAND_LINE: Final = "console=ttyS0"


class BenchError(Exception):
    """A run failed; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Case:
    """A Linux boot to power-off on `cpus` vCPUs; `expect` must appear on the console."""

    name: str
    initrd: Callable[[], Path]
    append: str
    cpus: int
    expect: str


CASES: Final = (
    Case("linux-boot", assets.initramfs_poweroff, COMMAND_LINE, 1, assets.READY_LINE),
    Case("linux-boot-2cpu", assets.initramfs_poweroff, COMMAND_LINE, 2, assets.READY_LINE),
)


def hv_command(case: Case) -> list[str]:
    """The command that runs `case` on this hypervisor."""
    return [
        *(sys.executable, "-m", "hv", "run", str(assets.kernel())),
        *("--initrd", str(case.initrd()), "--append", case.append),
        *("-m", "256M", "-c", str(case.cpus), "--serial", "stdio", "--no-reboot"),
    ]


def tcg_command(case: Case) -> list[str]:
    """The command that runs `case` on QEMU without hardware help."""
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-kernel", str(assets.kernel())),
        *("-initrd", str(case.initrd()), "-append", case.append),
        *("-m", "256M", "-smp", str(case.cpus), "-serial", "stdio", "-display", "none", "-no-reboot"),
    ]


SIDES: Final[dict[str, Callable[[Case], list[str]]]] = {"hv": hv_command, "tcg": tcg_command}


def run_once(command: list[str], expect: str) -> float:
    """Seconds that `command` takes until it ends. Raises `BenchError` when it does not do its work."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise BenchError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} did not end within {TIMEOUT_S} s") from None
    seconds = time.perf_counter() - start
    if done.returncode:
        detail = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"{command[0]} ended with status {done.returncode}: {detail}")
    if expect.encode() not in done.stdout:
        raise BenchError(f"{command[0]} never printed {expect!r}")
    return seconds


def measure(case: Case, sides: list[str], runs: int) -> dict[str, object]:
    """One row of the result."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(runs):
        for side in sides:
            seconds[side].append(run_once(SIDES[side](case), case.expect))
            print(f"{case.name} {side} {run + 1}/{runs}: {seconds[side][-1]:.2f} s", file=sys.stderr)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    row: dict[str, object] = {
        "case": case.name,
        "command_line": case.append,
        "cpus": case.cpus,
        "unit": "s",
    }
    for side in sides:
        row[side] = {"median": round(medians[side], 4), "runs": [round(v, 4) for v in seconds[side]]}
    if len(medians) == len(SIDES):
        row["ratio"] = round(medians["hv"] / medians["tcg"], 3)
    return row


def machine_description() -> dict[str, object]:
    """What the figures depend on besides the code."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> int:
    """Run the cases asked for and print the result."""
    parser = argparse.ArgumentParser(description="benchmarks beside QEMU's TCG; JSON on standard output")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], default=[])
    parser.add_argument("--side", action="append", choices=list(SIDES), default=[])
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs of each, {RUNS} by default")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    sides = arguments.side or list(SIDES)
    try:
        kernel = (assets.cache_dir() / "vmlinuz.version").read_text().strip()
        rows = [measure(case, sides, arguments.runs) for case in cases]
    except (BenchError, assets.MissingAsset, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    json.dump({"machine": machine_description(), "kernel": kernel, "cases": rows}, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
