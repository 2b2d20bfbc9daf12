"""Running Python programs on the sanitizer build of the core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from accel._build import build_in_place

ROOT = Path(__file__).resolve().parents[2]


def _runtime(name: str) -> str:
    """The path of a sanitizer's shared library, which must be loaded before Python."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def run_sanitized(*arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """Run this Python with `arguments` on the core built with ASan and UBSan; the first finding ends it."""
    build_in_place(sanitize=True)
    env = dict(os.environ)
    env["ACCEL_SANITIZE"] = "1"
    env["LD_PRELOAD"] = f"{_runtime('libasan.so')} {_runtime('libubsan.so')}"
    env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1:halt_on_error=1"
    env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s
    )
