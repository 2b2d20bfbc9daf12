"""A small `pc` that is busy with interrupts (`busy_machine.S`)."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from hv.engines.soft import SoftEngine
from hv.loaders.entry import real_mode_state
from hv.loaders.image import BootImage, ImageKind
from hv.machines.pc import PcConfig, build_pc
from hv.outcomes import Goal
from tests.helpers.bare_target import CODE, Machine

SOURCE: Final = Path(__file__).with_suffix(".S")
CONFIG: Final = PcConfig(ram=2 << 20, vcpus=2, ips=1_000_000)
SET_UP: Final = 20_000
"""The machine tick at which all interrupts come and go."""


@cache
def image() -> BootImage:
    """The program, which is longer than a sector."""
    with tempfile.TemporaryDirectory() as folder:
        obj, linked, flat = (Path(folder) / name for name in ("a.o", "a.elf", "a.bin"))
        subprocess.run(["gcc", "-m32", "-c", "-o", str(obj), str(SOURCE)], check=True)
        command = ["ld", "-m", "elf_i386", "-N", "--no-warn-rwx-segments", "-Ttext", hex(CODE)]
        subprocess.run([*command, "-o", str(linked), str(obj)], check=True)
        subprocess.run(["objcopy", "-O", "binary", str(linked), str(flat)], check=True)
        chunks = ((CODE, flat.read_bytes()),)
    return BootImage(ImageKind.FLAT, "busy", chunks, real_mode_state(CODE, CODE, 0), (), 0)


def busy_machine() -> Machine:
    """A machine with its set-up behind it."""
    vm = build_pc(CONFIG, image(), SoftEngine(), console=lambda data: None)
    while vm.clock.now < SET_UP:
        vm.run(Goal(until=SET_UP))
    return Machine(vm=vm)
