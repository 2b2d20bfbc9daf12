"""The two compiled parts of the package, the core and the demo guest, built beside their sources."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]

_SOURCES = (
    "accel/src/*",
    "accel/include/*.h",
    "hv/guests/demo/*.[chS]",
    "hv/guests/demo/*.ld",
    "scripts/packaging/*.py",
)


class BuildError(Exception):
    """A part could not be built; the compiler has said why, the text is one line."""


def build_core() -> Path:
    """Compile what has changed in the core. Returns the extension module's path. Raises `BuildError`."""
    # Importing the package itself would import the extension that is about to be built.
    package = ModuleType("accel")
    package.__path__ = [str(ROOT / "accel")]
    sys.modules["accel"] = package
    builder = _load("accel._build", ROOT / "accel" / "_build.py")
    try:
        path: Path = builder.build_in_place()
    except (subprocess.CalledProcessError, OSError) as error:
        raise BuildError(f"building the core failed: {error}") from error
    finally:
        del sys.modules["accel"]
    return path


def source_files() -> list[str]:
    """What the parts are built from, and the code that builds them, relative to the root."""
    found = (path for pattern in _SOURCES for path in ROOT.glob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in found if path.is_file())


def build_demo(source_prefix: str | None = None) -> Path:
    """Build the demo guest, see `hv.guests.build_demo`. Raises `BuildError`."""
    guests = _load("_hv_guests", ROOT / "hv" / "guests" / "__init__.py")
    werror = os.environ.get("HV_WERROR") == "1"
    try:
        path: Path = guests.build_demo(
            ROOT / "hv" / "guests" / "demo", source_prefix=source_prefix, werror=werror
        )
    except guests.GuestBuildError as error:
        sys.stderr.write(error.log)
        raise BuildError(str(error)) from error
    return path


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BuildError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename} is missing") from error
    return module


def main() -> int:
    """Build both; print the reason on one line and return 1 when that fails."""
    try:
        build_demo()
        build_core()
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
