"""The build backend: setuptools, with the core and the demo guest compiled by their own builders.

A wheel holds `accel._core` and `hv/guests/demo/demo.elf`, a source distribution what they are built from.
The environment variable `HV_WERROR=1` turns warnings about the guest into errors.
"""

import shutil
from pathlib import Path
from typing import Any

import parts
import setuptools
from setuptools.build_meta import _BuildMetaBackend
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist


def or_exit(error: parts.BuildError) -> SystemExit:
    """End with one line; what the compiler said is above it."""
    return SystemExit(f"error: {error}")


class BuildCore(build_ext):  # type: ignore[misc] # setuptools has no types
    """Builds the core where its sources are and puts a copy where setuptools wants it."""

    def build_extension(self, ext: setuptools.Extension) -> None:
        """Build `ext`, the only one there is."""
        try:
            built = parts.build_core()
        except parts.BuildError as error:
            raise or_exit(error) from None
        target = Path(self.get_ext_fullpath(ext.name))
        if target.resolve() != built.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(built, target)


class SourceDistribution(sdist):  # type: ignore[misc] # setuptools has no types
    """A source distribution that can be built: setuptools knows of no C source and no build backend here."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Add what setuptools does not find by itself."""
        super().make_release_tree(base_dir, sorted({*files, *parts.source_files()}))


class Backend(_BuildMetaBackend):  # type: ignore[misc] # setuptools has no types
    """setuptools' own backend, with one extension module and no setup.py."""

    def run_setup(self, setup_script: str = "setup.py") -> None:
        """Run setuptools for one command; the base class has put the command into sys.argv."""
        core = setuptools.Extension("accel._core", sources=[])
        setuptools.setup(ext_modules=[core], cmdclass={"build_ext": BuildCore, "sdist": SourceDistribution})

    def build_wheel(self, *args: Any, **kwargs: Any) -> str:
        """Build a wheel. Its sources will lie elsewhere, so debug information names them relatively."""
        for stale in (parts.ROOT / "build").glob("lib*"):  # else modules that are gone by now get in
            shutil.rmtree(stale)
        self.build_guest(".")
        name: str = super().build_wheel(*args, **kwargs)
        return name

    def build_editable(self, *args: Any, **kwargs: Any) -> str:
        """Build what an editable installation needs."""
        self.build_guest(None)
        name: str = super().build_editable(*args, **kwargs)
        return name

    def build_guest(self, source_prefix: str | None) -> None:
        """Build the demo guest before setuptools looks for the files of the package."""
        try:
            parts.build_demo(source_prefix)
        except parts.BuildError as error:
            raise or_exit(error) from None


_backend = Backend()

build_wheel = _backend.build_wheel
build_sdist = _backend.build_sdist
build_editable = _backend.build_editable
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
