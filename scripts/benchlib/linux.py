"""Linux on both machines: boot to power-off, and some work in userspace.

Phases are measured on the console: the time between the first lines that hold two texts, where the
empty text stands for the start of the process, or, as the end, for the end of the process.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from scripts.benchlib.build import ROOT
from scripts.benchlib.process import Finished, RunError, run
from scripts.benchlib.sides import hv_run, tcg_run
from tests.helpers import assets

CONSOLE: Final = "console=ttyS0"
MEMORY: Final = "256M"
LINUX_SIDES: Final = ("hv", "tcg")
TIMEOUT_S: Final = 600.0
IDLE_S: Final = 5

LOOP: Final = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
DIGEST: Final = "dd if=/dev/zero bs=64k count=256 2>/dev/null | sha256sum"
FORKS: Final = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"


class Measure(Enum):
    """What is taken of a phase."""

    SECONDS = "s"
    CORE_SHARE = "of a core"  # CPU seconds of the process per second


@dataclass(frozen=True, slots=True)
class Phase:
    """From the line with `start` to the line with `end`. `bound`: times TCG's, or the share itself."""

    name: str
    start: str
    end: str
    measure: Measure = Measure.SECONDS
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class LinuxCase:
    """One boot with its phases, and the options that only the software machine has."""

    name: str
    initrd: Callable[[], Path]
    append: str
    phases: tuple[Phase, ...]
    sides: tuple[str, ...] = LINUX_SIDES
    hv_options: tuple[str, ...] = ()
    every_cpu_count: bool = True


def _script(*steps: str) -> str:
    """A kernel command line whose /init runs `steps` with a numbered mark before each and at the end."""
    marked = "; ".join(f"echo mark-{number}; {step}" for number, step in enumerate(steps))
    return f'{CONSOLE} hvtest="{marked}; echo mark-{len(steps)}; poweroff"'


LINUX_CASES: Final = (
    LinuxCase(
        "linux-boot",
        assets.initramfs_poweroff,
        CONSOLE,
        (
            Phase("first kernel line", "", "Linux version"),
            Phase("userspace", "", assets.READY_LINE),
            Phase("power-off", "", "", bound=3.0),
        ),
    ),
    LinuxCase(
        "linux-work",
        assets.initramfs,
        _script(LOOP, DIGEST, FORKS),
        (
            Phase("shell loop of 20,000", "mark-0", "mark-1"),
            Phase("sha256sum of 16 MiB", "mark-1", "mark-2"),
            Phase("200 forks", "mark-2", "mark-3"),
        ),
        every_cpu_count=False,
    ),
    LinuxCase(
        "linux-idle",
        assets.initramfs,
        _script(f"sleep {IDLE_S}"),
        (Phase(f"idle for {IDLE_S} s", "mark-0", "mark-1", Measure.CORE_SHARE, bound=0.03),),
        sides=("hv",),
        hv_options=("--clock", "host"),
        every_cpu_count=False,
    ),
)


def linux_case_name(case: LinuxCase, cpus: int) -> str:
    """What the case is called in results: with the number of CPUs when that is not one."""
    return case.name if cpus == 1 else f"{case.name}-c{cpus}"


def linux_command(side: str, case: LinuxCase, cpus: int, *extra: str) -> list[str]:
    """The command that runs `case`; `extra` are options for this side."""
    boot = ("--initrd", str(case.initrd()), "--append", case.append)
    if side == "hv":
        options = ("-m", MEMORY, "-c", str(cpus), "--no-reboot", *case.hv_options)
        return hv_run(str(assets.kernel()), *boot, *options, *extra)
    boot = ("-initrd", str(case.initrd()), "-append", case.append)
    return tcg_run("-kernel", str(assets.kernel()), *boot, "-m", MEMORY, "-smp", str(cpus), *extra)


def run_linux(side: str, case: LinuxCase, cpus: int, *extra: str) -> Finished:
    """Run `case` to its end. Raises `RunError` when the guest does not power off by itself."""
    finished = run(linux_command(side, case, cpus, *extra), cwd=ROOT, timeout_s=TIMEOUT_S)
    if finished.status:
        raise RunError(f"ended with status {finished.status}: {finished.complaint()}")
    return finished


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """What a phase took: `value` in the unit of its measure, and the CPU time of all threads."""

    value: float
    cpu_s: float


def measure_phase(phase: Phase, finished: Finished) -> PhaseTime:
    """What `phase` took. Raises `RunError` when a line is missing."""
    start_s, start_cpu_s = _moment(finished, phase.start, (0.0, 0.0))
    end_s, end_cpu_s = _moment(finished, phase.end, (finished.seconds, finished.cpu_s))
    cpu_s = end_cpu_s - start_cpu_s
    if phase.measure is Measure.CORE_SHARE:
        return PhaseTime(cpu_s / (end_s - start_s), cpu_s)
    return PhaseTime(end_s - start_s, cpu_s)


def _moment(finished: Finished, text: str, otherwise: tuple[float, float]) -> tuple[float, float]:
    if not text:
        return otherwise
    # The command line that the kernel prints holds the marks as well, behind other words.
    line = next((line for line in finished.lines if text in line.text and "hvtest=" not in line.text), None)
    if line is None:
        raise RunError(f"the guest never printed {text!r}: {finished.complaint()}")
    return line.at_s, line.cpu_s


@dataclass(frozen=True, slots=True)
class Statistics:
    """What `hv run --stats` printed: totals, exits by kind, and their share of the time where it is told."""

    instructions: int
    mips: float
    exits: dict[str, int]
    shares: dict[str, float]


def parse_statistics(text: str) -> Statistics | None:
    """The statistics in what `hv run` wrote on standard error; None when there are none.

    hv: 1,234 instructions in 5.67 s: 8.9 MIPS; guest time 0.12 s
    hv: 42 exits
    hv:   inout                   40   12.3 %
    """
    head = re.search(r"([\d,]+) instructions in [\d.]+ s: ([\d.]+) MIPS", text)
    if head is None:
        return None
    rows = re.findall(r"^hv: {3}(\w+) +([\d,]+)(?:.*?([\d.]+) ?%)?", text, re.MULTILINE)
    return Statistics(
        instructions=int(head[1].replace(",", "")),
        mips=float(head[2]),
        exits={name: int(count.replace(",", "")) for name, count, _ in rows},
        shares={name: float(share) / 100 for name, _, share in rows if share},
    )
