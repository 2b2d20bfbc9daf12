"""What the user chose for the debug server's clients."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hv.debug.command import GUEST_ONLY, Touch
from hv.errors import ConfigError

MODES_SCRIPT: Final = Path(__file__).with_name("modes.gdb")
"""The gdb script that follows the CPU's mode under `Layout.AUTO`."""
_CLASSES: Final = {touch.value: touch for touch in Touch if touch is not Touch.GUEST}


class Layout(enum.Enum):
    """The layouts of registers that the user can choose; `linux` is the 64-bit one of a Linux process."""

    __hash__ = object.__hash__  # members are single, and the name's hash is dearer
    X86_64 = "x86-64"
    LINUX = "linux"
    I386 = "i386"
    I8086 = "i8086"
    AUTO = "auto"


LONG_LAYOUTS: Final = (Layout.X86_64, Layout.LINUX)
"""Those beside which gdb can load a 64-bit program."""


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What to add to the program file's addresses (`load_bias`, None where only the guest knows); what
    `monitor` commands of a client may touch (`allowed`); and the `layout` of registers."""

    load_bias: int | None = None
    allowed: frozenset[Touch] = GUEST_ONLY
    layout: Layout = Layout.X86_64


def parse_allowed(words: Sequence[str]) -> frozenset[Touch]:
    """The classes of `--gdb-allow`, each word a list with commas; the guest always. `ConfigError`."""
    allowed = set(GUEST_ONLY)
    for name in (part for word in words for part in word.split(",")):
        if name not in _CLASSES:
            raise ConfigError(f"{name!r} is none of {', '.join(sorted(_CLASSES))}", "--gdb-allow")
        allowed.add(_CLASSES[name])
    return frozenset(allowed)
