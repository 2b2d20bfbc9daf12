"""Virtual files: the program and its symbols, under names of ours. No name reaches the host's file system."""

from __future__ import annotations

from typing import Final

from gdbstub.target import SectionOffsets
from hv.debug.target_layout import Layout, TargetLayout

_EI_CLASS: Final = 4
_CLASS_64: Final = b"\x02"


class TargetFiles(TargetLayout):
    """`VirtualFiles`, and where a kernel that moved itself is."""

    async def executable(self) -> str | None:
        """See `gdbstub.capabilities.VirtualFiles`."""
        await self._control.symbols.find_kernel(self._call)
        found = await self._call(self._control.symbols.file)
        return None if found is None or not self._fits(found[1]) else found[0]

    def _fits(self, program: bytes) -> bool:
        """Whether gdb can load `program` beside the registers that it is shown."""
        return self.layout is Layout.X86_64 or program[_EI_CLASS : _EI_CLASS + 1] != _CLASS_64

    async def read_file(self, path: str) -> bytes | None:
        """See `gdbstub.capabilities.VirtualFiles`."""
        found = await self._call(self._control.symbols.file)
        return found[1] if found is not None and found[0] == path else None

    async def kernel_offsets(self) -> SectionOffsets | None:
        """Where a Linux kernel begins that chose its own address; None when there is none (yet)."""
        kernel = await self._control.symbols.find_kernel(self._call)
        return None if kernel is None else SectionOffsets(kernel.text)

    async def before_command(self, command: str) -> None:
        """Long work for a monitor command, done in slices before the command itself is given."""
        if command.split()[:1] == ["symbols"]:
            await self._control.symbols.find_kernel(self._call, everywhere=True)
