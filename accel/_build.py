"""Build the C core: generate the tables, cut the cdef from accel.h, compile.

`python -m accel._build` builds in place, recompiling only what changed; the build backend calls the same
function. `--sanitize` builds the same sources with ASan and UBSan into `_core_san`. Warnings are errors under
HV_WERROR=1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SRC, GEN, INCLUDE = HERE / "src", HERE / "gen", HERE / "include"
COMMON = ["-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC"]
# -fcf-protection=none: handlers are reached by indirect jumps only from our own tables.
RELEASE = [*COMMON, "-O2", "-fcf-protection=none", "-fno-stack-protector", "-fno-plt"]
SANITIZE = [
    *COMMON, "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize=alignment",
    "-fno-sanitize-recover=undefined", "-DACCEL_LOOP_DISPATCH",
]  # fmt: skip


def cdef() -> str:
    """The declarations of accel.h between its two cdef marks."""
    text = (INCLUDE / "accel.h").read_text()
    return text.split("/* cdef begin */", 1)[1].split("/* cdef end */", 1)[0]


def make_ffi(module: str = "accel._core") -> FFI:
    """A cffi builder in API mode for the module name given."""
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(module, '#include "accel.h"', include_dirs=[str(INCLUDE)])
    return ffi


def sources() -> list[Path]:
    """The C files of the core, without the generated binding."""
    return sorted(SRC.glob("*.c"))


def generate() -> None:
    """Generate the instruction and feature tables."""
    from accel import _gen

    _gen.generate(GEN)


def _stale(target: Path, depfile: Path, source: Path) -> bool:
    if not target.exists() or not depfile.exists():
        return True
    stamp = target.stat().st_mtime
    names = depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    return any(not Path(n).exists() or Path(n).stat().st_mtime > stamp for n in [*names, str(source)])


def _compile(source: Path, out: Path, flags: list[str]) -> Path:
    target = out / (source.stem + ".o")
    depfile = target.with_suffix(".d")
    if _stale(target, depfile, source):
        python = sysconfig.get_paths()["include"]
        command = [
            "gcc",
            *flags,
            "-MMD",
            f"-I{INCLUDE}",
            f"-I{SRC}",
            f"-I{GEN}",
            f"-I{python}",
            "-c",
            str(source),
            "-o",
            str(target),
        ]
        subprocess.run(command, check=True)
    return target


def build_in_place(sanitize: bool = False) -> Path:
    """Compile the extension beside this file; returns its path. Raises CalledProcessError when gcc fails."""
    generate()
    name = "_core_san" if sanitize else "_core"
    out = HERE.parent / "build" / name
    out.mkdir(parents=True, exist_ok=True)
    binding = out / f"{name}_binding.c"
    fresh = out / "binding.new"
    make_ffi(f"accel.{name}").emit_c_code(str(fresh))
    if binding.exists() and binding.read_text() == fresh.read_text():
        fresh.unlink()
    else:
        fresh.replace(binding)
    flags = SANITIZE if sanitize else RELEASE
    binding_flags = [f for f in flags if f not in ("-Wextra", "-fvisibility=hidden")]
    if os.environ.get("HV_WERROR") == "1":
        flags = [*flags, "-Werror"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [
            *pool.map(lambda s: _compile(s, out, flags), sources()),
            _compile(binding, out, binding_flags),
        ]
    target = HERE / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not target.exists() or any(o.stat().st_mtime > target.stat().st_mtime for o in objects):
        link = [f for f in flags if f.startswith("-fsanitize")]
        subprocess.run(["gcc", "-shared", *link, *map(str, objects), "-lm", "-o", str(target)], check=True)
    return target


if __name__ == "__main__":
    print(build_in_place("--sanitize" in sys.argv[1:]))
