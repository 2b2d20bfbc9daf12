"""What the figures depend on besides the code under test."""

import os
import platform
import re
import subprocess
from pathlib import Path

from scripts.benchlib.build import ROOT
from tests.helpers import assets


def machine_description() -> dict[str, object]:
    """Processor, cores, memory, load, and the versions of everything that takes part."""
    return {
        "cpu": _proc_value("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _proc_value("/proc/meminfo", "MemTotal"),
        "load_before": round(os.getloadavg()[0], 2),
        "host_kernel": platform.release(),
        "python": platform.python_version(),
        "gcc": _first_line("gcc", "--version"),
        "qemu": _first_line("qemu-system-x86_64", "--version"),
        "guest_kernel": _guest_kernel(),
        "commit": _commit(),
    }


def _proc_value(path: str, key: str) -> str:
    match = re.search(rf"^{key}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _first_line(*command: str) -> str:
    return (_output(*command) or "not installed").splitlines()[0]


def _guest_kernel() -> str:
    try:
        return (assets.cache_dir() / "vmlinuz.version").read_text().strip()
    except OSError:
        return "not in the cache"


def _commit() -> str:
    """The commit, with a `+` when sources of the core or the machine differ from it."""
    commit = (_output("git", "rev-parse", "--short", "HEAD") or "unknown").strip()
    changed = _output("git", "status", "--porcelain", "--", "accel", "hv", "tests/guests/bench")
    return f"{commit}+" if changed else commit
