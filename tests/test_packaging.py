"""The source distribution holds everything that a wheel is built from."""

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.helpers.patience import HANG_S

ROOT = Path(__file__).resolve().parents[1]
BUILD = """
import sys
sys.path.insert(0, "scripts/packaging")
import build_backend
build_backend.build_sdist(sys.argv[1])
"""
# What a compiler or a generator reads; the rest are Python modules, which setuptools finds.
PATTERNS = (
    "accel/src/*",
    "accel/include/*",
    "hv/guests/demo/*.[chS]",
    "hv/guests/demo/*.ld",
    "hv/debug/*.gdb",
    "scripts/packaging/*.py",
)


def test_source_distribution_holds_every_source_of_the_compiled_parts(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=HANG_S,
    )
    (archive,) = tmp_path.glob("hv-*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    sources = {
        str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern) if path.is_file()
    }
    assert len(sources) > 80
    assert sources <= names
    modules = {
        str(path.relative_to(ROOT))
        for package in ("accel", "gdbstub", "hv")
        for path in (ROOT / package).rglob("*.py")
        if "gen" not in path.parts
    }
    assert modules <= names
