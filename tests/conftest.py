"""Fixtures and settings that every ring of tests shares."""

import os
from pathlib import Path

import hypothesis
import pytest

from hv.guests import build_demo, demo_source_dir
from tests.helpers import assets

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks at new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def demo_elf() -> Path:
    """The demo guest, built from the present sources."""
    return build_demo(demo_source_dir(), werror=True)


@pytest.fixture(scope="session")
def linux_kernel() -> Path:
    """The Debian cloud kernel."""
    return assets.kernel()


@pytest.fixture(scope="session")
def linux_initramfs() -> Path:
    """An initramfs with a shell; see `tests.helpers.assets.initramfs`."""
    return assets.initramfs()


@pytest.fixture(scope="session")
def linux_initramfs_poweroff() -> Path:
    """An initramfs that powers off."""
    return assets.initramfs_poweroff()


@pytest.fixture(scope="session")
def bootsector() -> Path:
    """A flat boot sector; see `tests.helpers.assets.bootsector`."""
    return assets.bootsector()
