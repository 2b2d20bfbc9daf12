"""The build backend: setuptools, after the core's C source and the demo guest have been made.

A wheel holds the compiled `accel._core` and `hv/guests/demo/demo.elf`. The environment variable
`HV_WERROR=1` turns compiler warnings into errors.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import setuptools
from setuptools.build_meta import _BuildMetaBackend

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path) -> ModuleType:
    """Import one source file without its package, whose other modules may not be built yet."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def core_extension(werror: bool) -> setuptools.Extension:
    """The extension `accel._core`, with its generated tables and cffi source written."""
    build = load("_accel_build", ROOT / "accel" / "_build.py")
    extension: setuptools.Extension = build.ffibuilder.distutils_extension()
    if werror:
        extension.extra_compile_args.append("-Werror")
    return extension


def build_demo(source_prefix: str | None, werror: bool) -> None:
    """Build the demo guest beside its sources; see `hv.guests.build_demo`."""
    guests = load("_hv_guests", ROOT / "hv" / "guests" / "__init__.py")
    try:
        guests.build_demo(ROOT / "hv" / "guests" / "demo", source_prefix=source_prefix, werror=werror)
    except guests.GuestBuildError as error:
        sys.stderr.write(error.log)
        raise SystemExit(f"error: {error}") from None


class Backend(_BuildMetaBackend):  # type: ignore[misc] # setuptools has no types
    """setuptools' own backend, with one extension module and no setup.py."""

    source_prefix: str | None = None

    def run_setup(self, setup_script: str = "setup.py") -> None:
        """Run setuptools for one command; the base class has put the command into sys.argv."""
        werror = os.environ.get("HV_WERROR") == "1"
        if "egg_info" not in sys.argv and "dist_info" not in sys.argv:
            build_demo(self.source_prefix, werror)
        setuptools.setup(ext_modules=[core_extension(werror)])

    def build_wheel(self, *args: Any, **kwargs: Any) -> str:
        """Build a wheel; its sources will lie elsewhere, so debug information names them relatively."""
        self.source_prefix = "."
        for stale in (ROOT / "build").glob("lib*"):  # else modules that are gone by now get in
            shutil.rmtree(stale)
        name: str = super().build_wheel(*args, **kwargs)
        return name


_backend = Backend()

build_wheel = _backend.build_wheel
build_sdist = _backend.build_sdist
build_editable = _backend.build_editable
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
