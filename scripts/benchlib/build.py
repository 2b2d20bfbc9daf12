"""Building the benchmark image and its native twin from `tests/guests/bench` with gcc."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE_DIR: Final = ROOT / "tests" / "guests" / "bench"
BUILD_DIR: Final = ROOT / "build" / "bench"

# The kernels in C are compiled with these in both programs. Integer kernels stay integer code.
KERNEL_FLAGS: Final = (
    *("-std=gnu11", "-O2", "-g", "-march=x86-64", "-Wall", "-Wextra", "-Werror", "-ffreestanding"),
    *("-fno-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none"),
    *("-fno-tree-vectorize", "-fno-tree-loop-distribute-patterns", "-mno-red-zone"),
)
LINK_FLAGS: Final = ("-no-pie", "-static", "-Wl,--build-id=none")
GUEST_LINK_FLAGS: Final = ("-nostdlib", "-Wl,-z,max-page-size=4096", "-Wl,-T,bench.ld")
SHARED_SOURCES: Final = ("kernels.S", "common.c", "sha256.c", "mix.c")
GUEST_SOURCES: Final = ("boot.S", "system.S", "guest.c", *SHARED_SOURCES)
NATIVE_SOURCES: Final = ("native.c", *SHARED_SOURCES)


class BuildError(Exception):
    """A program could not be built; the text is one line."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The bare-metal image (ELF64 with a PVH note) and the Linux program."""

    image: Path
    native: Path


def build(out_dir: Path = BUILD_DIR) -> Programs:
    """Build both programs in `out_dir` unless those there are up to date. Raises `BuildError`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    image = _build(out_dir / "bench.elf", [*KERNEL_FLAGS, *LINK_FLAGS, *GUEST_LINK_FLAGS, *GUEST_SOURCES])
    native = _build(out_dir / "bench-native", [*KERNEL_FLAGS, *LINK_FLAGS, *NATIVE_SOURCES])
    return Programs(image, native)


def _build(target: Path, arguments: list[str]) -> Path:
    key = _digest(arguments)
    stamp = target.with_name(f"{target.name}.stamp")
    if target.is_file() and stamp.is_file() and stamp.read_text() == key:
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = ["gcc", *arguments, "-o", str(partial.resolve())]
    try:
        done = subprocess.run(command, cwd=SOURCE_DIR, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError("gcc is not installed; it is needed to build the benchmarks") from None
    if done.returncode:
        lines = done.stderr.splitlines()
        reason = next((line for line in lines if "error" in line), "no message")
        raise BuildError(f"building {target.name} failed: {reason}")
    partial.replace(target)
    stamp.write_text(key)
    return target


def _digest(arguments: list[str]) -> str:
    digest = hashlib.sha256("\0".join(arguments).encode())
    for path in sorted(SOURCE_DIR.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
