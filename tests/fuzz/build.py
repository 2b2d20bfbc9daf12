"""Build the fuzzers with clang: libFuzzer, ASan and UBSan around the sources of the core.

Everything goes to `build/fuzz`. A fuzzer can be built around a core with a bug planted in a copy of one file,
and around one that reports which lines ran (without sanitizers).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accel._build import GEN, INCLUDE, SRC, generate, sources

HERE: Final = Path(__file__).parent
OUT: Final = HERE.parents[1] / "build" / "fuzz"
TARGETS: Final = {"decode": (), "program": ("board.c",), "api": ()}
"""The fuzzers, with the files that each needs besides `fuzz_NAME.c` and the core."""

BASE: Final = (
    "-std=gnu11", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-fno-strict-aliasing", "-msse4.2", "-g",
    "-DACCEL_LOOP_DISPATCH", "-DACCEL_CACHE_SHIFT=8", f"-I{INCLUDE}", f"-I{GEN}",
)  # fmt: skip
SANITIZERS: Final = "-fsanitize=address,undefined"
SANITIZE: Final = (
    "-O1", "-fno-omit-frame-pointer", SANITIZERS, "-fno-sanitize=alignment", "-fno-sanitize-recover=all"
)  # fmt: skip
GUIDE: Final = "-fsanitize-coverage=inline-8bit-counters,pc-table"
PROFILE: Final = ("-O1", "-fprofile-instr-generate", "-fcoverage-mapping")
NOT_GUIDING: Final = {"state.c": ("-O2",)}
"""Files whose edges say nothing of the program that ran, with flags of their own."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: in `file` of the core, `old` (which occurs once) becomes `new`."""

    file: str
    old: str
    new: str

    def write(self, directory: Path) -> Path:
        """The file with the bug."""
        text = (SRC / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has not exactly one {self.old!r}")
        path = directory / self.file
        path.write_text(text.replace(self.old, self.new))
        return path


def _newest(paths: Iterable[Path]) -> float:
    return max(path.stat().st_mtime for path in paths)


def _compile(source: Path, out: Path, flags: Iterable[str]) -> Path:
    """The object of a source, made anew when it or any header has changed."""
    target = out / f"{source.stem}.o"
    headers = (path for folder in (INCLUDE, SRC, GEN, HERE) for path in folder.glob("*.h"))
    if not target.exists() or _newest([source, *headers]) > target.stat().st_mtime:
        command = ["clang", *flags, f"-I{SRC}", f"-I{HERE}", "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
    return target


def _guided(source: Path) -> tuple[str, ...]:
    if source.parent == HERE or source.name in NOT_GUIDING:
        return (*BASE, *SANITIZE, *NOT_GUIDING.get(source.name, ()))
    return (*BASE, *SANITIZE, GUIDE)


def _objects(names: Iterable[str], out: Path, flags: dict[Path, tuple[str, ...]]) -> dict[str, Path]:
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda item: _compile(item[0], out, item[1]), flags.items())
        return dict(zip((path.name for path in flags), made, strict=True))


def _link(objects: Iterable[Path], out: Path, *flags: str) -> Path:
    command = ["clang", "-fsanitize=fuzzer", *flags, *map(str, objects), "-lm", "-o", str(out)]
    subprocess.run(command, check=True)
    return out


def build(target: str, *, plant: Plant | None = None, profile: bool = False) -> Path:
    """The fuzzer `target`; raises CalledProcessError when clang refuses."""
    generate()
    names = [f"fuzz_{target}.c", *TARGETS[target]]
    files = [*sources(), *(HERE / name for name in names)]
    out = OUT / ("profile" if profile else "objects")
    flags = {path: (*BASE, *PROFILE) if profile else _guided(path) for path in files}
    objects = _objects(names, out, flags)
    kind = ["-fprofile-instr-generate"] if profile else [SANITIZERS]
    if plant is None:
        return _link(objects.values(), (out if profile else OUT) / target, *kind)
    planted = OUT / f"planted_{target}"
    planted.mkdir(parents=True, exist_ok=True)
    objects[plant.file] = _compile(plant.write(planted), planted, _guided(SRC / plant.file))
    return _link(objects.values(), planted / target, *kind)
