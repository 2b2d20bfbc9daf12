"""What a machine's debuggers know of the guest's symbols, and the file that has them.

They come from the program that the machine was started with, when that is an ELF file; or, for a Linux
kernel that unpacks itself and chooses its own address (KASLR), from guest memory (`hv.debug.kernel_search`).
A kernel found there is looked at again before each use, since after a reset it is gone.
"""

from __future__ import annotations

import functools
import io
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import trio
from elftools.common.exceptions import ELFError

from gdbstub.target import WatchKind
from hv.debug.breakpoints import WatchPoint
from hv.debug.symbol import Symbol
from hv.engines.base import AddressSpace
from hv.vm import Vm

if TYPE_CHECKING:
    from hv.debug.kernel_search import Kernel

T = TypeVar("T")
KERNEL_NAME: Final = "/vmlinux"
"""The name of the virtual file with the symbols of a kernel found in memory."""
LINKED_NAME: Final = "/linked/vmlinux"
"""The same, with the addresses that the kernel was linked for: for clients that move it themselves."""
KERNEL_SCRIPT: Final = Path(__file__).with_name("linux.gdb")
"""The gdb script for a kernel that moves itself."""
MAX_PROGRAM: Final = 1 << 26
"""Bytes of an ELF file that debuggers can have."""
_BOOT_FLAG: Final = 0x1FE  # in the zero page; read only by what copies or hashes the whole page
_EI_CLASS, _CLASS_64 = 4, 2
_NAMED: Final = {"STT_FUNC": "T", "STT_OBJECT": "D", "STT_NOTYPE": "D"}
_FAR: Final = 1 << 20  # an address that far from the last symbol before it does not belong to it


class Call(Protocol):
    """Has the machine's owner carry out a request."""

    def __call__(self, request: Callable[[], T], /) -> Awaitable[T]:
        """The result of `request`, or its exception."""
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """The program that the machine was started with.

    `elf` is its file, None when it is none or too large, `name` what debuggers find it under, and `load_bias`
    what to add to its addresses. `link_base` is the address that a kernel which moves itself was linked for
    (it has no `elf`), `zero_page` the physical address of its boot parameters; None for other programs.
    """

    name: str = ""
    elf: bytes | None = None
    load_bias: int = 0
    link_base: int | None = None
    zero_page: int | None = None


class SymbolIndex:
    """Symbols by address and by name."""

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._symbols = sorted(symbols, key=attrgetter("address"))
        self._addresses = [symbol.address for symbol in self._symbols]
        self._named = {symbol.name: symbol for symbol in reversed(self._symbols)}

    def __len__(self) -> int:
        return len(self._symbols)

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that `address` belongs to, the first of several, and the distance from it."""
        number = bisect_right(self._addresses, address) - 1
        if number < 0 or address - self._addresses[number] >= _FAR:
            return None
        while number and self._addresses[number - 1] == self._addresses[number]:
            number -= 1
        return self._symbols[number], address - self._addresses[number]

    def named(self, name: str) -> Symbol | None:
        """The symbol called `name`; of several the one at the lowest address."""
        return self._named.get(name)


class MachineSymbols:
    """The symbols of one machine, shared by its debuggers. For the machine's owner, except what trio only
    may call."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._kernel: Kernel | None = None
        self._index: tuple[object, SymbolIndex] | None = None
        self._file: tuple[Kernel, str, bytes] | None = None
        self._searching = trio.Lock()
        self.program = Program()

    def kernel(self) -> Kernel | None:
        """The kernel found last, if it is still there."""
        if self._kernel is not None and not self._kernel.is_in(self._vm.memory):
            self._kernel = None
        return self._kernel

    def file_name(self) -> str | None:
        """The name of the file with the symbols at the addresses that they have now."""
        if self.program.link_base is None:
            return None if self.program.elf is None else self.program.name
        return None if self.kernel() is None else KERNEL_NAME

    def is_64_bit(self) -> bool:
        """Whether that file is one for 64-bit code."""
        elf = self.program.elf
        return self.program.link_base is not None or (elf is not None and elf[_EI_CLASS] == _CLASS_64)

    async def read_file(self, name: str, call: Call) -> bytes | None:
        """The contents of the file called `name`; None when there is none. trio only."""
        if self.program.link_base is None:
            return self.program.elf if name == self.program.name else None
        if name not in (KERNEL_NAME, LINKED_NAME):
            return None
        kernel = await self.find_kernel(call)
        if kernel is None:
            return None
        if self._file is None or self._file[0] is not kernel or self._file[1] != name:
            make = functools.partial(kernel.elf, linked=name == LINKED_NAME)
            self._file = (kernel, name, await trio.to_thread.run_sync(make, abandon_on_cancel=True))
        return self._file[2]

    def index(self) -> SymbolIndex | None:
        """The symbols at the addresses that they have now; None when there are none."""
        kernel = self.kernel()
        source = kernel or self.program
        if self._index is None or self._index[0] is not source:
            symbols = self._own_symbols() if kernel is None else kernel.symbols
            self._index = (source, SymbolIndex(symbols))
        index = self._index[1]
        return index if len(index) else None

    def _own_symbols(self) -> Iterable[Symbol]:
        elf = self.program.elf
        return () if elf is None else elf_symbols(elf, self.program.load_bias)

    def describe(self, address: int) -> str | None:
        """`address` as "name" or "name + 18"; None when it belongs to no symbol."""
        index = self.index()
        found = None if index is None else index.at(address)
        if found is None:
            return None
        symbol, distance = found
        return f"{symbol.name} + {distance}" if distance else symbol.name

    def start_point(self) -> WatchPoint | None:
        """What a Linux kernel does early at its final address: it copies its boot parameters."""
        zero_page = self.program.zero_page
        if zero_page is None:
            return None
        return WatchPoint(AddressSpace.PHYSICAL, zero_page + _BOOT_FLAG, 2, WatchKind.READ)

    async def find_kernel(self, call: Call, *, everywhere: bool = False) -> Kernel | None:
        """The kernel in guest memory; None when there is none, or the guest is no such kernel. trio only.

        Looks where vCPUs enter the kernel; then, if `everywhere`, in all memory that was ever written.
        """
        link_base = self.program.link_base
        if link_base is None:
            return None

        from hv.debug.kernel_search import likely_spans, locate, read_ram, written_spans  # not by every run

        async def read(gpa: int, size: int) -> bytes:
            return await call(lambda: read_ram(self._vm, gpa, size))

        async with self._searching:
            kernel = await call(self.kernel)
            if kernel is None:
                kernel = await locate(read, await call(lambda: likely_spans(self._vm)), link_base)
            if kernel is None and everywhere:
                kernel = await locate(read, await call(lambda: written_spans(self._vm)), link_base)
            self._kernel = kernel
            return kernel


def elf_symbols(data: bytes, bias: int = 0) -> list[Symbol]:
    """The functions, variables and labels of an ELF file, `bias` added to their addresses; none when it is
    damaged."""
    from elftools.elf.elffile import ELFFile  # slow to load, and not needed by every run
    from elftools.elf.sections import SymbolTableSection

    try:
        table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return []
        return [
            Symbol(entry["st_value"] + bias, _NAMED[entry["st_info"]["type"]], entry.name)
            for entry in table.iter_symbols()
            if entry["st_shndx"] != "SHN_UNDEF" and entry["st_info"]["type"] in _NAMED and entry.name
        ]
    except (ELFError, ValueError, KeyError, UnicodeDecodeError):
        return []
