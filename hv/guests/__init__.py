"""Guest images that come with the package, and how they are built."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

CFLAGS: Final = (
    "-std=c11",
    "-Og",
    "-g",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-pie",
    "-fno-omit-frame-pointer",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
    "-fcf-protection=none",
    "-march=x86-64",
    "-mno-red-zone",
    "-mgeneral-regs-only",
)
LDFLAGS: Final = ("-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096")


class GuestBuildError(Exception):
    """A guest could not be built; the text is one line, `log` is what the compiler wrote."""

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(text)
        self.log = log


def demo_source_dir() -> Path:
    """The directory of the demo guest's sources, for a debugger's `directory` command."""
    return Path(__file__).parent / "demo"


def demo_path() -> Path:
    """The demo guest that was built with the package.

    Raises `GuestBuildError` when it was not: a source tree that nobody has built yet.
    """
    path = demo_source_dir() / "demo.elf"
    if not path.is_file():
        raise GuestBuildError("the demo guest is not built: install the package or run `scripts/run`")
    return path


def build_demo(out_dir: Path, *, source_prefix: str | None = None, werror: bool = False) -> Path:
    """Build `demo.elf` in `out_dir` with gcc, unless the one there is up to date.

    The file has DWARF that names the sources by their absolute path, or below `source_prefix` when
    the sources are going to move. Raises `GuestBuildError`.
    """
    source_dir = demo_source_dir().resolve()
    sources = sorted([*source_dir.glob("*.c"), *source_dir.glob("*.S")])
    inputs = [*sources, *sorted(source_dir.glob("*.h")), source_dir / "demo.ld"]
    command = ["gcc", *CFLAGS, *LDFLAGS]
    command += ["-Werror"] if werror else []
    command += [f"-ffile-prefix-map={source_dir}={source_prefix}"] if source_prefix else []
    command += [f"-Wl,-T,{source_dir / 'demo.ld'}", *map(str, sources)]

    target = out_dir / "demo.elf"
    stamp = out_dir / "demo.elf.stamp"
    key = _digest(command, inputs)
    if target.is_file() and stamp.is_file() and stamp.read_text() == key:
        return target

    out_dir.mkdir(parents=True, exist_ok=True)
    partial = out_dir / f"demo.elf.{os.getpid()}.part"
    _compile([*command, "-o", str(partial.resolve())], source_dir)
    partial.replace(target)
    stamp.write_text(key)
    return target


def _digest(command: list[str], inputs: list[Path]) -> str:
    digest = hashlib.sha256("\0".join(command).encode())
    for path in inputs:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _compile(command: list[str], cwd: Path) -> None:
    compiler = shutil.which(command[0])
    if compiler is None:
        raise GuestBuildError(f"{command[0]} is not installed; it is needed to build the demo guest")
    done = subprocess.run([compiler, *command[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in lines if "error" in line), "no message")
        raise GuestBuildError(f"building the demo guest failed: {reason}", done.stderr)
    if done.stderr:
        print(done.stderr, end="")
