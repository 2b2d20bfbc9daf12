"""The machines that are compared, as commands, and what a run of a kernel on one of them gives."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchlib.build import ROOT, Programs
from scripts.benchlib.kernels import Kernel, command_line
from scripts.benchlib.process import Finished, RunError, run

SIDES: Final = ("hv", "tcg", "native")
GUEST_STATUS: Final = (0x10 << 1) | 1
"""The image writes 10h to isa-debug-exit when all is well."""

_MEMORY: Final = "64M"
_TCG: Final = (
    *("qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-no-reboot"),
    *("-nic", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a kernel. Times in seconds; `startup_s` is from the start of the process to the kernel.

    `tsc` is what the time stamp counter advanced by: on the software core, the ticks.
    """

    seconds: float
    cpu_s: float
    startup_s: float
    result: str
    tsc: int
    finished: Finished


class Skipped(Exception):
    """The kernel cannot run on this side; the text says why."""


def hv_run(*arguments: str) -> list[str]:
    """The command `hv run` of this tree, console on standard output."""
    return [sys.executable, "-m", "hv", "run", *arguments, "--serial", "stdio"]


def tcg_run(*arguments: str) -> list[str]:
    """QEMU without hardware help, console on standard output."""
    return [*_TCG, *arguments]


def image_command(side: str, image: Path, line: str, *, cpu: str | None = None, cpus: int = 1) -> list[str]:
    """The command that runs the benchmark image on `side`, "hv" or "tcg"."""
    if side == "tcg":
        options = ("-m", _MEMORY, "-cpu", "max", "-smp", str(cpus))
        return tcg_run(*options, "-kernel", str(image), "-append", line)
    model = ("--cpu", cpu) if cpu else ()
    return hv_run(str(image), "-m", _MEMORY, "-c", str(cpus), "--append", line, *model)


def kernel_command(side: str, programs: Programs, kernel: Kernel) -> list[str]:
    """The command of one run of `kernel`."""
    line = command_line(kernel, side)
    if side == "native":
        return [str(programs.native), *line.split()]
    return image_command(side, programs.image, line, cpu=kernel.cpu, cpus=kernel.cpus)


def run_kernel(side: str, programs: Programs, kernel: Kernel) -> Sample:
    """Run `kernel` once. Raises `Skipped`, or `RunError` when it does not come to its end."""
    finished = run(kernel_command(side, programs, kernel), cwd=ROOT)
    check_markers(finished, GUEST_STATUS if side != "native" else 0)
    begin, end = finished.find(f"bench begin {kernel.name} "), finished.find(f"bench end {kernel.name} ")
    skip = finished.find(f"bench skip {kernel.name} ")
    if skip is not None:
        raise Skipped(skip.text.split(maxsplit=3)[3])
    if begin is None or end is None:
        raise RunError(f"{side} never finished {kernel.name}: {finished.complaint()}")
    result, tsc = end.text.split()[3:5]
    return Sample(end.at_s - begin.at_s, end.cpu_s - begin.cpu_s, begin.at_s, result, int(tsc), finished)


def check_markers(finished: Finished, good_status: int) -> None:
    """Raise `RunError` unless the image, or the program, says that it is done and ended so."""
    error = finished.find("bench error ")
    if error is not None:
        raise RunError(error.text.removeprefix("bench error "))
    if finished.status != good_status or finished.find("bench done") is None:
        raise RunError(f"ended with status {finished.status}: {finished.complaint()}")


def count_instructions(image: Path, names: list[str]) -> dict[str, int]:
    """Instructions per iteration of the kernels `names`, as QEMU counts them one by one.

    With `-icount shift=0` its time stamp counter advances by one per instruction; the difference
    between three iterations and one leaves out what surrounds them. Raises `RunError`.
    """
    if not names:
        return {}
    line = " ".join(f"run={name} iters=1 run={name} iters=3" for name in names)
    command = [*image_command("tcg", image, line), "-icount", "shift=0,sleep=off"]
    finished = run(command, cwd=ROOT)
    check_markers(finished, GUEST_STATUS)
    counted: dict[str, list[int]] = {}
    for each in finished.lines:
        words = each.text.split()
        if words[:2] == ["bench", "end"]:
            counted.setdefault(words[2], []).append(int(words[4]))
    return {name: (counts[1] - counts[0]) // 2 for name, counts in counted.items() if len(counts) == 2}
