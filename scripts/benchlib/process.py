"""Running a program and noting when each line of its output arrives."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchlib.build import BUILD_DIR

PYCACHE_DIR: Final = BUILD_DIR / "pycache"
TIMEOUT_S: Final = 300.0
_CHUNK: Final = 65536
_TAIL: Final = 65536
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STAT_UTIME: Final = 11  # fields behind the command name: proc(5), /proc/PID/stat, 14 and 15
_STAT_STIME: Final = 12


class RunError(Exception):
    """A program did not do its work; the text is one line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output. `at_s` counts from the start of the process, `cpu_s` is what it had used."""

    at_s: float
    cpu_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program printed, how it ended, and what it took."""

    lines: tuple[Line, ...]
    errors: str
    status: int
    seconds: float
    cpu_s: float

    def find(self, text: str) -> Line | None:
        """The first line that holds `text`."""
        return next((line for line in self.lines if text in line.text), None)

    def complaint(self) -> str:
        """The last thing it said, for an error message."""
        said = [line for line in self.errors.splitlines() if line.strip()]
        return said[-1].strip() if said else (self.lines[-1].text if self.lines else "no output")


def environment() -> dict[str, str]:
    """The environment of a measured program: Python keeps compiled modules, as an installed one has them."""
    variables = dict(os.environ)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["PYTHONPYCACHEPREFIX"] = str(PYCACHE_DIR)
    return variables


def run(command: Sequence[str], *, cwd: Path | None = None, timeout_s: float = TIMEOUT_S) -> Finished:
    """Run `command` without input until it ends.

    Raises `RunError` when it cannot be started or takes longer than `timeout_s`; it is killed then.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except FileNotFoundError:
            raise RunError(f"{command[0]} is not installed") from None
        lines, timed_out = _read_lines(child, start, start + timeout_s)
        if timed_out:
            child.send_signal(signal.SIGKILL)
        if child.stdout is not None:
            child.stdout.close()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - _TAIL))
        said = errors.read().decode(errors="replace")
    if timed_out:
        raise RunError(f"{command[0]} did not end within {timeout_s:.0f} s")
    return Finished(tuple(lines), said, child.returncode, seconds, usage.ru_utime + usage.ru_stime)


def _read_lines(child: subprocess.Popen[bytes], start: float, deadline: float) -> tuple[list[Line], bool]:
    """The lines until the end of the output, and whether `deadline` came before it."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    lines: list[Line] = []
    rest = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.perf_counter()))
        if not ready:
            return lines, True
        chunk = os.read(descriptor, _CHUNK)
        at_s = time.perf_counter() - start
        *whole, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            whole, rest = [rest], b""
        if whole:
            cpu_s = _cpu_seconds(child.pid)
            lines += [Line(at_s, cpu_s, text.decode(errors="replace").rstrip("\r")) for text in whole]
        if not chunk:
            return lines, False


def _cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far; 0 for a process that has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])) / _CLOCK_TICKS
