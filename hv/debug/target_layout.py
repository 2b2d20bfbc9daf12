"""Which registers clients are shown, and as what architecture: gdb disassembles by it.

One 64-bit layout for every CPU mode is the default, because clients cannot follow a layout that changes on
its own. Whoever debugs 16-bit or 32-bit code chooses another. With `auto` the layout follows the mode in
which the vCPU executes, but only at the moment when the client reads the description anew; gdb does so when
told ``unset tdesc filename``, and `modes.gdb` beside this module tells it at each stop in another mode.
With `linux` gdb takes the machine for a Linux process (see `gdbstub.arch.x86_64`).
"""

from __future__ import annotations

from typing import Final

from gdbstub.arch.i386 import i386
from gdbstub.arch.x86_64 import MODES, x86_64
from gdbstub.description import Description
from gdbstub.target import Client
from hv.debug.run_control import RunControl
from hv.debug.target_base import TargetBase
from hv.debug.target_settings import LONG_LAYOUTS, Layout

_MODE_NAMES: Final = {value: name for name, value in MODES}
_WIDE_MODELS: Final = ("x86-64-v3", "max")


def layout_for(mode: str) -> Layout:
    """The layout that fits code executed in `mode`, a name of `gdbstub.arch.x86_64.MODES`."""
    if mode == "long64":
        return Layout.X86_64
    return Layout.I386 if mode.endswith("32") else Layout.I8086


class TargetLayout(TargetBase):
    """`Target.description`, and `Relayout`."""

    layout = Layout.X86_64

    def __init__(self, control: RunControl, client: Client) -> None:
        super().__init__(control, client)
        self._descriptions: dict[Layout, Description] = {}
        self._latched = Layout.X86_64

    @property
    def description(self) -> Description:
        """See `gdbstub.target.Target`."""
        latched = self._latched if self.layout is Layout.AUTO else self.layout
        if latched not in self._descriptions:
            avx = self._vm.config.get("cpu") in _WIDE_MODELS
            self._descriptions[latched] = _description(latched, avx=avx)
        return self._descriptions[latched]

    async def latch_description(self, thread: int) -> None:
        """See `gdbstub.capabilities.Relayout`."""
        vcpu = self._vm.vcpus[self._vcpu(thread)]
        self._latched = layout_for(_MODE_NAMES[await self._call(lambda: vcpu.get("mode"))])


def _description(layout: Layout, *, avx: bool) -> Description:
    if layout in LONG_LAYOUTS:
        return x86_64(avx=avx, linux=layout is Layout.LINUX)
    return i386("i8086" if layout is Layout.I8086 else "i386", avx=avx)
