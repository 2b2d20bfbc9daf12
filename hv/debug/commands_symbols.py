"""The `monitor` commands about symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gdbstub.target import Stop, StopReason
from hv.debug.command import Command, CommandContext, reading
from hv.debug.kernel_start import stop_when_mapped

OWNER: Final = -2
"""Who sets the point of `symbols wait`."""


def _symbols(context: CommandContext, words: Sequence[str]) -> None:
    """What is known. The search itself went before, see `hv.debug.target_files`."""
    symbols = context.control.symbols
    kernel, index, file = symbols.kernel(), symbols.index(), symbols.file_name()
    if kernel is not None:
        moved = f"moved by {kernel.slide:#x}" if kernel.slide else "where it was linked for"
        context.write(f"Linux kernel at {kernel.text:#x}, {moved}\n")
    if index is None:
        context.write("no symbols are known\n")
        return
    context.write(f"{len(index):,} symbols\n")
    if file is not None:
        context.write(f"gdb reads them with: symbol-file target:{file}\n")


def _wait(context: CommandContext, words: Sequence[str]) -> None:
    def mapped(vcpu: int) -> Stop:
        return Stop(StopReason.EVENT, vcpu + 1, text="The kernel is mapped at its final address.")

    if stop_when_mapped(context.control, OWNER, mapped):
        context.write("the guest will stop when its kernel is mapped\n")
    else:
        context.write("this guest is not a Linux kernel that chooses its own address\n")


def _symbol(context: CommandContext, words: Sequence[str]) -> None:
    """In gdb's words, with the address where gdb has none."""
    if len(words) != 1:
        context.write("info symbol ADDRESS\n")
        return
    try:
        address = int(words[0], 0)
    except ValueError:
        context.write(f"{words[0][:40]!r} is not an address\n")
        return
    found = context.control.symbols.describe(address)
    context.write(f"{found or 'no symbol'} at {address:#x}\n")


def _address(context: CommandContext, words: Sequence[str]) -> None:
    index = context.control.symbols.index()
    for word in words:
        found = None if index is None else index.named(word)
        place = "no address is known" if found is None else f"{found.address:#x}"
        context.write(f"{word[:200]}: {place}\n")


COMMANDS: Final = (
    reading("info symbol", "ADDRESS", "the symbol that an address belongs to", _symbol),
    reading("info address", "NAME ...", "addresses of symbols", _address),
    Command("symbols wait", "", "stop when a Linux kernel is mapped where it will stay", _wait),
    reading("symbols", "", "find a Linux kernel's symbols, and say what is known", _symbols),
)
